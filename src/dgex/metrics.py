"""How good inferred expression is: errors by gene, correlations, and tables that compare models.

Everything takes profiles x genes. Errors are in the units of the expression given; `scale` divides each gene's error,
so that ``scale=model.target_scale_`` gives the standardized units of the tables of Chen et al. (2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import make_scorer
from sklearn.utils.validation import check_array

from dgex._frames import column_names, frame_values
from dgex._statistics import divisors, gene_statistics, standardized
from dgex._table import ComparisonTable
from dgex._validation import FLOAT_TYPES, listed, names_others, require_alike

# Bytes of temporary arrays.
BLOCK_BYTES = 2**26

# Genes that vary less are left out of `standardized_mae`: dividing by so little would only magnify rounding.
FLAT = 1e-3

# Correlations that differ by fewer units in the last place are the same.
ROUNDING = 16


class OverallError(NamedTuple):
    """Mean and standard deviation over target genes of the gene-wise error.

    Parameters
    ----------
    mean : float
        Mean over target genes.
    std : float
        Standard deviation over target genes (the population's).
    """

    mean: float
    std: float


def genewise_mae(y_true: Any, y_pred: Any, *, scale: Any = None) -> np.ndarray:
    """Mean absolute error of every target gene.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets) or (n_profiles,)
        Measured and inferred expression.
    scale : array-like of shape (n_targets,), default=None
        What to divide each gene's error by, such as the standard deviations in training.

    Returns
    -------
    errors : ndarray of shape (n_targets,)
        Mean over profiles of the absolute difference of `y_true` and `y_pred`, in float64.

    Examples
    --------
    >>> from dgex.metrics import genewise_mae
    >>> genewise_mae([[1.0, 2.0], [3.0, 4.0]], [[1.5, 2.0], [2.0, 3.0]])
    array([0.75, 0.5 ])
    """
    genes = column_names(y_true)
    y_true, y_pred = _checked_pair(y_true, y_pred)
    scale = None if scale is None else _checked_scale(scale, y_true.shape[1], genes)
    total = np.zeros(y_true.shape[1])
    for rows in _row_blocks(y_true):
        total += np.abs(y_true[rows] - y_pred[rows]).sum(axis=0, dtype=np.float64)
    errors = total / len(y_true)
    return errors if scale is None else errors / scale


def overall_error(y_true: Any, y_pred: Any, *, scale: Any = None) -> OverallError:
    """Mean and standard deviation over target genes of the gene-wise mean absolute error, as in the paper's tables.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets) or (n_profiles,)
        Measured and inferred expression.
    scale : array-like of shape (n_targets,), default=None
        What to divide each gene's error by.

    Returns
    -------
    error : OverallError
        Named tuple (mean, std); the standard deviation is the population's.

    Examples
    --------
    >>> from dgex.metrics import overall_error
    >>> overall_error([[1.0, 2.0], [3.0, 4.0]], [[1.5, 2.0], [2.0, 3.0]])
    OverallError(mean=0.625, std=0.125)
    """
    errors = genewise_mae(y_true, y_pred, scale=scale)
    return OverallError(float(errors.mean()), float(errors.std()))


def relative_improvement(error: float, baseline_error: float) -> float:
    """How much lower an error is than a baseline's, as a share of the baseline's.

    Parameters
    ----------
    error, baseline_error : float
        Overall errors of two models.

    Returns
    -------
    improvement : float
        (baseline_error - error) / baseline_error; negative if the model is worse. Next to a baseline without any error,
        0 for another without, else minus infinity.

    Examples
    --------
    >>> from dgex.metrics import relative_improvement
    >>> round(relative_improvement(0.3204, 0.3784), 4)  # the paper's best network against linear regression
    0.1533
    """
    if baseline_error == 0:
        return 0.0 if error == 0 else -math.inf
    return float((baseline_error - error) / baseline_error)


def win_rate(errors: Any, baseline_errors: Any) -> float:
    """Share of target genes on which one model's error is lower than another's.

    Parameters
    ----------
    errors, baseline_errors : array-like of shape (n_targets,)
        Gene-wise errors of the two models.

    Returns
    -------
    share : float
        Between 0 and 1. Genes with equal errors are not won.

    Examples
    --------
    >>> from dgex.metrics import win_rate
    >>> win_rate([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.3, 0.3])
    0.5
    """
    errors, baseline_errors = np.asarray(errors), np.asarray(baseline_errors)
    if errors.shape != baseline_errors.shape:
        raise ValueError(
            f"Got errors of shape {errors.shape} and baseline_errors of shape {baseline_errors.shape}, but expected "
            "numbers for the same target genes."
        )
    return float(np.mean(errors < baseline_errors))


def genewise_correlation(y_true: Any, y_pred: Any) -> np.ndarray:
    """Pearson correlation of measured and inferred expression of every target gene.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets) or (n_profiles,)
        Measured and inferred expression.

    Returns
    -------
    correlations : ndarray of shape (n_targets,)
        NaN where the measured or inferred expression is constant.

    Examples
    --------
    >>> from dgex.metrics import genewise_correlation
    >>> genewise_correlation([[1.0, 2.0], [2.0, 4.0], [3.0, 0.0]], [[2.0, 1.0], [4.0, 3.0], [6.0, -1.0]])
    array([1., 1.])
    """
    y_true, y_pred = _checked_pair(y_true, y_pred)
    measured, inferred = gene_statistics(y_true), gene_statistics(y_pred)
    products = np.zeros(y_true.shape[1])
    for rows in _row_blocks(y_true):
        pairs = _z_scores(y_true[rows], *measured) * _z_scores(y_pred[rows], *inferred)
        products += pairs.sum(axis=0, dtype=np.float64)
    correlations = np.clip(products / len(y_true), -1.0, 1.0)
    return np.where((measured[1] > 0) & (inferred[1] > 0), correlations, np.nan)


def r_gene(y_true: Any, y_pred: Any) -> np.ndarray:
    """R_gene of every target: where its own correlation ranks among its correlations with the other genes.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets)
        Measured and inferred expression of at least two targets.

    Returns
    -------
    ranks : ndarray of shape (n_targets,)
        Share of the other genes whose measured expression correlates less with the inferred expression of the gene than
        its own does: 1 is perfect, 0.5 is chance. NaN where the gene's measured or inferred expression is constant;
        another gene that is constant correlates 0.

    Notes
    -----
    The recall measure of the Connectivity Map [1]_, which calls genes of at least 0.95 well inferred. Takes
    the product of two matrices of shape (n_targets, n_profiles), in blocks.

    References
    ----------
    .. [1] Subramanian A et al. (2017). A next generation connectivity map: L1000 platform and the first 1,000,000
       profiles. Cell 171(6), 1437-1452.

    Examples
    --------
    >>> from dgex.metrics import r_gene
    >>> y_true = [[1.0, 0.0, 5.0], [2.0, 1.0, 3.0], [3.0, 0.0, 1.0]]
    >>> r_gene(y_true, y_true)
    array([1., 1., 1.])
    """
    y_true, y_pred = _checked_pair(y_true, y_pred)
    n_targets = y_true.shape[1]
    if n_targets < 2:
        raise ValueError(f"Got {n_targets} target gene, but R_gene ranks a gene among others: expected at least 2.")
    measured_statistics, inferred_statistics = gene_statistics(y_true), gene_statistics(y_pred)
    measured, inferred = _z_scores(y_true, *measured_statistics), _z_scores(y_pred, *inferred_statistics)
    # Genes that are linear in each other correlate alike, but for rounding.
    rounding = ROUNDING * max(np.finfo(values.dtype).eps for values in (measured, inferred)) * len(measured)
    ranks = np.empty(n_targets)
    block_columns = max(1, BLOCK_BYTES // (8 * n_targets))
    for start in range(0, n_targets, block_columns):
        genes = np.arange(start, min(start + block_columns, n_targets))
        products = inferred[:, genes].T @ measured
        own = products[genes - start, genes]
        ranks[genes] = (products < own[:, None] - rounding).sum(axis=1) / (n_targets - 1)
    return np.where((measured_statistics[1] > 0) & (inferred_statistics[1] > 0), ranks, np.nan)


def comparison_table(
    y_true: Any,
    predictions: Mapping[str, Any],
    *,
    scale: Any = None,
    baseline: str | None = None,
) -> ComparisonTable:
    """Compare models on the same measured expression.

    Parameters
    ----------
    y_true : array-like of shape (n_profiles, n_targets)
        Measured expression.
    predictions : mapping of str to array-like of shape (n_profiles, n_targets)
        Inferred expression by model; "model name": predictions.
    scale : array-like of shape (n_targets,), default=None
        What to divide each gene's error by.
    baseline : str, default=None
        The model that the others are compared with; None for the first.

    Returns
    -------
    table : ComparisonTable
        For each model: "error" (mean over targets of the gene-wise error), "sd" (over targets), "improvement" (relative
        to the baseline), "genes won" (share of targets with a lower error than the baseline), "correlation" (mean
        over targets, constant ones left out).

    Examples
    --------
    >>> from dgex.metrics import comparison_table
    >>> y_true = [[1.0, 2.0], [3.0, 4.0], [2.0, 1.0]]
    >>> print(comparison_table(y_true, {"mean": [[2.0, 2.3]] * 3, "network": [[1.2, 2.0], [2.7, 3.6], [2.2, 1.2]]}))
    model    error   sd      improvement  genes won  correlation
    -------  ------  ------  -----------  ---------  -----------
    mean     0.8833  0.2167  0.0%         0.0%       nan
    network  0.2167  0.0167  75.5%        100.0%     0.991
    """
    if not isinstance(predictions, Mapping) or not predictions:
        raise ValueError("Got no predictions, but expected those of at least one model: {name: predictions}.")
    baseline = next(iter(predictions)) if baseline is None else baseline
    if baseline not in predictions:
        raise ValueError(f"Got baseline={baseline!r}, but expected one of {list(predictions)}.")
    errors = genewise_mae_by_model(y_true, predictions, scale=scale)
    rows = []
    for model, y_pred in predictions.items():
        correlations = genewise_correlation(y_true, y_pred)
        defined = correlations[~np.isnan(correlations)]
        rows.append(
            {
                "model": str(model),
                "error": float(errors[model].mean()),
                "sd": float(errors[model].std()),
                "improvement": relative_improvement(errors[model].mean(), errors[baseline].mean()),
                "genes won": win_rate(errors[model], errors[baseline]),
                "correlation": float(defined.mean()) if len(defined) else np.nan,
            }
        )
    return ComparisonTable(tuple(rows))


def genewise_mae_by_model(y_true: Any, predictions: Mapping[str, Any], *, scale: Any = None) -> dict[str, np.ndarray]:
    """Mean absolute error of every target gene for several models.

    Parameters
    ----------
    y_true : array-like of shape (n_profiles, n_targets)
        Measured expression.
    predictions : mapping of str to array-like of shape (n_profiles, n_targets)
        Inferred expression by model.
    scale : array-like of shape (n_targets,), default=None
        What to divide each gene's error by.

    Returns
    -------
    errors : dict of str to ndarray of shape (n_targets,)
        As :func:`genewise_mae` returns them, by model.

    Raises
    ------
    ValueError
        If predictions are not those of these genes and profiles, of which model it says; or if measured expression or
        the scale are no numbers that errors can be computed from.

    Examples
    --------
    >>> from dgex.metrics import genewise_mae_by_model
    >>> genewise_mae_by_model([[1.0, 2.0], [3.0, 4.0]], {"zero": [[0.0, 0.0], [0.0, 0.0]]})
    {'zero': array([2., 3.])}
    """
    errors = {}
    for model, y_pred in predictions.items():
        try:
            errors[model] = genewise_mae(y_true, y_pred, scale=scale)
        except ValueError as error:
            if "y_pred" not in str(error):
                raise
            raise ValueError(f"Predictions of {model!r}: {error}") from None
    return errors


def standardized_mae(y_true: Any, y_pred: Any) -> float:
    """Overall error with each gene's error divided by the standard deviation of its measured expression.

    Unlike the error in raw units, it weighs all genes alike, and it needs no statistics of the training data: the
    standard deviations are those of `y_true`.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets) or (n_profiles,)
        Measured and inferred expression.

    Returns
    -------
    error : float
        Mean over the target genes whose standard deviation is above 1e-3; NaN if there are none.

    Examples
    --------
    >>> from dgex.metrics import standardized_mae
    >>> standardized_mae([[1.0, 5.0], [3.0, 5.0]], [[1.5, 4.0], [3.5, 4.0]])
    0.5
    """
    y_true, y_pred = _checked_pair(y_true, y_pred)
    _, deviation = gene_statistics(y_true)
    varies = deviation > FLAT
    errors = genewise_mae(y_true, y_pred)
    return float(np.mean(errors[varies] / deviation[varies])) if varies.any() else float("nan")


def mean_correlation(y_true: Any, y_pred: Any) -> float:
    """Mean over target genes of the correlation of measured and inferred expression.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_profiles, n_targets) or (n_profiles,)
        Measured and inferred expression.

    Returns
    -------
    correlation : float
        A gene that is constant counts as correlation 0.

    Examples
    --------
    >>> from dgex.metrics import mean_correlation
    >>> round(mean_correlation([[1.0, 2.0], [2.0, 4.0], [3.0, 0.0]], [[2.0, 1.0], [4.0, 1.0], [6.0, 1.0]]), 6)
    0.5
    """
    return float(np.nan_to_num(genewise_correlation(y_true, y_pred)).mean())


def _overall_mae(y_true: Any, y_pred: Any) -> float:
    return overall_error(y_true, y_pred).mean


# Scorers for `GridSearchCV(scoring=...)`: higher is better, so errors are negative.
neg_overall_error_scorer = make_scorer(_overall_mae, greater_is_better=False)
neg_standardized_error_scorer = make_scorer(standardized_mae, greater_is_better=False)
correlation_scorer = make_scorer(mean_correlation)


def _checked_pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Measured and inferred expression as float arrays of one shape, profiles x genes."""
    pair = []
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        array = check_array(frame_values(values), dtype=FLOAT_TYPES, ensure_2d=False, input_name=name)
        pair.append(array.reshape(-1, 1) if array.ndim == 1 else array)
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"Got y_true of shape {pair[0].shape} and y_pred of shape {pair[1].shape}, but expected the same shape, "
            "profiles x genes."
        )
    require_alike(y_true, y_pred)
    return pair[0], pair[1]


