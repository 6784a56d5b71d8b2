"""Times of several things, one after the other in every round, so that what else the machine does meets all of them."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

Case = dict[str, Any]


def medians(things: dict[str, Callable[[], Any]], rounds: int, warm: bool = True) -> dict[str, float]:
    """Median seconds of each, after a round that does not count if they are to be `warm`."""
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for number in range(rounds + warm):
        for name, thing in things.items():
            start = time.perf_counter()
            thing()
            if number >= warm:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def verdict(
    case: str, what: str, value: float, limit: float | None, *, at_least: bool = False, unit: str = "x", **more: Any
) -> Case:
    """A row: what was measured, what it should be, and whether it is."""
    met = None if limit is None else bool(value >= limit if at_least else value <= limit)
    asked = None if limit is None else f"{'at least' if at_least else 'at most'} {limit:g}"
    said = {None: "", True: "holds", False: "missed"}[met]
    return {"case": case, "what": what, "value": value, "unit": unit, "asked": asked, "verdict": said, **more}


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process whose memory and compiled programs are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def noise(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """Normal noise, drawn block by block, so that drawing takes no memory beside the array."""
    rng = np.random.default_rng(seed)
    result = np.empty(shape, dtype=dtype)
    for start in range(0, len(result), 1000):
        block = result[start : start + 1000]
        block[:] = rng.standard_normal(block.shape, dtype=dtype)
    return result
