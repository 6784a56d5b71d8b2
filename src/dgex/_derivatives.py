"""Inside a trained network: activations of its last hidden layer, and how the targets change with the landmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from dgex._network import ACTIVATIONS, Layer

# Profiles whose activations are computed at a time.
BLOCK_ROWS = 1024

# Profiles of each device whose derivatives are summed in float32, before the sums are added up in float64.
SUMMED_ROWS = 64

# Bytes of the derivatives of one profile; more targets than fit are worked on one part after the other.
DERIVATIVE_BYTES = 2**28

PROFILES = "profiles"

Hidden = tuple[Layer, ...]
Sums = tuple[jax.Array, jax.Array]


def last_hidden(activation: str, hidden: Hidden, Z: np.ndarray, device: jax.Device) -> np.ndarray:
    """Activations of the last hidden layer for standardized profiles, float32 of shape (n_profiles, n_units)."""
    hidden = jax.device_put(hidden, device)
    result = np.empty((len(Z), n_last_units(hidden, Z.shape[1])), dtype=np.float32)
    for start in range(0, len(Z), BLOCK_ROWS):
        rows = Z[start : start + BLOCK_ROWS]
        block = np.zeros((BLOCK_ROWS, Z.shape[1]), dtype=np.float32)
        block[: len(rows)] = rows
        result[start : start + BLOCK_ROWS] = _activations(activation, hidden, jax.device_put(block, device))[
            : len(rows)
        ]
    return result


def n_last_units(hidden: Hidden, n_landmarks: int) -> int:
    """Units of the last hidden layer; without any, the landmarks are in their place."""
    return hidden[-1].bias.shape[0] if hidden else n_landmarks


def derivative_sums(
    activation: str,
    hidden: Hidden,
    output_kernel: np.ndarray,
    Z: np.ndarray,
    devices: Sequence[jax.Device],
    path: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over profiles of the derivatives of targets by landmarks, and of their absolute values.

    Parameters
    ----------
    activation : str
        The network's activation function.
    hidden : tuple of Layer
        Its hidden layers.
    output_kernel : ndarray of shape (n_units, n_targets) or (n_landmarks + n_units, n_targets)
        Weights of the targets; those of a linear path come first.
    Z : ndarray of shape (n_profiles, n_landmarks)
        Standardized profiles.
    devices : sequence of Device
        Profiles are divided among them.
    path : tuple of ndarray, default=None
        With a baseline of shape (n_landmarks,), nodes in [0, 1] and their weights, derivatives are integrated along the
        straight line from the baseline to each profile, and multiplied by its length along each landmark.

    Returns
    -------
    sums, absolute_sums : ndarray of float64 of shape (n_landmarks, n_targets)
        Over all profiles.
    """
    mesh = Mesh(np.array(devices), (PROFILES,))
    divided, everywhere = NamedSharding(mesh, Spec(PROFILES)), NamedSharding(mesh, Spec())
    hidden, path = jax.device_put((hidden, path), everywhere)
    shape = Z.shape[1], output_kernel.shape[1]
    sums, absolute_sums = np.zeros(shape), np.zeros(shape)
    n_columns = max(1, DERIVATIVE_BYTES // (4 * shape[0]))
    for first in range(0, shape[1], n_columns):
        columns = slice(first, first + n_columns)
        kernel = jax.device_put(output_kernel[:, columns], everywhere)
        for block in _blocks(Z, len(devices)):
            parts = _sums(activation, hidden, kernel, *jax.device_put(block, divided), path)
            for total, part in zip((sums, absolute_sums), parts, strict=True):
                total[:, columns] += np.asarray(part, dtype=np.float64).sum(axis=0)
    return sums, absolute_sums


def _blocks(Z: np.ndarray, n_devices: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Profiles in blocks of shape (n_devices, n_profiles, n_landmarks), and which of them exist."""
    each = min(SUMMED_ROWS, -(-len(Z) // n_devices))
    for start in range(0, len(Z), n_devices * each):
        rows = Z[start : start + n_devices * each]
        block, present = np.zeros((n_devices * each, Z.shape[1]), np.float32), np.zeros(n_devices * each, np.float32)
        block[: len(rows)], present[: len(rows)] = rows, 1.0
        yield block.reshape(n_devices, each, -1), present.reshape(n_devices, each)


@partial(jax.jit, static_argnums=0)
def _activations(activation: str, hidden: Hidden, z: jax.Array) -> jax.Array:
    for kernel, bias in hidden:
        z = ACTIVATIONS[activation](z @ kernel + bias)
    return z


@partial(jax.jit, static_argnums=0)
def _sums(
    activation: str,
    hidden: Hidden,
    output_kernel: jax.Array,
    z: jax.Array,
    present: jax.Array,
    path: tuple[jax.Array, jax.Array, jax.Array] | None,
) -> Sums:
    """Sums over the profiles of each device, shape (n_devices, n_landmarks, n_targets)."""
    n_direct = len(output_kernel) - n_last_units(hidden, z.shape[-1])  # landmarks that a linear path leads from

    def add_profile(sums: Sums, profile: tuple[jax.Array, jax.Array]) -> tuple[Sums, None]:
        z, weight = profile
        by_unit = _hidden_derivatives(activation, hidden, z) if path is None else _along(activation, hidden, z, path)
        derivatives = by_unit @ output_kernel[n_direct:]
        if n_direct:
            direct = output_kernel[:n_direct]
            derivatives += direct if path is None else (z - path[0])[:, None] * direct
        derivatives *= weight
        return (sums[0] + derivatives, sums[1] + jnp.abs(derivatives)), None

    def of_device(z: jax.Array, present: jax.Array) -> Sums:
        zeros = jnp.zeros((z.shape[1], output_kernel.shape[1]), jnp.float32)
        return jax.lax.scan(add_profile, (zeros, zeros), (z, present))[0]

    if len(z) == 1:  # products of stacked matrices take more time
        return jax.tree.map(lambda array: array[None], of_device(z[0], present[0]))
    return jax.vmap(of_device)(z, present)


def _hidden_derivatives(activation: str, hidden: Hidden, z: jax.Array) -> jax.Array:
    """Derivatives of the last hidden units by the landmarks for one profile, shape (n_landmarks, n_units)."""
    derivatives = None
    for kernel, bias in hidden:
        z, back = jax.vjp(ACTIVATIONS[activation], z @ kernel + bias)
        slope = back(jnp.ones_like(z))[0]
        derivatives = (kernel if derivatives is None else derivatives @ kernel) * slope
    return jnp.eye(len(z)) if derivatives is None else derivatives


def _along(activation: str, hidden: Hidden, z: jax.Array, path: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    """The same, integrated along the line from the baseline to the profile and multiplied by its length."""
    baseline, nodes, weights = path
    way = z - baseline

    def add_node(total: jax.Array, node: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        place, weight = node
        return total + weight * _hidden_derivatives(activation, hidden, baseline + place * way), None

    zeros = jnp.zeros((len(z), n_last_units(hidden, len(z))), jnp.float32)
    return jax.lax.scan(add_node, zeros, (nodes, weights))[0] * way[:, None]
