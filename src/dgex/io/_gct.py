"""GCT 1.2 and 1.3: text, a gene per line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dgex.io._source import LARGEST_EXPANSION, ExpressionFile, ExpressionFileError
from dgex.io._text import TextTable, fitted, next_line, open_lines, split, text_of, typed

# How the formats of the Connectivity Map write that there is no value.
NULL = "-666"
NULLS = frozenset({NULL, ""})

# How the header of the GTEx project's files by tissue begins, which number the genes before naming them.
NUMBERED = b"id\tName\t"

NUMBERS_OF_HEADER = {"#1.2": 2, "#1.3": 4}


class GCTFile(ExpressionFile):
    """A GCT file; the numbers of the genes asked for are read from it each time."""

    _goes_through = True

    def __init__(self, path: Path):
        version, sizes, names, of_profiles = read_header(path)
        n_genes, n_profiles, n_gene_columns, n_profile_columns = sizes
        self.format = f"GCT {version[1:]}"
        first = 1 + n_gene_columns
        self._table = TextTable(path, 3 + n_profile_columns, names, np.arange(first, first + n_profiles))
        if len(self._table.ids) != n_genes:
            raise ExpressionFileError(
                f"{path}: got {len(self._table.ids)} lines of genes, but its header says {n_genes}. Is it complete?"
            )
        if version == "#1.2" and names[:2] == NUMBERED.decode().split():
            self._table.ids = self._table.metadata.pop("Name")
        super().__init__(
            path,
            profile_ids=[name.strip() for name in names[first:]],
            gene_ids=self._table.ids,
            profile_metadata={fields[0]: typed(fields[first:], NULLS) for fields in of_profiles},
            gene_metadata={name: typed(column, NULLS) for name, column in self._table.metadata.items()},
            dtype=np.dtype(np.float32),
        )

    def _read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self._table.read(columns, rows, self.dtype).T


def read_header(path: Path) -> tuple[str, tuple[int, int, int, int], list[str], list[list[str]]]:
    """Version, sizes (genes, profiles, gene metadata, profile metadata), names of all fields, profile metadata."""
    with open_lines(path) as file:
        version = text_of(next_line(file, path)).strip()
        if version not in NUMBERS_OF_HEADER:
            raise ExpressionFileError(f"{path}: got GCT version {version[:20]!r}, but expected #1.2 or #1.3.")
        words = text_of(next_line(file, path)).split()
        if len(words) != NUMBERS_OF_HEADER[version] or not all(word.isascii() and word.isdigit() for word in words):
            raise ExpressionFileError(
                f"{path}: got {' '.join(words)[:50]!r} in line 2, but expected {NUMBERS_OF_HEADER[version]} whole "
                "numbers, the sizes of the table."
            )
        n_genes, n_profiles, n_gene_columns, n_profile_columns = (*map(int, words), 1, 0)[:4]
        require_plausible(path, n_genes, n_profiles, n_gene_columns, n_profile_columns)
        line = next_line(file, path)
        n_gene_columns += version == "#1.2" and line.startswith(NUMBERED)
        names = fields_of(line, path, 3, 1 + n_gene_columns + n_profiles)
        of_profiles = [
            fields_of(next_line(file, path), path, 4 + index, len(names)) for index in range(n_profile_columns)
        ]
    if len({fields[0] for fields in of_profiles}) < n_profile_columns:
        raise ExpressionFileError(f"{path}: got lines of metadata with the same name, but expected each once.")
    return version, (n_genes, n_profiles, n_gene_columns, n_profile_columns), names, of_profiles


def fields_of(line: bytes, path: Path, number: int, n_fields: int) -> list[str]:
    """The fields of a line of the header; an error if there are not as many as expected."""
    fields = fitted(split(text_of(line), "\t", quoted=False), n_fields)
    if len(fields) != n_fields:
        raise ExpressionFileError(
            f"{path}, line {number}: got {len(fields)} fields, but expected {n_fields} by the sizes in line 2."
        )
    return fields


def require_plausible(path: Path, n_genes: int, n_profiles: int, n_gene_columns: int, n_profile_columns: int) -> None:
    """Raise if the file is too small for what its header announces, before anything is made for that."""
    fields = (n_genes + n_profile_columns + 1) * (n_profiles + n_gene_columns + 1)
    if n_genes == 0 or n_profiles == 0:
        raise ExpressionFileError(f"{path}: got {n_genes} genes and {n_profiles} profiles, but expected some of both.")
    if fields > LARGEST_EXPANSION * path.stat().st_size:
        raise ExpressionFileError(
            f"{path}: its header announces {n_genes} genes of {n_profiles} profiles, which its {path.stat().st_size} "
            "bytes cannot hold. Is it complete?"
        )
