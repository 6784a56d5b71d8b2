import itertools

import numpy as np
import pytest

from dgex import DGEXRegressor, recipes
from dgex._optimizer import automatic_layer_rates, automatic_learning_rate


def layer_shapes(n_landmarks, hidden, n_targets):
    sizes = (n_landmarks, *hidden, n_targets)
    return list(itertools.pairwise(sizes))


@pytest.mark.parametrize("n_targets", [4760, 9520])
@pytest.mark.parametrize("name", recipes.PAPER_CONFIGURATIONS)
def test_automatic_rates_are_the_papers_at_its_sizes(name, n_targets):
    hidden = recipes.PAPER_CONFIGURATIONS[name]["hidden_layer_sizes"]
    assert automatic_learning_rate("sgd", len(hidden)) == (5e-4 if len(hidden) == 1 else 3e-4)
    rates = automatic_layer_rates(layer_shapes(943, hidden, n_targets), "tanh", 200)
    assert rates == [(1.0, 1.0)] + [(3.0, 1.0)] * len(hidden)


@pytest.mark.parametrize("hidden", [(10,), (300,), (9000,), (10, 10, 10), (9000, 9000, 9000)])
@pytest.mark.parametrize("n_landmarks", [1, 50, 943])
def test_automatic_rates_shrink_with_more_targets(hidden, n_landmarks):
    first = [
        automatic_layer_rates(layer_shapes(n_landmarks, hidden, n_targets), "tanh", 200)[0][0]
        for n_targets in (1, 100, 4760, 21290)
    ]
    assert all(a >= b > 0 for a, b in itertools.pairwise(first))
    output = [automatic_layer_rates(layer_shapes(n_landmarks, hidden, n), "tanh", 200) for n in (1, 21290)]
    assert output[0][-1] == output[1][-1], "the output layer's rate does not depend on the number of targets"


def test_automatic_rates_fall_with_small_mini_batches_only():
    by_batch = [
        automatic_layer_rates(layer_shapes(943, (3000,), 4760), "tanh", n)[0][0] for n in (1, 20, 50, 199, 200, 1000)
    ]
    assert all(a < b for a, b in itertools.pairwise(by_batch[:5]))
    assert by_batch[-2:] == [1.0, 1.0]
    assert by_batch[0] == pytest.approx((1 + 20 / 200) / (1 + 20))


def profiles(n_profiles, n_landmarks, n_targets, seed=0):
    """Correlated landmarks and targets that are functions of the same few factors, nonlinear in part, raw log2."""
    rng = np.random.default_rng(seed)
    n_factors = min(n_landmarks, 20)
    factors = rng.standard_normal((n_profiles, n_factors)) * np.linspace(3, 1, n_factors)
    X = factors @ rng.standard_normal((n_factors, n_landmarks)) / 4 + rng.standard_normal((n_profiles, n_landmarks))
    signal = np.concatenate([X, np.tanh(X)], axis=1) if n_landmarks < 20 else np.concatenate([factors, factors**2], 1)
    mixing = rng.standard_normal((signal.shape[1], n_targets)) / np.sqrt(signal.shape[1])
    y = signal @ mixing + 0.3 * rng.standard_normal((n_profiles, n_targets))
    return (8 + X).astype(np.float32), (7 + y).astype(np.float32)


CORNERS = [
    # landmarks, hidden layers, targets, profiles, epochs
    (943, (10,), 1, 400, 60),
    (10, (10,), 1, 400, 60),
    (1, (10, 10, 10), 1, 400, 60),
    (943, (3000,), 1, 400, 10),
    (10, (3000, 3000), 1, 200, 6),
    (943, (10,), 9520, 300, 30),
    (2, (10, 10, 10), 21290, 200, 20),
    (5, (100, 100, 100), 9520, 300, 30),
    (5, (1000, 1000), 9520, 300, 10),
    (943, (3000,), 9520, 200, 8),
    (943, (300, 300, 300), 21290, 200, 15),
    (10, (9000,), 21290, 60, 4),
    (943, (9000,), 20, 200, 15),
    (1, (1000, 1000, 1000), 9520, 200, 12),
]


