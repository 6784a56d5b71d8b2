"""The landmarks nearest to each target over the training profiles, by threads that have some of the targets each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from dgex._statistics import standardized
from dgex._threads import in_parallel
from dgex._validation import first_equal_column

# Bytes of the landmarks of the profiles worked on at a time.
BLOCK_BYTES = 2**24

# Targets that a thread works on at a time.
TILE_TARGETS = 512

# Products, and squares, that are summed in the type of the data: sums of many float32 lose digits.
MULTIPLIED_ROWS, SUMMED_ROWS = 4096, 64

# Squares of larger values cannot be summed in float64.
LARGEST = 1e150

# The largest values whose squares float32 can hold, sum and tell apart.
SINGLE_RANGE = 1e-12, 1e12


class Genes(NamedTuple):
    """Expression of genes, shape (n_profiles, n_genes), and what standardizes it, of shape (n_genes,)."""

    values: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def scaled(self, rows: slice, columns: slice, dtype: np.dtype) -> np.ndarray:
        """Some profiles of some genes; nothing is copied where there is nothing to do."""
        values = self.values[rows, columns].astype(dtype, copy=False)
        mean, scale = self.mean[columns], self.scale[columns]
        return standardized(values, mean, scale) if mean.any() or (scale != 1).any() else values

    def columns(self, indices: np.ndarray) -> np.ndarray:
        """All profiles of some genes, in float64."""
        return standardized(self.values[:, indices].astype(np.float64), self.mean[indices], self.scale[indices])


# Changes the squared distances of the targets in a slice from all landmarks.
Change = Callable[[np.ndarray, slice], None]


def nearest_landmarks(
    landmarks: Genes, targets: Genes, n_neighbors: int, change: Change | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices and squared Euclidean distances of the nearest landmarks, nearest first, shape (n_targets, n_neighbors).

    Equal distances are in the order of the landmarks.
    """
    n_targets = targets.values.shape[1]
    sums = Sums(landmarks, targets)
    # Equal landmarks are equally near, which a matrix product may round differently: the first stands for all of them.
    representative = first_equal_column(landmarks.values, landmarks.values)
    stands_for_itself = representative == np.arange(len(representative))
    neighbors = np.empty((n_targets, n_neighbors), dtype=np.intp)
    squared_distances = np.empty((n_targets, n_neighbors))

    def find(tile: slice) -> None:
        squares = sums.squared_distances(tile, stands_for_itself)
        if not stands_for_itself.all():
            squares = squares[:, representative]
        if change:
            change(squares, tile)
        neighbors[tile] = smallest(squares, n_neighbors)
        squared_distances[tile] = np.take_along_axis(squares, neighbors[tile], axis=1)

    in_parallel(find, tiles(n_targets))
    return neighbors, squared_distances


class Sums:
    """Sums over profiles of target x landmark, landmark^2 and target^2, in float64.

    One matrix product, in blocks of profiles: float32 data are multiplied in float32, and the blocks summed in float64.
    Float32 data in extreme units are multiplied in float64.
    """

    def __init__(self, landmarks: Genes, targets: Genes):
        self.landmarks, self.targets = landmarks, targets
        (n_profiles, n_landmarks), n_targets = landmarks.values.shape, targets.values.shape[1]
        largest = max(largest_size(genes.values) for genes in (landmarks, targets))
        if not largest < LARGEST:
            raise ValueError(
                f"Got expression up to {largest:g}, but expected less than {LARGEST:g}, so that squares can be summed. "
                "Take logarithms, or scale the data."
            )
        is_single = np.result_type(landmarks.values, targets.values) == np.float32
        in_range = largest == 0 or SINGLE_RANGE[0] < largest < SINGLE_RANGE[1]
        self.dtype: np.dtype[Any] = np.dtype(np.float32 if is_single and in_range else np.float64)
        self.products = np.zeros((n_targets, n_landmarks))
        self.landmark_squares, self.target_squares = np.zeros(n_landmarks), np.zeros(n_targets)
        block_rows = min(MULTIPLIED_ROWS, max(1, BLOCK_BYTES // (self.dtype.itemsize * n_landmarks)))
        for start in range(0, n_profiles, block_rows):
            self._add(slice(start, start + block_rows))

    def _add(self, rows: slice) -> None:
        x = self.landmarks.scaled(rows, slice(None), self.dtype)
        self.landmark_squares += summed_squares(x)

        def add(tile: slice) -> None:
            y = self.targets.scaled(rows, tile, self.dtype)
            self.products[tile] += y.T @ x
            self.target_squares[tile] += summed_squares(y)

        in_parallel(add, tiles(len(self.target_squares)))

    def squared_distances(self, tile: slice, wanted: np.ndarray) -> np.ndarray:
        """Squared Euclidean distances of some targets and all landmarks, to the last digit where they are `wanted`.

        They take the place of the products.
        """
        squares = self.products[tile]
        squares *= -2.0
        squares += self.target_squares[tile, None]
        squares += self.landmark_squares
        # Where genes nearly coincide the difference has lost its digits to cancellation: these few are computed anew.
        lost = np.sqrt(np.finfo(self.dtype).eps)
        limit = lost * (self.target_squares[tile] + self.landmark_squares.max())
        near = np.flatnonzero(squares.min(axis=1) < limit)
        sizes = self.target_squares[tile][near, None] + self.landmark_squares
        row, landmark = np.nonzero(wanted & (squares[near] < lost * sizes))
        target = near[row]
        block_pairs = max(1, BLOCK_BYTES // (8 * len(self.targets.values)))
        for start in range(0, len(target), block_pairs):
            pairs = slice(start, start + block_pairs)
            difference = self.landmarks.columns(landmark[pairs])
            difference -= self.targets.columns(target[pairs] + tile.start)
            squares[target[pairs], landmark[pairs]] = np.einsum("ij,ij->j", difference, difference)
        return squares


def largest_size(values: np.ndarray) -> float:
    """The largest absolute value."""
    return float(max(values.max(), -values.min()))


def summed_squares(values: np.ndarray) -> np.ndarray:
    """Of each column, in float64."""
    sums = np.zeros(values.shape[1])
    for start in range(0, len(values), SUMMED_ROWS):
        part = values[start : start + SUMMED_ROWS]
        sums += np.einsum("ij,ij->j", part, part)
    return sums


def tiles(n_targets: int) -> Iterator[slice]:
    """Targets that a thread works on at a time."""
    return (slice(start, min(start + TILE_TARGETS, n_targets)) for start in range(0, n_targets, TILE_TARGETS))


def smallest(distances: np.ndarray, n: int) -> np.ndarray:
    """Columns of the n smallest in each row, smallest first; equal ones in the order of the columns."""
    limit = np.partition(distances, n - 1, axis=1)[:, n - 1 : n]
    chosen = distances <= limit
    is_tied = np.count_nonzero(chosen, axis=1) > n
    chosen[is_tied, n:] = False
    chosen[is_tied, :n] = True  # as many, for now
    columns = np.nonzero(chosen)[1].reshape(-1, n)
    order = np.argsort(np.take_along_axis(distances, columns, axis=1), axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    columns[is_tied] = np.argsort(distances[is_tied], axis=1, kind="stable")[:, :n]
    return columns
