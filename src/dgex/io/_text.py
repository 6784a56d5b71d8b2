"""Tables in text: lines of an id, metadata and numbers, plain or compressed by gzip.

Opening a table reads every line once, to know its ids and to count its fields; numbers are read when they are asked
for. Plain files are then read where the lines are; compressed ones again from the beginning.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from dgex.io._metadata import with_missing
from dgex.io._source import ExpressionFileError, OpenedFile, decoded

GZIP = b"\x1f\x8b"

# Longer lines are not those of a table of expression; they are not read into memory.
LONGEST_LINE = 2**26

# Bytes of lines whose numbers are read at a time.
BATCH_BYTES = 2**24

# Digits that are a name, not a number, such as "007".
PADDED = re.compile(r"-?0\d")

# How missing values are written, besides not at all.
MISSING = frozenset({"", "na", "nan", "-nan", "n/a", "#n/a", "null", "none"})

# How missing values of metadata are written.
MISSING_TEXT = frozenset({"", "NA", "NaN", "nan"})

# From here on, float32 rounds to infinity.
TOO_LARGE = 2.0**128 - 2.0**103


def open_lines(path: Path) -> BufferedIOBase:
    """A text file's bytes, decompressed if need be."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    return gzip.open(path, "rb") if compressed else path.open("rb")


def next_line(file: BufferedIOBase, path: Path) -> bytes:
    """The next line with its end; empty at the end of the file."""
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise ExpressionFileError(
            f"{path} has a line of more than {LONGEST_LINE} bytes: it is not a table of expression."
        )
    return line


def text_of(line: bytes) -> str:
    """A line as text, without its end: UTF-8, or Latin-1 where it is not."""
    return decoded(line.rstrip(b"\r\n"), "utf-8-sig")


def split(text: str, delimiter: str, *, quoted: bool) -> list[str]:
    """The fields of a line; quotation marks mean something in some formats only."""
    if quoted and '"' in text:
        with suppress(csv.Error):
            return next(csv.reader([text], delimiter=delimiter))
    return text.split(delimiter)


def fitted(fields: list[str], n_fields: int) -> list[str]:
    """Fields without the empty ones that spreadsheets fill lines up with."""
    while len(fields) > n_fields and not fields[-1]:
        fields.pop()
    return fields


def is_missing_text(text: str) -> bool:
    """Whether a field says that there is no value."""
    return text.strip().lower() in MISSING


def is_number(text: str) -> bool:
    """Whether a field is a number or missing."""
    try:
        number_of(text)
    except ValueError:
        return False
    return True


def number_of(text: str) -> float:
    """The number that a field holds, NaN if it is missing; ValueError for anything else."""
    text = text.strip()
    if is_missing_text(text):
        return float("nan")
    if "_" in text:
        raise ValueError(f"Got {text!r}, which Python takes for a number, but nothing else does.")
    return float(text)


