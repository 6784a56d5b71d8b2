"""Profiles that are nearly equal to earlier ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Profiles that are compared with as many others at a time.
BLOCK_ROWS = 1024


def repeats_an_earlier_row(X: np.ndarray, threshold: float) -> np.ndarray:
    """Whether an earlier row is closer than the threshold, shape (n_rows,)."""
    # Centred, so that the squared norms are small and the distances lose few digits to their difference.
    center = X.mean(axis=0)
    repeats = np.zeros(len(X), dtype=bool)
    for rows in row_blocks(len(X), BLOCK_ROWS):
        later = X[rows] - center
        for earlier_rows in row_blocks(min(rows.stop, len(X)), BLOCK_ROWS):
            earlier = later if earlier_rows == rows else X[earlier_rows] - center
            for i, j in close_pairs(later, earlier, threshold):
                i, j = i + rows.start, j + earlier_rows.start
                if j < i and not repeats[i]:
                    repeats[i] = np.linalg.norm(X[i].astype(np.float64) - X[j]) < threshold
    return repeats


def close_pairs(a: np.ndarray, b: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows that may be closer than the threshold, with a margin for the rounding of the matrix product."""
    a_squares, b_squares = (np.einsum("ij,ij->i", rows, rows)[:, None] for rows in (a, b))
    size = a_squares + b_squares.T
    squared = size - 2.0 * (a @ b.T)
    margin = 16 * np.sqrt(a.shape[1]) * np.finfo(a.dtype).eps * size
    return zip(*map(np.ndarray.tolist, np.nonzero(squared < threshold**2 + margin)), strict=True)


def row_blocks(n_rows: int, block_rows: int) -> Iterator[slice]:
    """Rows in blocks of so many."""
    return (slice(start, min(start + block_rows, n_rows)) for start in range(0, n_rows, block_rows))
