"""What the processes that train one model together tell each other.

Every process runs the same script and calls the same methods with the same data; these functions are called by all of
them, in the same order. With the devices of one process they do nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

Devices = tuple[jax.Device, ...]

# What the runtime says, among other things, when another process has ended.
SIGNS_OF_LOSS = ("gloo", "nccl", "unavailable", "connection", "coordination", "deadline")

# Bytes of a message.
MESSAGE_BYTES = 16384

# Bytes of an array that travel at a time.
EXCHANGED_BYTES = 2**26


def process_numbers(devices: Sequence[jax.Device]) -> list[int]:
    """The processes that the devices belong to."""
    return sorted({device.process_index for device in devices})


def own_devices(devices: Devices) -> Devices:
    """Those of the devices that belong to this process, or all that it has."""
    own = tuple(device for device in devices if device.process_index == jax.process_index())
    return own or tuple(jax.local_devices())


def require_a_device_of_this_process(devices: Devices) -> None:
    """Raise unless this process can take part in a computation on the devices."""
    if jax.process_index() not in process_numbers(devices):
        raise ValueError(
            f"Got devices of process {', '.join(map(str, process_numbers(devices)))} only, but this is process "
            f"{jax.process_index()} of {jax.process_count()}, and every process that calls fit needs one of them. Use "
            "devices=None for all devices of all processes, or devices='one' for a model of its own on each."
        )


@lru_cache(maxsize=128)
def _replicating_program(mesh: Mesh | AbstractMesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda array: array, out_shardings=NamedSharding(mesh, Spec()))


def gathered(array: jax.Array) -> np.ndarray:
    """An array that is divided among the devices of a mesh as a whole, in every process."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(_replicating_program(cast(NamedSharding, array.sharding).mesh)(array))


def exchanged(devices: Devices, array: np.ndarray) -> np.ndarray:
    """The arrays, of one shape and type, that the processes have under one name; shape (n_processes, ...)."""
    numbers = process_numbers(devices)
    if len(numbers) == 1:
        return array[None]
    # As bytes: JAX would shorten numbers of 64 bits.
    content = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
    sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), Spec("devices"))
    by_device = jax.make_array_from_callback((len(devices), len(content)), sharding, lambda _: content[None])
    everything = gathered(by_device)
    owners = [device.process_index for device in devices]
    own = everything[[owners.index(number) for number in numbers]]
    return np.frombuffer(own.tobytes(), dtype=array.dtype).reshape(len(numbers), *array.shape)


def of_the_first(devices: Devices, array: np.ndarray) -> np.ndarray:
    """What the first process has, where rounding or chance might let them differ."""
    if len(process_numbers(devices)) == 1:
        return array
    flat = array.reshape(-1)
    size = max(1, EXCHANGED_BYTES // array.itemsize)
    parts = [exchanged(devices, flat[start : start + size])[0] for start in range(0, len(flat), size)]
    return np.concatenate(parts).reshape(array.shape)


@contextmanager
def failing_together(devices: Devices) -> Iterator[dict[str, Any]]:
    """Check something on every process: if one of them fails, all do, instead of waiting for it forever.

    Yields a dictionary to be filled with what has to be equal on all processes; where it is not, all raise.
    """
    facts: dict[str, Any] = {}
    try:
        yield facts
    except Exception as error:
        _told(devices, {"error": f"{type(error).__name__}: {error}"})
        raise
    told = _told(devices, {"facts": facts})
    failures = [f"process {number}: {message['error']}" for number, message in told.items() if "error" in message]
    if failures:
        raise RuntimeError(
            f"Got an error in {len(failures)} of the {len(told)} processes that train together, so none can go on.\n"
            + "\n".join(failures)
        )
    for name in facts:
        values = {number: message["facts"][name] for number, message in told.items()}
        if len({json.dumps(value) for value in values.values()}) > 1:
            listed = ", ".join(f"{value} in process {number}" for number, value in values.items())
            raise ValueError(
                f"Got {name} {listed}, but expected the same in all {len(told)} processes that train together. Run "
                "the same script in each, with all profiles, all genes and the same saved model; of a memory map each "
                "reads what it needs."
            )


def _told(devices: Devices, message: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The messages of all processes, by number; texts that are too long are cut."""
    if "error" in message:
        message = {"error": message["error"][: MESSAGE_BYTES // 8]}
    content = json.dumps(message).encode().ljust(MESSAGE_BYTES)
    messages = exchanged(devices, np.frombuffer(content, dtype=np.uint8))
    numbers = process_numbers(devices)
    return {number: json.loads(row.tobytes()) for number, row in zip(numbers, messages, strict=True)}


@contextmanager
def loss_explained(devices: Devices) -> Iterator[None]:
    """Turn the runtime's error after another process has ended into one that says what to do."""
    numbers = process_numbers(devices)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if len(numbers) == 1 or not re.search("|".join(SIGNS_OF_LOSS), str(error), flags=re.IGNORECASE):
            raise
        raise RuntimeError(
            f"Process {jax.process_index()} cannot go on: another of the {len(numbers)} processes that train together "
            "has ended, cannot be reached, or was given other `devices`. Its own output tells why. Start all of them "
            "again; training goes on from the model that was saved last if the script saves it and fits with "
            "warm_start=True (see 'Several devices and machines' in the documentation). The runtime says: "
            f"{error}"
        ) from error
