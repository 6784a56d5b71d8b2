"""Which device holds what.

The devices form a grid. Along its first axis the independent networks of a stack are divided: nothing travels between
them. Along the second, one network is: every kernel is split by its output columns and every bias with it, the targets
by gene; in a training step only activations travel (batch x units), weights, momentum and targets never do. Landmarks
are on every device.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from dgex._partition import TargetSets
from dgex._validation import warn_user

# The axes of the grid of devices.
NETWORKS = "networks"
UNITS = "units"

# XLA reads host memory in place, without a copy, when it is aligned to this many bytes (CPU backend).
ALIGNMENT = 64

# Pages that a forked process does not share; on Windows none does.
PAGES = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}

# How many calls with devices="one" are on each device.
_users: Counter[jax.Device] = Counter()
_counting = threading.Lock()

# Small arrays are padded to a multiple of so many rows, the first of these that leaves them below so many values.
SHARED_PROGRAM_ROWS = (512, 16)
SHARED_PROGRAM_SIZE = 2**24

# What else helps when there are fewer devices than asked for.
MORE_DEVICES = {"cpu": ", or start virtual ones with XLA_FLAGS=--xla_force_host_platform_device_count=8"}

# Bytes of targets gathered at a time.
GATHER_BYTES = 2**26


@dataclass(frozen=True)
class Layout:
    """The devices of one stack of networks; hashable, so that it can select a compiled program."""

    devices: tuple[jax.Device, ...]
    n_networks: int = 1

    @property
    def n_groups(self) -> int:
        """How many parts the stack of networks is divided into: as many as leave no device idle."""
        return math.gcd(len(self.devices), self.n_networks)

    @property
    def n_shards(self) -> int:
        """How many devices each network is divided among."""
        return len(self.devices) // self.n_groups

    @cached_property
    def mesh(self) -> Mesh:
        """The grid of devices."""
        return Mesh(np.array(self.devices).reshape(self.n_groups, self.n_shards), (NETWORKS, UNITS))

    @property
    def platform(self) -> str:
        """What kind of device: "cpu", "gpu" or "tpu"."""
        return self.devices[0].platform

    @cached_property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(self.mesh, Spec())

    def divided(self, n_dimensions: int) -> NamedSharding:
        """The sharding of an array whose first axis counts networks and whose last, if another, units or targets."""
        axes = [NETWORKS, *[None] * (n_dimensions - 2), UNITS][:n_dimensions]
        return NamedSharding(self.mesh, Spec(*axes))

    def read_by_host(self, n_dimensions: int) -> NamedSharding:
        """The same, but of results for the host, where devices have no memory in common with it.

        Devices write to page-locked memory several times as fast as XLA copies to any other.
        """
        sharding = self.divided(n_dimensions)
        return sharding if self.platform == "cpu" else sharding.with_memory_kind("pinned_host")

    def shardings(self, tree: Any) -> Any:
        """The sharding of each array of a training state."""
        return jax.tree.map(lambda array: self.divided(array.ndim), tree)

    @property
    def leads(self) -> bool:
        """Whether this is the first of the processes with these devices."""
        return self.devices[0].process_index == jax.process_index()

    def put(self, array: np.ndarray, sharding: NamedSharding) -> jax.Array:
        """Put an array, the same in all processes, onto the devices; each process only its part."""
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def place(self, tree: Any) -> Any:
        """Put a training state's arrays onto the devices, as copies: a training step overwrites what it is given."""

        def place(array: Any) -> jax.Array:
            return jax.make_array_from_callback(
                array.shape, self.divided(array.ndim), lambda index: np.array(array[index])
            )

        return jax.tree.map(place, tree)

    def place_landmarks(self, X: np.ndarray, rows: np.ndarray | None = None, n_stored: int | None = None) -> jax.Array:
        """Put landmarks of all profiles or some onto every device, as float32 and followed by rows of zeros."""
        X = X if rows is None else gathered_rows(X, rows, n_stored or len(rows))
        shape = (n_stored or stored_rows(X), X.shape[1])
        return jax.make_array_from_callback(shape, self.replicated, lambda index: _landmarks(X, shape))

    def place_targets(
        self, y: np.ndarray, sets: TargetSets, rows: np.ndarray | None = None, n_stored: int | None = None
    ) -> jax.Array:
        """Put on each device its share of the targets, as float32, shape (n_networks, n_stored, n_targets of each).

        The sets are padded with zeros to the same size, divisible among the devices, and so are the rows.
        """
        y = y if rows is None else gathered_rows(y, rows, n_stored or len(rows))  # once for all devices
        shape = (len(sets), n_stored or stored_rows(y), -(-sets.largest // self.n_shards) * self.n_shards)

        def share(index: tuple[slice, ...] | None) -> np.ndarray:
            index = index or (slice(None),) * 3
            (first, last), _, (start, stop) = (part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
            columns = [sets.columns(network, start, stop) for network in range(first, last)]
            return _targets(y, columns, (last - first, shape[1], stop - start))

        return jax.make_array_from_callback(shape, self.divided(3), share)


def stored_rows(array: np.ndarray) -> int:
    """How many rows an array of profiles takes on the devices.

    Small arrays are padded: the folds of a search, and mostly all profiles together, then share one compiled program.
    Large ones are not worth the copy.
    """
    for multiple in SHARED_PROGRAM_ROWS:
        n_rows = rounded_up(len(array), multiple)
        if n_rows * array.shape[1] < SHARED_PROGRAM_SIZE:
            return n_rows
    return len(array)


def rounded_up(number: int, multiple: int) -> int:
    """The next multiple of a number."""
    return -(-number // multiple) * multiple


def usable_in_place(array: np.ndarray) -> bool:
    """Whether a CPU can read profiles where they are, as they are."""
    is_aligned = array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous
    return is_aligned and array.dtype == np.float32 and stored_rows(array) == len(array)


def _landmarks(X: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Landmarks as a device holds them; the host copies them at most once."""
    if X.shape == shape and X.dtype == np.float32:
        return X
    result = aligned_zeros(shape)
    result[: len(X)] = X
    return result


def _targets(y: np.ndarray, columns: list[slice | np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The given columns of every network's targets as a device holds them; the host copies them at most once."""
    if len(columns) == 1 and isinstance(columns[0], slice) and y.dtype == np.float32:
        share: np.ndarray = y[None, :, columns[0]]
        if share.shape == shape:
            return share
    result = aligned_zeros(shape)
    block_rows = max(1, GATHER_BYTES // (y.itemsize * max(1, y.shape[1])))
    for start in range(0, len(y), block_rows):
        block = y[start : start + block_rows]
        for network, chosen in enumerate(columns):
            part = block[:, chosen]
            result[network, start : start + len(part), : part.shape[1]] = part
    return result


def gathered_rows(array: np.ndarray, rows: np.ndarray, n_stored: int) -> np.ndarray:
    """Some rows as float32, followed by rows of zeros, in memory that XLA can use in place."""
    result = aligned_zeros((n_stored, array.shape[1]))
    if array.dtype == np.float32:
        np.take(array, rows, axis=0, out=result[: len(rows)], mode="clip")  # does not buffer, as "raise" does
        return result
    block_rows = max(1, GATHER_BYTES // (array.itemsize * max(1, array.shape[1])))
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        result[start : start + len(block)] = array[block]
    return result


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
    """A float32 array of zeros that XLA can use in place, in pages of its own, large ones if the system has such.

    They go back to the system with the array; what `malloc` gets back from threads it mostly keeps.
    """
    n_values = int(np.prod(shape))
    pages = mmap.mmap(-1, max(1, 4 * n_values), **PAGES)
    with suppress(AttributeError, OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=np.float32, count=n_values).reshape(shape)


@contextmanager
def devices_in_use(devices: int | str | Sequence[int | jax.Device] | None) -> Iterator[tuple[jax.Device, ...]]:
    """The devices that a parameter `devices` asks for; with "one", that with the fewest users of this process."""
    if not isinstance(devices, str):
        yield select_devices(devices)
        return
    if jax.default_backend() != "cpu" and multiprocessing.current_process().name != "MainProcess":
        warn_user(
            "Got devices='one' in a worker process: each worker chooses for itself, all choose the first device, and "
            "each reserves its memory. Search with threads: joblib.parallel_config(backend='threading')."
        )
    with _counting:
        device = min(jax.local_devices(), key=lambda device: _users[device])
        _users[device] += 1
    try:
        yield (device,)
    finally:
        with _counting:
            _users[device] -= 1


def select_devices(devices: int | Sequence[int | jax.Device] | None) -> tuple[jax.Device, ...]:
    """All visible devices, the first so many, or exactly those listed."""
    visible = jax.devices()
    if devices is None:
        return tuple(visible)
    if isinstance(devices, int | np.integer):
        if devices > len(visible):
            raise ValueError(_too_few(f"devices={devices}", visible))
        devices = range(devices)
    chosen = tuple(_device(device, visible) for device in devices)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"Got devices={list(devices)!r}, but expected at least one device, none of them twice. "
            "Use devices=None for all visible devices."
        )
    return chosen


def _too_few(request: str, visible: list[jax.Device]) -> str:
    """What to say of a request for more devices than there are."""
    platform = visible[0].platform
    return (
        f"Got {request}, but only {len(visible)} {platform} device(s) are visible, numbered from 0. Lower "
        f"`devices`{MORE_DEVICES.get(platform, '')}."
    )


def _device(device: int | jax.Device, visible: list[jax.Device]) -> jax.Device:
    if isinstance(device, jax.Device):
        return device
    if not isinstance(device, int | np.integer):
        raise TypeError(f"Got device {device!r}, but expected a whole number, its position in jax.devices().")
    if not 0 <= device < len(visible):
        raise ValueError(_too_few(f"a request for device {device}", visible))
    return visible[device]