@pytest.mark.parametrize(("n_landmarks", "hidden", "n_targets", "n_profiles", "n_epochs"), CORNERS)
def test_automatic_rates_train_stably_and_effectively_at_the_corners(
    n_landmarks, hidden, n_targets, n_profiles, n_epochs
):
    X, y = profiles(n_profiles, n_landmarks, n_targets)
    model = DGEXRegressor(
        hidden_layer_sizes=hidden, max_iter=n_epochs, batch_size=50, validation_fraction=0, random_state=0
    ).fit(X, y)
    errors = np.array([record["train_mae"] for record in model.history_])
    at_zero = np.abs((y - model.target_mean_) / model.target_scale_).mean()
    # Never worse than predicting the mean, and clearly better at the end.
    assert errors.max() < 1.02 * at_zero
    assert errors[-1] < 0.9 * at_zero
    # No late blow-up: the last epochs are not worse than the best by more than a little.
    assert errors[-1] < 1.05 * errors.min()


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
@pytest.mark.parametrize(("n_landmarks", "hidden", "n_targets"), [(943, (10,), 1), (50, (300, 300), 1000)])
def test_automatic_rates_suit_other_activations_and_losses(activation, loss, n_landmarks, hidden, n_targets):
    X, y = profiles(300, n_landmarks, n_targets)
    max_iter = 100 if activation == "identity" else 25  # its rates are a quarter of the others'
    model = DGEXRegressor(
        hidden_layer_sizes=hidden, activation=activation, loss=loss, max_iter=max_iter, batch_size=50, random_state=0
    ).fit(X, y)
    errors = [record["train_mae"] for record in model.history_]
    assert errors[-1] < 0.93 * np.abs((y - model.target_mean_) / model.target_scale_).mean()


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "silu", "identity"])
@pytest.mark.parametrize(
    ("n_landmarks", "hidden", "n_targets", "batch_size"),
    [(5, (100, 100, 100), 9520, 200), (50, (100, 100, 100), 1000, 1), (943, (1000,), 500, 5)],
)
def test_automatic_rates_are_stable_when_all_genes_move_together(
    activation, n_landmarks, hidden, n_targets, batch_size
):
    # One factor behind all genes, and mini-batches down to a single profile: what large steps diverge on.
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((200, 1))
    X, y = (
        (8 + factor * rng.standard_normal(n) + 0.2 * rng.standard_normal((200, n))).astype(np.float32)
        for n in (n_landmarks, n_targets)
    )
    model = DGEXRegressor(
        hidden_layer_sizes=hidden,
        activation=activation,
        batch_size=batch_size,
        max_iter=40 if batch_size == 200 else 3,
        validation_fraction=0,
        random_state=0,
    ).fit(X, y)
    errors = np.array([record["train_mae"] for record in model.history_])
    at_zero = np.abs((y - model.target_mean_) / model.target_scale_).mean()
    assert errors.max() < 1.02 * at_zero
    assert errors[-1] < 0.6 * at_zero


@pytest.mark.parametrize(
    ("n_landmarks", "hidden", "n_targets"),
    [(943, (10,), 1), (943, (1000, 1000), 500), (5, (10, 10, 10), 9520), (943, (3000,), 2000)],
)
def test_adamw_trains_at_the_corners(n_landmarks, hidden, n_targets):
    X, y = profiles(200, n_landmarks, n_targets)
    model = DGEXRegressor(
        hidden_layer_sizes=hidden, solver="adamw", max_iter=15, batch_size=25, validation_fraction=0, random_state=0
    ).fit(X, y)
    errors = [record["train_mae"] for record in model.history_]
    assert errors[-1] < 0.9 * np.abs((y - model.target_mean_) / model.target_scale_).mean()