@dataclass
class TextTable:
    """Where the numbers of a table in text are.

    Parameters
    ----------
    path : Path
        The file.
    n_header_lines : int
        Lines before the first with numbers.
    names : sequence of str
        Names of all fields of a line; the first is that of the ids.
    value_fields : ndarray of int
        Which fields are numbers, increasing; the others are metadata.
    delimiter : str
        What separates fields.
    quoted : bool
        Whether fields may stand in quotation marks.
    last_line : bytes
        How the line begins that ends the table, if the format has one.
    can_be_told : bool
        Whether callers can say which columns are metadata.
    """

    path: Path
    n_header_lines: int
    names: Sequence[str]
    value_fields: np.ndarray
    delimiter: str = "\t"
    quoted: bool = False
    last_line: bytes = b""
    can_be_told: bool = False
    ids: list[str] = field(default_factory=list)
    metadata: dict[str, list[str]] = field(default_factory=dict)
    is_compressed: bool = field(init=False)
    _starts: list[int] = field(default_factory=list)  # of the lines, in a plain file

    def __post_init__(self) -> None:
        self._opened = OpenedFile(self.path)
        with open_lines(self.path) as file:
            self.is_compressed = isinstance(file, gzip.GzipFile)
        others = np.setdiff1d(np.arange(1, len(self.names)), self.value_fields)
        self.metadata = {self.names[index]: [] for index in others}
        if len(self.metadata) < len(others):
            raise ExpressionFileError(
                f"{self.path}: got columns of metadata with the same name, but expected each once."
            )
        for number, start, line in self._lines():
            fields = self._fields(number, line)
            self.ids.append(fields[0].strip())
            self._starts.append(start)
            for index in others:
                self.metadata[self.names[index]].append(fields[index])

    def keep_metadata(self, fields: Iterable[int]) -> None:
        """Keep these columns of metadata; the others are numbers after all."""
        numbers = np.setdiff1d(np.arange(1, len(self.names)), list(fields))
        for index in np.setdiff1d(numbers, self.value_fields):
            del self.metadata[self.names[index]]
        self.value_fields = numbers

    def read(self, lines: np.ndarray, columns: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """The numbers of some lines and some of the value columns, shape (n_lines, n_columns)."""
        wanted, place = np.unique(lines, return_inverse=True)
        fields, order = np.unique(self.value_fields[columns], return_inverse=True)
        result = np.empty((len(wanted), len(fields)), dtype=dtype)
        done = 0
        for batch in self._batches(wanted):
            result[done : done + len(batch)] = self._numbers(batch, fields, dtype)
            done += len(batch)
        if done < len(wanted):
            raise ExpressionFileError(f"{self.path} has changed since it was opened: lines are missing. Open it again.")
        if np.array_equal(place, np.arange(len(lines))) and np.array_equal(order, np.arange(len(columns))):
            return result
        return result[np.ix_(place, order)]

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Number (from 1), start and bytes of each line with numbers; blank lines are passed over."""
        with open_lines(self.path) as file:
            self._opened.require_same(file)
            start = 0
            number = 0
            while line := next_line(file, self.path):
                number += 1
                if self.last_line and line.startswith(self.last_line):
                    return
                if number > self.n_header_lines and line.strip():
                    yield number, start, line
                start += len(line)
        if self.last_line:
            raise ExpressionFileError(
                f"{self.path} ends without the line {self.last_line.decode()!r}: it is truncated. Get the file again."
            )

    def _fields(self, number: int, line: bytes) -> list[str]:
        fields = fitted(split(text_of(line), self.delimiter, quoted=self.quoted), len(self.names))
        if len(fields) != len(self.names):
            raise ExpressionFileError(
                f"{self.path}, line {number}: got {len(fields)} fields, but expected {len(self.names)}, as its header "
                "has. Is the file complete, and is it separated by one and the same character?"
            )
        return fields

    def _batches(self, wanted: np.ndarray) -> Iterator[list[tuple[int, str]]]:
        """The wanted lines, by their position among the lines with numbers, some megabytes at a time."""
        batch: list[tuple[int, str]] = []
        size = 0
        for position, line in self._chosen_lines(wanted):
            batch.append((position, text_of(line)))
            size += len(line)
            if size > BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _chosen_lines(self, wanted: np.ndarray) -> Iterator[tuple[int, bytes]]:
        with open_lines(self.path) as file:
            self._opened.require_same(file)
            if not self.is_compressed:
                for position in wanted:
                    file.seek(self._starts[position])
                    yield position, next_line(file, self.path)
                return
        chosen = set(wanted)
        last = max(chosen, default=-1)
        for position, (_, _, line) in enumerate(self._lines()):
            if position in chosen:
                yield position, line
            if position >= last:
                return

    def _numbers(self, batch: list[tuple[int, str]], fields: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        if len(fields) == 0:
            return np.empty((len(batch), 0), dtype=dtype)
        texts = [text for _, text in batch]
        quote = '"' if self.quoted else None
        try:
            numbers: np.ndarray = np.loadtxt(
                texts, dtype, comments=None, delimiter=self.delimiter, usecols=fields.tolist(), ndmin=2, quotechar=quote
            )
        except (ValueError, IndexError):
            pass  # missing values, or something that is wrong: looked at one by one
        else:
            if numbers.shape == (len(batch), len(fields)):
                for row in np.flatnonzero(np.isinf(numbers).any(axis=1)):
                    numbers[row] = self._line_numbers(*batch[row], fields)  # where that is too large, an error
                return numbers
        return np.array([self._line_numbers(position, text, fields) for position, text in batch], dtype=dtype)

    def _line_numbers(self, position: int, text: str, fields: np.ndarray) -> list[float]:
        parts = split(text, self.delimiter, quoted=self.quoted)
        return [self._number(position, index, parts[index] if index < len(parts) else "") for index in fields]

    def _number(self, position: int, index: int, text: str) -> float:
        got = f"{self.path}: got {text.strip()[:50]!r} in row {self.ids[position]!r}, column {self.names[index]!r}"
        hint = f"; if the column is not expression, pass metadata=[{self.names[index]!r}]." if self.can_be_told else "."
        try:
            number = number_of(text)
        except ValueError:
            raise ExpressionFileError(
                f"{got}, but expected a number. Correct it, or leave it empty if it is missing{hint}"
            ) from None
        if abs(number) >= TOO_LARGE and "inf" not in text.lower():
            raise ExpressionFileError(
                f"{got}, but expected numbers below 3.4e38, which is all that float32 holds. Correct it{hint}"
            )
        return number


def typed(texts: Sequence[str], missing: frozenset[str] = frozenset()) -> np.ndarray:
    """A column of metadata: whole numbers, numbers, or text; missing numbers are NaN, missing text is None.

    Whole numbers that 64 bits do not hold are text, as are names of digits such as "007".
    """
    values = [None if text in missing else text for text in texts]
    present = [value for value in values if value is not None]
    for kind in () if any(map(PADDED.match, present)) else (int, float):
        try:
            numbers = [kind(value) for value in present]
        except (ValueError, OverflowError):
            continue
        if not present or any("_" in value or value != value.strip() for value in present):
            break
        if kind is int and not all(-(2**63) <= number < 2**63 for number in numbers):
            break
        missing_ones = np.array([value is None for value in values], dtype=bool)
        result = np.zeros(len(values), dtype=np.int64 if kind is int else np.float64)
        result[~missing_ones] = numbers
        return with_missing(result, missing_ones)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
