import ast
import inspect
import pickle
import re
import subprocess
import sys
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer, metrics, plotting
from dgex._table import Table
from dgex.interpretation import MajorWeights, hub_units, major_weights
from dgex.plotting import _style

pytest.importorskip("matplotlib")

DISPLAYS = [getattr(plotting, name) for name in plotting.__all__]


@pytest.fixture
def pyplot(monkeypatch):
    """Figures without a window, closed after the test; global settings must be left alone."""
    import matplotlib
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("show was called"))
    before = dict(matplotlib.rcParams)
    yield plt
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


@pytest.fixture(scope="module")
def models(profiles):
    X, y = profiles
    network = make_pipeline(StandardScaler(), DGEXRegressor(hidden_layer_sizes=8, max_iter=3, random_state=0))
    return {"network": network.fit(X, y), "least squares": LinearRegression().fit(X, y)}


@pytest.fixture(scope="module")
def network(profiles):
    X, y = profiles
    return DGEXRegressor(hidden_layer_sizes=30, max_iter=6, random_state=0).fit(X, y)


def some_errors(n_genes, seed=0):
    rng = np.random.default_rng(seed)
    errors = rng.gamma(9.0, 0.04, n_genes)
    return errors, errors * rng.normal(1.1, 0.05, n_genes)


def drawn(display):
    """Draw everything, as saving does."""
    display.figure_.canvas.draw()
    return display


def legend_labels(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


# Errors by gene


def test_densities_integrate_to_one_and_mark_medians(pyplot):
    errors = {"a": some_errors(3000)[0], "b": 1.5 * some_errors(3000)[1], "near zero": some_errors(3000)[0] / 50}
    display = drawn(plotting.GenewiseErrorDisplay(errors, unit="log2").plot())
    assert len(pyplot.get_fignums()) == 1
    for line, median, values in zip(display.lines_, display.median_lines_, errors.values(), strict=True):
        x, density = line.get_data()
        assert np.trapezoid(density, x) == pytest.approx(1.0, abs=0.02)
        assert median.get_xdata() == pytest.approx([np.median(values)] * 2)
        assert median.get_ydata()[1] == pytest.approx(np.interp(np.median(values), x, density))
        assert median.get_color() == line.get_color()
    assert len({line.get_color() for line in display.lines_}) == 3
    assert legend_labels(display)[0] == f"a ({np.median(errors['a']):#.3g})"
    assert labels(display.ax_) == ("mean absolute error (log2)", "density of 3,000 target genes")
    assert display.ax_.get_xlim()[0] >= 0
    assert display.ax_.get_xlim()[1] == pytest.approx(1.05 * np.quantile(errors["b"], 0.999))


def test_errors_of_estimators_are_those_of_their_predictions(pyplot, profiles, models):
    X, y = profiles
    display = plotting.GenewiseErrorDisplay.from_estimator(models, X, y)
    assert not pyplot.get_fignums()
    np.testing.assert_array_equal(display.errors["network"], metrics.genewise_mae(y, models["network"].predict(X)))
    assert display.unit == "units of y"
    scale = np.full(y.shape[1], 2.0)
    scaled = plotting.GenewiseErrorDisplay.from_estimator(models["network"], X, pd.DataFrame(y), scale=scale)
    assert list(scaled.errors) == ["DGEXRegressor"]
    np.testing.assert_allclose(scaled.errors["DGEXRegressor"], display.errors["network"] / 2)
    assert scaled.plot().ax_.get_xlabel() == "mean absolute error (standardized expression)"


def test_errors_too_narrow_for_a_curve_are_a_vertical_line(pyplot):
    errors = {"network": some_errors(300)[0], "other": some_errors(300)[1]}
    errors["nearly perfect"] = errors["network"] / 1000
    for unit in (1.0, 1e-6):
        display = drawn(plotting.GenewiseErrorDisplay({name: own * unit for name, own in errors.items()}).plot())
        network, _, nearly_perfect = display.lines_
        diverged = {name: own * unit * 10.0 ** (7 * (name == "nearly perfect")) for name, own in errors.items()}
        assert display.ax_.get_xlim()[1] == plotting.GenewiseErrorDisplay(diverged).plot().ax_.get_xlim()[1]
        assert len(network.get_xdata()) > 100
        assert nearly_perfect.get_xdata() == pytest.approx([np.median(errors["nearly perfect"]) * unit] * 2)


def test_rows_and_columns_in_another_order_are_refused(profiles, models):
    X, y = (pd.DataFrame(values).add_prefix(prefix) for values, prefix in zip(profiles, "xy", strict=True))
    X.index = y.index = [f"p{number}" for number in range(len(X))]
    model = LinearRegression().fit(X, y)
    turned = y.iloc[::-1]
    for compute in (
        lambda: plotting.GenewiseErrorDisplay.from_estimator(model, X, turned),
        lambda: plotting.GenewiseComparisonDisplay.from_estimator(model, model, X, turned),
        lambda: plotting.PredictionDisplay.from_estimator(model, X, turned, target=0),
        lambda: plotting.PredictionDisplay.from_predictions(y, turned, target=0),
    ):
        with pytest.raises(ValueError, match=r"Bring .* into the order of"):
            compute()
    with pytest.raises(ValueError, match="different genes, or in another order"):
        plotting.PredictionDisplay.from_predictions(y, y[y.columns[::-1]], target="y0")


def test_styles_of_clouds_have_their_short_names(pyplot):
    errors = some_errors(300)
    with pyplot.style.context("dark_background"):
        display = drawn(plotting.GenewiseComparisonDisplay(*errors).plot(points_kw={"lw": 2.0}))
        assert display.texts_[0].get_bbox_patch().get_facecolor()[:3] == (0, 0, 0)
        assert display.diagonal_.get_color() == "white"
    with pyplot.rc_context({"axes.facecolor": "none"}):
        transparent = drawn(plotting.GenewiseComparisonDisplay(*errors).plot())
        assert transparent.texts_[0].get_bbox_patch().get_facecolor() == (1, 1, 1, 0.8)
    assert display.points_.get_linewidths().tolist() == [2.0]
    with pytest.raises(TypeError, match="Got ax=Figure, but expected axes"):
        plotting.GenewiseComparisonDisplay(*errors).plot(pyplot.figure())
    ax = pyplot.figure().subplots()
    ax.set_xscale("log")
    with pytest.raises(ValueError, match="Set their scale after plot"):
        plotting.GenewiseComparisonDisplay(*errors).plot(ax)


def test_errors_that_are_mostly_equal_are_a_curve(pyplot):
    rng = np.random.default_rng(0)
    errors = np.r_[0.3 + 1e-12 * rng.normal(size=800), rng.uniform(0.1, 1.0, 200)]
    display = plotting.GenewiseErrorDisplay({"a": errors}).plot()
    assert len(display.lines_[0].get_xdata()) > 100


def test_equal_errors_are_a_vertical_line(pyplot):
    errors = {"perfect": np.zeros(300), "same": np.full(300, 0.3), "network": some_errors(300)[0]}
    display = drawn(plotting.GenewiseErrorDisplay(errors).plot())
    assert [list(line.get_xdata()) for line in display.lines_[:2]] == [[0.0, 0.0], [0.3, 0.3]]
    assert len(display.lines_[2].get_xdata()) > 100
    low, high = display.ax_.get_xlim()
    assert low < 0
    assert high == pytest.approx(1.05 * np.quantile(errors["network"], 0.999))
    assert legend_labels(display)[0] == "perfect (0.00)"
    alone = drawn(plotting.GenewiseErrorDisplay({"perfect": [0.0]}).plot())
    assert alone.ax_.get_xlim()[0] < 0 < alone.ax_.get_xlim()[1]


@pytest.mark.parametrize("names", [["good", "bad"], ["good", "other", "bad"]])
def test_one_bad_model_does_not_squeeze_the_others(pyplot, names):
    errors = {name: some_errors(3000, seed)[0] for seed, name in enumerate(names)}
    errors["bad"] *= 200
    display = drawn(plotting.GenewiseErrorDisplay(errors).plot())
    assert display.ax_.get_xlim()[1] == pytest.approx(
        1.05 * max(np.quantile(errors[name], 0.999) for name in names if name != "bad")
    )
    assert legend_labels(display)[-1].replace("\n", " ").endswith("3,000 genes beyond)")
    assert "beyond" not in legend_labels(display)[0]


def test_single_bad_genes_do_not_squeeze_the_others(pyplot):
    errors = some_errors(3000)[0]
    usual = plotting.GenewiseErrorDisplay({"a": errors}).plot().ax_.get_xlim()[1]
    errors[:30] = 500.0
    display = drawn(plotting.GenewiseErrorDisplay({"a": errors}).plot())
    assert display.ax_.get_xlim()[1] < 3 * usual
    assert "; 30 genes beyond)" in legend_labels(display)[0].replace("\n", " ")


@pytest.mark.parametrize("bandwidth", [None, 0.3])
def test_a_single_bad_gene_does_not_flatten_a_curve(pyplot, bandwidth):
    errors, _ = some_errors(1000)
    with_outlier = np.append(errors[1:], 1e4)
    display = plotting.GenewiseErrorDisplay({"a": errors, "b": with_outlier}).plot(bandwidth=bandwidth)
    heights = [line.get_ydata().max() for line in display.lines_]
    np.testing.assert_allclose(heights[1], heights[0], rtol=0.02)
    area = np.trapezoid(display.lines_[1].get_ydata(), display.lines_[1].get_xdata())
    np.testing.assert_allclose(area, 1.0, atol=0.01)


def test_genes_without_finite_errors_are_left_out_and_counted(pyplot):
    errors, other = (list(values) for values in some_errors(100))
    errors[0], other[1] = np.nan, np.inf
    display = drawn(plotting.GenewiseErrorDisplay({"a": errors, "b": other}).plot())
    assert display.ax_.get_ylabel() == "density of 98 target genes\n(2 genes without finite errors left out)"
    assert display.median_lines_[0].get_xdata()[0] == pytest.approx(np.median(errors[2:]))
    compared = drawn(plotting.GenewiseComparisonDisplay(errors, other).plot())
    assert len(compared.points_.get_offsets()) == 98
    assert compared.texts_[1].get_text().endswith("\n(2 genes without finite errors)")
    shares = [float(re.search(r"\((.*)%\)", text.get_text())[1]) for text in compared.texts_]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    predicted = drawn(plotting.PredictionDisplay(errors, other).plot())
    assert predicted.text_.get_text().startswith("98 profiles\n")
    assert predicted.text_.get_text().endswith("\n(2 profiles not finite)")
    r2 = plotting.AdjustedR2Display(errors, other).plot()
    assert r2.texts_[1].get_text() == "2 targets undefined"


def test_nothing_finite_is_an_error(pyplot):
    errors, none = [0.1, 0.2], [np.nan, np.nan]
    message = r"none has finite errors throughout.*'b': 0"
    with pytest.raises(ValueError, match=message):
        plotting.GenewiseErrorDisplay({"a": errors, "b": none}).plot()
    with pytest.raises(ValueError, match="none has finite errors throughout"):
        plotting.GenewiseComparisonDisplay(errors, none).plot()
    with pytest.raises(ValueError, match="Got 2 profiles of which none has finite values"):
        plotting.PredictionDisplay(errors, none).plot()
    with pytest.raises(ValueError, match="Got 2 errors, but none is finite"):
        plotting.ArchitectureDisplay([1, 2], [3, 3], [0, 0], none).plot()
    assert not pyplot.get_fignums()


def test_errors_of_genes_have_one_length(pyplot):
    with pytest.raises(ValueError, match=r"lengths \{'a': 2, 'b': 3\}"):
        plotting.GenewiseErrorDisplay({"a": np.arange(2), "b": np.arange(3)}).plot()
    assert not pyplot.get_fignums()


def test_models_must_be_named_or_one(profiles, models):
    X, y = profiles
    with pytest.raises(TypeError, match="Got list, but expected a fitted estimator"):
        plotting.GenewiseErrorDisplay.from_estimator(list(models.values()), X, y)
    with pytest.raises(ValueError, match="Got no models"):
        plotting.GenewiseErrorDisplay.from_estimator({}, X, y)
    with pytest.raises(ValueError, match="Got predictions of type ndarray"):
        plotting.GenewiseErrorDisplay.from_predictions(y, y)


def test_comparison_counts_genes_won(pyplot):
    errors, other = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.2, 0.3, 0.3, 0.3])
    display = plotting.GenewiseComparisonDisplay(errors, other, names=("D-GEX-10%", "ridge"), unit="log2").plot()
    assert [text.get_text() for text in display.texts_] == [
        "D-GEX-10% better:\n2 genes (50.0%)",
        "ridge better:\n1 gene (25.0%)\n(1 gene equal)",
    ]
    np.testing.assert_array_equal(np.sort(display.points_.get_offsets()[:, 0]), errors)
    assert display.ax_.get_xlim() == display.ax_.get_ylim()
    assert display.ax_.get_aspect() == 1.0
    assert labels(display.ax_) == ("D-GEX-10%: mean absolute error\n(log2)", "ridge: mean absolute error\n(log2)")
    assert display.points_.get_rasterized()


