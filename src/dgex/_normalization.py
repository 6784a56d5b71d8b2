"""Joint quantile normalisation of expression profiles."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from dgex import _validation
from dgex._ranks import Ranks, row_blocks
from dgex._threads import in_order, in_parallel


class QuantileJointNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give every expression profile the same distribution, keeping the order of its genes.

    Works over *samples*: each profile (row) is mapped by the ranks of its own genes onto one set of reference
    quantiles, so that microarrays and RNA-seq become comparable. (scikit-learn's `QuantileTransformer` works over
    genes: it maps each column by the ranks of its samples, and leaves the profiles of two platforms as different as
    they were.)

    Parameters
    ----------
    ties : {"floor", "dense", "interpolate", "mean"}, default="floor"
        What genes of equal value in a profile receive. With N reference quantiles, m genes in the profile, and ranks
        counted from 0:

        - "floor": the quantile at the average rank, rounded down; the paper's rule for microarrays [1]_;
        - "dense": the profile's U distinct values are stretched over the reference: the d-th of them (counted from 1)
          receives quantile floor(d N / U) - 1; the paper's rule for RNA-seq, where many genes are zero;
        - "interpolate": the quantile at the average rank, interpolated between two neighbours; as in preprocessCore and
          limma [2]_;
        - "mean": the mean of the quantiles that the tied genes cover; as in qnorm.

        Without ties all four are the same (but for "dense" if the profile has not as many values as the reference).
    reference : array-like of shape (n_quantiles,) or None, default=None
        Reference quantiles to map onto, in any order and number, such as `reference_quantiles_` of a normalizer that
        was fitted on another platform. None learns them: the mean of the sorted profiles that are passed to `fit`.

    Attributes
    ----------
    reference_quantiles_ : ndarray of shape (n_quantiles,)
        The reference, ascending, float64.
    n_samples_seen_ : int
        Profiles that the reference was learned from, over all calls of `partial_fit`; 0 if it was given.
    n_features_in_ : int
        Number of genes.
    feature_names_in_ : ndarray of str
        Names of the genes; only if the data were a DataFrame.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Maps genes, not profiles.

    Notes
    -----
    *Missing values* (NaN) stay missing. The m values that a profile has are mapped as if they were all its genes, and a
    profile with fewer genes than the reference has quantiles is mapped by interpolation (but for "dense"): rank r goes
    to the reference at position r (N - 1) / (m - 1). In `fit`, a profile with missing values is brought to full length
    the same way. This is what preprocessCore does.

    *Another platform*, with other genes or another tie rule, is a normalizer of its own with this one's reference.

    *Memory*: input, output and a few rows (and a copy of a DataFrame that is stored by columns). Float32 stays float32.

    *Speed*: as many threads as NumPy's matrix products have share the profiles, which does not change the result.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.
    .. [2] Bolstad BM, Irizarry RA, Astrand M, Speed TP (2003). A comparison of normalization methods for high density
       oligonucleotide array data based on variance and bias. Bioinformatics 19(2), 185-193.

    Examples
    --------
    >>> import numpy as np
    >>> from dgex import QuantileJointNormalizer
    >>> arrays = np.array([[5.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0], [3.0, 4.0, 6.0, 8.0]])
    >>> normalizer = QuantileJointNormalizer().fit(arrays)
    >>> normalizer.reference_quantiles_.round(2)
    array([2.  , 3.  , 4.33, 5.67])
    >>> normalizer.transform(arrays).round(2)
    array([[5.67, 2.  , 3.  , 4.33],
           [5.67, 2.  , 4.33, 3.  ],
           [2.  , 3.  , 4.33, 5.67]])

    Counts of another platform, with zeros that tie:

    >>> counts = np.array([[0, 0, 7, 90], [12, 0, 0, 3]])
    >>> rnaseq = QuantileJointNormalizer(ties="dense", reference=normalizer.reference_quantiles_)
    >>> rnaseq.fit_transform(counts).round(2)
    array([[2.  , 2.  , 3.  , 5.67],
           [5.67, 2.  , 2.  , 3.  ]])
    """

    _parameter_constraints = {
        "ties": [StrOptions({"floor", "dense", "interpolate", "mean"})],
        "reference": ["array-like", None],
    }

    n_samples_seen_: int
    _quantile_sums: np.ndarray

    def __init__(self, *, ties: str = "floor", reference: Any = None):
        self.ties = ties
        self.reference = reference

    def fit(self, X: Any, y: Any = None) -> QuantileJointNormalizer:
        """Learn the reference quantiles, forgetting earlier ones.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Expression profiles in any unit; NaN marks a missing value.
        y : None
            Ignored.

        Returns
        -------
        self : QuantileJointNormalizer
            The fitted transformer.
        """
        self._learn(X, start_anew=True)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> QuantileJointNormalizer:
        """Learn from more profiles; in pieces or at once, the reference is the same.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Expression profiles with the genes of earlier calls.
        y : None
            Ignored.

        Returns
        -------
        self : QuantileJointNormalizer
            The fitted transformer.
        """
        self._learn(X, start_anew=not hasattr(self, "n_samples_seen_"))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Map each profile onto the reference by the ranks of its genes.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Expression profiles of any platform with the genes of `fit`.

        Returns
        -------
        X_normalized : ndarray of shape (n_profiles, n_genes)
            The reference's values in the order of each profile; float32 if `X` is, else float64.
        """
        check_is_fitted(self)
        self._validate_params()
        profiles = _validation.validated_profiles(self, X, reset=False, dtype="numeric", allow_missing=True)
        ranks = Ranks(profiles)

        def find_and_map(rows: slice) -> None:
            ranks.find(rows)
            ranks.map(rows, self.reference_quantiles_, self.ties)

        in_parallel(find_and_map, row_blocks(profiles))
        return ranks.normalized

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Learn the reference quantiles and map the same profiles onto them, sorting each of them once.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Expression profiles in any unit; NaN marks a missing value.
        y : None
            Ignored.

        Returns
        -------
        X_normalized : ndarray of shape (n_profiles, n_genes)
            As `fit` and then `transform` return them.
        """
        ranks = self._learn(X, start_anew=True, keep_ranks=True)
        if ranks is None:
            return self.transform(X)
        in_parallel(lambda rows: ranks.map(rows, self.reference_quantiles_, self.ties), row_blocks(ranks.normalized))
        return ranks.normalized

    @_validation.all_or_nothing
    def _learn(self, X: Any, *, start_anew: bool, keep_ranks: bool = False) -> Ranks | None:
        """Learn the reference; returns the ranks of the genes if they are to be kept and profiles were sorted."""
        self._validate_params()
        given = None if self.reference is None else checked_reference(self.reference)
        profiles = _validation.validated_profiles(self, X, reset=start_anew, dtype="numeric", allow_missing=True)
        n_samples_seen, sums, ranks = 0, np.zeros(profiles.shape[1]), None
        if not start_anew and given is None:
            n_samples_seen, sums = self.n_samples_seen_, self._quantile_sums.copy()
        if given is None:
            require_values(profiles)
            n_samples_seen += len(profiles)
            ranks = Ranks(profiles) if keep_ranks else None
            ascending = ranks.find if ranks else lambda rows: np.sort(profiles[rows], axis=1)
            for profile in chain.from_iterable(in_order(ascending, row_blocks(profiles))):
                sums += full_length_quantiles(profile)
        self.n_samples_seen_, self._quantile_sums = n_samples_seen, sums
        self.reference_quantiles_ = sums / n_samples_seen if given is None else given
        return ranks

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "reference_quantiles_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def full_length_quantiles(ascending: np.ndarray) -> np.ndarray:
    """Sorted values, missing ones last, stretched over the length of the profile where some are missing."""
    if not np.isnan(ascending[-1]):
        return ascending
    n_values = np.count_nonzero(~np.isnan(ascending))
    rank = np.linspace(0, n_values - 1, len(ascending))
    return np.interp(rank, np.arange(n_values), ascending[:n_values])


def require_values(profiles: np.ndarray) -> None:
    """Raise unless every profile has a value."""
    empty = [row for row in np.flatnonzero(np.isnan(profiles[:, 0])) if np.isnan(profiles[row]).all()]
    if empty:
        raise ValueError(
            f"{len(empty)} profiles have no value at all (rows {_validation.listed(empty)}). Drop them before fit."
        )


def checked_reference(reference: Any) -> np.ndarray:
    """Reference quantiles, ascending."""
    quantiles = check_array(reference, ensure_2d=False, dtype=np.float64, input_name="reference")
    if quantiles.ndim != 1:
        raise ValueError(
            f"Got a reference of shape {quantiles.shape}, but expected one dimension: the quantiles, for example "
            "reference_quantiles_ of a fitted QuantileJointNormalizer."
        )
    return np.sort(quantiles)
