"""What networks have learned, compared with independent computations and with what was planted."""

import gzip
import types

import anndata
import numpy as np
import pandas as pd
import pytest
from benchmarks.interpretation import TRAINED, dominant_program, regulated, strongest
from scipy.stats import fisher_exact
from sklearn.inspection import partial_dependence as sklearn_partial_dependence
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dgex import DGEXRegressor, KNNGeneRegressor
from dgex.datasets import make_expression_profiles
from dgex.inference import predict_anndata, predict_to_file
from dgex.interpretation import (
    HubUnit,
    HubUnits,
    LandmarkAttribution,
    Table,
    activation_adjusted_r2,
    gene_set_table,
    hub_units,
    landmark_attribution,
    linear_attribution,
    major_weights,
    partial_dependence,
    read_gmt,
    target_reliability,
)
from dgex.interpretation._activations import adjusted_r2
from dgex.io import open_expression, write_expression
from dgex.metrics import genewise_correlation, genewise_mae, r_gene
from dgex.persistence import load_model, save_model
from dgex.plotting import PredictionDisplay
from dgex.preprocessing import gene_scaling

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "identity": lambda z: z,
    "abs": np.abs,
}
LANDMARKS, TARGETS = [f"L{n}" for n in range(12)], [f"T{n}" for n in range(9)]


@pytest.fixture(scope="module")
def frames(profiles):
    X, y = profiles
    return pd.DataFrame(X, columns=LANDMARKS), pd.DataFrame(y, columns=TARGETS)


def fitted(frames, **parameters):
    return DGEXRegressor(**{"hidden_layer_sizes": (7,), "max_iter": 8, "random_state": 0, **parameters}).fit(*frames)


def of_network(model, target):
    """Weights and biases in float64 of the network that infers a target."""
    number = model.partition_[target]
    several = model.partition_.max() > 0
    hidden = [
        (kernel[number], bias[number]) if several else (kernel, bias)
        for kernel, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True)
    ]
    return [(kernel.astype(float), bias.astype(float)) for kernel, bias in hidden]


def activations(model, Z, target):
    for kernel, bias in of_network(model, target):
        Z = ACTIVATIONS[model.activation](Z @ kernel + bias)
    return Z


def forward(model, Z, target):
    """The standardized prediction of one target, in float64."""
    seen = activations(model, Z, target)
    if model.linear_path:
        seen = np.hstack([Z, seen])
    return seen @ model.coefs_[-1][:, target].astype(float) + model.intercepts_[-1][target]


def standardized(model, X):
    return (np.asarray(X, dtype=float) - model.landmark_mean_) / model.landmark_scale_


# Major weights and hubs.


def planted(*kernels, partition=None):
    """A model with given weights."""
    model = DGEXRegressor()
    model.coefs_ = [np.asarray(kernel, dtype=np.float32) for kernel in kernels]
    model.intercepts_ = [np.zeros(kernel.shape[-1], np.float32) for kernel in model.coefs_]
    model.n_features_in_, model.n_outputs_ = model.coefs_[0].shape[-2], model.coefs_[-1].shape[1]
    model.target_names_ = None
    model.partition_ = np.zeros(model.n_outputs_, int) if partition is None else np.asarray(partition)
    model._config = types.SimpleNamespace(network=types.SimpleNamespace(activation="tanh"))
    return model


@pytest.fixture
def network():
    """Five landmarks, 40 + 30 units and 20 targets with small weights, and some that stand out."""
    rng = np.random.default_rng(0)
    first, second, last = (rng.uniform(-0.1, 0.1, shape) for shape in ((5, 40), (40, 30), (30, 20)))
    first[1, 7] = 3.0
    first[4, 7] = -2.0
    second[7, 11] = 1.5
    last[11, [2, 5, 6]] = [4.0, 5.0, 3.0]
    last[12, 9] = -4.0
    return planted(first, second, last)


def test_major_weights_are_those_that_stand_out_for_their_gene(network):
    weights = major_weights(network)
    assert weights.inputs["landmark"].tolist() == ["1", "4"]
    assert weights.inputs["unit"].tolist() == [7, 7]
    np.testing.assert_allclose(weights.inputs["weight"], [3.0, -2.0])
    row = network.coefs_[0][1].astype(float)
    np.testing.assert_allclose(weights.inputs["deviations"][0], (row[7] - row.mean()) / row.std(), rtol=1e-6)
    (between,) = weights.hidden
    assert (between["unit_below"].tolist(), between["unit"].tolist()) == ([7], [11])
    assert weights.outputs["target"].tolist() == ["2", "5", "6", "9"]
    assert weights.outputs["unit"].tolist() == [11, 11, 11, 12]
    assert (weights.hidden_sizes, weights.n_landmarks, weights.n_targets, weights.n_networks) == ((40, 30), 5, 20, 1)
    assert repr(weights) == "MajorWeights(2 from landmarks, 1 between hidden layers, 4 to targets)"
    assert len(major_weights(network, n_std_in=100, n_std_out=100).inputs) == 0


def test_hubs_are_ranked_by_their_targets_and_know_the_landmarks_behind_them(network):
    first, second = hub_units(network)
    assert (first.unit, first.n_targets, first.share_positive) == (11, 3, 1.0)
    assert first.targets.tolist() == ["5", "2", "6"]
    assert first.target_weights.tolist() == [5.0, 4.0, 3.0]
    # Landmark 1 by 3.0 * 1.5, landmark 4 by -2.0 * 1.5.
    assert first.landmarks.tolist() == ["1", "4"]
    np.testing.assert_allclose(first.landmark_weights, [4.5, -3.0])
    assert (second.unit, second.n_targets, second.share_positive) == (12, 1, 0.0)
    assert second.landmarks.tolist() == []
    table = hub_units(network, n_units=1).table(n_genes=2)
    assert table["targets"].tolist() == [("5", "2")]
    assert "unit 11: 3 targets, 100% positive, 2 landmarks" in repr(first)
    assert "HubUnits of 2 units" in repr(hub_units(network))


