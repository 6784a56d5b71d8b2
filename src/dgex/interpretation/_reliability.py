"""How far the inferred expression of each target can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dgex._base import last_step
from dgex._frames import as_frame, column_names, frame_values
from dgex._genes import names_or_numbers
from dgex._table import Table
from dgex._validation import require_same_profiles
from dgex.interpretation._networks import require_same_names
from dgex.metrics import genewise_correlation, genewise_mae, r_gene

# The Connectivity Map calls genes well inferred from here on.
WELL_INFERRED = 0.95


def target_reliability(
    model: Any, X: Any, y: Any, *, well_inferred: float = WELL_INFERRED, store: bool = False
) -> Table:
    """Error and correlation of every target on validation profiles, and whether it is well inferred.

    Parameters
    ----------
    model : estimator or Pipeline
        A fitted regressor from landmarks to targets.
    X : array-like of shape (n_profiles, n_landmarks)
        Landmarks of profiles that the model was not trained on.
    y : array-like of shape (n_profiles, n_targets)
        Their measured targets. R_gene of a single one is NaN.
    well_inferred : float, default=0.95
        The R_gene from which on a target counts as well inferred, as for the Connectivity Map's "best inferred genes"
        [1]_.
    store : bool, default=False
        Whether to keep the table as `target_reliability_` of the model (of the last step of a Pipeline):
        :func:`dgex.persistence.save_model` saves it, :func:`dgex.inference.predict_to_file` and
        :func:`dgex.inference.predict_anndata` write it beside the targets. Fitting an estimator of dgex again removes
        it; of another, call this function again.

    Returns
    -------
    table : Table
        "target", "error" (mean absolute, divided by the standard deviation in training where the model standardizes,
        else in the units of `y`), "correlation" (Pearson), "r_gene" (:func:`dgex.metrics.r_gene`), "well_inferred".

    Notes
    -----
    R_gene asks whether the inferred gene follows the measured one more than other genes do, over the profiles given.
    Where these come from several studies or batches that differ in all genes, the study alone answers that: held-out
    profiles of studies that were trained on make R_gene look better than it is for new studies. Measure it on those.

    References
    ----------
    .. [1] Subramanian A et al. (2017). A next generation connectivity map: L1000 platform and the first 1,000,000
       profiles. Cell 171(6), 1437-1452.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import target_reliability
    >>> data = make_expression_profiles(n_profiles=400, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X[:300], data.y[:300])
    >>> table = target_reliability(model, data.X[300:], data.y[300:])
    >>> list(table.columns)
    ['target', 'error', 'correlation', 'r_gene', 'well_inferred']
    """
    check_is_fitted(model)
    model = getattr(model, "best_estimator_", model)
    last = last_step(model)
    names = getattr(last, "target_names_", None)
    require_same_names(y, names, "y")
    require_same_profiles(X, y)
    names = column_names(y) if names is None else names
    inferred, measured = np.asarray(model.predict(as_frame(X))), np.asarray(frame_values(y))
    n_targets = inferred.reshape(len(inferred), -1).shape[1]
    # A single gene cannot be told from others.
    ranks = r_gene(measured, inferred) if n_targets > 1 else np.full(1, np.nan)
    table = Table(
        {
            "target": names_or_numbers(names, n_targets),
            "error": genewise_mae(measured, inferred, scale=getattr(last, "target_scale_", None)),
            "correlation": genewise_correlation(measured, inferred),
            "r_gene": ranks,
            "well_inferred": np.nan_to_num(ranks) >= well_inferred,
        }
    )
    if store:
        last.target_reliability_ = table
    return table
