"""Tables separated by tabs, commas or semicolons, with profiles or genes as rows."""

from __future__ import annotations

import gzip
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from io import BufferedIOBase
from itertools import chain, islice
from pathlib import Path

import numpy as np

from dgex._validation import listed
from dgex.io._destination import ExpressionWriter
from dgex.io._source import ExpressionFile, ExpressionFileError
from dgex.io._text import MISSING, TextTable, fitted, next_line, number_of, open_lines, split, text_of, typed

DELIMITERS = "\t,;"

# Lines that are looked at to tell numbers from annotation.
N_SAMPLED = 20

# Leading columns of these names describe genes, though they may hold numbers.
ANNOTATION = frozenset(
    {
        "chr",
        "chrom",
        "chromosome",
        "coord",
        "start",
        "end",
        "stop",
        "strand",
        "length",
        "entrez",
        "entrezid",
        "entrez_id",
        "gc",
        "gc_content",
        "gene_length",
    }
)

# How missing values of metadata are written.
MISSING_TEXT = frozenset({"", "NA", "NaN", "nan"})

# Level of gzip for tables, unless told: higher ones take longer and hardly save anything on numbers.
TEXT_COMPRESSION = 4

# What the first column is called where dgex has written the file: a profile per row, and nothing but expression.
PROFILE_ID = "profile_id"

# What the first column is called in files whose rows are genes, or profiles.
CALLED_GENES = re.compile(r"gene|probe|symbol|target|ensembl|transcript|feature", re.IGNORECASE)
CALLED_PROFILES = re.compile(r"sample|profile|cell|barcode|subject|patient|individual|run", re.IGNORECASE)

# What the column of identifiers is called, rather than a sample ("sample 1" is not such a name).
ID_NAME = re.compile(
    r"(\W|_|(gene|probe|symbol|target|ensembl|entrez|hugo|transcript|feature|otu|sample|profile|cell|barcode|subject|patient"
    r"|individual|run|id|ref|name|accession|version|stable|set)s?(?![a-z]{3}))+",
    re.IGNORECASE,
)

# Numbers that are expression rather than ids: "2.1" may be a patient and a visit.
EXPRESSION = re.compile(r"-?\d+\.\d{3,}(e[-+]?\d+)?", re.IGNORECASE)

# What there may be around a field.
SPACES = " \t\ufeff"

# What identifiers look like.
GENES = re.compile(r"ENS[A-Z]*[GTP]\d{6,}|.+_at$|ILMN_\d+|[NX][MR]_\d+|b\d{4}$")
PROFILES = re.compile(r"GSM\d+|[SED]RR\d+|NA\d{5}|HG\d{5}|TCGA-|GTEX-")


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
        names, sample, n_header_lines, delimiter = read_head(path)
        values = value_fields(path, names, sample, metadata)
        self._table = TextTable(path, n_header_lines, names, values, delimiter, quoted=True)
        if not self._table.ids:
            raise ExpressionFileError(f"{path}: got a header and no rows, but expected at least one.")
        columns = [names[index].strip() for index in values]
        self.rows_called = names[0].strip()
        self._rows_are_genes = rows_are_genes(path, rows, self.rows_called, self._table.ids, columns)
        require_ids(path, self._table.ids, f"the first column ({self.rows_called or 'without a name'})")
        require_ids(path, columns, "the first line")
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


def read_head(path: Path) -> tuple[list[str], list[list[str]], int, str]:
    """The names of all columns, the fields of the first rows, the number of lines before them, and the delimiter."""
    with open_lines(path) as file:
        n_header_lines, comment = 1, ""
        while (line := next_line(file, path).removeprefix(BOM_UTF8)).startswith(b"#") or line.strip() == b"":
            if not line:
                raise ExpressionFileError(f"{path} holds no table: got comments or blank lines only.")
            n_header_lines += 1
            comment = text_of(line) if line.startswith(b"#") else comment
        header = text_of(line)
        if is_header_of(comment, header):
            header, first_lines, n_header_lines = comment[1:].lstrip(), [line], n_header_lines - 1
        else:
            first_lines = []
        delimiter = max(DELIMITERS, key=header.count)
        if delimiter not in header:
            raise ExpressionFileError(
                f"{path}: got {header[:50]!r} as the header, but expected names separated by tabs, commas or "
                "semicolons."
            )
        lines = chain(first_lines, iter(lambda: next_line(file, path), b""))
        rows = (split(text_of(line), delimiter, quoted=True) for line in lines if line.strip())
        sample = list(islice(rows, N_SAMPLED))
    names = split(header, delimiter, quoted=True)
    if sample and len(sample[0]) == len(names) + 1:
        filled_up = ID_NAME.fullmatch(names[0].strip()) and not any("".join(row[len(names) :]) for row in sample)
        names = names if filled_up else ["", *names]  # as R writes row names
    while len(names) > 1 and not names[-1].strip():
        names.pop()
    return names, sample, n_header_lines, delimiter


