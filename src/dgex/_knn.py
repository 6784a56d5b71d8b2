"""KNN-GE, the gene-based nearest-neighbour baseline of the D-GEX paper."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from dgex import _validation
from dgex._base import GeneRegressorMixin, forget_reliability
from dgex._gene_distances import Genes, nearest_landmarks
from dgex._statistics import divisors, gene_scaling, gene_statistics, standardized

# Bytes of the profiles worked on at a time in predict.
PREDICT_BLOCK_BYTES = 2**23

# Where 1 - r is less, it is rounding: the genes are linear copies of each other.
ALIKE = 16 * np.finfo(np.float64).eps


class KNNGeneRegressor(GeneRegressorMixin, BaseEstimator):
    """Infer each target gene as the mean of the landmark genes nearest to it (KNN-GE).

    For every target the `n_neighbors` landmarks with the most similar expression over the training profiles are found
    once; the prediction for a profile is the mean of their values in that profile. The distances are between *genes*
    (columns), unlike those of `sklearn.neighbors.KNeighborsRegressor`, which are between profiles. Chen et al. [1]_ use
    it as a baseline.

    Parameters
    ----------
    n_neighbors : int, default=5
        Landmarks per target. After `fit` it can be lowered (`set_params`) without fitting again, to tune it on
        validation data. All landmarks are used, with a warning, if there are fewer.
    weights : {"uniform", "distance"}, default="uniform"
        Whether neighbours count equally or by the inverse of their distance; with "distance", landmarks at distance
        zero take all the weight.
    metric : {"euclidean", "correlation"}, default="euclidean"
        Distance of two genes over the training profiles: Euclidean, or 1 - Pearson's correlation (1 for a constant
        gene).
    standardize : bool, default=False
        Compare and average genes as (x - mean) / (standard deviation + 1e-3) over the training profiles, and return
        predictions in the units of `y`. The paper works on standardized expression; set this for raw intensities.

    Attributes
    ----------
    neighbors_ : ndarray of int of shape (n_targets, n_neighbors)
        Columns of `X` nearest to each target, nearest first; equal distances in the order of the columns. (Distances of
        scaled genes and correlations that are equal but for rounding may come in any order.)
    neighbor_distances_ : ndarray of float64 of shape (n_targets, n_neighbors)
        Their distances.
    landmark_mean_, landmark_scale_ : ndarray of shape (n_landmarks,)
        Statistics that standardize `X`; zeros and ones without standardization.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        Statistics that standardize `y`.
    target_reliability_ : Table
        Only after :func:`dgex.interpretation.target_reliability` was asked to store it.
    n_outputs_ : int
        Number of target genes.
    target_names_ : ndarray of str or None
        Names of the target genes, if `y` was a DataFrame.
    n_features_in_ : int
        Number of landmark genes.
    feature_names_in_ : ndarray of str
        Names of the landmark genes; only if `X` was a DataFrame.

    See Also
    --------
    DGEXRegressor : The neural network of the paper.
    sklearn.neighbors.KNeighborsRegressor : Nearest profiles instead of nearest genes.

    Notes
    -----
    All distances come from one matrix product of landmarks and targets, in blocks of profiles: float32 data
    are multiplied in float32, and the blocks summed in float64. Pairs so near that this would lose digits are computed
    directly. Beyond the data, `fit` takes an array of shape (n_targets, n_landmarks) and, for each thread, a few
    tens of MiB; as many threads as a product of NumPy has share the targets.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> import numpy as np
    >>> from dgex import KNNGeneRegressor
    >>> X = np.array([[1.0, 4.0, 9.0], [2.0, 3.0, 7.0], [3.0, 2.0, 8.0]])
    >>> y = np.array([[1.5, 4.5], [2.0, 3.0], [3.5, 1.5]])
    >>> model = KNNGeneRegressor(n_neighbors=1).fit(X, y)
    >>> model.neighbors_.ravel()
    array([0, 1])
    >>> model.predict([[5.0, 6.0, 7.0]])
    array([[5., 6.]])
    """

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"uniform", "distance"})],
        "metric": [StrOptions({"euclidean", "correlation"})],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        weights: str = "uniform",
        metric: str = "euclidean",
        standardize: bool = False,
    ):
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.metric = metric
        self.standardize = standardize

    @_validation.all_or_nothing
    def fit(self, X: Any, y: Any) -> KNNGeneRegressor:
        """Find the nearest landmarks of every target.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets) or (n_profiles,)
            Expression of the target genes, on the scale of the landmarks (or see `standardize`).

        Returns
        -------
        self : KNNGeneRegressor
            The fitted estimator.
        """
        self._validate_params()
        X_array, y_array = _validation.validated_training_data(self, X, y, reset=True)
        _validation.warn_of_measured_targets(self, X_array, y_array)
        if self.n_neighbors > X_array.shape[1]:
            _validation.warn_user(
                f"Got n_neighbors={self.n_neighbors} and {X_array.shape[1]} landmarks; all landmarks are neighbours."
            )
        scalings = [gene_scaling(array, standardize=self.standardize) for array in (X_array, y_array)]
        # Standardized neighbours would make a target vary that never does.
        varies = np.ptp(y_array, axis=0) > 0 if self.standardize else np.ones(y_array.shape[1], dtype=bool)
        nearest = self._nearest(Genes(X_array, *scalings[0]), Genes(y_array, *scalings[1]))
        (self.landmark_mean_, self.landmark_scale_), (self.target_mean_, self.target_scale_) = scalings
        self.neighbors_, self.neighbor_distances_ = nearest
        self._varies = varies
        forget_reliability(self)
        return self

    def kneighbors(
        self, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
        """The landmarks nearest to each target.

        Parameters
        ----------
        n_neighbors : int, default=None
            How many, at most those of `fit`; None for the parameter of the estimator.
        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_targets, n_neighbors)
            Distances, ascending; only if asked for.
        indices : ndarray of shape (n_targets, n_neighbors)
            Columns of `X` in training.
        """
        check_is_fitted(self)
        self._validate_params()
        n_known = self.neighbors_.shape[1]
        wanted = min(self.n_neighbors, self.n_features_in_) if n_neighbors is None else n_neighbors
        if wanted not in range(1, n_known + 1):
            raise ValueError(
                f"Got n_neighbors={wanted!r}, but expected 1 to {n_known}, the number found by fit. Fit again with "
                "more."
            )
        nearest = slice(int(wanted))
        indices = self.neighbors_[:, nearest]
        return (self.neighbor_distances_[:, nearest], indices) if return_distance else indices

    def predict(self, X: Any) -> np.ndarray:
        """Infer the target genes.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes, in the order of training.

        Returns
        -------
        y : ndarray of shape (n_profiles, n_targets) or (n_profiles,)
            Mean of the neighbours' values; float32 if `X` is, else float64.
        """
        distances, neighbors = self.kneighbors()
        X_array = _validation.validated_profiles(self, X, reset=False)
        weights = neighbor_weights(distances, self.weights).astype(X_array.dtype)
        result = np.empty((len(X_array), self.n_outputs_), dtype=X_array.dtype)
        target_scale = self.target_scale_ * self._varies
        block_rows = max(1, PREDICT_BLOCK_BYTES // (X_array.itemsize * self.n_outputs_))
        for start in range(0, len(X_array), block_rows):
            block = slice(start, start + block_rows)
            x = standardized(X_array[block], self.landmark_mean_, self.landmark_scale_)
            mean = weights[:, 0] * x[:, neighbors[:, 0]]
            for rank in range(1, neighbors.shape[1]):
                mean += weights[:, rank] * x[:, neighbors[:, rank]]
            result[block] = mean * target_scale + self.target_mean_
        return result[:, 0] if self._y_is_vector else result

    def _nearest(self, landmarks: Genes, targets: Genes) -> tuple[np.ndarray, np.ndarray]:
        """Indices and distances of the nearest landmarks, each of shape (n_targets, n_neighbors)."""
        n_neighbors = min(self.n_neighbors, landmarks.values.shape[1])
        if self.metric == "correlation":
            return most_correlated(landmarks.values, targets.values, n_neighbors)
        if not self.standardize:
            # Any common shift leaves the differences as they are; this one keeps their squares small, and integers
            # exact.
            shift = np.rint(np.mean(landmarks.values[:100], dtype=np.float64))
            landmarks, targets = (
                genes._replace(mean=np.full(genes.mean.shape, shift)) for genes in (landmarks, targets)
            )
        neighbors, squares = nearest_landmarks(landmarks, targets, n_neighbors)
        return neighbors, np.sqrt(squares)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, after which the model may infer otherwise: what was stored of its reliability is forgotten.

        Parameters
        ----------
        **params
            Parameters of the estimator by name.

        Returns
        -------
        self : KNNGeneRegressor
            The estimator.
        """
        forget_reliability(self)
        return super().set_params(**params)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "neighbors_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # A mean of other genes' values promises no R^2.
        tags.regressor_tags.poor_score = True
        return tags


