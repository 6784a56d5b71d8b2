import os
import tracemalloc
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import qnorm
from sklearn.exceptions import NotFittedError

from dgex import QuantileJointNormalizer, _normalization, _ranks
from dgex._threads import blas

# Each thread has several arrays of a block, and some blocks wait. The whole of what is normalized is larger.
A_FEW_BLOCKS = 20 * 8 * _ranks.BLOCK_VALUES * os.cpu_count()

RULES = ["floor", "dense", "interpolate", "mean"]


def tied_profiles(n_profiles=30, n_genes=200, seed=0):
    """Counts, four in ten of them zero, as RNA-seq has them."""
    rng = np.random.default_rng(seed)
    return rng.poisson(3.0, (n_profiles, n_genes)) * (rng.random((n_profiles, n_genes)) > 0.4)


def test_equal_to_qnorm_on_random_profiles():
    X = np.random.default_rng(0).normal(8, 2, (40, 300))
    expected = qnorm.quantile_normalize(X, axis=0)
    for ties in RULES:
        np.testing.assert_allclose(QuantileJointNormalizer(ties=ties).fit_transform(X), expected, rtol=1e-12)


def test_equal_to_qnorm_on_tied_profiles():
    X = tied_profiles().astype(float)
    normalized = QuantileJointNormalizer(ties="mean").fit_transform(X)
    np.testing.assert_allclose(normalized, qnorm.quantile_normalize(X, axis=0), rtol=1e-12)


def test_equal_to_qnorm_with_a_reference():
    X = tied_profiles().astype(float)
    target = np.random.default_rng(1).normal(8, 2, X.shape[1])
    normalized = QuantileJointNormalizer(ties="mean", reference=target).fit_transform(X)
    np.testing.assert_allclose(normalized, qnorm.quantile_normalize(X, axis=0, target=target), rtol=1e-12)


def test_the_papers_rule_for_arrays_worked_by_hand():
    # Reference: mean of the sorted profiles (1 2 3 4), (2 2 2 6), (1 4 7 8) = (4/3, 8/3, 4, 6).
    # Average ranks, from 1, of (2 2 6 2): the 2s share ranks 1 2 3, average 2 -> second quantile; 6 -> fourth.
    # Of (1 1 5 9): the 1s share ranks 1 2, average 1.5, floor 1 -> first quantile.
    normalizer = QuantileJointNormalizer(ties="floor").fit([[1.0, 2, 3, 4], [2, 2, 6, 2], [8, 7, 4, 1]])
    np.testing.assert_allclose(normalizer.reference_quantiles_, [4 / 3, 8 / 3, 4, 6])
    np.testing.assert_allclose(
        normalizer.transform([[2.0, 2, 6, 2], [1, 1, 5, 9], [8, 7, 4, 1]]),
        [[8 / 3, 8 / 3, 6, 8 / 3], [4 / 3, 4 / 3, 4, 6], [6, 4, 8 / 3, 4 / 3]],
    )


def test_the_papers_rule_for_rnaseq_worked_by_hand():
    # Eight genes, five distinct values 0 < 1 < 2 < 5 < 9: the d-th receives quantile floor(d * 8 / 5), from 1:
    # 0 -> floor(1.6) = 1, 1 -> floor(3.2) = 3, 2 -> floor(4.8) = 4, 5 -> floor(6.4) = 6, 9 -> 8.
    reference = [10.0, 20, 30, 40, 50, 60, 70, 80]
    normalizer = QuantileJointNormalizer(ties="dense", reference=reference)
    assert normalizer.fit_transform([[0, 9, 0, 2, 1, 5, 0, 1]]).tolist() == [[10, 80, 10, 40, 30, 60, 10, 30]]


def test_preprocess_cores_worked_table():
    # The table of preprocessCore's own tests: profiles are its columns, one value is missing in the second.
    X = np.array([[100, 15, 200, 250], [110, np.nan, 220, 275], [120, 18, 240, 300]])
    complete = np.array([[100, 15, 200, 250], [110, 16.5, 220, 275], [120, 18, 240, 300]])
    normalizer = QuantileJointNormalizer(ties="interpolate")
    np.testing.assert_allclose(normalizer.fit_transform(complete), [[110, 16.5, 220, 275]] * 3)
    result = normalizer.fit_transform(X)
    target = [47.6666666666667, 134.4444444444444, 226.1111111111111, 275.0]
    np.testing.assert_allclose(normalizer.reference_quantiles_, target)
    low, second, third, high = target
    middle = 180.2777777777778
    expected = [[second, low, third, high], [low, np.nan, middle, high], [second, low, third, high]]
    np.testing.assert_allclose(result, expected)


