"""Errors of networks by layers, units and dropout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgex._frames import is_missing
from dgex.plotting._legend import legend_beside
from dgex.plotting._style import GREY, Style, axes_for, line_style, merged, without_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

SMALLEST = 4.0  # points of text

# Where less than this share of a label's width is at hand, labels are turned instead of made smaller.
LEGIBLE = 0.7

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # other than colours in number, so that they come together later
BASELINE_STYLES = ("--", ":", "-.", (0, (1, 3)), (0, (6, 3)))

# Room between numbers of layers, in units of that between two sizes.
GAP = 0.7

Units = int | tuple[int, ...]  # of each hidden layer; a tuple where they differ


class ArchitectureDisplay:
    """Overall errors of networks by number of layers, units per layer and dropout.

    Figure 1 of Chen et al. [1]_, with the errors of other models as horizontal lines.

    Parameters
    ----------
    layers : sequence of int
        Number of hidden layers of each architecture.
    units : sequence of int or tuple of int
        Units of each hidden layer; a tuple where layers differ.
    dropout : sequence of float
        Dropout rate; NaN if it was not varied.
    errors : ndarray of shape (n_architectures,)
        Errors. NaN is left out.
    deviations : ndarray of shape (n_architectures,), default=None
        Standard deviations, drawn as bars; NaN for none.
    baselines : mapping of str to float, default=None
        Errors of other models.
    label : str, default="overall error"
        What the errors are, for the axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    errorbars_ : list of matplotlib.container.ErrorbarContainer
        Errors and bars of each dropout rate.
    lines_ : list of matplotlib.lines.Line2D
        The lines among them.
    baseline_lines_ : list of matplotlib.lines.Line2D
        Errors of other models.
    texts_ : list of matplotlib.text.Text
        Numbers of layers.
    legend_ : matplotlib.legend.Legend or None
        Dropout rates and other models.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex.plotting import ArchitectureDisplay
    >>> rows = [
    ...     {"layers": layers, "units": units, "dropout": dropout, "error": 0.35 - 0.005 * layers - 0.1 * dropout}
    ...     for layers in (1, 2, 3) for units in (3000, 6000, 9000) for dropout in (0.0, 0.1)
    ... ]
    >>> display = ArchitectureDisplay.from_results(rows, baselines={"least squares": 0.378})
    >>> [text.get_text() for text in display.plot().texts_]
    ['1 hidden layer', '2 hidden layers', '3 hidden layers']
    """

    ax_: Axes
    figure_: Figure | SubFigure
    errorbars_: list[ErrorbarContainer]
    lines_: list[Line2D]
    baseline_lines_: list[Line2D]
    texts_: list[Text]
    legend_: Legend | None

    def __init__(
        self,
        layers: Sequence[int],
        units: Sequence[Units],
        dropout: Sequence[float],
        errors: np.ndarray,
        *,
        deviations: np.ndarray | None = None,
        baselines: Mapping[str, float] | None = None,
        label: str = "overall error",
    ):
        self.layers = layers
        self.units = units
        self.dropout = dropout
        self.errors = errors
        self.deviations = deviations
        self.baselines = baselines
        self.label = label

    @classmethod
    def from_results(
        cls,
        rows: Any,
        *,
        baselines: Mapping[str, float] | None = None,
        label: str = "overall error",
    ) -> ArchitectureDisplay:
        """Take errors from results; those of an architecture that was trained several times are averaged.

        Parameters
        ----------
        rows : DataFrame, Table or iterable of mapping
            Each row with "layers", "units", "dropout" and "error".
        baselines : mapping of str to float, default=None
            Errors of other models.
        label : str, default="overall error"
            What the errors are, for the axis.

        Returns
        -------
        display : ArchitectureDisplay
            Not drawn yet. Its bars are standard deviations over the networks of an architecture (the sample's).
        """
        groups: dict[tuple[int, Units, float], list[float]] = {}
        for row in _records(rows):
            layers, units, rate, error = _entries(row)
            groups.setdefault((layers, units, rate), []).append(error)
        if not groups:
            raise ValueError("Got no rows, but expected at least one.")
        n_layers, sizes, dropout = zip(*groups, strict=True)
        deviations = np.array([np.std(errors, ddof=1) if len(errors) > 1 else np.nan for errors in groups.values()])
        errors = np.array([np.mean(errors) for errors in groups.values()])
        return cls(n_layers, sizes, dropout, errors, deviations=deviations, baselines=baselines, label=label)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        *,
        score: str = "score",
        baselines: Mapping[str, float] | None = None,
        label: str | None = None,
    ) -> ArchitectureDisplay:
        """Take errors from a search of scikit-learn's.

        Parameters
        ----------
        cv_results : mapping of str to array
            `cv_results_` of a fitted search over `hidden_layer_sizes` and `dropout`, or one of them with a name of a
            pipeline's step before it.
        score : str, default="score"
            Which score, if there were several.
        baselines : mapping of str to float, default=None
            Errors of other models.
        label : str, default=None
            What is drawn, for the axis; None for "cross-validated score", or for "cross-validated error" where the sign
            was changed.

        Returns
        -------
        display : ArchitectureDisplay
            Not drawn yet. Its bars are standard deviations over the folds. Where other parameters were searched too,
            the best candidate of each architecture is shown. Scores that are all negative or zero are those of errors:
            their sign is changed.
        """
        scores, deviations = (_column(cv_results, f"{kind}_test_{score}") for kind in ("mean", "std"))
        sizes = _parameter(cv_results, "hidden_layer_sizes")
        if sizes is None:
            raise ValueError(
                "Got results of a search without param_hidden_layer_sizes, but expected architectures to compare. "
                "Search hidden_layer_sizes, or pass rows to ArchitectureDisplay.from_results."
            )
        dropout = _parameter(cv_results, "dropout")
        rates = np.full(len(scores), np.nan) if dropout is None else np.ma.filled(dropout.astype(float), np.nan)
        best: dict[tuple[Any, ...], int] = {}
        for index in np.argsort(-scores, kind="stable"):  # NaN, of fits that failed, comes last
            if not np.ma.getmaskarray(sizes)[index]:
                rate = None if np.isnan(rates[index]) else float(rates[index])
                best.setdefault((*_architecture(sizes[index]), rate), int(index))
        chosen = list(best.values())
        layers, units, _ = zip(*best, strict=True)
        are_errors = bool(np.all(scores[~np.isnan(scores)] <= 0))
        return cls(
            layers,
            units,
            [float(rates[index]) for index in chosen],
            -scores[chosen] if are_errors else scores[chosen],
            deviations=deviations[chosen],
            baselines=baselines,
            label=label or ("cross-validated error\n(negated score)" if are_errors else "cross-validated score"),
        )

    def plot(
        self,
        ax: Any = None,
        *,
        line_kw: Mapping[str, Any] | None = None,
        baseline_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> ArchitectureDisplay:
        """Draw a line for each dropout rate, and one for each other model.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        line_kw : dict, default=None
            Parameters of `errorbar`, over the defaults.
        baseline_kw : dict, default=None
            Style of the other models' lines, over the defaults.
        legend_kw : dict, default=None
            Parameters of the legend, over the defaults. It is put beside axes of figures with a layout engine
            (``layout="constrained"``), which makes room for it.

        Returns
        -------
        self : ArchitectureDisplay
            The display.
        """
        if not np.isfinite(np.asarray(self.errors, dtype=np.float64)).any():
            raise ValueError(f"Got {len(self.errors)} errors, but none is finite; expected at least one to draw.")
        keys = [(int(layers), _size(units)) for layers, units in zip(self.layers, self.units, strict=True)]
        places = _places(keys)
        (self.ax_,) = axes_for(self, ax, (float(np.clip(3.0 + 0.55 * len(places), 5.0, 14.0)), 4.0))
        self.figure_ = self.ax_.figure
        self._draw_rates([places[key] for key in keys], line_kw)
        self.baseline_lines_ = []
        for index, (name, error) in enumerate(({} if self.baselines is None else self.baselines).items()):
            style: Style = {
                "color": GREY,
                "linestyle": BASELINE_STYLES[index % len(BASELINE_STYLES)],
                "linewidth": 1.2,
                "zorder": 1,
                "label": name,
            }
            line = self.ax_.axhline(error, **merged({"color": GREY, "label": name, **style}, baseline_kw))
            self.baseline_lines_.append(line)
        self._name_places(places)
        without_box(self.ax_)
        self.ax_.set(xlabel="units per hidden layer", ylabel=self.label)
        self.legend_ = None
        labels = self.ax_.get_legend_handles_labels()[1]
        if labels:
            handles = [bar for bar in self.errorbars_ if bar.get_label() in labels] + self.baseline_lines_
            self.legend_ = legend_beside(self.ax_, legend_kw, own=ax is None, handles=handles)
        return self

    def _draw_rates(self, places: Sequence[float], line_kw: Mapping[str, Any] | None) -> None:
        """A line with bars for each dropout rate, interrupted between numbers of layers and shifted a little."""
        deviations = np.full(len(self.errors), np.nan) if self.deviations is None else np.asarray(self.deviations)
        dropout = np.asarray(self.dropout, dtype=np.float64).tolist()
        rates = sorted({None if math.isnan(rate) else rate for rate in dropout}, key=lambda rate: rate or 0.0)
        self.errorbars_ = []
        for number, rate in enumerate(rates):
            own = [i for i, other in enumerate(dropout) if other == rate or (rate is None and math.isnan(other))]
            own.sort(key=lambda i: places[i])
            # The line is interrupted, by NaN, where the number of layers changes.
            breaks = np.flatnonzero(np.diff(np.asarray(self.layers)[own])) + 1
            shift = min(0.09, 0.7 / len(rates)) * (number - (len(rates) - 1) / 2)
            shifted = [places[i] + shift for i in own]
            columns = (shifted, np.asarray(self.errors)[own], deviations[own])
            x, y, bars = (np.insert(np.asarray(column, dtype=np.float64), breaks, np.nan) for column in columns)
            label = "_network" if rate is None else f"dropout {100 * rate:g}%"
            style: Style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 5, "capsize": 2.5, "label": label}
            style = merged({**line_style(number), **style, "linewidth": 1.5, "elinewidth": 1.0}, line_kw)
            yerr = None if np.isnan(bars).all() else bars
            self.errorbars_.append(self.ax_.errorbar(x, y, yerr=yerr, **style))
        self.lines_ = [bar.lines[0] for bar in self.errorbars_]

    def _name_places(self, places: Mapping[tuple[int, Units], float]) -> None:
        """Sizes below the axis, numbers of layers above the axes."""
        names = [
            f"{size:,}" if isinstance(size, int) else "\n".join(f"{units:,}" for units in size) or "none"
            for _, size in places
        ]
        self.ax_.set_xticks(list(places.values()), names)
        positions = list(places.values())
        self.ax_.set_xlim(positions[0] - 0.5 - GAP / 2, positions[-1] + 0.5 + GAP / 2)
        labels = self.ax_.get_xticklabels()
        unit = self.ax_.bbox.width / (positions[-1] - positions[0] + 1 + GAP)
        share = 0.8 * unit / max(label.get_window_extent().width for label in labels)
        if share < LEGIBLE:
            self.ax_.tick_params(axis="x", labelrotation=90)
            share = 0.9 * unit / max(label.get_window_extent().width for label in labels)
        if share < 1:
            self.ax_.tick_params(axis="x", labelsize=max(share * float(labels[0].get_fontsize()), SMALLEST))
        self.texts_ = []
        for layers in sorted({layers for layers, _ in places}):
            own = [place for (number, _), place in places.items() if number == layers]
            if layers % 2 == 0:
                self.ax_.axvspan(own[0] - 0.5 - GAP / 2, own[-1] + 0.5 + GAP / 2, color="0.95", zorder=0, linewidth=0)
            name = f"{layers} hidden layer" + ("" if layers == 1 else "s")
            above = self.ax_.get_xaxis_transform()
            text = self.ax_.text((own[0] + own[-1]) / 2, 1.02, name, transform=above, ha="center")
            if text.get_window_extent().width > 0.95 * unit * (own[-1] - own[0] + 1 + GAP):
                text.set(text=name.replace(" layer", "\nlayer"), fontsize="small")
            self.texts_.append(text)


def _records(rows: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a DataFrame of pandas or polars; or those given."""
    if hasattr(rows, "to_dicts"):
        return rows.to_dicts()
    return rows.to_dict("records") if hasattr(rows, "to_dict") else rows


def _entries(row: Mapping[str, Any]) -> tuple[int, Units, float, float]:
    """Layers, units, dropout rate and error of a row."""
    missing = [name for name in ("layers", "units", "dropout", "error") if name not in row]
    if missing:
        raise ValueError(
            f'Got a row without {", ".join(missing)}, but expected "layers", "units", "dropout" and "error": '
            f"{dict(row)}."
        )
    values: dict[str, Any] = {}
    kinds: dict[str, Any] = {"layers": int, "units": _size, "dropout": float, "error": float}
    for name, kind in kinds.items():
        try:
            values[name] = kind(row[name])
        except (TypeError, ValueError):
            hint = " Use 0.0 for none, NaN if it was not varied." if name == "dropout" else ""
            raise ValueError(
                f"Got a row with {name}={row[name]!r}, but expected a number: {dict(row)}.{hint}"
            ) from None
    # One NaN for all, so that rows without a rate are of one architecture.
    rate = math.nan if math.isnan(values["dropout"]) else values["dropout"]
    return values["layers"], values["units"], rate, values["error"]


def _size(units: Any) -> Units:
    """Units of each hidden layer, one number where all have as many."""
    sizes = tuple(map(int, np.atleast_1d(units)))
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _places(keys: Iterable[tuple[int, Units]]) -> dict[tuple[int, Units], float]:
    """Where each number of layers and units is drawn, in order."""
    order = sorted(set(keys), key=lambda key: (key[0], np.atleast_1d(key[1]).tolist()))
    places, position = {}, 0.0
    for index, key in enumerate(order):
        if index:
            position += 1.0 + GAP * (key[0] != order[index - 1][0])
        places[key] = position
    return places


def _column(cv_results: Mapping[str, Any], name: str) -> np.ndarray:
    if name not in cv_results:
        found = [key for key in cv_results if key.startswith(name.partition("_test_")[0] + "_test_")]
        raise ValueError(f"Got results without {name}, but expected cv_results_ of a fitted search; found {found}.")
    return np.asarray(cv_results[name], dtype=np.float64)


def _parameter(cv_results: Mapping[str, Any], name: str) -> Any:
    """The values of a searched parameter, with or without a pipeline's prefix; None if it was not searched."""
    found = [key for key in cv_results if key == f"param_{name}" or (key[:6] == "param_" and key.endswith(f"__{name}"))]
    if len(found) > 1:
        raise ValueError(f"Got several parameters called {name}: {', '.join(found)}; expected one.")
    if not found:
        return None
    column = cv_results[found[0]]
    if isinstance(column, np.ndarray):
        return np.ma.asarray(column)
    values = np.empty(len(column), dtype=object)  # of tuples of different lengths
    values[:] = [tuple(value) if np.ndim(value) else value for value in column]
    # A data frame of results has NaN where a candidate leaves the parameter as it is.
    missing = np.array([is_missing(value) for value in values])
    values[missing] = np.nan
    return np.ma.array(values, mask=missing)


def _architecture(hidden_layer_sizes: Any) -> tuple[int, Units]:
    """Number of hidden layers, and their units."""
    return np.size(hidden_layer_sizes), _size(hidden_layer_sizes)
