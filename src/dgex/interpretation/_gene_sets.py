"""Gene sets in lists of genes, so that a hidden unit gets a name."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, hypergeom

from dgex._table import Table
from dgex._validation import listed
from dgex.interpretation._attribution import LandmarkAttribution
from dgex.interpretation._weights import HubUnit, HubUnits

# Of the largest effect of a landmark on a target: what is less is rounding.
SMALLEST_EFFECT = 1e-6

Sets = Mapping[str, Sequence[str]]


def gene_set_table(
    genes: HubUnit | HubUnits | LandmarkAttribution | Sequence[str],
    gene_sets: str | os.PathLike[str] | Sets,
    *,
    background: Sequence[str] | np.ndarray | None = None,
    symbols: Mapping[str, str] | None = None,
    n_top: int = 100,
    min_size: int = 5,
    max_size: int = 500,
) -> Table:
    """Which gene sets are over-represented in lists of genes.

    Parameters
    ----------
    genes : HubUnit, HubUnits, LandmarkAttribution or sequence of str
        The targets of one hidden unit or of each of several; of an attribution, for every landmark the `n_top` targets
        that depend on it most, of those that depend on it at all; or any list of genes.
    gene_sets : str, path-like or mapping of str to sequence of str
        A file in GMT format (a set in each line: name, description and genes, separated by tabs), or sets by name.
    background : sequence of str, default=None
        The genes that could have been in the lists; None for all targets of the network or of the attribution. Needed
        for a list of genes.
    symbols : mapping of str to str, default=None
        What the gene sets call the genes, such as symbols for Ensembl ids; None if they have the same names. Genes
        without an entry are left out of lists and background.
    n_top : int, default=100
        Targets of each landmark of an attribution.
    min_size, max_size : int, default=5, 500
        Sets with fewer or more genes in the background are left out: small ones say little, large ones nothing special.

    Returns
    -------
    table : Table
        A row for every list and set with a gene in common, the smallest p first: "list", "gene_set", "overlap",
        "set_size" and "list_size" (in the background), "fold" (overlap over that expected by chance), "p", "q", and
        "genes" (those in common).

    Notes
    -----
    The p-value is the hypergeometric probability of at least so large an overlap, if the genes of the list were drawn
    from the background at random. q is that of Benjamini and Hochberg [1]_ over all lists and all sets tested, those
    without an overlap included. Genes that the network infers alike are not independent draws: take small p-values for
    an order, not for probabilities.

    References
    ----------
    .. [1] Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and powerful approach to
       multiple testing. Journal of the Royal Statistical Society B 57(1), 289-300.

    Examples
    --------
    >>> from dgex.interpretation import gene_set_table
    >>> ribosome = {"ribosome": ["RPL3", "RPL4", "RPL5", "RPS2", "RPS3"]}
    >>> background = [*ribosome["ribosome"], *(f"OTHER{number}" for number in range(95))]
    >>> table = gene_set_table(["RPL3", "RPL4", "RPS2", "OTHER1"], ribosome, background=background)
    >>> print(table)
    list   gene_set  overlap  set_size  list_size  fold  p          q          genes
    -----  --------  -------  --------  ---------  ----  ---------  ---------  ----------------
    genes  ribosome  3        5         4          15    0.0002435  0.0002435  RPL3, RPL4, RPS2
    """
    sets = gene_sets if isinstance(gene_sets, Mapping) else read_gmt(gene_sets)
    rows: list[tuple[Any, ...]] = []
    draws: list[np.ndarray] = []  # of all tests: genes in common, in the background, in the set, in the list
    among, by_background = None, dict[frozenset[str], _TestedSets]()
    for name, members, possible in _gene_lists(genes, background, n_top):
        found = _translated(members, symbols)
        if not found:
            continue  # nothing to test
        if possible is not among:  # most lists have the background of the one before
            among, universe = possible, frozenset(_translated(possible, symbols))
            if universe not in by_background:
                by_background[universe] = _TestedSets(sets, universe, min_size, max_size)
            tested = by_background[universe]
        outside = found - tested.background
        if outside:
            raise ValueError(
                f"{len(outside)} genes of the list are not in the background: {listed(sorted(outside))}. The "
                "background has to hold every gene that could have been in the list."
            )
        overlaps, n_background = tested.overlaps(found), len(tested.background)
        for number in np.flatnonzero(overlaps):
            size, overlap, hits = tested.sizes[number], overlaps[number], found & tested.genes[number]
            fold = overlap * n_background / (size * len(found))
            rows.append((name, tested.titles[number], overlap, size, len(found), fold, hits))
        draws.append(np.stack(np.broadcast_arrays(overlaps, n_background, tested.sizes, len(found))))
    if not by_background:
        raise ValueError(
            "There is no list with a gene in it. "
            + (
                "Do symbols=... name the genes of the model?"
                if symbols is not None
                else "Of a network, no hidden unit may have major weights: lower n_std_in and n_std_out."
            )
        )
    of_all = np.concatenate(draws, axis=1)
    if not of_all.size:
        raise ValueError(
            f"None of the {len(sets)} gene sets has {min_size} to {max_size} genes of the background. Do they call "
            f"genes differently? They have {listed(_some_genes(sets))}. Pass symbols=..., or change min_size and "
            "max_size."
        )
    return _ordered(rows, _p_values(of_all), of_all[0] > 0)


class _TestedSets:
    """Gene sets within a background, those of a size that is tested."""

    def __init__(self, sets: Sets, background: frozenset[str], min_size: int, max_size: int) -> None:
        present = {title: background.intersection(map(str, members)) for title, members in sets.items()}
        present = {title: genes for title, genes in present.items() if min_size <= len(genes) <= max_size}
        self.background = background
        self.titles = list(present)
        self.genes = list(present.values())
        self.sizes = np.array([len(genes) for genes in self.genes], dtype=int)
        self._numbers_of: dict[str, list[int]] = {}
        for number, genes in enumerate(self.genes):
            for gene in genes:
                self._numbers_of.setdefault(gene, []).append(number)

    def overlaps(self, found: set[str]) -> np.ndarray:
        """How many of some genes are in each set."""
        numbers = [number for gene in found for number in self._numbers_of.get(gene, ())]
        return np.bincount(np.array(numbers, dtype=int), minlength=len(self.titles))


def read_gmt(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    r"""Read gene sets in GMT format.

    Parameters
    ----------
    path : str or path-like
        A file with a set in each line: name, description and genes, separated by tabs; compressed by gzip if it is
        called ".gz".

    Returns
    -------
    sets : dict of str to list of str
        Genes by the names of sets.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from dgex.interpretation import read_gmt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "sets.gmt")
    ...     _ = path.write_text("p53\tdamage response\tTP53\tMDM2\tCDKN1A\n")
    ...     read_gmt(path)
    {'p53': ['TP53', 'MDM2', 'CDKN1A']}
    """
    sets: dict[str, list[str]] = {}
    opened = gzip.open if Path(path).suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        lines = [line.rstrip("\r\n") for line in file]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        if len(rest) < 2:
            raise ValueError(
                f"{path}, line {number}: got {len(rest) + 1} fields, but expected a name, a description and genes, "
                "separated by tabs: the GMT format."
            )
        if name in sets:
            raise ValueError(f"{path}, line {number}: the gene set {name!r} is there twice. Rename or remove one.")
        sets[name] = [gene.strip() for gene in rest[1:] if gene.strip()]
    if not sets:
        raise ValueError(f"{path} has no gene sets.")
    return sets


def _gene_lists(
    genes: Any, background: Sequence[str] | np.ndarray | None, n_top: int
) -> Iterator[tuple[str, Sequence[str] | np.ndarray, Sequence[str] | np.ndarray]]:
    """A name, the genes, and those that they are among."""
    if isinstance(genes, str):
        raise TypeError(f"Got the text {genes!r}, but expected a list of genes.")
    if isinstance(genes, HubUnit):
        genes = HubUnits([genes])
    if isinstance(genes, Sequence) and len(genes) and all(isinstance(gene, HubUnit) for gene in genes):
        genes = HubUnits(genes)
    if isinstance(genes, HubUnits):
        for hub in genes:
            yield hub.name, hub.targets, hub.background if background is None else background
    elif isinstance(genes, LandmarkAttribution):
        if background is None and n_top >= len(genes.targets):
            raise ValueError(
                f"Got n_top={n_top} of {len(genes.targets)} targets, but expected fewer: the list of a landmark would "
                "be all there is. Pass a smaller n_top."
            )
        largest = float(genes.magnitude.max(initial=0.0))
        for landmark in genes.landmarks:
            strongest = genes.strongest_targets(landmark, n_top)
            depends = strongest["magnitude"] > SMALLEST_EFFECT * largest
            yield landmark, strongest["target"][depends], genes.targets if background is None else background
    elif background is None:
        raise ValueError("Got a list of genes without background=..., the genes that could have been in it.")
    else:
        yield "genes", genes, background


def _translated(genes: Sequence[str] | np.ndarray, symbols: Mapping[str, str] | None) -> set[str]:
    if symbols is None:
        return set(map(str, genes))
    found: list[Any] = [symbols.get(gene) for gene in genes]
    several = [gene for gene, symbol in zip(genes, found, strict=True) if np.ndim(symbol)]
    if several:
        raise ValueError(
            f"Got several symbols for {listed(several)}, but expected one for each gene: a dict, or a series in which "
            "no gene is repeated."
        )
    return {symbol for symbol in found if isinstance(symbol, str)}


def _some_genes(sets: Sets) -> list[str]:
    return list(next(iter(sets.values()), []))[:3]


def _p_values(draws: np.ndarray) -> np.ndarray:
    """Probabilities of at least so many genes in common, computed once for each of the different draws."""
    overlap, background, in_set, in_list = draws
    coded = np.stack([overlap, np.unique(background, return_inverse=True)[1], in_set, in_list])
    numbers = np.ravel_multi_index(coded, coded.max(axis=1) + 1)
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    overlap, background, in_set, in_list = draws[:, first]
    return hypergeom.sf(overlap - 1, background, in_set, in_list)[inverse]


def _ordered(rows: list[tuple[Any, ...]], p: np.ndarray, shown: np.ndarray) -> Table:
    """The rows, which are of the tests that are shown, the smallest p first; q is over all tests."""
    p, q = p[shown], false_discovery_control(p, method="bh")[shown]
    order = np.argsort(p, kind="stable")
    names = ("list", "gene_set", "overlap", "set_size", "list_size", "fold")
    columns = {name: np.array([rows[index][place] for index in order]) for place, name in enumerate(names)}
    shared = np.empty(len(order), dtype=object)
    for place, index in enumerate(order):
        shared[place] = tuple(sorted(rows[index][-1]))
    return Table({**columns, "p": p[order], "q": q[order], "genes": shared})