def test_comparison_from_estimators(pyplot, profiles, models):
    X, y = profiles
    display = plotting.GenewiseComparisonDisplay.from_estimator(models["network"], models["least squares"], X, y)
    assert display.names == ("DGEXRegressor", "LinearRegression")
    np.testing.assert_array_equal(display.errors, metrics.genewise_mae(y, models["network"].predict(X)))
    same = plotting.GenewiseComparisonDisplay.from_estimator(models["network"], models["network"], X, y, scale=y[0])
    assert same.names == ("DGEXRegressor (first)", "DGEXRegressor (second)")
    assert same.unit == "standardized expression"
    with pytest.raises(ValueError, match="Got names='ab', but expected two"):
        plotting.GenewiseComparisonDisplay.from_predictions(y, y, y, names="ab")


@pytest.mark.parametrize("n_genes", [1, 50, 9520, 30_000])
def test_clouds_of_all_sizes_show_every_gene(pyplot, n_genes):
    from matplotlib.collections import PathCollection, PolyCollection

    errors, other = some_errors(n_genes)
    display = drawn(plotting.GenewiseComparisonDisplay(errors, other).plot())
    low, high = display.ax_.get_xlim()
    assert low < min(errors.min(), other.min())
    assert high > max(errors.max(), other.max())
    if n_genes > _style.MAX_POINTS:
        assert isinstance(display.points_, PolyCollection)
        assert display.points_.get_array().sum() == n_genes
        assert display.figure_.axes[1].get_ylabel() == "target genes"
    else:
        assert isinstance(display.points_, PathCollection)
        assert len(display.points_.get_offsets()) == n_genes
        coloured = display.points_.get_array() is not None
        assert coloured == (n_genes >= _style.FEW_POINTS)
        if coloured:  # the densest on top
            assert (np.diff(display.points_.get_array()) >= 0).all()


@pytest.mark.parametrize("n_outliers", [1, 3])
def test_outliers_among_few_genes_leave_the_others_their_room(pyplot, n_outliers):
    errors, others = some_errors(300)
    others[:n_outliers] = 50.0
    display = plotting.GenewiseComparisonDisplay(errors, others).plot()
    assert display.ax_.get_xlim()[1] < 3 * errors.max()
    assert f"{n_outliers} gene" in " ".join(text.get_text() for text in display.texts_)


def test_styles_of_single_genes_stay_with_them(pyplot):
    errors, others = some_errors(500)
    sizes = np.full(500, 5.0)
    sizes[7] = 300.0
    points = plotting.GenewiseComparisonDisplay(errors, others).plot(points_kw={"s": sizes}).points_
    np.testing.assert_array_equal(points.get_offsets()[points.get_sizes().argmax()], [errors[7], others[7]])


def test_texts_have_corners_without_points(pyplot):
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.1, 0.4, 500)
    display = plotting.GenewiseComparisonDisplay(errors, 3 * errors).plot()
    low, high = display.ax_.get_xlim()
    x, y = (np.asarray(values - low) / (high - low) for values in (errors, 3 * errors))
    assert not ((x < 0.6) & (y > 0.83)).any()
    swapped = plotting.GenewiseComparisonDisplay(3 * errors, errors).plot()
    low, high = swapped.ax_.get_xlim()
    x, y = y * 0 + (3 * errors - low) / (high - low), (errors - low) / (high - low)
    assert not ((x > 0.4) & (y < 0.17)).any()


def test_single_outliers_are_left_out_and_counted(pyplot):
    errors, other = some_errors(5000)
    other[:2] = 50.0, 80.0
    display = plotting.GenewiseComparisonDisplay(errors, other).plot()
    assert display.ax_.get_xlim()[1] < 2.0
    n_outside = int((other > display.ax_.get_xlim()[1]).sum())
    assert 2 <= n_outside < 20
    assert f"({n_outside} genes beyond the axes)" in display.texts_[1].get_text()


def test_points_can_be_coloured_by_hand(pyplot):
    errors, other = some_errors(300)
    display = plotting.GenewiseComparisonDisplay(errors, other).plot(
        points_kw={"color": "red", "s": 3}, line_kw={"ls": ":", "c": "blue"}
    )
    np.testing.assert_allclose(display.points_.get_facecolor(), [[1, 0, 0, 1]])
    assert display.points_.get_sizes() == [3]
    assert (display.diagonal_.get_linestyle(), display.diagonal_.get_color()) == (":", "blue")
    few = plotting.GenewiseComparisonDisplay(errors[:9], other[:9]).plot(points_kw={"c": np.arange(9)})
    np.testing.assert_array_equal(few.points_.get_array(), np.arange(9))


# One gene, one profile


