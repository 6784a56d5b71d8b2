"""Columns of metadata: what they hold, what is missing in them, and the categories that text may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dgex._frames import is_missing

# Whole numbers up to here are not of the larger, unsigned type.
LARGEST_SIGNED = 2**63 - 1

# Floats hold all whole numbers up to here.
LARGEST_EXACT = 2**53


def with_missing(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Numbers or booleans of which some are missing: NaN, or None where floats would change the others."""
    if not missing.any():
        return values
    known = values[~missing]
    rounded = values.dtype.kind in "iu" and len(known) and max(-int(known.min()), int(known.max())) > LARGEST_EXACT
    if values.dtype.kind == "b" or rounded:
        result = values.astype(object)
        result[missing] = None
        return result
    return np.where(missing, np.nan, values)


def with_categories(texts: Sequence[str | None], categories: Iterable[Any], *, ordered: bool) -> np.ndarray:
    """Text of which it is known which there are, and in which order; NumPy keeps that with the type of the array."""
    column = np.empty(len(texts), np.dtype(object, metadata={"categories": tuple(categories), "ordered": ordered}))
    column[:] = texts
    return column


def categories_of(column: np.ndarray) -> tuple[tuple[Any, ...], bool] | None:
    """The categories of a column of text and whether they are ordered; None if it has none."""
    known: Mapping[str, Any] = column.dtype.metadata or {}
    return (known["categories"], known["ordered"]) if "categories" in known else None


def kind_of(column: np.ndarray) -> str:
    """What a column of metadata holds, by NumPy's letters: of objects "b", "i" or "f" beside missing ones, or "O"."""
    if column.dtype.kind != "O":
        return column.dtype.kind
    if str in set(map(type, column)):
        return "O"
    kinds = {np.asarray(value).dtype.kind.replace("u", "i") for value in column if not is_missing(value)}
    if kinds == {"i", "f"}:
        return "f"
    return kinds.pop() if kinds in ({"b"}, {"i"}, {"f"}) else "O"


def is_unsigned(column: np.ndarray) -> bool:
    """Whether whole numbers, of which some may be missing, need an unsigned type."""
    return max(value for value in column if not is_missing(value)) > LARGEST_SIGNED


def as_numbers(column: np.ndarray) -> np.ndarray | None:
    """Metadata that are numbers or booleans, as such; None for others."""
    kind = kind_of(column)
    if column.dtype.kind != "O" or kind == "O":
        return column if kind in "iufb" else None
    missing = np.array([is_missing(value) for value in column])
    dtype = {"b": np.bool_, "f": np.float64}.get(kind, np.uint64 if is_unsigned(column) else np.int64)
    values: np.ndarray = np.zeros(len(column), dtype)
    try:
        values[~missing] = column[~missing]
    except OverflowError:  # whole numbers that no type holds
        return None
    return with_missing(values, missing)
