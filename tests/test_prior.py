"""What weights are drawn to: scikit-learn's lasso, and the paper's nearest landmarks."""

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from dgex import KNNGeneRegressor
from dgex._prior import Prior, candidates, correlations_from, correlations_of, lasso, nearest


@pytest.fixture
def genes():
    """80 profiles of 20 correlated landmarks and 6 targets that few of them tell, in units of their own."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4)) @ rng.standard_normal((4, 20)) + rng.standard_normal((80, 20))
    y = X[:, :6] + 0.5 * X[:, 6:12] + 0.5 * rng.standard_normal((80, 6))
    return (3 * X + 5).astype(np.float32), (y * np.arange(1, 7) - 2).astype(np.float32)


def standardized(genes):
    genes = genes.astype(np.float64)
    return (genes - genes.mean(axis=0)) / genes.std(axis=0)


@pytest.mark.parametrize("penalty", [0.3, 0.1, 0.03])
def test_the_lasso_is_that_of_scikit_learn(genes, penalty):
    X, y = genes
    found = lasso(correlations_of(X, y, np.ones(len(X))), penalty)
    expected = Lasso(penalty, fit_intercept=False, tol=1e-8).fit(standardized(X), standardized(y)).coef_.T
    expected = expected * y.std(axis=0) / X.std(axis=0)[:, None]
    X = X - X.mean(axis=0)
    np.testing.assert_allclose(X @ found, X @ expected, atol=0.02 * np.std(X @ expected))
    assert np.count_nonzero(found) < found.size


def test_the_nearest_landmarks_are_those_of_the_paper(genes):
    X, y = genes
    found = nearest(correlations_of(X, y, np.ones(len(X))), 3)
    knn = KNNGeneRegressor(n_neighbors=3, standardize=True).fit(X, y)
    for target, neighbors in enumerate(knn.neighbors_):
        assert set(np.flatnonzero(found[:, target])) == set(neighbors)
    predicted = (X - X.mean(axis=0)) @ found + y.mean(axis=0)
    np.testing.assert_allclose(predicted, knn.predict(X), rtol=1e-2, atol=1e-2)
    every = nearest(correlations_of(X, y, np.ones(len(X))), 50)
    np.testing.assert_allclose(every, y.std(axis=0) / X.std(axis=0)[:, None] / 20, rtol=1e-3)


def test_weights_of_profiles_repeat_them(genes):
    X, y = genes
    twice = np.repeat(np.arange(80), 1 + np.arange(80) % 2)
    weighted = correlations_of(X, y, 1.0 + np.arange(80) % 2)
    for by_weight, by_repetition in zip(
        weighted, correlations_of(X[twice], y[twice], np.ones(len(twice))), strict=True
    ):
        np.testing.assert_allclose(by_weight, by_repetition, rtol=1e-3, atol=1e-5)


def test_constant_genes_have_no_correlation_and_no_weights(genes):
    X, y = (array - array.mean(axis=0) for array in genes)
    X[:, 2], y[:, 4] = 0.0, 0.0
    correlations = correlations_from(X.T @ X, X.T @ y, np.square(y).sum(axis=0))
    weights = Prior(0.5, 0.03, 0.0).weights(correlations)
    assert np.isfinite(weights).all()
    assert not weights[2].any()
    assert not weights[:, 4].any()


def test_candidates_are_all_shares_of_the_best_of_each(genes):
    X, y = (array - array.mean(axis=0) for array in genes)
    correlations = correlations_of(X[:60], y[:60], np.ones(60))
    tried = list(candidates(correlations, X[60:], y[60:]))
    assert len(tried) == len({prior for prior, _ in tried}) == 12
    assert not tried[0][1].any()
    for prior, weights in tried:
        np.testing.assert_allclose(weights, prior.weights(correlations), atol=1e-6)

    def error(model, setting):
        return np.abs(X[60:] @ model(correlations, setting) - y[60:]).mean()

    prior = tried[-1][0]
    assert all(error(lasso, prior.penalty) <= error(lasso, penalty) for penalty in 0.2 * 0.5 ** np.arange(5))
    assert all(error(nearest, prior.n_neighbors) <= error(nearest, number) for number in (3, 6, 12, 25, 50))


def test_weights_of_constant_genes_are_zero():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 6)).astype(np.float32), rng.standard_normal((40, 4)).astype(np.float32)
    X[:, 2] = y[:, 1] = 0.0  # as standardized
    correlations = correlations_of(X, y, np.ones(40))
    for weights in (lasso(correlations, 0.1), nearest(correlations, 5)):
        assert np.isfinite(weights).all()
        assert not weights[2].any()
        assert not weights[:, 1].any()
        assert weights.any()
