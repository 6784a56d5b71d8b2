"""GCTX: HDF5, a profile per row of the matrix as HDF5 counts (the format itself calls profiles columns)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgex.io._gct import NULL
from dgex.io._hdf5 import (
    SIGNS_OF_DAMAGE,
    floating,
    hdf5,
    matrix_of,
    require_written,
    selected,
    text_column,
    texts_of,
)
from dgex.io._hdf5_writer import HDF5Writer
from dgex.io._metadata import as_numbers, is_unsigned, kind_of, with_missing
from dgex.io._source import Columns, ExpressionFile, ExpressionFileError, damage_explained
from dgex.io._text import typed

MATRIX = "/0/DATA/0/matrix"
PROFILES, GENES = "/0/META/COL", "/0/META/ROW"
VERSION = "GCTX1.0"

# Digits that no writer puts after a number, such as "1.10".
ENDS_IN_ZEROS = re.compile(r"[^.]*\.\d+0")


class GCTXFile(ExpressionFile):
    """A GCTX file. Only the chunks that hold what is asked for are read."""

    format = "GCTX"
    signs_of_damage = SIGNS_OF_DAMAGE

    def __init__(self, path: Path):
        h5py = hdf5(path)
        with damage_explained(path, *self.signs_of_damage):
            self._file = h5py.File(path, "r")
            try:
                self._open(path)
            except BaseException:
                self._file.close()
                raise

    def _open(self, path: Path) -> None:
        for name in (MATRIX, f"{PROFILES}/id", f"{GENES}/id"):
            if name not in self._file:
                raise ExpressionFileError(f"{path} has no dataset {name}: it is HDF5, but not GCTX.")
        self._matrix = matrix_of(path, self._file, MATRIX)
        sizes = [self._file[f"{group}/id"].size for group in (PROFILES, GENES)]
        if tuple(sizes) != self._matrix.shape:
            raise ExpressionFileError(
                f"{path}: got a matrix of shape {self._matrix.shape}, but ids of {sizes[0]} profiles and {sizes[1]} "
                "genes. Is the file complete?"
            )
        if 0 in sizes:
            raise ExpressionFileError(
                f"{path}: got {sizes[0]} profiles and {sizes[1]} genes, but expected some of both."
            )
        super().__init__(
            path,
            profile_ids=text_column(path, self._file[f"{PROFILES}/id"]),
            gene_ids=text_column(path, self._file[f"{GENES}/id"]),
            profile_metadata=self._metadata(PROFILES, sizes[0]),
            gene_metadata=self._metadata(GENES, sizes[1]),
            dtype=floating(self._matrix.dtype),
        )

    def _metadata(self, group: str, size: int) -> Columns:
        def load(name: str) -> np.ndarray:
            self._require_open()
            with damage_explained(self.path, *self.signs_of_damage):
                return metadata_column(self.path, self._file[f"{group}/{name}"])

        loaders: dict[str, Callable[[], np.ndarray]] = {}
        for name, column in self._file[group].items():
            if name != "id":
                if getattr(column, "shape", None) != (size,):
                    raise ExpressionFileError(
                        f"{self._file.filename}: got the metadata {group}/{name} of shape "
                        f"{getattr(column, 'shape', 'unknown')}, but expected {size} values."
                    )
                loaders[name] = partial(load, name)
        return Columns(loaders)

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return selected(self._matrix, rows, columns, self.dtype)

    def _close(self) -> None:
        self._file.close()


def metadata_column(path: Path, dataset: Any) -> np.ndarray:
    """A column of metadata; -666 is a missing value."""
    require_written(path, dataset)
    return given_back(dataset[()])


def given_back(values: np.ndarray) -> np.ndarray:
    """What a column that is stored stands for."""
    if values.dtype.kind in "iuf":
        return with_missing(values, values == int(NULL)) if values.dtype.kind != "u" else values
    texts = texts_of(values)
    nulls = texts == NULL
    if not nulls.any():
        return texts
    # Writers make text of numbers where some are missing. Where two are one number, or zeros end one, it was text.
    given = set(texts[~nulls])
    numbers = typed(list(texts), frozenset({NULL}))
    are_numbers = as_numbers(numbers) is not None and not any(map(ENDS_IN_ZEROS.fullmatch, given))
    if given and are_numbers and len(set(numbers[~nulls])) == len(given):
        return numbers
    texts[nulls] = None
    return texts


class GCTXWriter(HDF5Writer):
    """Writes GCTX as the readers of the Connectivity Map in Python, R and Matlab expect it."""

    format = "GCTX"
    matrix_name = MATRIX
    id_names = f"{PROFILES}/id", f"{GENES}/id"

    @staticmethod
    def as_read(column: np.ndarray) -> np.ndarray:
        """Metadata as they are read again."""
        return given_back(stored(column))

    @staticmethod
    def gives_back(name: str) -> bool:
        """Whether an id does not end like one that is padded."""
        return not name.endswith(" ")

    def _describe(self, file: Any) -> None:
        file.attrs["version"] = np.bytes_(VERSION)
        file.attrs["src"] = self.path.name
        for group, ids, columns in (
            (PROFILES, self.profile_ids, self.profile_metadata),
            (GENES, self.gene_ids, self.gene_metadata),
        ):
            file[f"{group}/id"] = stored(ids)
            for name, column in columns.items():
                file[f"{group}/{name}"] = stored(column)


def stored(column: np.ndarray) -> np.ndarray:
    """A column as the format stores it: numbers, or text of fixed length in UTF-8; -666 where a value is missing."""
    kind = kind_of(column)
    if column.dtype.kind == "f":
        return np.where(np.isnan(column), float(NULL), column)
    if column.dtype.kind in "iub":
        return column.astype(np.int8) if kind == "b" else column
    if kind == "b" or (kind == "i" and not is_unsigned(column)):
        numbers = [int(NULL) if value is None else value for value in column]
        return np.array(numbers, dtype=np.int16 if kind == "b" else np.int64)
    return np.array([(NULL if value is None else str(value)).encode() for value in column], dtype=np.bytes_)