def test_hubs_of_several_networks_have_their_own_targets():
    rng = np.random.default_rng(1)
    first, last = rng.uniform(-0.1, 0.1, (2, 5, 40)), rng.uniform(-0.1, 0.1, (40, 6))
    first[1, 3, 8] = 2.0
    last[8, [1, 4]] = 3.0  # of the second network
    model = planted(first, last, partition=[0, 1, 0, 0, 1, 1])
    (hub,) = hub_units(model, weights=major_weights(model))
    assert (hub.network, hub.unit, hub.targets.tolist()) == (1, 8, ["1", "4"])
    assert hub.landmarks.tolist() == ["3"]
    assert hub.background.tolist() == ["1", "4", "5"]
    assert hub.name == "unit 8 of network 1"


def test_names_are_those_of_training(frames):
    weights = major_weights(fitted(frames), n_std_in=1.5, n_std_out=1.5)
    assert set(weights.inputs["landmark"]) <= set(LANDMARKS)
    assert len(weights.inputs)
    assert set(weights.outputs["target"]) <= set(TARGETS)


def test_what_is_no_network_is_refused(frames):
    with pytest.raises(TypeError, match=r"Got KNNGeneRegressor, but expected a fitted DGEXRegressor"):
        major_weights(KNNGeneRegressor().fit(*frames))
    pipeline = make_pipeline(StandardScaler(), DGEXRegressor(hidden_layer_sizes=3, max_iter=1)).fit(*frames)
    with pytest.raises(TypeError, match=r"pass the last step, model\[-1\]"):
        hub_units(pipeline)
    with pytest.raises(ValueError, match="Got n_std_out=0, but expected a positive number"):
        major_weights(fitted(frames), n_std_out=0)


# Activations.


@pytest.mark.parametrize("parameters", [{}, {"hidden_layer_sizes": (20, 15), "n_partitions": 2}])
def test_adjusted_r2_is_that_of_scikit_learn(frames, parameters):
    X, y = frames
    model = fitted(frames, **parameters)
    table = activation_adjusted_r2(model, X, y)
    assert table["target"].tolist() == TARGETS
    Z = standardized(model, X)

    def expected(predictors, target):
        r2 = LinearRegression().fit(predictors, y.iloc[:, target]).score(predictors, y.iloc[:, target])
        return 1 - (1 - r2) * (len(X) - 1) / (len(X) - 1 - predictors.shape[1])

    for target in range(9):
        assert table["landmarks"][target] == pytest.approx(expected(Z, target), abs=1e-5)
        assert table["activations"][target] == pytest.approx(expected(activations(model, Z, target), target), abs=1e-4)


def test_adjusted_r2_counts_independent_predictors_only():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(50, 4))
    y = few @ rng.normal(size=(4, 3)) + rng.normal(size=(50, 3))
    many = few @ rng.normal(size=(4, 80))  # more than profiles, but of rank 4
    np.testing.assert_allclose(adjusted_r2(many, y), adjusted_r2(few, y), rtol=1e-6)


def test_adjusted_r2_is_undefined_without_degrees_of_freedom_and_for_constant_targets():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(20, 3))
    assert np.isnan(adjusted_r2(rng.normal(size=(20, 30)), y)).all()
    assert np.isnan(adjusted_r2(rng.normal(size=(20, 19)), y)).all()
    assert not np.isnan(adjusted_r2(rng.normal(size=(20, 18)), y)).any()
    y[:, 1] = 7.3  # whose mean is not 7.3 to the last bit
    assert np.isnan(adjusted_r2(rng.normal(size=(20, 5)), y)).tolist() == [False, True, False]
    assert adjusted_r2(np.ones((20, 5)), y)[0] == pytest.approx(0.0)


def test_adjusted_r2_does_not_depend_on_the_units_of_predictors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 6))
    y = X @ rng.normal(size=(6, 3)) + rng.normal(size=(100, 3))
    expected = adjusted_r2(X, y)
    np.testing.assert_allclose(adjusted_r2(X * [1e-6, 1, 1, 1e4, 1, 1] + 3, y), expected, rtol=1e-6)
    np.testing.assert_allclose(adjusted_r2(np.hstack([X, X[:, :2], np.ones((100, 1))]), y), expected, rtol=1e-6)


def test_activations_need_as_many_targets_as_profiles(frames):
    with pytest.raises(ValueError, match="Got 120 profiles in X and 119 in y"):
        activation_adjusted_r2(fitted(frames), frames[0], frames[1][1:])


# Attribution.


