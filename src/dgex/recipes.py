"""Named models: configurations of :class:`dgex.DGEXRegressor`, and what they are compared with."""

from __future__ import annotations

import os
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression

from dgex._regressor import DGEXRegressor
from dgex._validation import listed
from dgex.io import ExpressionFile, ExpressionFileError, open_expression

# Chen et al. 2016, section 2.3: every combination was trained.
PAPER_LAYERS = (1, 2, 3)
PAPER_UNITS = (3000, 6000, 9000)
PAPER_DROPOUT = (0.0, 0.1, 0.25)

# What `modern` sets.
MODERN: dict[str, Any] = {
    "hidden_layer_sizes": (6000,),
    "activation": "abs",
    "linear_path": True,
    "start": "closed_form",
    "start_epochs": 20,
    "loss": "absolute_error",
    "dropout": 0.0,
    "solver": "adamw",
    "weight_decay": "auto",
    "learning_rate_init": 1e-3,
    "learning_rate_schedule": "cosine",
    "learning_rate_min": 0.0,
    "batch_size": 128,
    "max_iter": 120,
    "monitor_size": 200,  # no learning rate depends on the training error
}

# What the row of intercepts is called in matrices of weights.
INTERCEPTS = {"offset", "intercept", "(intercept)", "constant", "const", "bias"}


def _name(n_layers: int, n_units: int, dropout: float) -> str:
    return f"D-GEX-{round(100 * dropout)}%-{n_units}x{n_layers}"


PAPER_CONFIGURATIONS = {
    _name(n_layers, n_units, dropout): {"hidden_layer_sizes": (n_units,) * n_layers, "dropout": dropout}
    for n_layers, n_units, dropout in product(PAPER_LAYERS, PAPER_UNITS, PAPER_DROPOUT)
}


def paper(name: str = "D-GEX-10%-9000x3", **parameters: Any) -> DGEXRegressor:
    """One of the 27 configurations of Chen et al. (2016).

    Parameters
    ----------
    name : str, default="D-GEX-10%-9000x3"
        "D-GEX-<dropout>%-<units>x<layers>" with a dropout of 0, 10 or 25 %, 3000, 6000 or 9000 units in each of 1, 2 or
        3 hidden layers. :data:`PAPER_CONFIGURATIONS` lists them all. The default had the lowest error on GEO.
    **parameters
        Other parameters of :class:`dgex.DGEXRegressor`, such as `random_state` or `devices`.

    Returns
    -------
    model : DGEXRegressor
        An estimator that is not fitted yet.

    Raises
    ------
    ValueError
        If there is no such configuration.

    Notes
    -----
    The paper trains each configuration twice, on either half of its 9,520 targets; here one network has all targets.

    Examples
    --------
    >>> from dgex import recipes
    >>> recipes.paper("D-GEX-25%-9000x2", random_state=0)
    DGEXRegressor(dropout=0.25, hidden_layer_sizes=(9000, 9000), random_state=0)
    >>> len(recipes.PAPER_CONFIGURATIONS)
    27
    """
    if name not in PAPER_CONFIGURATIONS:
        raise ValueError(
            f"Got name={name!r}, but expected one of {len(PAPER_CONFIGURATIONS)} configurations: 'D-GEX-' with 0, 10 "
            "or 25 %, 3000, 6000 or 9000 units and 1 to 3 layers, such as 'D-GEX-10%-3000x1'."
        )
    return DGEXRegressor(**{**PAPER_CONFIGURATIONS[name], **parameters})