def _checked_scale(scale: Any, n_genes: int, genes: np.ndarray | None) -> np.ndarray:
    """What errors are divided by, as an array; a series has to name the same genes."""
    if np.shape(scale) != (n_genes,):
        raise ValueError(
            f"Got a scale of shape {np.shape(scale)}, but expected one number for each of the {n_genes} genes."
        )
    if names_others(scale, genes):
        raise ValueError("Got a scale of other genes, or in another order. Pass scale[y.columns].")
    numbers = np.asarray(scale, dtype=np.float64)
    wrong = np.flatnonzero(~(numbers > 0))
    if len(wrong):
        which = wrong if genes is None else genes[wrong]
        raise ValueError(
            f"Got a scale that is not above zero for {len(wrong)} of {n_genes} genes ({listed(which)}), but errors are "
            "divided by it. Leave out genes that do not vary, or pass target_scale_ of a model, which is 1 for these."
        )
    return numbers


def _row_blocks(array: np.ndarray) -> Iterator[slice]:
    n_rows = max(1, BLOCK_BYTES // (8 * array.shape[1]))
    return (slice(start, start + n_rows) for start in range(0, len(array), n_rows))


def _z_scores(X: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Standardized expression; zero for a constant gene."""
    return standardized(X, mean, divisors(deviation))
