"""Threads for products of NumPy, instead of those inside of its BLAS.

The threads of a BLAS wait for each other in every product, keeping their processors busy. Where something else needs
one, such as the writer of a file, each loses what that one takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

# The number of BLAS's threads belongs to the process: whoever changes it first gives it back before anyone else does.
_turn = Lock()


@cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    return ThreadpoolController().select(user_api="blas")


def one_thread() -> Any:
    """Keep products to one thread each, in this thread or in all, as the library has it."""
    return blas().limit(limits=1)


@contextmanager
def threads_of_products() -> Iterator[ThreadPoolExecutor]:
    """As many threads as a product would have by itself; in each, one takes a single processor.

    While someone has them, others get one thread, so that they share the processors with no more than that.
    """
    if not _turn.acquire(blocking=False):
        with ThreadPoolExecutor(1) as pool:
            yield pool
        return
    try:
        n_threads = max((library["num_threads"] for library in blas().info()), default=1)
        with one_thread(), ThreadPoolExecutor(n_threads, initializer=one_thread) as pool:
            yield pool
    finally:
        _turn.release()
