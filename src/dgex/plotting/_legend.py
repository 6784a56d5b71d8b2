"""Legends beside axes, in them, or below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dgex.plotting._style import Style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.legend import Legend
    from matplotlib.transforms import Bbox

# More entries of a legend would cover what is drawn.
FEW_ENTRIES = 4

# So many entries of a legend are read in one column; more are in smaller print.
COLUMN_ENTRIES = 15

# Beside a figure of one's own, a column of small print has so many lines.
COLUMN_LINES = 40

# Sizes of a legend's text in points, tried in turn until it fits; and of a figure's own legend.
SIZES = (8.3, 7.0, 6.0, 5.0, 4.0, 3.0)
SMALL = 8.3

# Of a legend.
MOST_COLUMNS = 6

# The width in inches that a legend beside the axes of a new figure has at hand.
LEGEND_WIDTH = 2.0


def legend_beside(
    ax: Axes, given: Mapping[str, Any] | None = None, *, own: bool = False, inside: str = "best", **defaults: Any
) -> Legend:
    """A legend to the right of the axes, if the figure has a layout engine that makes room for it.

    Else in the axes, or below them if it is too large for that; the axes are then made less high. Print becomes smaller
    and columns more as needed; a figure of one's own becomes larger instead.
    """
    _without_legend(ax)
    handles = defaults.pop("handles", None) or ax.get_legend_handles_labels()[0]
    labels = [wrapped(str(handle.get_label())) for handle in handles]
    common: Style = {"handles": handles, "labels": labels, "alignment": "left", **defaults}
    if {"loc", "bbox_to_anchor"} & set(given or {}):
        return ax.legend(**{**common, "fontsize": "small", **(given or {})})
    if ax.figure.get_layout_engine() is None:
        return _legend_in_axes(ax, {**common, **(given or {})}, inside)
    beside: Style = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0, "frameon": False}
    common = {**common, **beside, **(given or {})}
    if own:
        many = len(handles) > COLUMN_ENTRIES
        n_lines = sum(label.count("\n") + 1 for label in labels)
        columns: Style = {"ncols": -(-n_lines // COLUMN_LINES), "fontsize": SMALL} if many else {}
        return _with_larger_figure(ax, ax.legend(**{**columns, **common}))
    return _fitted(ax, common, 0.6 * ax.bbox.width, ax.bbox.height, False)


def legend_below(ax: Axes, given: Mapping[str, Any] | None = None, **defaults: Any) -> Legend:
    """A legend below axes, no wider than they are; they are made less high for it if no layout engine makes room."""
    _without_legend(ax)
    style: Style = {"loc": "upper center", "frameon": False, **defaults, **(given or {})}
    if {"loc", "bbox_to_anchor"} & set(given or {}):
        return ax.legend(**style)
    if ax.figure.get_layout_engine() is None:
        return _legend_in_room_below(ax, style)
    return _fitted(ax, {"bbox_to_anchor": (0.5, -0.01), **style}, ax.bbox.width, ax.bbox.height, True)


def _without_legend(ax: Axes) -> None:
    """Take away a legend drawn before, and the room below the axes that it has taken."""
    earlier = ax.get_legend()
    if earlier is not None:
        earlier.remove()
    locator = ax.get_axes_locator()
    if isinstance(locator, RoomBelow):
        _place(ax, locator.within)


def _with_larger_figure(ax: Axes, legend: Legend) -> Legend:
    """Make a new figure as much larger as the legend beside its axes is larger than usual."""
    figure: Any = ax.figure
    extent = legend.get_window_extent()
    width, height = figure.get_size_inches()
    wider = max(extent.width / figure.dpi - LEGEND_WIDTH, 0.0)
    below_top = ax.figure.bbox.y1 - ax.bbox.y1 + extent.height
    figure.set_size_inches(width + wider, max(height, below_top / figure.dpi + 0.3))
    return legend


def _legend_in_axes(ax: Axes, style: Style, inside: str) -> Legend:
    """A legend within axes that no engine lays out, or below them in the room that they had."""
    width, height = ax.bbox.width, ax.bbox.height
    if len(style["handles"]) <= FEW_ENTRIES:
        legend = ax.legend(**{"loc": inside, "fontsize": SMALL, "title_fontsize": SMALL, **style})
        extent = legend.get_window_extent()
        if extent.width <= 0.75 * width and extent.height <= 0.5 * height and not _covers_points(ax, extent):
            return legend
        legend.remove()
    return _legend_in_room_below(ax, style)


def _legend_in_room_below(ax: Axes, style: Style) -> Legend:
    """A legend in the lower part of the room that axes had, which no engine lays out."""
    from matplotlib.transforms import ScaledTranslation

    width, height = ax.bbox.width, ax.bbox.height
    figure: Any = ax.get_figure(root=True)
    tight = ax.get_tightbbox() or ax.bbox
    depth = max(ax.bbox.y0 - tight.y0, 0.0) + 0.06 * figure.dpi  # pixels of ticks and labels
    anchor = ax.transAxes + ScaledTranslation(0.0, -depth / figure.dpi, figure.dpi_scale_trans)
    below: Style = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "bbox_transform": anchor, "frameon": False}
    legend = _fitted(ax, {**below, "borderaxespad": 0.0, **style}, width, 0.5 * height, True)
    needed = legend.get_window_extent().height + 0.06 * figure.dpi + max(depth - ax.bbox.y0, 0.0)
    _place(ax, RoomBelow(ax, min(needed / height, 0.8)))
    return legend


def _covers_points(ax: Axes, extent: Bbox) -> bool:
    """Whether points of a line that shows them are in there."""
    lines = (line for line in ax.lines if line.get_marker() not in ("", "None", None))
    points = [line.get_transform().transform(line.get_xydata()) for line in lines]
    return any(extent.contains(x, y) for x, y in np.concatenate([np.empty((0, 2)), *points]))


class RoomBelow:
    """Places axes in the upper part of the room that they have, wherever layouts move this to: an axes locator.

    Parameters
    ----------
    ax : Axes
        The axes.
    share : float
        How much of the room's height is left free below them.
    """

    def __init__(self, ax: Axes, share: float):
        self.ax = ax
        self.share = share
        self.within = ax.get_axes_locator()  # of axes in others

    def __call__(self, ax: Axes, renderer: Any) -> Bbox:
        """The place of the axes in the figure."""
        room = ax.get_position(original=True) if self.within is None else self.within(ax, renderer)
        return type(room).from_extents(room.x0, room.y0 + self.share * room.height, room.x1, room.y1)

    def get_subplotspec(self) -> SubplotSpec | None:
        """What layouts look for in a locator."""
        return self.ax.get_subplotspec()


def _place(ax: Axes, locator: Any) -> None:
    """Move axes, and what has been drawn over them by `twinx`, to where a locator, or only the figure, has them."""
    twins = getattr(ax, "_twinned_axes", None)
    for each in [ax] if twins is None else twins.get_siblings(ax):
        each.set_axes_locator(locator)
        each.apply_aspect(None if locator is None else locator(each, None))


def _fitted(ax: Axes, style: Style, width: float, height: float, wide: bool) -> Legend:
    """The legend in the largest print, with the most or fewest columns, that fits into so many pixels, or nearly."""
    columns = sorted(range(1, min(len(style["handles"]), MOST_COLUMNS) + 1), reverse=wide)
    least, best = np.inf, style
    for size in SIZES:
        for ncols in columns:
            tried = {"ncols": ncols, "fontsize": size, "title_fontsize": size, **style}
            extent = ax.legend(**tried).get_window_extent()
            excess = max(extent.width / width, extent.height / height)
            if excess < least:
                least, best = excess, tried
            if excess <= 1:
                return ax.legend(**tried)
    return ax.legend(**best)