def numerical_jacobians(model, Z, target, step=1e-5):
    """Derivatives by finite differences, shape (n_profiles, n_landmarks)."""
    moves = step * np.eye(Z.shape[1])
    return np.stack(
        [(forward(model, Z + move, target) - forward(model, Z - move, target)) / (2 * step) for move in moves], axis=1
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"hidden_layer_sizes": (7, 6, 5)}, {"n_partitions": 3}, {"linear_path": True, "learning_rate_init": 0.01}],
)
def test_jacobians_are_exact(frames, activation, parameters):
    X, _ = frames
    model = fitted(frames, activation=activation, **parameters)
    attribution = landmark_attribution(model, X[:70])
    assert attribution.landmarks.tolist() == LANDMARKS
    Z = standardized(model, X[:70])
    for target in range(9):
        jacobians = numerical_jacobians(model, Z, target)
        np.testing.assert_allclose(attribution.mean[:, target], jacobians.mean(axis=0), rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(
            attribution.magnitude[:, target], np.abs(jacobians).mean(axis=0), rtol=1e-3, atol=2e-6
        )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"hidden_layer_sizes": (7, 6), "n_partitions": 2, "activation": "gelu"},
        {"linear_path": True, "learning_rate_init": 0.01},
    ],
)
def test_integrated_gradients_are_complete(frames, parameters):
    X, _ = frames
    model = fitted(frames, max_iter=40, **parameters)
    attribution = landmark_attribution(model, X[:30], method="integrated_gradients")
    Z = standardized(model, X[:30])
    start = Z.mean(axis=0)
    for target in range(9):
        difference = (forward(model, Z, target) - forward(model, start[None], target)).mean()
        assert attribution.mean[:, target].sum() == pytest.approx(difference, abs=1e-5)
    assert np.abs(attribution.gap).max() < 1e-5
    # Two steps are too few, and the gap says so.
    coarse = landmark_attribution(model, X[:30] * 2, method="integrated_gradients", n_steps=1)
    assert np.abs(coarse.gap).max() > 100 * np.abs(attribution.gap).max()