def test_prediction_of_a_gene_and_of_a_profile(pyplot, profiles, models):
    X, y = profiles
    names = [f"T{index}" for index in range(y.shape[1])]
    model = models["least squares"]
    gene = plotting.PredictionDisplay.from_estimator(model, X, y, target="T4", target_names=names, unit="log2").plot()
    np.testing.assert_array_equal(gene.measured, y[:, 4])
    np.testing.assert_array_equal(gene.inferred, model.predict(X)[:, 4])
    error = np.abs(gene.measured - gene.inferred).mean()
    r = np.corrcoef(gene.measured, gene.inferred)[0, 1]
    assert gene.text_.get_text() == f"120 profiles\nMAE {error:#.3g}\nPearson r {r:.3f}"
    assert gene.ax_.get_title() == "T4"
    assert labels(gene.ax_) == ("measured expression (log2)", "inferred expression (log2)")
    profile = plotting.PredictionDisplay.from_estimator(model, X, y, profile=-1).plot()
    np.testing.assert_array_equal(profile.measured, y[119])
    assert profile.text_.get_text().startswith("9 genes\n")
    assert profile.ax_.get_title() == "profile 119"


def test_prediction_of_a_single_target_may_be_one_or_two_dimensional(pyplot, profiles):
    X, y = profiles
    model = Ridge().fit(X, y[:, :1])
    display = plotting.PredictionDisplay.from_predictions(y[:, :1], model.predict(X).ravel(), target=0)
    np.testing.assert_array_equal(display.inferred, model.predict(X).ravel())


def test_only_the_profile_that_is_drawn_is_inferred(profiles):
    X, y = profiles

    class Counting(LinearRegression):
        def predict(self, X):
            assert len(X) == 1
            return super().predict(X)

    model = Counting().fit(X, y)
    display = plotting.PredictionDisplay.from_estimator(model, X, y, profile=-2)
    assert display.title == f"profile {len(X) - 2}"
    np.testing.assert_array_equal(display.measured, y[-2])
    np.testing.assert_allclose(display.inferred, model.predict(X[-2:-1])[0])
    with pytest.raises(ValueError, match=f"Got profile={len(X)}"):
        plotting.PredictionDisplay.from_estimator(model, X, y, profile=len(X))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        plotting.PredictionDisplay.from_estimator(model, X[:40], y, profile=10)


def test_a_name_of_several_targets_is_none_of_them(profiles):
    _, y = profiles
    names = ["a", "b", "a", *map(str, range(3, y.shape[1]))]
    with pytest.raises(ValueError, match=r"Got .*a.*, but several of the targets are called that"):
        plotting.PredictionDisplay.from_predictions(y, y, target="a", target_names=names)
    display = plotting.PredictionDisplay.from_predictions(y, y, target="b", target_names=names)
    np.testing.assert_array_equal(display.measured, y[:, 1])


def test_prediction_knows_names_of_frames_and_models(profiles):
    X, y = profiles
    frame = pd.DataFrame(y, columns=[f"T{index}" for index in range(y.shape[1])])
    assert plotting.PredictionDisplay.from_predictions(frame, y, target="T2").title == "T2"
    model = make_pipeline(StandardScaler(), DGEXRegressor(hidden_layer_sizes=4, max_iter=1)).fit(X, frame)
    assert plotting.PredictionDisplay.from_estimator(model, X, y, target=3).title == "T3"
    assert plotting.PredictionDisplay.from_predictions(y, y, target=3).title == "target 3"
    vector = plotting.PredictionDisplay.from_predictions(y[:, 0], y[:, 0], target=0)
    assert vector.measured.shape == (120,)


def test_constant_predictions_have_no_correlation(pyplot):
    display = drawn(plotting.PredictionDisplay(np.arange(10.0), np.full(10, 4.0)).plot())
    assert "Pearson r undefined" in display.text_.get_text()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "Got target=None and profile=None, but expected one of them"),
        ({"target": 0, "profile": 0}, "but expected one of them"),
        ({"target": "T1"}, "the targets have no names"),
        (
            {"target": "T99", "target_names": list("abcdefghi")},
            "targets are unknown: T99. There are 9, such as a, b, c",
        ),
        ({"target": 0, "target_names": ["a"]}, "Got 1 target names, but expected one for each of 9 genes"),
        ({"target": 9}, "1 of 1 targets are unknown: 9. There are 9, such as 0, 1, 2"),
        ({"target": [0, 1]}, "Got target=[0, 1], which are 2 targets, but expected one."),
        ({"profile": 120}, "Got profile=120, but expected a number from 0 to 119"),
        ({"profile": "first"}, "Got profile='first', but expected a number"),
    ],
)
def test_prediction_needs_one_gene_or_profile(profiles, choice, message):
    _, y = profiles
    with pytest.raises(ValueError, match=re.escape(message)):
        plotting.PredictionDisplay.from_predictions(y, y, **choice)


def test_prediction_needs_one_shape(profiles):
    _, y = profiles
    with pytest.raises(ValueError, match="expected the same shape"):
        plotting.PredictionDisplay.from_predictions(y, y[1:], target=0)


# Architectures


def results():
    return [
        {"layers": layers, "units": units, "dropout": dropout, "error": 0.4 - 0.01 * layers - dropout / 10 + seed / 100}
        for dropout in (0.1, 0.0)
        for layers in (2, 1)
        for units in (6000, 3000)
        for seed in range(3)
    ]


