"""Linear models with their strength chosen on validation profiles, made feasible for thousands of targets.

One matrix decomposition serves all penalties, one path all strengths of the lasso, one fit all numbers of components.
Everything in float64.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression, lasso_path

from benchmarks.accuracy._datasets import Profiles, Split
from dgex.metrics import overall_error

# Penalties of ridge: 10 a decade, 0.1 to 1e6.
RIDGE_PENALTIES = np.logspace(-1, 6, 71)

# Penalties of the lasso, in units of a standardized target, descending by a quarter; the path ends when the validation
# error was no better for LASSO_PATIENCE of them.
LASSO_PENALTIES = 0.5 * 0.8 ** np.arange(30)
LASSO_PATIENCE = 3

# Duality gap relative to the target's sum of squares. Ten times scikit-learn's default, in half the time: validation
# errors of arrays and of E. coli differ by less than 1e-4.
LASSO_TOLERANCE = 1e-3

# Components of partial least squares: so many, and twice as many as long as the most are the best.
PLS_COMPONENTS = 25
PLS_MOST = 100


class Fitted(NamedTuple):
    """Infers expression; what was chosen on validation profiles; the targets it is for, None for all."""

    predict: Callable[[np.ndarray], np.ndarray]
    chosen: dict[str, Any]
    targets: np.ndarray | None = None


class Centered(NamedTuple):
    """Landmarks and targets less their means, float64."""

    X: np.ndarray
    y: np.ndarray
    X_mean: np.ndarray
    y_mean: np.ndarray

    def affine(self, coefficients: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The linear model with these coefficients, landmarks x targets, and the intercepts that the means imply."""
        return partial(affine, coefficients, self.y_mean - self.X_mean @ coefficients)


def least_squares(split: Split, seed: int) -> Fitted:
    """Least squares; of many solutions the one with the smallest coefficients."""
    return Fitted(LinearRegression().fit(*in_float64(split.train)).predict, {})


def ridge(split: Split, seed: int) -> Fitted:
    """Ridge regression."""
    train = centered(split.train)
    penalty, coefficients = lowest(ridge_path(train, RIDGE_PENALTIES), train, split.validation)
    return Fitted(train.affine(coefficients), {"penalty": float(f"{penalty:.4g}")})


def ridge_path(train: Centered, penalties: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Coefficients by penalty, all from one singular value decomposition."""
    left, singular, right = np.linalg.svd(train.X, full_matrices=False)
    projected = left.T @ train.y
    for penalty in penalties:
        yield penalty, right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)


def lasso(split: Split, seed: int) -> Fitted:
    """The lasso, one penalty for all targets."""
    train = centered(split.train)
    path = lasso_by_penalty(train, LASSO_PENALTIES)
    penalty, coefficients = lowest(path, train, split.validation, patience=LASSO_PATIENCE)
    share = float(f"{np.count_nonzero(coefficients) / coefficients.shape[1]:.4g}")
    return Fitted(train.affine(coefficients), {"penalty": float(f"{penalty:.4g}"), "landmarks per target": share})


def lasso_by_penalty(train: Centered, penalties: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Coefficients by penalty, descending; each starts at the one before. The Gram matrix is computed once."""
    X, y = np.asfortranarray(train.X), np.asfortranarray(train.y)
    gram, products = X.T @ X, np.asfortranarray(X.T @ y)
    coefficients = np.zeros(products.shape, order="F")
    for penalty in penalties:
        for target in range(y.shape[1]):
            _, path, _ = lasso_path(
                X,
                y[:, target],
                alphas=[penalty],
                precompute=gram,
                Xy=products[:, target],
                coef_init=coefficients[:, target],
                tol=LASSO_TOLERANCE,
                check_input=False,
            )
            coefficients[:, target] = path[:, 0]
        yield penalty, coefficients.copy()


def partial_least_squares(split: Split, seed: int) -> Fitted:
    """Partial least squares regression (PLS2)."""
    train = centered(split.train)
    most = min(PLS_MOST, len(train.X) - 1, train.X.shape[1])
    n_components = min(PLS_COMPONENTS, most)
    while True:
        path = pls_path(PLSRegression(n_components, scale=False).fit(train.X, train.y))
        chosen, coefficients = lowest(path, train, split.validation)
        if chosen < n_components or n_components == most:
            return Fitted(train.affine(coefficients), {"components": chosen})
        n_components = min(2 * n_components, most)


def pls_path(fitted: PLSRegression) -> Iterator[tuple[int, np.ndarray]]:
    """Coefficients by number of components, from one fit with the most: later components leave earlier ones alone."""
    coefficients = np.zeros((len(fitted.x_rotations_), len(fitted.y_loadings_)))
    for component in range(fitted.x_rotations_.shape[1]):
        coefficients = coefficients + np.outer(fitted.x_rotations_[:, component], fitted.y_loadings_[:, component])
        yield component + 1, coefficients


def lowest(
    path: Iterator[tuple[Any, np.ndarray]], train: Centered, validation: Profiles, patience: int | None = None
) -> tuple[Any, np.ndarray]:
    """The setting with the lowest validation error, and its coefficients; `patience` settings without one end it."""
    best, error, since = None, np.inf, 0
    for setting, coefficients in path:
        candidate = overall_error(validation.y, train.affine(coefficients)(validation.X)).mean
        since += 1
        if candidate < error:
            best, error, since = (setting, coefficients), candidate, 0
        if since == patience:
            break
    return best


def centered(profiles: Profiles) -> Centered:
    """Profiles less their means."""
    X, y = in_float64(profiles)
    X_mean, y_mean = X.mean(axis=0), y.mean(axis=0)
    return Centered(X - X_mean, y - y_mean, X_mean, y_mean)


def in_float64(profiles: Profiles) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and targets in double precision."""
    return profiles.X.astype(np.float64), profiles.y.astype(np.float64)


def affine(coefficients: np.ndarray, intercepts: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Predictions of a linear model."""
    return X @ coefficients + intercepts