def test_integrated_gradients_are_integrals_of_derivatives(frames):
    X, _ = frames
    model = fitted(frames, max_iter=40)
    baseline = X.iloc[5]
    attribution = landmark_attribution(
        model, X[:4], ["T2"], method="integrated_gradients", baseline=baseline, n_steps=40
    )
    Z, start = standardized(model, X[:4]), standardized(model, baseline)
    fine = (np.arange(400) + 0.5) / 400
    parts = np.array(
        [(z - start) * numerical_jacobians(model, start + fine[:, None] * (z - start), 2).mean(axis=0) for z in Z]
    )
    np.testing.assert_allclose(attribution.mean[:, 0], parts.mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(attribution.magnitude[:, 0], np.abs(parts).mean(axis=0), atol=2e-5)


def test_weights_of_a_linear_path_are_not_those_of_units(frames):
    model = fitted(frames, linear_path=True, learning_rate_init=0.01, max_iter=40)
    heaviest = np.abs(model.coefs_[-1]).argmax(axis=0)
    assert (heaviest < 12).any(), "no landmark has the largest weight of a target: the test tests too little"
    units = major_weights(model, n_std_in=0.01, n_std_out=0.01).outputs["unit"]
    assert set(units) <= set(range(7))
    curve = partial_dependence(model, frames[0], landmark="L3", targets=["T2"], n_points=3)
    Z = standardized(model, frames[0])
    expected = []
    for value in curve["expression"]:
        Z[:, 3] = (value - model.landmark_mean_[3]) / model.landmark_scale_[3]
        expected.append(forward(model, Z, 2).mean() * model.target_scale_[2] + model.target_mean_[2])
    np.testing.assert_allclose(curve["T2"], expected, rtol=1e-5)


def test_targets_are_chosen_by_name_or_number(frames):
    X, _ = frames
    model = fitted(frames, n_partitions=2)
    everything = landmark_attribution(model, X[:20])
    some = landmark_attribution(model, X[:20], targets=["T7", 2])
    assert some.targets.tolist() == ["T7", "T2"]
    np.testing.assert_allclose(some.mean, everything.mean[:, [7, 2]], rtol=1e-5)
    mask = np.isin(TARGETS, ["T4", "T6"])
    assert landmark_attribution(model, X[:20], targets=mask).targets.tolist() == ["T4", "T6"]
    with pytest.raises(ValueError, match=r"Got a mask of shape \(3,\), but expected one value for each of 9 targets"):
        landmark_attribution(model, X[:20], targets=mask[:3])
    with pytest.raises(ValueError, match=r"2 of 3 targets are unknown: T99, 12\. There are 9, such as T0, T1, T2"):
        landmark_attribution(model, X, targets=["T1", "T99", 12])
    with pytest.raises(ValueError, match="Got method='shap'"):
        landmark_attribution(model, X, method="shap")
    with pytest.raises(
        ValueError, match=r"Got a baseline of shape \(3,\), but expected a finite number for each of 12"
    ):
        landmark_attribution(model, X, method="integrated_gradients", baseline=[1, 2, 3])
    with pytest.raises(ValueError, match="1 of 12 genes are missing"):
        landmark_attribution(model, X.iloc[:, 1:])


def test_blocks_do_not_change_the_result(frames, monkeypatch):
    X, _ = frames
    model = fitted(frames)
    expected = landmark_attribution(model, X)
    monkeypatch.setattr("dgex._derivatives.SUMMED_ROWS", 7)
    monkeypatch.setattr("dgex._derivatives.DERIVATIVE_BYTES", 4 * 12 * 4)
    blocked = landmark_attribution(model, X)
    np.testing.assert_allclose(blocked.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(blocked.magnitude, expected.magnitude, rtol=1e-5)


def test_strongest_genes_come_first(frames):
    X, y = frames
    attribution = landmark_attribution(fitted(frames), X)
    linear = linear_attribution(Ridge().fit(X, y), X, y)
    table = attribution.strongest_landmarks("T3", n=4, beside=linear)
    assert list(table.columns) == ["landmark", "mean", "magnitude", "linear"]
    order = np.argsort(-attribution.magnitude[:, 3])[:4]
    assert table["landmark"].tolist() == [LANDMARKS[index] for index in order]
    np.testing.assert_array_equal(table["linear"], linear.mean[order, 3])
    targets = attribution.strongest_targets("L5", n=2)
    assert targets["target"].tolist() == [TARGETS[index] for index in np.argsort(-attribution.magnitude[5])[:2]]
    assert repr(attribution) == "LandmarkAttribution(jacobian, 12 landmarks x 9 targets)"
    other = LandmarkAttribution("linear", np.array(["A"]), linear.targets, linear.mean[:1], linear.magnitude[:1])
    with pytest.raises(ValueError, match="with other landmarks"):
        attribution.strongest_landmarks(0, beside=other)


def test_coefficients_of_linear_models_are_in_the_same_units(frames):
    X, y = frames
    for model in (LinearRegression(), make_pipeline(StandardScaler(), Ridge(3.0))):
        attribution = linear_attribution(model.fit(X, y), X, y)
        last = model[-1] if hasattr(model, "steps") else model
        by_x = last.coef_ if hasattr(model, "steps") else last.coef_ * X.std(ddof=0).to_numpy()
        expected = (by_x / y.std(ddof=0).to_numpy()[:, None]).T
        np.testing.assert_allclose(attribution.mean, expected, rtol=0.02)  # the paper's 1e-3 beside the deviation
        np.testing.assert_array_equal(attribution.magnitude, np.abs(attribution.mean))
        assert attribution.landmarks.tolist() == LANDMARKS
    # A network without hidden nonlinearity is a linear model, too.
    network = fitted(frames, activation="identity")
    by_coefficients = linear_attribution(network, X, y).mean / network.target_scale_ * gene_scaling(y)[1]
    by_coefficients *= (network.landmark_scale_ / gene_scaling(X)[1])[:, None]
    np.testing.assert_allclose(by_coefficients, landmark_attribution(network, X).mean, rtol=1e-3, atol=1e-5)
    for scale in (1e-4, 1e5):
        knn = KNeighborsRegressor(3).fit(X, y * scale)
        with pytest.raises(ValueError, match="KNeighborsRegressor are not linear"):
            linear_attribution(knn, X, y * scale)
    with pytest.raises(ValueError, match="DGEXRegressor are not linear"):
        linear_attribution(fitted(frames, max_iter=60, activation="relu"), X, y)
    with pytest.raises(ValueError, match="Got y with 3 targets, but the model predicts 9"):
        linear_attribution(LinearRegression().fit(X, y), X, y.iloc[:, :3])


def test_partial_dependence_is_that_of_scikit_learn(frames):
    X, _ = frames
    for parameters in ({}, {"n_partitions": 2}):
        model = fitted(frames, **parameters)
        curve = partial_dependence(model, X, "L4", targets=["T6", 0], n_points=5, percentiles=(0, 100))
        assert list(curve.columns) == ["expression", "T6", "T0"]
        assert curve["expression"][[0, -1]].tolist() == pytest.approx([X["L4"].min(), X["L4"].max()], rel=1e-5)
        expected = sklearn_partial_dependence(
            model, X, ["L4"], custom_values={"L4": curve["expression"].astype(np.float32)}, kind="average"
        )["average"]
        np.testing.assert_allclose(curve["T6"], expected[6], rtol=1e-5)
        np.testing.assert_allclose(curve["T0"], expected[0], rtol=1e-5)
    with pytest.raises(ValueError, match="Got n_points=1"):
        partial_dependence(model, X, "L4", n_points=1)


@pytest.mark.parametrize("method", ["jacobian", "integrated_gradients"])
def test_planted_regulators_are_found_better_than_by_linear_coefficients(method):
    X, y, regulators, nonlinear = regulated(np.random.default_rng(0))
    model = DGEXRegressor(**TRAINED, random_state=0).fit(X, y)
    attributions = (
        landmark_attribution(model, X[:200], method=method),
        linear_attribution(LinearRegression().fit(X, y), X, y),
    )
    found, by_linear = ((strongest(attribution) == regulators).any(axis=0) for attribution in attributions)
    assert found[nonlinear].mean() >= 0.9
    assert found[nonlinear].mean() >= by_linear[nonlinear].mean() + 0.3
    assert found[~nonlinear].mean() >= by_linear[~nonlinear].mean() - 0.02


def test_programs_of_generated_profiles_are_found_by_their_landmarks():
    data = make_expression_profiles(
        3000, n_landmarks=60, n_targets=300, n_states=40, n_programs=30, nonlinearity=1.0, random_state=0
    )
    program, dominated = dominant_program(data)
    assert dominated.sum() >= 50
    reports = np.arange(60) % 30  # the program that each landmark reports: two landmarks for each
    model = DGEXRegressor(
        hidden_layer_sizes=(200,), activation="gelu", solver="adamw", batch_size=100, max_iter=30, random_state=0
    ).fit(data.X, data.y)
    ridge = Ridge(10).fit(data.X, data.y)
    shares = {}
    for attribution in (landmark_attribution(model, data.X[:200]), linear_attribution(ridge, data.X, data.y)):
        right = reports[np.argsort(-attribution.magnitude, axis=0)] == program
        shares[attribution.method] = right[:5].any(axis=0)[dominated].mean(), right[:2].all(axis=0)[dominated].mean()
    assert shares["jacobian"][0] >= 0.9
    # Both landmarks of the program come before all others more often than by coefficients.
    assert shares["jacobian"][1] > shares["linear"][1]


def test_numbers_that_are_names_of_others_are_refused(frames):
    X, y = frames
    ids = [str(number) for number in range(2, 2 + y.shape[1])]
    model = KNNGeneRegressor().fit(X, y.set_axis(ids, axis=1))
    network = fitted((X, y.set_axis(ids, axis=1)))
    with pytest.raises(ValueError, match=r"Got 3, which is the number of '5' and the name of another"):
        landmark_attribution(network, X, targets=[3])
    last = int(ids[-1])
    assert landmark_attribution(network, X, targets=[0, last]).targets.tolist() == ["2", ids[-1]]
    shape = PredictionDisplay.from_estimator(model, X, y.set_axis(ids, axis=1), target="3")
    np.testing.assert_array_equal(shape.measured, y.iloc[:, 1])
    with pytest.raises(ValueError, match=r"Got 3, which is the number of '5' and the name of another"):
        PredictionDisplay.from_estimator(model, X, y.set_axis(ids, axis=1), target=3)


# Reliability.


def test_reliability_of_a_search_in_a_pipeline_knows_genes_and_units(frames):
    X, y = frames
    search = GridSearchCV(fitted(frames), {"max_iter": [8]}, cv=2)
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), search).fit(X, y)
    best = model[-1].best_estimator_
    table = target_reliability(model, X, y, store=True)
    np.testing.assert_array_equal(table["error"], genewise_mae(y, model.predict(X), scale=best.target_scale_))
    assert best.target_reliability_ is table
    nested = make_pipeline(
        StandardScaler(), GridSearchCV(make_pipeline(StandardScaler(), KNNGeneRegressor()), {}, cv=2)
    )
    for each in (model, nested.fit(X, y)):
        with pytest.raises(ValueError, match="The genes of y are not those of the model, in their order"):
            target_reliability(each, X, y[y.columns[::-1]])


