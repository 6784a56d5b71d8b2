"""Series matrices of GEO: lines that begin with "!" describe the series and its samples; a table of genes follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

import numpy as np

from dgex._validation import listed, warn_user
from dgex.io._source import ExpressionFile, ExpressionFileError
from dgex.io._text import MISSING_TEXT, TextTable, fitted, next_line, open_lines, split, text_of, typed

BEGINNING, END = b"!series_matrix_table_begin", b"!series_matrix_table_end"

# How lines begin that describe the samples, one field for each.
OF_SAMPLES = "!Sample_"

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
    described: list[str] = []
    n_lines = 2
    with open_lines(path) as file:
        while not (line := next_line(file, path)).startswith(BEGINNING):
            if not line:
                raise ExpressionFileError(
                    f"{path} begins like a series matrix of GEO, but has no line {BEGINNING.decode()!r}. Get the file "
                    "again, or remove the lines that begin with '!' if it is another table."
                )
            if line.startswith(b"!") or not described:
                described.append(text_of(line))
            else:  # a field that has several lines
                described[-1] += "\n" + text_of(line)
            n_lines += 1
        while (line := next_line(file, path)) and not line.strip():
            n_lines += 1
        names = [name.strip() for name in split(text_of(line), "\t", quoted=True)]
    if len(names) < 2:
        raise table_is_empty(path)
    of_samples = [text.strip() for text in described if text.startswith(OF_SAMPLES)]
    fields = {text: fields_of(text, len(names)) for text in of_samples}
    left_out = [text.partition("\t")[0] for text in of_samples if not fields[text]]
    if left_out:
        warn_user(
            f"{path.name}: {listed(left_out)} have not a field for each of {len(names) - 1} samples; they are left out."
        )
    return names, [fields[text] for text in of_samples if fields[text]], n_lines


def fields_of(text: str, n_fields: int) -> list[str]:
    """The fields of a line about the samples, in which there may be quotation marks without a meaning; or none."""
    for fields in (split(text, "\t", quoted=True), [field.strip('"') for field in text.split("\t")]):
        if len(fitted(fields, n_fields)) == n_fields:
            return fields
    return []


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
        name = first.removeprefix(OF_SAMPLES)
        pairs = [value.partition(": ") for value in values]
        keys = {key for key, _, _ in pairs if key}
        if name.startswith(CHARACTERISTICS) and len(keys) == 1 and all(colon for key, colon, _ in pairs if key):
            name, values = keys.pop(), [value for _, _, value in pairs]
        numbered = chain([name], (f"{name} {number}" for number in count(2)))
        columns[next(label for label in numbered if label not in columns)] = values
    return columns
