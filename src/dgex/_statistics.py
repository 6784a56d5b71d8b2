"""Means and standard deviations of genes, in one pass and float64."""

from __future__ import annotations

import numpy as np

# The paper divides by the standard deviation plus this number.
SCALE_OFFSET = 1e-3

# A relative spread below this is the rounding of the mean, not variation.
ROUNDING = 1e-12

# Bytes of profiles worked on at a time, in float64.
BLOCK_BYTES = 2**26


def gene_statistics(X: np.ndarray, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every gene, in float64 and one pass over the data.

    Parameters
    ----------
    X : ndarray of shape (n_profiles, n_genes)
        Expression; memory-mapped arrays are read once, in blocks.
    rows : ndarray of int, default=None
        The profiles to use; None for all.

    Returns
    -------
    mean, standard_deviation : ndarray of shape (n_genes,)
        The standard deviation is the population's (divided by the number of profiles).

    Notes
    -----
    Blocks are combined by the update of Chan, Golub and LeVeque (1979), which does not lose digits to a large mean. The
    standard deviation of a gene whose values are all equal is exactly zero.
    """
    n_profiles = len(X) if rows is None else len(rows)
    block_rows = max(1, BLOCK_BYTES // (8 * max(1, X.shape[1])))
    count = 0
    mean = np.zeros(X.shape[1])
    squares = np.zeros(X.shape[1])
    for start in range(0, n_profiles, block_rows):
        stop = min(start + block_rows, n_profiles)
        block = np.asarray(X[start:stop] if rows is None else X[rows[start:stop]], dtype=np.float64)
        block_mean = block.mean(axis=0)
        shift = block_mean - mean
        total = count + len(block)
        squares += np.square(block - block_mean).sum(axis=0) + np.square(shift) * (count * len(block) / total)
        mean += shift * (len(block) / total)
        count = total
    deviation = np.sqrt(squares / count)
    deviation[deviation < ROUNDING * np.abs(mean)] = 0.0
    return mean, deviation


def gene_scaling(
    X: np.ndarray, rows: np.ndarray | None = None, *, standardize: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of every gene and its standard deviation + 1e-3, as in the paper; zeros and ones if not to standardize.

    The scale of a constant gene is 1, as in scikit-learn: should it vary after all in other profiles, dividing by 1e-3
    would make it larger than all other genes together.
    """
    if not standardize:
        return np.zeros(X.shape[1]), np.ones(X.shape[1])
    mean, deviation = gene_statistics(X, rows)
    return mean, divisors(deviation, SCALE_OFFSET)


def divisors(deviation: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """What to divide genes by: their standard deviations plus an offset, and 1 for constant genes."""
    return np.where(deviation > 0, deviation + offset, 1.0)


def standardized(X: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(X - mean) / scale of floats, in their type."""
    return (X - mean.astype(X.dtype)) / scale.astype(X.dtype)