def test_reliability_is_of_the_metrics(frames):
    X, y = frames
    model = fitted(frames)
    table = target_reliability(model, X, y, well_inferred=0.8)
    predictions = model.predict(X)
    np.testing.assert_array_equal(table["error"], genewise_mae(y, predictions, scale=model.target_scale_))
    np.testing.assert_array_equal(table["correlation"], genewise_correlation(y, predictions))
    np.testing.assert_array_equal(table["r_gene"], r_gene(y, predictions))
    np.testing.assert_array_equal(table["well_inferred"], r_gene(y, predictions) >= 0.8)
    assert table["target"].tolist() == TARGETS
    assert not hasattr(model, "target_reliability_")


def test_reliability_is_saved_and_written_beside_the_targets(frames, tmp_path):
    X, y = frames
    ridge = make_pipeline(StandardScaler(), Ridge()).fit(X, y)
    write_expression(tmp_path / "x.gctx", X.to_numpy(), profile_ids=[f"p{n}" for n in range(120)], gene_ids=LANDMARKS)
    for model, last in ((fitted(frames), None), (KNNGeneRegressor().fit(X, y), None), (ridge, ridge[-1])):
        table = target_reliability(model, X, y, store=True)
        assert (last or model).target_reliability_ is table
        loaded = load_model(save_model(model, tmp_path / "model.dgex"))
        names = {} if last is None else {"target_names": TARGETS}
        path = predict_to_file(loaded, tmp_path / "x.gctx", tmp_path / "y.gctx", verbose=False, **names)
        with open_expression(path) as file:
            for name in ("error", "correlation", "r_gene", "well_inferred"):
                assert np.isnan(file.gene_metadata[name][:12].astype(float)).all()
                np.testing.assert_allclose(file.gene_metadata[name][12:].astype(float), table[name].astype(float))
        inferred = predict_anndata(loaded, open_expression(path).path and _as_anndata(X), **names)
        np.testing.assert_allclose(inferred.var["r_gene"][12:], table["r_gene"])


def _as_anndata(X):
    from anndata import AnnData

    return AnnData(X.to_numpy(), var=pd.DataFrame(index=pd.Index(list(X.columns), dtype=object)))


def test_every_way_out_tells_the_reliability(frames, tmp_path):
    X, y = frames
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [2]}, cv=2).fit(X, y)
    table = target_reliability(search, X, y, store=True)
    np.testing.assert_array_equal(table["error"], target_reliability(search.best_estimator_, X, y)["error"])
    adata = _as_anndata(X.join(y))
    for ending in (".gctx", ".h5ad", ".parquet"):
        path = predict_to_file(search, adata, tmp_path / f"y{ending}", verbose=False)
        np.testing.assert_allclose(open_expression(path).gene_metadata["r_gene"][12:], table["r_gene"])
    predict_anndata(search, adata, to_layer="inferred")
    np.testing.assert_allclose(adata.var["r_gene"].to_numpy()[12:], table["r_gene"])
    assert np.isnan(adata.var["r_gene"].to_numpy()[:12]).all()


def test_columns_of_the_same_names_are_the_users_unless_the_model_knows_better(frames):
    X, y = frames
    adata = _as_anndata(X.join(y))
    adata.var["error"] = pd.Categorical.from_codes([0] * 21, categories=pd.Index(["none"], dtype=object))
    model = KNNGeneRegressor().fit(X, y)
    assert predict_anndata(model, adata).var["error"].tolist()[:12] == ["none"] * 12
    assert predict_anndata(model, adata.copy(), to_layer="inferred").var["error"].tolist() == ["none"] * 21
    table = target_reliability(model, X, y, store=True)
    with pytest.warns(UserWarning, match="The result has error of its own"):
        inferred = predict_anndata(model, adata)
    np.testing.assert_allclose(inferred.var["error"].to_numpy()[12:], table["error"])


def test_reliability_of_another_fit_is_not_passed_on(frames, tmp_path):
    X, y = frames
    network = fitted(frames, max_iter=30)
    network.fit(X[:60], y[:60], X_val=(X[60:90], X[90:] * 1.2), y_val=(y[60:90], y[90:]))
    target_reliability(network, X, y, store=True)
    assert not hasattr(network.best_model(1), "target_reliability_")
    ridge = Ridge().fit(X, y.iloc[:, :4])
    target_reliability(ridge, X, y.iloc[:, :4], store=True)
    ridge.fit(X, y)
    with pytest.raises(ValueError, match=r"stored with the model is of 4 other targets: it was fitted again"):
        predict_to_file(ridge, _as_anndata(X), tmp_path / "y.gctx", target_names=TARGETS, verbose=False)


