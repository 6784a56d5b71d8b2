"""Which device holds what: one joint network, sharded along its units and its target genes.

Every kernel is split by its output columns and every bias with it; the targets are split by gene, the landmarks
are replicated. In a training step only activations travel (batch x units); weights, momentum and targets never do.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

# The mesh axis along which units of a layer and target genes are split.
UNITS = "units"

# XLA reads host memory in place, without a copy, when it is aligned to this many bytes (CPU backend).
ALIGNMENT = 64

# How many calls with devices="one" are on each device.
_users: Counter[jax.Device] = Counter()
_counting = threading.Lock()

SHARED_PROGRAM_ROWS = 16
SHARED_PROGRAM_SIZE = 2**24


@dataclass(frozen=True)
class Layout:
    """The devices of one model; hashable, so that it can select a compiled program."""

    devices: tuple[jax.Device, ...]

    @property
    def mesh(self) -> Mesh:
        """A line of devices."""
        return Mesh(np.array(self.devices), (UNITS,))

    @property
    def platform(self) -> str:
        """What kind of device: "cpu", "gpu" or "tpu"."""
        return self.devices[0].platform

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(self.mesh, Spec())

    def by_column(self, n_dimensions: int) -> NamedSharding:
        """The sharding of an array whose last axis counts units or target genes; scalars are replicated."""
        axes = [None] * (n_dimensions - 1) + [UNITS] if n_dimensions else []
        return NamedSharding(self.mesh, Spec(*axes))

    def shardings(self, tree: Any) -> Any:
        """The sharding of each array of a training state."""
        return jax.tree.map(lambda array: self.by_column(array.ndim), tree)

    def place(self, tree: Any) -> Any:
        """Put a training state's arrays onto the devices, as copies: a training step overwrites what it is given."""
        return jax.device_put(tree, self.shardings(tree), may_alias=False)

    def place_landmarks(self, X: np.ndarray) -> jax.Array:
        """Put landmarks onto every device as float32, their rows padded as by `stored_rows`."""
        shape = (stored_rows(X), X.shape[1])
        return jax.make_array_from_callback(shape, self.replicated, lambda index: _part(X, shape, index))

    def place_targets(self, y: np.ndarray) -> jax.Array:
        """Put on each device its share of the targets as float32, padded to equal shares and as by `stored_rows`."""
        n_devices = len(self.devices)
        shape = (stored_rows(y), -(-y.shape[1] // n_devices) * n_devices)
        return jax.make_array_from_callback(shape, self.by_column(2), lambda index: _part(y, shape, index))


def stored_rows(array: np.ndarray) -> int:
    """How many rows an array of profiles takes on the devices.

    Small arrays are padded to a multiple of 16 rows: folds that differ by a few profiles then share one compiled
    program. Large ones are not worth the copy.
    """
    multiple = SHARED_PROGRAM_ROWS if array.size < SHARED_PROGRAM_SIZE else 1
    return -(-len(array) // multiple) * multiple


def _part(array: np.ndarray, shape: tuple[int, ...], index: tuple[slice, ...] | None) -> np.ndarray:
    """The part of a padded float32 array that one device holds; the host copies it at most once."""
    index = (slice(None),) * len(shape) if index is None else index
    bounds = [axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True)]
    source = array[tuple(slice(*bound) for bound in bounds)]
    target_shape = tuple(stop - start for start, stop in bounds)
    if source.shape == target_shape and source.dtype == np.float32:
        return source
    target = aligned_zeros(target_shape)
    target[tuple(slice(size) for size in source.shape)] = source
    return target


def resized(tree: Any, like: Any) -> Any:
    """Cut every array to the shape of its counterpart, or extend it with zeros."""

    def resize(array: Any, target: Any) -> Any:
        if array.shape == target.shape:
            return array
        xp = np if isinstance(array, np.ndarray) else jnp
        array = array[tuple(slice(size) for size in target.shape)]
        return xp.pad(array, [(0, new - old) for old, new in zip(array.shape, target.shape, strict=True)])

    return jax.tree.map(resize, tree, like)


def aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of zeros that XLA can use in place."""
    n_bytes = 4 * int(np.prod(shape))
    buffer = np.zeros(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + n_bytes].view(np.float32).reshape(shape)


@contextmanager
def devices_in_use(devices: int | str | Sequence[int | jax.Device] | None) -> Iterator[Layout]:
    """The devices that a parameter `devices` asks for; with "one", that with the fewest users of this process."""
    if devices != "one":
        yield select_devices(devices)
        return
    with _counting:
        device = min(jax.local_devices(), key=lambda device: _users[device])
        _users[device] += 1
    try:
        yield Layout((device,))
    finally:
        with _counting:
            _users[device] -= 1


def select_devices(devices: int | Sequence[int | jax.Device] | None) -> Layout:
    """All visible devices, the first so many, or exactly those listed."""
    visible = jax.devices()
    if devices is None:
        return Layout(tuple(visible))
    if isinstance(devices, int | np.integer):
        devices = range(devices)
    chosen = tuple(_device(device, visible) for device in devices)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"Got devices={list(devices)!r}, but expected at least one device, none of them twice. "
            "Use devices=None for all visible devices."
        )
    return Layout(chosen)


def _device(device: int | jax.Device, visible: list[jax.Device]) -> jax.Device:
    if isinstance(device, jax.Device):
        return device
    if not isinstance(device, int | np.integer):
        raise TypeError(f"Got device {device!r}, but expected a whole number, its position in jax.devices().")
    if not 0 <= device < len(visible):
        raise ValueError(
            f"Got a request for device {device}, but only {len(visible)} {visible[0].platform} device(s) are visible, "
            f"numbered from 0. Lower `devices`, or start more virtual CPU devices with "
            "XLA_FLAGS=--xla_force_host_platform_device_count=8."
        )
    return visible[device]
