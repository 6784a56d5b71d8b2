"""What the displays share: colours, axes, clouds of points, and the message where matplotlib is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import gaussian_kde

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.text import Text

# Okabe and Ito's colours, which all kinds of colour vision tell apart; without yellow, which is lost on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# Together with the colours, for print in black and white: 7 colours and 4 styles make 28 different lines.
LINE_STYLES = ("-", "--", "-.", ":")

# Those of the next 28.
MORE_STYLES = ((0, (9, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (9, 2, 2, 2)))

# Where line styles tell something else, those beyond 7 are told apart by markers.
MORE_MARKERS = ("", "s", "^", "D", "v", "P", "X", "*")

GREY = "#595959"

# Up to so many points are drawn one by one, more as hexagons.
MAX_POINTS = 20_000

# Longer names are wrapped.
NAME_WIDTH = 30

# So few tell nothing of a density.
FEW_POINTS = 200

# Shares of the axes that three lines of text in a corner take.
TEXT_WIDTH, TEXT_HEIGHT = 0.6, 0.17

# Limits may leave out this share of the values on either side, or so many of the values of 300 points.
FAR_SHARE, FAR_POINTS = 0.001, 3

# The axis of errors ends where the model with the longest tail has this share of its genes,
SHOWN_SHARE = 0.999

# unless this is so many times as far as for the better half of the models, or so many interquartile ranges away.
FARTHEST, LONGEST_TAIL = 5.0, 10.0

# The interquartile range of a normal distribution, in standard deviations.
NORMAL_RANGE = 1.349

# Errors that differ by less, of what is usual, are the same but for rounding.
SAME = 1e-6

# What a style may be called besides its full name.
ALIASES = {"c": "color", "lw": "linewidth", "ls": "linestyle", "ms": "markersize", "fc": "facecolor", "ec": "edgecolor"}
COLLECTION_ALIASES = {"linewidth": "linewidths", "lw": "linewidths", "facecolor": "facecolors", "fc": "facecolors"}

Style = dict[str, Any]


def line_style(index: int) -> Style:
    """Colour and line style of the index-th thing that is compared."""
    styles = (LINE_STYLES, MORE_STYLES)[index // (len(PALETTE) * len(LINE_STYLES)) % 2]
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": styles[index % len(styles)]}


def marker_style(index: int, n_points: int) -> Style:
    """Colour of the index-th line of so many points; beyond the number of colours with some markers on it."""
    style: Style = {"color": PALETTE[index % len(PALETTE)]}
    marker = MORE_MARKERS[index // len(PALETTE) % len(MORE_MARKERS)]
    return {**style, "marker": marker, "markersize": 4.5, "markevery": max(n_points // 8, 1)} if marker else style


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
        if not all(hasattr(each, "transAxes") for each in axes):
            raise TypeError(f"Got ax={type(axes[0]).__name__}, but expected axes, such as those of plt.subplots().")
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


def wrapped(name: str) -> str:
    """A name on lines of at most 30 characters."""
    return "\n".join(textwrap.wrap(name, NAME_WIDTH, break_on_hyphens=False)) or name


def corner_text(ax: Axes, text: str, corner: str) -> Text:
    """Text in the upper left or lower right corner, readable over points."""
    from matplotlib.colors import to_rgba

    left = corner == "upper left"
    colors = map(to_rgba, (ax.get_facecolor(), ax.figure.get_facecolor()))
    ground = next((color for color in colors if color[3] > 0), "none")
    return ax.text(
        *((0.03, 0.97) if left else (0.97, 0.03)),
        text,
        transform=ax.transAxes,
        ha="left" if left else "right",
        va="top" if left else "bottom",
        linespacing=1.4,
        bbox={"facecolor": ground, "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.2"},
    )


def shared_limits(*arrays: np.ndarray) -> tuple[float, float]:
    """Limits for both axes: of all values, unless few of them would take more than half of the room."""
    values = np.sort(np.concatenate(arrays))
    n_far = max(int(FAR_SHARE * len(values)), min(FAR_POINTS, len(values) // 200))  # on either side
    low, high = float(values[0]), float(values[-1])
    most_low, most_high = float(values[n_far]), float(values[-1 - n_far])
    span = most_high - most_low
    if high - low > 2 * span > 0:
        low, high = (float(end) for end in values[np.abs(values - (most_low + most_high) / 2) <= span][[0, -1]])
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def with_room_for_text(
    x: np.ndarray,
    y: np.ndarray,
    limits: tuple[float, float],
    corners: Sequence[str] = ("upper left", "lower right"),
    n_lines: int = 3,
) -> tuple[float, float]:
    """Limits widened until the corners where text of so many lines goes are free of points."""
    low, high = limits
    text_height = min(TEXT_HEIGHT * max(n_lines / 3, 1.0), 0.45)
    for _ in range(5):  # points move as the limits do
        across, up = (x - low) / (high - low), (y - low) / (high - low)
        upper_left, lower_right = (
            (a >= 0) & (a < TEXT_WIDTH) & (b > 1 - text_height) & (b <= 1)
            for a, b in ((across, up), (1 - across, 1 - up))
        )
        if "upper left" in corners and upper_left.any():
            high = low + float(y[upper_left].max() - low) / (0.99 - text_height)
        elif "lower right" in corners and lower_right.any():
            low = high - float(high - y[lower_right].min()) / (0.99 - text_height)
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
    if ax.get_xscale() != "linear" or ax.get_yscale() != "linear":
        raise ValueError("Got axes that are not linear, but expected linear ones. Set their scale after plot.")
    given = {COLLECTION_ALIASES.get(name, name): value for name, value in (given or {}).items()}
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=6)
    without_box(ax)
    cloud: PathCollection | PolyCollection
    if len(x) > MAX_POINTS:
        hexagons: Style = {"gridsize": 80, "bins": "log", "mincnt": 1, "cmap": "viridis", "linewidths": 0.1}
        cloud = ax.hexbin(x, y, **{"extent": limits * 2, "rasterized": True, **hexagons, **given})
        ax.figure.colorbar(cloud, ax=ax, label=what, shrink=0.6)
        return cloud
    style: Style = {"s": float(np.clip(4e4 / len(x), 5.0, 24.0)), "linewidths": 0.0, "rasterized": True}
    if not {"c", "color", "facecolors"} & set(given):
        if len(x) < FEW_POINTS:
            style["color"] = PALETTE[0]
        else:
            density = local_density(x, y, limits)
            order = np.argsort(density)  # the densest last, on top
            x, y, style = x[order], y[order], {**style, "c": density[order], "cmap": "viridis"}
            given = {name: _in_order(value, order) for name, value in given.items()}
    return ax.scatter(x, y, **{**style, **given})


def _in_order(value: Any, order: np.ndarray) -> Any:
    """A style that each point has by itself, in the order of drawing; others as they are."""
    return np.asarray(value)[order] if np.shape(value)[:1] == order.shape else value


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
    style = merged({"color": ax.xaxis.label.get_color(), "linewidth": 1.0, "linestyle": "--"}, given)
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


def require_genes_of(models: Mapping[str, Any], names: np.ndarray | None) -> None:
    """Raise unless these, the column names of y if it has any, are the targets of all models that know theirs."""
    for name, model in models.items():
        expected = getattr(innermost(model), "target_names_", None)
        if names is None or expected is None or np.array_equal(names, expected):
            continue
        inside = "" if hasattr(model, "target_names_") else f", with the target_names_ of the {model_name(model)} in it"
        raise ValueError(
            f"Got y with other target genes than {name!r} has been trained on: {_gene_difference(names, expected)}. "
            f"Select y[model.target_names_]{inside}."
        )


def _gene_difference(names: np.ndarray, expected: np.ndarray) -> str:
    """How many genes are missing or not expected, or in other places, and the first of them."""
    parts = []
    for what, some, others in (("missing", expected, names), ("unknown", names, expected)):
        rest = [str(gene) for gene in some[~np.isin(some, others)]]
        if rest:
            parts.append(f"{len(rest)} {what} ({', '.join(rest[:5])}{', ...' if len(rest) > 5 else ''})")
    if not parts and len(names) == len(expected):
        places = np.flatnonzero(names != expected)
        got, wanted = (", ".join(map(str, some[places[:3]])) for some in (names, expected))
        return f"the same genes, but {len(places)} in another order (got {got}, ..., expected {wanted}, ...)"
    return " and ".join(parts) or f"got {len(names)} columns, expected {len(expected)}"


def finite_genes(columns: Mapping[str, Any], what: str, noun: str = "gene") -> tuple[dict[str, np.ndarray], int]:
    """The entries that are finite in all columns, as float64, and how many are left out."""
    require_same_length(columns, what)
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    finite = np.all([np.isfinite(array) for array in arrays.values()], axis=0)
    if not finite.any():
        counts = {name: int(np.isfinite(array).sum()) for name, array in arrays.items()}
        raise ValueError(
            f"Got {plural(len(finite), noun)} of which none has finite {what} throughout, but expected at least one; "
            f"finite are {counts}. Leave out what has none."
        )
    return {name: array[finite] for name, array in arrays.items()}, int(np.count_nonzero(~finite))


def end_of_errors(errors: list[np.ndarray]) -> float:
    """Where the axis of errors ends: at the longest tail, unless this belongs to single genes or models."""
    reaches = []
    for own in errors:
        low, middle, high, most = np.quantile(own, [0.25, 0.5, 0.75, SHOWN_SHARE])
        longest = middle + LONGEST_TAIL * (high - low)
        if high > low and most > longest:  # which a single gene of a thousand can do
            most = min(np.quantile(own, SHOWN_SHARE, method="lower"), longest)
        reaches.append(most)
    # A model without errors that differ, such as a perfect one, is no measure for the others.
    same = SAME * float(np.median([np.median(own) for own in errors]))
    usual = [reach for reach, own in zip(reaches, errors, strict=True) if np.ptp(own) > same]
    farthest = FARTHEST * float(np.quantile(usual, 0.5, method="lower")) if usual else np.inf
    return 1.05 * float(max(reach for reach in reaches if reach <= farthest)) or 1.0


def start_of_errors(
    errors: Mapping[str, np.ndarray], densities: Mapping[str, np.ndarray | None], grid: np.ndarray
) -> float:
    """Where the axis of errors starts: where the first density leaves zero, or before the first vertical line."""
    starts = [float(grid[-1]) / 2]
    for name, density in densities.items():
        if density is None:
            starts.append(float(np.median(errors[name])) - 0.03 * float(grid[-1]))
        elif density.max() > 0:
            starts.append(float(grid[np.argmax(density > 1e-3 * density.max())]))
    return min(starts)


def density_of_errors(errors: np.ndarray, grid: np.ndarray, bandwidth: Any) -> np.ndarray | None:
    """The density of errors, which is zero below zero and integrates to one; None where this is a line on the grid."""
    deviation = float(errors.std())
    low, high = np.quantile(errors, [0.25, 0.75])
    usual, step = float(high - low) / NORMAL_RANGE, float(grid[1] - grid[0])
    spread = min(deviation, usual) if 2 * usual >= step else deviation  # single genes far away do not widen it
    if 2 * spread < step:
        return None
    kernels = gaussian_kde(errors, bw_method=bandwidth)
    kernels.set_bandwidth(kernels.factor * spread / deviation)
    near_zero = grid < errors.min() + 6 * np.sqrt(kernels.covariance[0, 0])
    density = kernels(grid)
    density[near_zero] += kernels(-grid[near_zero])
    return density