def test_a_single_target_has_no_r_gene(frames):
    X, y = frames
    table = target_reliability(Ridge().fit(X, y["T3"]), X, y["T3"])
    assert np.isnan(table["r_gene"]).all()
    assert not table["well_inferred"].any()
    assert table["correlation"][0] > 0.5
    single = linear_attribution(Ridge().fit(X, y["T3"]), X, y["T3"])
    np.testing.assert_allclose(
        single.mean[:, 0], linear_attribution(Ridge().fit(X, y), X, y).mean[:, 3], rtol=1e-4, atol=1e-6
    )


def test_genes_in_another_order_are_noticed(frames):
    X, y = frames
    network, ridge = fitted(frames), Ridge().fit(X, y)
    with pytest.raises(
        ValueError, match=r"genes of y are not those of the model, in their order \(T8 for T0, T7 for T1"
    ):
        target_reliability(network, X, y[TARGETS[::-1]])
    with pytest.raises(ValueError, match=r"genes of X are not those of the model"):
        linear_attribution(ridge, X[LANDMARKS[::-1]], y)
    one = landmark_attribution(network, X[:5], method="integrated_gradients", baseline=X.iloc[9])
    other = landmark_attribution(network, X[:5], method="integrated_gradients", baseline=X.iloc[9][::-1])
    np.testing.assert_array_equal(one.mean, other.mean)


def test_fitting_again_forgets_the_reliability_of_before(frames):
    X, y = frames
    for model in (fitted(frames), KNNGeneRegressor().fit(X, y)):
        target_reliability(model, X, y, store=True)
        model.fit(X, y)
        assert not hasattr(model, "target_reliability_")
    network = fitted(frames)
    target_reliability(network, X, y, store=True)
    assert not hasattr(network.partial_fit(X, y), "target_reliability_")


# Gene sets.


def test_enrichment_is_fishers_exact_test_with_benjamini_and_hochberg(tmp_path):
    rng = np.random.default_rng(0)
    background = [f"G{number}" for number in range(200)]
    sets = {f"set {number}": list(rng.choice(background, 20, replace=False)) for number in range(12)}
    genes = sets["set 3"][:10] + background[:15]
    genes = list(dict.fromkeys(genes))
    lines = [f"{name}\tdescription\t" + "\t".join([*members, "not measured"]) for name, members in sets.items()]
    (tmp_path / "sets.gmt").write_text("\n".join(lines) + "\n\n")
    table = gene_set_table(genes, tmp_path / "sets.gmt", background=background)
    p = {}
    for name, members in sets.items():
        both = len(set(genes) & set(members))
        counts = [[both, 20 - both], [len(genes) - both, 200 - 20 - len(genes) + both]]
        p[name] = fisher_exact(counts, alternative="greater").pvalue
    ascending = sorted(p, key=p.get)
    q, least = {}, 1.0
    for rank in range(len(ascending), 0, -1):
        least = min(least, p[ascending[rank - 1]] * len(ascending) / rank)
        q[ascending[rank - 1]] = least
    assert table["gene_set"][0] == "set 3"
    assert table["p"].tolist() == sorted(table["p"])
    for row in table:
        assert row["p"] == pytest.approx(p[row["gene_set"]], rel=1e-9)
        assert row["q"] == pytest.approx(q[row["gene_set"]], rel=1e-9)
        assert row["overlap"] == len(row["genes"]) == len(set(genes) & set(sets[row["gene_set"]]))
        assert row["fold"] == pytest.approx(row["overlap"] * 200 / (20 * len(genes)))
    assert table["list_size"].tolist() == [len(genes)] * len(table)


def test_gene_sets_of_numbers_and_lists_of_hubs(frames):
    table = gene_set_table([1, 2, 3], {"a": [1, 2, 3, 4, 5, 6]}, background=range(1, 50))
    assert table["overlap"].tolist() == [3]
    model = fitted(frames)
    hubs = hub_units(model, weights=major_weights(model, 1.0, 1.0))
    sets = {"all": TARGETS}
    expected = gene_set_table(HubUnits(hubs[:2]), sets, min_size=1)
    assert gene_set_table(list(hubs[:2]), sets, min_size=1)["list"].tolist() == expected["list"].tolist()
    attribution = landmark_attribution(fitted(frames), frames[0])
    with pytest.raises(ValueError, match="Got n_top=100 of 9 targets, but expected fewer"):
        gene_set_table(attribution, sets)
    others = [f"other {number}" for number in range(50)]
    assert len(gene_set_table(attribution, sets, background=[*TARGETS, *others])["list"]) == len(LANDMARKS)


def test_lists_without_a_known_gene_are_no_tests():
    sets = {"planted": ["B", "C"], "other": ["D", "E"]}
    symbols = {"1": "A", "2": "B", "3": "C", "4": "D", "5": "E", "6": np.nan}
    background = ["1", "2", "3", "4", "5", "6"]
    table = gene_set_table(["2", "3", "6"], sets, background=background, symbols=symbols, min_size=2)
    assert table["list_size"].tolist() == [2]
    with pytest.raises(ValueError, match="no list with a gene in it"):
        gene_set_table(["6"], sets, background=background, symbols=symbols, min_size=2)
    with pytest.raises(TypeError, match="Got the text 'MYC'"):
        gene_set_table("MYC", sets, background=background)


def test_gmt_may_be_compressed_and_come_from_windows(tmp_path):
    content = "\ufeffone\tabout\u2028it\tA\tB\r\ntwo\t\tC\r\n".encode()
    (tmp_path / "sets.gmt").write_bytes(content)
    (tmp_path / "sets.gmt.gz").write_bytes(gzip.compress(content))
    for name in ("sets.gmt", "sets.gmt.gz"):
        assert read_gmt(tmp_path / name) == {"one": ["A", "B"], "two": ["C"]}