def test_architectures_are_ordered_and_averaged_over_seeds(pyplot):
    display = drawn(plotting.ArchitectureDisplay.from_results(results(), baselines={"ridge": 0.41}).plot())
    assert [text.get_text() for text in display.texts_] == ["1 hidden layer", "2 hidden layers"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["3,000", "6,000", "3,000", "6,000"]
    assert (np.diff(display.ax_.get_xticks()) > 0).all()
    x, errors = display.lines_[0].get_data()  # no dropout; interrupted between numbers of layers
    np.testing.assert_allclose(errors, [0.40, 0.40, np.nan, 0.39, 0.39])
    assert np.isnan(x[2])
    bars = display.errorbars_[0].lines[2][0].get_segments()
    heights = [bar[1, 1] - bar[0, 1] for bar in bars if len(bar)]
    np.testing.assert_allclose(heights, 0.02)  # twice the standard deviation of 0, 0.01 and 0.02
    assert display.baseline_lines_[0].get_ydata()[0] == 0.41
    assert legend_labels(display) == ["dropout 0%", "dropout 10%", "ridge"]
    assert labels(display.ax_) == ("units per hidden layer", "overall error")


@pytest.mark.parametrize("figsize", [(6.4, 4.8), (12, 4)])
def test_sizes_of_many_architectures_do_not_overlap(pyplot, figsize):
    figure, axes = pyplot.subplots(1, 2, figsize=figsize)
    display = plotting.ArchitectureDisplay.from_results(
        [
            {"layers": layers, "units": units, "dropout": dropout, "error": 0.4 + layers / units}
            for layers, units, dropout in product((1, 2, 3), (3000, 6000, 9000), (0.0, 0.1, 0.25))
        ]
    )
    for ax in axes:
        display.plot(ax)
        figure.canvas.draw()
        extents = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert not any(first.overlaps(second) for first, second in pairwise(extents))
        legend = display.legend_.get_window_extent()
        points = np.concatenate([ax.transData.transform(line.get_xydata()) for line in display.lines_])
        assert not any(legend.contains(x, y) for x, y in points[np.isfinite(points).all(axis=1)])


def test_many_dropout_rates_stay_with_their_architecture(pyplot):
    rates = np.arange(15) / 20
    display = plotting.ArchitectureDisplay.from_results(
        [{"layers": 1, "units": units, "dropout": rate, "error": 0.4} for units in (100, 200) for rate in rates]
    ).plot()
    x = np.array([line.get_xdata() for line in display.lines_])
    assert x[:, 0].max() + 0.2 < x[:, 1].min()
    styles = {(line.get_color(), line.get_marker()) for line in display.lines_}
    assert len(styles) == len(rates)


def test_architecture_trained_once_has_no_bars(pyplot):
    display = drawn(plotting.ArchitectureDisplay.from_results(results()[:1]).plot())
    assert not display.errorbars_[0].has_yerr
    uneven = {"layers": 2, "units": (300, 100), "dropout": 0.0, "error": 0.4}
    display = plotting.ArchitectureDisplay.from_results([uneven, {**uneven, "units": 100}]).plot()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["100", "300\n100"]


def test_architectures_may_be_arrays_and_frames(pyplot):
    frame = pd.DataFrame(results())
    display = drawn(plotting.ArchitectureDisplay.from_results(frame).plot())
    expected = plotting.ArchitectureDisplay.from_results(results())
    assert (list(display.units), list(display.layers)) == (list(expected.units), list(expected.layers))
    np.testing.assert_array_equal(display.errors, expected.errors)
    polars = pytest.importorskip("polars")
    assert plotting.ArchitectureDisplay.from_results(polars.DataFrame(results())).units == display.units
    table = Table({name: np.array([row[name] for row in results()]) for name in results()[0]})
    assert plotting.ArchitectureDisplay.from_results(table).units == display.units
    for units, names in ((np.array([3000, 6000]), ["3,000", "6,000"]), ([[6, 4], [8, 2]], ["6\n4", "8\n2"])):
        arrays = plotting.ArchitectureDisplay(np.array([2, 2]), units, [0.0, None], [0.3, 0.2])
        drawn(arrays.plot())
        assert [label.get_text() for label in arrays.ax_.get_xticklabels()] == names


def test_rows_without_dropout_are_one_architecture():
    rows = [{"layers": 1, "units": 3, "dropout": float("nan"), "error": error} for error in (0.2, 0.4)]
    np.testing.assert_allclose(plotting.ArchitectureDisplay.from_results(rows).errors, [0.3])


def test_architectures_of_a_grid_search_in_a_pipeline(pyplot, profiles):
    X, y = profiles
    model = make_pipeline(StandardScaler(), DGEXRegressor(max_iter=1, random_state=0))
    grid = {
        "dgexregressor__hidden_layer_sizes": [4, (4, 2)],
        "dgexregressor__dropout": [0.0, 0.2],
        "dgexregressor__momentum": [0.0, 0.5],
    }
    split = PredefinedSplit(np.arange(len(X)) % 2)
    search = GridSearchCV(model, grid, scoring=metrics.neg_overall_error_scorer, cv=split, refit=False).fit(X, y)
    display = plotting.ArchitectureDisplay.from_cv_results(search.cv_results_)
    assert len(display.errors) == 4
    assert display.errors.min() == pytest.approx(-search.cv_results_["mean_test_score"].max())
    best = int(np.argmin(display.errors))
    assert (
        display.deviations[best] == search.cv_results_["std_test_score"][search.cv_results_["mean_test_score"].argmax()]
    )
    drawn(display.plot())
    assert legend_labels(display) == ["dropout 0%", "dropout 20%"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["4", "4\n2"]
    assert display.ax_.get_ylabel() == "cross-validated error\n(negated score)"


def test_scores_of_searches_keep_their_sign_and_may_lack_dropout(pyplot):
    results = {
        "param_hidden_layer_sizes": [(4,), (4, 2)],
        "mean_test_correlation": [0.5, np.nan],
        "std_test_correlation": [0.1, np.nan],
    }
    display = drawn(plotting.ArchitectureDisplay.from_cv_results(results, score="correlation").plot())
    np.testing.assert_array_equal(display.errors, [0.5, np.nan])
    assert display.ax_.get_ylabel() == "cross-validated score"
    assert display.legend_ is None
    labelled = plotting.ArchitectureDisplay.from_cv_results(results, score="correlation", label="r")
    assert labelled.label == "r"


def test_equal_layers_may_be_one_number_or_several(pyplot):
    rows = [{"layers": 2, "units": units, "dropout": 0.0, "error": error} for units, error in (((30, 30), 1), (30, 3))]
    display = plotting.ArchitectureDisplay.from_results(rows)
    assert (display.units, display.errors.tolist()) == ((30,), [2.0])


def test_results_of_several_grids_may_be_a_frame(pyplot, profiles):
    X, y = profiles
    model = make_pipeline(StandardScaler(), DGEXRegressor(hidden_layer_sizes=4, max_iter=1, random_state=0))
    grids = [{"dgexregressor__hidden_layer_sizes": [(8,), (9, 9)]}, {"dgexregressor__dropout": [0.0, 0.1]}]
    results = GridSearchCV(model, grids, cv=2).fit(X, y).cv_results_
    displays = [plotting.ArchitectureDisplay.from_cv_results(each) for each in (results, pd.DataFrame(results))]
    assert sorted(displays[0].units) == sorted(displays[1].units) == [8, 9]
    frame = pd.DataFrame(results).convert_dtypes()
    assert plotting.ArchitectureDisplay.from_cv_results(frame).units == displays[1].units


def test_candidates_without_an_architecture_are_left_out():
    sizes = np.ma.masked_array(np.array([4, 0, 6], dtype=object), mask=[False, True, False])
    results = {"param_a__hidden_layer_sizes": sizes, "mean_test_score": [-1, -2, -3], "std_test_score": [0, 0, 0]}
    assert plotting.ArchitectureDisplay.from_cv_results(results).units == (4, 6)


def test_architecture_messages():
    with pytest.raises(ValueError, match="Got a row without units, error"):
        plotting.ArchitectureDisplay.from_results([{"layers": 1, "dropout": 0}])
    with pytest.raises(ValueError, match="Got no rows"):
        plotting.ArchitectureDisplay.from_results([])
    with pytest.raises(ValueError, match=r"Got a row with dropout=None, but expected a number.*Use 0\.0 for none"):
        plotting.ArchitectureDisplay.from_results([{"layers": 1, "units": 2, "dropout": None, "error": 0.3}])
    with pytest.raises(ValueError, match="Got a row with units='many'"):
        plotting.ArchitectureDisplay.from_results([{"layers": 1, "units": "many", "dropout": 0, "error": 0.3}])
    scores = {"mean_test_score": [-1.0], "std_test_score": [0.0]}
    with pytest.raises(ValueError, match="without param_hidden_layer_sizes"):
        plotting.ArchitectureDisplay.from_cv_results(scores)
    with pytest.raises(ValueError, match=r"without mean_test_r2.*found \['mean_test_score'\]"):
        plotting.ArchitectureDisplay.from_cv_results(scores, score="r2")
    twice = {**scores, "param_a__hidden_layer_sizes": [1], "param_b__hidden_layer_sizes": [1]}
    with pytest.raises(ValueError, match="several parameters called hidden_layer_sizes"):
        plotting.ArchitectureDisplay.from_cv_results(twice)


# Training


@pytest.fixture(scope="module")
def validated(profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=8, max_iter=5, random_state=0)
    return model.fit(X[:80], y[:80], X_val=(X[80:100], X[100:]), y_val=(y[80:100], y[100:]))


def test_training_curves_are_the_history(pyplot, validated):
    display = drawn(plotting.TrainingCurveDisplay.from_estimator(validated, baselines={"ridge": 0.5}).plot())
    columns = ["train_mae", "validation_mae_0", "validation_mae_1"]
    assert list(display.lines_) == [("DGEXRegressor", column) for column in columns]
    for column in columns:
        x, errors = display.lines_["DGEXRegressor", column].get_data()
        np.testing.assert_array_equal(x, [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(errors, [record[column] for record in validated.history_])
    rates = display.rate_lines_["DGEXRegressor"].get_ydata()
    np.testing.assert_array_equal(rates, [record["learning_rate"] for record in validated.history_])
    mark = display.best_["DGEXRegressor"].get_data()
    assert mark == ([validated.best_epoch_], [pytest.approx(validated.best_score_)])
    assert display.rate_ax_.get_yscale() == "log"
    low, high = display.rate_ax_.get_ylim()
    assert any(low < tick < high for tick in display.rate_ax_.get_yticks())
    assert display.rate_ax_.get_xlabel() == "epoch"
    assert display.ax_.get_ylabel() == "mean absolute error\n(standardized expression)"
    names = ["training", "validation set 0", "validation set 1", "best epoch", "ridge"]
    assert legend_labels(display) == names


def test_the_mark_is_on_the_set_that_selected_the_epoch(pyplot):
    errors = {"validation_mae_0": [3.0, 2.0, 2.5], "validation_mae_1": [4.0, 3.5, 3.0]}
    history = [
        {
            "epoch": epoch + 1,
            "learning_rate": 0.1,
            "train_mae": 1.0,
            **{name: own[epoch] for name, own in errors.items()},
        }
        for epoch in range(3)
    ]
    for best, mark in (([2], (2, 2.0)), ([3], (3, 3.0)), ([1], (1, 3.0)), (None, (2, 2.0))):
        best_epochs = None if best is None else {"m": best}
        display = plotting.TrainingCurveDisplay({"m": history}, best_epochs=best_epochs).plot()
        x, y = display.best_["m"].get_data()
        assert (x[0], y[0]) == mark
    with pytest.raises(ValueError, match=r"Got best epochs \[7\] of 'm'"):
        plotting.TrainingCurveDisplay({"m": history}, best_epochs={"m": [7]}).plot()


def test_errors_of_networks_that_do_not_standardize_are_in_units_of_y(pyplot, profiles):
    X, y = profiles
    raw = DGEXRegressor(hidden_layer_sizes=4, max_iter=1, standardize=False, learning_rate_init=1e-5).fit(X, y)
    network = clone(raw).set_params(standardize=True).fit(X, y)
    labels_of = plotting.TrainingCurveDisplay.from_estimator
    assert "(units of y)" in labels_of(raw).plot().ax_.get_ylabel()
    changed = clone(network).fit(X, y).set_params(standardize=False)  # says nothing of how it was trained
    for standardized in (network, changed):
        assert "(standardized expression)" in labels_of(standardized).plot().ax_.get_ylabel()
    with pytest.raises(ValueError, match="different units"):
        labels_of({"raw": raw, "network": network})
    assert labels_of({"raw": raw, "network": network}, unit="log2").unit == "log2"


def test_many_validation_sets_are_told_apart(pyplot, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=4, max_iter=1).fit(X, y, X_val=(X[:20],) * 8, y_val=(y[:20],) * 8)
    handles = plotting.TrainingCurveDisplay.from_estimator({"a": model, "b": model}).plot()._handles()
    styles = [line._dash_pattern for line in handles if line.get_label().startswith(("training", "validation"))]
    assert len(styles) == len({str(style) for style in styles}) == 9


def test_best_epochs_may_be_single_numbers_and_names_have_to_be_several(pyplot, validated):
    display = plotting.TrainingCurveDisplay({"a": validated.history_}, best_epochs={"a": 2}).plot()
    assert display.best_["a"].get_xdata().tolist() == [2]
    with pytest.raises(TypeError, match=r"Got validation_names='arrays'.*such as \['arrays'\]"):
        plotting.TrainingCurveDisplay.from_estimator(validated, validation_names="arrays").plot()


def test_training_of_several_models_with_names(pyplot, validated, profiles):
    X, y = profiles
    unselected = DGEXRegressor(hidden_layer_sizes=4, max_iter=2, validation_fraction=0).fit(X, y)
    models = {"dropout 0%": validated, "alone": make_pipeline(StandardScaler(), clone(unselected)).fit(X, y)}
    display = plotting.TrainingCurveDisplay.from_estimator(models, validation_names=("arrays", "RNA-seq"))
    drawn(display.plot())
    assert set(display.best_) == {"dropout 0%"}  # nothing selected the other one's epoch
    assert ("alone", "validation_mae_0") not in display.lines_
    assert legend_labels(display) == ["dropout 0%", "alone", "training", "arrays", "RNA-seq", "best epoch"]
    colors = {name: line.get_color() for (name, _), line in display.lines_.items()}
    assert len(set(colors.values())) == 2
    assert display.rate_lines_["alone"].get_color() == colors["alone"]


def test_training_of_several_networks_marks_each_best_epoch(pyplot, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=8, max_iter=4, n_partitions=2, random_state=0).fit(X, y)
    model.best_epoch_ = np.array([2, 4])
    display = drawn(plotting.TrainingCurveDisplay.from_estimator(model).plot())
    np.testing.assert_array_equal(display.best_["DGEXRegressor"].get_xdata(), [2, 4])
    assert [column for _, column in display.lines_] == ["train_mae", "validation_mae_0"]
    assert legend_labels(display) == ["training", "validation", "best epoch"]


def test_a_start_that_is_best_has_no_mark(pyplot, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=8, max_iter=4, n_partitions=2, random_state=0).fit(X, y)
    for best, marks in (([0, 4], [4]), ([0, 0], None)):
        model.best_epoch_ = np.array(best)
        display = drawn(plotting.TrainingCurveDisplay.from_estimator(model).plot())
        assert (marks is None) == (display.best_ == {})
        if marks:
            np.testing.assert_array_equal(display.best_["DGEXRegressor"].get_xdata(), marks)


def test_training_of_one_epoch_is_seen(pyplot, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=4, max_iter=1).fit(X, y)
    display = drawn(plotting.TrainingCurveDisplay.from_estimator(model).plot())
    assert {line.get_marker() for line in display.lines_.values()} == {"."}


def test_histories_may_lack_numbers(pyplot):
    history = [{"epoch": 1, "train_mae": 2.0, "learning_rate": 0.1}]
    history.append({**history[0], "epoch": 2, "validation_mae_0": 1.0})
    display = drawn(plotting.TrainingCurveDisplay({"m": history}).plot())
    np.testing.assert_array_equal(display.lines_["m", "validation_mae_0"].get_ydata(), [np.nan, 1.0])
    with pytest.raises(ValueError, match="Got no epochs of 'm': it was trained for none"):
        plotting.TrainingCurveDisplay({"m": []}).plot()
    with pytest.raises(ValueError, match="Got a history of 'm' without epochs"):
        plotting.TrainingCurveDisplay({"m": [{"error": 1.0}]}).plot()


def history_of(errors):
    names = ("epoch", "train_mae", "validation_mae_0", "learning_rate")
    return [dict(zip(names, (epoch + 1, error, error, 0.1), strict=True)) for epoch, error in enumerate(errors)]


def test_histories_without_finite_errors(pyplot):
    diverged = history_of([np.nan, np.nan])
    with pytest.raises(ValueError, match="Got a history of 'm' without any finite error in 2 epochs"):
        plotting.TrainingCurveDisplay({"m": diverged}).plot()
    partly = [{**record, "train_mae": 1.0, "learning_rate": np.nan} for record in diverged]
    display = drawn(plotting.TrainingCurveDisplay({"m": partly}).plot())
    assert display.best_ == {}


def test_many_networks_are_told_apart(pyplot):
    histories = {f"network {index}": history_of(np.linspace(1, 0.5, 30) + index) for index in range(50)}
    display = drawn(plotting.TrainingCurveDisplay(histories).plot())
    for lines in ({name: line for (name, _), line in display.lines_.items()}, display.rate_lines_):
        looks = {(line.get_color(), line.get_marker()) for line in lines.values()}
        assert len(looks) == 50
    entries = display.legend_.legend_handles[:50]
    assert len({(handle.get_color(), handle.get_marker()) for handle in entries}) == 50
    assert {line.get_marker() for (name, _), line in display.lines_.items() if name == "network 6"} == {"None"}


def test_training_needs_networks(models):
    with pytest.raises(TypeError, match="'least squares', a LinearRegression without history_"):
        plotting.TrainingCurveDisplay.from_estimator(models)


# Connections


def test_connections_are_the_major_weights(pyplot, network):
    display = plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=1.5, n_std_out=1.5, n_hubs=3)
    weights = major_weights(network, n_std_in=1.5, n_std_out=1.5)
    hubs = hub_units(network, weights=weights)[:3]
    drawn(display.plot())
    below, above = display.edges_
    assert len(below.get_segments()) == len(weights.inputs)
    assert len(above.get_segments()) == len(weights.outputs)
    positive = np.isclose(above.get_colors()[:, 0], 0xD5 / 255)
    assert positive.sum() == (weights.outputs["weight"] > 0).sum()
    assert len(display.hub_edges_[1].get_segments()) == sum(hub.n_targets for hub in hubs)
    of_hubs = np.isin(weights.inputs["unit"], [hub.unit for hub in hubs])
    assert len(display.hub_edges_[0].get_segments()) == of_hubs.sum()
    assert display.edges_[0].get_rasterized()
    texts = {text.get_text() for text in display.texts_}
    assert texts == {f"unit {hub.unit}\n{_style.plural(hub.n_targets, 'target')}" for hub in hubs}
    rows = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert rows == ["12 landmark\ngenes", "30 hidden\nunits", "9 target\ngenes"]
    assert legend_labels(display) == ["positive weight", "negative weight", "hub unit, and its connections"]
    assert display.legend_.get_title().get_text() == f"{len(weights.inputs) + len(weights.outputs)} connections"


def test_edges_join_the_places_of_genes_and_hubs(pyplot, network):
    weights = major_weights(network, n_std_in=2.0, n_std_out=2.0)
    display = plotting.ConnectionMapDisplay(weights).plot()
    strongest = int(np.argmax(np.abs(weights.outputs["deviations"])))
    start, end = display.edges_[1].get_segments()[-1]  # drawn on top
    unit, target = (weights.outputs[name][strongest] for name in ("unit", "target_index"))
    assert start[0] == pytest.approx((unit + 0.5) / 30)
    assert end[0] == pytest.approx((target + 0.5) / 9)
    assert display.hubs_ is None
    hubs = hub_units(network, weights=weights)[:4]
    display = plotting.ConnectionMapDisplay(weights, hubs).plot()
    places = np.sort(display.hubs_.get_offsets()[:, 0])
    np.testing.assert_allclose(places, [0.125, 0.375, 0.625, 0.875], atol=1 / 30)


def test_only_the_strongest_of_many_edges_are_drawn(pyplot, network):
    display = plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=0.5, n_std_out=0.5)
    n_all = len(display.weights.inputs) + len(display.weights.outputs)
    drawn(display.plot(max_edges=10))
    assert [len(edges.get_segments()) for edges in display.edges_] == [10, 10]
    assert display.legend_.get_title().get_text() == f"20 connections, the strongest of {n_all}"


def test_deep_networks_and_several_of_them(pyplot, profiles):
    X, y = profiles
    model = DGEXRegressor(hidden_layer_sizes=(10, 6), max_iter=2, n_partitions=2, random_state=0).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), model)
    display = plotting.ConnectionMapDisplay.from_estimator(pipeline, n_std_in=1.0, n_std_out=1.0, n_hubs=12)
    drawn(display.plot())
    assert len(display.edges_) == 3
    assert len(display.hub_edges_) == 2
    rows = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert rows[1:3] == ["2 x 10 hidden\nunits, layer 1", "2 x 6 hidden\nunits, layer 2"]
    assert all(text.get_text().startswith("network ") for text in display.texts_)
    xs = np.concatenate([np.asarray(edges.get_segments())[:, :, 0].ravel() for edges in display.edges_])
    assert xs.min() > 0
    assert xs.max() < 1


