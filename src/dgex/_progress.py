"""How far long work is: a line that is updated on a terminal, lines now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, Self, TextIO

# Seconds between two lines in a log, and between two updates on a terminal.
LOG_SECONDS, TERMINAL_SECONDS = 30.0, 0.5

BAR_WIDTH = 30


class Progress:
    """Says how far the work is, how fast it goes, and how long it will take.

    Parameters
    ----------
    total : int or None
        How much there is to do; None if nobody knows.
    unit : str
        What is counted: "profiles", or "B" for bytes.
    done : int
        How much was done before.
    title : str
        What to call the work.
    verbose : bool
        Whether to say anything at all, on standard error.
    """

    def __init__(self, total: int | None, unit: str, *, done: int = 0, title: str = "", verbose: bool = True):
        self.total = total
        self.unit = unit
        self.before = self.done = done
        self.title = f"{title}: " if title else ""
        self.stream: TextIO | None = sys.stderr if verbose else None
        self.start = self.shown = time.monotonic()

    def show(self, done: int) -> None:
        """Say how much is done, if some time has passed since it was said."""
        self.done = done
        now = time.monotonic()
        if self.stream is None or now - self.shown < (TERMINAL_SECONDS if self.stream.isatty() else LOG_SECONDS):
            return
        self.shown = now
        rate = (done - self.before) / (now - self.start)
        speed = f"{amount(rate, self.unit)} per second"
        if self.total is None:
            self._print(f"{amount(done, self.unit)}, {speed}")
            return
        left = duration((self.total - done) / rate) if rate else "unknown time"
        share = done / self.total
        bar = f"[{'=' * int(share * BAR_WIDTH):<{BAR_WIDTH}}] " if self.stream.isatty() else ""
        so_far = amount(done, "B") if self.unit == "B" else f"{done:,}"
        self._print(f"{bar}{so_far} of {amount(self.total, self.unit)} ({share:.0%}), {speed}, {left} left")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.end()
        elif self.stream is not None and self.stream.isatty() and self.shown > self.start:
            self.stream.write("\n")  # an error is told below

    def end(self) -> None:
        """Say how long it took."""
        if self.stream is None:
            return
        total = self.done if self.total is None else self.total
        self._print(f"{amount(total, self.unit)} in {duration(time.monotonic() - self.start)}")
        if self.stream.isatty():
            self.stream.write("\n")

    def _print(self, text: str) -> None:
        assert self.stream is not None
        text = self.title + text
        self.stream.write(f"\r\x1b[K{text}" if self.stream.isatty() else f"{text}\n")
        self.stream.flush()


def amount(number: float, unit: str) -> str:
    """A number of things; bytes in kB, MB or GB."""
    if unit != "B":
        return f"{number:,.0f} {unit}"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}B"
    return f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