def is_header_of(comment: str, line: str) -> bool:
    """Whether a line that begins with "#" names the fields of the line that follows it, which is no header itself."""
    delimiter = max(DELIMITERS, key=comment.count)
    names = split(comment[1:].strip(), delimiter, quoted=True)
    fields = fitted(split(line, delimiter, quoted=True), len(names))
    has_numbers = any(is_number(field) and field.strip().lower() not in MISSING for field in fields[1:])
    first, of_line = names[0].strip(), fields[0].strip()
    is_named, is_header = ID_NAME.fullmatch(first), of_line == "" or ID_NAME.fullmatch(of_line)
    return bool(len(fields) == len(names) > 1 and has_numbers and is_named and not is_header)


def value_fields(
    path: Path, names: Sequence[str], sample: Sequence[Sequence[str]], metadata: Sequence[str]
) -> np.ndarray:
    """Which columns are expression: those of numbers, but for the leading ones that describe.

    A column of numbers may have a cell that is none, which is an error once it is read. Beyond the first column of
    expression, one text over and over among numbers is a mark, which must not take a whole sample away.
    """
    unknown = [name for name in metadata if name not in names]
    if unknown:
        raise ValueError(f"Got metadata={listed(unknown)}, but expected columns of {path.name}: {listed(names)}.")

    def describes(index: int, marks: int = 0) -> bool:
        """Whether most cells are text, and not so few texts over and over that they are marks."""
        given = [row[index] for row in sample if index < len(row) and row[index].strip().lower() not in MISSING]
        texts = [cell for cell in given if not is_number(cell)]
        are_marks = len(set(texts)) <= marks and len(texts) < len(given)
        return names[index] in metadata or (len(texts) > len(given) / 2 and not are_marks)

    first = 1
    leading = frozenset() if names[0].strip() == PROFILE_ID else ANNOTATION
    while first < len(names) and (describes(first) or names[first].strip().lower() in leading):
        first += 1
    fields = [index for index in range(first, len(names)) if not describes(index, marks=1)]
    if not fields:
        raise ExpressionFileError(
            f"{path}: got {len(names)} columns and none of numbers, but expected an id and expression. Is it a table "
            "of expression, with a decimal point and not a comma?"
        )
    return np.array(fields)


def is_number(text: str) -> bool:
    """Whether a field is a number or missing."""
    try:
        number_of(text)
    except ValueError:
        return False
    return True


def require_ids(path: Path, ids: Sequence[str], where: str) -> None:
    """Raise if these are numbers such as expression, which a table without ids, or without a header, has there."""
    if sum(bool(EXPRESSION.fullmatch(name)) for name in ids) > len(ids) / 2:
        raise ExpressionFileError(
            f"{path}: got numbers ({listed(ids[:3])}) in {where}, but expected ids. Write the table with the ids "
            "of its profiles and genes."
        )


def rows_are_genes(
    path: Path, rows: str, corner: str, row_ids: Sequence[str] | np.ndarray, column_ids: Sequence[str]
) -> bool:
    """What the rows are: as told, or profiles if dgex wrote them, or by how identifiers or the first column look."""
    if rows != "auto":
        return rows == "genes"
    if corner == PROFILE_ID:
        return False
    of_genes = share(GENES, row_ids) + share(PROFILES, column_ids)
    of_profiles = share(PROFILES, row_ids) + share(GENES, column_ids)
    if max(of_genes, of_profiles) >= 0.5 and of_genes != of_profiles:
        return of_genes > of_profiles
    called_genes, called_profiles = (bool(called.search(corner)) for called in (CALLED_GENES, CALLED_PROFILES))
    if called_genes != called_profiles:
        return called_genes
    raise ExpressionFileError(
        f"{path}: cannot tell whether its rows ({listed(row_ids[:3])}) are genes or profiles, nor its columns "
        f"({listed(column_ids[:3])}). Pass rows='genes' or rows='profiles'."
    )


def share(pattern: re.Pattern[str], ids: Sequence[str] | np.ndarray) -> float:
    """How many of the ids look like that."""
    return sum(bool(pattern.match(name)) for name in ids) / max(1, len(ids))
