"""Parquet: a table with profiles or genes as rows; only the columns and row groups asked for are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from dgex._validation import listed
from dgex.io._delimited import ANNOTATION, PROFILE_ID, rows_are_genes
from dgex.io._destination import ExpressionWriter
from dgex.io._source import ExpressionFile, ExpressionFileError, damage_explained, unique_ids

# Where in the file it says which columns are metadata, and what there is to say of genes.
DESCRIPTION = b"dgex"

# Bytes of the rows that are written together.
GROUP_BYTES = 2**27


class ParquetFile(ExpressionFile):
    """A Parquet file: a column of ids (the index of a data frame, or the first of text), metadata, and expression."""

    format = "Parquet"
    signs_of_damage = ValueError, KeyError, MemoryError, RuntimeError

    def __init__(self, path: Path, rows: str, metadata: Sequence[str]):
        pa, parquet = arrow(path)
        with damage_explained(path, *self.signs_of_damage):
            self._file, self._one_at_a_time = parquet.ParquetFile(path), Lock()
            schema = self._file.schema_arrow
            numeric = {
                name
                for name, kind in zip(schema.names, schema.types, strict=True)
                if pa.types.is_floating(kind) or pa.types.is_integer(kind)
            }
            indices = index_columns(schema)
            row_numbers = {name for name in indices if is_unnamed(name) and name in numeric}
            index = id_column(path, schema.names, numeric, indices, row_numbers)
            known = json.loads((schema.metadata or {}).get(DESCRIPTION, b"{}"))
            values = numeric - {index, *indices, *metadata, *known.get("profile_metadata", ())}
            if index != PROFILE_ID:
                values -= leading_annotation([name for name in schema.names if name not in (index, *indices)], values)
            self._values = [name for name in schema.names if name in values]
            if not self._values or self._file.metadata.num_rows == 0:
                raise ExpressionFileError(f"{path}: got no column of numbers or no rows, but expected expression.")
            others = [name for name in schema.names if name not in {index, *values, *row_numbers}]
            described = self._file.read(columns=[index, *others])
            ids = unique_ids(path, described.column(index).to_pylist(), "row")
            self.rows_called = "" if is_unnamed(index) else index
            self._rows_are_genes = rows_are_genes(path, rows, self.rows_called, ids, self._values)
            columns = {name: column_values(described.column(name)) for name in others}
            groups = (self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups))
            self._starts = np.cumsum([0, *groups])
            dtype = np.dtype(np.float32 if all(schema.field(n).type == "float" for n in self._values) else np.float64)
            if self._rows_are_genes:
                super().__init__(path, self._values, ids, {}, columns, dtype)
            else:
                super().__init__(path, ids, self._values, columns, gene_metadata(known, len(self._values)), dtype)

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if self._rows_are_genes:
            return self._table(columns, rows).T
        return self._table(rows, columns)

    def _table(self, lines: np.ndarray, columns: np.ndarray) -> np.ndarray:
        result = np.empty((len(lines), len(columns)), dtype=self.dtype)
        names = [self._values[column] for column in columns]
        group_of = np.searchsorted(self._starts, lines, side="right") - 1
        for group in np.unique(group_of):
            chosen = group_of == group
            with self._one_at_a_time:  # what pyarrow reads ahead is for one reader
                table = self._file.read_row_group(int(group), columns=sorted(set(names)))
            for place, name in enumerate(names):
                values = table.column(name).to_numpy()
                result[chosen, place] = values[lines[chosen] - self._starts[group]]
        return result

    def _close(self) -> None:
        self._file.close()


class ParquetWriter(ExpressionWriter):
    """Writes Parquet as pandas does: a profile per row, its id as the index, metadata before expression."""

    format = "Parquet"

    def _open(self) -> None:
        pa, parquet = arrow(self.path)
        fields = [(PROFILE_ID, pa.string())]
        for name, column in self.profile_metadata.items():
            fields.append((name, pa.string() if column.dtype.kind == "O" else pa.from_numpy_dtype(column.dtype)))
        fields += [(name, pa.float32()) for name in self.gene_ids]
        taken = [name for name, times in Counter(name for name, _ in fields).items() if times > 1]
        if taken:
            raise ValueError(
                f"Got {listed(taken)} more than once as the name of a gene, of metadata or of the ids (which are "
                f"called {PROFILE_ID!r}), and {self.path.name} would have them as columns of one table. Rename them."
            )
        known = {
            "profile_metadata": list(self.profile_metadata),
            "gene_metadata": {name: column.tolist() for name, column in self.gene_metadata.items()},
        }
        index = {"name": PROFILE_ID, "field_name": PROFILE_ID, "pandas_type": "unicode", "numpy_type": "object"}
        for_pandas = {"index_columns": [PROFILE_ID], "columns": [index | {"metadata": None}], "column_indexes": []}
        described = {b"pandas": json.dumps(for_pandas).encode(), DESCRIPTION: json.dumps(known).encode()}
        self._schema = pa.schema(fields, metadata=described)
        self._writer = parquet.ParquetWriter(self.part, self._schema)
        self._rows = max(1, GROUP_BYTES // (4 * len(self.gene_ids)))
        self._waiting: list[np.ndarray] = []

    def _write(self, X: np.ndarray) -> None:
        self._waiting.append(X.copy())  # the caller may fill the same array again
        if sum(map(len, self._waiting)) >= self._rows:
            self._write_group(self.n_written + len(X))

    def _write_group(self, stop: int) -> None:
        pa, _ = arrow(self.path)
        X = np.concatenate(self._waiting)
        self._waiting = []
        rows = slice(stop - len(X), stop)
        columns = [self.profile_ids[rows], *(column[rows] for column in self.profile_metadata.values()), *X.T]
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _close(self) -> None:
        if self._waiting:
            self._write_group(self.n_written)
        self._writer.close()


def arrow(path: Path) -> tuple[ModuleType, ModuleType]:
    """The modules pyarrow and pyarrow.parquet, or an error that says how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(f'{path} is Parquet, and pyarrow is not installed: pip install "dgex[parquet]"') from None
    return pyarrow, pyarrow.parquet


