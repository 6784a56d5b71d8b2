"""What the readers of HDF5 share: selections that read little else, and checks that a file holds what it says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dgex.io._source import LARGEST_EXPANSION, ExpressionFileError, decoded

# What h5py raises, among other things, when a file contradicts itself.
SIGNS_OF_DAMAGE = (KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)

# Bytes of decompressed chunks that are kept while a selection is read.
CACHE_BYTES = 2**26

# Wanted rows that are not farther apart than this are read together with what lies between them.
ROW_GAP = 16

# The same for columns of a matrix that is not chunked; those of one chunk are read together.
COLUMN_GAP = 1024

# Bytes of a matrix that is not chunked, or is sparse, read at a time.
BAND_BYTES = 2**26


def hdf5(path: Path) -> ModuleType:
    """The module h5py, or an error that says how to get it."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f'{path} is an HDF5 file, and h5py is not installed: pip install "dgex[gctx]"') from None
    return h5py


def matrix_of(path: Path, file: Any, name: str) -> Any:
    """A dataset of numbers in two dimensions that is there in full, made ready for :func:`selected`."""
    matrix = file[name]
    if getattr(matrix, "ndim", 0) != 2 or matrix.dtype.kind not in "iufb":
        raise ExpressionFileError(
            f"{path}: got {name} of shape {getattr(matrix, 'shape', None)} and type {getattr(matrix, 'dtype', None)}, "
            "but expected numbers in two dimensions."
        )
    require_written(path, matrix)
    if matrix.chunks is None:
        return matrix
    # Chunks that have to be decompressed are kept while a selection is read; of others only parts are read. HDF5 takes
    # that from whoever opens the dataset first.
    cache_bytes = CACHE_BYTES if matrix.id.get_create_plist().get_nfilters() else 0
    matrix.id.close()
    h5py = hdf5(path)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(12_421, cache_bytes, 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that numbers are read as: float32, unless they need more."""
    exact = dtype == np.float32 or dtype.itemsize <= 2
    return np.dtype(np.float32 if exact else np.float64)


def selected(matrix: Any, rows: np.ndarray, columns: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Rows and columns of a dataset, read in rectangles that hold little else."""
    wanted_rows, row_order = np.unique(rows, return_inverse=True)
    wanted_columns, column_order = np.unique(columns, return_inverse=True)
    result = np.empty((len(wanted_rows), len(wanted_columns)), dtype=dtype)
    band, gap = matrix.chunks or (max(1, BAND_BYTES // (matrix.dtype.itemsize * matrix.shape[1])), COLUMN_GAP)
    column_runs = list(runs(wanted_columns, gap))
    for top, bottom in runs(wanted_rows, ROW_GAP, band):
        for left, right in column_runs:
            r, c = wanted_rows[top:bottom], wanted_columns[left:right]
            rectangle = matrix[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
            result[top:bottom, left:right] = rectangle[np.ix_(r - r[0], c - c[0])]
    if np.array_equal(row_order, np.arange(len(rows))) and np.array_equal(column_order, np.arange(len(columns))):
        return result
    return result[np.ix_(row_order, column_order)]


def runs(wanted: np.ndarray, gap: int, band: int | None = None) -> Iterator[tuple[int, int]]:
    """Where to cut increasing positions so that a run has no large gaps and, if asked, stays in a band of rows."""
    if len(wanted) == 0:
        return iter(())
    apart = np.diff(wanted) > gap
    if band is not None:
        apart |= np.diff(wanted // band) > 0
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(wanted)]
    return pairwise(edges)


def require_written(path: Path, dataset: Any) -> None:
    """Raise if a dataset announces more than the file holds: HDF5 would make up zeros."""
    n_bytes, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    n_filters = dataset.id.get_create_plist().get_nfilters()
    complete = stored * (LARGEST_EXPANSION if n_filters else 1) >= n_bytes
    if complete and dataset.chunks is not None:
        expected = int(np.prod([-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]))
        complete = dataset.id.get_num_chunks() >= expected
    if not complete:
        raise ExpressionFileError(
            f"{path}: {dataset.name} of shape {dataset.shape} was never written in full ({stored} bytes are there). "
            "Get the file again, or run what wrote it to its end."
        )


def text_column(path: Path, dataset: Any) -> np.ndarray:
    """A column of a file as text without padding: fixed or variable length, or numbers."""
    require_written(path, dataset)
    return texts_of(dataset[()].ravel())


def texts_of(values: np.ndarray) -> np.ndarray:
    """Text as HDF5 stores it, or numbers, as text without padding."""
    column = np.empty(len(values), dtype=object)
    column[:] = [decoded(value.rstrip(b"\x00 ")) if isinstance(value, bytes) else str(value) for value in values]
    return column
