"""Parquet: a table with profiles or genes as rows; only the columns and row groups asked for are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from dgex._validation import listed
from dgex.io._ahead import as_slice
from dgex.io._delimited import PROFILE_ID, rows_are_genes
from dgex.io._destination import ExpressionWriter
from dgex.io._identifiers import describing, require_columns, warn_of_text_among
from dgex.io._metadata import as_numbers, is_unsigned, kind_of, with_missing
from dgex.io._source import ExpressionFile, ExpressionFileError, damage_explained, unique_ids

# Where in the file it says which columns are metadata, and what there is to say of genes.
DESCRIPTION = b"dgex"

# Bytes of the rows that are written together.
GROUP_BYTES = 2**27

# Columns that are read together, each in pages of about 1 MB, and rows of them that are taken at a time.
BAND_COLUMNS, BATCH_ROWS = 64, 8192

# Bytes of a column that are read from the file at a time.
BUFFER_BYTES = 2**18


class ParquetFile(ExpressionFile):
    """A Parquet file: a column of ids (the index of a data frame, or the first of text), metadata, and expression."""

    format = "Parquet"
    signs_of_damage = ValueError, KeyError, MemoryError, RuntimeError

    def __init__(self, path: Path, rows: str, metadata: Sequence[str]):
        pa, parquet = arrow(path)
        with damage_explained(path, *self.signs_of_damage):
            self._file, self._one_at_a_time = open_parquet(parquet, path), Lock()
            schema = self._file.schema_arrow
            known = json.loads((schema.metadata or {}).get(DESCRIPTION, b"{}"))
        require_columns(path, metadata, schema.names)
        with damage_explained(path, *self.signs_of_damage):
            kinds = dict(zip(schema.names, schema.types, strict=True))
            numeric = {name for name, kind in kinds.items() if is_numeric(pa, kind)}
            empty = {name for name, kind in kinds.items() if pa.types.is_null(kind)}
            indices = index_columns(schema)
            row_numbers = {name for name in indices if is_unnamed(name) and name in numeric}
            index = id_column(path, schema.names, numeric, indices, row_numbers)
            ids = unique_ids(path, self._file.read(columns=[index]).column(index).to_pylist(), "row")
            self.rows_called = "" if is_unnamed(index) else index
            told = {*metadata, *known.get("profile_metadata", ())}
            names = [name for name in schema.names if name not in (index, *indices)]
            places = expression_columns(names, numeric, empty, told, of_genes=index != PROFILE_ID)
            self._rows_are_genes = rows_are_genes(path, rows, self.rows_called, ids, [names[n] for n in places])
            if not self._rows_are_genes:
                places = expression_columns(names, numeric, empty, told, of_genes=False)
            self._values = [names[place] for place in places]
            if not self._values or self._file.metadata.num_rows == 0:
                raise ExpressionFileError(f"{path}: got no column of numbers or no rows, but expected expression.")
            warn_of_text_among(path, names, places, told)
            others = [name for name in schema.names if name not in {index, *self._values, *row_numbers}]
            described = self._file.read(columns=others)
            columns = {name: column_values(described.column(name)) for name in others}
            groups = (self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups))
            self._starts = np.cumsum([0, *groups])
            self._goes_through = not self._rows_are_genes
            is_single = all(kinds[name] == "float" for name in self._values if name not in empty)
            dtype = np.dtype(np.float32 if is_single else np.float64)
            if self._rows_are_genes:
                super().__init__(path, self._values, ids, {}, columns, dtype)
            else:
                super().__init__(path, ids, self._values, columns, gene_metadata(known, self._values), dtype)

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if self._rows_are_genes:
            return self._table(columns, rows).T
        return self._table(rows, columns)

    def _table(self, lines: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Lines and columns, some columns at a time, so that little of a row group is in memory, however large."""
        result = np.empty((len(lines), len(columns)), dtype=self.dtype)
        order = np.argsort(lines, kind="stable")
        wanted = lines[order]
        groups = np.unique(np.searchsorted(self._starts, wanted, side="right") - 1)
        for left in range(0, len(columns), BAND_COLUMNS):
            names = [self._values[column] for column in columns[left : left + BAND_COLUMNS]]
            with self._one_at_a_time:  # what pyarrow reads ahead is for one reader
                for first, batch in chain.from_iterable(self._batches(group, names, wanted) for group in groups):
                    here = slice(*np.searchsorted(wanted, [first, first + batch.num_rows]))
                    for place, name in enumerate(names, left):
                        values = numbers_of(batch.column(name))
                        result[as_slice(order[here]), place] = values[as_slice(wanted[here] - first)]
        return result

    def _batches(self, group: int, names: list[str], wanted: np.ndarray) -> Iterator[tuple[int, Any]]:
        """A row group up to its last wanted line, some at a time: the first line of each, and columns."""
        first, end = (int(start) for start in self._starts[group : group + 2])
        last = int(wanted[np.searchsorted(wanted, end) - 1])
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[int(group)], columns=sorted(set(names))):
            yield first, batch
            first += batch.num_rows
            if first > last:
                return
        raise ExpressionFileError(f"{self.path}: got {first} rows, but expected {end}. Get the file again.")

    def _close(self) -> None:
        self._file.close()


