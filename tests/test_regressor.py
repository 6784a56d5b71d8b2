import copy
import os
import pickle
import pickletools
import signal
import subprocess
import sys
import tracemalloc
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.ensemble import BaggingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dgex import (
    DGEXRegressor,
    KNNGeneRegressor,
    QuantileJointNormalizer,
    TrainingDiverged,
    _programs,
    _training,
    recipes,
)
from dgex._network import NetworkConfig
from dgex._session import EpochObserver, Session
from dgex._sharding import Layout, select_devices
from dgex.datasets import make_expression_profiles

SMALL = {"hidden_layer_sizes": (16,), "max_iter": 6, "batch_size": 20, "random_state": 0}


def fitted_arrays(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same_model(a, b):
    for left, right in zip(fitted_arrays(a), fitted_arrays(b), strict=True):
        np.testing.assert_array_equal(left, right)


def without_time(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


# --- what is learned ------------------------------------------------------------------------------


def test_network_beats_least_squares_on_nonlinear_profiles_and_not_on_linear_ones():
    errors = {}
    for nonlinearity in (0.8, 0.0):
        data = make_expression_profiles(
            2500, n_landmarks=60, n_targets=100, nonlinearity=nonlinearity, noise=0.2, random_state=0
        )
        train, test = slice(0, 2000), slice(2000, None)
        network = DGEXRegressor(hidden_layer_sizes=(300,), max_iter=80, batch_size=50, random_state=0)
        models = {"network": network, "linear": Ridge(1e-6)}
        errors[nonlinearity] = {
            name: np.abs(model.fit(data.X[train], data.y[train]).predict(data.X[test]) - data.y[test]).mean()
            for name, model in models.items()
        }
    assert errors[0.8]["network"] < 0.9 * errors[0.8]["linear"]
    assert errors[0.0]["network"] > 0.995 * errors[0.0]["linear"]


def test_raw_units_go_in_and_come_out(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    moved = DGEXRegressor(**SMALL).fit(2 * X - 5, 3 * y + 100)
    np.testing.assert_allclose(moved.predict(2 * X - 5), 3 * model.predict(X) + 100, rtol=1e-3)
    assert abs(model.predict(X).mean() - y.mean()) < 0.5
    np.testing.assert_allclose(model.target_mean_, y[np.arange(len(y))].mean(axis=0), atol=0.1)


def test_standardization_uses_the_training_profiles_only(profiles):
    X, y = profiles
    X_val, y_val = X[:20] + 50, y[:20] + 50
    model = DGEXRegressor(**SMALL).fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_allclose(model.landmark_mean_, X.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(model.target_scale_, y.std(axis=0, dtype=np.float64) + 1e-3, rtol=1e-6)
    held_out = DGEXRegressor(**SMALL, validation_fraction=0.5).fit(X, y)
    assert np.abs(held_out.landmark_mean_ - X.mean(axis=0)).max() > 1e-3


def test_without_standardization_values_are_taken_as_they_are(profiles):
    X, y = profiles
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean(0)) / y.std(0)
    model = DGEXRegressor(**SMALL, standardize=False).fit(X, y)
    hidden = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    np.testing.assert_allclose(model.predict(X), hidden @ model.coefs_[1] + model.intercepts_[1], rtol=1e-4, atol=1e-5)
    assert not model.landmark_mean_.any()
    assert (model.target_scale_ == 1).all()


def test_constant_genes_are_fine(profiles):
    X, y = profiles[0].copy(), profiles[1].copy()
    X[:, 3], y[:, 4] = 7.1, 2.3
    model = DGEXRegressor(**SMALL).fit(X[:100], y[:100])
    predictions = model.predict(X[100:])
    assert np.isfinite(predictions).all()
    np.testing.assert_allclose(predictions[:, 4], 2.3, atol=0.15)

    # A landmark that moves only after training counts no more than one that was never informative.
    moved = X[100:].copy()
    moved[:, 3] += 0.1
    change = np.abs(model.predict(moved) - predictions) / model.target_scale_
    assert change.mean() < 0.1

    # A target that moves only in the validation data is an error of its own size, not a thousand times as large.
    y_val = y[100:].copy()
    y_val[:, 4] += 1
    model.fit(X[:100], y[:100], X_val=X[100:], y_val=y_val)
    assert model.best_score_ < 3


def test_a_vector_gives_vectors_and_a_column_gives_columns(profiles):
    X, y = profiles
    as_vector = DGEXRegressor(**SMALL).fit(X, y[:, 0])
    as_column = DGEXRegressor(**SMALL).fit(X, y[:, :1])
    assert as_vector.predict(X).shape == (len(X),)
    assert as_column.predict(X).shape == (len(X), 1)
    np.testing.assert_array_equal(as_vector.predict(X), as_column.predict(X)[:, 0])
    assert DGEXRegressor(**SMALL).fit(X, pd.Series(y[:, 0], name="T1")).predict(X).ndim == 1


def test_an_integer_means_one_hidden_layer_and_none_a_linear_model(profiles):
    X, y = profiles
    assert_same_model(DGEXRegressor(**{**SMALL, "hidden_layer_sizes": 16}).fit(X, y), DGEXRegressor(**SMALL).fit(X, y))
    linear = DGEXRegressor(**{**SMALL, "hidden_layer_sizes": ()}, dropout=0.0).fit(X, y)
    assert [kernel.shape for kernel in linear.coefs_] == [(12, 9)]


def test_the_seed_decides_everything(profiles):
    X, y = profiles
    first, second, other = (DGEXRegressor(**{**SMALL, "random_state": seed}).fit(X, y) for seed in (0, 0, 1))
    assert_same_model(first, second)
    assert (first.coefs_[0] != other.coefs_[0]).any()


# --- selection ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def selected(profiles):
    """A model whose two validation sets prefer different epochs, neither of them the last."""
    X, y = profiles
    rng = np.random.default_rng(1)
    sets = (X[60:90], X[90:]), (y[60:90], (y[90:] + rng.normal(0, 3, y[90:].shape)).astype(np.float32))
    model = DGEXRegressor(
        hidden_layer_sizes=(64,), max_iter=40, batch_size=8, dropout=0.0, learning_rate_init=0.01, random_state=0
    )
    return model.fit(X[:60], y[:60], X_val=sets[0], y_val=sets[1]), sets


def test_each_validation_set_selects_its_own_epoch(selected, profiles):
    X, y = profiles
    model, (X_val, y_val) = selected
    epochs = [model.best_model(index).best_epoch_ for index in range(2)]
    assert epochs[0] != epochs[1]
    for index, epoch in enumerate(epochs):
        best = model.best_model(validation_set=index)
        errors = [record[f"validation_mae_{index}"] for record in model.history_]
        assert epoch == 1 + int(np.argmin(errors))
        assert best.best_score_ == min(errors)
        standardized_error = np.abs(best.predict(X_val[index]) - y_val[index]) / model.target_scale_
        assert best.best_score_ == pytest.approx(standardized_error.mean(), rel=1e-4)
        # The same weights as of a training that ends with that epoch and selects nothing.
        parameters = {**model.get_params(), "max_iter": epoch, "validation_fraction": 0}
        assert_same_model(best, DGEXRegressor(**parameters).fit(X[:60], y[:60]))
    assert_same_model(model, model.best_model(0))


def test_the_last_epoch_can_be_the_best(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    errors = [record["validation_mae_0"] for record in model.history_]
    assert min(errors) == errors[-1], "the errors rose: the test tests nothing"
    assert model.best_epoch_ == 6


def test_validation_data_leave_training_alone(profiles):
    X, y = profiles
    alone = DGEXRegressor(**SMALL, validation_fraction=0).fit(X, y)
    watched = DGEXRegressor(**SMALL).fit(X, y, X_val=(X[:30], X[:5]), y_val=(y[:30] * 0, y[:5] * 0))
    last = [record["train_mae"] for record in watched.history_]
    assert last == [record["train_mae"] for record in alone.history_]


def test_without_selection_the_last_epoch_predicts(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL, validation_fraction=0).fit(X, y)
    assert model.best_epoch_ == model.n_iter_ == 6
    assert model.best_score_ is None
    assert "validation_mae_0" not in model.history_[0]
    with pytest.raises(ValueError, match="selected on 0 validation sets"):
        model.best_model(0)


def test_history_has_a_record_per_epoch(selected):
    model, _ = selected
    assert [record["epoch"] for record in model.history_] == list(range(1, 41))
    names = ["epoch", "learning_rate", "loss", "train_mae", "validation_mae_0", "validation_mae_1", "seconds"]
    assert list(model.history_[0]) == names
    assert model.loss_curve_ == [record["loss"] for record in model.history_]
    assert all(np.isfinite(list(record.values())).all() for record in model.history_)
    assert model.n_iter_ == 40
    assert model.n_layers_ == 3
    assert all(isinstance(array, np.ndarray) and array.dtype == np.float32 for array in fitted_arrays(model))


def test_early_stopping_stops_and_keeps_the_best(selected, profiles):
    X, y = profiles
    model, (X_val, y_val) = selected
    parameters = {**model.get_params(), "early_stopping": True, "n_iter_no_change": 3, "tol": 0.0}
    stopped = DGEXRegressor(**parameters).fit(X[:60], y[:60], X_val=X_val[0], y_val=y_val[0])
    assert stopped.n_iter_ == stopped.best_epoch_ + 3 < 40
    assert_same_model(stopped, stopped.best_model(0))


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_warm_start_goes_on_as_if_training_had_not_stopped(profiles, solver):
    X, y = profiles
    parameters = {**SMALL, "solver": solver, "learning_rate_init": 0.02}
    straight = DGEXRegressor(**{**parameters, "max_iter": 12}).fit(X, y)
    resumed = DGEXRegressor(**parameters, warm_start=True).fit(X, y)
    earlier = copy.deepcopy(resumed)
    resumed.fit(X, y)
    assert_same_model(straight, resumed)
    assert without_time(straight.history_) == without_time(resumed.history_)
    assert straight.best_epoch_ == resumed.best_epoch_
    # What was fitted before is left alone.
    again = DGEXRegressor(**parameters).fit(X, y)
    assert_same_model(earlier, again)
    assert len(earlier.history_) == 6


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_partial_fit_is_one_epoch_with_momentum_and_learning_rate_kept(profiles, solver):
    X, y = profiles
    parameters = {**SMALL, "solver": solver, "learning_rate_init": 0.05, "max_iter": 10, "validation_fraction": 0}
    straight = DGEXRegressor(**parameters).fit(X, y)
    steps = DGEXRegressor(**parameters)
    for epoch in range(1, 11):
        steps.partial_fit(X, y)
        assert steps.n_iter_ == epoch
    assert_same_model(straight, steps)
    assert without_time(straight.history_) == without_time(steps.history_)
    if solver == "sgd":
        assert len({record["learning_rate"] for record in steps.history_}) > 1, "no decay: the test tests too little"


def test_partial_fit_goes_on_after_fit_and_after_pickling(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    reloaded = pickle.loads(pickle.dumps(model))
    assert_same_model(model.partial_fit(X, y), reloaded.partial_fit(X, y))
    assert model.n_iter_ == 7


def test_partial_fit_with_validation_data_keeps_the_best_epoch(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL)
    for _ in range(4):
        model.partial_fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    errors = [record["validation_mae_0"] for record in model.history_]
    assert model.best_epoch_ == 1 + int(np.argmin(errors))
    model.partial_fit(X[:80], y[:80])
    assert model.best_epoch_ == 5
    assert model.best_score_ is None


def test_the_learning_rate_decays_by_errors_on_the_same_profiles(profiles):
    # A second piece of data with larger errors than the first is no reason to decay: its own error falls.
    X, y = profiles
    model = DGEXRegressor(**SMALL).partial_fit(X[:60], y[:60])
    rng = np.random.default_rng(0)
    noisy = (y[60:] + rng.normal(0, 5, y[60:].shape)).astype(np.float32)
    model.partial_fit(X[60:], noisy).partial_fit(X[60:], noisy)
    errors = [record["train_mae"] for record in model.history_]
    assert errors[1] > errors[0]
    assert len({record["learning_rate"] for record in model.history_}) == 1


def test_going_on_with_another_network_is_refused(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"Got hidden_layer_sizes=\(8,\), but the network to go on with .*\(16,\)"):
        model.set_params(hidden_layer_sizes=(8,)).fit(X, y)
    with pytest.raises(ValueError, match="target genes, but expected the 9 of training"):
        model.set_params(hidden_layer_sizes=(16,)).fit(X, y[:, :5])
    assert model.predict(X).shape == y.shape


def test_fit_starts_anew_without_warm_start(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    again = copy.deepcopy(model).fit(X, y)
    assert_same_model(model, again)
    assert again.n_iter_ == 6


# --- interrupts and failures ----------------------------------------------------------------------


class RaiseAtTheEnd:
    """A callback that raises when all is done."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            raise RuntimeError("trouble")
        return False


def test_what_fails_after_training_leaves_the_new_model(profiles):
    X, y = profiles
    model, expected = DGEXRegressor(**SMALL).fit(X, y), DGEXRegressor(**SMALL).fit(X[:, :5], y[:, :3])
    for failing in (model, DGEXRegressor(**SMALL)):
        with pytest.raises(RuntimeError, match="trouble"):
            failing.set_callbacks(RaiseAtTheEnd()).fit(X[:, :5], y[:, :3])
        assert failing.n_features_in_ == 5
        np.testing.assert_array_equal(failing.predict(X[:, :5]), expected.predict(X[:, :5]))


class RecordAndRaise(RaiseAtTheEnd):
    """A callback that writes on the estimator before it raises in the first epoch."""

    def on_fit_task_end(self, estimator, context):
        estimator.n_seen_ = 1
        raise RuntimeError("trouble")


def test_what_fails_while_training_leaves_the_old_model(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    before = model.predict(X)
    with pytest.raises(RuntimeError, match="trouble"):
        model.set_callbacks(RecordAndRaise()).fit(X[:, :5], y[:, :3])
    np.testing.assert_array_equal(model.predict(X), before)


class RaiseAt:
    """A callback that raises at the end of an epoch, or asks to stop."""

    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        return self.action() if context.task_name == "epoch" and context.task_id == self.epoch - 1 else False


def interrupt():
    raise KeyboardInterrupt


def test_an_interrupt_keeps_the_best_epoch_so_far_and_can_go_on(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL, warm_start=True).set_callbacks(RaiseAt(4, interrupt))
    with pytest.warns(UserWarning, match="interrupted after epoch 4; the model of epoch 4 is kept"):
        model.fit(X, y)
    assert_same_model(model, DGEXRegressor(**{**SMALL, "max_iter": 4}).fit(X, y))
    model.set_callbacks().set_params(max_iter=2).fit(X, y)
    assert_same_model(model, DGEXRegressor(**SMALL).fit(X, y))


def test_a_signal_in_the_first_epoch_is_passed_on(profiles, monkeypatch):
    X, y = profiles
    program = _programs.step_program

    def interrupting(config, layout):
        def run(*arguments):
            signal.raise_signal(signal.SIGINT)
            return program(config, layout)(*arguments)

        return run

    monkeypatch.setattr(_training, "step_program", interrupting)
    monkeypatch.setattr(_training, "CPU_FLOPS_PER_CALL", 1)
    model = DGEXRegressor(**SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    "change",
    [
        lambda model, X, y: model.fit(X[:-1], y[:-1]),
        lambda model, X, y: model.set_params(validation_fraction=0.4).fit(X, y),
        lambda model, X, y: model.partial_fit(X, y).fit(X, y),
    ],
    ids=["other profiles", "another fraction", "all in between"],
)
def test_profiles_held_out_after_they_were_trained_on_are_warned_of(profiles, change):
    X, y = profiles
    model = DGEXRegressor(**{**SMALL, "validation_fraction": 0.2}, warm_start=True).fit(X, y).fit(X, y)
    with pytest.warns(UserWarning, match="those held out now may have been trained on"):
        change(model, X, y)


def test_other_profiles_and_a_validation_set_are_no_reason_to_warn(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL, warm_start=True).fit(X[:80], y[:80], X[80:], y[80:])
    model.fit(X[10:70], y[10:70], X[80:], y[80:])
    model.partial_fit(X[:50], y[:50])


def test_stopping_early_counts_from_the_start_in_closed_form(profiles, monkeypatch):
    X, y = profiles
    train_epoch = _training.train_epoch
    monkeypatch.setattr(_training, "train_epoch", lambda run, *more: [2 * error for error in train_epoch(run, *more)])
    model = recipes.modern(hidden_layer_sizes=(20,), random_state=0, early_stopping=True, n_iter_no_change=3)
    assert model.fit(X, y).n_iter_ == 3


def test_validation_profiles_without_finite_errors_are_refused_by_the_closed_form(profiles):
    X, y = profiles
    model = recipes.modern(hidden_layer_sizes=(20,), random_state=0)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="No error on the validation profiles is finite"):
        model.fit(X[:80], y[:80], (X[80:] * np.float32(1e37),), (y[80:],))


def test_an_interrupt_after_a_start_in_closed_form_keeps_it(profiles, monkeypatch):
    X, y = profiles
    monkeypatch.setattr(_training, "train_epoch", lambda *arguments: interrupt())
    model = recipes.modern(hidden_layer_sizes=(20,), random_state=0)
    with pytest.warns(UserWarning, match="interrupted after epoch 0; the model of epoch 0 is kept"):
        model.fit(X, y)
    expected = recipes.modern(hidden_layer_sizes=(20,), random_state=0, max_iter=0).fit(X, y)
    assert (model.best_epoch_, model.best_score_) == (0, expected.best_score_)
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


@pytest.mark.parametrize(
    "several",
    [lambda model: GridSearchCV(model, {"dropout": [0.0, 0.5]}, cv=2), lambda model: BaggingRegressor(model, 2)],
    ids=["search", "ensemble"],
)
def test_an_interrupt_ends_searches_and_ensembles(profiles, monkeypatch, several):
    train_epoch = _training.train_epoch

    def interrupting(run, *arguments):
        return interrupt() if run.epoch == 2 else train_epoch(run, *arguments)

    monkeypatch.setattr(_training, "train_epoch", interrupting)
    with pytest.raises(KeyboardInterrupt):
        several(DGEXRegressor(**SMALL)).fit(*profiles)


def test_divergence_is_an_error_that_keeps_the_earlier_model(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    before = [array.copy() for array in fitted_arrays(model)]
    model.set_params(learning_rate_init=1e6, activation="identity")
    with pytest.raises(TrainingDiverged, match=r"epoch 1 at learning_rate=1e\+06\. Lower learning_rate_init"):
        model.fit(X, y)
    for left, right in zip(before, fitted_arrays(model), strict=True):
        np.testing.assert_array_equal(left, right)
    assert np.isfinite(model.predict(X)).all()


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 16, 9), (943, 50, 1), (1, 7, 3), (50, 300, 953)])
def test_a_profile_is_predicted_bitwise_the_same_in_any_company(shape):
    n_landmarks, n_units, n_targets = shape
    rng = np.random.default_rng(0)
    X = rng.standard_normal((601, n_landmarks)).astype(np.float32)
    y = rng.standard_normal((40, n_targets)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = DGEXRegressor(hidden_layer_sizes=n_units, max_iter=2, random_state=0).fit(X[:40], y)
    together = model.predict(X)
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(model.predict(X[order]), together[order])
    np.testing.assert_array_equal(model.predict(X[300:]), together[300:])
    for row in (0, 255, 256, 300, 600):
        np.testing.assert_array_equal(model.predict(X[row : row + 1])[0], together[row])


def test_types_are_kept_and_close(profiles):
    X, y = profiles
    single = DGEXRegressor(**SMALL).fit(X, y)
    double = DGEXRegressor(**SMALL).fit(X.astype(np.float64), y.astype(np.float64))
    assert single.predict(X).dtype == np.float32
    assert double.predict(X.astype(np.float64)).dtype == np.float64
    np.testing.assert_array_equal(single.predict(X), double.predict(X.astype(np.float64)).astype(np.float32))
    integers = DGEXRegressor(**SMALL).fit(np.rint(X).astype(int), y)
    assert integers.predict(np.rint(X).astype(int)).dtype == np.float64


def test_float32_profiles_are_copied_at_most_once_on_the_host():
    # NumPy's allocations are traced, XLA's are not. Large arrays are handed over as they are; smaller ones, which are
    # padded to share programs, are copied once.
    rng = np.random.default_rng(0)
    for n_profiles, limit in ((500, 1.3), (1700, 0.3)):
        X = rng.standard_normal((n_profiles, 50), dtype=np.float32)
        y = rng.standard_normal((n_profiles, 10_000), dtype=np.float32)
        tracemalloc.start()
        DGEXRegressor(hidden_layer_sizes=4, max_iter=1, standardize=False).fit(X, y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < limit * (X.nbytes + y.nbytes)


def test_memory_maps_are_accepted(profiles, tmp_path):
    X, y = profiles
    paths = [tmp_path / "X.npy", tmp_path / "y.npy"]
    for path, array in zip(paths, (X, y), strict=True):
        np.save(path, array)
    mapped = [np.load(path, mmap_mode="r") for path in paths]
    model = DGEXRegressor(**SMALL).fit(*mapped)
    assert_same_model(model, DGEXRegressor(**SMALL).fit(X, y))
    np.testing.assert_array_equal(model.predict(mapped[0]), model.predict(X))


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture(params=["pandas", "polars"])
def frames(request, profiles):
    X, y = profiles
    landmarks, targets = [f"L{i}" for i in range(12)], [f"T{i}" for i in range(9)]
    if request.param == "pandas":
        return pd.DataFrame(X, columns=landmarks), pd.DataFrame(y, columns=targets)
    return pl.DataFrame(X, schema=landmarks), pl.DataFrame(y, schema=targets)


def test_names_are_remembered_and_values_are_those_of_arrays(frames, profiles):
    model = DGEXRegressor(**SMALL).fit(*frames)
    assert_same_model(model, DGEXRegressor(**SMALL).fit(*profiles))
    assert model.feature_names_in_.tolist() == [f"L{i}" for i in range(12)]
    assert model.target_names_.tolist() == [f"T{i}" for i in range(9)]
    np.testing.assert_array_equal(model.predict(frames[0]), DGEXRegressor(**SMALL).fit(*profiles).predict(profiles[0]))


def test_names_are_checked_in_order(frames):
    X, y = frames
    model = DGEXRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="same order as they were in fit") as error:
        model.predict(X[list(X.columns)[::-1]])
    assert "Select the columns of training, in their order" in str(error.value)
    with pytest.raises(ValueError, match=r"7 of 12 genes are missing \(L0, L1, L2, L3, L4 and 2 more\)"):
        model.predict(X[list(X.columns)[7:]])
    with pytest.raises(ValueError, match="target genes of y are not those of training"):
        model.score(X, y[list(y.columns)[::-1]])
    with pytest.raises(ValueError, match=r"target genes of y_val \(set 0\) are not those of training"):
        DGEXRegressor(**SMALL).fit(X, y, X_val=X, y_val=y[list(y.columns)[::-1]])
    with pytest.raises(ValueError, match="same order as they were in fit"):
        DGEXRegressor(**SMALL).fit(X, y, X_val=X[list(X.columns)[::-1]], y_val=y)


def test_targets_that_are_landmarks_are_counted_in_a_warning(profiles):
    X, y = profiles
    by_column = np.column_stack([y, X[:, 4], X[:, 2], np.full(len(X), 5.0, np.float32)])
    with pytest.warns(UserWarning, match=r"2 of 12 targets are also landmarks \(columns 9, 10\)"):
        DGEXRegressor(**SMALL).fit(np.column_stack([X, np.full(len(X), 5.0, np.float32)]), by_column)
    by_name = (
        pd.DataFrame(X, columns=[f"G{i}" for i in range(12)]),
        pd.DataFrame(y, columns=["G3", *(f"T{i}" for i in range(8))]),
    )
    with pytest.warns(UserWarning, match=r"1 of 9 targets are also landmarks \(genes G3\)"):
        DGEXRegressor(**SMALL).fit(*by_name)


# --- in scikit-learn ------------------------------------------------------------------------------


def test_pipeline_transforms_validation_sets_on_their_way(profiles):
    X, y = profiles
    with sklearn.config_context(enable_metadata_routing=True):
        regressor = DGEXRegressor(**SMALL).set_fit_request(X_val=True, y_val=True)
        shift = FunctionTransformer(lambda X: X - 8.0)
        sets = (X[80:100], X[100:]), (y[80:100], y[100:])
        pipeline = make_pipeline(shift, regressor, transform_input=["X_val"])
        pipeline.fit(X[:80], y[:80], X_val=sets[0], y_val=sets[1])
        by_hand = DGEXRegressor(**SMALL).fit(
            X[:80] - 8.0, y[:80], X_val=tuple(part - 8.0 for part in sets[0]), y_val=sets[1]
        )
        single = make_pipeline(
            shift, clone(regressor).set_fit_request(X_val=True, y_val=True), transform_input=["X_val"]
        )
        single.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert_same_model(pipeline[-1], by_hand)
    assert without_time(pipeline[-1].history_) == without_time(by_hand.history_)
    assert "validation_mae_1" not in single[-1].history_[0]


def test_pipeline_with_normalizer_predicts(profiles):
    X, y = profiles
    pipeline = make_pipeline(QuantileJointNormalizer(), DGEXRegressor(**SMALL)).fit(X, y)
    assert pipeline.predict(X).shape == y.shape


def test_a_bag_of_networks_predicts_their_mean(profiles):
    X, y = profiles
    with sklearn.config_context(enable_metadata_routing=True):
        network = DGEXRegressor(**SMALL).set_fit_request(X_val=True, y_val=True)
        bag = BaggingRegressor(network, n_estimators=3, bootstrap=False, random_state=0)
        bag.fit(X[:80], y[:80], X_val=(X[80:],), y_val=(y[80:],))
    members = [member.predict(X) for member in bag.estimators_]
    np.testing.assert_allclose(bag.predict(X), np.mean(members, axis=0), rtol=1e-5)
    assert np.std(members, axis=0).max() > 0
    assert len({member.random_state for member in bag.estimators_}) == 3


def test_grid_search_passes_validation_data_through_metadata_routing(profiles):
    X, y = profiles
    with sklearn.config_context(enable_metadata_routing=True):
        regressor = DGEXRegressor(**SMALL).set_fit_request(X_val=True, y_val=True)
        search = GridSearchCV(regressor, {"dropout": [0.0, 0.2]}, cv=2)
        # As many validation profiles as training profiles: a tuple keeps them from being split with X.
        search.fit(X, y, X_val=(X,), y_val=(y,))
    best = search.best_estimator_
    scaled = np.abs(best.predict(X) - y) / best.target_scale_
    assert best.best_score_ == pytest.approx(scaled.mean(), rel=1e-4)


def test_grid_search_in_processes_threads_and_alone_agree(profiles):
    X, y = profiles
    grid = {"dropout": [0.0, 0.25], "hidden_layer_sizes": [(16,), (8, 8)]}

    def scores(n_jobs, backend):
        with joblib.parallel_config(backend=backend):
            search = GridSearchCV(DGEXRegressor(**SMALL), grid, cv=2, n_jobs=n_jobs, refit=False).fit(X, y)
        return search.cv_results_["mean_test_score"]

    alone = scores(1, "loky")
    np.testing.assert_array_equal(alone, scores(2, "loky"))
    np.testing.assert_array_equal(alone, scores(2, "threading"))
    assert len(set(alone)) == 4


def test_a_sweep_over_rates_compiles_the_training_program_twice():
    # Once with dropout and once without; folds of 26 and 27 profiles share a program.
    _programs.step_program.cache_clear()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((53, 6)).astype(np.float32), rng.standard_normal((53, 5)).astype(np.float32)
    grid = {"dropout": [0.0, 0.1, 0.3], "learning_rate_init": [1e-3, 1e-2], "momentum": [0.1, 0.8]}
    GridSearchCV(DGEXRegressor(hidden_layer_sizes=5, max_iter=2), grid, cv=2, refit=False).fit(X, y)
    assert _programs.step_program.cache_info().currsize == 2
    for dropout in (True, False):
        network = NetworkConfig(6, (5,), 5)
        config = _programs.TrainConfig(network, "squared_error", "sgd", batch_size=32, dropout=dropout)
        assert _programs.step_program(config, Layout(select_devices(None)))._cache_size() == 1


def test_a_search_and_its_refit_share_their_programs():
    # Folds of 240 profiles, of which 216 are trained on, and 300 with 270.
    programs = _programs.step_program, _programs.error_program
    for program in programs:
        program.cache_clear()
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 6)).astype(np.float32), rng.standard_normal((300, 5)).astype(np.float32)
    grid = {"learning_rate_init": [1e-3, 1e-2]}
    GridSearchCV(DGEXRegressor(hidden_layer_sizes=5, max_iter=1), grid, cv=5).fit(X, y)
    config = _programs.TrainConfig(NetworkConfig(6, (5,), 5), "squared_error", "sgd", batch_size=200, dropout=True)
    layout = Layout(select_devices(None))
    assert [program.cache_info().currsize for program in programs] == [1, 1]
    assert _programs.step_program(config, layout)._cache_size() == 1
    assert _programs.error_program(config.network, layout, _programs.error_rows(300))._cache_size() == 1


def test_callbacks_show_score_and_stop_epochs(profiles, capsys):
    X, y = profiles
    monitor = ScoringMonitor(scoring="r2")
    model = DGEXRegressor(**SMALL).set_callbacks(monitor, ProgressBar()).fit(X, y)
    logs = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(logs) == 6
    assert logs[-1]["r2"] > logs[0]["r2"]
    assert "100%" in capsys.readouterr().out
    assert model.n_iter_ == 6
    stopped = DGEXRegressor(**SMALL).set_callbacks(RaiseAt(3, lambda: True)).fit(X, y)
    assert stopped.n_iter_ == 3
    assert_same_model(stopped, DGEXRegressor(**{**SMALL, "max_iter": 3}).fit(X, y))


def test_scores_of_epochs_are_of_the_training_profiles_and_the_best_weights(profiles):
    X, y = profiles
    monitor = ScoringMonitor(scoring="r2")
    model = DGEXRegressor(**SMALL).set_callbacks(monitor).fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    last = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"][-1]
    assert last["r2"] == pytest.approx(model.score(X[:80], y[:80]))


def test_verbose_prints_a_line_per_epoch(profiles, capsys):
    DGEXRegressor(**SMALL, verbose=True).fit(*profiles)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("Epoch   1: training MAE ")


def test_clone_representation_and_joblib(profiles, tmp_path):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=[8, 4], devices=[0], max_iter=2, random_state=3)
    assert clone(model).get_params() == model.get_params()
    expected = "DGEXRegressor(devices=[0], hidden_layer_sizes=[8, 4], max_iter=2, random_state=3)"
    assert " ".join(repr(model).split()) == expected
    assert "DGEXRegressor" in model._repr_html_()
    joblib.dump(model.fit(X, y), tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(X), model.predict(X))


def test_a_pickle_holds_nothing_of_jax_or_optax(profiles):
    stored = pickle.dumps(DGEXRegressor(**SMALL, solver="adamw").fit(*profiles), protocol=2)
    modules = {argument.split(" ")[0] for opcode, argument, _ in pickletools.genops(stored) if opcode.name == "GLOBAL"}
    assert {module.split(".")[0] for module in modules} <= {
        "dgex",
        "numpy",
        "copy_reg",
        "copyreg",
        "_codecs",
        "__builtin__",
    }


# --- bad input ------------------------------------------------------------------------------------


def spoiled(array, value):
    array = array.copy()
    array[3, 1] = value
    return array


BAD_DATA = {
    "X with one dimension": (lambda X, y: (X[:, 0], y), "Expected 2D array"),
    "y with three dimensions": (lambda X, y: (X, y[:, :, None]), "dim 3"),
    "different numbers of profiles": (
        lambda X, y: (X, y[:50]),
        r"inconsistent numbers of samples: \[120, 50\]\nGot X of shape \(120, \d+\) and .* Pass the same profiles",
    ),
    "genes in rows": (
        lambda X, y: (X.T, y.T),
        r"in both. Are genes in the rows\? Pass X.T and y.T",
    ),
    "one profile": (lambda X, y: (X[:1], y[:1]), "minimum of 2 is required"),
    "no profile": (lambda X, y: (X[:0], y[:0]), "0 sample"),
    "no landmark": (lambda X, y: (X[:, :0], y), "0 feature"),
    "NaN in X": (lambda X, y: (spoiled(X, np.nan), y), r"1 value in 1 gene of X is NaN or infinite \(1\). Impute"),
    "infinity in y": (lambda X, y: (X, spoiled(y, np.inf)), r"1 value in 1 gene of y is NaN or infinite \(1\)"),
    "text": (
        lambda X, y: (pd.DataFrame(X).rename(columns=str).assign(sample="S1"), y),
        r"X must hold expression values only \(text columns: sample\)",
    ),
    "text in y": (
        lambda X, y: (X, pd.DataFrame(y).rename(columns=str).assign(a="b")),
        r"y must hold .*text columns: a\)",
    ),
    "duplicate landmarks": (
        lambda X, y: (pd.DataFrame(X, columns=["A", "A", "B", "B", *"CDEFGHIJ"]), y),
        r"Got 2 gene names more than once \(A, B\)",
    ),
    "duplicate targets": (
        lambda X, y: (X, pd.DataFrame(y, columns=[*"ABCDEFGH", "A"])),
        r"Got 1 target gene name more than once \(A\)",
    ),
    "beyond float32": (lambda X, y: (spoiled(X.astype(float), 1e300), y), "Got values up to 1e.300 in X"),
    "no y": (lambda X, y: (X, None), "requires y to be passed, but the target y is None"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_clear_error(profiles, name):
    change, message = BAD_DATA[name]
    with pytest.raises(ValueError, match=message):
        DGEXRegressor(**SMALL).fit(*change(*profiles))


BAD_VALIDATION = {
    "X_val alone": (lambda X, y: {"X_val": X}, "Got X_val without y_val"),
    "y_val alone": (lambda X, y: {"y_val": y}, "Got y_val without X_val"),
    "different numbers of sets": (
        lambda X, y: {"X_val": (X, X), "y_val": y},
        "2 validation sets in X_val and 1 in y_val",
    ),
    "a list of sets": (lambda X, y: {"X_val": [X, X], "y_val": [y, y]}, "a tuple of arrays for several sets"),
    "no sets": (lambda X, y: {"X_val": (), "y_val": ()}, "at least one"),
    "empty set": (
        lambda X, y: {"X_val": (X, X[:0]), "y_val": (y, y[:0])},
        r"Validation set 1 is empty: X_val \(set 1\) has 0",
    ),
    "other landmarks": (
        lambda X, y: {"X_val": X[:, :5], "y_val": y},
        r"X_val \(set 0\) has 5 features, but DGEXRegressor is expecting 12",
    ),
    "other targets": (
        lambda X, y: {"X_val": X, "y_val": y[:, :5]},
        r"y_val \(set 0\) with 5 target genes.* 9 of training",
    ),
    "different numbers of profiles": (
        lambda X, y: {"X_val": X[:9], "y_val": y},
        r"Got 9 profiles in X_val \(set 0\) and 120 in y_val \(set 0\)",
    ),
    "NaN in the second set": (
        lambda X, y: {"X_val": (X, spoiled(X, np.nan)), "y_val": (y, y)},
        r"^Input X_val \(set 1\) contains NaN.\n1 value in 1 gene of X_val \(set 1\) is NaN or infinite \(\d+\)",
    ),
    "beyond float32": (
        lambda X, y: {"X_val": X.astype(np.float64) * 1e39, "y_val": y},
        r"in X_val \(set 0\), but expected at most",
    ),
    "an empty list": (lambda X, y: {"X_val": [], "y_val": []}, "Validation set 0 is empty"),
    "a set that is None": (lambda X, y: {"X_val": (X, None), "y_val": (y, None)}, r"Got X_val \(set 1\)=None"),
}


@pytest.mark.parametrize("name", BAD_VALIDATION)
def test_bad_validation_data_is_one_clear_error(profiles, name):
    change, message = BAD_VALIDATION[name]
    with pytest.raises(ValueError, match=message):
        DGEXRegressor(**SMALL).fit(*profiles, **change(*profiles))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 1.0}, r"'dropout' .* range \[0.0, 1.0\). Got 1.0 instead"),
        ({"dropout": -0.1}, "'dropout'"),
        (
            {"hidden_layer_sizes": (16, 0)},
            r"Got hidden_layer_sizes=\(16, 0\), but expected whole numbers of at least 1",
        ),
        ({"hidden_layer_sizes": (16.5,)}, "expected whole numbers"),
        ({"hidden_layer_sizes": -3}, "'hidden_layer_sizes'"),
        ({"activation": "sigmoid"}, "'activation' .* Got 'sigmoid' instead"),
        ({"loss": "poisson"}, "'loss'"),
        ({"solver": "lbfgs"}, "'solver'"),
        ({"learning_rate_init": 0.0}, "'learning_rate_init'"),
        (
            {"learning_rate_min": 0.1, "learning_rate_init": 0.05},
            "Got learning_rate_min=0.1, but expected at most learning",
        ),
        ({"learning_rate_decay": 1.5}, "'learning_rate_decay'"),
        ({"momentum": 1.0}, "'momentum'"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"max_iter": -1}, "'max_iter'"),
        ({"max_iter": 0}, "Got max_iter=0 and start='random', but random weights are no model"),
        ({"validation_fraction": 1.0}, "'validation_fraction'"),
        ({"early_stopping": True, "validation_fraction": 0}, "stopping needs an error to watch"),
        ({"compute_dtype": "float16"}, "'compute_dtype'"),
        ({"devices": 99}, "only 1 cpu device"),
        ({"devices": [0, 0]}, "none of them twice"),
        ({"devices": []}, "at least one device"),
        ({"random_state": "seed"}, "'random_state'"),
    ],
)
def test_bad_parameters_are_one_clear_error(profiles, parameters, message):
    with pytest.raises(ValueError, match=message):
        DGEXRegressor(**{**SMALL, **parameters}).fit(*profiles)


def test_bad_profiles_at_predict_are_one_clear_error(profiles):
    X, y = profiles
    with pytest.raises(sklearn.exceptions.NotFittedError, match="not fitted yet"):
        DGEXRegressor().predict(X)
    with pytest.raises(sklearn.exceptions.NotFittedError, match="not fitted yet"):
        DGEXRegressor().best_model()
    model = DGEXRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="X has 11 features, but DGEXRegressor is expecting 12"):
        model.predict(X[:, :11])
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.predict(spoiled(X, np.nan))
    with pytest.raises(ValueError, match=r"Got validation_set=1, but the model was selected on 1 validation sets"):
        model.best_model(1)


def test_a_failed_fit_leaves_the_estimator_as_it_was(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        model.fit(X, y[:50])
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.fit(pd.DataFrame(X[:, :5]).rename(columns=str), spoiled(y[:, 0:3], np.nan))
    np.testing.assert_array_equal(model.predict(X), before)
    assert np.isfinite(model.score(X, y))
    new = DGEXRegressor(**SMALL, learning_rate_min=1.0)
    with pytest.raises(ValueError, match="learning_rate_min"):
        new.fit(X, y)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        new.predict(X)
    assert not [name for name in vars(new) if name.endswith("_") or name.startswith("_")]


# --- the process ----------------------------------------------------------------------------------


def run_python(code, **environment):
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **environment}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_starts_no_backend():
    code = (
        "import dgex, sys; assert 'jax' not in sys.modules; "
        "from dgex import QuantileJointNormalizer, KNNGeneRegressor; assert 'jax' not in sys.modules; "
        "from dgex import DGEXRegressor, recipes; DGEXRegressor(); assert 'flax' not in sys.modules; "
        "from jax._src import xla_bridge; "
        "print(len(xla_bridge._backends))"
    )
    assert run_python(code).strip() == "0"


def test_the_sixty_four_bit_mode_of_jax_changes_nothing():
    code = """
import numpy as np
from dgex import DGEXRegressor
rng = np.random.default_rng(0)
X, y = rng.standard_normal((50, 5)).astype(np.float32), rng.standard_normal((50, 4)).astype(np.float32)
for solver in ("sgd", "adamw"):
    for loss in ("squared_error", "absolute_error", "huber"):
        model = DGEXRegressor(hidden_layer_sizes=6, solver=solver, loss=loss, max_iter=3, random_state=0).fit(X, y)
        print(model.coefs_[0].dtype, model.coefs_[0].sum(), model.predict(X).sum())
"""
    assert run_python(code, JAX_ENABLE_X64="1") == run_python(code)


def test_a_real_interrupt_ends_training_soon_and_keeps_a_model():
    # SIGINT comes from another thread, at any moment after the first epoch was printed.
    code = """
import io, os, signal, sys, threading, time, warnings
import numpy as np
from dgex import DGEXRegressor

def interrupt():
    while "Epoch   1" not in printed.getvalue():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

rng = np.random.default_rng(0)
X, y = rng.standard_normal((400, 20), dtype=np.float32), rng.standard_normal((400, 30), dtype=np.float32)
model = DGEXRegressor(hidden_layer_sizes=50, max_iter=10**9, batch_size=50, random_state=0, verbose=True)
sys.stdout, terminal, printed = (printed := io.StringIO()), sys.stdout, printed
threading.Thread(target=interrupt, daemon=True).start()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.fit(X, y)
assert any("interrupted" in str(warning.message) for warning in caught), caught
assert np.isfinite(model.predict(X)).all()
print(model.n_iter_, file=terminal)
"""
    assert int(run_python(code)) >= 1


def test_warnings_name_the_line_of_the_user(profiles):
    X, y = profiles
    for fit in [DGEXRegressor(**SMALL).fit, DGEXRegressor(**SMALL).partial_fit, KNNGeneRegressor().fit]:
        with pytest.warns(UserWarning, match="also landmarks") as caught:
            fit(X, np.hstack([y, X[:, :1]]))
        assert [warning.filename for warning in caught] == [__file__]


def test_a_new_learning_rate_takes_effect_when_going_on(profiles):
    parameters = SMALL | {"max_iter": 2, "warm_start": True}
    model = DGEXRegressor(**parameters, learning_rate_init=1e-3).fit(*profiles)
    model.set_params(learning_rate_init=2e-4).fit(*profiles)
    assert [record["learning_rate"] for record in model.history_] == [1e-3, 1e-3, 2e-4, 2e-4]
    # The advice of the error can be followed.
    model.set_params(learning_rate_init=1e6)
    with pytest.raises(TrainingDiverged):
        model.fit(*profiles)
    model.set_params(learning_rate_init=1e-4).fit(*profiles)
    assert model.history_[-1]["learning_rate"] == 1e-4
    with pytest.raises(ValueError, match="Got standardize=False, but the network to go on with"):
        model.set_params(standardize=False).fit(*profiles)


def test_an_interrupted_epoch_is_not_finished_on_other_profiles(profiles):
    X, y = profiles
    model, straight = (DGEXRegressor(**SMALL | {"batch_size": 20}).fit(X, y) for _ in range(2))
    model._run.step, model._run.epoch_loss = 3, 1.0  # as an interrupt leaves it
    straight.partial_fit(X[::-1], y[::-1])
    model.partial_fit(X[::-1], y[::-1])
    assert_same_model(model, straight)


def test_pieces_of_a_single_profile_train_a_fitted_model(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL).fit(X, y)
    n_iter = model.n_iter_
    assert model.partial_fit(X[:1], y[:1]).n_iter_ == n_iter + 1
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        DGEXRegressor(**SMALL).partial_fit(X[:1], y[:1])


@pytest.mark.parametrize(("n_profiles", "fraction"), [(2, 0.1), (10, 0.95)])
def test_holding_out_leaves_enough_to_train_on(profiles, n_profiles, fraction):
    X, y = profiles
    model = DGEXRegressor(**SMALL | {"validation_fraction": fraction})
    with pytest.raises(ValueError, match=f"Got {n_profiles} profiles.*leaves 1, but expected at least 2"):
        model.fit(X[:n_profiles], y[:n_profiles])


def test_float32_frames_stay_float32(frames):
    X, y = frames
    assert DGEXRegressor(**SMALL).fit(X, y).predict(X).dtype == np.float32
    if isinstance(X, pd.DataFrame):
        nullable = X.astype("Float32")
        assert DGEXRegressor(**SMALL).fit(nullable, y).predict(nullable).dtype == np.float32


def test_missing_values_of_nullable_columns_are_found(profiles):
    X, y = (pd.DataFrame(array).astype("Float64") for array in profiles)
    X.iloc[3, 5] = pd.NA
    with pytest.raises(ValueError, match=r"Input X contains NaN.\n1 value in 1 gene of X is NaN"):
        DGEXRegressor(**SMALL).fit(X, y)


def test_dates_and_mixed_names_are_not_expression(frames, profiles):
    X, y = frames
    dates = pd.to_datetime(np.arange(len(X)))
    if isinstance(X, pd.DataFrame):
        with pytest.raises(TypeError, match=r"Got 1 of \d+ column names that are not text"):
            DGEXRegressor(**SMALL).fit(*profiles[:1], y.rename(columns={"T3": 3}))
        X = X.assign(date=dates)
    else:
        X = X.with_columns(pl.Series("date", dates))
    with pytest.raises(ValueError, match="Got dates in X"):
        DGEXRegressor(**SMALL).fit(X, y)


def test_reordered_genes_are_counted_and_named(frames):
    X, y = frames
    model = DGEXRegressor(**SMALL).fit(X, y)
    order = ["L1", "L0", *X.columns[2:]]
    with pytest.raises(ValueError, match=r"in another order: 2 are not where they were \(L1, L0\)"):
        model.predict(X[order])


@pytest.fixture(scope="module")
def partitioned(profiles):
    X, y = profiles
    return DGEXRegressor(**SMALL | {"hidden_layer_sizes": (7, 5), "n_partitions": 2}).fit(X, y)


def test_partitions_are_disjoint_random_and_reproducible(profiles, partitioned):
    X, y = profiles
    assert sorted(np.bincount(partitioned.partition_)) == [4, 5]
    again, other = (
        DGEXRegressor(**SMALL | {"n_partitions": 2, "max_iter": 1, "random_state": seed}).fit(X, y) for seed in (0, 1)
    )
    np.testing.assert_array_equal(again.partition_, partitioned.partition_)
    assert not np.array_equal(other.partition_, partitioned.partition_)
    assert not DGEXRegressor(**SMALL | {"max_iter": 1}).fit(X, y).partition_.any()


def test_a_network_of_several_is_the_network_that_its_targets_alone_would_have(profiles, partitioned):
    # The first network draws the same numbers as if it were alone: weights, order and dropout are the same.
    X, y = profiles
    members = np.flatnonzero(partitioned.partition_ == 0)
    alone = DGEXRegressor(**SMALL | {"hidden_layer_sizes": (7, 5)}).fit(X, y[:, members])
    for layer in range(2):
        np.testing.assert_allclose(partitioned.coefs_[layer][0], alone.coefs_[layer], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(partitioned.intercepts_[layer][0], alone.intercepts_[layer], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(partitioned.coefs_[2][:, members], alone.coefs_[2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(partitioned.predict(X)[:, members], alone.predict(X), rtol=1e-4)
    assert partitioned.best_epoch_[0] == alone.best_epoch_
    for ours, theirs in zip(partitioned.history_, alone.history_, strict=True):
        for name in ("learning_rate", "loss", "train_mae", "validation_mae_0"):
            assert ours[f"{name}_partition_0"] == pytest.approx(theirs[name], rel=1e-4)


def test_predictions_of_partitions_equal_numpy(profiles, partitioned):
    X, _ = profiles
    z = (X - partitioned.landmark_mean_) / partitioned.landmark_scale_
    expected = np.empty((len(X), 9))
    for network in range(2):
        members = partitioned.partition_ == network
        h = z
        for coefs, intercepts in zip(partitioned.coefs_[:2], partitioned.intercepts_[:2], strict=True):
            h = np.tanh(h @ coefs[network] + intercepts[network])
        expected[:, members] = h @ partitioned.coefs_[2][:, members] + partitioned.intercepts_[2][members]
    expected = expected * partitioned.target_scale_ + partitioned.target_mean_
    np.testing.assert_allclose(partitioned.predict(X), expected, rtol=1e-4)


def test_records_of_partitions_add_up(partitioned):
    sizes = np.bincount(partitioned.partition_)
    for record in partitioned.history_:
        for name in ("train_mae", "validation_mae_0"):
            assert record[name] == pytest.approx(
                np.average([record[f"{name}_partition_{i}"] for i in range(2)], weights=sizes)
            )
        assert record["loss"] == pytest.approx(record["loss_partition_0"] + record["loss_partition_1"])
    errors = [min(r[f"validation_mae_0_partition_{i}"] for r in partitioned.history_) for i in range(2)]
    assert partitioned.best_score_ == pytest.approx(np.average(errors, weights=sizes))


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_partitions_go_on_bit_by_bit(profiles, solver):
    parameters = SMALL | {"n_partitions": 4, "partition": "clustered", "solver": solver, "warm_start": True}
    straight = DGEXRegressor(**parameters | {"max_iter": 6}).fit(*profiles)
    model = DGEXRegressor(**parameters | {"max_iter": 3}).fit(*profiles)
    model = pickle.loads(pickle.dumps(model)).fit(*profiles)
    for a, b in zip([*straight.coefs_, *straight.intercepts_], [*model.coefs_, *model.intercepts_], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(straight.best_epoch_, model.best_epoch_)
    for name, value in (("n_partitions", 2), ("partition", "random")):
        changed = pickle.loads(pickle.dumps(model)).set_params(**{name: value})
        with pytest.raises(ValueError, match=f"Got {name}="):
            changed.fit(*profiles)


def test_every_partition_has_its_own_best_epochs_on_every_validation_set(profiles):
    X, y = profiles
    sets = {"X_val": (X[80:100], X[100:]), "y_val": (y[80:100], y[100:])}
    model = DGEXRegressor(**SMALL | {"n_partitions": 3, "max_iter": 12}).fit(X[:80], y[:80], **sets)
    for index in range(2):
        by_network = [
            [record[f"validation_mae_{index}_partition_{network}"] for record in model.history_] for network in range(3)
        ]
        best = model.best_model(index)
        assert best.best_epoch_.tolist() == [int(np.argmin(errors)) + 1 for errors in by_network]
        errors = np.abs((best.predict(sets["X_val"][index]) - sets["y_val"][index]) / model.target_scale_).mean(axis=0)
        for network in range(3):
            assert errors[model.partition_ == network].mean() == pytest.approx(min(by_network[network]), rel=1e-4)


def test_more_partitions_than_targets_are_refused(profiles):
    X, y = profiles
    with pytest.raises(ValueError, match=r"Got n_partitions=10, but expected at most 9, the number of target genes"):
        DGEXRegressor(**SMALL | {"n_partitions": 10}).fit(X, y)
    assert DGEXRegressor(**SMALL | {"n_partitions": 9, "max_iter": 1}).fit(X, y).predict(X).shape == y.shape


def test_a_line_for_an_epoch_has_one_error_for_each_validation_set(profiles, capsys):
    X, y = profiles
    model = DGEXRegressor(**SMALL | {"n_partitions": 3, "max_iter": 2, "verbose": True})
    model.fit(X[:80], y[:80], (X[80:100], X[100:]), (y[80:100], y[100:]))
    for line, record in zip(capsys.readouterr().out.splitlines(), model.history_, strict=True):
        errors = " ".join(f"{record[f'validation_mae_{index}']:.4f}" for index in range(2))
        assert f"training MAE {record['train_mae']:.4f}, validation MAE {errors}, learning rate" in line


def test_how_targets_would_be_divided_does_not_matter_to_one_network(profiles):
    model = DGEXRegressor(**SMALL | {"max_iter": 1, "warm_start": True}).fit(*profiles)
    assert model.set_params(partition="clustered").fit(*profiles).n_iter_ == 2


def test_predictions_are_written_where_asked(profiles, tmp_path):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X, y)
    expected = model.predict(X)
    memory_map = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.float32, y.shape)
    assert model.predict(X, out=memory_map) is memory_map
    np.testing.assert_array_equal(memory_map, expected.astype(np.float32))
    wide = np.full((len(X), y.shape[1] + 3), np.nan)
    make_pipeline(FunctionTransformer().fit(X), model).predict(X, out=wide[:, 3:])
    np.testing.assert_array_equal(wide[:, 3:].astype(np.float32), expected.astype(np.float32))
    assert np.isnan(wide[:, :3]).all()


@pytest.mark.parametrize("out", [[[0.0]], np.empty((2, 2)), np.empty((3, 4), int)])
def test_where_predictions_are_written_is_checked(out, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=(8,), max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"Got out=.*, but expected a writable array .* of shape \(3, "):
        model.predict(X[:3], out=out)


# --- the parts of the modern recipe ---------------------------------------------------------------

CLOSED = {
    "hidden_layer_sizes": (30,),
    "activation": "abs",
    "linear_path": True,
    "start": "closed_form",
    "max_iter": 0,
    "random_state": 0,
}


def by_hand(model, X):
    """Predictions in float64."""
    Z = (X - model.landmark_mean_) / model.landmark_scale_
    hidden = np.abs(Z @ model.coefs_[0].astype(float) + model.intercepts_[0])
    seen = np.hstack([Z, hidden]) if model.linear_path else hidden
    return (seen @ model.coefs_[1].astype(float) + model.intercepts_[1]) * model.target_scale_ + model.target_mean_


@pytest.mark.parametrize("start", [{"start": "random", "max_iter": 5}, {}])
@pytest.mark.parametrize("linear_path", [True, False])
def test_the_output_layer_sees_landmarks_before_units(profiles, start, linear_path):
    X, y = profiles
    model = DGEXRegressor(**CLOSED | start | {"linear_path": linear_path}).fit(X, y)
    assert model.coefs_[-1].shape == (30 + 12 * linear_path, 9)
    np.testing.assert_allclose(model.predict(X), by_hand(model, X), rtol=1e-4)
    np.testing.assert_array_equal(model.predict(X[::-1])[::-1], model.predict(X))


def test_a_start_in_closed_form_is_a_model(profiles):
    X, y = profiles
    train, validation = slice(0, 80), slice(80, 100)
    sets = {"X_val": X[validation], "y_val": y[validation]}
    model = DGEXRegressor(**CLOSED).fit(X[train], y[train], **sets)
    assert (model.best_epoch_, model.n_iter_, model.history_, model.loss_curve_) == (0, 0, [], [])
    assert_same_model(model, DGEXRegressor(**CLOSED).fit(X[train], y[train], **sets))
    error = np.abs(model.predict(X[validation]) - y[validation]) / model.target_scale_
    assert model.best_score_ == pytest.approx(error.mean(), rel=1e-4)
    ridge = Ridge(10.0).fit(X[train], y[train])
    assert np.abs(model.predict(X[100:]) - y[100:]).mean() < 1.05 * np.abs(ridge.predict(X[100:]) - y[100:]).mean()
    # Epochs that make it worse are not kept.
    rates = {"max_iter": 3, "learning_rate_init": 0.3, "solver": "adamw"}
    spoiled = DGEXRegressor(**CLOSED | rates).fit(X[train], y[train], **sets)
    assert spoiled.best_epoch_ == 0
    assert len(spoiled.history_) == 3
    assert_same_model(spoiled, model)
    # Epochs go on from it.
    rates["learning_rate_init"] = 1e-3
    trained = DGEXRegressor(**CLOSED | rates | {"max_iter": 20}).fit(X[train], y[train], **sets)
    assert trained.history_[0]["validation_mae_0"] < 1.1 * model.best_score_
    assert trained.best_score_ <= model.best_score_
    going_on = DGEXRegressor(**CLOSED | rates | {"max_iter": 2, "warm_start": True})
    going_on.fit(X[train], y[train], **sets).fit(X[train], y[train], **sets)
    whole = DGEXRegressor(**CLOSED | rates | {"max_iter": 4}).fit(X[train], y[train], **sets)
    assert without_time(going_on.history_) == without_time(whole.history_)


@pytest.mark.parametrize("parameters", [{"n_partitions": 2}, {"hidden_layer_sizes": (30, 20)}, {"activation": "tanh"}])
def test_starts_in_closed_form_are_for_all_networks(parameters):
    data = make_expression_profiles(300, n_landmarks=20, n_targets=31, random_state=0)
    train, test = slice(0, 200), slice(200, None)
    model = DGEXRegressor(**CLOSED | parameters).fit(data.X[train], data.y[train])
    mean = data.y[train].mean(axis=0)
    assert np.abs(model.predict(data.X[test]) - data.y[test]).mean() < 0.8 * np.abs(mean - data.y[test]).mean()


def test_a_constant_gene_does_not_spoil_a_start_in_closed_form(profiles):
    X, y = (array.copy() for array in profiles)
    X[:, 3], y[:, 2] = 5.0, 7.0
    model = DGEXRegressor(**CLOSED).fit(X, y)
    np.testing.assert_allclose(model.predict(X)[:, 2], 7.0, rtol=1e-5)
    assert np.abs(model.predict(X) - y).mean() < np.abs(y - y.mean(axis=0)).mean()


def test_profiles_are_centred_where_validation_profiles_are_shifted():
    data = make_expression_profiles(300, n_landmarks=40, n_targets=30, random_state=0)
    train, validation, test = slice(0, 200), slice(200, 250), slice(250, None)
    rng = np.random.default_rng(0)
    shifted = data.X + rng.normal(0, 1.5, (300, 1))
    errors = {}
    for shift, X in (("none", data.X), ("each profile", shifted)):
        for centring in (False, True):
            model = DGEXRegressor(**CLOSED, start_centring=centring)
            model.fit(data.X[train], data.y[train], X[validation], data.y[validation])
            errors[shift, centring] = np.abs(model.predict(X[test]) - data.y[test]).mean()
            np.testing.assert_allclose(model.predict(X), by_hand(model, X), rtol=1e-3, atol=1e-3)
    assert errors["none", True] == errors["none", False]
    assert errors["each profile", True] < 0.95 * errors["each profile", False]


def test_ingredients_of_the_start_matter_and_can_be_left_out(profiles):
    fits = [
        DGEXRegressor(**CLOSED, start_profile_noise=noise, start_target_penalties=penalties, start_prior=prior).fit(
            *profiles
        )
        for noise in (True, False)
        for penalties in (True, False)
        for prior in (True, False)
    ]
    outputs = [model.coefs_[-1] for model in fits]
    for number, one in enumerate(outputs):
        assert all(not np.array_equal(one, other) for other in outputs[:number])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"validation_fraction": 0}, "Got start='closed_form' without validation data, but its penalties are chosen"),
        ({"hidden_layer_sizes": (), "start": "random", "max_iter": 1}, "Got linear_path=True without hidden layers"),
        ({"hidden_layer_sizes": (), "linear_path": False}, "Got start='closed_form' without hidden layers"),
        ({"start": "ridge"}, "'start'"),
        ({"learning_rate_schedule": "step"}, "'learning_rate_schedule'"),
    ],
)
def test_bad_starts_are_one_clear_error(profiles, parameters, message):
    model = DGEXRegressor(**CLOSED | parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(*profiles)
    assert not hasattr(model, "coefs_")


def test_a_network_goes_on_with_its_own_path(profiles):
    model = DGEXRegressor(**SMALL, warm_start=True).fit(*profiles)
    with pytest.raises(ValueError, match="Got linear_path=True, but the network to go on with was trained with False"):
        model.set_params(linear_path=True).fit(*profiles)


def test_the_learning_rate_falls_along_a_cosine(profiles):
    cosine = {"learning_rate_schedule": "cosine", "learning_rate_init": 1e-3, "learning_rate_min": 1e-4}
    model = DGEXRegressor(**SMALL | cosine | {"max_iter": 4, "warm_start": True}).fit(*profiles)
    expected = 1e-4 + 9e-4 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose([record["learning_rate"] for record in model.history_], expected)
    model.fit(*profiles)  # has ended and begins anew
    np.testing.assert_allclose([record["learning_rate"] for record in model.history_], [*expected, *expected])
    # A start in closed form, of no epochs, has no cosine to go on with.
    start = DGEXRegressor(**CLOSED | cosine | {"max_iter": 0, "warm_start": True}).fit(*profiles)
    start.set_params(max_iter=4).fit(*profiles)
    np.testing.assert_allclose([record["learning_rate"] for record in start.history_], expected)
    # A call that ended early leaves nothing of its cosine, nor does a cosine leave its last rate to another schedule.
    stopped = DGEXRegressor(
        **SMALL
        | cosine
        | {"max_iter": 9, "warm_start": True, "early_stopping": True, "n_iter_no_change": 1, "tol": 1e9}
    ).fit(*profiles)
    assert stopped.n_iter_ < 9
    stopped.set_params(max_iter=4, early_stopping=False).fit(*profiles)
    np.testing.assert_allclose([record["learning_rate"] for record in stopped.history_[-4:]], expected)
    stopped.set_params(max_iter=1, learning_rate_schedule="adaptive").fit(*profiles)
    assert stopped.history_[-1]["learning_rate"] == pytest.approx(1e-3)
    # Epoch by epoch it is the same, and then begins anew.
    steps = clone(model).set_params(validation_fraction=0.0)
    for _ in range(6):
        steps.partial_fit(*profiles)
    rates = [record["learning_rate"] for record in steps.history_]
    np.testing.assert_allclose(rates, [*expected, *expected[:2]])
    steps.set_params(max_iter=2).fit(*profiles)  # as many as are left
    np.testing.assert_allclose([record["learning_rate"] for record in steps.history_], [*expected, *expected])


def gentle(**parameters):
    cosine = {"learning_rate_schedule": "cosine", "learning_rate_init": 1e-3, "learning_rate_min": 1e-5}
    return DGEXRegressor(**CLOSED | cosine | {"start_epochs": 3, "max_iter": 7, "solver": "adamw"} | parameters)


def rates_of(model):
    return [record["learning_rate"] for record in model.history_]


def test_gentle_epochs_come_first(profiles, monkeypatch):
    monkeypatch.setattr(_training, "WORTHWHILE", -np.inf)
    half_cosine = (1 + np.cos(np.pi * np.arange(5) / 4)) / 2
    third = (1 + np.cos(np.pi * np.arange(3) / 3)) / 2
    expected = [*1e-5 + 9e-5 * third, *1e-5 + 99e-5 * half_cosine[:4]]
    model = gentle(warm_start=True).fit(*profiles)
    np.testing.assert_allclose(rates_of(model), expected)
    np.testing.assert_allclose(
        rates_of(model.fit(*profiles))[7:], 1e-5 + 99e-5 * (1 + np.cos(np.pi * np.arange(7) / 7)) / 2
    )
    # Fewer epochs are all gentle; others that follow a start of none are as if they had been asked for at once.
    np.testing.assert_allclose(rates_of(gentle(max_iter=3).fit(*profiles)), expected[:3])
    start = gentle(max_iter=0, warm_start=True).fit(*profiles).set_params(max_iter=7).fit(*profiles)
    np.testing.assert_allclose(rates_of(start), expected)
    assert rates_of(gentle(start="random").fit(*profiles))[0] == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="Got start_epochs=3 and learning_rate_schedule='adaptive'"):
        gentle(learning_rate_schedule="adaptive").fit(*profiles)


@pytest.mark.parametrize(("factor", "n_epochs"), [(0.995, 3), (0.98, 7), (2.0, 3)])
def test_training_goes_on_after_gentle_epochs_if_they_are_worth_it(profiles, monkeypatch, factor, n_epochs):
    start = gentle(max_iter=0).fit(*profiles)
    monkeypatch.setattr(_training, "train_epoch", one_epoch_of_error(factor * start.best_score_))
    assert gentle().fit(*profiles).n_iter_ == n_epochs


@pytest.mark.parametrize("n_before", [1, 3])
@pytest.mark.parametrize(("factor", "is_worth_it"), [(0.995, False), (0.98, True)])
def test_gentle_epochs_are_judged_after_an_interruption_too(profiles, monkeypatch, n_before, factor, is_worth_it):
    start = gentle(max_iter=0).fit(*profiles)
    monkeypatch.setattr(_training, "train_epoch", one_epoch_of_error(factor * start.best_score_))
    model = gentle(max_iter=7, warm_start=True)
    ended = EpochObserver.epoch_ended

    def interrupting(self, run):
        if run.epoch == n_before:
            raise KeyboardInterrupt
        return ended(self, run)

    monkeypatch.setattr(EpochObserver, "epoch_ended", interrupting)
    with pytest.warns(UserWarning, match=f"interrupted after epoch {n_before}"):
        model.fit(*profiles)
    monkeypatch.setattr(EpochObserver, "epoch_ended", ended)
    model.set_params(max_iter=7 - n_before).fit(*profiles)
    assert model.n_iter_ == (7 if is_worth_it or n_before == 3 else 3)
    # From then on, training has gone on in earnest, or stays gentle.
    assert (max(rates_of(model)[3:], default=0.0) > 1e-4) == is_worth_it


def test_interrupts_while_results_are_stored_lose_nothing(profiles, monkeypatch):
    X, y = profiles
    stored = Session.fitted_attributes

    def interrupted(session):
        signal.raise_signal(signal.SIGINT)
        return stored(session)

    monkeypatch.setattr(Session, "fitted_attributes", interrupted)
    model = DGEXRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match=r"interrupted after epoch 3; the model of epoch \d is kept"):
        model.fit(X, y)
    assert model.n_iter_ == 3
    with pytest.warns(UserWarning, match="interrupted after epoch 4; the model of epoch 4 is kept"):
        model.partial_fit(X, y)
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(model, {"dropout": [0.1]}, cv=2).fit(X, y)


@pytest.mark.parametrize("ignored", [True, False])
def test_interrupts_that_others_handle_are_theirs(profiles, monkeypatch, ignored):
    handled = []
    own = signal.SIG_IGN if ignored else lambda number, frame: handled.append(number)
    stored = Session.fitted_attributes

    def interrupted(session):
        signal.raise_signal(signal.SIGINT)
        return stored(session)

    monkeypatch.setattr(Session, "fitted_attributes", interrupted)
    before = signal.signal(signal.SIGINT, own)
    try:
        DGEXRegressor(hidden_layer_sizes=(5,), max_iter=1, random_state=0).fit(*profiles)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(handled) == (0 if ignored else 1)


def test_an_interrupt_at_the_end_of_the_last_gentle_epoch_does_not_lose_the_verdict(profiles, monkeypatch):
    monkeypatch.setattr(_training, "WORTHWHILE", np.inf)
    updated = _training.updated_best

    def interrupted(best, parameters, epoch, *more):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)
        return updated(best, parameters, epoch, *more)

    monkeypatch.setattr(_training, "updated_best", interrupted)
    with pytest.warns(UserWarning, match="interrupted after epoch 3"):
        model = gentle(max_iter=7, warm_start=True).fit(*profiles)
    model.set_params(max_iter=4).fit(*profiles)
    assert 0 < max(rates_of(model)[3:]) <= 1e-4


def test_patience_goes_on_from_the_lowest_error_so_far(profiles):
    model = DGEXRegressor(hidden_layer_sizes=(5,), max_iter=4, warm_start=True, early_stopping=True, random_state=0)
    model.set_params(n_iter_no_change=2, tol=10.0).fit(*profiles)
    assert model.n_iter_ == 3  # the first is progress below nothing
    assert model.fit(*profiles).n_iter_ == 5


def one_epoch_of_error(error):
    """Epochs with this error on the first validation set."""
    train_epoch = _training.train_epoch

    def with_error(run, *more):
        train_epoch(run, *more)
        return [error]

    return with_error


@pytest.mark.parametrize("max_iter", [0, 3, 7])
def test_training_stays_gentle_where_it_ended_so(profiles, monkeypatch, max_iter):
    data = *(rows[:90] for rows in profiles), *(rows[90:] for rows in profiles)
    monkeypatch.setattr(_training, "WORTHWHILE", np.inf)
    model = gentle(max_iter=max_iter, warm_start=True, weight_decay=100.0, learning_rate_min=0.0).fit(*data)
    assert model.n_iter_ == min(max_iter, 3)
    without_decay = copy.deepcopy(model).set_params(weight_decay=0.0)
    for _ in range(6):
        model.partial_fit(*data)
        without_decay.partial_fit(*data)
    np.testing.assert_array_equal(model.coefs_[0], without_decay.coefs_[0])
    assert 0 < max(rates_of(model)[min(max_iter, 3) :]) <= 1e-4
    assert max(rates_of(copy.deepcopy(model).set_params(max_iter=5).fit(*data))[-5:]) <= 1e-4
    for changed, rate in (({"start_epochs": 0}, 1e-3), ({"learning_rate_init": 1e-2}, 1e-2)):
        again = copy.deepcopy(model).set_params(max_iter=5, **changed).fit(*data)
        assert rates_of(again)[-5] == pytest.approx(rate)


def test_a_cosine_that_goes_on_heeds_a_new_minimum(profiles):
    model = gentle(start_epochs=0, validation_fraction=0.0, start="random", learning_rate_min=0.0)
    model.partial_fit(*profiles).set_params(learning_rate_min=9e-4)
    for _ in range(6):
        model.partial_fit(*profiles)
    expected = 9e-4 + 1e-4 * (1 + np.cos(np.pi * np.arange(1, 7) / 7)) / 2
    np.testing.assert_allclose(rates_of(model)[1:], expected)


def test_gentle_epochs_do_not_decay_weights(profiles, monkeypatch):
    monkeypatch.setattr(_training, "WORTHWHILE", -np.inf)
    for max_iter, alike in ((3, True), (4, False)):
        one, other = (gentle(max_iter=max_iter, weight_decay=decay).fit(*profiles) for decay in (0.0, 100.0))
        assert np.array_equal(one.coefs_[0], other.coefs_[0]) == (alike or one.best_epoch_ == other.best_epoch_ == 0)
        assert np.array_equal(one._run.state.parameters[0].kernel, other._run.state.parameters[0].kernel) == alike


def test_automatic_weight_decay_is_a_share_of_the_weights_in_an_epoch(profiles):
    for batch_size, n_steps in ((200, 1), (32, 4)):
        shared = {"solver": "adamw", "learning_rate_init": 1e-3, "batch_size": batch_size, "validation_fraction": 0.0}
        models = [DGEXRegressor(**SMALL | shared, weight_decay=decay) for decay in ("auto", 150 / n_steps)]
        automatic, by_hand = (model.fit(*profiles).coefs_[0] for model in models)
        np.testing.assert_array_equal(automatic, by_hand)
        # Fewer profiles afterwards lose no more in a step.
        few = [rows[:5] for rows in profiles]
        automatic, by_hand = (model.partial_fit(*few).coefs_[0] for model in models)
        np.testing.assert_array_equal(automatic, by_hand)


def test_names_that_are_whole_numbers_are_checked(profiles):
    X, y = (pd.DataFrame(genes, columns=np.arange(genes.shape[1]) * 7 + 1000 * genes.shape[1]) for genes in profiles)
    model = DGEXRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(X, y)
    assert model.feature_names_in_[:2].tolist() == ["12000", "12007"]
    assert model.target_names_[0] == "9000"
    model.predict(X)
    with pytest.raises(ValueError, match="in another order"):
        model.predict(X[X.columns[::-1]])
    assert X.columns[0] == 12000


def test_columns_of_several_levels_are_refused(profiles):
    X, y = (pd.DataFrame(genes) for genes in profiles)
    X.columns = pd.MultiIndex.from_product([["human"], [f"L{column}" for column in X]])
    with pytest.raises(TypeError, match=r"Got 12 of 12 column names.*data\.columns = data\.columns\.map\('\|'\.join\)"):
        DGEXRegressor(**SMALL).fit(X, y)
    X.columns = X.columns.map("|".join)
    y.columns = y.columns + 0.5
    with pytest.raises(TypeError, match=r"not text, such as 0\.5.*astype\(str\)"):
        DGEXRegressor(**SMALL).fit(X, y)


def test_validation_sets_by_name_are_refused(profiles):
    with pytest.raises(ValueError, match="Got X_val as a dict of arrays"):
        DGEXRegressor(**SMALL).fit(*profiles, X_val={"arrays": profiles[0]}, y_val={"arrays": profiles[1]})


def test_a_closed_form_of_values_that_are_not_standardized_is_warned_of(profiles):
    X, y = profiles
    model = DGEXRegressor(**CLOSED | {"max_iter": 0, "standardize": False})
    with pytest.warns(UserWarning, match=r"Got standardize=False and landmarks whose standard deviation is \d"):
        model.fit(1e4 * X, y)
    model.fit((X - X.mean(axis=0)) / X.std(axis=0), y - y.mean(axis=0))


def test_a_trained_model_can_be_gone_on_with_for_no_epoch(profiles):
    X, y = profiles
    model = DGEXRegressor(**SMALL, warm_start=True).fit(X, y)
    before = model.predict(X)
    np.testing.assert_array_equal(model.set_params(max_iter=0).fit(X, y).predict(X), before)


def test_rows_of_the_same_names_have_to_be_in_the_same_order(profiles):
    X, y = (pd.DataFrame(genes, index=[f"p{row}" for row in range(len(genes))]) for genes in profiles)
    model = DGEXRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0)
    with pytest.raises(ValueError, match=r"of X and y are not the same \(p0 and p119.* Bring .*: y.loc\[X.index\]"):
        model.fit(X, y[::-1])
    with pytest.raises(
        ValueError, match=r"of X_val \(set 1\) and y_val \(set 1\) are not .*: y_val.loc\[X_val.index\]"
    ):
        model.fit(X, y, X_val=(X[:5], X[5:9]), y_val=(y[:5], y[5:9][::-1]))
    model.fit(X, y.rename(index=lambda name: f"{name} of the other platform"))
    model.fit(X.reset_index(drop=True), y.set_index(np.arange(len(y))[::-1]))


def test_a_constant_target_is_inferred_to_be_constant(profiles):
    X, y = profiles[0], profiles[1].copy()
    y[:, 1] = 5.0
    for max_iter in (0, 2):
        model = DGEXRegressor(**CLOSED | {"max_iter": max_iter}).fit(X, y)
        np.testing.assert_allclose(model.predict(3 * X)[:, 1], 5.0, atol=1e-4 if max_iter == 0 else 0.01)


def test_another_number_of_validation_sets_forgets_no_best_epoch(profiles):
    X, y = profiles
    half = len(X) // 2
    train, first, second = (X[:half], y[:half]), (X[half:-10], y[half:-10]), (X[-10:], y[-10:])
    model = DGEXRegressor(**CLOSED | {"learning_rate_init": 0.3, "warm_start": True})
    model.fit(*train, X_val=first[0], y_val=first[1])
    score, predicted = model.best_score_, model.predict(X)
    for max_iter in (0, 2):  # trained at rates that make it worse
        model.set_params(max_iter=max_iter)
        model.fit(*train, X_val=(first[0], second[0]), y_val=(first[1], second[1]))
        assert (model.best_epoch_, model.best_score_) == (0, pytest.approx(score))
        np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": (8, 6)},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (8,), "n_partitions": 2, "linear_path": True},
        {"hidden_layer_sizes": (30,), "start": "closed_form", "linear_path": True},
    ],
)
def test_landmarks_that_never_vary_in_training_do_not_count(parameters):
    rng = np.random.default_rng(0)
    X, y = rng.normal(5, 1, (60, 7)), rng.normal(8, 2, (60, 9))
    X[:, [2, 6]] = 3.7, 0.0
    model = DGEXRegressor(**parameters, solver="adamw", max_iter=3, random_state=0).fit(X, y)
    elsewhere = X.copy()
    elsewhere[:, [2, 6]] += rng.normal(0, 5, (60, 2))
    np.testing.assert_array_equal(model.predict(elsewhere), model.predict(X))
    assert not np.array_equal(model.predict(X + np.eye(7)[0]), model.predict(X))
    # As they are, constants count.
    model.set_params(standardize=False, start="random").fit(X, y)
    assert not np.array_equal(model.predict(elsewhere), model.predict(X))
    # What varies later is learned then.
    model.set_params(standardize=True).fit(X, y).partial_fit(elsewhere, y)
    assert not np.array_equal(model.predict(elsewhere), model.predict(X))
