import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from dgex import KNNGeneRegressor, _knn
from dgex.interpretation import target_reliability


def problem(seed=0, n_profiles=60, n_landmarks=15, n_targets=23):
    rng = np.random.default_rng(seed)
    X = rng.normal(8, 2, (n_profiles, n_landmarks))
    y = X[:, rng.integers(n_landmarks, size=n_targets)] + rng.normal(0, 1, (n_profiles, n_targets))
    return X, y, rng.normal(8, 2, (11, n_landmarks))


def gene_distance(a, b, metric):
    if metric == "euclidean":
        return np.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
    if a.std() == 0 or b.std() == 0:
        return 1.0
    return 1.0 - np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std())


def brute_force(X, y, X_new, n_neighbors, metric="euclidean", weights="uniform"):
    """The definition, gene by gene and profile by profile."""
    predictions = np.empty((len(X_new), y.shape[1]))
    for target in range(y.shape[1]):
        distances = [gene_distance(X[:, landmark], y[:, target], metric) for landmark in range(X.shape[1])]
        nearest = sorted(range(X.shape[1]), key=lambda landmark: (distances[landmark], landmark))[:n_neighbors]
        for profile in range(len(X_new)):
            if weights == "uniform":
                w = np.ones(len(nearest))
            elif any(distances[j] == 0 for j in nearest):
                w = np.array([float(distances[j] == 0) for j in nearest])
            else:
                w = np.array([1 / distances[j] for j in nearest])
            predictions[profile, target] = sum(w * X_new[profile, nearest]) / w.sum()
    return predictions


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
@pytest.mark.parametrize("n_neighbors", [1, 4, 15])
def test_equal_to_brute_force(metric, weights, n_neighbors):
    X, y, X_new = problem()
    model = KNNGeneRegressor(n_neighbors=n_neighbors, metric=metric, weights=weights).fit(X, y)
    expected = brute_force(X, y, X_new, n_neighbors, metric, weights)
    np.testing.assert_allclose(model.predict(X_new), expected, rtol=1e-10)


def test_equal_to_brute_force_in_float32():
    X, y, X_new = (array.astype(np.float32) for array in problem())
    predictions = KNNGeneRegressor(n_neighbors=3).fit(X, y).predict(X_new)
    assert predictions.dtype == np.float32
    np.testing.assert_allclose(predictions, brute_force(X, y, X_new, 3), rtol=1e-5)


def test_standardize_equals_standardizing_by_hand():
    X, y, X_new = problem()
    X, X_new = X * np.linspace(1, 30, 15), X_new * np.linspace(1, 30, 15)
    z = [(a - a.mean(0)) / (a.std(0) + 1e-3) for a in (X, y)]
    z_new = (X_new - X.mean(0)) / (X.std(0) + 1e-3)
    expected = brute_force(*z, z_new, 3) * (y.std(0) + 1e-3) + y.mean(0)
    model = KNNGeneRegressor(n_neighbors=3, standardize=True).fit(X, y)
    np.testing.assert_allclose(model.predict(X_new), expected, rtol=1e-9)


def test_equal_distances_go_to_the_lower_column():
    # Landmarks 1, 3 and 4 are equal, 0 and 2 are equally far on either side of the target.
    x = np.array([4.0, 7, 5, 1])
    X = np.column_stack([x - 2, x + 5, x + 2, x + 5, x + 5])
    model = KNNGeneRegressor(n_neighbors=4).fit(X, x[:, None])
    assert model.neighbors_.tolist() == [[0, 2, 1, 3]]
    np.testing.assert_allclose(model.neighbor_distances_, [[4, 4, 10, 10]])


def test_equal_landmarks_are_equally_near_whatever_the_rounding():
    rng = np.random.default_rng(0)
    base = rng.normal(8, 2, (1000, 7)).astype(np.float32)
    X = np.tile(base, 60)  # 420 landmarks, each of seven sixty times
    y = (base[:, [3, 5]] + rng.normal(0, 0.5, (1000, 2))).astype(np.float32)
    neighbors = KNNGeneRegressor(n_neighbors=60).fit(X, y).neighbors_
    assert neighbors.tolist() == [list(range(3, 420, 7)), list(range(5, 420, 7))]


def test_blocks_do_not_change_the_neighbours(monkeypatch):
    X, y, X_new = problem()
    whole = KNNGeneRegressor().fit(X, y)
    monkeypatch.setattr("dgex._gene_distances.BLOCK_BYTES", 2000)
    monkeypatch.setattr("dgex._gene_distances.TILE_TARGETS", 7)
    monkeypatch.setattr("dgex._knn.PREDICT_BLOCK_BYTES", 500)
    blocks = KNNGeneRegressor().fit(X, y)
    np.testing.assert_array_equal(whole.neighbors_, blocks.neighbors_)
    np.testing.assert_allclose(whole.neighbor_distances_, blocks.neighbor_distances_, rtol=1e-12)
    np.testing.assert_array_equal(whole.predict(X_new), blocks.predict(X_new))


