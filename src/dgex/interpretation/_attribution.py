"""Which landmarks a target depends on, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from dgex._base import last_step
from dgex._derivatives import derivative_sums
from dgex._frames import column_names, frame_values
from dgex._genes import names_or_numbers, position_of, positions_of
from dgex._plan import predicted
from dgex._processes import own_devices
from dgex._sharding import devices_in_use
from dgex._statistics import gene_scaling
from dgex._table import Table
from dgex._validation import listed, require_as_many_profiles, require_same_profiles
from dgex.interpretation._networks import (
    Network,
    landmark_names,
    networks_of,
    require_same_names,
    standardized_landmarks,
    target_names,
)

METHODS = ("jacobian", "integrated_gradients")

# How far the predictions of a linear model may be from linear, in standard deviations of the target.
LINEAR = 1e-2

# Profiles on which that is tried.
N_TRIED = 20


@dataclass(frozen=True, eq=False)
class LandmarkAttribution:
    """How much every target depends on every landmark.

    Parameters
    ----------
    method : str
        "jacobian", "integrated_gradients" or "linear".
    landmarks, targets : ndarray of str
        Names of the genes.
    mean : ndarray of shape (n_landmarks, n_targets)
        The mean over profiles, with its sign.
    magnitude : ndarray of shape (n_landmarks, n_targets)
        The mean over profiles of the absolute value: large, too, where the effect has another sign in other profiles.
    gap : ndarray of shape (n_targets,), default=None
        Of integrated gradients: by how much the sum over landmarks misses the mean difference of the predictions from
        those at the baseline. It is the error of the numerical integration.
    """

    method: str
    landmarks: np.ndarray
    targets: np.ndarray
    mean: np.ndarray
    magnitude: np.ndarray
    gap: np.ndarray | None = None

    def strongest_landmarks(
        self, target: str | int, n: int = 10, *, beside: LandmarkAttribution | None = None
    ) -> Table:
        """The landmarks that a target depends on most.

        Parameters
        ----------
        target : str or int
            The name of the target, or its number among `targets`.
        n : int, default=10
            How many landmarks.
        beside : LandmarkAttribution, default=None
            Another attribution with the same genes, such as that of a linear model, to show beside.

        Returns
        -------
        table : Table
            "landmark", "mean", "magnitude", the largest magnitude first, and the mean of the other by its method.
        """
        column = position_of(target, self.targets, "targets")
        order = np.argsort(-self.magnitude[:, column], kind="stable")[:n]
        columns = {"landmark": self.landmarks, "mean": self.mean[:, column], "magnitude": self.magnitude[:, column]}
        if beside is not None:
            if not np.array_equal(beside.landmarks, self.landmarks):
                raise ValueError("Got an attribution beside with other landmarks. Compute both for the same genes.")
            other = position_of(self.targets[column], beside.targets, "targets")
            columns[beside.method] = beside.mean[:, other]
        return Table(columns).rows(order)

    def strongest_targets(self, landmark: str | int, n: int = 10) -> Table:
        """The targets that depend most on a landmark.

        Parameters
        ----------
        landmark : str or int
            The name of the landmark, or its number among `landmarks`.
        n : int, default=10
            How many targets.

        Returns
        -------
        table : Table
            "target", "mean", "magnitude", the largest magnitude first.
        """
        row = position_of(landmark, self.landmarks, "landmarks")
        order = np.argsort(-self.magnitude[row], kind="stable")[:n]
        columns = {"target": self.targets, "mean": self.mean[row], "magnitude": self.magnitude[row]}
        return Table(columns).rows(order)

    def __repr__(self) -> str:
        return f"LandmarkAttribution({self.method}, {len(self.landmarks)} landmarks x {len(self.targets)} targets)"


def landmark_attribution(
    model: Any,
    X: Any,
    targets: Any = None,
    *,
    method: str = "jacobian",
    baseline: Any = None,
    n_steps: int = 32,
) -> LandmarkAttribution:
    r"""How much every target depends on every landmark, by the derivatives of the network.

    Parameters
    ----------
    model : DGEXRegressor
        A fitted network.
    X : array-like of shape (n_profiles, n_landmarks)
        Profiles to average over; some hundred are enough.
    targets : sequence of str or int, or ndarray of bool, default=None
        Names or numbers of the targets, or which of them; None for all.
    method : {"jacobian", "integrated_gradients"}, default="jacobian"
        "jacobian": the derivative of the target by the landmark at each profile. "integrated_gradients": what of the
        difference between the prediction for a profile and for the baseline is due to the landmark [1]_.
    baseline : array-like of shape (n_landmarks,), default=None
        Where integrated gradients start; None for the mean of `X`.
    n_steps : int, default=32
        Derivatives that integrated gradients take along the way to each profile, at the nodes of Gauss and Legendre.

    Returns
    -------
    attribution : LandmarkAttribution
        Mean and mean magnitude for every landmark and target. Jacobians are in standard deviations of the target per
        standard deviation of the landmark, integrated gradients in standard deviations of the target, both those of
        training; without standardization in the units of the data.

    Notes
    -----
    With hidden layers of weights :math:`W_l` and slopes :math:`D_l(x)` of the activations, the Jacobian of a profile is
    :math:`W_1 D_1(x) W_2 D_2(x) \cdots W_{out}`, exactly. Profiles are worked on one after the other, divided among the
    devices; the work for each is a product of (n_landmarks, n_units) and (n_units, n_targets), and one of (n_landmarks,
    n_units) and (n_units, n_units) for every further hidden layer, times `n_steps` with integrated gradients.

    An attribution tells what the network uses, not what regulates what: of landmarks that vary together, it may use
    either. A landmark that was constant in training has no effect.

    References
    ----------
    .. [1] Sundararajan M, Taly A, Yan Q (2017). Axiomatic attribution for deep networks. Proceedings of the 34th
       International Conference on Machine Learning, 3319-3328.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import landmark_attribution
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X, data.y)
    >>> attribution = landmark_attribution(model, data.X[:100], targets=[3, 7])
    >>> attribution
    LandmarkAttribution(jacobian, 20 landmarks x 2 targets)
    >>> len(attribution.strongest_landmarks("7", n=5))
    5
    """
    if method not in METHODS:
        raise ValueError(f"Got method={method!r}, but expected one of {METHODS}.")
    if n_steps < 1:
        raise ValueError(f"Got n_steps={n_steps!r}, but expected 1 or more.")
    networks, names = networks_of(model), target_names(model)
    Z, chosen = standardized_landmarks(model, X), positions_of(targets, names, "targets")
    start = None
    if method == "integrated_gradients":
        start = Z.mean(axis=0) if baseline is None else standardized_baseline(model, baseline)
    mean, magnitude = np.empty((2, Z.shape[1], len(chosen)))
    gap = None if start is None else np.empty(len(chosen))
    with devices_in_use(model.devices) as devices:
        for network in networks:
            mine = np.flatnonzero(np.isin(chosen, network.targets))
            kernel, own = network.output_kernel(chosen[mine]), own_devices(devices)
            path = None if start is None else (start, *nodes_on_the_way(n_steps))
            sums = derivative_sums(network.activation, network.hidden, kernel, Z, own, path)
            mean[:, mine], magnitude[:, mine] = (total / len(Z) for total in sums)
            if gap is not None:
                gap[mine] = mean[:, mine].sum(axis=0) - mean_difference(network, kernel, Z, start, own)
    return LandmarkAttribution(method, landmark_names(model), names[chosen], mean, magnitude, gap)


def standardized_baseline(model: Any, baseline: Any) -> np.ndarray:
    """Where integrated gradients start, as the network sees it."""
    known = getattr(model, "feature_names_in_", None)
    if known is not None and hasattr(baseline, "reindex") and np.ndim(baseline) == 1:  # a Series by gene
        baseline = baseline.rename(str)  # numbers of genes are text here
        missing = [gene for gene in known if gene not in baseline.index]
        if missing:
            raise ValueError(f"{len(missing)} of {len(known)} landmarks are not in the baseline: {listed(missing)}.")
        baseline = baseline.reindex(known)
    values = np.asarray(baseline, dtype=np.float64)
    if values.shape != (model.n_features_in_,) or not np.isfinite(values).all():
        raise ValueError(
            f"Got a baseline of shape {values.shape}, but expected a finite number for each of {model.n_features_in_} "
            "landmarks, in the order of training."
        )
    return ((values - model.landmark_mean_) / model.landmark_scale_).astype(np.float32)


def nodes_on_the_way(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights of Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    return ((nodes + 1) / 2).astype(np.float32), (weights / 2).astype(np.float32)


def mean_difference(network: Network, kernel: np.ndarray, Z: np.ndarray, start: Any, devices: Any) -> np.ndarray:
    """By how much predictions for the profiles differ from those at the start, on average."""
    activations = network.before_output(np.concatenate([Z, start[None]]), devices[0])
    difference = activations[:-1].mean(axis=0, dtype=np.float64) - activations[-1]
    return np.asarray(difference @ kernel)


def linear_attribution(model: Any, X: Any, y: Any) -> LandmarkAttribution:
    """The coefficients of a fitted linear model, in the form and the units of :func:`landmark_attribution`.

    Parameters
    ----------
    model : estimator or Pipeline
        Any fitted model whose predictions are linear in the landmarks, such as `Ridge`, a `Pipeline` that standardizes
        before it, or :func:`dgex.recipes.cmap_linear`.
    X : array-like of shape (n_profiles, n_landmarks)
        Profiles whose standard deviations the coefficients are put in units of: those of training.
    y : array-like of shape (n_profiles, n_targets)
        Their targets, in the order of the model, whose names are taken from here if the model does not know any: a
        model of scikit-learn does not, and cannot tell another order.

    Returns
    -------
    attribution : LandmarkAttribution
        Standard deviations of the target per standard deviation of the landmark; `magnitude` is the absolute value.

    Raises
    ------
    ValueError
        If predictions are not linear in the landmarks.

    Examples
    --------
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import linear_attribution
    >>> from sklearn.linear_model import Ridge
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> linear_attribution(Ridge().fit(data.X, data.y), data.X, data.y)
    LandmarkAttribution(linear, 20 landmarks x 50 targets)
    """
    model = getattr(model, "best_estimator_", model)
    known, names = getattr(model, "feature_names_in_", None), getattr(last_step(model), "target_names_", None)
    require_same_names(X, known, "X")
    require_same_names(y, names, "y")
    require_same_profiles(X, y)
    known, names = (column_names(X) if known is None else known), (column_names(y) if names is None else names)
    X, y = (np.asarray(check_array(frame_values(data), ensure_2d=False), dtype=np.float64) for data in (X, y))
    y = y.reshape(len(y), -1)
    require_as_many_profiles(X, y)
    (center, x_scale), (_, y_scale) = gene_scaling(X), gene_scaling(y)

    def at(profiles: np.ndarray) -> np.ndarray:
        return np.asarray(predicted(model, profiles), dtype=np.float64).reshape(len(profiles), -1)

    at_center = at(center[None])
    if at_center.shape[1] != len(y_scale):
        raise ValueError(f"Got y with {len(y_scale)} targets, but the model predicts {at_center.shape[1]}.")
    change = at(center + np.diag(x_scale)) - at_center
    actual, expected = at(X[:N_TRIED]) - at_center, (X[:N_TRIED] - center) / x_scale @ change
    rounding = np.finfo(np.float32).eps * np.abs(at_center[0]) * 10
    if (np.abs(actual - expected).max(axis=0) > LINEAR * y_scale + rounding).any():
        raise ValueError(
            f"The predictions of {type(model).__name__} are not linear in the landmarks. Pass a linear model, or use "
            "landmark_attribution for a network."
        )
    coefficients = change / y_scale
    landmarks, targets = names_or_numbers(known, X.shape[1]), names_or_numbers(names, y.shape[1])
    return LandmarkAttribution("linear", landmarks, targets, coefficients, np.abs(coefficients))


def partial_dependence(
    model: Any,
    X: Any,
    landmark: str | int,
    targets: Any = None,
    *,
    n_points: int = 30,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> Table:
    """How targets change with one landmark, on average over profiles whose other landmarks stay as they are.

    Parameters
    ----------
    model : DGEXRegressor
        A fitted network.
    X : array-like of shape (n_profiles, n_landmarks)
        Profiles to average over.
    landmark : str or int
        The name or the number of the landmark.
    targets : sequence of str or int, default=None
        Names or numbers of the targets; None for all.
    n_points : int, default=30
        Points of the curve.
    percentiles : tuple of float, default=(1.0, 99.0)
        Of the landmark's expression in `X`, between which the points are, evenly spaced.

    Returns
    -------
    curve : Table
        The column "expression", that of the landmark, and one column for every target, named for it: the mean of its
        predictions, in the units of training.

    See Also
    --------
    sklearn.inspection.partial_dependence : For any estimator.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import partial_dependence
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X, data.y)
    >>> curve = partial_dependence(model, data.X[:100], landmark=4, targets=[7], n_points=5)
    >>> list(curve.columns), len(curve)
    (['expression', '7'], 5)
    """
    if n_points < 2:
        raise ValueError(f"Got n_points={n_points!r}, but expected 2 or more.")
    networks, names = networks_of(model), target_names(model)
    Z, chosen = standardized_landmarks(model, X), positions_of(targets, names, "targets")
    if "expression" in names[chosen]:
        raise ValueError(
            'A target is called "expression", as the column of the landmark is. Leave it out of `targets`.'
        )
    column = position_of(landmark, landmark_names(model), "landmarks")
    lowest, highest = np.percentile(Z[:, column].astype(np.float64), percentiles)
    grid = np.linspace(lowest, highest, n_points)
    curves = np.empty((n_points, len(chosen)))
    with devices_in_use(model.devices) as devices:
        moved = Z.copy()
        for network in networks:
            means = []
            for value in grid:
                moved[:, column] = value
                means.append(network.before_output(moved, own_devices(devices)[0]).mean(axis=0, dtype=np.float64))
            mine = np.flatnonzero(np.isin(chosen, network.targets))
            curves[:, mine] = np.array(means) @ network.output_kernel(chosen[mine])
    curves += model.intercepts_[-1][chosen]
    curves = curves * model.target_scale_[chosen] + model.target_mean_[chosen]
    expression = grid * model.landmark_scale_[column] + model.landmark_mean_[column]
    return Table({"expression": expression, **dict(zip(names[chosen], curves.T, strict=True))})
