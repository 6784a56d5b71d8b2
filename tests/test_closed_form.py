"""Output layers in closed form: what textbooks say, and what leaving profiles out by hand gives."""

import numpy as np
import pytest

from dgex import _closed_form, _prior
from dgex._closed_form import (
    Ingredients,
    Inputs,
    KernelRidge,
    kernel,
    orthogonal_layer,
    output_layer,
    relative_noise,
    target_multiples,
)


@pytest.fixture
def problem():
    """60 profiles of 8 landmarks and 5 targets, nearly linear."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 8)).astype(np.float32)
    y = X @ rng.standard_normal((8, 5)) + 0.3 * np.abs(X[:, :5]) + 0.1 * rng.standard_normal((90, 5))
    return X, y.astype(np.float32)


def solved(F, y, noise, penalty):
    """Weighted ridge regression by the normal equations."""
    weights = 1.0 / noise[:, None]
    return np.linalg.solve(F.T @ (weights * F) + penalty * np.eye(F.shape[1]), F.T @ (weights * y))


@pytest.mark.parametrize("noisy", [False, True])
def test_coefficients_are_those_of_weighted_ridge_regression(problem, noisy):
    X, y = problem
    noise = np.linspace(0.5, 2.0, len(X)) if noisy else np.ones(len(X))
    F = X.astype(np.float64)
    ridge = KernelRidge(F @ F.T, noise, F[:3] @ F.T)
    projected = ridge.projected(y)
    np.testing.assert_allclose(ridge.predicted(projected, 0.7), F[:3] @ solved(F, y, noise, 0.7), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(F.T @ ridge.coefficients(projected, 0.7), solved(F, y, noise, 0.7), rtol=1e-3, atol=1e-4)
    penalties = np.array([0.1, 1.0, 10.0, 100.0, 1000.0])
    by_target = F.T @ ridge.coefficients(projected, penalties)
    for target, penalty in enumerate(penalties):
        np.testing.assert_allclose(by_target[:, target], solved(F, y, noise, penalty)[:, target], rtol=1e-3, atol=1e-4)


def test_errors_of_profiles_left_out_are_those_of_fits_without_them(problem):
    X, y = problem
    noise = np.linspace(0.5, 2.0, len(X))
    F = X.astype(np.float64)
    ridge = KernelRidge(F @ F.T, noise, F @ F.T)
    left_out = ridge.left_out(ridge.projected(y), 0.7)
    for profile in (0, 17, 59):
        others = np.arange(len(X)) != profile
        expected = y[profile] - F[profile] @ solved(F[others], y[others], noise[others], 0.7)
        np.testing.assert_allclose(left_out[profile] * np.sqrt(noise[profile]), expected, rtol=1e-3, atol=1e-4)


def test_the_kernel_is_that_of_the_weighted_inputs(problem):
    X, _ = problem
    some, others = Inputs(X[:10], np.abs(X[:10])), Inputs(X[10:], np.abs(X[10:]))
    expected = some.weighted(0.3) @ others.weighted(0.3).T + _closed_form.INTERCEPT
    np.testing.assert_allclose(kernel(some.overlaps(others), some.weights(0.3)), expected, rtol=1e-5)


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("linear_path", [True, False])
def test_profiles_and_units_lead_to_the_same_output_layer(problem, linear_path, prior, monkeypatch):
    X, y = problem
    monkeypatch.setattr(_prior, "LASSO_SHARES", (0.3,))
    monkeypatch.setattr(_prior, "NEIGHBOR_SHARES", (0.6,))
    monkeypatch.setattr(_closed_form, "SHARES", (0.5,))
    monkeypatch.setattr(_closed_form, "PENALTIES", np.array([0.01]))
    monkeypatch.setattr(_closed_form, "BLOCK_ROWS", 25)
    hidden, bias = orthogonal_layer(8, 20, np.random.default_rng(0))

    def inputs(X, centring=0.0):
        assert centring == 0
        return Inputs(X if linear_path else X[:, :0], np.abs(X @ hidden + bias))

    def fit():
        train, validation = (X[:60], y[:60] + 3), (X[60:], y[60:] + 3)
        ingredients = Ingredients(profile_noise=False, target_penalties=False, prior=prior, centring=False)
        return output_layer(inputs, train, validation, ingredients, np.random.default_rng(0))

    by_kernel = fit()
    monkeypatch.setattr(_closed_form, "DUAL_PROFILES", 10)
    monkeypatch.setattr(_closed_form, "CHOOSING_PROFILES", 60)
    by_units = fit()
    assert by_kernel.kernel.shape == (20 + 8 * linear_path, 5)
    for output in (by_kernel, by_units):
        error = np.abs(np.concatenate(inputs(X), axis=1) @ output.kernel + output.bias - y - 3).mean()
        assert error < (0.3 if linear_path else 2.0)  # absolute units alone can hardly tell signs
    np.testing.assert_allclose(by_kernel.kernel, by_units.kernel, atol=0.02)
    np.testing.assert_allclose(by_kernel.bias, by_units.bias, atol=0.02)


def test_the_intercept_keeps_its_digits_where_coefficients_are_large(monkeypatch):
    # 1,000 profiles of a small penalty: coefficients of hundreds whose sum is nearly zero. Nor is it drawn to zero.
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((12, 8))
    X = rng.standard_normal((1200, 12)).astype(np.float32)
    y = (np.tanh(X @ weights / 2) + 0.3 * rng.standard_normal((1200, 8))).astype(np.float32)
    hidden, bias = orthogonal_layer(12, 16, rng)

    def inputs(X, centring=0.0):
        return Inputs(X, np.abs(X @ hidden + bias))

    ingredients = Ingredients(profile_noise=False, target_penalties=False, prior=False, centring=False)
    for penalty, offset in ((1e-3, 0), (100.0, 50)):
        monkeypatch.setattr(_closed_form, "PENALTIES", np.array([penalty]))
        train, validation = (X[:1000], y[:1000] + offset), (X[1000:], y[1000:] + offset)
        output = output_layer(inputs, train, validation, ingredients, rng)
        residuals = y + offset - np.concatenate(inputs(X), axis=1) @ output.kernel - output.bias
        np.testing.assert_allclose(residuals[:1000].mean(axis=0), 0.0, atol=1e-5)


def test_units_are_in_orthogonal_directions(problem):
    kernel, bias = orthogonal_layer(8, 20, np.random.default_rng(0))
    assert kernel.shape == (8, 20)
    assert bias.shape == (20,)
    for start, stop in ((0, 8), (8, 16), (16, 20)):
        products = kernel[:, start:stop].T @ kernel[:, start:stop]
        np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-6)
    wide, _ = orthogonal_layer(200, 400, np.random.default_rng(0))
    np.testing.assert_allclose(np.square(wide).sum(axis=0).mean(), 1.0, rtol=0.02)


def test_profiles_that_others_tell_badly_count_less(problem):
    X, y = problem
    rng = np.random.default_rng(1)
    wrong = np.zeros(60, dtype=bool)
    wrong[:15] = True
    spoiled = y[:60] + np.where(wrong[:, None], 3.0, 0.0) * rng.standard_normal((60, 5)).astype(np.float32)
    between = (X[:60] @ X[:60].T).astype(float)
    ridge = KernelRidge(between, np.ones(60), between)
    noise = relative_noise(np.square(ridge.left_out(ridge.projected(spoiled), 1.0)).mean(axis=1), 1.0)
    assert noise.mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(relative_noise(np.zeros(3), 1.5), np.ones(3))
    assert np.median(noise[wrong]) > 3 * np.median(noise[~wrong])
    errors = []
    for profile_noise in (False, True):
        output = output_layer(
            lambda X, centring: Inputs(X, np.abs(X)),
            (X[:60], spoiled),
            (X[60:75], y[60:75]),
            Ingredients(profile_noise, target_penalties=False, prior=False, centring=False),
            np.random.default_rng(0),
        )
        errors.append(
            np.abs(np.concatenate([X[75:], np.abs(X[75:])], axis=1) @ output.kernel + output.bias - y[75:]).mean()
        )
    assert errors[1] < 0.8 * errors[0]


def test_all_profiles_count_alike_where_validation_profiles_resemble_those_told_badly(problem, monkeypatch):
    X, y = problem
    monkeypatch.setattr(_closed_form, "SHARES", (0.5,))
    others = y.copy()
    others[40:60] *= 3
    others[60:] *= 3

    def fit(profile_noise):
        return output_layer(
            lambda X, centring: Inputs(X, np.abs(X)),
            (X[:60], others[:60]),
            (X[60:], others[60:]),
            Ingredients(profile_noise, target_penalties=False, prior=False, centring=False),
            np.random.default_rng(0),
        )

    np.testing.assert_array_equal(fit(True).kernel, fit(False).kernel)
    monkeypatch.setattr(_closed_form, "NOISE_POWERS", (1.0, 1.5))
    assert np.abs(fit(True).kernel - fit(False).kernel).max() > 0.01


def test_targets_of_noise_have_larger_penalties(problem):
    X, y = problem
    rng = np.random.default_rng(1)
    noisy = rng.standard_normal((60, 5)).astype(np.float32)
    between = (X[:60] @ X[:60].T / 8).astype(float)
    ridge = KernelRidge(between, np.ones(60), between)
    multiples = target_multiples(ridge, ridge.projected(np.hstack([y[:60], noisy])), 1.0)
    assert multiples.shape == (10,)
    assert multiples[:5].max() < multiples[5:].min()
    assert 10**-1 <= multiples.min() < multiples.max() <= 10**1


def test_what_is_far_from_zero_loses_no_digits_in_normal_equations(problem, monkeypatch):
    X, y = problem
    monkeypatch.setattr(_closed_form, "DUAL_PROFILES", 10)
    monkeypatch.setattr(_closed_form, "CHOOSING_PROFILES", 60)
    ingredients = Ingredients(profile_noise=False, target_penalties=False, prior=False, centring=False)
    errors = []
    for offset in (np.float32(0), np.float32(1000)):
        moved = X + offset

        def inputs(profiles, centring=0.0, offset=offset):
            return Inputs(profiles, np.abs(profiles - offset) @ np.eye(8, 20, dtype=np.float32))

        train, validation = (moved[:60], y[:60]), (moved[60:], y[60:])
        output = output_layer(inputs, train, validation, ingredients, np.random.default_rng(0))
        F = np.concatenate(inputs(moved), axis=1).astype(np.float64)
        errors.append(np.abs(F @ output.kernel + output.bias - y).mean())
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("linear", [True, False])
def test_validation_profiles_choose_the_share_of_units_in_normal_equations(linear, monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((400, 8)).astype(np.float32)
    hidden, bias = orthogonal_layer(8, 60, rng)
    signal = X @ rng.standard_normal((8, 5)) if linear else np.abs(X @ hidden[:, :5])
    y = (signal + rng.standard_normal((400, 5))).astype(np.float32)
    monkeypatch.setattr(_closed_form, "DUAL_PROFILES", 10)
    monkeypatch.setattr(_closed_form, "CHOOSING_PROFILES", 100)
    attempts = {}
    solved = _closed_form.NormalEquations.solved

    def noted(equations, seen_val, y_val, compared, choices, *, keep):
        attempts[choices.share] = solved(equations, seen_val, y_val, compared, choices, keep=keep)
        return attempts[choices.share]

    monkeypatch.setattr(_closed_form.NormalEquations, "solved", noted)

    def inputs(profiles, centring=0.0):
        return Inputs(profiles, np.abs(profiles @ hidden + bias))

    ingredients = Ingredients(profile_noise=False, target_penalties=False, prior=False, centring=False)
    output = output_layer(inputs, (X[:200], y[:200]), (X[200:], y[200:]), ingredients, np.random.default_rng(0))
    share, (least, best) = min(attempts.items(), key=lambda item: item[1][0])
    assert output is best
    assert (share < max(_closed_form.SHARES)) == linear
    for error, attempt in attempts.values():
        inferred = np.concatenate(inputs(X[200:]), axis=1) @ attempt.kernel + attempt.bias
        assert np.abs(inferred - y[200:]).mean() == pytest.approx(error, rel=1e-3)
        assert error >= least