def test_a_large_common_offset_costs_no_digits():
    X, y, _ = problem()
    near = KNNGeneRegressor().fit(X, y)
    far = KNNGeneRegressor().fit(X + 1e6, y + 1e6)
    np.testing.assert_array_equal(near.neighbors_, far.neighbors_)


def test_memory_beyond_the_data_is_bounded():
    # 943 x 9,520 genes, fewer profiles than in the paper: what is kept per pair of genes and per block is all there is.
    rng = np.random.default_rng(0)
    X, y = (rng.standard_normal((2000, n), dtype=np.float32) for n in (943, 9520))
    tracemalloc.start()
    KNNGeneRegressor().fit(X, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6e9


def test_kneighbors_and_lowering_n_neighbors_after_fit():
    X, y, X_new = problem()
    model = KNNGeneRegressor(n_neighbors=6).fit(X, y)
    distances, indices = model.kneighbors()
    assert distances.shape == indices.shape == (23, 6)
    np.testing.assert_array_equal(model.kneighbors(2, return_distance=False), indices[:, :2])
    lowered = clone(model).set_params(n_neighbors=2).fit(X, y).predict(X_new)
    np.testing.assert_array_equal(model.set_params(n_neighbors=2).predict(X_new), lowered)
    with pytest.raises(ValueError, match="Got n_neighbors=9, but expected 1 to 6"):
        model.kneighbors(9)


def test_constant_genes():
    X, y, X_new = problem()
    X[:, 2], y[:, 1] = 5.0, 5.0
    for metric in ("euclidean", "correlation"):
        expected = brute_force(X, y, X_new, 3, metric)
        np.testing.assert_allclose(KNNGeneRegressor(n_neighbors=3, metric=metric).fit(X, y).predict(X_new), expected)


@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
def test_a_target_that_never_varies_stays_as_it_is_when_standardized(metric):
    X, y, X_new = problem()
    y[:, 1] = 5.0
    model = KNNGeneRegressor(n_neighbors=3, metric=metric, standardize=True).fit(X, y)
    np.testing.assert_array_equal(model.predict(X_new)[:, 1], 5.0)
    assert model.target_scale_[1] == 1.0


def test_a_fit_that_fails_leaves_the_earlier_one_whole(monkeypatch):
    X, y, X_new = problem()
    model = KNNGeneRegressor(standardize=True).fit(X, y)
    before = model.predict(X_new)
    monkeypatch.setattr(KNNGeneRegressor, "_nearest", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(X, np.full_like(y, 5.0))
    np.testing.assert_array_equal(model.predict(X_new), before)


def test_frames_vectors_and_leakage():
    X, y, X_new = problem()
    frame = pd.DataFrame(X, columns=[f"L{i}" for i in range(15)])
    targets = pd.DataFrame(y, columns=[f"T{i}" for i in range(23)])
    model = KNNGeneRegressor().fit(frame, targets)
    assert model.target_names_[2] == "T2"
    with pytest.raises(ValueError, match=r"5 of 15 genes are missing \(L10, L11, L12, L13, L14\)"):
        model.predict(frame.iloc[:, :10])
    assert KNNGeneRegressor().fit(X, y[:, 0]).predict(X_new).shape == (11,)
    with pytest.warns(UserWarning, match="1 of 2 targets are also landmarks"):
        KNNGeneRegressor().fit(X, np.column_stack([y[:, 0], X[:, 4]]))


def test_more_neighbours_than_landmarks():
    X, y, X_new = problem()
    with pytest.warns(UserWarning, match="Got n_neighbors=99 and 15 landmarks; all landmarks are neighbours"):
        model = KNNGeneRegressor(n_neighbors=99).fit(X, y)
    np.testing.assert_allclose(model.predict(X_new), np.repeat(X_new.mean(1, keepdims=True), 23, axis=1))


def test_bad_input_is_one_clear_error():
    X, y, _ = problem()
    with pytest.raises(NotFittedError):
        KNNGeneRegressor().predict(X)
    for parameters in ({"n_neighbors": 0}, {"weights": "rank"}, {"metric": "cosine"}):
        with pytest.raises(ValueError, match=f"'{next(iter(parameters))}'"):
            KNNGeneRegressor(**parameters).fit(X, y)
    with pytest.raises(ValueError, match="NaN or infinite"):
        KNNGeneRegressor().fit(np.where(X > 12, np.nan, X), y)


@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
@pytest.mark.parametrize(("dtype", "n_profiles"), [(np.float32, 60), (np.float32, 2000), (np.float64, 300)])
def test_equal_genes_are_at_distance_zero_and_near_ones_at_their_own(metric, dtype, n_profiles):
    # From |a|^2 + |b|^2 - 2ab alone these distances would be rounding.
    rng = np.random.default_rng(1)
    X = rng.normal(8, 2, (n_profiles, 30)).astype(dtype)
    X[:, 7] = X[:, 3]
    near = X[:, [4]] + (1e-3 * rng.standard_normal((n_profiles, 1))).astype(dtype)
    y = np.hstack([X[:, [3, 11]], near])
    with pytest.warns(UserWarning, match="also landmarks"):
        model = KNNGeneRegressor(n_neighbors=3, weights="distance", metric=metric).fit(X, y)
    distances, neighbors = model.kneighbors()
    np.testing.assert_allclose([*distances[0, :2], distances[1, 0]], 0, atol=1e-28)
    assert neighbors[:, 0].tolist() == [3, 11, 4]
    assert neighbors[0, 1] == 7
    X, y = X.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(distances[2, 0], gene_distance(X[:, 4], y[:, 2], metric), rtol=1e-6)
    np.testing.assert_allclose(
        model.predict(X[:5]), brute_force(X, y, X[:5], 3, metric=metric, weights="distance"), rtol=1e-4
    )


def test_parameters_changed_after_fit_are_checked():
    X, y, X_new = problem()
    model = KNNGeneRegressor().fit(X, y)
    with pytest.raises(ValueError, match="The 'weights' parameter"):
        model.set_params(weights="bogus").predict(X_new)
    model.set_params(weights="uniform")
    for wanted in (2.5, 0, 6, "two"):
        with pytest.raises(ValueError, match="expected 1 to 5"):
            model.kneighbors(wanted)


def test_score_checks_the_target_genes():
    X, y, _ = problem()
    targets = pd.DataFrame(y, columns=[f"T{i}" for i in range(23)])
    model = KNNGeneRegressor().fit(X, targets)
    assert model.score(X, targets) == pytest.approx(model.score(X, y))
    with pytest.raises(ValueError, match="in another order"):
        model.score(X, targets[targets.columns[::-1]])


def test_other_parameters_forget_how_reliable_the_model_was():
    X, y, _ = problem()
    model = KNNGeneRegressor(n_neighbors=5).fit(X, y)
    target_reliability(model, X, y, store=True)
    assert not hasattr(model.set_params(n_neighbors=1), "target_reliability_")


def test_an_interrupted_fit_changes_nothing(monkeypatch):
    X, y, X_new = problem()
    model = KNNGeneRegressor(standardize=True).fit(X, y)
    before = model.predict(X_new)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_knn, "nearest_landmarks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(10 * X + 50, 10 * y)
    np.testing.assert_array_equal(model.predict(X_new), before)


@pytest.mark.parametrize("unit", [1e-25, 1e-18, 1e18, 1e30])
def test_float32_in_extreme_units(unit):
    X, y, X_new = problem()
    expected = KNNGeneRegressor(weights="distance").fit(X, y)
    predictions = expected.predict(X_new)
    X, y, X_new = ((array * unit).astype(np.float32) for array in (X, y, X_new))
    model = KNNGeneRegressor(weights="distance").fit(X, y)
    np.testing.assert_array_equal(model.neighbors_, expected.neighbors_)
    np.testing.assert_allclose(model.predict(X_new) / np.float32(unit), predictions, rtol=1e-3)


def test_distances_of_float32_are_not_shortened_by_many_profiles():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200_000, 3))
    y = X[:, :1] + 0.04 * rng.standard_normal((len(X), 1))
    exact, single = (KNNGeneRegressor(n_neighbors=2).fit(X.astype(t), y.astype(t)) for t in (np.float64, np.float32))
    np.testing.assert_allclose(single.neighbor_distances_, exact.neighbor_distances_, rtol=2e-3)


def test_linear_copies_of_a_target_weigh_the_same():
    rng = np.random.default_rng(0)
    X = rng.normal(8, 1, (50, 5))
    y = 0.3 * X[:, [1]] + 2
    X[:, 3] = 5 * X[:, 1] - 7
    model = KNNGeneRegressor(n_neighbors=2, metric="correlation", weights="distance").fit(X, y)
    distances, neighbors = model.kneighbors()
    assert neighbors.tolist() == [[1, 3]]
    assert distances.tolist() == [[0.0, 0.0]]


def test_expression_whose_squares_overflow_is_refused():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 5)), rng.normal(size=(20, 3))
    with pytest.raises(ValueError, match=r"Got expression up to .*e\+200, but expected less than 1e\+150"):
        KNNGeneRegressor(n_neighbors=2, standardize=False).fit(1e200 * X, 1e200 * y)
