"""Errors by gene: their distribution for several models, and one model's against another's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dgex._frames import column_names
from dgex._validation import require_same_profiles
from dgex.metrics import genewise_mae, genewise_mae_by_model, win_rate
from dgex.plotting._legend import legend_beside
from dgex.plotting._style import (
    SHOWN_SHARE,
    Style,
    axes_for,
    cloud_size,
    corner_text,
    density_of_errors,
    different_names,
    draw_cloud,
    draw_diagonal,
    end_of_errors,
    finite_genes,
    line_style,
    merged,
    model_name,
    n_outside,
    named_models,
    plural,
    require_genes_of,
    shared_limits,
    start_of_errors,
    three_digits,
    unit_of,
    with_room_for_text,
    without_box,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

# Points of a density curve.
N_POINTS = 512


class GenewiseErrorDisplay:
    """Densities over target genes of the errors of several models.

    Figure 2 of Chen et al. [1]_.

    Parameters
    ----------
    errors : mapping of str to ndarray of shape (n_targets,)
        Gene-wise error by model. Genes without a finite error of every model are left out, and counted.
    unit : str, default="units of y"
        What the errors are measured in, for the label.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    lines_ : list of matplotlib.lines.Line2D
        The density of each model; a vertical line for one whose errors are all the same.
    median_lines_ : list of matplotlib.lines.Line2D
        The median of each model.
    legend_ : matplotlib.legend.Legend
        Names and medians.

    See Also
    --------
    GenewiseComparisonDisplay : One model's errors against another's, gene by gene.
    dgex.metrics.comparison_table : The same models in numbers.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import GenewiseErrorDisplay
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> models = {"least squares": LinearRegression(), "KNN-GE": KNNGeneRegressor(standardize=True)}
    >>> models = {name: model.fit(data.X[:200], data.y[:200]) for name, model in models.items()}
    >>> display = GenewiseErrorDisplay.from_estimator(models, data.X[200:], data.y[200:], unit="log2")
    >>> display.plot().ax_.get_xlabel()
    'mean absolute error (log2)'
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]
    median_lines_: list[Line2D]
    legend_: Legend

    def __init__(self, errors: Mapping[str, np.ndarray], *, unit: str = "units of y"):
        self.errors = errors
        self.unit = unit

    @classmethod
    def from_estimator(
        cls, models: Any, X: Any, y: Any, *, scale: Any = None, unit: str | None = None
    ) -> GenewiseErrorDisplay:
        """Compute the errors of fitted models.

        Parameters
        ----------
        models : mapping of str to estimator, or estimator
            Fitted models by name; a single one is named by its class.
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets)
            Measured expression of the target genes.
        scale : array-like of shape (n_targets,), default=None
            What to divide each gene's error by, such as `target_scale_` of a fitted `DGEXRegressor`.
        unit : str, default=None
            What the errors are measured in; None for "standardized expression" with a scale, else "units of y".

        Returns
        -------
        display : GenewiseErrorDisplay
            Not drawn yet.
        """
        models = named_models(models)
        require_genes_of(models, column_names(y))
        require_same_profiles(X, y)
        predictions = {name: model.predict(X) for name, model in models.items()}
        return cls.from_predictions(y, predictions, scale=scale, unit=unit)

    @classmethod
    def from_predictions(
        cls, y_true: Any, predictions: Mapping[str, Any], *, scale: Any = None, unit: str | None = None
    ) -> GenewiseErrorDisplay:
        """Compute the errors of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_profiles, n_targets)
            Measured expression.
        predictions : mapping of str to array-like of shape (n_profiles, n_targets)
            Inferred expression by model.
        scale : array-like of shape (n_targets,), default=None
            What to divide each gene's error by.
        unit : str, default=None
            What the errors are measured in; None for "standardized expression" with a scale, else "units of y".

        Returns
        -------
        display : GenewiseErrorDisplay
            Not drawn yet.
        """
        if not isinstance(predictions, Mapping) or not predictions:
            raise ValueError(
                f"Got predictions of type {type(predictions).__name__} without any model, but expected those of at "
                "least one: {name: predictions}."
            )
        errors = genewise_mae_by_model(y_true, {str(name): y_pred for name, y_pred in predictions.items()}, scale=scale)
        return cls(errors, unit=unit_of(unit, scale))

    def plot(
        self,
        ax: Any = None,
        *,
        bandwidth: Any = None,
        line_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> GenewiseErrorDisplay:
        """Draw a curve for each model, its median marked.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        bandwidth : float or str, default=None
            `bw_method` of :class:`scipy.stats.gaussian_kde`; None for Scott's rule. What it multiplies is the standard
            deviation, or the interquartile range divided by 1.349 if that is smaller, so that single genes with large
            errors do not flatten the curve.
        line_kw : dict, default=None
            Style of the curves, over the defaults.
        legend_kw : dict, default=None
            Parameters of the legend, over the defaults. It is put beside axes of figures with a layout engine
            (``layout="constrained"``), which makes room for it.

        Returns
        -------
        self : GenewiseErrorDisplay
            The display.

        Notes
        -----
        Errors are not negative: what a kernel spreads below zero is folded back. The axis ends where 0.1% of the genes
        are left of the model with the longest tail, or earlier where single models or genes are far worse than the
        others; the legend counts what is beyond.
        """
        finite, left_out = finite_genes({str(name): values for name, values in self.errors.items()}, "errors")
        end = end_of_errors(list(finite.values()))
        grid = np.linspace(0.0, end, N_POINTS)
        densities = {name: density_of_errors(errors, grid, bandwidth) for name, errors in finite.items()}
        (self.ax_,) = axes_for(self, ax, (8.0, 4.0))
        self.figure_ = self.ax_.figure
        self.lines_, self.median_lines_ = [], []
        for index, (name, errors) in enumerate(finite.items()):
            style = merged({"label": _label(name, errors, end), **line_style(index), "linewidth": 1.8}, line_kw)
            self._draw_model(float(np.median(errors)), grid, densities[name], style)
        without_box(self.ax_)
        ylabel = f"density of {plural(len(next(iter(finite.values()))), 'target gene')}"
        ylabel += f"\n({plural(left_out, 'gene')} without finite errors left out)" if left_out else ""
        self.ax_.set(xlabel=f"mean absolute error ({self.unit})", ylabel=ylabel, ylim=(0, None))
        self.ax_.set_xlim(start_of_errors(finite, densities, grid), end)
        self.legend_ = legend_beside(self.ax_, legend_kw, own=ax is None, title="model (median error)")
        return self

    def _draw_model(self, median: float, grid: np.ndarray, density: np.ndarray | None, style: Style) -> None:
        """The density of a model and its median; one vertical line for both where errors hardly differ."""
        if density is None:
            line = self.ax_.axvline(median, **style)
            self.lines_.append(line)
            self.median_lines_.append(line)
            return
        self.lines_ += self.ax_.plot(grid, density, **style)
        thin: Style = {"color": self.lines_[-1].get_color(), "linestyle": self.lines_[-1].get_linestyle()}
        top = float(np.interp(median, grid, density))
        self.median_lines_ += self.ax_.plot([median, median], [0.0, top], linewidth=0.9, **thin)


class GenewiseComparisonDisplay:
    """One model's gene-wise errors against another's, a point for each target gene.

    Figures 3 and 4 of Chen et al. [1]_: above the diagonal are the genes that the model infers with a lower error than
    the other one.

    Parameters
    ----------
    errors, other_errors : ndarray of shape (n_targets,)
        Gene-wise errors of the two models. Genes without both are left out, and counted.
    names : tuple of two str, default=("model", "other")
        What to call them.
    unit : str, default="units of y"
        What the errors are measured in, for the labels.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    points_ : matplotlib.collections.PathCollection or PolyCollection
        The genes, or hexagons where there are more than 20,000.
    diagonal_ : matplotlib.lines.Line2D
        Where both have the same error.
    texts_ : list of matplotlib.text.Text
        The share of the genes that each model wins.

    See Also
    --------
    GenewiseErrorDisplay : Densities of the errors of several models.
    dgex.metrics.win_rate : The share of the genes that a model wins.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    Two baselines side by side, as in the paper, are two displays on two axes; here is one.

    >>> from sklearn.linear_model import LinearRegression
    >>> from dgex import KNNGeneRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import GenewiseComparisonDisplay
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = LinearRegression().fit(data.X[:200], data.y[:200])
    >>> other = KNNGeneRegressor().fit(data.X[:200], data.y[:200])
    >>> display = GenewiseComparisonDisplay.from_estimator(model, other, data.X[200:], data.y[200:])
    >>> print(display.plot().texts_[0].get_text())
    LinearRegression better:
    50 genes (100.0%)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    points_: PathCollection | PolyCollection
    diagonal_: Line2D
    texts_: list[Text]

    def __init__(
        self,
        errors: np.ndarray,
        other_errors: np.ndarray,
        *,
        names: tuple[str, str] = ("model", "other"),
        unit: str = "units of y",
    ):
        self.errors = errors
        self.other_errors = other_errors
        self.names = names
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        model: Any,
        other: Any,
        X: Any,
        y: Any,
        *,
        names: tuple[str, str] | None = None,
        scale: Any = None,
        unit: str | None = None,
    ) -> GenewiseComparisonDisplay:
        """Compute the errors of two fitted models.

        Parameters
        ----------
        model, other : estimator
            The fitted models.
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets)
            Measured expression of the target genes.
        names : tuple of two str, default=None
            What to call them; None for their classes.
        scale : array-like of shape (n_targets,), default=None
            What to divide each gene's error by, such as `target_scale_` of a fitted `DGEXRegressor`.
        unit : str, default=None
            What the errors are measured in; None for "standardized expression" with a scale, else "units of y".

        Returns
        -------
        display : GenewiseComparisonDisplay
            Not drawn yet.
        """
        classes = different_names(model_name(model), model_name(other))
        require_genes_of({classes[0]: model, classes[1]: other}, column_names(y))
        require_same_profiles(X, y)
        names = classes if names is None else names
        return cls.from_predictions(y, model.predict(X), other.predict(X), names=names, scale=scale, unit=unit)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        y_pred_other: Any,
        *,
        names: tuple[str, str] = ("model", "other"),
        scale: Any = None,
        unit: str | None = None,
    ) -> GenewiseComparisonDisplay:
        """Compute the errors of the predictions of two models.

        Parameters
        ----------
        y_true : array-like of shape (n_profiles, n_targets)
            Measured expression.
        y_pred, y_pred_other : array-like of shape (n_profiles, n_targets)
            Expression inferred by the two models.
        names : tuple of two str, default=("model", "other")
            What to call them.
        scale : array-like of shape (n_targets,), default=None
            What to divide each gene's error by.
        unit : str, default=None
            What the errors are measured in; None for "standardized expression" with a scale, else "units of y".

        Returns
        -------
        display : GenewiseComparisonDisplay
            Not drawn yet.
        """
        if isinstance(names, str) or len(names) != 2:
            raise ValueError(f"Got names={names!r}, but expected two: those of the model and of the other one.")
        errors, other_errors = (genewise_mae(y_true, values, scale=scale) for values in (y_pred, y_pred_other))
        return cls(errors, other_errors, names=(names[0], names[1]), unit=unit_of(unit, scale))

    def plot(
        self,
        ax: Any = None,
        *,
        points_kw: Mapping[str, Any] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> GenewiseComparisonDisplay:
        """Draw a point for each gene, the diagonal, and the share of the genes won by each model.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        points_kw : dict, default=None
            Parameters of `scatter` (`hexbin` beyond 20,000 genes), over the defaults.
        line_kw : dict, default=None
            Style of the diagonal, over the defaults.

        Returns
        -------
        self : GenewiseComparisonDisplay
            The display.
        """
        finite, left_out = finite_genes({"errors": self.errors, "other_errors": self.other_errors}, "errors")
        errors, other_errors = finite.values()
        (self.ax_,) = axes_for(self, ax, cloud_size(len(errors)))
        self.figure_ = self.ax_.figure
        own, other = self._shares(errors, other_errors)
        equal = int(np.count_nonzero(errors == other_errors))
        other += f"\n({plural(equal, 'gene')} equal)" if equal else ""
        other += f"\n({plural(left_out, 'gene')} without finite errors)" if left_out else ""
        lines = max(own.count("\n"), other.count("\n")) + 1
        corners = ("upper left", "lower right")
        limits = with_room_for_text(errors, other_errors, shared_limits(errors, other_errors), corners, lines)
        self.points_ = draw_cloud(self.ax_, errors, other_errors, limits, points_kw, "target genes")
        self.diagonal_ = draw_diagonal(self.ax_, limits, line_kw)
        beyond = n_outside(errors, other_errors, limits)
        other += f"\n({plural(beyond, 'gene')} beyond the axes)" if beyond else ""
        self.texts_ = [corner_text(self.ax_, own, "upper left"), corner_text(self.ax_, other, "lower right")]
        xlabel, ylabel = (wrapped(f"{name}: mean absolute error") + f"\n({self.unit})" for name in self.names)
        self.ax_.set(xlabel=xlabel, ylabel=ylabel)
        return self

    def _shares(self, errors: np.ndarray, other_errors: np.ndarray) -> tuple[str, str]:
        """What to say of either model; genes with equal errors are won by neither."""
        shares = (win_rate(errors, other_errors), win_rate(other_errors, errors))
        genes = (plural(round(share * len(errors)), "gene") for share in shares)
        first, second = (
            f"{wrapped(f'{name} better:')}\n{count} ({share:.1%})"
            for name, count, share in zip(self.names, genes, shares, strict=True)
        )
        return first, second


def _label(name: str, errors: np.ndarray, end: float) -> str:
    """A model with its median, and how many genes are beyond the axis if these are more than usual."""
    beyond = int(np.count_nonzero(errors > end))
    note = f"; {plural(beyond, 'gene')} beyond" if beyond > np.ceil((1 - SHOWN_SHARE) * len(errors)) else ""
    return f"{name} ({three_digits(float(np.median(errors)))}{note})"
