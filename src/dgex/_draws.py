"""What a run draws, all of it from its seed.

On the devices a hash of numbers draws (the finaliser of MurmurHash3): an element's random word depends on the key and
on the element's own position, not on the size of the array, so that padded and sharded arrays have the same numbers.
It takes a fraction of the time of JAX's own Threefry, and of its time to compile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

# The key of the initial parameters is that of an epoch that none reaches.
INITIALIZATION = np.uint32(2**32 - 1)

# Streams of the host's random numbers.
ORDER, HOLD_OUT, MONITOR, PARTITION, CLOSED_FORM = range(5)

# An odd number whose multiples are far from each other in every bit: 2^32 over the golden ratio.
SPREAD = np.uint32(0x9E3779B1)


def mixed(word: jax.Array) -> jax.Array:
    """A one-to-one function of 32-bit words that leaves no pattern in them."""
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def seeded(seed: jax.Array) -> jax.Array:
    """A key of two words from a number."""
    return folded(jnp.array([SPREAD, ~SPREAD]), seed)


def folded(key: jax.Array, number: Any) -> jax.Array:
    """A key of its own for a number."""
    word = jnp.asarray(number).astype(jnp.uint32) * SPREAD
    first = mixed(mixed(word ^ key[0]) ^ key[1])
    return jnp.stack([first, mixed(mixed(word ^ key[1]) ^ first)])


def words(key: jax.Array, bit_width: int, shape: Sequence[int]) -> jax.Array:
    """Random words, each a function of the key and of its position along every axis."""
    if bit_width != 32:
        raise NotImplementedError(f"Expected words of 32 bits, got {bit_width}.")
    result = mixed(key[0] ^ mixed(key[1] ^ SPREAD))
    for axis in range(len(shape)):
        along = [size if other == axis else 1 for other, size in enumerate(shape)]
        position = jax.lax.broadcasted_iota(jnp.uint32, along, axis)
        result = mixed((result + key[axis % 2]) ^ (position * SPREAD))
    return jnp.broadcast_to(result, shape)


def several(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Keys that have nothing to do with each other."""
    return words(key, 32, (*shape, 2))


HASH = define_prng_impl(
    key_shape=(2,), seed=seeded, split=several, random_bits=words, fold_in=folded, name="dgex_hash", tag="dgex"
)


def epoch_key(seed: Any, epoch: Any) -> jax.Array:
    """The key of an epoch of a run, whatever generator JAX is configured to use; to be called while tracing."""
    return jax.random.fold_in(jax.random.key(seed, impl=HASH), epoch)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The host's random numbers for one purpose of a run."""
    return np.random.default_rng([seed, *stream])


def hold_out(n_profiles: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split profiles at random into those to train on and a fraction (at least one) to select on."""
    if fraction == 0:
        return np.arange(n_profiles), np.arange(0)
    n_held_out = min(max(1, round(fraction * n_profiles)), n_profiles - 1)
    order = generator(seed, HOLD_OUT).permutation(n_profiles)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def monitored(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The fixed random profiles on which the training error is watched."""
    if len(rows) <= size:
        return rows
    return np.sort(generator(seed, MONITOR).choice(rows, size, replace=False))
