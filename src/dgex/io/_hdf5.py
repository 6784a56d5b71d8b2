"""What the readers of HDF5 share: selections that read little else, and checks that a file holds what it says."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dgex._files import synchronize
from dgex.io._destination import ExpressionWriter
from dgex.io._source import LARGEST_EXPANSION, ExpressionFileError

# What h5py raises, among other things, when a file contradicts itself.
SIGNS_OF_DAMAGE = (KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)

# Bytes of decompressed chunks that are kept while a selection is read.
CACHE_BYTES = 2**26

# Wanted rows that are not farther apart than this are read together with what lies between them.
ROW_GAP = 16

# The same for columns of a matrix that is not chunked; those of one chunk are read together.
COLUMN_GAP = 1024

# Most profiles and genes of a chunk that is written.
CHUNK = 256, 1024

# Bytes of a matrix that is not chunked, read at a time.
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
    if getattr(matrix, "ndim", 0) != 2 or matrix.dtype.kind not in "iuf":
        raise ExpressionFileError(
            f"{path}: got {name} of shape {getattr(matrix, 'shape', None)} and type {getattr(matrix, 'dtype', None)}, "
            "but expected numbers in two dimensions."
        )
    require_written(path, matrix)
    if matrix.chunks is None:
        return matrix
    # Chunks that have to be decompressed are kept while a selection is read; of others only parts are read.
    h5py = hdf5(path)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(12_421, CACHE_BYTES if matrix.id.get_create_plist().get_nfilters() else 0, 1.0)
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
    """A column of a file as text: fixed or variable length, or numbers."""
    require_written(path, dataset)
    values = dataset[()].ravel()
    column = np.empty(len(values), dtype=object)
    column[:] = [decoded(value) if isinstance(value, bytes) else str(value) for value in values]
    return column


def decoded(value: bytes) -> str:
    """Text in UTF-8, or Latin-1 where it is not, without padding."""
    value = value.rstrip(b"\x00 ")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class GuardedFile(FileIO):
    """A file for HDF5 to write into, which does not hear of errors: it would end the process when it closes the file.

    The first error is kept, and :meth:`check` raises it.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or keep the error."""
        left = memoryview(data).cast("B")
        n_bytes = len(left)
        with self._errors_kept():
            while len(left):
                left = left[super().write(left) :]
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or keep the error."""
        with self._errors_kept():
            super().truncate(size)
        return self.tell() if size is None else size

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


class HDF5Writer(ExpressionWriter):
    """Writes profiles into a matrix of HDF5; can resume, since the matrix has its place in the file from the start.

    Writing expression then changes nothing else in the file: a part is whole whenever its writer was killed, and a note
    beside it says how many profiles are on the disk.
    """

    can_resume = True
    matrix_name: str
    id_names: tuple[str, str]  # of profiles and genes

    def _open(self) -> None:
        h5py = hdf5(self.path)
        self._note = self.part.with_suffix(".progress")
        if self.resume and self.part.exists() and self._note.exists():
            self._raw = GuardedFile(self.part, "r+")
            self._file = h5py.File(self._raw, "r+")
            self._require_same_ids()
            self._matrix = self._file[self.matrix_name]
            self.n_written = int(self._note.read_text())
            return
        self._note.unlink(missing_ok=True)  # of a part that is begun anew
        self._raw = GuardedFile(self.part, "w+")
        self._file = h5py.File(self._raw, "w")
        shape = len(self.profile_ids), len(self.gene_ids)
        self._matrix = new_matrix(h5py, self._file, self.matrix_name, shape, self.compression)
        self._describe(self._file)
        self._raw.check()
        if self.resume:
            self._take_note(0)

    @abstractmethod
    def _describe(self, file: Any) -> None:
        """Write ids and metadata into a file that has the matrix."""

    def _write(self, X: np.ndarray) -> None:
        stop = self.n_written + len(X)
        self._matrix[self.n_written : stop] = X
        self._raw.check()
        if self.resume:
            self._take_note(stop)

    def _take_note(self, n_written: int) -> None:
        self._file.flush()
        self._raw.check()
        synchronize(self.part)
        new = self._note.with_suffix(".new")
        new.write_text(str(n_written))
        new.replace(self._note)

    def read_back(self, profiles: slice, genes: slice) -> np.ndarray:
        """Some of what has been written."""
        X: np.ndarray = self._matrix[profiles, genes]
        return X

    def _require_same_ids(self) -> None:
        for name, ids, what in zip(
            self.id_names, (self.profile_ids, self.gene_ids), ("profiles", "genes"), strict=True
        ):
            if not np.array_equal(text_column(self.part, self._file[name]), ids):
                raise ValueError(
                    f"{self.part} cannot be resumed: it was begun with other {what}. Delete it to begin anew."
                )

    def _close(self) -> None:
        self._file.close()
        self._raw.close()
        self._raw.check()
        if self.n_written == len(self.profile_ids):
            self._note.unlink(missing_ok=True)


def new_matrix(h5py: ModuleType, file: Any, name: str, shape: tuple[int, int], compression: int) -> Any:
    """A float32 dataset of profiles x genes, in chunks of a megabyte that serve readers of profiles and of genes."""
    counts = [-(-size // most) for size, most in zip(shape, CHUNK, strict=True)]
    chunks = tuple(-(-size // count) for size, count in zip(shape, counts, strict=True))  # nearly no room is wasted
    if compression:
        return file.create_dataset(
            name, shape, np.float32, chunks=chunks, compression="gzip", compression_opts=compression, shuffle=True
        )
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, np.float32, chunks=chunks, dcpl=early)
