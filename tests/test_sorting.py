"""The order of a profile's genes is NumPy's, whatever the values."""

import numpy as np
import pytest

from dgex import _sorting
from dgex._sorting import ascending_order

RNG = np.random.default_rng(0)
EDGES = [0.0, -0.0, 3e38, -3e38, 5e-324, -5e-324, 1e-45, -1e-45, 1.0, -1.0]
PROFILES = {
    "one value": [3.0],
    "two values": [2.0, -1.0],
    "noise": RNG.standard_normal(10_463),
    "counts": RNG.poisson(2.0, 5000) * 1.0,
    "edges": RNG.permutation(np.repeat(EDGES, 3)),
    "a power of two": RNG.standard_normal(4096),
    "neighbours of one": RNG.permutation(1.0 + np.arange(2000) * np.finfo(float).eps),
    "neighbours below zero": RNG.permutation(-1e30 * (1.0 + np.arange(2000) * np.finfo(float).eps)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PROFILES)
def test_values_ascend_and_every_position_is_there(name, dtype):
    with np.errstate(over="ignore"):
        values = np.array(PROFILES[name]).astype(dtype)
    values = np.stack([values, values[::-1], RNG.permutation(values)])
    order, ascending = ascending_order(values)
    np.testing.assert_array_equal(values.ravel()[order], np.sort(values))
    np.testing.assert_array_equal(ascending, np.sort(values))
    np.testing.assert_array_equal(np.sort(order), np.arange(values.size).reshape(values.shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_values_come_last_whatever_their_sign(dtype):
    values = RNG.standard_normal((3, 300)).astype(dtype)
    values[0, ::7], values[1:, 3::11] = np.nan, -np.nan
    order, ascending = ascending_order(values)
    np.testing.assert_array_equal(values.ravel()[order], np.sort(values))
    np.testing.assert_array_equal(ascending, np.sort(values))
    assert np.sort(ascending_order(np.full((2, 2), -np.nan, dtype))[0]).tolist() == [[0, 1], [2, 3]]
    largest = np.array([[np.nan, np.finfo(dtype).max, 1.0]], dtype=dtype)
    assert ascending_order(largest)[0].tolist() == [[2, 1, 0]]


def test_values_are_compared_only_if_the_leading_bits_do_not_tell_them_apart(monkeypatch):
    sorted_by = []

    def by_values(values, order=None, original=_sorting.by_values):
        sorted_by.append(values.dtype)
        return original(values, order)

    monkeypatch.setattr(_sorting, "by_values", by_values)
    values = np.array([[1.0 + 4e-16, 1.0, 0.5], [3.0, 4.0, 5.0]])
    assert ascending_order(values)[0].tolist() == [[2, 1, 0], [3, 4, 5]]
    assert sorted_by == [np.uint16, np.float64]  # the lower half of the leading bits is the same in all
    del sorted_by[:]
    assert ascending_order(values.astype(np.float32))[0].tolist() == [[2, 0, 1], [3, 4, 5]]
    assert sorted_by == [np.uint16]
    del sorted_by[:]
    assert ascending_order(values + 0.1)[0].tolist() == [[2, 1, 0], [3, 4, 5]]
    assert sorted_by == [np.uint16, np.uint16, np.float64]