def test_architectures_from_columns_of_a_frame(pyplot):
    rows = [(layers, size, 0.1, 0.3 + layers / 100 + size / 1e5) for layers in (2, 1, 0) for size in (100, 200)]
    table = pd.DataFrame(rows, columns=["layers", "units", "dropout", "error"])[1:]
    table.loc[table["layers"] == 0, "units"] = 0
    display = plotting.ArchitectureDisplay(table["layers"], table["units"], table["dropout"], table["error"]).plot()
    x, y = display.lines_[0].get_data()
    expected = table.drop_duplicates(["layers", "units"]).sort_values(["layers", "units"])["error"]
    np.testing.assert_allclose(y[~np.isnan(y)][-3:], expected[-3:])
    assert np.isnan(x).sum() == 2


@pytest.mark.parametrize("n_sizes", [1, 6])
def test_names_of_architectures_on_narrow_axes_do_not_join(pyplot, n_sizes):
    sizes = range(1000, 1000 * (n_sizes + 1), 1000)
    rows = [{"layers": n, "units": size, "dropout": 0.1, "error": 0.3} for n in (1, 2, 3, 4) for size in sizes]
    figure, ax = pyplot.subplots(figsize=(4.5, 4))
    display = plotting.ArchitectureDisplay.from_results(rows).plot(ax)
    figure.canvas.draw()
    for texts in (display.texts_, ax.get_xticklabels()):
        extents = [text.get_window_extent() for text in texts]
        assert not any(left.overlaps(right) for left, right in pairwise(extents))


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_connections_on_narrow_axes_keep_names_apart(pyplot, network, layout):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5), layout=layout)
    displays = [
        plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=1.5, n_std_out=1.5, n_hubs=6).plot(ax)
        for ax in (left, right)
    ]
    figure.canvas.draw()
    legends = [display.legend_.get_window_extent() for display in displays]
    for display, legend in zip(displays, legends, strict=True):
        labels = [text.get_window_extent() for text in display.texts_]
        assert not any(one.overlaps(other) for one, other in combinations(labels, 2))
        assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0
        names = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
        assert min(name.x0 for name in names) >= figure.bbox.x0
    assert not legends[0].overlaps(legends[1])


