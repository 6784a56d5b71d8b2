"""Measured against inferred expression of one gene or one profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import _num_samples

from dgex._frames import column_names, frame_values
from dgex._genes import names_or_numbers, positions_of
from dgex._validation import require_alike, require_same_profiles
from dgex.metrics import genewise_correlation, genewise_mae
from dgex.plotting._style import (
    axes_for,
    cloud_size,
    corner_text,
    draw_cloud,
    draw_diagonal,
    finite_genes,
    innermost,
    model_name,
    plural,
    require_genes_of,
    three_digits,
    with_room_for_text,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text


class PredictionDisplay:
    """Measured against inferred expression of one target gene over profiles, or of one profile over target genes.

    Parameters
    ----------
    measured, inferred : ndarray of shape (n_points,)
        The values; where one of them is not finite both are left out, and counted.
    title : str, default=""
        Which gene or profile they are of.
    points : str, default="profile"
        What a point is, for the text.
    unit : str, default="units of y"
        What expression is measured in, for the labels.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    points_ : matplotlib.collections.PathCollection or PolyCollection
        The values, or hexagons where there are more than 20,000.
    diagonal_ : matplotlib.lines.Line2D
        Where inferred and measured expression are the same.
    text_ : matplotlib.text.Text
        Number of points, mean absolute error and Pearson's correlation.

    See Also
    --------
    dgex.metrics.genewise_correlation : The correlation of every gene.
    sklearn.metrics.PredictionErrorDisplay : Residuals of models with one target.

    Examples
    --------
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import PredictionDisplay
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = KNNGeneRegressor().fit(data.X[:200], data.y[:200])
    >>> display = PredictionDisplay.from_estimator(model, data.X[200:], data.y[200:], profile=3, unit="log2")
    >>> display.plot().ax_.get_xlabel()
    'measured expression (log2)'
    """

    ax_: Axes
    figure_: Figure | SubFigure
    points_: PathCollection | PolyCollection
    diagonal_: Line2D
    text_: Text

    def __init__(
        self,
        measured: np.ndarray,
        inferred: np.ndarray,
        *,
        title: str = "",
        points: str = "profile",
        unit: str = "units of y",
    ):
        self.measured = measured
        self.inferred = inferred
        self.title = title
        self.points = points
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        X: Any,
        y: Any,
        *,
        target: int | str | None = None,
        profile: int | None = None,
        target_names: Sequence[str] | None = None,
        unit: str = "units of y",
    ) -> PredictionDisplay:
        """Infer expression and choose one gene or one profile.

        Parameters
        ----------
        model : estimator
            A fitted model.
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets)
            Measured expression of the target genes.
        target : int or str, default=None
            A target gene, by its column or by name. Either this or `profile` is needed.
        profile : int, default=None
            A profile, by its row.
        target_names : sequence of str, default=None
            Names of the targets; None for those of `y`, or of the targets in training.
        unit : str, default="units of y"
            What expression is measured in, for the labels.

        Returns
        -------
        display : PredictionDisplay
            Not drawn yet.
        """
        require_genes_of({model_name(model): model}, column_names(y))
        require_same_profiles(X, y)
        if target_names is None and column_names(y) is None:
            target_names = getattr(innermost(model), "target_names_", None)
        choice: dict[str, Any] = {"target": target, "profile": profile, "target_names": target_names, "unit": unit}
        if profile is None or target is not None:
            return cls.from_predictions(y, model.predict(X), **choice)
        check_consistent_length(X, y)
        row = _checked(profile, _num_samples(y), "profile")
        X = X.tocsr() if hasattr(X, "tocsr") else X
        X, y = (_safe_indexing(values, [row]) for values in (X, y))  # no other has to be inferred
        display = cls.from_predictions(y, model.predict(X), **{**choice, "profile": 0})
        display.title = _profile_title(row)
        return display

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        target: int | str | None = None,
        profile: int | None = None,
        target_names: Sequence[str] | None = None,
        unit: str = "units of y",
    ) -> PredictionDisplay:
        """Choose one gene or one profile.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_profiles, n_targets)
            Measured and inferred expression.
        target : int or str, default=None
            A target gene, by its column or by name. Either this or `profile` is needed.
        profile : int, default=None
            A profile, by its row.
        target_names : sequence of str, default=None
            Names of the targets; None for those of `y_true`, if it is a DataFrame.
        unit : str, default="units of y"
            What expression is measured in, for the labels.

        Returns
        -------
        display : PredictionDisplay
            Not drawn yet.
        """
        if (target is None) == (profile is None):
            raise ValueError(
                f"Got target={target!r} and profile={profile!r}, but expected one of them: a gene or a profile."
            )
        names = column_names(y_true) if target_names is None else np.asarray(target_names, dtype=object)
        measured, inferred = (np.asarray(frame_values(values)) for values in (y_true, y_pred))
        measured, inferred = (values[:, None] if values.ndim == 1 else values for values in (measured, inferred))
        if measured.shape != inferred.shape:
            raise ValueError(
                f"Got y_true of shape {measured.shape} and y_pred of shape {inferred.shape}, but expected the same "
                "shape, profiles x genes."
            )
        require_alike(y_true, y_pred)
        if names is not None and len(names) != measured.shape[1]:
            raise ValueError(f"Got {len(names)} target names, but expected one for each of {measured.shape[1]} genes.")
        if profile is not None:
            row = _checked(profile, len(measured), "profile")
            return cls(measured[row], inferred[row], title=_profile_title(row), points="gene", unit=unit)
        column = _column(target, measured.shape[1], names)
        title = f"target {column}" if names is None else str(names[column])
        return cls(measured[:, column], inferred[:, column], title=title, points="profile", unit=unit)

    def plot(
        self,
        ax: Any = None,
        *,
        points_kw: Mapping[str, Any] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> PredictionDisplay:
        """Draw points, the line of perfect inference, and how good it is.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        points_kw : dict, default=None
            Parameters of `scatter` (`hexbin` beyond 20,000 points), over the defaults.
        line_kw : dict, default=None
            Style of the diagonal, over the defaults.

        Returns
        -------
        self : PredictionDisplay
            The display.
        """
        finite, left_out = finite_genes({"measured": self.measured, "inferred": self.inferred}, "values", self.points)
        measured, inferred = finite.values()
        (error,) = genewise_mae(measured, inferred)
        (correlation,) = genewise_correlation(measured, inferred)
        (self.ax_,) = axes_for(self, ax, cloud_size(len(measured)))
        self.figure_ = self.ax_.figure
        low, high = min(measured.min(), inferred.min()), max(measured.max(), inferred.max())
        margin = 0.04 * float(high - low) or 0.5  # every point is shown
        corner = "lower right" if correlation < 0 else "upper left"
        r = "undefined" if np.isnan(correlation) else f"{correlation:.3f}"
        text = f"{plural(len(measured), self.points)}\nMAE {three_digits(error)}\nPearson r {r}"
        text += f"\n({plural(left_out, self.points)} not finite)" if left_out else ""
        limits = (float(low) - margin, float(high) + margin)
        limits = with_room_for_text(measured, inferred, limits, [corner], text.count("\n") + 1)
        self.points_ = draw_cloud(self.ax_, measured, inferred, limits, points_kw, f"{self.points}s")
        self.diagonal_ = draw_diagonal(self.ax_, limits, line_kw)
        self.text_ = corner_text(self.ax_, text, corner)
        self.ax_.set(xlabel=f"measured expression ({self.unit})", ylabel=f"inferred expression ({self.unit})")
        self.ax_.set_title(wrapped(self.title))
        return self


def _profile_title(row: int) -> str:
    return f"profile {row}"


def _column(target: Any, n_targets: int, names: np.ndarray | None) -> int:
    """The column of a target gene."""
    if names is None and isinstance(target, str):
        raise ValueError(
            f"Got target={target!r}, but the targets have no names. Pass target_names, a DataFrame, or a column number."
        )
    found = positions_of(target, names_or_numbers(names, n_targets), "targets")
    if len(found) != 1:
        raise ValueError(f"Got target={target!r}, which are {len(found)} targets, but expected one.")
    return int(found[0])


def _checked(index: Any, size: int, what: str) -> int:
    """A row or column number, from the end if negative."""
    if not isinstance(index, Integral) or not -size <= int(index) < size:
        raise ValueError(f"Got {what}={index!r}, but expected a number from 0 to {size - 1}.")
    return int(index) % size
