"""Signals that are handled in another way for a moment."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# After an interrupt was ignored, until it comes again: the callback has returned by then.
SECONDS_UNTIL_AGAIN = 0.05


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
def interrupts_sent_again() -> Iterator[None]:
    """Send interrupts again that have come where Python ignores them: in callbacks of its garbage collector."""
    pending: list[threading.Timer] = []
    previous = sys.unraisablehook

    def send_again(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            previous(ignored)
            return
        timer = threading.Timer(SECONDS_UNTIL_AGAIN, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
        pending.append(timer)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = previous
        for timer in pending:
            timer.cancel()


@contextmanager
def interrupts_held_back() -> Iterator[list[int]]:
    """Keep interrupts from interrupting; yields those that have come. Handlers of others are called afterwards."""
    received: list[int] = []
    others: list[int] = []
    kept = received if signal.getsignal(signal.SIGINT) is signal.default_int_handler else others
    with handled(signal.SIGINT, lambda number, frame: kept.append(number)):
        yield received
    if others:
        signal.raise_signal(others[0])


@contextmanager
def deferred_keyboard_interrupt() -> Iterator[None]:
    """Hold interrupts back for a moment, so that none can fall between a call and the storing of its result."""
    with interrupts_held_back() as received:
        yield
    if received:
        signal.raise_signal(received[0])
