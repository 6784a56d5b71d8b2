"""Profiles that are read before they are asked for, of files that every reading goes through."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

# Bytes of expression that are read together.
AHEAD_BYTES = 2**29

# Reads expression at the positions of profiles and genes.
Reader = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ReadAhead:
    """Profiles that are read before they are asked for, if a request goes on where the last one has ended.

    Holds `AHEAD_BYTES` of expression at most, until the last profile is asked for.
    """

    def __init__(self, n_profiles: int, dtype: np.dtype[Any]):
        self._n_profiles, self._dtype = n_profiles, dtype
        self._lock = Lock()
        self._columns = np.arange(0)
        self._stop = -1  # of the last request
        self._first, self._held = 0, np.empty((0, 0), dtype)

    def read(self, read: Reader, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """What `read` returns for these positions."""
        wanted = as_slice(rows)
        if not isinstance(wanted, slice) or len(columns) == 0:
            return read(rows, columns)
        with self._lock:
            if not np.array_equal(columns, self._columns):
                self.forget()
                self._columns = columns
            goes_on, self._stop = wanted.start == self._stop, wanted.stop
            if goes_on or (self._first <= wanted.start and wanted.stop <= self._first + len(self._held)):
                return self._taken(read, wanted)
            self._held = np.empty((0, 0), self._dtype)
            return read(rows, columns)

    def _taken(self, read: Reader, wanted: slice) -> np.ndarray:
        """Rows of what is held, which is read anew where it ends."""
        result = np.empty((wanted.stop - wanted.start, len(self._columns)), self._dtype)
        start = wanted.start
        while start < wanted.stop:
            if not self._first <= start < self._first + len(self._held):
                self._held = np.empty((0, 0), self._dtype)  # so that there are never two
                n_rows = max(1, AHEAD_BYTES // (self._dtype.itemsize * len(self._columns)))
                self._held = read(np.arange(start, min(start + n_rows, self._n_profiles)), self._columns)
                self._first = start
            part = self._held[start - self._first : wanted.stop - self._first]
            result[start - wanted.start :][: len(part)] = part
            start += len(part)
        if wanted.stop == self._n_profiles:
            self.forget()
        return result

    def forget(self) -> None:
        """Let go of what is held."""
        self._stop, self._held = -1, np.empty((0, 0), self._dtype)


def as_slice(numbers: np.ndarray) -> Any:
    """Positions as a slice if each follows the one before, which libraries read and copy faster; or as they are."""
    if len(numbers) and np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers
