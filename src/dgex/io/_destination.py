"""What every writer of expression files does: nothing appears under the file's name before all of it is there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dgex._files import (
    bytes_on_disk,
    explained,
    followed,
    hidden,
    require_destination,
    require_space,
    synchronize,
    writing,
)
from dgex._frames import column_names, frame_values, is_missing, row_names
from dgex._validation import listed
from dgex.io._metadata import as_numbers
from dgex.io._source import as_text, unique_ids

# Names that formats have for something else.
TAKEN_NAMES = ("id", "_index", "", ".")

# From a file that has grown by so much it can be told what the rest will take.
TELLING_BYTES = 2**20

# What ends a line or a name in some formats.
LINE_ENDS = "\n\r\0"


class ExpressionWriter(ABC):
    """Writes profiles in order; a context manager, made by :func:`create_expression`.

    While it is open, the file is called ".NAME.part". When all profiles are written it takes its name, in one step;
    after an error it is removed, or kept to be resumed. Either way a file that was there before is whole.

    Parameters
    ----------
    path : Path
        The file to be.
    profile_ids, gene_ids : sequence of str
        Names of the profiles and of the genes, each unique.
    profile_metadata, gene_metadata : mapping of str to array-like
        What else to say of each profile and each gene: numbers, booleans, or text. NaN and None are missing values.
    compression : int
        Level of compression by gzip, from 0 (none) to 9.
    resume : bool
        Whether to go on with a part that an earlier writer has left, and to leave one after an error.

    Attributes
    ----------
    n_written : int
        Profiles written so far, those of an earlier writer included.
    """

    format: str
    can_resume = False
    _has_enough_space = False

    def __init__(
        self,
        path: Path,
        profile_ids: Sequence[str] | np.ndarray,
        gene_ids: Sequence[str] | np.ndarray,
        profile_metadata: Mapping[str, Any],
        gene_metadata: Mapping[str, Any],
        compression: int,
        resume: bool,
    ):
        self.name = path.name
        self.path = path = followed(path)
        self.part = hidden(path, "part")
        self.profile_ids = writable_ids(path, profile_ids, "profile", self.gives_back)
        self.gene_ids = writable_ids(path, gene_ids, "gene", self.gives_back)
        self.profile_metadata = metadata_columns(profile_metadata, len(profile_ids), "profile")
        self.gene_metadata = metadata_columns(gene_metadata, len(gene_ids), "gene")
        self.compression = compression
        self.resume = resume
        self.n_written = 0
        if resume and (compression or not self.can_resume):
            raise ValueError(
                f"Got resume=True for {path.name}{' with compression' if compression else ''}, but only GCTX and h5ad "
                "without compression can be resumed. Choose one of them, or resume=False."
            )

    def write(self, X: Any) -> None:
        """Write the next profiles.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_profiles, n_genes)
            Expression; stored as float32.

        Raises
        ------
        ValueError
            If there are too many profiles or other genes, or names of a frame are ids of other profiles or genes.
        """
        require_in_place(column_names(X), self.gene_ids, "gene")
        require_in_place(row_names(X), self.profile_ids, "profile", self.n_written)
        X = X.toarray() if hasattr(X, "toarray") else frame_values(X)
        X = np.asarray(X)
        left = len(self.profile_ids) - self.n_written
        if X.ndim != 2 or X.shape[1] != len(self.gene_ids) or len(X) > left:
            raise ValueError(
                f"Got profiles of shape {X.shape}, but expected at most {left} of {len(self.gene_ids)} genes: those "
                f"that are left of {len(self.profile_ids)}."
            )
        X = in_single_precision(X, self.profile_ids[self.n_written :], self.gene_ids)
        try:
            self._write(X)
        except (OSError, RuntimeError) as error:
            raise explained(self.path, error) from error
        self.n_written += len(X)
        self._require_space_for_the_rest()

    def __enter__(self) -> Self:
        require_destination(self.path)
        with ExitStack() as stack:
            stack.enter_context(writing(self.path))
            require_space(self.path, max(0, self._least_bytes() - bytes_on_disk(self.part)))  # a part may be there
            try:
                self._open()
                self._size_before, self._has_enough_space = self.part.stat().st_size, self._least_bytes() > 0
            except BaseException as error:
                self._abandon()
                raise explained(self.path, error) from error
            self._lock = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if error is not None:
                self._abandon()
                return
            try:
                if self.n_written < len(self.profile_ids):
                    raise ValueError(
                        f"Got {self.n_written} profiles for {self.path}, but expected {len(self.profile_ids)}."
                    )
                self._close()
                synchronize(self.part)
                self.part.replace(self.path)
            except BaseException as failure:
                self._abandon()
                raise explained(self.path, failure) from failure

    def _abandon(self) -> None:
        with suppress(Exception):
            self._close()
        if not self.resume:
            with suppress(OSError):
                self.part.unlink(missing_ok=True)

    def _least_bytes(self) -> int:
        """What the expression takes at least, as far as that is known before any is there."""
        return 0

    def _require_space_for_the_rest(self) -> None:
        """Raise, once, if the profiles that are left do not fit, by the size of those that were written first."""
        n_left = len(self.profile_ids) - self.n_written
        n_bytes = 0 if self._has_enough_space or not n_left else self.part.stat().st_size - self._size_before
        if n_bytes >= TELLING_BYTES:
            self._has_enough_space = True
            require_space(self.path, n_bytes * n_left // max(1, self.n_written))

    @staticmethod
    def as_read(column: np.ndarray) -> np.ndarray:
        """Metadata as they are read again."""
        return column

    @staticmethod
    def gives_back(name: str) -> bool:
        """Whether an id is read as it was written, if it has no line ends or zeros, which no format gives back."""
        return True

    @abstractmethod
    def _open(self) -> None:
        """Create the part with everything but expression, or open the one to be resumed."""

    @abstractmethod
    def _write(self, X: np.ndarray) -> None:
        """Append profiles to the part."""

    @abstractmethod
    def _close(self) -> None:
        """Finish the part."""


def in_single_precision(X: np.ndarray, profile_ids: np.ndarray, gene_ids: np.ndarray) -> np.ndarray:
    """Expression as it is stored; an error if a number is too large for that."""
    X = X.astype(np.float64) if X.dtype.kind == "O" else X
    with np.errstate(over="ignore"):
        single = X.astype(np.float32, copy=False)
    if X.dtype.kind == "f" and X.dtype.itemsize > 4:
        lost = np.argwhere(np.isinf(single) & np.isfinite(X))
        if len(lost):
            row, column = lost[0]
            raise ValueError(
                f"Got {X[row, column]} for the gene {gene_ids[column]} of the profile {profile_ids[row]}, but expected "
                "numbers below 3.4e38, which is all that float32 holds. Is it expression?"
            )
    return single


def require_in_place(names: np.ndarray | None, ids: np.ndarray, what: str, start: int = 0) -> None:
    """Raise if a frame names its rows or columns, and one is the id of another."""
    if names is None:
        return
    here = ids[start : start + len(names)]
    apart = [(name, there) for name, there in zip(names, here, strict=False) if name != there]
    known = set(ids) if apart else set()
    misplaced = [f"{name} for {there}" for name, there in apart if name in known]
    if misplaced:
        raise ValueError(
            f"Got {len(misplaced)} {what}s in another order than their ids ({listed(misplaced)}). Write them in the "
            f"order of {what}_ids."
        )


def writable_ids(
    path: Path, ids: Sequence[str] | np.ndarray, what: str, gives_back: Callable[[str], bool]
) -> np.ndarray:
    """Ids as an array of text that the format gives back."""
    names = unique_ids(path, ids, what)
    if len(names) == 0:
        raise ValueError(f"Got no {what} to write into {path.name}, but expected one or more.")
    broken = [name for name in names if not (set(name).isdisjoint(LINE_ENDS) and is_unicode(name) and gives_back(name))]
    if broken:
        raise ValueError(
            f"Got {what} ids that {path.name} would not give back, such as {broken[0]!r}: they have line ends or zeros "
            "in them, or spaces around them, control characters or halves of characters, which not every format keeps. "
            "Rename them."
        )
    return names


def is_unicode(name: str) -> bool:
    """Whether a text is one, without the halves of characters that come of bytes in another encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def metadata_columns(metadata: Mapping[str, Any], size: int, what: str) -> dict[str, np.ndarray]:
    """Metadata as arrays of numbers or of text."""
    columns = {}
    for name, values in metadata.items():
        column = np.asarray(values)
        if not isinstance(name, str):
            raise TypeError(f"Got metadata called {name!r}, but expected text as the name of each.")
        if column.shape != (size,):
            raise ValueError(
                f"Got the metadata {name!r} of shape {column.shape}, but expected one value for each of {size} {what}s."
            )
        if name in TAKEN_NAMES or "/" in name:
            raise ValueError(
                f"Got metadata called {name!r}; the name must not be {listed(map(repr, TAKEN_NAMES))} or contain a "
                "slash. Rename it."
            )
        numbers = as_numbers(column)
        columns[name] = as_texts(name, values, column.dtype) if numbers is None else numbers
    return columns


def as_texts(name: str, values: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Metadata as text or None, with the categories that their type may have."""
    texts = np.empty(len(values), dtype=dtype if dtype.kind == "O" else object)
    texts[:] = [None if is_missing(value) else as_text(value) for value in values]
    if not all(text is None or is_unicode(text) for text in texts):
        raise ValueError(f"Got halves of characters in the metadata {name!r}, as of bytes in another encoding.")
    return texts
