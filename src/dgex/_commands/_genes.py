"""Genes that are named on the command line, found in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgex._validation import listed
from dgex.io import ExpressionFile, ExpressionFileError, open_expression
from dgex.io._delimited import PROFILE_ID
from dgex.preprocessing import find_genes

# Larger files are not lists of genes.
LARGEST_LIST = 2**24


def gene_list(path: str, *, rows: str = "auto", metadata: Sequence[str] = ()) -> np.ndarray:
    """Names of genes: one in each line of a file, or all those of a file of expression, which is read as told."""
    content = Path(path).read_bytes() if Path(path).stat().st_size < LARGEST_LIST else b"\0"
    if not any(mark in content for mark in (b"\0", b"#1.", b"\x1f\x8b")):
        try:
            lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text in UTF-8: {error}. Save it as UTF-8.") from error
        lines = [line for line in lines if line and not line.startswith("#")]
        if not any(separator in line for line in lines for separator in "\t,;"):
            return named_genes(path, lines)
    try:
        with opened_beside(path, rows=rows, metadata=metadata, layer=None) as expression:
            return expression.gene_ids
    except ExpressionFileError as error:
        raise ExpressionFileError(f"{error} (A list of genes has one name in each line, and nothing else.)") from error


def opened_beside(path: str, *, rows: str, metadata: Sequence[str], layer: str | None) -> ExpressionFile:
    """Open a file beside the one that the options are about: what dgex has written itself needs none of them."""
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
