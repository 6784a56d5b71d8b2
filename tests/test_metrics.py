import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV

from dgex import KNNGeneRegressor, _validation, metrics


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    y_true = rng.normal(8, 2, (50, 12))
    return y_true, y_true + rng.normal(0, 1, y_true.shape)


def test_genewise_mae_equals_scikit_learn(pair):
    expected = mean_absolute_error(*pair, multioutput="raw_values")
    np.testing.assert_allclose(metrics.genewise_mae(*pair), expected)
    scale = np.arange(1.0, 13.0)
    np.testing.assert_allclose(metrics.genewise_mae(*pair, scale=scale), expected / scale)
    assert metrics.overall_error(*pair) == pytest.approx((expected.mean(), expected.std()))


def test_blocks_do_not_change_results(pair, monkeypatch):
    functions = (metrics.genewise_mae, metrics.genewise_correlation, metrics.r_gene)
    whole = [function(*pair) for function in functions]
    monkeypatch.setattr(metrics, "BLOCK_BYTES", 500)
    for function, expected in zip(functions, whole, strict=True):
        np.testing.assert_allclose(function(*pair), expected, rtol=1e-12)


def test_correlation_equals_numpy_and_is_undefined_for_constant_genes(pair):
    y_true, y_pred = pair[0].copy(), pair[1].copy()
    y_true[:, 3], y_pred[:, 4] = 7.3, 1.1
    result = metrics.genewise_correlation(y_true, y_pred)
    for gene in range(12):
        if gene in (3, 4):
            assert np.isnan(result[gene])
        else:
            assert result[gene] == pytest.approx(np.corrcoef(y_true[:, gene], y_pred[:, gene])[0, 1])
    assert metrics.mean_correlation(y_true, y_pred) == pytest.approx(np.nan_to_num(result).mean())


def test_r_gene_equals_its_definition():
    rng = np.random.default_rng(1)
    y_true = rng.normal(size=(30, 40))
    y_pred = y_true + rng.normal(0, 3, y_true.shape)
    y_true[:, 5] = 2.0
    result = metrics.r_gene(y_true, y_pred)
    assert np.isnan(result[5])
    for gene in np.flatnonzero(np.arange(40) != 5):
        correlations = [
            0.0 if other == 5 else np.corrcoef(y_pred[:, gene], y_true[:, other])[0, 1] for other in range(40)
        ]
        others = [c for other, c in enumerate(correlations) if other != gene]
        assert result[gene] == pytest.approx(np.mean(np.array(others) < correlations[gene]))
    with pytest.raises(ValueError, match="expected at least 2"):
        metrics.r_gene(y_true[:, :1], y_pred[:, :1])


def test_r_gene_is_about_a_half_by_chance():
    rng = np.random.default_rng(0)
    assert metrics.r_gene(rng.normal(size=(20, 500)), rng.normal(size=(20, 500))).mean() == pytest.approx(0.5, abs=0.05)


def test_improvement_and_win_rate():
    # The paper's Table 1: D-GEX-10%-9000x3 against linear regression.
    assert metrics.relative_improvement(0.3204, 0.3784) == pytest.approx(0.1533, abs=1e-4)
    assert metrics.relative_improvement(0.5, 0.4) < 0
    assert metrics.win_rate([1, 2, 3, 4], [2, 2, 4, 3]) == 0.5


def test_comparison_table_by_hand():
    y_true = np.array([[0.0, 0], [2, 4], [4, 2]])
    predictions = {"off by one": y_true + 1, "half": y_true + np.array([0.5, 2.0])}
    table = metrics.comparison_table(y_true, predictions)
    assert len(table) == 2
    row = table["half"]
    assert (row["error"], row["sd"], row["improvement"], row["genes won"]) == (1.25, 0.75, -0.25, 0.5)
    assert row["correlation"] == pytest.approx(1.0)
    turned = metrics.comparison_table(y_true, predictions, baseline="half", scale=np.array([1.0, 2.0]))
    assert turned["off by one"]["error"] == 0.75
    assert turned["off by one"]["improvement"] == 0.0
    with pytest.raises(KeyError, match="expected one of"):
        table["quarter"]
    with pytest.raises(ValueError, match="Got baseline='quarter'"):
        metrics.comparison_table(y_true, predictions, baseline="quarter")


