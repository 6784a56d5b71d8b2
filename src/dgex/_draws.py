"""What a run draws, all of it from its seed."""

from __future__ import annotations

import jax
import numpy as np

# The key of the initial parameters is folded from the root key with a number that no epoch reaches.
INITIALIZATION = 2**32 - 1

# Streams of the host's random numbers.
ORDER, HOLD_OUT, MONITOR, PARTITION, CLOSED_FORM = range(5)


def root_key(seed: int) -> jax.Array:
    """The key that all others of a run are folded from, whatever generator JAX is configured to use."""
    return jax.random.key(seed, impl="threefry2x32")


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
