import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from dgex.datasets import make_expression_profiles


def share_of_variance_that_is_linear(programs, expression):
    residual = expression - LinearRegression().fit(programs, expression).predict(programs)
    return 1 - residual.var(axis=0).mean() / expression.var(axis=0).mean()


def test_shapes_names_and_truth():
    data = make_expression_profiles(60, n_landmarks=7, n_targets=11, n_states=3, n_programs=4, random_state=0)
    assert data.X.shape == (60, 7)
    assert data.y.shape == data.expression.shape == (60, 11)
    assert data.programs.shape == (60, 4)
    assert set(data.states) == {0, 1, 2}
    assert data.X.dtype == data.y.dtype == np.float32
    assert len(set(data.landmark_names) | set(data.target_names)) == 18


def test_linear_targets_are_linear_and_others_are_not():
    linear = make_expression_profiles(1000, nonlinearity=0.0, random_state=0)
    assert share_of_variance_that_is_linear(linear.programs, linear.expression) > 0.9999
    half = make_expression_profiles(1000, nonlinearity=0.7, random_state=0)
    assert share_of_variance_that_is_linear(half.programs, half.expression) < 0.8


def test_platforms_measure_the_same_biology_differently():
    arrays = make_expression_profiles(300, platform="array", random_state=5)
    counts = make_expression_profiles(300, platform="counts", random_state=5)
    np.testing.assert_array_equal(arrays.expression, counts.expression)
    np.testing.assert_array_equal(arrays.states, counts.states)
    assert (np.rint(counts.X) == counts.X).all()
    assert (counts.X >= 0).all()
    assert 0.02 < (counts.y == 0).mean() < 0.5
    # The same genes are high in the same samples, up to what each platform does to genes and samples.
    correlation = [np.corrcoef(arrays.y[:, g], np.log2(counts.y[:, g] + 1))[0, 1] for g in range(100)]
    assert np.median(correlation) > 0.5


def test_seed_and_parameters():
    first, second = (make_expression_profiles(20, random_state=1) for _ in range(2))
    np.testing.assert_array_equal(first.X, second.X)
    assert (first.X != make_expression_profiles(20, random_state=2).X).any()
    with pytest.raises(ValueError, match="'nonlinearity'"):
        make_expression_profiles(20, nonlinearity=1.5)
    with pytest.raises(ValueError, match="'platform'"):
        make_expression_profiles(20, platform="proteomics")
