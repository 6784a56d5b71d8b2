"""The beginning of a table in text: what separates its fields, what its columns are called, and its first rows."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dgex._validation import listed
from dgex.io._identifiers import looks_like_id, names_ids
from dgex.io._source import ExpressionFileError
from dgex.io._text import fitted, is_missing_text, is_number, next_line, open_lines, split, text_of

DELIMITERS = "\t,;"

DIGITS = re.compile(r"\d+")

# Rows that are looked at to tell numbers from annotation, and what separates them.
N_SAMPLED = 20


class Header(NamedTuple):
    """What a table says before its rows.

    Parameters
    ----------
    names : list of str
        Names of all columns, without spaces around them; the first is that of the ids.
    sample : list of list of str
        The fields of the first rows.
    n_lines : int
        Lines before the first row.
    delimiter : str
        What separates fields.
    """

    names: list[str]
    sample: list[list[str]]
    n_lines: int
    delimiter: str


def read_header(path: Path) -> Header:
    """Find the line that names the columns, and what separates the fields of the rows after it."""
    with open_lines(path) as file:
        n_lines, comment = 1, ""
        while (line := next_line(file, path).removeprefix(BOM_UTF8)).startswith(b"#") or line.strip() == b"":
            if not line:
                raise ExpressionFileError(f"{path} holds no table: got comments or blank lines only.")
            n_lines += 1
            comment = text_of(line) if line.startswith(b"#") else comment
        header, lines = text_of(line), []
        if is_header_of(comment, header):
            header, lines, n_lines = comment[1:].lstrip(), [header], n_lines - 1
        following = map(text_of, iter(lambda: next_line(file, path), b""))
        lines += islice(filter(str.strip, following), N_SAMPLED - len(lines))
    delimiter = delimiter_of(header, lines)
    if delimiter is None:
        raise ExpressionFileError(
            f"{path}: got {header[:50]!r} as the header, but expected names separated by tabs, commas or semicolons."
        )
    sample = [split(line, delimiter, quoted=True) for line in lines]
    names = [name.strip() for name in split(header, delimiter, quoted=True)]
    if sample and len(sample[0]) == len(names) + 1:
        filled_up = are_filled_up(path, names, sample)
        names = names if filled_up else ["", *names]  # as R writes row names
    while len(names) > 1 and not names[-1]:
        names.pop()
    require_header(path, names)
    return Header(names, sample, n_lines, delimiter)


def are_filled_up(path: Path, names: Sequence[str], sample: Sequence[Sequence[str]]) -> bool:
    """Whether rows have a field more than the header for nothing, and not for ids that it does not name."""
    one_of_several = len({DIGITS.sub("", name) for name in names[:2]}) < len(names[:2])  # "s1" beside "s2"
    if any("".join(row[len(names) :]) for row in sample) or looks_like_id(names[0]) or one_of_several:
        return False
    if names[0] and not names_ids(names[0]):
        raise ExpressionFileError(
            f"{path}: rows have one field more than the header, and nothing in it. Is {names[0]!r} what the first "
            "column is called, or does the header leave that out? Call it 'gene' or 'sample', and end no row with "
            "a separator."
        )
    return True


def delimiter_of(header: str, lines: Sequence[str]) -> str | None:
    """What separates names, outside of quotation marks, and makes as many fields of most lines: a tab before others."""
    n_names = {delimiter: len(split(header, delimiter, quoted=True)) for delimiter in DELIMITERS}

    def merit(delimiter: str) -> tuple[bool, bool, int]:
        expected = n_names[delimiter]
        n_fields = (len(fitted(split(line, delimiter, quoted=True), expected)) for line in lines)
        n_alike = sum(number in (expected, expected + 1) for number in n_fields)  # one more, as R writes row names
        return n_alike > len(lines) / 2, delimiter == "\t", expected

    return max((delimiter for delimiter in DELIMITERS if n_names[delimiter] > 1), key=merit, default=None)


def is_header_of(comment: str, line: str) -> bool:
    """Whether a line that begins with "#" names the fields of the line that follows it, which is no header itself."""
    names_line = comment[1:].strip()
    delimiter = delimiter_of(names_line, [line])
    if delimiter is None:
        return False
    names = split(names_line, delimiter, quoted=True)
    fields = fitted(split(line, delimiter, quoted=True), len(names))
    has_numbers = any(is_number(field) and not is_missing_text(field) for field in fields[1:])
    first, of_line = names[0].strip(), fields[0].strip()
    is_named, is_header = names_ids(first), of_line == "" or names_ids(of_line)
    return bool(len(fields) == len(names) and has_numbers and is_named and not is_header)


def require_header(path: Path, names: Sequence[str]) -> None:
    """Raise if the names are the first row of a table that has no header: an id and numbers."""
    corner, *others = names
    if others and looks_like_id(corner) and all(map(is_number, others)):
        raise ExpressionFileError(
            f"{path}: got {corner!r} and numbers ({listed(others)}) in the first line, but expected names of columns. "
            "It has no header: add a line that names the ids and each profile or gene, such as 'gene' and 'sample 1'."
        )
