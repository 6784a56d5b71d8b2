"""Genes that are named on the command line, found in files."""

from __future__ import annotations

import gzip
from codecs import BOM_UTF8
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from dgex._validation import listed
from dgex.io import ExpressionFile, ExpressionFileError, open_expression
from dgex.io._delimited import PROFILE_ID
from dgex.io._header import DELIMITERS
from dgex.io._identifiers import CALLED_GENES, CALLED_PROFILES, names_ids
from dgex.io._open import has_layers, is_gct
from dgex.io._source import damage_explained
from dgex.io._text import GZIP, is_missing_text, is_number, split
from dgex.preprocessing import find_genes

# Larger files are not lists of genes.
LARGEST_LIST = 2**24


def gene_list(path: str, *, rows: str = "auto", metadata: Sequence[str] = ()) -> np.ndarray:
    """Names of genes: one in each line of a file, or all those of a file of expression, which is read as told."""
    lines = lines_of(path)
    names = None if lines is None else lone_fields(lines)
    if names is None and lines is not None and rows != "profiles":
        names = first_column(lines)
    if names is not None:
        return named_genes(path, names)
    try:
        with opened_beside(path, rows=rows, metadata=metadata, layer=None) as expression:
            require_named_columns(expression)
            return expression.gene_ids
    except ExpressionFileError as error:
        raise ExpressionFileError(
            f"{error} (A list of genes has one name in each line, or a header such as 'gene', 'number'.)"
        ) from error


def lines_of(path: str) -> list[str] | None:
    """Lines of text but for comments, decompressed if need be; None if the file is something else."""
    with damage_explained(Path(path)), Path(path).open("rb") as file:
        content = file.read(LARGEST_LIST)  # once, since it may be a pipe
        if content.startswith(GZIP) and len(content) < LARGEST_LIST:
            content = gzip.GzipFile(fileobj=BytesIO(content)).read(LARGEST_LIST)
    if len(content) == LARGEST_LIST or b"\0" in content or is_gct(content.removeprefix(BOM_UTF8)):
        return None
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}. Save it as UTF-8.") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def lone_fields(lines: Sequence[str]) -> list[str] | None:
    """The only field of each line, without quotation marks; None if a line has several."""
    fields = [[split(line.strip(), delimiter, quoted=True) for delimiter in DELIMITERS] for line in lines]
    if any(len(parts) > 1 for line in fields for parts in line):
        return None
    return [line[0][0] for line in fields]


def first_column(lines: Sequence[str]) -> list[str] | None:
    """The first column of a table of text whose header calls it genes; None if lines are something else."""
    for delimiter in DELIMITERS:
        header, *rows = [split(line, delimiter, quoted=True) for line in lines]
        further = (field for row in rows for field in row[1:] if not is_missing_text(field))
        if len(header) > 1 and calls_genes(header[0]) and not any(map(is_number, further)):
            return [row[0].strip() for row in rows if row[0].strip()]
    return None


def calls_genes(name: str) -> bool:
    """Whether a column is called like one of the ids of genes, and not of profiles."""
    return names_ids(name) and CALLED_GENES.search(name) is not None and CALLED_PROFILES.search(name) is None


def require_named_columns(expression: ExpressionFile) -> None:
    """Raise if what names the columns of a table is rather the first line of a list: a gene and a number."""
    corner, columns = expression.rows_called, expression.profile_ids
    if corner and not names_ids(corner) and len(columns) == 1 and is_number(columns[0]):
        raise ExpressionFileError(
            f"{expression.path}: got {corner!r} and {columns[0]!r} in the first line, but expected names of columns. "
            "It has no header: add one, such as 'gene' and 'number', or leave the genes only."
        )


def opened_beside(path: str, *, rows: str, metadata: Sequence[str], layer: str | None) -> ExpressionFile:
    """Open a file beside the one that the options are about: what dgex has written itself needs none of them.

    The layer is that of a format with layers; of another, the only matrix is read.
    """
    layer = layer if layer is not None and has_layers(Path(path)) else None
    try:
        file = open_expression(path, rows=rows, metadata=metadata, layer=layer)
        if rows != "genes" or file.rows_called != PROFILE_ID:
            return file
        file.close()
    except ValueError:
        if not metadata:
            raise
        with open_expression(path, rows=rows, layer=layer) as file:
            if file.rows_called != PROFILE_ID:
                raise
    return open_expression(path, rows="profiles", layer=layer)


def named_genes(path: str, lines: list[str]) -> np.ndarray:
    """The genes of a list, one in each line."""
    genes = np.array(lines, dtype=object)
    if not len(genes):
        raise ValueError(f"{path} names no genes. Write one in each line.")
    n_repeated = len(genes) - len(set(genes))
    if n_repeated:
        raise ValueError(f"{path} names {n_repeated} genes more than once. Remove the repetitions.")
    return genes


def columns_of(file: ExpressionFile, genes: np.ndarray, what: str) -> np.ndarray:
    """Where genes are in a file; an error that names those that are not there."""
    columns = find_genes(genes, file.gene_ids)
    absent = genes[columns < 0]
    if len(absent):
        raise ValueError(
            f"{len(absent)} of {len(genes)} {what} are not in {file.path}: {listed(absent)}. Its genes are called "
            f"{listed(file.gene_ids[:3])}. Name them as the file does, or leave them out."
        )
    return columns
