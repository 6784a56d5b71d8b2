"""NumPy's .npz: an array of expression with its names beside it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dgex._validation import listed, warn_user
from dgex.io._hdf5 import floating
from dgex.io._source import (
    LARGEST_EXPANSION,
    ExpressionFile,
    ExpressionFileError,
    OpenedFile,
    as_text,
    damage_explained,
)

EXPRESSION = "X"
PROFILE_NAMES = ("profile_ids", "samples", "profiles", "obs_names")
GENE_NAMES = ("gene_ids", "genes", "probes", "var_names")


class NpzFile(ExpressionFile):
    """An archive with the arrays "X" (profiles x genes), names of both, and metadata of either as further arrays."""

    format = "npz"
    signs_of_damage = ValueError, KeyError

    def __init__(self, path: Path):
        self._opened = OpenedFile(path)
        with damage_explained(path, *self.signs_of_damage), path.open("rb") as file:
            self._opened.require_same(file)
            shapes = array_shapes(path, file)
            profiles, genes = (name_array(path, shapes, names) for names in (PROFILE_NAMES, GENE_NAMES))
            shape, dtype = shapes.get(EXPRESSION, ((), np.dtype(np.uint8)))
            if len(shape) != 2 or dtype.kind not in "iuf":
                raise ExpressionFileError(
                    f"{path}: got the arrays {', '.join(shapes)}, but expected {EXPRESSION!r} with numbers in two "
                    "dimensions."
                )
            if (shapes[profiles][0], shapes[genes][0]) != ((shape[0],), (shape[1],)):
                raise ExpressionFileError(
                    f"{path}: got {EXPRESSION!r} of shape {shape}, but {profiles!r} of shape {shapes[profiles][0]} and "
                    f"{genes!r} of shape {shapes[genes][0]}."
                )
            if 0 in shape:
                raise ExpressionFileError(
                    f"{path}: got {EXPRESSION!r} of shape {shape}, but expected profiles and genes."
                )
            sizes = [(size,) for size in shape]
            described = [name for name, (size, _) in shapes.items() if size in sizes and name not in (profiles, genes)]
            if described and shape[0] == shape[1]:
                warn_user(
                    f"{path.name} has as many profiles as genes, and does not say which of them {listed(described)} "
                    "describes, so that is left out."
                )
                described = []
            metadata: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                for name in described:
                    column = arrays[name]
                    if column.dtype.kind == "S":
                        column = np.array([as_text(value) for value in column.tolist()], dtype=object)
                    metadata[shapes[name][0] != sizes[0]][name] = column
                super().__init__(
                    path,
                    profile_ids=arrays[profiles],
                    gene_ids=arrays[genes],
                    profile_metadata=metadata[0],
                    gene_metadata=metadata[1],
                    dtype=floating(dtype),
                )
        self._X: np.ndarray | None = None

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if self._X is None:  # the archive is compressed as a whole; it is read once
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self._opened.require_same(file)
                self._X = arrays[EXPRESSION]
        return self._X[np.ix_(rows, columns)].astype(self.dtype, copy=False)

    def _close(self) -> None:
        self._X = None


def array_shapes(path: Path, file: BinaryIO) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array, from their headers; an error if one is larger than the file can hold."""
    shapes = {}
    n_stored = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            with archive.open(entry) as member:
                major, _ = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            name = entry.filename.removesuffix(".npy")
            if dtype.hasobject:
                raise ExpressionFileError(
                    f"{path}: got {name!r} as Python objects, which are not read since they can hold anything. Save "
                    "text as numpy.asarray(names, dtype=str)."
                )
            n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if n_bytes > entry.file_size or entry.file_size > LARGEST_EXPANSION * max(1, n_stored):
                raise ExpressionFileError(
                    f"{path}: {name!r} announces {n_bytes} bytes, but holds {entry.file_size}. Is the file complete?"
                )
            shapes[name] = shape, dtype
        if not shapes:
            raise ExpressionFileError(f"{path} {what_is_in(archive.namelist())}")
    return shapes


def what_is_in(names: list[str]) -> str:
    """What an archive without arrays is, and what to do."""
    if any(name.startswith("xl/") for name in names):
        return "is a workbook of a spreadsheet program. Save its sheet as text, separated by tabs."
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"is a zip archive of {first}, but expected arrays of NumPy (npz). Unzip it and pass the file inside."


def name_array(path: Path, shapes: dict[str, Any], names: tuple[str, ...]) -> str:
    """Which of the customary arrays of names there is."""
    found = [name for name in names if name in shapes]
    if not found:
        raise ExpressionFileError(
            f"{path}: got the arrays {', '.join(shapes)}, but expected one of {', '.join(names)}."
        )
    return found[0]
