"""What the displays share: colours, axes, legends, clouds of points, and the message where matplotlib is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.legend import Legend
    from matplotlib.text import Text

# Okabe and Ito's colours, which all kinds of colour vision tell apart; without yellow, which is lost on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# Together with the colours, for print in black and white: 7 colours and 4 styles make 28 different lines.
LINE_STYLES = ("-", "--", "-.", ":")

GREY = "#595959"

# Up to so many points are drawn one by one, more as hexagons.
MAX_POINTS = 20_000

# More entries of a legend would cover what is drawn.
FEW_ENTRIES = 4

# So few tell nothing of a density.
FEW_POINTS = 200

# Shares of the axes that text in a corner takes.
TEXT_WIDTH, TEXT_HEIGHT = 0.6, 0.17

# What a style may be called besides its full name.
ALIASES = {"c": "color", "lw": "linewidth", "ls": "linestyle", "ms": "markersize", "fc": "facecolor", "ec": "edgecolor"}


Style = dict[str, Any]


def line_style(index: int) -> Style:
    """Colour and line style of the index-th thing that is compared."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": LINE_STYLES[index % len(LINE_STYLES)]}


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any] | None) -> Style:
    """A style over its defaults."""
    return {**defaults, **{ALIASES.get(name, name): value for name, value in (given or {}).items()}}


def axes_for(display: Any, ax: Any, figsize: tuple[float, float], n_axes: int = 1, **grid: Any) -> list[Axes]:
    """The axes given, or those of a new figure."""
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n_axes:
            raise ValueError(
                f"Got {len(axes)} axes, but {type(display).__name__} draws on {n_axes}. Pass that many, or ax=None for "
                "a new figure."
            )
        return axes
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            f'{type(display).__name__}.plot needs matplotlib, which is not installed: pip install "dgex[plot]"'
        ) from None
    _, new = plt.subplots(figsize=figsize, layout="constrained", squeeze=False, **grid)
    return list(new.ravel())


