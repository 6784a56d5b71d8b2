"""What every reader of expression files offers, whatever the format."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dgex._frames import is_missing
from dgex._validation import listed
from dgex.io._ahead import ReadAhead

# Bytes of expression in a chunk, unless the caller says how many profiles.
CHUNK_BYTES = 2**26

# No DEFLATE stream grows by more than this when it is decompressed.
LARGEST_EXPANSION = 1032

# What the libraries raise that read a file whose content is broken.
SIGNS_OF_DAMAGE = (EOFError, UnicodeError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class ExpressionFileError(ValueError):
    """A file of expression is damaged, contradicts itself, or is not of a format that can be read."""


class Columns(Mapping[str, np.ndarray]):
    """Metadata by name, each column read when it is asked for.

    Parameters
    ----------
    loaders : mapping of str to callable
        What returns each column.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], np.ndarray]]):
        self._loaders = dict(loaders)

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray]) -> Columns:
        """Columns that are in memory, or to be read as they are."""
        return columns if isinstance(columns, Columns) else cls({name: columns[name].view for name in columns})

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._loaders:
            raise KeyError(f"Got the metadata column {name!r}, but expected one of: {listed(self._loaders)}.")
        return self._loaders[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __repr__(self) -> str:
        return f"Columns({', '.join(self)})"


class ExpressionFile(ABC):
    """Expression in a file: profiles x genes, however the file stores it.

    Made by :func:`open_expression`; a context manager that closes the file.

    Parameters
    ----------
    path : Path
        The file.
    profile_ids, gene_ids : sequence of str
        Names of the profiles and of the genes, each unique.
    profile_metadata, gene_metadata : mapping of str to ndarray
        What else the file says of each profile and each gene. Missing text and booleans are None, missing numbers are
        NaN, but None among whole numbers that floats would round.
    dtype : dtype
        The floating-point type that expression is read as.
    """

    format: str
    rows_called: str = ""  # by the first column of a table
    layers: tuple[str, ...] = ()  # other matrices of the same profiles and genes
    signs_of_damage: tuple[type[Exception], ...] = ()  # what the format's library raises besides, reading a broken file
    _goes_through = False  # whether reading some profiles goes through all of them, or many
    _closed = False

    def __init__(
        self,
        path: Path,
        profile_ids: Sequence[str] | np.ndarray,
        gene_ids: Sequence[str] | np.ndarray,
        profile_metadata: Mapping[str, np.ndarray],
        gene_metadata: Mapping[str, np.ndarray],
        dtype: np.dtype[Any],
    ):
        self.path = path
        self.profile_ids = unique_ids(path, profile_ids, "profile")
        self.gene_ids = unique_ids(path, gene_ids, "gene")
        self.profile_metadata = Columns.of(profile_metadata)
        self.gene_metadata = Columns.of(gene_metadata)
        self.dtype = dtype
        self._ahead = ReadAhead(len(self.profile_ids), dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of profiles and of genes."""
        return len(self.profile_ids), len(self.gene_ids)

    def read(self, profiles: Any = None, genes: Any = None) -> np.ndarray:
        """Expression of some profiles and genes, in the order asked for.

        Of Parquet and of sparse columns (CSC) every reading goes through many profiles. Calls for the same genes whose
        profiles follow each other are answered from up to 512 MB that are read ahead.

        Parameters
        ----------
        profiles, genes : sequence of str or int, slice, ndarray of bool or None, default=None
            Ids or positions; None for all. A text is one id.

        Returns
        -------
        X : ndarray of shape (n_profiles, n_genes)
            In the type `dtype`; missing values are NaN.

        Raises
        ------
        ExpressionFileError
            If the file turns out to be damaged, or a value is not a number.
        ValueError
            If an id is unknown or a position out of range.
        """
        rows = positions(profiles, self.profile_ids, "profile")
        columns = positions(genes, self.gene_ids, "gene")
        return self._read_positions(rows, columns)

    def chunks(self, n_profiles: int | None = None, genes: Any = None) -> Iterator[tuple[slice, np.ndarray]]:
        """All profiles in order, some at a time.

        Parameters
        ----------
        n_profiles : int, default=None
            Profiles in a chunk; None for about 64 MB of them.
        genes : sequence of str or int, slice, ndarray of bool or None, default=None
            As in :meth:`read`.

        Yields
        ------
        rows, X : slice, ndarray of shape (n_profiles, n_genes)
            Which profiles these are, and their expression.
        """
        columns = positions(genes, self.gene_ids, "gene")
        size = n_profiles or max(1, CHUNK_BYTES // (self.dtype.itemsize * max(1, len(columns))))
        for start in range(0, len(self.profile_ids), size):
            rows = slice(start, min(start + size, len(self.profile_ids)))
            yield rows, self._read_positions(np.arange(rows.start, rows.stop), columns)

    def _read_positions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        self._require_open()
        with damage_explained(self.path, *self.signs_of_damage):
            if self._goes_through:
                return self._ahead.read(self._read, rows, columns)
            return self._read(rows, columns)

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path} is closed. Read inside the `with` block, or open it again.")

    @abstractmethod
    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Expression at these positions, in their order."""

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        self._ahead.forget()
        self._close()

    def _close(self) -> None:  # noqa: B027  text is not kept open
        """Close what is kept open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.format} file {self.path.name!r}: {self.shape[0]} profiles x {self.shape[1]} genes>"


class OpenedFile:
    """A file that is opened again and again, and must still be the one that was opened first."""

    def __init__(self, path: Path):
        self._path = path
        self._state: tuple[int, ...] | None = None

    def require_same(self, file: BufferedIOBase) -> None:
        """Raise an error if the path leads to another file now, or to one that was written to."""
        status = os.fstat(file.fileno())
        state = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        self._state = self._state or state
        if state != self._state:
            raise ExpressionFileError(f"{self._path} has changed since it was opened. Open it again.")


def unique_ids(path: Path, ids: Sequence[str] | np.ndarray, what: str) -> np.ndarray:
    """Ids as an array of text; an error if one is missing, empty or occurs twice."""
    missing = [number for number, name in enumerate(ids) if is_missing(name)]
    if missing:
        raise ExpressionFileError(f"{path}: the id of {what} {missing[0]} is missing. Name every {what}.")
    array = np.empty(len(ids), dtype=object)
    array[:] = [as_text(name) for name in ids]
    if len(set(array)) < len(array):
        repeated = [name for name, count in Counter(array).items() if count > 1]
        raise ExpressionFileError(
            f"{path}: got {len(repeated)} {what} ids more than once ({listed(repeated)}), but expected unique ids. "
            "Rename or average them first."
        )
    if "" in array:
        raise ExpressionFileError(f"{path}: the id of {what} {list(array).index('')} is empty. Name every {what}.")
    return array


def as_text(value: Any) -> str:
    """Anything as text; bytes are decoded."""
    return decoded(value) if isinstance(value, bytes) else str(value)


def decoded(value: bytes, encoding: str = "utf-8") -> str:
    """Bytes as text in an encoding, or Latin-1 where it is not."""
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        return value.decode("latin-1")


def positions(selection: Any, ids: np.ndarray, what: str) -> np.ndarray:
    """The positions that a selection by ids, positions, slice or mask stands for."""
    if selection is None:
        return np.arange(len(ids))
    if isinstance(selection, slice):
        return np.arange(len(ids))[selection]
    chosen = np.atleast_1d(np.asarray(selection))
    if chosen.size == 0:
        return np.arange(0)
    if chosen.dtype.kind == "b":
        if chosen.shape != ids.shape:
            raise ValueError(
                f"Got a mask of shape {chosen.shape}, but expected one value for each of {len(ids)} {what}s."
            )
        return np.flatnonzero(chosen)
    if chosen.dtype.kind in "iu":
        outside = chosen[(chosen < -len(ids)) | (chosen >= len(ids))]
        if len(outside):
            raise ValueError(f"Got {what} positions {listed(outside)}, but expected less than {len(ids)}.")
        return np.where(chosen < 0, chosen + len(ids), chosen).astype(np.intp)
    place = {name: position for position, name in enumerate(ids)}
    unknown = [name for name in chosen if str(name) not in place]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(chosen)} {what} ids are not in the file: {listed(unknown)}. It has {len(ids)}, "
            f"such as {listed(ids[:3])}."
        )
    return np.array([place[str(name)] for name in chosen], dtype=np.intp)


@contextmanager
def damage_explained(path: Path, *more: type[Exception]) -> Iterator[None]:
    """Turn what libraries raise about a broken file, and what more is named, into one error that names it."""
    damage: tuple[type[Exception], ...] = (*SIGNS_OF_DAMAGE, *more, OSError)
    try:
        yield
    except ExpressionFileError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except damage as error:
        reason = str(error) or type(error).__name__
        raise ExpressionFileError(
            f"{path} cannot be read: it is truncated or damaged ({reason}). Get the file again, and compare its size "
            "with that of the original."
        ) from error
