"""How much memory of a device training takes, whether that is there, and what to do if it is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dgex._network import NetworkConfig
from dgex._processes import exchanged, own_devices
from dgex._programs import TrainConfig
from dgex._sharding import Layout, usable_in_place

logger = logging.getLogger("dgex")

# Weights, their gradients and momentum; "adamw" has one moment more. Every validation set may keep a best epoch, too.
COPIES_OF_WEIGHTS = {"sgd": 3, "adamw": 4}

# Share of the free memory that profiles and weights may take; the rest is for activations.
USABLE = 0.8

# Bytes of profiles that CPUs may copy from the host's memory, which is their own.
LARGEST_COPY = 2**29

# Where Linux tells how much memory is free, and how much this process may have (control groups, version 2).
MEMORY_OF_LINUX = Path("/proc/meminfo")
OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class Demand(NamedTuple):
    """Bytes that training takes of each device."""

    profiles: int
    weights: int

    def __str__(self) -> str:
        return f"{gigabytes(self.weights)} for weights and {gigabytes(self.profiles)} for profiles"


def training_demand(
    config: TrainConfig, layout: Layout, sets: Sequence[tuple[np.ndarray, np.ndarray]], n_best: int
) -> Demand:
    """What profiles (landmarks replicated, targets divided) and weights (divided) take of each device, in float32.

    `n_best` is the number of validation sets, each of which keeps the weights of its best epoch.
    """
    n_devices, n_targets = len(layout.devices), config.network.n_networks * config.network.n_outputs
    profiles = sum(4 * (X.size + len(y) * n_targets // n_devices) for X, y in sets)
    weights = 4 * config.network.n_parameters * (COPIES_OF_WEIGHTS[config.solver] + n_best) // n_devices
    return Demand(profiles, weights)


def free_memory(layout: Layout) -> int | None:
    """Bytes that are free on the fullest device of all processes; None where the system does not tell."""
    here = _free_memory_here(layout)
    everywhere = exchanged(layout.devices, np.array(-1 if here is None else here)).min()
    return None if everywhere < 0 else int(everywhere)


def _free_memory_here(layout: Layout) -> int | None:
    devices = own_devices(layout.devices)
    if layout.platform == "cpu":
        if not MEMORY_OF_LINUX.exists():
            return None
        fields = dict(line.split(":") for line in MEMORY_OF_LINUX.read_text().splitlines())
        return min([int(fields["MemAvailable"].split()[0]) * 1024, *left_by_limits()]) // len(devices)
    statistics = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in numbers for numbers in statistics):
        return None
    return min(numbers["bytes_limit"] - numbers.get("bytes_in_use", 0) for numbers in statistics)


def left_by_limits() -> list[int]:
    """Bytes that each limit on this process leaves it, such as that of a container or of a job."""
    path = next((line[3:] for line in _lines(OWN_GROUP) if line.startswith("0::")), "/")
    own = GROUPS / path.lstrip("/")
    left = []
    for group in (own, *own.parents):
        limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
        if group.is_relative_to(GROUPS) and limit and used and limit[0].isdigit():
            statistics = dict(line.split() for line in _lines(group / "memory.stat"))
            reclaimable = int(statistics.get("inactive_file", 0))
            left.append(max(0, int(limit[0]) - int(used[0]) + reclaimable))
    return left


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def copied_by_cpus(layout: Layout, sets: Sequence[tuple[np.ndarray, np.ndarray]], demand: Demand) -> int:
    """Bytes of the host's memory that profiles kept on the devices take a second time, in any process; 0 on others."""
    if layout.platform != "cpu":
        return 0
    in_place = len(layout.devices) == layout.n_networks == 1 and all(usable_in_place(a) for pair in sets for a in pair)
    n_devices = len(own_devices(layout.devices))
    return int(exchanged(layout.devices, np.array(0 if in_place else demand.profiles * n_devices)).max())


def keep_on_devices(location: str, demand: Demand, free: int | None, copied: int = 0) -> bool:
    """Whether the profiles are put onto the devices as a whole: as asked for, or if there is room ("auto").

    Of more than `LARGEST_COPY`, CPUs get a piece at a time, rather than a second copy in the same memory.
    """
    resident = location == "device"
    if location == "auto":
        resident = copied <= LARGEST_COPY and (free is None or sum(demand) <= USABLE * free)
    logger.info(
        "Profiles %s: each device needs %s, and %s is free (data_location=%r).",
        "stay on the devices" if resident else "are streamed from the host",
        demand,
        gigabytes(free),
        location,
    )
    return resident


@contextmanager
def shortage_explained(config: TrainConfig, layout: Layout, demand: Demand) -> Iterator[None]:
    """Turn the runtime's out-of-memory error into one that says how much is needed and what would help."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_shortage(error):
            raise
        raise _shortage(config, layout, demand, _free_memory_here(layout)) from error


@contextmanager
def shortage_in_prediction_explained(network: NetworkConfig, layout: Layout) -> Iterator[None]:
    """The same for predicting, where the weights are all that takes much memory."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_shortage(error):
            raise
        raise MemoryError(
            f"Predicting with {described(network)} on {len(layout.devices)} {layout.platform} device(s) needs about "
            f"{gigabytes(4 * network.n_parameters // len(layout.devices))} for weights of each; "
            f"{gigabytes(_free_memory_here(layout))} is free. Use more `devices`, or free those that other programs or "
            "fits hold."
        ) from error


def is_shortage(error: Exception) -> bool:
    """Whether the runtime says that memory has run out."""
    return "out of memory" in str(error).lower() or "RESOURCE_EXHAUSTED" in str(error)


def require_room_for_weights(config: TrainConfig, layout: Layout, demand: Demand, free: int | None) -> None:
    """Raise if the weights alone are too many: on a CPU the system would let them be, and kill the process later."""
    if free is not None and demand.weights > free:
        raise _shortage(config, layout, demand, free)


def _shortage(config: TrainConfig, layout: Layout, demand: Demand, free: int | None) -> MemoryError:
    streaming = "data_location='host' (profiles then take next to nothing), " if demand.profiles else ""
    return MemoryError(
        f"Training {described(config.network)} on {len(layout.devices)} {layout.platform} device(s) needs about "
        f"{demand} of each, and activations of {config.batch_size} profiles; {gigabytes(free)} is free. Use more "
        f"`devices`, {streaming}smaller `hidden_layer_sizes` or a smaller `batch_size`."
    )


def described(network: NetworkConfig) -> str:
    """A network, or several, for people."""
    sizes = " x ".join(map(str, (network.n_inputs, *network.hidden_layer_sizes, network.n_outputs)))
    count = "a network" if network.n_networks == 1 else f"{network.n_networks} networks"
    return f"{count} of {sizes} units"


def gigabytes(n_bytes: int | None) -> str:
    """A number of bytes for people; None where it is not known."""
    return "an unknown amount" if n_bytes is None else f"{n_bytes / 1e9:.3g} GB"