def modern(**parameters: Any) -> DGEXRegressor:
    """The configuration that is recommended: more accurate than the paper's and than tuned linear models.

    A hidden layer of absolute values (pairs of opposite rectifiers) in random orthogonal directions, and a linear path
    beside it. The output layer starts from ridge regression in closed form, with a share of the hidden units and a
    penalty that are chosen on validation profiles, which also say how far the linear path is drawn to the lasso and to
    the nearest landmarks. Profiles that others tell badly count less, and each target has a penalty of its own. Then
    all layers are trained on the absolute error: for 20 gentle epochs, and if these lower the validation error by 1 %,
    for 100 others at ten times the learning rate and with weight decay.

    Parameters
    ----------
    **parameters
        Other parameters of :class:`dgex.DGEXRegressor`, such as `random_state` or `devices`; they replace those of the
        recipe, such as `hidden_layer_sizes`.

    Returns
    -------
    model : DGEXRegressor
        An estimator that is not fitted yet. It needs validation profiles: `fit` holds out a tenth unless it is given
        some. Pass those that are as unlike the training profiles as the ones to be inferred will be, such as other
        studies or the other platform.

    Notes
    -----
    Designed on splits of human arrays, human and *E. coli* RNA-seq and generated profiles; the page "Accuracy" has the
    comparison and what each ingredient adds. Where validation profiles are unlike training profiles, the closed form is
    often not improved by training, and is the model.

    ``modern(max_iter=20)`` trains gently only, ``modern(max_iter=0)`` not at all.

    Up to 6,000 training profiles the closed form is solved between profiles, which takes memory for a few matrices of
    n_profiles x n_profiles and n_profiles x n_targets; beyond, between units.

    Examples
    --------
    >>> from dgex import recipes
    >>> from dgex.datasets import make_expression_profiles
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = recipes.modern(hidden_layer_sizes=(200,), random_state=0).fit(data.X[:200], data.y[:200])
    >>> model.predict(data.X[200:]).shape
    (100, 50)
    """
    return DGEXRegressor(**{**MODERN, **parameters})


def cmap_linear(weights: str | os.PathLike[str] | ExpressionFile) -> FrozenEstimator:
    """The linear model that the Connectivity Map's pipeline infers genes by, from the matrix of its weights.

    LINCS ships the targets of L1000 profiles as inferred by ordinary least squares. With its weights, anyone can
    compare other models with that.

    Parameters
    ----------
    weights : str, path-like or ExpressionFile
        A matrix of inputs x targets or targets x inputs, in any format that :func:`dgex.io.open_expression` reads, such
        as `GSE92743_Broad_OLS_WEIGHTS_n979x11350.gctx` (:func:`dgex.datasets.fetch_ols_weights`). The inputs are the
        landmarks and the intercept, which is called "OFFSET" there.

    Returns
    -------
    model : FrozenEstimator
        A fitted `sklearn.linear_model.LinearRegression` with `feature_names_in_` and `target_names_`, frozen: fitting
        changes nothing. It infers log2 expression, normalized as by the pipeline, and can be given to
        :func:`dgex.inference.predict_to_file`.

    Raises
    ------
    dgex.io.ExpressionFileError
        If the file has no intercept, or weights that are not finite numbers.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> from dgex import recipes
    >>> from dgex.io import write_expression
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "weights.tsv")
    ...     inputs, targets = ["OFFSET", "MYC", "TP53"], ["BRCA1", "EGFR"]
    ...     write_expression(path, [[1.0, 2.0], [0.5, 0.0], [0.0, -1.0]], profile_ids=inputs, gene_ids=targets)
    ...     model = recipes.cmap_linear(path)
    >>> print(model.feature_names_in_, model.target_names_, model.predict(pd.DataFrame({"MYC": [8.0], "TP53": [4.0]})))
    ['MYC' 'TP53'] ['BRCA1' 'EGFR'] [[ 5. -2.]]
    """
    opened = nullcontext(weights) if isinstance(weights, ExpressionFile) else open_expression(weights, rows="profiles")
    with opened as file:
        matrix, inputs, targets = file.read(), file.profile_ids, file.gene_ids
    if _intercepts(targets).any() and not _intercepts(inputs).any():
        matrix, inputs, targets = matrix.T, targets, inputs
    intercept = _intercepts(inputs)
    if np.count_nonzero(intercept) != 1:
        raise ExpressionFileError(
            f"{file.path}: got {np.count_nonzero(intercept)} inputs called like an intercept, but expected one, such "
            f"as 'OFFSET'. The rows are {listed(inputs)}, the columns {listed(targets)}."
        )
    if not np.isfinite(matrix).all():
        missing = targets[~np.isfinite(matrix).all(axis=0)]
        raise ExpressionFileError(
            f"{file.path}: weights of {len(missing)} targets are not finite: {listed(missing)}. Get the file again."
        )
    model = LinearRegression()
    model.coef_ = np.ascontiguousarray(matrix[~intercept].T)
    model.intercept_ = matrix[intercept][0]
    model.feature_names_in_, model.n_features_in_ = inputs[~intercept], len(inputs) - 1
    model.target_names_, model.n_outputs_ = targets, len(targets)
    return FrozenEstimator(model)


def _intercepts(names: np.ndarray) -> np.ndarray:
    """Which names are those of an intercept."""
    return np.array([name.lower() in INTERCEPTS for name in names], dtype=bool)
