"""The table of genes of the Connectivity Map."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgex._validation import listed, require_unique

COLUMNS = "pr_gene_id", "pr_gene_symbol", "pr_is_lm"


@dataclass(frozen=True)
class GeneInfo:
    """The genes of the Connectivity Map's profiles, and which of them are landmarks.

    Parameters
    ----------
    gene_ids : ndarray of str
        Entrez ids, the names of the genes in the files of expression.
    symbols : ndarray of str
        Symbols of the genes.
    is_landmark : ndarray of bool
        Whether the assay L1000 measures the gene.
    """

    gene_ids: np.ndarray
    symbols: np.ndarray
    is_landmark: np.ndarray

    def __repr__(self) -> str:
        return f"GeneInfo({len(self.gene_ids)} genes, {self.is_landmark.sum()} landmarks)"


def read_gene_info(path: Path) -> GeneInfo:
    """Read a table of genes, separated by tabs, by the names of its columns."""
    with gzip.open(path, "rt", encoding="utf-8-sig") as text:
        # Not by the module csv: titles of genes have quotation marks that quote nothing.
        lines = [[field.strip('" ') for field in line.rstrip("\n").split("\t")] for line in text if line.strip()]
    header, *rows = lines or [[]]
    absent = [name for name in COLUMNS if name not in header]
    if absent:
        raise ValueError(f"got the columns {listed(header)}, but expected {', '.join(absent)} among them")
    n_broken = sum(len(row) != len(header) for row in rows)
    if n_broken or not rows:
        raise ValueError(f"got {len(rows)} genes, {n_broken} of them with other than {len(header)} columns")
    ids, symbols, marks = (np.array([row[header.index(name)] for row in rows], dtype=object) for name in COLUMNS)
    if not set(marks) <= {"0", "1"}:
        raise ValueError(f"got {listed(sorted(set(marks)))} in the column pr_is_lm, but expected 0 and 1")
    require_unique(ids, "gene")
    return GeneInfo(ids, symbols, marks == "1")
