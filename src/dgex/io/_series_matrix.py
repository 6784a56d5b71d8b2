"""Series matrices of GEO: lines that begin with "!" describe the series and its samples; a table of genes follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np

from dgex.io._source import ExpressionFile, ExpressionFileError
from dgex.io._text import MISSING_TEXT, TextTable, fitted, next_line, open_lines, split, text_of, typed

BEGINNING, END = b"!series_matrix_table_begin", b"!series_matrix_table_end"

# How lines begin that describe the samples, one field for each.
OF_SAMPLES = b"!Sample_"

# What these lines are called that say "key: value", as many as there are keys.
CHARACTERISTICS = "characteristics"


class SeriesMatrixFile(ExpressionFile):
    """A series matrix of GEO; the numbers of the genes asked for are read from it each time."""

    format = "GEO series matrix"
    _goes_through = True

    def __init__(self, path: Path):
        names, of_samples, n_header_lines = read_description(path)
        self._table = TextTable(path, n_header_lines, names, np.arange(1, len(names)), quoted=True, last_line=END)
        if not self._table.ids:
            raise table_is_empty(path)
        metadata = {name: typed(column, MISSING_TEXT) for name, column in sample_columns(of_samples).items()}
        super().__init__(path, names[1:], self._table.ids, metadata, {}, np.dtype(np.float32))

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self._table.read(columns, rows, self.dtype).T


def read_description(path: Path) -> tuple[list[str], list[list[str]], int]:
    """Names of the table's columns, the fields of lines about samples, and the number of lines before the rows."""
    of_samples: list[list[str]] = []
    n_lines = 2
    with open_lines(path) as file:
        while not (line := next_line(file, path)).startswith(BEGINNING):
            if not line:
                raise ExpressionFileError(
                    f"{path} begins like a series matrix of GEO, but has no line {BEGINNING.decode()!r}. Get the file "
                    "again, or remove the lines that begin with '!' if it is another table."
                )
            if line.startswith(OF_SAMPLES):
                of_samples.append(split(text_of(line), "\t", quoted=True))
            n_lines += 1
        names = [name.strip() for name in split(text_of(next_line(file, path)), "\t", quoted=True)]
    if len(names) < 2:
        raise table_is_empty(path)
    for fields in of_samples:
        if len(fitted(fields, len(names))) != len(names):
            raise ExpressionFileError(
                f"{path}: got {len(fields) - 1} fields in the line {fields[0]!r}, but expected one for each of "
                f"{len(names) - 1} samples. Is the file complete?"
            )
    return names, of_samples, n_lines


def table_is_empty(path: Path) -> ExpressionFileError:
    """What is wrong with a series that was not measured by arrays."""
    return ExpressionFileError(
        f"{path}: its table is empty, as those of series are whose expression is in supplementary files. Get these "
        "instead."
    )


def sample_columns(lines: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """What is said of the samples by name; characteristics by their key where all samples have the same."""
    columns: dict[str, list[str]] = {}
    for first, *values in lines:
        name = first.removeprefix(OF_SAMPLES.decode())
        pairs = [value.partition(": ") for value in values]
        keys = {key for key, _, _ in pairs if key}
        if name.startswith(CHARACTERISTICS) and len(keys) == 1 and all(colon for key, colon, _ in pairs if key):
            name, values = keys.pop(), [value for _, _, value in pairs]
        numbered = chain([name], (f"{name} {number}" for number in count(2)))
        columns[next(label for label in numbered if label not in columns)] = values
    return columns