def test_preprocess_cores_rule_for_ties():
    # Two genes that share ranks 1 and 2 receive the mean of the first two quantiles; three the middle one of theirs.
    normalizer = QuantileJointNormalizer(ties="interpolate", reference=[1.0, 3, 10, 20])
    assert normalizer.fit_transform([[5.0, 5, 6, 7], [4, 4, 4, 9]]).tolist() == [[2, 2, 10, 20], [3, 3, 3, 20]]
    assert normalizer.set_params(ties="mean").transform([[4, 4, 4, 9.0]]).tolist() == [[14 / 3] * 3 + [20]]


@pytest.mark.parametrize("ties", RULES)
def test_equal_genes_stay_equal_and_order_is_kept(ties):
    X = tied_profiles()
    normalized = QuantileJointNormalizer(ties=ties).fit_transform(X)
    for before, after in zip(X, normalized, strict=True):
        order = np.argsort(before, kind="stable")
        assert (np.diff(after[order]) >= 0).all()
        assert (np.diff(after[order])[np.diff(before[order]) == 0] == 0).all()


def test_the_order_of_genes_does_not_matter():
    X = tied_profiles()
    order = np.random.default_rng(2).permutation(X.shape[1])
    for ties in RULES:
        normalizer = QuantileJointNormalizer(ties=ties).fit(X)
        np.testing.assert_array_equal(normalizer.transform(X)[:, order], normalizer.transform(X[:, order]))


def test_missing_values_stay_and_leave_other_profiles_alone():
    X = np.random.default_rng(0).normal(8, 2, (20, 101))
    holed = X.copy()
    holed[3, [5, 7, 50]] = np.nan
    for ties in RULES:
        normalizer = QuantileJointNormalizer(ties=ties).fit(X)
        whole, result = normalizer.transform(X), normalizer.transform(holed)
        np.testing.assert_array_equal(np.isnan(result), np.isnan(holed))
        others = np.arange(20) != 3
        np.testing.assert_array_equal(result[others], whole[others])
        # The profile's other genes move by no more than a few ranks' worth.
        assert np.nanmax(np.abs(result[3] - whole[3])) < 1.0
        # The extremes of the profile are the extremes of the reference.
        assert np.nanmin(result[3]) == pytest.approx(normalizer.reference_quantiles_[0], abs=0.3)
        assert np.nanmax(result[3]) == normalizer.reference_quantiles_[-1]


def test_a_profile_without_values():
    X = np.random.default_rng(0).normal(size=(5, 10))
    X[2] = np.nan
    assert np.isnan(QuantileJointNormalizer().fit(X[:2]).transform(X)[2]).all()
    with pytest.raises(ValueError, match=r"1 profiles have no value at all \(rows 2\)"):
        QuantileJointNormalizer().fit(X)


def test_another_number_of_genes_is_mapped_by_interpolated_quantiles():
    # Three genes onto five quantiles: ranks 0, 1, 2 are at positions 0, 2, 4. Four genes: at 0, 4/3, 8/3, 4.
    reference = [0.0, 10, 20, 40, 80]
    for ties in ("floor", "interpolate", "mean"):
        normalizer = QuantileJointNormalizer(ties=ties, reference=reference)
        assert normalizer.fit_transform([[7.0, 5, 6]]).tolist() == [[80, 0, 20]]
        np.testing.assert_allclose(normalizer.fit_transform([[1.0, 2, 3, 4]]), [[0, 10 + 10 / 3, 20 + 40 / 3, 80]])
    assert QuantileJointNormalizer(reference=reference).fit_transform([[3.0]]).tolist() == [[20]]
    many = QuantileJointNormalizer(ties="dense", reference=[1.0, 2]).fit_transform([[5.0, 6, 7, 8]])
    assert many.tolist() == [[1, 1, 1, 2]]


def test_a_platform_takes_the_distribution_of_another():
    rng = np.random.default_rng(0)
    arrays, abundances = rng.normal(8, 2, (50, 400)), rng.lognormal(3, 2, (20, 300))
    fitted = QuantileJointNormalizer().fit(arrays)
    other = QuantileJointNormalizer(reference=fitted.reference_quantiles_).fit_transform(abundances)
    quantiles = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(np.quantile(other, quantiles), np.quantile(arrays, quantiles), atol=0.1)


