"""Linear models of few landmarks for each target: what the weights of a linear path may be drawn to, not to zero."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

# Penalties of the lasso, in units of correlations.
PENALTIES = 0.2 * 0.5 ** np.arange(5)

# Steps of the lasso's augmented Lagrangian, its weight, and the relaxation of its steps. Predictions change no more.
STEPS = 25
COUPLING = 1.0
RELAXATION = 1.6

# Numbers of landmarks nearest to a target.
NEIGHBORS = (3, 6, 12, 25, 50)

# What the weights are drawn to: shares of the lasso and of the nearest landmarks.
LASSO_SHARES = (0.0, 0.3, 0.6)
NEIGHBOR_SHARES = (0.0, 0.3, 0.6, 0.9)


class Correlations(NamedTuple):
    """Of landmarks with each other and with targets; and the standard deviations of both."""

    among: np.ndarray  # (n_landmarks, n_landmarks)
    with_targets: np.ndarray  # (n_landmarks, n_targets)
    landmark_scale: np.ndarray
    target_scale: np.ndarray

    def weights(self, standardized: np.ndarray) -> np.ndarray:
        """Weights of a linear model between standardized genes, for genes in their own units."""
        return standardized * (self.target_scale / self.landmark_scale[:, None])


class Prior(NamedTuple):
    """Shares of two models in what the weights of a linear path are drawn to, and the setting of each."""

    lasso_share: float = 0.0
    penalty: float = float(PENALTIES[0])
    neighbor_share: float = 0.0
    n_neighbors: int = NEIGHBORS[0]

    def of(self, X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What they are drawn to by profiles of these weights; without any share nothing is computed for it."""
        if not (self.lasso_share or self.neighbor_share):
            return np.zeros((X.shape[1], y.shape[1]), dtype=np.float32)
        return self.weights(correlations_of(X, y, weights))

    def weights(self, correlations: Correlations) -> np.ndarray:
        """What they are drawn to, shape (n_landmarks, n_targets)."""
        result = np.zeros_like(correlations.with_targets)
        if self.lasso_share:
            result += np.float32(self.lasso_share) * lasso(correlations, self.penalty)
        if self.neighbor_share:
            result += np.float32(self.neighbor_share) * nearest(correlations, self.n_neighbors)
        return result


def correlations_of(X: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Correlations:
    """Correlations over profiles of these weights."""
    share = (weights / weights.sum()).astype(np.float32)
    X, y = (np.sqrt(share)[:, None] * (genes - share @ genes) for genes in (X, y))
    return correlations_from(X.T @ X, X.T @ y, np.einsum("ij,ij->j", y, y))


def correlations_from(among: np.ndarray, with_targets: np.ndarray, target_squares: np.ndarray) -> Correlations:
    """Correlations from sums of products of centred genes; those of a constant gene are zero, and all its weights."""
    scales = [np.sqrt(np.maximum(squares, 0)).astype(np.float32) for squares in (np.diag(among), target_squares)]
    landmarks, targets = (np.where(scale > 0, scale, np.float32(np.inf)) for scale in scales)
    return Correlations(
        (among / landmarks / landmarks[:, None]).astype(np.float32),
        (with_targets / targets / landmarks[:, None]).astype(np.float32),
        landmarks,
        scales[1],
    )


def lasso(correlations: Correlations, penalty: float) -> np.ndarray:
    """The lasso for all targets at once, by the alternating direction method of multipliers.

    All that a step takes is one matrix product for all targets.
    """
    among, with_targets = correlations[:2]
    inverse = np.linalg.inv(among.astype(np.float64) + COUPLING * np.eye(len(among))).astype(np.float32)
    threshold = np.float32(penalty / COUPLING)
    least_squares = inverse @ with_targets
    sparse, multiplier = np.zeros_like(with_targets), np.zeros_like(with_targets)
    for _ in range(STEPS):
        dense = least_squares + np.float32(COUPLING) * (inverse @ (sparse - multiplier))
        multiplier += np.float32(RELAXATION) * dense + np.float32(1 - RELAXATION) * sparse
        sparse = multiplier - np.clip(multiplier, -threshold, threshold)
        multiplier -= sparse
    return correlations.weights(sparse)


def nearest(correlations: Correlations, n_neighbors: int) -> np.ndarray:
    """The mean of the landmarks that correlate best with each target, as in KNN-GE."""
    n_neighbors = min(n_neighbors, len(correlations.with_targets))
    landmarks = np.argpartition(-correlations.with_targets, n_neighbors - 1, axis=0)[:n_neighbors]
    standardized = np.zeros_like(correlations.with_targets)
    np.put_along_axis(standardized, landmarks, np.float32(1 / n_neighbors), axis=0)
    return correlations.weights(standardized)


def candidates(correlations: Correlations, X_val: np.ndarray, y_val: np.ndarray) -> Iterator[tuple[Prior, np.ndarray]]:
    """Priors and the weights of each, in all combinations of shares; settings are those best by themselves."""

    def error(weights: np.ndarray) -> float:
        return float(np.abs(X_val @ weights - y_val).mean())

    sparse = {float(penalty): lasso(correlations, penalty) for penalty in PENALTIES}
    few = {n_neighbors: nearest(correlations, n_neighbors) for n_neighbors in NEIGHBORS}
    penalty = min(sparse, key=lambda setting: error(sparse[setting]))
    n_neighbors = min(few, key=lambda setting: error(few[setting]))
    for of_lasso, of_neighbors in product(LASSO_SHARES, NEIGHBOR_SHARES):
        weights = np.float32(of_lasso) * sparse[penalty] + np.float32(of_neighbors) * few[n_neighbors]
        yield Prior(of_lasso, penalty, of_neighbors, n_neighbors), weights
