"""Profiles mapped onto reference quantiles by the ranks of their genes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from dgex._sorting import ascending_order, fastest_way

# Values that a thread sorts or maps at a time. It takes several arrays of as many, of eight bytes each.
BLOCK_VALUES = 2**17


class Ranks:
    """The ranks of the genes in each profile, in the memory of what the profiles are mapped to.

    Attributes
    ----------
    normalized : ndarray of shape (n_profiles, n_genes)
        Float32 if the profiles are, else float64. Until a profile is mapped, its place holds integers: where its
        genes are from the lowest to the highest, in the flattened block of profiles that it was ranked with.
    """

    def __init__(self, profiles: np.ndarray):
        n_profiles, n_genes = profiles.shape
        self._profiles = profiles
        self.normalized = np.empty(profiles.shape, np.float32 if profiles.dtype == np.float32 else np.float64)
        self._places = self.normalized.view(f"i{self.normalized.itemsize}")
        self._tied = np.empty((n_profiles, -(-n_genes // 8)), dtype=np.uint8)  # with the next gene, a bit for each
        self._n_values = np.full(n_profiles, n_genes)
        self._way = fastest_way()

    def find(self, rows: slice) -> np.ndarray:
        """Rank a block of profiles; their values, ascending, missing ones last."""
        values = np.ascontiguousarray(self._profiles[rows], self.normalized.dtype)
        self._places[rows], ascending = ascending_order(values, self._way)
        tied = np.zeros(values.shape, dtype=bool)
        np.equal(ascending[:, 1:], ascending[:, :-1], out=tied[:, :-1])
        self._tied[rows] = np.packbits(tied, axis=1)
        if np.isnan(ascending[:, -1]).any():
            self._n_values[rows] -= np.count_nonzero(np.isnan(ascending), axis=1)
        return ascending

    def map(self, rows: slice, reference: np.ndarray, ties: str) -> None:
        """Map a block of profiles that has been ranked."""
        places, result = self._places[rows].astype(np.intp), self.normalized[rows].reshape(-1)
        tied = np.unpackbits(self._tied[rows], axis=1, count=places.shape[1]).view(bool)
        for alike in rows_of_equal_length(self._n_values[rows]):
            length = int(self._n_values[rows][alike.start])
            result[places[alike, length:]] = np.nan
            if length:
                quantiles = quantiles_by_rank(tied[alike, :length], reference, ties)
                quantiles = np.broadcast_to(
                    quantiles.astype(result.dtype, copy=False), (alike.stop - alike.start, length)
                )
                for row, row_places in zip(quantiles, places[alike, :length], strict=True):
                    result[row_places] = row  # one row at a time takes half the time of all


def rows_of_equal_length(n_values: np.ndarray) -> Iterator[slice]:
    """Consecutive profiles with as many values."""
    borders = [0, *(np.flatnonzero(np.diff(n_values)) + 1), len(n_values)]
    return (slice(*pair) for pair in pairwise(borders))


def row_blocks(profiles: np.ndarray) -> Iterator[slice]:
    """Profiles that a thread works on at a time."""
    n_rows = max(1, BLOCK_VALUES // profiles.shape[1])
    return (slice(start, start + n_rows) for start in range(0, len(profiles), n_rows))


def quantiles_by_rank(tied: np.ndarray, reference: np.ndarray, ties: str) -> np.ndarray:
    """The reference's quantile for each value of sorted profiles, in an array of their shape or of one for all.

    `tied`, of shape (n_profiles, n_values), tells whether a value is equal to the next. See `QuantileJointNormalizer`.
    """
    n_profiles, n_values = tied.shape
    if ties == "dense":
        return densely_stretched(tied, reference)
    untied = reference if n_values == len(reference) else reference_at(np.arange(n_values), n_values, reference)
    if not tied.any():
        return untied
    borders = np.flatnonzero(np.diff(tied.ravel(), prepend=False))  # a run's last value is not tied with the next
    first, last = borders[::2], borders[1::2]
    run_lengths = last - first + 1
    quantiles = np.tile(untied, n_profiles)
    if ties == "mean":
        by_run = (np.add.reduceat(quantiles, borders)[::2] + quantiles[last]) / run_lengths
    else:
        twice_the_rank = first % n_values + last % n_values
        rank = twice_the_rank // 2 if ties == "floor" else twice_the_rank / 2
        by_run = reference_at(rank, n_values, reference)
    in_a_run = tied.flatten()
    in_a_run[last] = True
    quantiles[in_a_run] = np.repeat(by_run, run_lengths)
    return quantiles.reshape(tied.shape)


def densely_stretched(tied: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The reference's quantile for each value, of which some are `tied` with the next, by the rank of distinct ones."""
    quantiles = np.empty(tied.shape)
    for tied_with_next, result in zip(tied, quantiles, strict=True):
        last = np.flatnonzero(~tied_with_next)  # of equal ones
        index = np.arange(1, len(last) + 1) * len(reference) // len(last) - 1
        result[:] = np.repeat(reference[np.maximum(index, 0)], np.diff(last, prepend=-1))
    return quantiles


def reference_at(rank: np.ndarray, n_values: int, reference: np.ndarray) -> np.ndarray:
    """The reference at ranks 0, ..., n_values - 1 (halves allowed), stretched over its length and interpolated."""
    last = len(reference) - 1
    position = rank * last / (n_values - 1) if n_values > 1 else np.full(np.shape(rank), last / 2)
    below = position.astype(np.intp)
    above = np.minimum(below + 1, last)
    return reference[below] + (position - below) * (reference[above] - reference[below])
