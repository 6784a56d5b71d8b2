"""Genes chosen by name, by number or by a mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Any

import numpy as np

from dgex._validation import listed


def position_of(gene: Any, names: np.ndarray, what: str) -> int:
    """Where one gene, given by name or by number, is among names."""
    if gene is None or np.ndim(gene):
        raise ValueError(f"Got {gene!r}, but expected one of the {what}: a name or a number.")
    return int(positions_of(gene, names, what)[0])


def names_or_numbers(names: np.ndarray | None, size: int) -> np.ndarray:
    """Names, or numbers as text where there are none."""
    chosen = range(size) if names is None else names
    return np.array([str(name) for name in chosen], dtype=object)


def positions_of(genes: Any, names: np.ndarray, what: str) -> np.ndarray:
    """Where genes, given by name, by number or by a mask, are among names; None for all."""
    if genes is None:
        return np.arange(len(names))
    if isinstance(genes, Set):
        raise TypeError(f"Got a set of {what}, which is in no order. Pass a list.")
    mask = np.asarray(genes)
    if mask.ndim > 1:
        raise ValueError(f"Got {what} of {mask.ndim} dimensions, but expected a list of names or numbers.")
    if mask.dtype == object and mask.size and all(isinstance(gene, bool | np.bool_) for gene in mask.flat):
        mask = mask.astype(bool)
    if mask.dtype.kind == "b":
        if mask.shape != names.shape:
            raise ValueError(
                f"Got a mask of shape {mask.shape}, but expected one value for each of {len(names)} {what}."
            )
        return np.flatnonzero(mask)
    wanted = np.atleast_1d(np.asarray(genes, dtype=object))
    place = {name: index for index, name in enumerate(names)}
    numbers = range(len(names))

    def position(gene: Any) -> int | None:
        if not isinstance(gene, int | np.integer):
            return place.get(gene)
        named = place.get(str(gene))
        if gene not in numbers or named is None or named == gene:
            return int(gene) if gene in numbers else named
        raise ValueError(
            f"Got {gene}, which is the number of {names[gene]!r} and the name of another among the {what}. Pass the "
            f"name as text: {str(gene)!r}."
        )

    found = [position(gene) for gene in wanted]
    unknown = [gene for gene, position in zip(wanted, found, strict=True) if position is None]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(wanted)} {what} are unknown: {listed(unknown)}. There are {len(names)}, such as "
            f"{listed(names[:3])}; they can be given by name or by number."
        )
    if len(place) < len(names):
        counts = Counter(names)
        by_name = (gene for gene in wanted if not (isinstance(gene, int | np.integer) and gene in numbers))
        repeated = [gene for gene in by_name if counts[str(gene)] > 1]
        if repeated:
            raise ValueError(
                f"Got {listed(repeated)}, but several of the {what} are called that. Pass their numbers, or names that "
                "differ."
            )
    return np.array(found, dtype=np.intp)