def test_no_major_weights_are_drawn_as_none(pyplot, network):
    display = drawn(plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=99, n_std_out=99).plot())
    assert display.legend_.get_title().get_text() == "0 connections"
    with pytest.raises(ValueError, match="Got n_hubs=-1"):
        plotting.ConnectionMapDisplay.from_estimator(network, n_hubs=-1)


def test_more_edges_are_fainter(pyplot, network):
    alphas = {}
    for n_std in (2.0, 0.1):
        display = plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=n_std, n_std_out=0.1, n_hubs=0)
        edges = display.plot(max_edges=300_000).edges_[0].get_colors()
        alphas[len(edges)] = edges[0, 3]
    display = plotting.ConnectionMapDisplay(map_of_paper(n_edges=20_000))
    edges = display.plot().edges_[1].get_colors()
    alphas[len(edges)] = edges[0, 3]
    few, more, most = sorted(alphas)
    assert 0 < few < more < most == 20_000
    assert alphas[few] >= alphas[more] > 5 * alphas[most] > 0


def map_of_paper(n_edges):
    """Weights like those of 943 landmarks, 3,000 units and 4,760 targets."""
    rng = np.random.default_rng(0)

    def table(**sizes):
        ends = {name: rng.integers(size, size=n_edges) for name, size in sizes.items()}
        values = {"weight": rng.normal(size=n_edges), "deviations": rng.normal(size=n_edges)}
        return Table({"network": np.zeros(n_edges, dtype=int), **ends, **values})

    tables = table(landmark_index=943, unit=3000), table(unit=3000, target_index=4760)
    return MajorWeights(tables[0], [], tables[1], 943, 4760, (3000,), 1)


def test_a_map_of_the_papers_size_is_saved_as_a_small_pdf(pyplot, tmp_path):
    display = plotting.ConnectionMapDisplay(map_of_paper(n_edges=25_000)).plot()
    assert [len(edges.get_segments()) for edges in display.edges_] == [20_000, 20_000]
    display.figure_.savefig(tmp_path / "figure.pdf")
    assert 1e4 < (tmp_path / "figure.pdf").stat().st_size < 3e6


# Activations


def test_adjusted_r2_leaves_out_what_is_undefined(pyplot):
    table = Table(
        {
            "target": np.array(list("abcd"), dtype=object),
            "landmarks": np.array([0.1, 0.5, np.nan, 0.7]),
            "activations": np.array([0.2, 0.4, 0.3, 0.8]),
        }
    )
    display = drawn(plotting.AdjustedR2Display.from_table(table).plot())
    assert len(display.points_.get_offsets()) == 3
    texts = [text.get_text() for text in display.texts_]
    assert texts == ["higher from activations:\n2 of 3 targets (66.7%)", "1 target undefined"]
    assert labels(display.ax_) == ("adjusted R² from landmarks", "adjusted R² from hidden activations")
    frame = plotting.AdjustedR2Display.from_table(table.to_pandas())
    np.testing.assert_array_equal(frame.landmarks, table["landmarks"])


def test_adjusted_r2_of_a_network(pyplot, network, profiles):
    from dgex.interpretation import activation_adjusted_r2

    X, y = profiles
    display = plotting.AdjustedR2Display.from_estimator(network, X, y)
    table = activation_adjusted_r2(network, X, y)
    np.testing.assert_array_equal(display.activations, table["activations"])
    above = int((table["activations"] > table["landmarks"]).sum())
    assert f"{above} of 9 targets" in display.plot().texts_[0].get_text()


def test_adjusted_r2_of_a_network_in_a_pipeline(pyplot, models, profiles):
    X, y = profiles
    pipeline = models["network"]
    display = plotting.AdjustedR2Display.from_estimator(pipeline, X, y)
    expected = plotting.AdjustedR2Display.from_estimator(pipeline[-1], pipeline[:-1].transform(X), y)
    np.testing.assert_array_equal(display.activations, expected.activations)
    np.testing.assert_array_equal(display.landmarks, expected.landmarks)
    alone = plotting.AdjustedR2Display.from_estimator(make_pipeline(pipeline[-1]), pipeline[0].transform(X), y)
    np.testing.assert_array_equal(alone.activations, expected.activations)
    search = GridSearchCV(Ridge(), {"alpha": [1.0]})
    search.best_estimator_ = pipeline
    found = plotting.AdjustedR2Display.from_estimator(search, X, y)
    np.testing.assert_array_equal(found.activations, expected.activations)


def test_adjusted_r2_messages(pyplot):
    with pytest.raises(ValueError, match='without the column "activations"'):
        plotting.AdjustedR2Display.from_table({"landmarks": [1.0]})
    with pytest.raises(ValueError, match="Got 2 targets without a defined adjusted R2"):
        plotting.AdjustedR2Display(np.full(2, np.nan), np.zeros(2)).plot()
    assert not pyplot.get_fignums()


# Normalization


@pytest.fixture(scope="module")
def platforms():
    rng = np.random.default_rng(0)
    arrays = rng.normal(8, 2, (30, 400))
    counts = np.exp(rng.normal(3, 2.5, (20, 400)))
    counts[:, :40] = 0
    return {"arrays": arrays, "RNA-seq": counts}


def normalizers_of(platforms):
    first = QuantileJointNormalizer().fit(platforms["arrays"])
    second = QuantileJointNormalizer(ties="dense", reference=first.reference_quantiles_)
    return {"arrays": first, "RNA-seq": second.fit(platforms["RNA-seq"])}


def test_normalized_profiles_have_one_distribution(pyplot, platforms):
    normalizers = normalizers_of(platforms)
    display = plotting.QuantileNormalizationDisplay.from_estimator(normalizers, platforms)
    drawn(display.plot())
    assert [ax.get_title() for ax in display.axes_] == ["arrays, before", "RNA-seq, before", "after"]
    assert [ax.get_yscale() for ax in display.axes_] == ["linear", "symlog", "linear"]
    x, median = display.lines_["arrays", "before"].get_data()
    assert x[[0, -1]] == pytest.approx([0, 100])
    assert median[100] == pytest.approx(8, abs=0.2)
    after = display.lines_["arrays", "after"].get_ydata()
    reference = normalizers["arrays"].reference_quantiles_
    np.testing.assert_allclose(after, np.interp(x / 100, np.linspace(0, 1, 400), reference))
    np.testing.assert_allclose(display.lines_["RNA-seq", "after"].get_ydata()[100:], after[100:], atol=0.5)
    assert set(display.bands_) == set(display.lines_)
    low, middle, high = display.before["RNA-seq"]
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert legend_labels(display) == ["arrays", "RNA-seq"]


