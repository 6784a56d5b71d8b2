"""What ids look like, and what the columns of a table are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from dgex._validation import counted, listed, warn_user
from dgex.io._source import ExpressionFileError

# What identifiers look like.
GENES = re.compile(r"ENS[A-Z]*[GTP]\d{6,}|.+_at$|ILMN_\d+|[NX][MR]_\d+|b\d{4}$")
PROFILES = re.compile(r"GSM\d+|[SED]RR\d+|NA\d{5}|HG\d{5}|TCGA-|GTEX-")

# Numbers that are expression rather than ids: "2.1" may be a patient and a visit.
EXPRESSION = re.compile(r"-?\d+\.\d{3,}(e[-+]?\d+)?", re.IGNORECASE)

# What the first column is called in files whose rows are genes, or profiles.
CALLED_GENES = re.compile(r"gene|probe|symbol|target|ensembl|transcript|feature", re.IGNORECASE)
CALLED_PROFILES = re.compile(r"sample|profile|cell|barcode|subject|patient|individual|run", re.IGNORECASE)

# What the column of identifiers is called, rather than a sample ("sample 1" is not such a name).
ID_NAME = re.compile(
    r"(\W|_|(gene|probe|probeset|symbol|target|ensembl|entrez|hugo|uniprot|transcript|mirna|orf|locus|feature|otu|element"
    r"|sample|profile|cell|line|barcode|subject|patient|individual|run|id|ref|name|tag|accession|version|stable|set"
    r"|composite)s?(?![a-z]{3}))+",
    re.IGNORECASE,
)

# Between words that are written together, as in "GeneSymbol" and "EnsemblGeneID".
WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# What columns of numbers are called that describe genes, in small letters and without anything between words: where a
# gene lies, how long it is, its content of GC, and its number in a database.
ANNOTATION = re.compile(
    r"(chr|chrom|chromosome)(scaffold)?(name|id|number|no)?|seq(name|names|id)|contig"
    r"|(chr|chrom|chromosome|gene|transcript|tx|cds|exon|probe|genomic)?"
    r"(start|end|stop|(start|end)?(pos|position|coord|coordinates?)|strand|width|tss)(bp)?"
    r"|(gene|transcript|tx|cds|exon|exonic|eff|effective|union|merged|mean|median|max|total)*length(bp|includingutrsandcds)?"
    r"|(gene|transcript|tx|cds|exon|exonic|eff)len"
    r"|(percent|percentage|pct)?(gene)?gc(content|percent|percentage|pct)?"
    r"|(ncbi|entrez|locuslink|locus|gene|formerly|hgnc|probe|probeset|transcript|cluster)+id|(ncbi|entrez)(gene)?(number)?"
)


def names_ids(name: str) -> bool:
    """Whether a column is called like one of identifiers."""
    return any(ID_NAME.fullmatch(words) for words in (name, WORD_BEGINS.sub(" ", name)))


def looks_like_id(name: str) -> bool:
    """Whether this is the id of a gene or of a profile, as far as that can be seen."""
    return bool(GENES.match(name) or PROFILES.match(name))


def describes_genes(name: str) -> bool:
    """Whether a column is called like those that describe genes, though they may hold numbers."""
    return ANNOTATION.fullmatch(re.sub(r"[\W_]", "", name.lower())) is not None


def describing(
    names: Sequence[str], is_text: Callable[[int, bool], bool], told: Collection[str], *, of_genes: bool
) -> list[int]:
    """Which columns beside the ids are metadata: those told, those of text, and leading ones that describe genes.

    Parameters
    ----------
    names : sequence of str
        What the columns are called.
    is_text : callable
        Whether a column, by its position, holds text; told whether it may lead the table: nothing but metadata comes
        before it, and it is not called like a profile or a gene.
    told : collection of str
        Names of columns that are metadata whatever they hold.
    of_genes : bool
        Whether rows are genes, which numbers before the expression may describe. Where rows are profiles, columns of
        such names are genes.
    """
    found: list[int] = []
    for index, name in enumerate(names):
        leads = len(found) == index and not looks_like_id(name)
        if name in told or is_text(index, leads) or (leads and of_genes and describes_genes(name)):
            found.append(index)
    return found


def require_columns(path: Path, told: Sequence[str], names: Sequence[str]) -> None:
    """Raise if a column that was told to be metadata is not there."""
    unknown = [name for name in told if name not in names]
    if unknown:
        raise ValueError(f"Got metadata={listed(unknown)}, but expected columns of {path.name}: {listed(names)}.")


def warn_of_text_among(
    path: Path, names: Sequence[str], values: Sequence[int] | np.ndarray, told: Collection[str]
) -> None:
    """Warn of columns between those of expression that are taken for metadata, though nobody has said so."""
    others = set(range(values[0], values[-1])).difference(values)
    among = [names[index] for index in sorted(others) if names[index] not in told]
    if among:
        warn_user(
            f"{path.name} has {counted(len(among), 'column')} without numbers among those of expression, taken for "
            f"metadata: {listed(among)}. Name them in metadata=[...] if they are; correct the file if not."
        )


def require_ids(path: Path, ids: Sequence[str], where: str) -> None:
    """Raise if these are numbers such as expression, which a table without ids, or without a header, has there."""
    if sum(bool(EXPRESSION.fullmatch(name)) for name in ids) > len(ids) / 2:
        raise ExpressionFileError(
            f"{path}: got numbers ({listed(ids[:3])}) in {where}, but expected ids. Write the table with the ids "
            "of its profiles and genes."
        )


def look_like_genes(row_ids: Sequence[str] | np.ndarray, column_ids: Sequence[str], corner: str) -> bool | None:
    """Whether rows are genes, by how identifiers look, or else by what the first column is called; None if unknown."""
    of_genes = share(GENES, row_ids) + share(PROFILES, column_ids)
    of_profiles = share(PROFILES, row_ids) + share(GENES, column_ids)
    if max(of_genes, of_profiles) >= 0.5 and of_genes != of_profiles:
        return of_genes > of_profiles
    called_genes, called_profiles = (bool(called.search(corner)) for called in (CALLED_GENES, CALLED_PROFILES))
    return called_genes if called_genes != called_profiles else None


def share(pattern: re.Pattern[str], ids: Sequence[str] | np.ndarray) -> float:
    """How many of the ids look like that."""
    return sum(bool(pattern.match(name)) for name in ids) / max(1, len(ids))
