"""Errors by epoch of training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgex.plotting._legend import legend_beside
from dgex.plotting._style import (
    GREY,
    LINE_STYLES,
    Style,
    axes_for,
    innermost,
    marker_style,
    merged,
    named_models,
    unit_of,
    without_box,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

# Errors on the first validation set are solid; on training profiles dotted.
TRAINING = ":"
VALIDATION: tuple[Any, ...] = (
    *(LINE_STYLES[0], LINE_STYLES[1], LINE_STYLES[2], (0, (6, 1, 1, 1, 1, 1))),
    *((0, (9, 2)), (0, (9, 2, 2, 2)), (0, (3, 3, 1, 3, 1, 3, 1, 3)), (0, (2, 4))),
)
BASELINES = ((0, (6, 3)), (0, (1, 3)), (0, (8, 2, 2, 2)))

# Rates that differ by less are read off 1, 2 and 5 times powers of ten; what is lower than so many times is not shown.
FEW_OF_RATES, MOST_OF_RATES = 30.0, 1000.0

VALIDATION_ERRORS = re.compile(r"validation_mae_\d+")
ERRORS = re.compile(rf"train_mae|{VALIDATION_ERRORS.pattern}")

Record = Mapping[str, Any]


class TrainingCurveDisplay:
    """Errors by epoch of one or several networks, with their learning rates and best epochs.

    Figure 5 of Chen et al. [1]_ for networks of several dropout rates.

    Parameters
    ----------
    histories : mapping of str to sequence of mapping
        `history_` of each model: one record per epoch.
    best_epochs : mapping of str to int or sequence of int, default=None
        Epochs to mark, by model; several where a model has several networks. None for the lowest errors on the first
        validation set.
    validation_names : sequence of str, default=None
        What to call the validation sets; None to number them, if there are several.
    baselines : mapping of str to float, default=None
        Errors of other models, as horizontal lines.
    unit : str, default="standardized expression"
        What errors are measured in, for the label.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes of errors.
    rate_ax_ : matplotlib.axes.Axes or None
        The axes of learning rates.
    axes_ : ndarray of matplotlib.axes.Axes
        Both, or one.
    figure_ : matplotlib.figure.Figure
        Their figure.
    lines_ : dict of (str, str) to matplotlib.lines.Line2D
        Errors by model and column of the history, such as ("DGEXRegressor", "train_mae").
    rate_lines_ : dict of str to matplotlib.lines.Line2D
        Learning rates by model.
    best_ : dict of str to matplotlib.lines.Line2D
        The marks of best epochs by model.
    baseline_lines_ : list of matplotlib.lines.Line2D
        Errors of other models.
    legend_ : matplotlib.legend.Legend
        What is what.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import TrainingCurveDisplay
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> network = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0)
    >>> rates = {"no dropout": 0.0, "dropout 10 %": 0.1}
    >>> models = {name: clone(network).set_params(dropout=rate) for name, rate in rates.items()}
    >>> models = {name: model.fit(data.X, data.y) for name, model in models.items()}
    >>> display = TrainingCurveDisplay.from_estimator(models).plot()
    >>> list(display.lines_)[:2]
    [('no dropout', 'train_mae'), ('no dropout', 'validation_mae_0')]
    """

    ax_: Axes
    rate_ax_: Axes | None
    axes_: np.ndarray
    figure_: Figure | SubFigure
    lines_: dict[tuple[str, str], Line2D]
    rate_lines_: dict[str, Line2D]
    best_: dict[str, Line2D]
    baseline_lines_: list[Line2D]
    legend_: Legend

    def __init__(
        self,
        histories: Mapping[str, Sequence[Record]],
        *,
        best_epochs: Mapping[str, int | Sequence[int]] | None = None,
        validation_names: Sequence[str] | None = None,
        baselines: Mapping[str, float] | None = None,
        unit: str = "standardized expression",
    ):
        self.histories = histories
        self.best_epochs = best_epochs
        self.validation_names = validation_names
        self.baselines = baselines
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        models: Any,
        *,
        validation_names: Sequence[str] | None = None,
        baselines: Mapping[str, float] | None = None,
        unit: str | None = None,
    ) -> TrainingCurveDisplay:
        """Take the histories of fitted networks.

        Parameters
        ----------
        models : mapping of str to estimator, or estimator
            Fitted `DGEXRegressor` by name, also within pipelines and searches; a single one is named by its class.
        validation_names : sequence of str, default=None
            What to call the validation sets; None to number them, if there are several.
        baselines : mapping of str to float, default=None
            Errors of other models in the same units, as horizontal lines.
        unit : str, default=None
            What errors are measured in, for the label; None for "standardized expression", or for "units of y" of
            models with ``standardize=False``.

        Returns
        -------
        display : TrainingCurveDisplay
            Not drawn yet.
        """
        networks = {name: innermost(model) for name, model in named_models(models).items()}
        for name, network in networks.items():
            if not hasattr(network, "history_"):
                raise TypeError(
                    f"Got {name!r}, a {type(network).__name__} without history_, but expected a fitted DGEXRegressor."
                )
        histories = {name: network.history_ for name, network in networks.items()}
        best_epochs = {
            name: [] if network.best_score_ is None else np.atleast_1d(network.best_epoch_).tolist()
            for name, network in networks.items()
        }
        units = {name: unit or _unit(network) for name, network in networks.items()}
        if len(set(units.values())) > 1:
            raise ValueError(
                f"Got models whose errors are in different units: {units}, but expected the same. Draw them on axes of "
                "their own, or pass unit=."
            )
        shared: Style = {"validation_names": validation_names, "baselines": baselines}
        return cls(histories, best_epochs=best_epochs, unit=next(iter(units.values())), **shared)

    def plot(
        self,
        ax: Any = None,
        *,
        line_kw: Mapping[str, Any] | None = None,
        baseline_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> TrainingCurveDisplay:
        """Draw errors, and below them learning rates.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or sequence of two, default=None
            Axes to draw on: one for the errors only, or two for errors and learning rates; None for a new figure with
            both.
        line_kw : dict, default=None
            Style of the lines, over the defaults.
        baseline_kw : dict, default=None
            Style of the other models' lines, over the defaults.
        legend_kw : dict, default=None
            Parameters of the legend, over the defaults. It is put beside axes of figures with a layout engine
            (``layout="constrained"``), which makes room for it.

        Returns
        -------
        self : TrainingCurveDisplay
            The display.

        Notes
        -----
        Of a model with several networks the mean over all targets is drawn; the best epoch of each is marked on it.
        """
        if isinstance(self.validation_names, str):
            raise TypeError(
                f"Got validation_names={self.validation_names!r}, but expected a sequence of names, one for each "
                f"validation set, such as [{self.validation_names!r}]."
            )
        curves = {name: _columns(name, history) for name, history in self.histories.items()}
        best = {name: self._best(name, columns) for name, columns in curves.items()}
        n_axes = 2 if ax is None or np.size(np.asarray(ax, dtype=object)) != 1 else 1
        grid: Style = {"nrows": 2, "sharex": True, "height_ratios": [3, 1]}
        axes = axes_for(self, ax, (7.2, 4.8), n_axes, **grid)
        self.axes_ = np.array(axes, dtype=object)
        self.ax_, self.rate_ax_ = axes[0], axes[1] if n_axes == 2 else None
        self.figure_ = self.ax_.figure
        self._draw_errors(curves, line_kw)
        self._mark_best(curves, best)
        self.baseline_lines_ = []
        for index, (name, error) in enumerate(({} if self.baselines is None else self.baselines).items()):
            style: Style = {"linestyle": BASELINES[index % len(BASELINES)], "linewidth": 1.0, "zorder": 1}
            style = merged({"color": GREY, "label": name, **style}, baseline_kw)
            self.baseline_lines_.append(self.ax_.axhline(error, **style))
        self._draw_rates(curves, line_kw)
        axes[-1].set_xlabel("epoch")
        self.ax_.set_ylabel(f"mean absolute error\n({self.unit})")
        for each in axes:
            each.locator_params(axis="x", integer=True, min_n_ticks=1)
            without_box(each)
        self.legend_ = legend_beside(self.ax_, legend_kw, own=ax is None, handles=self._handles())
        return self

    def _draw_errors(self, curves: Mapping[str, Mapping[str, np.ndarray]], line_kw: Mapping[str, Any] | None) -> None:
        """One model has a colour for each set of profiles, several have one each."""
        self.lines_ = {}
        for index, (name, columns) in enumerate(curves.items()):
            for number, column in enumerate(filter(ERRORS.fullmatch, columns)):
                own = marker_style(number if len(curves) == 1 else index, len(columns["epoch"]))
                style: Style = {"linestyle": _set_style(column), "linewidth": 1.6, **_dot(columns), **own}
                label = self._set_name(column) if len(curves) == 1 else f"{name}: {self._set_name(column)}"
                (line,) = self.ax_.plot(columns["epoch"], columns[column], **merged({"label": label, **style}, line_kw))
                self.lines_[name, column] = line

    def _best(self, name: str, columns: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
        """The validation set that the epoch was selected on, by its column, and where the marks go."""
        epochs = _lowest(columns) if self.best_epochs is None else np.atleast_1d(self.best_epochs.get(name, ()))
        trained = epochs[epochs > 0]  # 0 is the start, which has no errors in the history
        if not np.isin(trained, columns["epoch"]).all():
            raise ValueError(f"Got best epochs {epochs.tolist()} of {name!r}, but its history has no such epochs.")
        selected_on = _selected_on(columns, epochs)
        return None if selected_on is None else (selected_on, np.searchsorted(columns["epoch"], np.unique(trained)))

    def _mark_best(
        self, curves: Mapping[str, Mapping[str, np.ndarray]], best: Mapping[str, tuple[str, np.ndarray] | None]
    ) -> None:
        """A dot on the curve that the epoch was selected on."""
        self.best_ = {}
        for name, mark in best.items():
            if mark is None:
                continue
            column, places = mark
            style: Style = {"color": self.lines_[name, column].get_color(), "linestyle": "none", "marker": "o"}
            edge: Style = {"markersize": 7, "markeredgecolor": "white", "markeredgewidth": 1.0, "zorder": 4}
            x, y = curves[name]["epoch"][places], curves[name][column][places]
            (self.best_[name],) = self.ax_.plot(x, y, label="_best epoch", **style, **edge)

    def _draw_rates(self, curves: Mapping[str, Mapping[str, np.ndarray]], line_kw: Mapping[str, Any] | None) -> None:
        self.rate_lines_ = {}
        if self.rate_ax_ is None:
            return
        for index, (name, columns) in enumerate(curves.items()):
            own = {"color": GREY} if len(curves) == 1 else marker_style(index, len(columns["epoch"]))
            style: Style = {
                "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
                "linewidth": 1.4,
                **_dot(columns),
                **own,
            }
            style = merged({"label": name, **style, "drawstyle": "steps-mid"}, line_kw)
            rates = columns.get("learning_rate", np.full(len(columns["epoch"]), np.nan))
            (self.rate_lines_[name],) = self.rate_ax_.plot(columns["epoch"], rates, **style)
        from matplotlib.ticker import LogLocator, NullLocator

        self.rate_ax_.set(yscale="log", ylabel="learning\nrate")
        rates = np.concatenate([line.get_ydata() for line in self.rate_lines_.values()])
        rates = rates[np.isfinite(rates) & (rates > 0)]
        highest = rates.max(initial=0.0)
        lowest = max(rates.min(initial=highest), highest / MOST_OF_RATES)  # a cosine ends at nearly nothing
        # Powers of ten; of few of them 1, 2 and 5 times, and room for one of these at least.
        subs = (1.0, 2.0, 5.0) if highest < FEW_OF_RATES * lowest else (1.0,)
        self.rate_ax_.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
        self.rate_ax_.yaxis.set_minor_locator(NullLocator())
        self.rate_ax_.yaxis.set_major_formatter("{x:g}")
        if len(rates):
            self.rate_ax_.set_ylim(lowest / 2, highest * 2)

    def _handles(self) -> list[Line2D]:
        """Entries of the legend: models by colour, sets of profiles by line style."""
        from matplotlib.lines import Line2D

        handles = list(self.lines_.values())
        if len(self.histories) > 1:
            columns = dict.fromkeys(column for _, column in self.lines_)
            shown = {name: (line.get_color(), line.get_marker()) for (name, _), line in self.lines_.items()}
            handles = [
                Line2D([], [], color=color, marker="" if marker == "." else marker, linewidth=3, label=name)
                for name, (color, marker) in shown.items()
            ]
            handles += [
                Line2D([], [], color=GREY, linestyle=_set_style(column), linewidth=1.6, label=self._set_name(column))
                for column in columns
            ]
        if self.best_:
            color = next(iter(self.best_.values())).get_color() if len(self.histories) == 1 else GREY
            handles.append(Line2D([], [], color=color, linestyle="none", marker="o", markersize=7, label="best epoch"))
        return handles + self.baseline_lines_

    def _set_name(self, column: str) -> str:
        """What to call the profiles that a column of the history is about."""
        if column == "train_mae":
            return "training"
        number = int(column.rpartition("_")[2])
        if self.validation_names is not None and number < len(self.validation_names):
            return self.validation_names[number]
        several = any("validation_mae_1" in record for history in self.histories.values() for record in history)
        return f"validation set {number}" if several else "validation"


def _unit(network: Any) -> str:
    """What a network's errors by epoch are measured in."""
    scale = np.asarray(getattr(network, "target_scale_", 0.0))
    return unit_of(None, scale=None if (scale == 1).all() else scale)