class ParquetWriter(ExpressionWriter):
    """Writes Parquet as pandas does: a profile per row, its id as the index, metadata before expression."""

    format = "Parquet"

    def _open(self) -> None:
        pa, parquet = arrow(self.path)
        fields = [(PROFILE_ID, pa.string())]
        for name, column in self.profile_metadata.items():
            fields.append((name, arrow_type(pa, column)))
        fields += [(name, pa.float32()) for name in self.gene_ids]
        taken = [name for name, times in Counter(name for name, _ in fields).items() if times > 1]
        if taken:
            raise ValueError(
                f"Got {listed(taken)} more than once as the name of a gene, of metadata or of the ids (which are "
                f"called {PROFILE_ID!r}), and {self.path.name} would have them as columns of one table. Rename them."
            )
        known = {
            "profile_metadata": list(self.profile_metadata),
            "gene_ids": list(self.gene_ids) if self.gene_metadata else [],
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


def open_parquet(parquet: ModuleType, path: Path) -> Any:
    """A file of which no more is read at a time than what is needed."""
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)


def arrow_type(pa: ModuleType, column: np.ndarray) -> Any:
    """The type that a column of metadata is stored as."""
    if column.dtype.kind != "O":
        return pa.from_numpy_dtype(column.dtype)
    kind = kind_of(column)
    if kind == "i":
        return pa.uint64() if is_unsigned(column) else pa.int64()
    return pa.bool_() if kind == "b" else pa.string()


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


def is_numeric(pa: ModuleType, kind: Any) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def expression_columns(
    names: Sequence[str], numeric: set[str], empty: set[str], told: Collection[str], *, of_genes: bool
) -> list[int]:
    """Which columns are expression: those of numbers, and beyond the first of these such as hold no value at all."""

    def is_text(place: int, leads: bool) -> bool:
        return names[place] not in numeric and (leads or names[place] not in empty)

    described = set(describing(names, is_text, told, of_genes=of_genes))
    return [place for place in range(len(names)) if place not in described]


def numbers_of(column: Any) -> np.ndarray:
    """A column of expression as NumPy's numbers, which has no decimal ones; missing values are NaN."""
    from pyarrow.types import is_decimal, is_null

    if is_decimal(column.type) or is_null(column.type):
        column = column.cast("float64")
    return column.to_numpy(zero_copy_only=False)


def gene_metadata(known: dict[str, Any], gene_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """What :class:`ParquetWriter` has stored of the genes, which others may have selected and ordered; else None."""
    places = {gene: place for place, gene in enumerate(known.get("gene_ids", ()))}
    columns = {}
    for name, stored in known.get("gene_metadata", {}).items() if places else ():
        values = [stored[places[gene]] if gene in places else None for gene in gene_ids]
        if all(isinstance(value, int | float) for value in values):
            columns[name] = np.array(values)
            continue
        column = np.array([*values, None], dtype=object)[:-1]
        numbers = as_numbers(column)
        columns[name] = column if numbers is None else numbers
    return columns


def column_values(column: Any) -> np.ndarray:
    """Numbers and booleans as they are, anything else as text; missing values are NaN and None."""
    from pyarrow.types import is_boolean, is_integer

    if is_boolean(column.type) or is_integer(column.type):
        filled = column.fill_null(False if is_boolean(column.type) else 0)
        return with_missing(filled.to_numpy(), column.is_null().to_numpy())
    values = column.to_numpy()
    if values.dtype.kind in "iufb":
        return np.asarray(values)
    result = np.empty(len(values), dtype=object)
    result[:] = [None if value is None else str(value) for value in column.to_pylist()]
    return result