def test_comparison_table_can_be_read():
    y_true = np.array([[0.0, 0], [2, 4], [4, 2]])
    table = metrics.comparison_table(y_true, {"a<b": y_true + 1})
    assert table.to_markdown().splitlines()[:2] == [
        "| model | error | sd | improvement | genes won | correlation |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert "a&lt;b" in table._repr_html_()
    assert isinstance(table.to_pandas(), pd.DataFrame)
    assert table.to_pandas().loc["a<b", "error"] == 1.0
    assert str(table).splitlines()[0].split() == ["model", "error", "sd", "improvement", "genes", "won", "correlation"]


def test_standardized_mae_weighs_genes_alike(pair):
    y_true, y_pred = pair
    factor = np.geomspace(1e-1, 1e3, 12)
    assert metrics.standardized_mae(y_true * factor, y_pred * factor) == pytest.approx(
        metrics.standardized_mae(y_true, y_pred)
    )
    assert np.isnan(metrics.standardized_mae(np.ones((3, 2)), np.zeros((3, 2))))


@pytest.mark.parametrize("scorer", ["neg_overall_error_scorer", "neg_standardized_error_scorer", "correlation_scorer"])
def test_scorers_prefer_the_better_model(scorer):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 10))
    y = X @ rng.normal(size=(10, 5)) + 0.1 * rng.normal(size=(60, 5))
    search = GridSearchCV(Ridge(), {"alpha": [1e-3, 1e5]}, scoring=getattr(metrics, scorer), cv=3).fit(X, y)
    assert search.best_params_ == {"alpha": 1e-3}


def test_bad_input_is_one_clear_error(pair):
    with pytest.raises(ValueError, match=r"Got y_true of shape \(50, 12\) and y_pred of shape \(50, 3\)"):
        metrics.genewise_mae(pair[0], pair[1][:, :3])
    with pytest.raises(ValueError, match="y_pred contains NaN"):
        metrics.genewise_mae(pair[0], pair[1] * np.nan)


def test_frames_have_to_agree(pair):
    measured, inferred = (pd.DataFrame(values, columns=[f"G{i}" for i in range(values.shape[1])]) for values in pair)
    np.testing.assert_allclose(metrics.overall_error(measured, inferred), metrics.overall_error(*pair))
    with pytest.raises(ValueError, match="different genes, or in another order"):
        metrics.overall_error(measured, inferred[inferred.columns[::-1]])
    measured.index = inferred.index = [f"s{row}" for row in range(50)]
    with pytest.raises(ValueError, match=r"49 of 49 rows of y_true and y_pred are not the same \(s0 and s1,"):
        metrics.overall_error(measured[:-1], inferred[1:])
    assert metrics.overall_error(measured, inferred.add_prefix("library ", axis=0)).mean > 0


def test_a_baseline_without_error():
    assert metrics.relative_improvement(0.0, 0.0) == 0
    assert metrics.relative_improvement(0.1, 0.0) == -np.inf
    y = [[1.0, 2.0], [3.0, 5.0], [4.0, 4.0]]
    table = metrics.comparison_table(y, {"perfect": y, "other": np.add(y, 1)})
    assert [row["improvement"] for row in table] == [0, -np.inf]
    assert all(type(row["improvement"]) is float for row in table)
    assert repr(table) == str(table)


def test_scales_and_predictions_are_checked(pair):
    with pytest.raises(ValueError, match=r"Got a scale of shape \(\d+, 1\)"):
        metrics.overall_error(*pair, scale=np.ones((pair[0].shape[1], 1)))
    with pytest.raises(ValueError, match="at least one model"):
        metrics.comparison_table(pair[0], {})
    assert "('ridge', 1)" in str(metrics.comparison_table(pair[0], {("ridge", 1): pair[1]}))
    frames = [pd.DataFrame(values).add_prefix("g") for values in pair]
    scale = frames[0].std()
    expected = metrics.overall_error(*pair, scale=scale.to_numpy())
    assert metrics.overall_error(*frames, scale=scale) == pytest.approx(expected)
    assert metrics.overall_error(*pair, scale=scale) == pytest.approx(expected)
    for names in (frames[0].columns, range(7157, 7169)):  # Entrez ids
        named = [frame.set_axis(names, axis=1) for frame in frames]
        with pytest.raises(ValueError, match=r"other genes, or in another order\. Pass scale\[y\.columns\]"):
            metrics.genewise_mae(*named, scale=named[0].std()[::-1])