def index_columns(schema: Any) -> list[str]:
    """The columns that were the index of a data frame."""
    described = schema.pandas_metadata or {}
    return [name for name in described.get("index_columns", ()) if isinstance(name, str) and name in schema.names]


def is_unnamed(index: str) -> bool:
    """Whether the index of a data frame has no name of its own."""
    return index.startswith("__")


def id_column(path: Path, names: list[str], numeric: set[str], indices: list[str], row_numbers: set[str]) -> str:
    """The column of ids: the index of a data frame, or the first column of text if that has only numbered the rows."""
    named = [name for name in indices if name not in row_numbers]
    texts = [name for name in names if name not in numeric]
    candidates = [*named, *texts, *row_numbers]
    if not candidates:
        raise ExpressionFileError(
            f"{path}: got {listed(names)}, but expected a column of text with ids. Write the data "
            "frame with its ids as index."
        )
    return candidates[0]


def leading_annotation(names: Sequence[str], numeric: set[str]) -> set[str]:
    """Numbers that describe genes by their customary names, before the first column of expression."""
    leading = takewhile(lambda name: name not in numeric or name.strip().lower() in ANNOTATION, names)
    return set(leading) & numeric


def gene_metadata(known: dict[str, Any], n_genes: int) -> dict[str, np.ndarray]:
    """What :class:`ParquetWriter` has stored of the genes, if it has."""
    columns = {}
    for name, values in known.get("gene_metadata", {}).items():
        numbers = all(isinstance(value, int | float) for value in values)
        columns[name] = np.array(values, dtype=None if numbers else object)
    return {name: column for name, column in columns.items() if column.shape == (n_genes,)}


def column_values(column: Any) -> np.ndarray:
    """Numbers as they are, anything else as text; missing values are NaN and None."""
    values = column.to_numpy()
    if values.dtype.kind in "iufb":
        return np.asarray(values)
    result = np.empty(len(values), dtype=object)
    result[:] = [None if value is None else str(value) for value in column.to_pylist()]
    return result
