"""scikit-learn's own checks, over every public estimator, with nothing expected to fail."""

import inspect

import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import dgex

ESTIMATORS = [
    dgex.DGEXRegressor(),
    dgex.DGEXRegressor(
        hidden_layer_sizes=(40, 20),
        activation="gelu",
        loss="huber",
        solver="adamw",
        dropout=0.0,
        batch_size=16,
        max_iter=60,
    ),
    dgex.KNNGeneRegressor(),
    dgex.KNNGeneRegressor(n_neighbors=2, metric="correlation", weights="distance", standardize=True),
    dgex.QuantileJointNormalizer(),
    dgex.QuantileJointNormalizer(ties="mean", reference=[3.0, 1.0, 2.0]),
]

pytestmark = [
    # The checks fit on two and three columns, and use columns of X as y.
    pytest.mark.filterwarnings("ignore:Got n_neighbors=5 and . landmarks:UserWarning"),
    pytest.mark.filterwarnings("ignore:. of . targets are also landmarks:UserWarning"),
    # The array API check needs an environment variable that is not set; scikit-learn announces the skip as a warning.
    pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning"),
]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: {})
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    public = [getattr(dgex, name) for name in dgex.__all__]
    estimators = {cls for cls in public if inspect.isclass(cls) and issubclass(cls, BaseEstimator)}
    assert estimators == {type(estimator) for estimator in ESTIMATORS}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_the_checks_are_many(estimator):
    from sklearn.utils.estimator_checks import estimator_checks_generator

    assert len(list(estimator_checks_generator(estimator))) >= 40