def test_hubs_need_weights_of_the_same_model(network, frames):
    with pytest.raises(
        ValueError, match=r"Got weights of another model, .* = \(1, 12, \(7,\), 9\), but expected \(1, 5"
    ):
        hub_units(network, weights=major_weights(fitted(frames)))
    with pytest.raises(ValueError, match="Got n_units=-1"):
        hub_units(network, n_units=-1)


def test_a_hub_gets_the_name_of_its_targets(network):
    symbols = {str(number): f"SYM{number}" for number in range(20)}
    sets = {"planted": ["SYM2", "SYM5", "SYM6", "elsewhere"], "other": ["SYM1", "SYM3", "SYM9"]}
    hubs = hub_units(network)
    table = gene_set_table(hubs[0], sets, symbols=symbols, min_size=2)
    assert table["list"].tolist() == ["unit 11"]
    assert (table["gene_set"][0], table["overlap"][0], table["set_size"][0]) == ("planted", 3, 3)
    assert table["genes"][0] == ("SYM2", "SYM5", "SYM6")
    both = gene_set_table(hubs, sets, symbols=symbols, min_size=2)
    assert both["list"].tolist() == ["unit 11", "unit 12"]
    assert isinstance(hubs[:1], HubUnits)
    # Two lists and two sets are four tests.
    assert both["q"][0] == pytest.approx(4 * both["p"][0])


def test_the_targets_of_every_landmark_are_tested(frames):
    attribution = landmark_attribution(fitted(frames), frames[0])
    table = gene_set_table(attribution, {"some": TARGETS[:3]}, n_top=3, min_size=1)
    assert set(table["list"]) <= set(LANDMARKS)
    for row in table:
        top = attribution.strongest_targets(row["list"], 3)["target"]
        assert set(row["genes"]) == set(top) & set(TARGETS[:3])


def test_every_list_has_its_own_background():
    rng = np.random.default_rng(0)
    sets = {f"set {number}": [f"G{gene}" for gene in rng.choice(60, 12, replace=False)] for number in range(8)}
    hubs = []
    for unit, n_genes in enumerate((60, 40, 40, 60, 25)):
        background = np.array([f"G{gene}" for gene in range(n_genes)])
        targets = rng.choice(background, 5 + unit, replace=False)
        weights = np.ones(len(targets))
        hubs.append(HubUnit(0, unit, targets, weights, np.array(["L"]), np.ones(1), background))
    together = gene_set_table(hubs, sets, min_size=1)
    alone = [gene_set_table(hub, sets, min_size=1) for hub in hubs]
    columns = ("gene_set", "overlap", "set_size", "list_size", "fold", "p", "genes")
    rows = [(row["list"], *(row[name] for name in columns)) for table in alone for row in table]
    assert {tuple(row[name] for name in ("list", *columns)) for row in together} == set(rows)
    assert together["p"].tolist() == sorted(row[-2] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"genes": ["a"], "gene_sets": {"s": ["a"]}}, "list of genes without background"),
        ({"genes": ["a", "z"], "gene_sets": {"s": ["a"]}, "background": ["a", "b"]}, "1 genes of the list are not in"),
        (
            {"genes": ["a"], "gene_sets": {"s": ["x", "y"]}, "background": ["a", "b"]},
            "None of the 1 gene sets has 5 to",
        ),
    ],
)
def test_lists_that_cannot_be_tested_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gene_set_table(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no gene sets"),
        ("a\tb\tc\nset only\n", "line 2: got 1 fields, but expected a name, a description and genes"),
        ("a\tb\tc\na\tb\td\n", "line 2: the gene set 'a' is there twice"),
    ],
)
def test_what_is_wrong_with_gmt_is_said(text, message, tmp_path):
    (tmp_path / "sets.gmt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gmt(tmp_path / "sets.gmt")


# Tables.


def test_tables_are_columns_rows_and_text():
    table = Table({"gene": np.array(["a", "b", "c"], dtype=object), "error": np.array([0.5, 0.25, np.nan])})
    assert len(table) == 3
    assert next(iter(table)) == {"gene": "a", "error": 0.5}
    assert table.rows(table["error"] < 0.4)["gene"].tolist() == ["b"]
    assert table.to_pandas().shape == (3, 2)
    assert str(table).splitlines()[0] == "gene  error"
    assert "... and 90 more rows" in str(Table({"n": np.arange(100)}))
    assert "<td>0.25</td>" in table._repr_html_()
    assert repr(table) == "Table(3 rows: gene, error)"
    with pytest.raises(KeyError, match="Got the column 'x', but expected one of"):
        table["x"]
    with pytest.raises(ValueError, match="expected the same length"):
        Table({"a": np.arange(2), "b": np.arange(3)})


@pytest.fixture(scope="module")
def without_units():
    data = make_expression_profiles(n_profiles=80, n_landmarks=12, n_targets=9, random_state=0)
    model = DGEXRegressor(hidden_layer_sizes=(), max_iter=3, random_state=0).fit(data.X, data.y)
    return model, data.X, data.y


def test_a_network_without_hidden_layers_is_its_kernel(without_units):
    model, X, y = without_units
    jacobian = landmark_attribution(model, X)
    np.testing.assert_allclose(jacobian.mean, model.coefs_[0], rtol=1e-5, atol=1e-7)
    gradients = landmark_attribution(model, X, method="integrated_gradients")
    np.testing.assert_allclose(gradients.gap, 0, atol=1e-6)
    curve = partial_dependence(model, X, 2, [4])
    slope = np.diff(curve["4"]) / np.diff(curve["expression"]) * model.landmark_scale_[2] / model.target_scale_[4]
    np.testing.assert_allclose(slope, model.coefs_[0][2, 4], rtol=1e-3, atol=1e-6)
    for function in (major_weights, hub_units, lambda model: activation_adjusted_r2(model, X, y)):
        with pytest.raises(ValueError, match="without hidden layers"):
            function(model)


def test_rows_of_targets_have_to_be_those_of_landmarks(without_units):
    data = make_expression_profiles(n_profiles=80, n_landmarks=12, n_targets=9, random_state=0)
    names = [f"p{row}" for row in range(80)]
    X, y = pd.DataFrame(data.X, index=names), pd.DataFrame(data.y, index=names)
    model = DGEXRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(data.X, data.y)
    for function in (target_reliability, activation_adjusted_r2):
        with pytest.raises(ValueError, match=r"80 of 80 rows of X and y are not the same"):
            function(model, X, y[::-1])


def test_genes_that_cannot_be_told_are_named(without_units):
    model, X, y = without_units
    mask = pd.Series([True] + [False] * 8, dtype=object)
    assert landmark_attribution(model, X, mask).targets.tolist() == ["0"]
    with pytest.raises(ValueError, match=r"Got a mask of shape \(5,\)"):
        landmark_attribution(model, X, mask[:5])
    X, y = pd.DataFrame(X, columns=LANDMARKS), pd.DataFrame(y, columns=["expression", *TARGETS[1:]])
    named = DGEXRegressor(hidden_layer_sizes=(4,), max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match='A target is called "expression"'):
        partial_dependence(named, X, "L2")
    assert list(partial_dependence(named, X, "L2", ["T1"]).columns) == ["expression", "T1"]
    with pytest.raises(ValueError, match="1 of 12 landmarks are not in the baseline: L0"):
        landmark_attribution(named, X, method="integrated_gradients", baseline=X.mean()[1:])


def test_targets_that_do_not_depend_on_a_landmark_are_in_no_list():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 6)), rng.normal(size=(80, 60))
    attribution = linear_attribution(KNNGeneRegressor(n_neighbors=1).fit(X, y), X, y)
    families = {f"family {start}": [str(number) for number in range(start, start + 10)] for start in range(0, 60, 10)}
    table = gene_set_table(attribution, families, n_top=30)
    depends = {
        name: int((row > 0).sum()) for name, row in zip(attribution.landmarks, attribution.magnitude, strict=True)
    }
    assert {name: min(depends[name], 30) for name in table["list"]} == dict(
        zip(table["list"], table["list_size"], strict=True)
    )
    assert min(depends.values()) < 30
    with pytest.raises(ValueError, match=r"lower n_std_in and n_std_out"):
        gene_set_table(HubUnits([]), families)