def test_bands_below_zero_are_not_cut_off(pyplot):
    counts = np.tile(np.r_[np.linspace(0, 2, 60), np.linspace(3, 500, 40)], (50, 1))
    counts[:5, :30] -= 50.0
    display = plotting.QuantileNormalizationDisplay.from_profiles({"a": counts}, {"a": np.log2(counts + 60.0)}).plot()
    assert display.axes_[0].get_yscale() == "symlog"
    assert display.axes_[0].get_ylim()[0] < display.before["a"].min() < -40


def test_profiles_may_be_frames_with_missing_values_and_many(pyplot, platforms):
    frame = pd.DataFrame(platforms["arrays"])
    frame.iloc[0, :50] = np.nan
    display = plotting.QuantileNormalizationDisplay.from_profiles({"a": frame}, {"a": frame}, max_profiles=7)
    drawn(display.plot())
    rows = np.linspace(0, 29, 7).astype(int)
    complete = np.quantile(platforms["arrays"][rows[1:]], 0.5, axis=1)
    assert complete.min() <= display.before["a"][1][100] <= complete.max()


def test_normalization_messages(platforms):
    normalizers = normalizers_of(platforms)
    with pytest.raises(ValueError, match="Got normalizers of arrays and profiles of arrays, RNA-seq"):
        plotting.QuantileNormalizationDisplay.from_estimator({"arrays": normalizers["arrays"]}, platforms)
    with pytest.raises(ValueError, match="Got before of type ndarray without any platform"):
        plotting.QuantileNormalizationDisplay.from_profiles(platforms["arrays"], platforms)
    with pytest.raises(ValueError, match=r"Got profiles of shape \(4,\)"):
        plotting.QuantileNormalizationDisplay.from_profiles({"a": np.ones(4)}, {"a": np.ones(4)})


# Learning rates


def cosine(n_epochs, initial):
    return initial * (1 + np.cos(np.pi * np.arange(n_epochs) / n_epochs)) / 2


@pytest.mark.parametrize(
    "rates",
    [np.full(50, 5e-4), 5e-4 * 0.9 ** np.arange(30), cosine(20, 1e-4), np.r_[cosine(20, 1e-4), cosine(100, 1e-3)]],
    ids=["constant", "adaptive", "gentle epochs", "modern"],
)
def test_learning_rates_can_be_read_off(pyplot, rates):
    history = [{"epoch": epoch, "train_mae": 0.5, "learning_rate": rate} for epoch, rate in enumerate(rates, start=1)]
    display = drawn(plotting.TrainingCurveDisplay({"model": history}).plot())
    ax = display.rate_ax_
    bottom, top = ax.get_ylim()
    ticks = [label for label, tick in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True) if bottom <= tick <= top]
    extents = [label.get_window_extent() for label in ticks if label.get_text()]
    assert 2 <= len(extents) <= 6
    assert not any(first.overlaps(second) for first, second in pairwise(extents))
    assert bottom < max(rates) < top


def test_epochs_are_whole_on_axes_of_their_own(pyplot):
    _, axes = pyplot.subplots(2, 1)
    drawn(plotting.TrainingCurveDisplay({"model": history_of([3.0, 2.0, 1.0])}).plot(axes))
    for ax in axes:
        assert all(tick == round(tick) for tick in ax.get_xticks())


# Legends


def legend_cases():
    names = [f"model {index}" for index in range(8)]
    long = ["a network with dropout and " + "momentum " * 3 + f"number {index}" for index in range(50)]
    assert min(map(len, long)) >= 60
    return {"4": names[:4], "8": names, "long": long[:8], "50": [f"model {index}" for index in range(50)], "both": long}


@pytest.mark.parametrize("layout", [None, "constrained", "own"])
@pytest.mark.parametrize("case", ["4", "8", "long", "50", "both"])
@pytest.mark.parametrize("kind", ["errors", "training"])
def test_legends_are_whole_and_cover_nothing(pyplot, layout, case, kind):
    names = legend_cases()[case]
    if kind == "errors":
        display = plotting.GenewiseErrorDisplay({name: some_errors(50, seed)[0] for seed, name in enumerate(names)})
    else:
        display = plotting.TrainingCurveDisplay({name: history_of([3.0, 2.0, 1.0]) for name in names})
    ax = None
    if layout != "own":
        _, ax = pyplot.subplots(layout=layout)
        ax.set_title("title")
    drawn(display.plot(ax))
    texts = legend_labels(display)
    assert [text.replace("\n", " ").split(" (")[0] for text in texts[: len(names)]] == names
    assert all(len(line) <= 30 for text in texts for line in text.split("\n"))
    legend, figure = display.legend_.get_window_extent(), display.figure_.bbox
    assert legend.x0 >= figure.x0 - 1
    assert legend.y0 >= figure.y0 - 1
    assert legend.x1 <= figure.x1 + 1
    assert legend.y1 <= figure.y1 + 1
    assert not legend.overlaps(display.ax_.title.get_window_extent())
    assert not legend.overlaps(display.ax_.xaxis.label.get_window_extent())
    if layout is not None or len(names) > 8:
        assert not legend.overlaps(display.ax_.bbox)
    assert display.ax_.bbox.height > 0.3 * figure.height
    assert display.ax_.bbox.width > 0.2 * figure.width


def test_a_legend_below_low_axes_is_whole(pyplot):
    figure, ax = pyplot.subplots(figsize=(16, 3))
    display = plotting.GenewiseErrorDisplay({f"model {index}": some_errors(50, index)[0] for index in range(8)}).plot(
        ax
    )
    figure.canvas.draw()
    assert display.legend_.get_window_extent().y0 >= 0


def test_legends_of_neighbouring_axes_keep_apart(pyplot):
    errors = {f"model {index}": some_errors(50, index)[0] for index in range(8)}
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4))
    displays = [plotting.GenewiseErrorDisplay(errors).plot(ax) for ax in axes]
    figure.canvas.draw()
    extents = [display.legend_.get_window_extent() for display in displays]
    assert not any(first.overlaps(second) for first, second in pairwise(extents))
    assert all(not extent.overlaps(ax.bbox) for extent in extents for ax in axes)
    assert all(extent.y0 >= 0 for extent in extents)


@pytest.mark.parametrize(("arrange", "spaces"), [("tight_layout", {}), ("subplots_adjust", {"hspace": 0.5})])
def test_legends_below_axes_keep_their_room(pyplot, arrange, spaces):
    errors = {f"model number {index}": some_errors(300, index)[0] for index in range(6)}
    figure, axes = pyplot.subplots(2, 1, figsize=(5, 7))
    upper, lower = (plotting.GenewiseErrorDisplay(errors).plot(ax=ax) for ax in axes)
    getattr(figure, arrange)(**spaces)
    figure.canvas.draw()
    assert upper.legend_.get_window_extent().y0 >= lower.ax_.bbox.y1
    assert lower.legend_.get_window_extent().y0 >= 0


@pytest.mark.parametrize("in_a_grid", [True, False])
def test_drawing_again_takes_no_more_room(pyplot, in_a_grid):
    errors = {f"model number {index} with a long name": some_errors(300, index)[0] for index in range(6)}
    figure = pyplot.figure(figsize=(5, 4))
    ax = figure.add_subplot() if in_a_grid else figure.add_axes((0.2, 0.2, 0.7, 0.7))
    whole, heights = ax.get_position().height, []
    for _ in range(3):
        ax.cla()
        plotting.GenewiseErrorDisplay(errors).plot(ax=ax)
        heights.append(ax.get_position().height)
    assert heights[0] < whole
    np.testing.assert_allclose(heights, heights[0], rtol=0.02)
    ax.cla()
    plotting.GenewiseErrorDisplay({"a": errors.popitem()[1]}).plot(ax=ax)
    np.testing.assert_allclose(ax.get_position().height, whole)


def test_axes_with_a_legend_below_stay_where_and_what_they_are(pyplot):
    errors = {f"model number {index}": some_errors(300, index)[0] for index in range(6)}

    def draw(ax):
        plotting.GenewiseErrorDisplay(errors).plot(ax=ax)
        return ax

    figure, ax = pyplot.subplots()
    ax.set_position((0.1, 0.6, 0.8, 0.3))
    box = draw(ax).get_position()
    assert box.x0 == pytest.approx(0.1)
    assert box.y0 > 0.6
    assert box.y1 == pytest.approx(0.9)
    figure, ax = pyplot.subplots()
    twin = ax.twinx()
    draw(ax)
    figure.tight_layout()
    figure.canvas.draw()
    np.testing.assert_allclose(twin.get_position().bounds, ax.get_position().bounds)
    assert ax.get_legend().get_window_extent().y0 >= 0
    pyplot.figure()
    ax = draw(pyplot.subplot(1, 2, 1))
    pyplot.subplot(1, 2, 2)
    assert pyplot.subplot(1, 2, 1) is ax
    figure, axes = pyplot.subplots(2, 1, sharex=True)
    for ax in axes:
        draw(ax).label_outer()
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, True]
    figure, ax = pyplot.subplots()
    bottoms = [draw(ax).get_legend().get_window_extent().y0 for _ in range(3)]
    np.testing.assert_allclose(bottoms, bottoms[0], atol=2)
    assert bottoms[0] >= 0
    ax.cla()
    figure.set_layout_engine("constrained")
    draw(ax)
    figure.canvas.draw()
    assert ax.get_position().y0 < 0.2