def _columns(name: str, history: Sequence[Record]) -> dict[str, np.ndarray]:
    """A history as arrays by column, NaN where an epoch has no such number."""
    if not len(history):
        raise ValueError(
            f"Got no epochs of {name!r}: it was trained for none (max_iter=0), and there is no curve to draw. Leave "
            "the model out, or train it."
        )
    if "epoch" not in history[0] or "train_mae" not in history[0]:
        raise ValueError(
            f"Got a history of {name!r} without epochs, but expected history_ of a fitted DGEXRegressor: records with "
            '"epoch", "train_mae" and others.'
        )
    names = dict.fromkeys(column for record in history for column in record)
    rows = [{name: np.nan if value is None else value for name, value in record.items()} for record in history]
    columns = {column: np.array([row.get(column, np.nan) for row in rows]) for column in names}
    if not any(np.isfinite(columns[column]).any() for column in filter(ERRORS.fullmatch, columns)):
        raise ValueError(
            f"Got a history of {name!r} without any finite error in {len(history)} epochs, but expected some to draw: "
            "training has diverged. Leave the model out, or train it with a lower learning_rate_init."
        )
    return columns


def _lowest(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The epoch with the lowest error on the first validation set; none without one."""
    errors = columns.get("validation_mae_0")
    if errors is None or np.isnan(errors).all():
        return np.array([], dtype=int)
    return columns["epoch"][[np.nanargmin(errors)]]


def _selected_on(columns: Mapping[str, np.ndarray], epochs: np.ndarray) -> str | None:
    """The validation set, by its column, on which these epochs have the lowest errors; else the first; None without."""
    sets = [column for column in columns if VALIDATION_ERRORS.fullmatch(column)]
    if not sets or not (epochs > 0).any():
        return None
    for column in sets:
        own = [f"{column}_partition_{number}" for number in range(len(epochs))] if len(epochs) > 1 else [column]
        if all(name in columns and not np.isnan(columns[name]).all() for name in own):
            lowest = np.array([columns["epoch"][np.nanargmin(columns[name])] for name in own])
            if np.array_equal(lowest[epochs > 0], epochs[epochs > 0]):
                return column
    return sets[0]


def _set_style(column: str) -> Any:
    if column == "train_mae":
        return TRAINING
    return VALIDATION[int(column.rpartition("_")[2]) % len(VALIDATION)]


def _dot(columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    """A marker where a line would have one point only, and not be seen."""
    return {"marker": "."} if len(columns["epoch"]) == 1 else {}