def test_a_gene_with_several_symbols_is_an_error():
    sets = {"a": [f"S{number}" for number in range(10)]}
    ids = [f"E{number}" for number in range(30)]
    symbols = pd.Series([f"S{number}" for number in range(30)], index=ids)
    once = gene_set_table(ids[:8], sets, background=ids, symbols=symbols)
    assert once["overlap"].tolist() == [8]
    with pytest.raises(ValueError, match=r"several symbols for E2, but expected one for each gene"):
        gene_set_table(ids[:8], sets, background=ids, symbols=pd.concat([symbols, symbols[["E2"]]]))


def test_genes_that_are_not_one_or_in_no_order_are_refused(frames):
    X, y = frames
    model = DGEXRegressor(hidden_layer_sizes=(5,), max_iter=1, random_state=0).fit(X, y)
    attribution = landmark_attribution(model, X)
    for several in (list(X.columns[:2]), None):
        with pytest.raises(ValueError, match="but expected one of the landmarks: a name or a number"):
            partial_dependence(model, X, several)
    with pytest.raises(ValueError, match="but expected one of the targets"):
        attribution.strongest_landmarks(list(y.columns[:2]))
    with pytest.raises(TypeError, match=r"Got a set of targets, which is in no order. Pass a list"):
        landmark_attribution(model, X, set(y.columns[:2]))
    with pytest.raises(ValueError, match="Got targets of 2 dimensions"):
        landmark_attribution(model, X, [list(y.columns[:2])])


def test_linear_models_need_as_many_profiles_and_may_be_given_anndata(frames):
    X, y = frames
    ridge = Ridge().fit(X, y)
    with pytest.raises(ValueError, match="expected as many profiles, in rows"):
        linear_attribution(ridge, X, y[:5])
    data, measured = (anndata.AnnData(frame.reset_index(drop=True).rename(str)) for frame in (X, y))
    table = target_reliability(ridge, data, measured)
    np.testing.assert_allclose(table["error"], genewise_mae(y, ridge.predict(X)), rtol=1e-5)


def test_baselines_by_gene_numbers():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 5)), columns=[780, 5982, 3310, 7849, 2978])
    y = rng.normal(size=(40, 3))
    model = DGEXRegressor(hidden_layer_sizes=(5,), max_iter=1, random_state=0).fit(X, y)
    given, default = (
        landmark_attribution(model, X, method="integrated_gradients", baseline=baseline)
        for baseline in (X.mean(), None)
    )
    np.testing.assert_allclose(given.mean, default.mean, atol=1e-5)


def test_a_landmark_that_was_constant_has_no_effect():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 6)), rng.normal(size=(60, 8))
    X[:, 4] = 2.0
    model = DGEXRegressor(hidden_layer_sizes=(12,), max_iter=2, random_state=0).fit(X, y)
    magnitude = landmark_attribution(model, X).magnitude
    assert (magnitude[4] == 0).all()
    assert (np.delete(magnitude, 4, axis=0) > 0).all()
