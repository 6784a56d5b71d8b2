"""The order of a profile's genes is NumPy's, whatever the values."""

import numpy as np
import pytest

from dgex import _sorting
from dgex._sorting import ascending_order, by_digits, by_whole_numbers, fastest_way

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


both_ways = pytest.mark.parametrize("way", [by_digits, by_whole_numbers])


@both_ways
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PROFILES)
def test_values_ascend_and_every_position_is_there(name, dtype, way):
    with np.errstate(over="ignore"):
        values = np.array(PROFILES[name]).astype(dtype)
    values = np.stack([values, values[::-1], RNG.permutation(values)])
    order, ascending = ascending_order(values, way)
    np.testing.assert_array_equal(values.ravel()[order], np.sort(values))
    np.testing.assert_array_equal(ascending, np.sort(values))
    np.testing.assert_array_equal(np.sort(order), np.arange(values.size).reshape(values.shape))


@both_ways
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_values_come_last_whatever_their_sign(dtype, way):
    values = RNG.standard_normal((3, 300)).astype(dtype)
    values[0, ::7], values[1:, 3::11] = np.nan, -np.nan
    order, ascending = ascending_order(values, way)
    np.testing.assert_array_equal(values.ravel()[order], np.sort(values))
    np.testing.assert_array_equal(ascending, np.sort(values))
    assert np.sort(ascending_order(np.full((2, 2), -np.nan, dtype), way)[0]).tolist() == [[0, 1], [2, 3]]
    largest = np.finfo(dtype).max
    values = np.array([[np.nan, largest, np.nextafter(largest, dtype(0)), 1.0, -largest]], dtype=dtype)
    assert ascending_order(values, way)[0].tolist() == [[4, 3, 2, 1, 0]]


@pytest.fixture
def sorted_again(monkeypatch):
    """Types of the values that NumPy has been asked to sort by themselves, other than integers."""
    asked = []

    def order_by_numpy(values, original=_sorting.order_by_numpy):
        if values.dtype.kind == "f":
            asked.append(values.dtype)
        return original(values)

    monkeypatch.setattr(_sorting, "order_by_numpy", order_by_numpy)
    return asked


@both_ways
def test_few_values_with_the_same_leading_bits_are_swapped(way, sorted_again):
    values = np.array([[1.0 + 4e-16, 1.0, 0.5], [3.0, 4.0, 5.0]])
    assert ascending_order(values, way)[0].tolist() == [[2, 1, 0], [3, 4, 5]]
    assert ascending_order(values + 0.1, way)[0].tolist() == [[2, 1, 0], [3, 4, 5]]
    three = np.array([[3e-16, 2e-16, 1e-16]]) + 1.0 + np.array([[4e-16, 2e-16, 0.0]])
    order, ascending = ascending_order(three, way)
    assert order.tolist() == [[2, 1, 0]]
    assert ascending.tolist() == [sorted(three[0])]
    assert sorted_again == []


@both_ways
def test_many_values_with_the_same_leading_bits_are_sorted_again(way, sorted_again):
    values = 1.0 - np.arange(100)[None] * np.finfo(float).eps
    order, ascending = ascending_order(values, way)
    assert order.tolist() == [list(range(99, -1, -1))]
    np.testing.assert_array_equal(ascending, np.sort(values))
    assert sorted_again == [np.float64]
    assert ascending_order(values.astype(np.float32), way)[0].tolist() == [list(range(100))]
    assert sorted_again == [np.float64]


def test_a_machine_has_one_fastest_way():
    assert fastest_way() in (by_digits, by_whole_numbers)
    assert fastest_way() is fastest_way()
