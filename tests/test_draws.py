"""What a run draws."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from dgex._draws import INITIALIZATION, epoch_key, hold_out, monitored, words


def drawn(key, *shape):
    """Random words as an array."""
    return np.asarray(jax.random.bits(key, shape, np.uint32))


def as_bits(array):
    """The 32 bits of every word, along a new last axis."""
    return np.unpackbits(np.ascontiguousarray(array)[..., None].view(np.uint8), axis=-1)


def test_words_are_uniform_in_every_bit_and_byte():
    array = drawn(epoch_key(0, 0), 1000, 1000)
    assert np.abs(as_bits(array).mean(axis=(0, 1)) - 0.5).max() < 5 * 0.5 / 1000
    for byte in range(4):
        counts = np.bincount(((array >> (8 * byte)) & 255).ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6


def test_words_do_not_repeat_more_often_than_chance():
    array = drawn(epoch_key(1, 0), 1000, 1000)
    n_repeated = array.size - len(np.unique(array))
    assert n_repeated == pytest.approx(array.size**2 / 2 / 2**32, abs=60)  # 116 with a deviation of 11


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bits_of_rows_columns_and_epochs_are_independent(axis):
    # One in 32 bits of each is 6 deviations from nothing in common once in a thousand million pairs.
    array = np.stack([drawn(epoch_key(0, epoch), 128, 128) for epoch in range(128)])
    signs = 2.0 * as_bits(np.moveaxis(array, axis, 0)).reshape(128, -1) - 1
    correlations = signs @ signs.T / signs.shape[1]
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 6 / np.sqrt(signs.shape[1])
    for lag in (1, 2, 31):  # bits of a word and of the next one
        shifted = np.roll(signs, lag, axis=1)
        assert abs((signs * shifted).mean()) < 6 / np.sqrt(signs.size)


def test_a_matrix_of_draws_has_the_singular_values_of_noise():
    matrix = np.asarray(jax.random.normal(epoch_key(2, 0), (400, 800)), dtype=np.float64)
    largest, *_, smallest = np.linalg.svd(matrix, compute_uv=False)
    assert largest < np.sqrt(800) + np.sqrt(400) + 2
    assert smallest > np.sqrt(800) - np.sqrt(400) - 2


def test_every_key_is_another():
    seeds, epochs, depths = (0, 1, 2, 2**31 - 1), (0, 1, 2, 255, 256, 65536, INITIALIZATION), range(5)
    keys = {
        tuple(np.asarray(jax.random.key_data(jax.random.fold_in(epoch_key(seed, epoch), depth))).tolist())
        for seed, epoch, depth in itertools.product(seeds, epochs, depths)
    }
    assert len(keys) == len(seeds) * len(epochs) * len(depths)
    assert len({number for key in keys for number in key}) == 2 * len(keys)


def test_keys_do_not_depend_on_the_configured_generator():
    usual = drawn(epoch_key(3, 4), 5)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(drawn(epoch_key(3, 4), 5), usual)


def test_split_keys_draw_independently():
    keys = jax.random.split(epoch_key(0, 0), 64)
    signs = 2.0 * as_bits(np.stack([drawn(key, 1000) for key in keys])).reshape(64, -1) - 1
    correlations = signs @ signs.T / signs.shape[1]
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 6 / np.sqrt(signs.shape[1])


def test_an_element_does_not_depend_on_the_size_of_the_array():
    key = epoch_key(0, 0)
    np.testing.assert_array_equal(drawn(key, 9, 17)[:4, :10], drawn(key, 4, 10))


def test_only_words_of_32_bits_are_drawn():
    with pytest.raises(NotImplementedError, match="Expected words of 32 bits, got 64"):
        words(np.zeros(2, np.uint32), 64, (1,))


@pytest.mark.parametrize(
    ("n_profiles", "fraction", "n_held_out"), [(100, 0.1, 10), (7, 0.1, 1), (2, 0.9, 1), (50, 0, 0)]
)
def test_held_out_profiles_and_the_others_are_all(n_profiles, fraction, n_held_out):
    rows, held_out = hold_out(n_profiles, fraction, seed=3)
    assert len(held_out) == n_held_out
    assert sorted([*rows, *held_out]) == list(range(n_profiles))


def test_monitored_profiles_are_training_profiles():
    rows = np.arange(0, 1000, 2)
    chosen = monitored(rows, 50, seed=0)
    assert len(set(chosen)) == 50
    assert set(chosen) <= set(rows)
    assert monitored(rows, 5000, seed=0) is rows
