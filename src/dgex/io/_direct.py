"""Chunks of a matrix written right onto the disk, past the system's cache.

Bringing a large file into the cache can keep one of two cores as busy as the products of the network keep both, and
pushes out of memory what others have there.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

# What places and sizes have to be multiples of.
PAGE_BYTES = 4096


class DirectWriter:
    """Writes the rows of a matrix of HDF5 whose chunks have their places in the file and are of whole pages.

    Rows of incomplete chunks are held until the others come or :meth:`flush` is called.
    """

    def __init__(self, descriptor: int, matrix: Any):
        self._descriptor = descriptor
        self._shape, (self._n_rows, self._n_columns) = matrix.shape, matrix.chunks
        n_bands, n_chunks = (-(-size // chunk) for size, chunk in zip(matrix.shape, matrix.chunks, strict=True))
        self._places = places(matrix, (n_bands, n_chunks))
        memory = mmap.mmap(-1, n_chunks * self._n_rows * self._n_columns * matrix.dtype.itemsize)  # of whole pages
        self._band = np.frombuffer(memory, dtype=matrix.dtype).reshape(n_chunks, self._n_rows, self._n_columns)
        self._held = slice(0, 0)  # rows of the matrix

    def hold(self, X: np.ndarray, start: int) -> None:
        """Take rows of one band of chunks."""
        first = start % self._n_rows
        for chunk, left in zip(self._band, range(0, self._shape[1], self._n_columns), strict=True):
            columns = X[:, left : left + self._n_columns]
            chunk[first : first + len(X), : columns.shape[1]] = columns
        self._held = slice(start - first, start + len(X))

    def write(self, X: np.ndarray, start: int) -> None:
        """Write rows from a row of the matrix on, which comes after those that were written before."""
        done = 0
        while done < len(X):
            rows = X[done : done + self._n_rows - (start + done) % self._n_rows]
            self.hold(rows, start + done)
            done += len(rows)
            if (start + done) % self._n_rows == 0:
                self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held.start == self._held.stop:
            return
        self._band[:, self._held.stop - self._held.start :] = 0
        for chunks, place in neighbours(self._places[self._held.start // self._n_rows], self._band[0].nbytes):
            write_all(self._descriptor, self._band[chunks].reshape(-1).view(np.uint8).data, place)
        if self._held.stop % self._n_rows == 0:
            self._held = slice(self._held.stop, self._held.stop)

    def close(self) -> None:
        """Write what is held and close the file."""
        descriptor = self._descriptor
        if descriptor < 0:
            return
        try:
            self.flush()
        finally:
            self._descriptor = -1
            os.close(descriptor)


def direct_writer(path: Path, matrix: Any) -> DirectWriter | None:
    """Writes into a file that HDF5 has open; None where that is not possible or not worth it."""
    if np.prod(matrix.chunks) * matrix.dtype.itemsize % PAGE_BYTES:
        return None
    if matrix.id.get_create_plist().get_nfilters() or not hasattr(os, "O_DIRECT"):
        return None
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
        os.preadv(descriptor, [mmap.mmap(-1, PAGE_BYTES)], 0)  # fails if pages are not what the disk wants
    except OSError:
        if descriptor >= 0:
            os.close(descriptor)
        return None
    return DirectWriter(descriptor, matrix)


def places(matrix: Any, shape: tuple[int, int]) -> np.ndarray:
    """Where in the file each chunk is."""
    found = np.full(shape, -1, dtype=np.int64)

    def note(chunk: Any) -> None:
        row, column = (first // size for first, size in zip(chunk.chunk_offset, matrix.chunks, strict=True))
        found[row, column] = chunk.byte_offset

    matrix.id.chunk_iter(note)
    return found


def neighbours(found: np.ndarray, size: int) -> Iterator[tuple[slice, int]]:
    """Chunks that follow each other in the file as they do in the matrix, and where the first of them is."""
    edges = np.flatnonzero(np.diff(found) != size) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(found)]):
        yield slice(start, stop), int(found[start])


def write_all(descriptor: int, data: memoryview, place: int) -> None:
    """Write all bytes."""
    while len(data):
        n_bytes = os.pwrite(descriptor, data, place)
        data, place = data[n_bytes:], place + n_bytes