def most_correlated(X: np.ndarray, y: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (1 - Pearson's correlation, 1 for a constant gene) of the nearest landmarks."""
    (x_mean, x_deviation), (y_mean, y_deviation) = gene_statistics(X), gene_statistics(y)
    # Between genes of mean 0 and variance 1, the squared difference is 2 - 2 r for each profile.
    of_no_correlation = 2.0 * len(X)

    def constant_genes(squares: np.ndarray, tile: slice) -> None:
        squares[y_deviation[tile] == 0] = of_no_correlation
        squares[:, x_deviation == 0] = of_no_correlation
        squares[squares < ALIKE * of_no_correlation] = 0.0

    landmarks, targets = Genes(X, x_mean, divisors(x_deviation)), Genes(y, y_mean, divisors(y_deviation))
    neighbors, squares = nearest_landmarks(landmarks, targets, n_neighbors, constant_genes)
    return neighbors, squares / of_no_correlation


def neighbor_weights(distances: np.ndarray, weights: str) -> np.ndarray:
    """The weight of each neighbour in the mean; rows sum to one."""
    if weights == "uniform":
        return np.full(distances.shape, 1.0 / distances.shape[1])
    with np.errstate(divide="ignore"):
        inverse = 1.0 / distances
    at_zero = np.isinf(inverse)
    inverse[at_zero.any(axis=1)] = 0.0
    inverse[at_zero] = 1.0
    return inverse / inverse.sum(axis=1, keepdims=True)
