"""Expression written into HDF5 that stays whole when its writer is killed, and can be gone on with."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from math import gcd
from types import ModuleType
from typing import Any

import numpy as np

from dgex._files import synchronize
from dgex.io._destination import ExpressionWriter
from dgex.io._direct import PAGE_BYTES, DirectWriter, direct_writer
from dgex.io._hdf5 import hdf5, text_column
from dgex.io._metadata import categories_of

# Most profiles and genes of a chunk that is written.
CHUNK = 256, 1024

# From so many profiles on, chunks are of whole pages, so that they can be written directly.
LARGE = 4096


class GuardedFile(FileIO):
    """A file for HDF5 to write into, which does not hear of errors: it would end the process when it closes the file.

    The first error is kept, and :meth:`check` raises it. From then on what is written is kept as well: HDF5 reads some
    of it again, and would end the process for want of it, too.
    """

    error: OSError | None = None

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._unwritten: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write all bytes, or keep the error and them."""
        start, whole = self.tell(), memoryview(data).cast("B")
        left = whole
        with self._errors_kept():
            while len(left):
                left = left[super().write(left) :]
        if self.error is not None:
            self._unwritten.append((start, bytes(whole)))
            self.seek(start + len(whole))
        return len(whole)

    def readinto(self, buffer: Any) -> int:
        """Read what is in the file, and what would be."""
        start, whole = self.tell(), memoryview(buffer).cast("B")
        n_bytes = super().readinto(whole) or 0
        if self._unwritten:
            whole[n_bytes:] = bytes(len(whole) - n_bytes)
        for place, data in self._unwritten:
            first, last = max(start, place), min(start + len(whole), place + len(data))
            if first < last:
                whole[first - start : last - start] = data[first - place : last - place]
                n_bytes = max(n_bytes, last - start)
        self.seek(start + n_bytes)
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
    _direct: DirectWriter | None = None

    def _open(self) -> None:
        h5py = hdf5(self.path)
        self._note = self.part.with_suffix(".progress")
        if self.resume:
            self._digest = digest_of(self.profile_metadata, self.gene_metadata)
        if self.resume and self.part.exists() and self._note.exists():
            self._reopen(h5py)
            return
        self._note.unlink(missing_ok=True)  # of a part that is begun anew
        self._raw = GuardedFile(self.part, "w+")
        self._file = h5py.File(self._raw, "w", alignment_threshold=PAGE_BYTES, alignment_interval=PAGE_BYTES)
        shape = len(self.profile_ids), len(self.gene_ids)
        try:
            self._matrix = new_matrix(h5py, self._file, self.matrix_name, shape, self.compression)
            self._describe(self._file)
            self._file.flush()
        finally:
            self._raw.check()
        self._direct = direct_writer(self.part, self._matrix)
        if self.resume:
            self._take_note(0)

    def _reopen(self, h5py: ModuleType) -> None:
        """Go on with the part that an earlier writer has left."""
        self._raw = GuardedFile(self.part, "r+")
        try:
            self._file = h5py.File(self._raw, "r+")
        except (OSError, KeyError, RuntimeError) as error:
            self._raw.close()
            raise ValueError(f"{self.part} cannot be resumed: it is damaged. Delete it to begin anew.") from error
        self._require_same_ids()
        self._matrix = self._file[self.matrix_name]
        self.n_written = self._noted()
        self._direct = direct_writer(self.part, self._matrix)
        if self._direct is not None:
            start = self.n_written - self.n_written % self._matrix.chunks[0]
            self._direct.hold(self._matrix[start : self.n_written], start)

    def _least_bytes(self) -> int:
        return 0 if self.compression else 4 * len(self.profile_ids) * len(self.gene_ids)

    @abstractmethod
    def _describe(self, file: Any) -> None:
        """Write ids and metadata into a file that has the matrix."""

    def _write(self, X: np.ndarray) -> None:
        stop = self.n_written + len(X)
        if self._direct is not None:
            self._direct.write(X, self.n_written)
        else:
            self._matrix[self.n_written : stop] = X
            self._raw.check()
        if self.resume:
            self._take_note(stop)

    def _take_note(self, n_written: int) -> None:
        if self._direct is not None:
            self._direct.flush()
        self._file.flush()
        self._raw.check()
        synchronize(self.part)
        new = self._note.with_suffix(".new")
        new.write_text(f"{n_written} {self._digest}")
        synchronize(new)
        new.replace(self._note)

    def _noted(self) -> int:
        """How many profiles the part holds."""
        number, _, digest = self._note.read_text(errors="replace").partition(" ")
        known = number.isascii() and number.isdigit() and int(number) <= len(self.profile_ids)
        if not (known and digest):
            raise ValueError(f"{self.part} cannot be resumed: {self._note} is damaged. Delete both to begin anew.")
        if digest != self._digest:
            raise ValueError(
                f"{self.part} cannot be resumed: it was begun with other metadata. Delete it to begin anew."
            )
        return int(number)

    def read_back(self, profiles: slice, genes: slice) -> np.ndarray:
        """Some of what has been written."""
        X: np.ndarray = self._matrix[profiles, genes]
        return X

    def _require_same_ids(self) -> None:
        for name, ids, what in zip(
            self.id_names, (self.profile_ids, self.gene_ids), ("profiles", "genes"), strict=True
        ):
            if name not in self._file or not np.array_equal(text_column(self.part, self._file[name]), ids):
                raise ValueError(
                    f"{self.part} cannot be resumed: it was begun with other {what}. Delete it to begin anew."
                )

    def _close(self) -> None:
        try:
            if self._direct is not None:
                self._direct.close()
        finally:
            self._file.close()
            self._raw.close()
        self._raw.check()
        if self.n_written == len(self.profile_ids):
            self._note.unlink(missing_ok=True)


def digest_of(*metadata: dict[str, np.ndarray]) -> str:
    """Text that other metadata are unlikely to share."""
    columns = [
        (name, column.tolist(), categories_of(column)) for described in metadata for name, column in described.items()
    ]
    return f"{zlib.crc32(repr(columns).encode()):08x}"


def new_matrix(h5py: ModuleType, file: Any, name: str, shape: tuple[int, int], compression: int) -> Any:
    """A float32 dataset of profiles x genes, in chunks of a megabyte that serve readers of profiles and of genes."""
    if compression:
        return file.create_dataset(
            name,
            shape,
            np.float32,
            chunks=chunk_shape(shape),
            compression="gzip",
            compression_opts=compression,
            shuffle=True,
        )
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, np.float32, chunks=chunk_shape(shape), dcpl=early)


def chunk_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Chunks of nearly equal size, so that the last ones waste little room."""
    n_rows, n_columns = (-(-size // -(-size // most)) for size, most in zip(shape, CHUNK, strict=True))
    step = PAGE_BYTES // gcd(PAGE_BYTES, CHUNK[0] * np.dtype(np.float32).itemsize)
    whole_pages = -(-n_columns // step) * step
    if shape[0] < LARGE or whole_pages > shape[1]:
        return n_rows, n_columns
    return CHUNK[0], whole_pages
