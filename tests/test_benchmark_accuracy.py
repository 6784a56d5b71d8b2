"""The protocol of benchmarks/accuracy: nothing of the test profiles is in training, and methods are what they say."""

import json

import numpy as np
import pytest
from benchmarks._results import FOLDER
from benchmarks.accuracy import _datasets, _linear
from benchmarks.accuracy._cells import Cell, Results, averaged, cell_of, run
from benchmarks.accuracy._datasets import DATASETS, Profiles, Split, whole_parts
from benchmarks.accuracy._linear import centered, lasso_by_penalty, pls_path, ridge_path
from benchmarks.accuracy._methods import METHODS
from benchmarks.accuracy._tables import aims, on_common_splits, tables
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Lasso, Ridge

from dgex import recipes
from dgex.metrics import genewise_mae


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 8)).astype(np.float32)
    y = (X @ rng.normal(size=(8, 5)) + rng.normal(size=(90, 5))).astype(np.float32)
    return Split(*(Profiles(X[rows], y[rows]) for rows in (slice(0, 50), slice(50, 70), slice(70, 90))))


def test_ridge_is_that_of_scikit_learn(split):
    train = centered(split.train)
    for penalty, coefficients in ridge_path(train, np.array([0.1, 10.0])):
        expected = Ridge(penalty).fit(*map(np.float64, split.train)).predict(split.test.X)
        np.testing.assert_allclose(train.affine(coefficients)(split.test.X), expected, rtol=1e-8)


def test_lasso_is_that_of_scikit_learn(split):
    train = centered(split.train)
    for penalty, coefficients in lasso_by_penalty(train, np.array([0.3, 0.05])):
        expected = Lasso(penalty, tol=1e-8).fit(*map(np.float64, split.train))
        np.testing.assert_allclose(coefficients.T, expected.coef_, atol=0.02)
        assert (np.abs(coefficients) > 0).sum() <= np.count_nonzero(expected.coef_) + 2


def test_fewer_components_come_from_one_fit(split):
    train = centered(split.train)
    fits = pls_path(PLSRegression(6, scale=False).fit(train.X, train.y))
    for n_components, coefficients in fits:
        expected = PLSRegression(n_components, scale=False).fit(train.X, train.y).coef_.T
        np.testing.assert_allclose(coefficients, expected, rtol=1e-6, atol=1e-8)


def test_strength_is_chosen_on_validation_profiles_alone(split):
    moved = split._replace(test=Profiles(split.test.X, split.test.y + 100))
    for method in (_linear.ridge, _linear.lasso, _linear.partial_least_squares):
        assert method(split, 0).chosen == method(moved, 0).chosen


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_whole(seed):
    groups = np.repeat(np.arange(20), 5)
    parts = whole_parts(groups, seed)
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert all(not np.intersect1d(groups[a], groups[b]).size for a, b in [parts[:2], parts[1:], parts[::2]])
    assert all(10 <= len(part) <= 20 and len(np.unique(groups[part])) >= 2 for part in parts[1:])


@pytest.mark.parametrize("name", ["arrays, new studies", "E. coli, new batches"])
@pytest.mark.usefixtures("data_folder")
def test_studies_and_batches_stay_whole(name):
    split = DATASETS[name](0)
    assert not set(split.train_groups) & {*split.validation_groups, *split.test_groups}
    assert not set(split.validation_groups) & set(split.test_groups)
    assert [len(part.X) for part in split[:3]] == [len(part) for part in split[3:6]]


@pytest.mark.parametrize("name", ["arrays, random", "E. coli, random"])
@pytest.mark.usefixtures("data_folder")
def test_test_profiles_do_not_move_training(name, monkeypatch):
    source = "human" if name.startswith("arrays") else "ecoli"
    compendium = getattr(_datasets, source)()
    rows = _datasets.random_parts(len(compendium.groups), 0)
    platform = next(iter(compendium.expression))
    changed = {**compendium.expression, platform: compendium.expression[platform].copy()}
    changed[platform][rows.test] *= 1.5
    before = DATASETS[name](0)
    monkeypatch.setattr(_datasets, source, lambda: compendium._replace(expression=changed))
    after = DATASETS[name](0)
    for part in ("train", "validation"):
        np.testing.assert_array_equal(getattr(before, part).X, getattr(after, part).X)
        np.testing.assert_array_equal(getattr(before, part).y, getattr(after, part).y)
    assert not np.array_equal(before.test.y, after.test.y)


@pytest.mark.usefixtures("data_folder")
def test_no_target_is_a_landmark():
    split = DATASETS["E. coli, random"](0)
    assert split.train.X.shape[1] == _datasets.ECOLI_LANDMARKS
    for landmark in split.train.X.T[::20]:
        assert not (split.train.y == landmark[:, None]).all(axis=0).any()


def test_cells_are_stored_compared_and_not_run_again(tmp_path):
    cells = [Cell("synthetic linear 2k", method, 0) for method in ("least squares", "ridge")]
    results = Results(tmp_path / "accuracy.json", tmp_path / "cache", {"commit": "of a test"})
    assert run(cells, results) == []
    again = Results(results.path, results.cache, {"commit": "later"})
    assert all(again.can_compare(cell) for cell in cells)
    least_squares, ridge = (again.rows[cell] for cell in cells)
    assert ridge["vs ridge"] == 0
    assert ridge["validation MAE"] <= least_squares["validation MAE"]
    assert least_squares["vs ridge"] == pytest.approx(1 - least_squares["MAE"] / ridge["MAE"])
    table = tables(list(again.rows.values()))["accuracy_synthetic_linear_2k"]
    assert f"| ridge | {ridge['MAE']:.4f} |" in table


