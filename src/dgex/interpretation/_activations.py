"""Whether what a network makes of the landmarks explains the targets better than the landmarks do."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import qr

from dgex import _validation
from dgex._derivatives import last_hidden
from dgex._processes import own_devices
from dgex._sharding import devices_in_use
from dgex._statistics import gene_statistics
from dgex._table import Table
from dgex.interpretation._networks import networks_with_units_of, standardized_landmarks, target_names

# A predictor of unit length of which less than this is independent of the others counts as one of them: activations
# come in float32, whose rounding is about a hundred times smaller.
COLLINEAR = 1e-5

# A predictor that varies less than this does not vary.
ROUNDING = 1e-12


def activation_adjusted_r2(model: Any, X: Any, y: Any) -> Table:
    """Adjusted R^2 of linear models of every target: from the landmarks, and from the last hidden layer.

    Parameters
    ----------
    model : DGEXRegressor
        A fitted network.
    X : array-like of shape (n_profiles, n_landmarks)
        Expression of the landmarks.
    y : array-like of shape (n_profiles, n_targets)
        Measured expression of the targets.

    Returns
    -------
    table : Table
        "target", "landmarks" and "activations": the adjusted R^2 of a least-squares fit with an intercept to the given
        profiles, from the expression of the landmarks and from the activations of the last hidden layer (of the network
        that infers the target). NaN where it is undefined.

    Notes
    -----
    With n profiles and r linearly independent predictors besides the intercept, the adjusted value is 1 - (1 - R^2)
    (n - 1) / (n - r - 1). Of collinear predictors only the independent ones count, which also makes the value exact
    where there are more units than profiles but these span less. It is undefined if r reaches n - 1, since a fit
    without any residual says nothing, and for constant targets. The predictors are factorized once, by a QR
    decomposition with pivoting in float64, for all targets of a network.

    Chen et al. [1]_ find that activations explain nearly all targets better (Supplementary S2).

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import activation_adjusted_r2
    >>> data = make_expression_profiles(n_profiles=400, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(40,), max_iter=60, random_state=0).fit(data.X, data.y)
    >>> table = activation_adjusted_r2(model, data.X, data.y)
    >>> bool((table["activations"] > table["landmarks"]).mean() > 0.5)
    True
    """
    networks = networks_with_units_of(model)
    _validation.require_same_profiles(X, y)
    Z = standardized_landmarks(model, X)
    targets = _validation.validated_targets(model, y, "y", reset=False)
    if len(targets) != len(Z):
        raise ValueError(f"Got {len(Z)} profiles in X and {len(targets)} in y, but expected as many in both.")
    from_activations = np.empty(targets.shape[1])
    with devices_in_use(model.devices) as devices:
        for network in networks:
            activations = last_hidden(network.activation, network.hidden, Z, own_devices(devices)[0])
            from_activations[network.targets] = adjusted_r2(activations, targets[:, network.targets])
    return Table({"target": target_names(model), "landmarks": adjusted_r2(Z, targets), "activations": from_activations})


def adjusted_r2(predictors: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Adjusted R^2 of least-squares fits of all columns of the responses; NaN where undefined."""
    n_profiles = len(predictors)
    constant = gene_statistics(responses)[1] == 0
    centered, responses = (
        array - array.mean(axis=0) for array in (predictors.astype(np.float64), responses.astype(np.float64))
    )
    # Columns of the same length, so that the tolerance means the same for all of them.
    lengths = np.linalg.norm(centered, axis=0)
    centered = centered[:, lengths > ROUNDING * np.sqrt(n_profiles)]
    centered /= np.linalg.norm(centered, axis=0)
    basis, triangle, _ = qr(centered, mode="economic", pivoting=True, overwrite_a=True, check_finite=False)
    rank = int(np.count_nonzero(np.abs(np.diag(triangle)) > COLLINEAR))
    free = n_profiles - 1 - rank
    if free <= 0:
        return np.full(responses.shape[1], np.nan)
    totals = np.einsum("ij,ij->j", responses, responses)
    explained = np.square(basis[:, :rank].T @ responses).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        unexplained = np.where(constant, np.nan, 1 - explained / totals)
    return np.asarray(1 - unexplained * (n_profiles - 1) / free)
