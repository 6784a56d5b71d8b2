"""Signals that are handled in another way for a moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(number: int, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give a signal another handler, in the main thread, which alone can, and unless the system handles it."""
    previous = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


@contextmanager
def deferred_keyboard_interrupt() -> Iterator[None]:
    """Hold interrupts back for a moment, so that none can fall between a call and the storing of its result."""
    received: list[int] = []
    with handled(signal.SIGINT, lambda number, frame: received.append(number)):
        yield
    if received:
        signal.raise_signal(received[0])