def test_errors_are_averaged_over_the_splits_that_have_a_gene(tmp_path):
    cells = [Cell("a", "x", seed) for seed in (0, 1, 2)]
    rows = {cell: {"best linear": None if cell.seed == 2 else "ridge"} for cell in cells}
    for seed, genes, errors, baseline_errors in (
        (0, [4, 5, 7], [0.1, 0.5, 0.3], [0.4, 0.4, 0.2]),
        (1, [5, 4, 9], [0.2, 0.5, 0.1], [0.4, 0.4, 0.2]),
        (2, [4, 5, 7], [9.0, 9.0, 9.0], [0.0, 0.0, 0.0]),
    ):
        targets = np.arange(3)
        np.savez(tmp_path / Cell("a", "x", seed).file, errors=errors, targets=targets, genes=genes)
        np.savez(tmp_path / Cell("a", "ridge", seed).file, errors=baseline_errors, targets=targets, genes=genes)
    # Means of genes 4, 5, 7 and 9: 0.3, 0.35, 0.3 and 0.1 of x; 0.4, 0.4, 0.2 and 0.2 of ridge regression.
    average = averaged(cells, rows, tmp_path)
    assert average["seeds"] == [0, 1]
    assert average["genes"] == 4
    assert average["won vs best linear"] == 0.75
    assert average["vs best linear"] == pytest.approx(1 - 1.05 / 1.2)
    assert averaged(cells[1:], rows, tmp_path) is None
    lines = tables([], [average])["accuracy_averages"].splitlines()
    assert lines[-1] == "| x | +12.5%, 75% (2 splits) |"


@pytest.mark.parametrize(
    ("cell", "tolerance"),
    [
        (Cell("synthetic 2k", "KNN-GE", 0), 1e-5),
        (Cell("E. coli, random", "ridge", 0), 1e-5),
        (Cell("E. coli, random", "D-GEX modern", 0), 0.01),  # another processor may select another epoch
    ],
    ids=lambda value: value.method if isinstance(value, Cell) else "",
)
def test_the_results_are_what_the_code_produces(cell, tolerance, tmp_path, data_folder):
    rows = json.loads((FOLDER / "accuracy.json").read_text())["rows"]
    (stored,) = [row for row in rows if cell_of(row) == cell]
    split = DATASETS[cell.dataset](cell.seed)
    predicted = METHODS[cell.method](split, cell.seed).predict(split.test.X)
    assert genewise_mae(split.test.y, predicted).mean() == pytest.approx(stored["MAE"], rel=tolerance)


def test_what_was_asked_for_is_compared_with_what_is_reached():
    reached = {"vs best linear": 0.04, "won vs best linear": 0.7, "vs KNN-GE": 0.12}
    rows = [
        {"dataset": "arrays, random", "method": "D-GEX modern", "seed": seed, "MAE": 0.9} | reached for seed in (0, 1)
    ]
    rows.append({"dataset": "arrays, random", "method": "MLPRegressor", "seed": 1, "MAE": 1.0})
    rows.append({"dataset": "arrays, new studies", "method": "MLPRegressor", "seed": 1, "MAE": 1.0})
    line = "| arrays, random | 4.0% of 3% holds | 70.0% of 75% missed | 12.0% of 12% holds | 10.0% of 8% holds |"
    assert aims(rows).splitlines()[2:] == [line]


def test_ablations_are_compared_on_the_splits_that_all_have():
    cells = [("a", "x", 0), ("a", "x", 1), ("a", "y", 1), ("b", "x", 0)]
    rows = [{"dataset": dataset, "method": method, "seed": seed} for dataset, method, seed in cells]
    assert on_common_splits(rows) == rows[1:3]


def test_the_mean_of_networks_is_that_of_four_seeds(split, monkeypatch):
    monkeypatch.setitem(recipes.MODERN, "hidden_layer_sizes", (20,))
    members = [METHODS["D-GEX modern"](split, seed).predict(split.test.X) for seed in (1, 101, 201, 301)]
    mean = METHODS["D-GEX modern, mean of 4"](split, 1).predict(split.test.X)
    np.testing.assert_allclose(mean, np.mean(members, axis=0), rtol=1e-5)
    assert np.std(members, axis=0).max() > 0


def test_the_mean_is_compared_with_one_network_on_the_splits_that_both_have():
    rows = [
        {"dataset": "a", "method": method, "seed": seed, "vs best linear": seed / 10, "won vs best linear": 0.5}
        | {"well inferred": 0.5, "targets": 3}
        for method, seeds in (("D-GEX modern", (0, 1, 2)), ("D-GEX modern, mean of 4", (1, 2)))
        for seed in seeds
    ]
    for row in rows:
        row |= dict.fromkeys(("MAE", "sd", "vs KNN-GE", "Pearson", "seconds", "peak MB"), 0.0)
    made = tables(rows)
    assert "| D-GEX modern | +15.0%, 50% |" in made["accuracy_mean"]
    assert "| splits | 2 |" in made["accuracy_mean"]
    assert "mean of 4" not in made["accuracy_a"]