def test_learning_in_pieces_equals_learning_at_once():
    X = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    at_once = QuantileJointNormalizer().fit(X)
    pieces = QuantileJointNormalizer()
    for start in range(0, 50, 7):
        pieces.partial_fit(X[start : start + 7])
    np.testing.assert_array_equal(at_once.reference_quantiles_, pieces.reference_quantiles_)
    assert at_once.n_samples_seen_ == pieces.n_samples_seen_ == 50
    assert pieces.fit(X[:10]).n_samples_seen_ == 10


def test_types_frames_and_names():
    X = tied_profiles(10, 6)
    frame = pd.DataFrame(X, columns=list("ABCDEF"), index=[f"S{i}" for i in range(10)])
    normalizer = QuantileJointNormalizer().set_output(transform="pandas").fit(frame)
    result = normalizer.transform(frame)
    assert result.columns.tolist() == list("ABCDEF")
    assert result.index.tolist() == frame.index.tolist()
    assert normalizer.get_feature_names_out().tolist() == list("ABCDEF")
    with pytest.raises(ValueError, match="same order as they were in fit"):
        normalizer.transform(frame[list("FEDCBA")])
    with pytest.raises(ValueError, match=r"1 of 6 genes are missing \(F\)"):
        normalizer.transform(frame.drop(columns="F"))
    assert QuantileJointNormalizer().fit_transform(X.astype(np.float32)).dtype == np.float32
    assert QuantileJointNormalizer().fit_transform(X).dtype == np.float64


def test_bad_input_is_one_clear_error():
    X = np.random.default_rng(0).normal(size=(5, 4))
    with pytest.raises(NotFittedError):
        QuantileJointNormalizer().transform(X)
    with pytest.raises(ValueError, match=r"'ties' .* Got 'random' instead"):
        QuantileJointNormalizer(ties="random").fit(X)
    with pytest.raises(ValueError, match=r"Got a reference of shape \(5, 4\), but expected one dimension"):
        QuantileJointNormalizer(reference=X).fit(X)
    with pytest.raises(ValueError, match="reference contains NaN"):
        QuantileJointNormalizer(reference=[1.0, np.nan]).fit(X)
    with pytest.raises(ValueError, match="X has 3 features, but QuantileJointNormalizer is expecting 4"):
        QuantileJointNormalizer().fit(X).transform(X[:, :3])
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        QuantileJointNormalizer().fit(X)


def test_memory_is_input_output_and_a_few_rows():
    X = np.random.default_rng(0).normal(size=(3000, 5000)).astype(np.float32)
    normalizer = QuantileJointNormalizer()
    tracemalloc.start()
    normalizer.fit(X)
    _, fit_peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    result = normalizer.transform(X)
    _, transform_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fit_peak < A_FEW_BLOCKS
    assert transform_peak < result.nbytes + A_FEW_BLOCKS


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.float16, bool])
def test_counts_are_normalized_row_by_row(dtype):
    counts = np.random.default_rng(0).poisson(3, (40, 500)).astype(dtype)
    whole = QuantileJointNormalizer(ties="dense").fit(counts.astype(np.float64))
    normalizer = QuantileJointNormalizer(ties="dense").fit(counts)
    np.testing.assert_array_equal(normalizer.reference_quantiles_, whole.reference_quantiles_)
    normalized = normalizer.transform(counts)
    assert normalized.dtype == np.float64
    np.testing.assert_array_equal(normalized, whole.transform(counts.astype(np.float64)))


