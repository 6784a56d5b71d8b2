"""Threads for products of NumPy, instead of those inside of its BLAS, and for its sorting, which has none.

The threads of a BLAS wait for each other in every product, keeping their processors busy. Where something else needs
one, such as the writer of a file, each loses what that one takes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import OpenBLASController, ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

# The C library of Linux gives freed memory back to the system, to be zeroed, only beyond twice the largest array that
# was freed so far, up to 32 MiB: the temporary arrays of threads should stay.
KEPT_BYTES = 2**24

# The number of BLAS's threads belongs to the process: the first user lowers it, and the last one gives it back, since
# products of more threads have other bits.
_lock = Lock()
_users = 0
_limit: Any = None


@cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    return ThreadpoolController().select(user_api="blas")


def one_thread() -> Any:
    """Keep products to one thread each, in this thread or in all, as the library has it."""
    with for_any_thread():
        return blas().limit(limits=1)


@contextmanager
def for_any_thread() -> Iterator[None]:
    """Set limits from whichever thread, and keep no other from it afterwards.

    Since threadpoolctl 3.8 the first thread that sets a limit of OpenBLAS is the only one that can, until it ends.
    """
    release = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
    release(force=True)
    try:
        yield
    finally:
        release(force=True)


@contextmanager
def threads_of_products() -> Iterator[ThreadPoolExecutor]:
    """As many threads as a product would have by itself; in each, one takes a single processor.

    While someone has them, others get one thread, so that they share the processors with no more than that.
    """
    global _users, _limit
    with _lock:
        n_threads = 1
        if _users == 0:
            n_threads = max((library["num_threads"] for library in blas().info()), default=1)
            _limit = one_thread()
        _users += 1
    try:
        with ThreadPoolExecutor(n_threads, initializer=one_thread) as pool:
            yield pool
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                with for_any_thread():
                    _limit.restore_original_limits()


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What a function makes of each item, one after the other, while threads are at the next ones."""
    items, begun = iter(items), deque[Future[Result]]()
    np.empty(KEPT_BYTES, dtype=np.uint8)
    with threads_of_products() as threads:
        begun.extend(threads.submit(function, item) for item in islice(items, 2 * (os.cpu_count() or 1)))
        while begun:
            yield begun.popleft().result()
            begun.extend(threads.submit(function, item) for item in islice(items, 1))


def in_parallel(function: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Let threads call a function with each item."""
    for _ in in_order(function, items):
        pass