def test_legends_go_where_they_are_told_to(pyplot):
    errors = {f"model {index}": some_errors(50, index)[0] for index in range(8)}
    _, ax = pyplot.subplots()
    height = ax.get_position().height
    display = drawn(plotting.GenewiseErrorDisplay(errors).plot(ax, legend_kw={"loc": "upper right", "title": "m"}))
    assert display.legend_.get_window_extent().overlaps(ax.bbox)
    assert display.legend_.get_title().get_text() == "m"
    assert ax.get_position().height == height


# Gene names


@pytest.fixture(scope="module")
def named(profiles):
    X, y = profiles
    frame = pd.DataFrame(y, columns=[f"T{index}" for index in range(y.shape[1])])
    pipeline = make_pipeline(StandardScaler(), DGEXRegressor(hidden_layer_sizes=4, max_iter=1, random_state=0))
    return X, frame, pipeline.fit(X, frame)


DRAWINGS = {
    "errors": lambda model, X, y: plotting.GenewiseErrorDisplay.from_estimator({"m": model}, X, y),
    "comparison": lambda model, X, y: plotting.GenewiseComparisonDisplay.from_estimator(model, model, X, y),
    "second": lambda model, X, y: plotting.GenewiseComparisonDisplay.from_estimator(
        LinearRegression().fit(X, y.to_numpy()), model, X, y
    ),
    "prediction": lambda model, X, y: plotting.PredictionDisplay.from_estimator(model, X, y, target="T1"),
    "r2": lambda model, X, y: plotting.AdjustedR2Display.from_estimator(model, X, y),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_genes_must_be_those_of_training(named, draw):
    X, frame, model = named
    draw(model, X, frame)
    permuted = frame[frame.columns[[1, 0, *range(2, 9)]]]
    message = r"Got y with other target genes.*2 in another order \(got T1, T0.*expected T0, T1.*Select y\[model"
    with pytest.raises(ValueError, match=message):
        draw(model, X, permuted)
    with pytest.raises(ValueError, match=r"2 missing \(T0, T8\) and 1 unknown \(other\)"):
        draw(model, X, frame.drop(columns="T8").rename(columns={"T0": "other"}))
    with pytest.raises(ValueError, match=r"1 missing \(T8\)"):
        draw(model, X, frame.drop(columns="T8"))


def test_genes_are_compared_inside_searches(named):
    X, frame, _ = named
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 2]}, cv=2).fit(X, frame)
    with pytest.raises(ValueError, match="Got y with other target genes than 'KNNGeneRegressor'"):
        plotting.GenewiseErrorDisplay.from_estimator(search, X, frame[frame.columns[::-1]])
    plotting.GenewiseErrorDisplay.from_estimator(search, X, frame[frame.columns[::-1]].to_numpy())  # has no names


# All displays


def examples():
    errors, other = some_errors(40)
    history = [{"epoch": 1, "train_mae": 1.0, "validation_mae_0": 1.0, "learning_rate": 0.1}]
    bands = np.stack([np.arange(5.0)] * 3)
    return {
        "GenewiseErrorDisplay": (plotting.GenewiseErrorDisplay({"a": errors}), {1}),
        "GenewiseComparisonDisplay": (plotting.GenewiseComparisonDisplay(errors, other), {1}),
        "ArchitectureDisplay": (plotting.ArchitectureDisplay.from_results(results()), {1}),
        "TrainingCurveDisplay": (plotting.TrainingCurveDisplay({"a": history}), {1, 2}),
        "AdjustedR2Display": (plotting.AdjustedR2Display(errors, other), {1}),
        "QuantileNormalizationDisplay": (
            plotting.QuantileNormalizationDisplay({"a": bands}, {"a": bands}, np.linspace(0, 1, 5)),
            {2},
        ),
        "PredictionDisplay": (plotting.PredictionDisplay(errors, other), {1}),
    }


def example(name, network):
    if name == "ConnectionMapDisplay":
        return plotting.ConnectionMapDisplay.from_estimator(network, n_std_in=2, n_std_out=2), {1}
    return examples()[name]


@pytest.mark.parametrize("name", plotting.__all__)
@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("layout", [None, "constrained"])
def test_displays_draw_on_axes_given(pyplot, network, name, n_axes, layout):
    display, accepted = example(name, network)
    figure, axes = pyplot.subplots(1, n_axes, layout=layout)
    if n_axes not in accepted:
        with pytest.raises(ValueError, match=f"Got {n_axes} axes, but {name} draws on"):
            display.plot(axes)
        assert not any(ax.has_data() for ax in np.ravel(axes))
        return
    assert drawn(display.plot(axes)) is display
    assert display.figure_ is figure
    assert display.ax_ in figure.axes
    assert len(pyplot.get_fignums()) == 1


@pytest.mark.parametrize("name", plotting.__all__)
def test_displays_are_drawn_anew(pyplot, network, name):
    display, _ = example(name, network)
    first = display.plot().figure_
    assert display.plot().figure_ is not first
    artists = [attribute for attribute in vars(display) if attribute.endswith("_")]
    documentation = re.split(r"\n\s*Attributes\n\s*-+\n", inspect.getdoc(type(display)))[1]
    assert all(re.search(rf"^{attribute} : ", documentation, flags=re.M) for attribute in artists)
    assert set(type(display).__annotations__) == set(artists)


@pytest.mark.parametrize("name", plotting.__all__)
def test_displays_are_saved_as_pdf(pyplot, network, name, tmp_path):
    display, _ = example(name, network)
    display.plot().figure_.savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").stat().st_size < 3e6


@pytest.mark.parametrize("name", plotting.__all__)
def test_displays_are_pickled_before_and_after_drawing(pyplot, network, name):
    display, _ = example(name, network)
    again = pickle.loads(pickle.dumps(display))
    assert set(vars(again)) == set(vars(display))
    drawn(again.plot())
    after = drawn(pickle.loads(pickle.dumps(again)))
    assert after.figure_ is not again.figure_
    assert after.ax_ in after.figure_.axes
    assert labels(after.ax_) == labels(again.ax_)
    assert drawn(after.plot()).ax_.get_xlim() == again.ax_.get_xlim()


@pytest.mark.parametrize("name", plotting.__all__)
def test_missing_matplotlib_is_explained(monkeypatch, network, name):
    display, _ = example(name, network)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf'{name}.plot needs matplotlib.*pip install "dgex\[plot\]"'):
        display.plot()


def test_import_and_computation_need_neither_matplotlib_nor_jax():
    code = (
        "import sys; import numpy as np; from dgex import plotting; "
        "plotting.GenewiseErrorDisplay.from_predictions(np.eye(3), {'a': np.ones((3, 3))}); "
        "assert not {'matplotlib', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_matplotlib_is_imported_when_drawing_only():
    for path in Path(plotting.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("matplotlib") for name in names), path.name


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: display.__name__)
def test_parameters_of_methods_are_documented(display):
    for name, method in inspect.getmembers(display, lambda item: inspect.isfunction(item) or inspect.ismethod(item)):
        if name.startswith("_"):
            continue
        section = re.split(r"\n\s*Parameters\n\s*-+\n", inspect.getdoc(method))[1]
        section = re.split(r"\n\n[A-Z][\w ]+\n-+\n", section)[0]
        entries = dict(re.findall(r"^(\w+(?:, \w+)*) : (.*)$", section, flags=re.M))
        documented = {parameter: kind for names, kind in entries.items() for parameter in names.split(", ")}
        parameters = dict(inspect.signature(method).parameters)
        parameters.pop("self", None)
        assert list(documented) == list(parameters)
        for parameter, details in parameters.items():
            default = re.search(r"default=(.*)$", documented[parameter])
            expected = None if details.default is inspect.Parameter.empty else details.default
            assert (eval(default[1]) if default else None) == expected, (name, parameter)


def test_models_are_found_inside_others(profiles):
    X, y = profiles
    network = DGEXRegressor(hidden_layer_sizes=4, max_iter=1)
    wrapped = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    assert hasattr(_style.innermost(wrapped.fit(X, y)), "history_")
    search = GridSearchCV(KNNGeneRegressor(), {"n_neighbors": [1, 2]}, cv=2).fit(X, y)
    assert _style.model_name(search) == "KNNGeneRegressor"
    assert _style.model_name(Ridge()) == "Ridge"


def test_numbers_have_three_digits():
    assert [_style.three_digits(value) for value in (0.49, 12.0, 123.0, 0.3)] == ["0.490", "12.0", "123", "0.300"]


def test_line_styles_are_all_different():
    styles = [tuple(_style.line_style(index).values()) for index in range(28)]
    assert len(set(styles)) == 28
    assert len({tuple(_style.line_style(index).values()) for index in range(56)}) == 56
    assert all(first[0] != second[0] for first, second in pairwise(styles))