def test_memory_for_counts_is_input_output_and_a_few_rows():
    counts = np.random.default_rng(0).poisson(20, (2000, 5000))
    normalizer = QuantileJointNormalizer(ties="dense").fit(counts)
    tracemalloc.start()
    normalized = normalizer.transform(counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < normalized.nbytes + A_FEW_BLOCKS


def test_an_interrupted_piece_is_not_learned(monkeypatch):
    X = tied_profiles()
    normalizer = QuantileJointNormalizer().fit(X[:10])
    original, calls = _normalization.full_length_quantiles, []

    def interrupted(profile):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(profile)

    monkeypatch.setattr(_normalization, "full_length_quantiles", interrupted)
    with pytest.raises(KeyboardInterrupt):
        normalizer.partial_fit(X[10:])
    with pytest.raises(KeyboardInterrupt):
        calls.clear() or normalizer.fit(X[:, :50])
    monkeypatch.undo()
    normalizer.partial_fit(X[10:])
    np.testing.assert_array_equal(
        normalizer.reference_quantiles_, QuantileJointNormalizer().fit(X).reference_quantiles_
    )
    assert normalizer.n_samples_seen_ == len(X)


def test_learning_after_a_given_reference_starts_from_nothing():
    X = tied_profiles()
    normalizer = QuantileJointNormalizer(reference=[1.0, 2.0, 3.0]).fit(X)
    assert normalizer.n_samples_seen_ == 0
    normalizer.set_params(reference=None).fit(X[:5]).set_params(reference=[1.0, 2.0, 3.0]).partial_fit(X)
    assert normalizer.n_samples_seen_ == 0
    normalizer.set_params(reference=None).partial_fit(X)
    np.testing.assert_array_equal(
        normalizer.reference_quantiles_, QuantileJointNormalizer().fit(X).reference_quantiles_
    )


def test_messages_after_fit():
    X = tied_profiles().astype(float)
    normalizer = QuantileJointNormalizer().fit(X)
    with pytest.raises(ValueError, match="The 'ties' parameter"):
        normalizer.set_params(ties="bogus").transform(X)
    normalizer.set_params(ties="mean")
    X[0, :5], X[1, 7] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"1 value in 1 gene of X is infinite; missing values must be NaN \(7\)"):
        normalizer.transform(X)


def test_float32_polars_frames_stay_float32():
    X = pl.DataFrame(tied_profiles().astype(np.float32))
    assert QuantileJointNormalizer().fit_transform(X).dtype == np.float32


def test_one_thread_and_two_give_the_same():
    X = np.random.default_rng(0).normal(8, 2, (60, 300))
    results = []
    for limit in (1, 2):
        with blas().limit(limits=limit):
            results.append(QuantileJointNormalizer().fit_transform(X))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("reference", [None, [3.0, 1.0, 2.0, 9.0]])
def test_fit_transform_is_fit_and_then_transform(dtype, reference):
    X = tied_profiles(50, 300).astype(dtype)
    if dtype != np.int64:
        X[4, :7], X[:40, 11] = np.nan, np.nan
    for ties in RULES:
        separately, at_once = (QuantileJointNormalizer(ties=ties, reference=reference) for _ in range(2))
        expected, got = separately.fit(X).transform(X), at_once.fit_transform(X)
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(at_once.reference_quantiles_, separately.reference_quantiles_)
        assert at_once.n_samples_seen_ == separately.n_samples_seen_


def test_fit_transform_keeps_frames():
    X = pd.DataFrame(tied_profiles(), columns=[f"g{number}" for number in range(200)])
    normalizer = QuantileJointNormalizer().set_output(transform="pandas")
    pd.testing.assert_frame_equal(normalizer.fit_transform(X), normalizer.transform(X))


def test_columns_that_are_not_of_numpy():
    frame = pd.DataFrame({"a": [5, pd.NA, 7], "b": [1.5, 2.5, 0.5]}, dtype=object)
    expected = QuantileJointNormalizer().fit_transform(np.array([[5, 1.5], [np.nan, 2.5], [7, 0.5]]))
    np.testing.assert_array_equal(QuantileJointNormalizer().fit_transform(frame), expected)
    decimals = pd.DataFrame(
        {"a": pd.array([Decimal("1.5"), Decimal("2.5")], dtype=pd.ArrowDtype(pa.decimal128(10, 2)))}
    )
    decimals["b"] = [2.0, 1.0]
    np.testing.assert_array_equal(QuantileJointNormalizer().fit_transform(decimals), [[1.25, 2.25], [2.25, 1.25]])
    for column in (pd.Categorical(["s1", "s2", "s1"]), pd.period_range("2020", periods=3, freq="D")):
        with pytest.raises(ValueError, match=r"text columns: study"):
            QuantileJointNormalizer().fit(pd.DataFrame({"study": column, "b": [1.0, 2.0, 3.0]}))


def test_a_series_is_no_table():
    with pytest.raises(ValueError, match="Expected a 2-dimensional container"):
        QuantileJointNormalizer().fit(pd.Series(np.arange(5.0)))