def test_masked_values_are_missing_values(pair):
    masked = np.ma.masked_greater(pair[0], 8.5)
    with pytest.raises(ValueError, match="y_true contains NaN"):
        metrics.genewise_mae(masked, pair[1])
    with pytest.raises(ValueError, match="contains NaN"):
        KNNGeneRegressor().fit(masked, pair[1])


def test_equal_genes_are_equally_correlated():
    """R_gene by its definition, where the last measured gene is a copy of the first."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        measured, inferred = rng.standard_normal((2, 36, 17))
        measured[:, -1] = measured[:, 0]
        correlations = np.corrcoef(inferred.T, measured.T)[:17, 17:]
        lower = [sum(row[gene] - other > 1e-12 for other in row) / 16 for gene, row in enumerate(correlations)]
        np.testing.assert_allclose(metrics.r_gene(measured, inferred), lower)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_genes_that_are_linear_in_each_other_are_equally_correlated(dtype):
    y = np.random.default_rng(0).normal(size=(50, 4)).astype(dtype)
    y[:, 1], y[:, 2] = 2 * y[:, 0] + 3, 3 * y[:, 0] + 0.7
    for y_pred in (y, y.astype(np.float64)):
        np.testing.assert_allclose(metrics.r_gene(y, y_pred), [1 / 3, 1 / 3, 1 / 3, 1.0])


def test_correlations_of_many_float32_profiles_are_exact():
    y = (8 + np.random.default_rng(0).normal(size=(300_000, 2))).astype(np.float32)
    np.testing.assert_allclose(metrics.genewise_correlation(y, y), 1.0, rtol=1e-6)


def test_scales_have_to_be_above_zero(pair):
    y_true, y_pred = pair
    scale = np.ones(y_true.shape[1])
    scale[[1, 2]] = 0.0, np.nan
    with pytest.raises(ValueError, match=rf"not above zero for 2 of {len(scale)} genes \(1, 2\)"):
        metrics.comparison_table(y_true, {"a": y_pred}, scale=scale)


def test_errors_of_several_models_say_of_which(pair):
    y_true, y_pred = pair
    bad = np.where(y_pred == y_pred.max(), np.nan, y_pred)
    with pytest.raises(ValueError, match=r"Predictions of 'bad': .*NaN"):
        metrics.comparison_table(y_true, {"good": y_pred, "bad": bad})
    with pytest.raises(ValueError, match=r"^Input y_true contains NaN"):
        metrics.comparison_table(bad, {"good": y_pred})


def test_markdown_of_any_name_has_as_many_cells(pair):
    y_true, y_pred = pair
    assert r"| a\|b |" in metrics.comparison_table(y_true, {"a|b": y_pred}).to_markdown()


def test_what_does_not_belong_together_is_not_compared():
    with pytest.raises(ValueError, match=r"errors of shape \(2,\) and baseline_errors of shape \(1,\)"):
        metrics.win_rate([0.1, 0.2], [0.3])
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), index=["a", "b", "c"])
    with pytest.raises(ValueError, match="2 of 3 rows of y_true and y_pred are not the same"):
        metrics.genewise_mae(frame[::-1], frame)


@pytest.mark.parametrize("density", [0.0, 0.03, 1.0])
def test_equal_columns_are_found_without_comparing_all_pairs(monkeypatch, density):
    rng = np.random.default_rng(0)
    X, y = ((rng.random((400, n)) < density) * rng.integers(1, 3, (400, n)).astype(np.float32) for n in (30, 50))
    X[:100], y[:100] = 0, 0  # as files that are sorted by tissue begin
    y[:, 7], y[:, 9] = X[:, 5], -0.0
    expected = [next((i for i in range(30) if np.array_equal(X[:, i], target)), -1) for target in y.T]
    itself = [next(i for i in range(50) if np.array_equal(y[:, i], target)) for target in y.T]
    compared = []
    monkeypatch.setattr(_validation.np, "array_equal", lambda a, b: compared.append(1) or bool((a == b).all()))
    assert _validation.first_equal_column(X, y).tolist() == expected
    assert _validation.first_equal_column(y, y).tolist() == itself
    assert len(compared) <= 2 * 50