def without_box(ax: Axes) -> None:
    """Only the two spines that carry ticks."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_beside(ax: Axes, given: Mapping[str, Any] | None = None, **defaults: Any) -> Legend:
    """A legend to the right of the axes, if the figure has a layout engine that makes room for it.

    Else in the axes where there is most room, or above them if there are too many entries for that.
    """
    place: Style = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0, "frameon": False}
    if ax.figure.get_layout_engine() is None:
        handles = defaults.get("handles") or ax.get_legend_handles_labels()[0]
        above: Style = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.06), "borderaxespad": 0.0, "frameon": False}
        place = {"loc": "best"} if len(handles) <= FEW_ENTRIES else {**above, "ncols": 2}
        place |= {"fontsize": "small", "title_fontsize": "small"}
    return ax.legend(**{"alignment": "left", **place, **defaults, **(given or {})})


def corner_text(ax: Axes, text: str, corner: str) -> Text:
    """Text in the upper left or lower right corner, readable over points."""
    left = corner == "upper left"
    return ax.text(
        *((0.03, 0.97) if left else (0.97, 0.03)),
        text,
        transform=ax.transAxes,
        ha="left" if left else "right",
        va="top" if left else "bottom",
        linespacing=1.4,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.2"},
    )


def shared_limits(*arrays: np.ndarray) -> tuple[float, float]:
    """Limits for both axes: of all values, unless few of them would take more than half of the room."""
    values = np.concatenate(arrays)
    low, high = float(values.min()), float(values.max())
    most_low, most_high = (float(quantile) for quantile in np.quantile(values, [0.001, 0.999]))
    if high - low > 2 * (most_high - most_low) > 0:
        low, high = most_low, most_high
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def with_room_for_text(
    x: np.ndarray,
    y: np.ndarray,
    limits: tuple[float, float],
    corners: Sequence[str] = ("upper left", "lower right"),
) -> tuple[float, float]:
    """Limits widened until the corners where text goes are free of points."""
    low, high = limits
    for _ in range(5):  # points move as the limits do
        across, up = (x - low) / (high - low), (y - low) / (high - low)
        upper_left, lower_right = (
            (a >= 0) & (a < TEXT_WIDTH) & (b > 1 - TEXT_HEIGHT) & (b <= 1)
            for a, b in ((across, up), (1 - across, 1 - up))
        )
        if "upper left" in corners and upper_left.any():
            high = low + float(y[upper_left].max() - low) / (0.99 - TEXT_HEIGHT)
        elif "lower right" in corners and lower_right.any():
            low = high - float(high - y[lower_right].min()) / (0.99 - TEXT_HEIGHT)
        else:
            break
    return low, high


def n_outside(x: np.ndarray, y: np.ndarray, limits: tuple[float, float]) -> int:
    """Points that shared limits leave out."""
    low, high = limits
    return int(np.count_nonzero((np.minimum(x, y) < low) | (np.maximum(x, y) > high)))


def draw_cloud(
    ax: Axes, x: np.ndarray, y: np.ndarray, limits: tuple[float, float], given: Mapping[str, Any] | None, what: str
) -> PathCollection | PolyCollection:
    """Points coloured by how dense they are; hexagons coloured by their number of points where there are too many.

    Either is an image within a vector graphic. The axes are made square, with the same limits, and cut by a diagonal.
    """
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=6)
    without_box(ax)
    cloud: PathCollection | PolyCollection
    if len(x) > MAX_POINTS:
        hexagons: Style = {"gridsize": 80, "bins": "log", "mincnt": 1, "cmap": "viridis", "linewidths": 0.1}
        cloud = ax.hexbin(x, y, **{"extent": limits * 2, "rasterized": True, **hexagons, **(given or {})})
        ax.figure.colorbar(cloud, ax=ax, label=what, shrink=0.6)
        return cloud
    style: Style = {"s": float(np.clip(4e4 / len(x), 5.0, 24.0)), "linewidths": 0.0, "rasterized": True}
    if not {"c", "color", "facecolor", "facecolors"} & set(given or {}):
        if len(x) < FEW_POINTS:
            style["color"] = PALETTE[0]
        else:
            density = local_density(x, y, limits)
            order = np.argsort(density)  # the densest last, on top
            x, y, style = x[order], y[order], {**style, "c": density[order], "cmap": "viridis"}
    return ax.scatter(x, y, **{**style, **(given or {})})


def cloud_size(n_points: int) -> tuple[float, float]:
    """Size of a figure for a cloud, with room for the colour bar of hexagons."""
    return (6.0, 4.8) if n_points > MAX_POINTS else (5.0, 4.8)


def local_density(x: np.ndarray, y: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """How many points lie around each, relative to the most; shape (n_points,)."""
    n_bins = int(np.clip(np.sqrt(len(x)), 20, 100))
    counts, *_ = np.histogram2d(x, y, bins=n_bins, range=[limits, limits])
    counts = gaussian_filter(counts, sigma=1.5)
    low, high = limits
    places = [(values - low) / (high - low) * n_bins - 0.5 for values in (x, y)]
    return np.asarray(map_coordinates(counts / counts.max(), places, order=1, mode="nearest"))


def draw_diagonal(ax: Axes, limits: tuple[float, float], given: Mapping[str, Any] | None) -> Any:
    """The line of equal values."""
    style = merged({"color": "black", "linewidth": 1.0, "linestyle": "--"}, given)
    return ax.axline((limits[0], limits[0]), slope=1, **style)


def plural(count: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def three_digits(value: float) -> str:
    """A number with three significant digits, zeros at the end among them."""
    return f"{value:#.3g}".rstrip(".")


def unit_of(unit: str | None, scale: Any) -> str:
    """What errors are measured in."""
    return unit or ("units of y" if scale is None else "standardized expression")


def named_models(models: Any) -> dict[str, Any]:
    """Models by name; a single one is named by its class."""
    if isinstance(models, Mapping):
        if not models:
            raise ValueError("Got no models, but expected at least one: {name: fitted estimator}.")
        return {str(name): model for name, model in models.items()}
    if not hasattr(models, "predict"):
        raise TypeError(
            f"Got {type(models).__name__}, but expected a fitted estimator, or several by name: {{name: estimator}}."
        )
    return {model_name(models): models}


def model_name(model: Any) -> str:
    """The class of a model, in a pipeline that of its last step."""
    return type(innermost(model)).__name__


def innermost(model: Any) -> Any:
    """The estimator that learned, inside pipelines, searches and transformed targets."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "regressor_"):
            model = model.regressor_
        elif hasattr(model, "steps"):
            model = model.steps[-1][1]
        else:
            return model


def different_names(first: str, second: str) -> tuple[str, str]:
    """Names for two models, told apart where their classes do not."""
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def require_same_length(columns: Mapping[str, Sequence[Any] | np.ndarray], what: str) -> None:
    """Raise unless all have an entry for each gene, and there is one."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise ValueError(f"Got {what} of lengths {sizes}, but expected the same length, at least 1: one per gene.")
