"""Tables separated by tabs, commas or semicolons, with profiles or genes as rows."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from dgex._validation import listed
from dgex.io._destination import ExpressionWriter
from dgex.io._header import Header, read_header
from dgex.io._identifiers import describing, look_like_genes, require_columns, require_ids, warn_of_text_among
from dgex.io._source import ExpressionFile, ExpressionFileError
from dgex.io._text import MISSING_TEXT, TextTable, is_missing_text, is_number, typed

# What the first column is called where dgex has written the file: a profile per row, and nothing but expression.
PROFILE_ID = "profile_id"

# Cells of a column that are looked at, over all of the file, to tell numbers from text.
N_CELLS = 1000

# Level of gzip for tables, unless told: higher ones take longer and hardly save anything on numbers.
TEXT_COMPRESSION = 4

# What there may be around a field.
SPACES = " \t\ufeff"


class DelimitedFile(ExpressionFile):
    """A delimited text file; the numbers asked for are read from it each time.

    Parameters
    ----------
    path : Path
        The file.
    rows : {"auto", "profiles", "genes"}
        What its rows are.
    metadata : sequence of str
        Columns that are not expression, besides those that are found out: text, and leading ones such as "Coord".
    """

    format = "delimited text"

    def __init__(self, path: Path, rows: str, metadata: Sequence[str]):
        header = read_header(path)
        require_columns(path, metadata, header.names)
        self.rows_called = header.names[0]
        values = value_fields(path, header, metadata)
        self._table = TextTable(
            path, header.n_lines, header.names, values, header.delimiter, quoted=True, can_be_told=True
        )
        if not self._table.ids:
            raise ExpressionFileError(f"{path}: got a header and no rows, but expected at least one.")
        self._rows_are_genes = told_by_all_rows(self._table, rows, metadata)
        self._goes_through = self._rows_are_genes or self._table.is_compressed
        columns = [header.names[index] for index in self._table.value_fields]
        if self.rows_called != PROFILE_ID:
            require_ids(path, self._table.ids, f"the first column ({self.rows_called or 'without a name'})")
            require_ids(path, columns, "the first line")
        warn_of_text_among(path, header.names, self._table.value_fields, metadata)
        described = {name: typed(column, MISSING_TEXT) for name, column in self._table.metadata.items()}
        dtype = np.dtype(np.float32)
        if self._rows_are_genes:
            super().__init__(path, columns, self._table.ids, {}, described, dtype)
        else:
            super().__init__(path, self._table.ids, columns, described, {}, dtype)

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        if self._rows_are_genes:
            return self._table.read(columns, rows, self.dtype).T
        return self._table.read(rows, columns, self.dtype)


class DelimitedWriter(ExpressionWriter):
    """Writes a table separated by tabs, a profile per row; ids and expression only."""

    format = "delimited text"

    @staticmethod
    def gives_back(name: str) -> bool:
        """Whether there are no spaces around an id and no control characters in it."""
        return name == name.strip(SPACES) and name.replace("\t", "").isprintable()

    def _open(self) -> None:
        raw = self.part.open("wb")
        # Without a name and a time in its header, the same table is the same file.
        self._file: BufferedIOBase = raw
        if self.name.lower().endswith(".gz"):
            self._file = gzip.GzipFile("", "wb", self.compression or TEXT_COMPRESSION, raw, mtime=0)
        self._raw = raw
        self._file.write("\t".join([PROFILE_ID, *map(plain, self.gene_ids)]).encode() + b"\n")

    def _write(self, X: np.ndarray) -> None:
        for name, profile in zip(self.profile_ids[self.n_written :], X, strict=False):
            numbers = profile.astype(str)  # the shortest that read back as the same number
            numbers[np.isnan(profile)] = "NA"
            self._file.write("\t".join([plain(name), *numbers]).encode() + b"\n")

    def _close(self) -> None:
        self._file.close()
        self._raw.close()


def plain(name: str) -> str:
    """A name as a field, in quotation marks where it would be mistaken for several."""
    return '"{}"'.format(name.replace('"', '""')) if any(mark in name for mark in '\t\n\r"') else name


def value_fields(path: Path, header: Header, told: Collection[str]) -> np.ndarray:
    """Which columns are expression, as far as the first rows tell, which may be genes."""
    names = header.names
    cells = {index: [row[index] for row in header.sample if index < len(row)] for index in range(1, len(names))}
    described = metadata_fields(names, cells, told, of_genes=names[0] != PROFILE_ID)
    fields = np.setdiff1d(np.arange(1, len(names)), described)
    if not len(fields):
        raise ExpressionFileError(
            f"{path}: got {len(names)} columns and none of numbers, but expected an id and expression. Is it a table "
            "of expression, with a decimal point and not a comma?"
        )
    return fields


def told_by_all_rows(table: TextTable, rows: str, told: Collection[str]) -> bool:
    """Whether rows are genes; of what the first rows made metadata, only what all rows do stays that."""
    names = table.names
    taken = np.setdiff1d(np.arange(1, len(names)), table.value_fields)
    cells = {index: table.metadata[names[index]][:: max(1, len(table.ids) // N_CELLS)] for index in taken}
    table.keep_metadata(metadata_fields(names, cells, told, of_genes=names[0] != PROFILE_ID))
    columns = [names[index] for index in table.value_fields]
    are_genes = rows_are_genes(table.path, rows, names[0], table.ids, columns)
    if not are_genes:
        table.keep_metadata(metadata_fields(names, cells, told, of_genes=False))
    return are_genes


def metadata_fields(
    names: Sequence[str], cells: Mapping[int, Sequence[str]], told: Collection[str], *, of_genes: bool
) -> list[int]:
    """Which columns describe, by their names and by cells of some of them; the others are expression.

    Before the first column of expression, one with more text than numbers is text, and so is one of nothing that may
    describe genes. Beyond, a single number makes it
    expression, so that no sample is lost for cells that are none: these are an error once they are read.
    """

    def is_text(index: int, leads: bool) -> bool:
        if index + 1 not in cells:
            return False
        given = [cell for cell in cells[index + 1] if not is_missing_text(cell)]
        n_numbers = sum(map(is_number, given))
        if leads:
            return n_numbers < len(given) / 2 or (of_genes and not given)
        return n_numbers == 0 < len(given)

    return [1 + index for index in describing(names[1:], is_text, told, of_genes=of_genes)]


def rows_are_genes(
    path: Path, rows: str, corner: str, row_ids: Sequence[str] | np.ndarray, column_ids: Sequence[str]
) -> bool:
    """What the rows are: as told, or profiles if dgex wrote them, or by how identifiers or the first column look."""
    if rows != "auto":
        return rows == "genes"
    if corner == PROFILE_ID:
        return False
    are_genes = look_like_genes(row_ids, column_ids, corner)
    if are_genes is None:
        raise ExpressionFileError(
            f"{path}: cannot tell whether its rows ({listed(row_ids[:3])}) are genes or profiles, nor its columns "
            f"({listed(column_ids[:3])}). Pass rows='genes' or rows='profiles'."
        )
    return are_genes
