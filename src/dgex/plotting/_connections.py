"""Which landmarks, hidden units and targets the strongest weights of a network connect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dgex.plotting._legend import legend_below
from dgex.plotting._style import Style, axes_for, innermost, merged, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from matplotlib.legend import Legend
    from matplotlib.text import Annotation

    from dgex._table import Table
    from dgex.interpretation import HubUnit, MajorWeights

# Vermillion and blue of Okabe and Ito: red and blue, as in the paper, for all kinds of colour vision.
POSITIVE, NEGATIVE = "#D55E00", "#0072B2"

# All connections together put so much ink on the paper, however many there are.
INK = 500.0

# A bar tells so many neighbouring groups of genes or units apart.
MAX_CELLS = 800

# Half the height of a layer's bar, when layers are one apart.
BAR = 0.022


# So many points of width a hub has for what stands beside its disc; with less, this is below and above by turns.
HUB_WIDTH = 62.0
BESIDE: Style = {"xytext": (11, 0), "va": "center"}
BELOW: Style = {"xytext": (0, -12), "ha": "center", "va": "top"}
ABOVE: Style = {"xytext": (0, 12), "ha": "center", "va": "bottom"}


class ConnectionMapDisplay:
    r"""Landmarks, hidden units and targets of a network, joined by its major weights, with hubs highlighted.

    Supplementary S3 of Chen et al. [1]_: positive weights are red, negative ones blue; connections of hub units, those
    with the most major weights to targets, stand out. The direct connections of a linear path, such as that of
    `recipes.modern`, are not shown.

    Parameters
    ----------
    weights : MajorWeights
        The connections, as :func:`dgex.interpretation.major_weights` returns them.
    hubs : sequence of HubUnit, default=()
        Units to highlight, as :func:`dgex.interpretation.hub_units` returns them.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    edges_ : list of matplotlib.collections.LineCollection
        Connections from each layer to the next.
    hub_edges_ : list of matplotlib.collections.LineCollection
        Those of hub units among them, drawn again on top.
    nodes_ : list of matplotlib.image.AxesImage
        The genes or units of each layer, dark where they are connected.
    hubs_ : matplotlib.collections.PathCollection or None
        The hub units.
    texts_ : list of matplotlib.text.Annotation
        Their numbers, and how many targets they have.
    legend_ : matplotlib.legend.Legend
        What the colours are.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import ConnectionMapDisplay
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X, data.y)
    >>> display = ConnectionMapDisplay.from_estimator(model, n_std_in=2.0, n_std_out=2.5, n_hubs=2)
    >>> [label.get_text() for label in display.plot().ax_.get_yticklabels()]
    ['20 landmark\ngenes', '100 hidden\nunits', '50 target\ngenes']
    """

    ax_: Axes
    figure_: Figure | SubFigure
    edges_: list[LineCollection]
    hub_edges_: list[LineCollection]
    nodes_: list[AxesImage]
    hubs_: PathCollection | None
    texts_: list[Annotation]
    legend_: Legend

    def __init__(self, weights: MajorWeights, hubs: Sequence[HubUnit] = ()):
        self.weights = weights
        self.hubs = hubs

    @classmethod
    def from_estimator(
        cls, model: Any, *, n_std_in: float = 4.0, n_std_out: float = 5.0, n_hubs: int = 5
    ) -> ConnectionMapDisplay:
        """Find the major weights and the hub units of a fitted network.

        Parameters
        ----------
        model : DGEXRegressor
            A fitted network, also within a pipeline or a search.
        n_std_in : float, default=4.0
            A weight of a landmark is major beyond so many standard deviations; see
            :func:`dgex.interpretation.major_weights`.
        n_std_out : float, default=5.0
            A weight of a target is major beyond so many standard deviations.
        n_hubs : int, default=5
            Hub units to highlight.

        Returns
        -------
        display : ConnectionMapDisplay
            Not drawn yet.
        """
        # Here, not above: it loads JAX.
        from dgex.interpretation import hub_units, major_weights

        if n_hubs < 0:
            raise ValueError(f"Got n_hubs={n_hubs!r}, but expected a number of units, 0 for none.")
        network = innermost(model)
        weights = major_weights(network, n_std_in=n_std_in, n_std_out=n_std_out)
        return cls(weights, hub_units(network, weights=weights)[:n_hubs])

    def plot(
        self,
        ax: Any = None,
        *,
        max_edges: int = 20_000,
        edge_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> ConnectionMapDisplay:
        """Draw layers from the landmarks below to the targets above.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        max_edges : int, default=20000
            Where there are more connections between two layers, those with the largest deviations are drawn.
        edge_kw : dict, default=None
            Parameters of the connections' `LineCollection`, over the defaults.
        legend_kw : dict, default=None
            Parameters of the legend below the axes, over the defaults.

        Returns
        -------
        self : ConnectionMapDisplay
            The display.

        Notes
        -----
        Genes are in the order of the data. Hidden units are in the order of their numbers, but for hubs, which are
        spread evenly: the order of hidden units means nothing. Connections are drawn as an image, also in a PDF.
        """
        layers = _layers(self.weights, self.hubs)
        (self.ax_,) = axes_for(self, ax, (10.0, 3.0 + 1.5 * (len(layers) - 1)))
        self.figure_ = self.ax_.figure
        self._draw_edges(layers, max_edges, edge_kw)
        self._draw_layers(layers)
        self._draw_hubs(layers[-2])
        self.ax_.set(xlim=(-0.01, 1.01), ylim=(-0.08, len(layers) - 1 + 0.08), xticks=[])
        self.ax_.set_yticks(range(len(layers)), [layer.name for layer in layers])
        self.ax_.tick_params(axis="y", length=0, labelsize="small")
        self.ax_.spines[:].set_visible(False)
        n_drawn, n_all = sum(len(lines.get_segments()) for lines in self.edges_), sum(map(len, _edges(self.weights)))
        title = f"{n_drawn:,} connections" + ("" if n_drawn == n_all else f", the strongest of {n_all:,}")
        self.legend_ = legend_below(self.ax_, legend_kw, handles=self._handles(), title=title)
        return self

    def _draw_edges(self, layers: Sequence[Layer], max_edges: int, edge_kw: Mapping[str, Any] | None) -> None:
        """Connections from layer to layer, fainter the more there are; those of hubs again on top."""
        self.edges_, self.hub_edges_ = [], []
        hubs = [self.weights.hidden_sizes[-1] * hub.network + hub.unit for hub in self.hubs]
        edges = _edges(self.weights)
        for level, every in enumerate(edges):
            strongest = every.strongest(max_edges)
            alpha = float(np.clip(INK / max(len(strongest), 1), 0.012, 0.4))
            heights = (level + BAR, level + 1 - BAR)
            self.edges_.append(self._lines(strongest, layers[level : level + 2], heights, alpha, edge_kw))
            # The last hidden layer is at the lower end of the last connections, and at the upper end of those before.
            ends = {len(edges) - 1: strongest.below, len(edges) - 2: strongest.above}.get(level)
            if hubs and ends is not None:
                own = strongest.some(np.isin(ends, hubs))
                strong = float(np.clip(INK / max(len(own), 1), 0.15, 0.8))
                self.hub_edges_.append(self._lines(own, layers[level : level + 2], heights, strong, edge_kw))

    def _lines(
        self,
        edges: Edges,
        layers: Sequence[Layer],
        heights: tuple[float, float],
        alpha: float,
        edge_kw: Mapping[str, Any] | None,
    ) -> LineCollection:
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgba_array

        lower, upper = layers
        segments = np.empty((len(edges), 2, 2))
        segments[:, 0, 0], segments[:, 1, 0] = lower.places[edges.below], upper.places[edges.above]
        segments[:, :, 1] = heights
        colors = to_rgba_array([NEGATIVE, POSITIVE], alpha)[(edges.weight > 0).astype(int)]
        style = merged({"colors": colors, "linewidths": 0.5, "rasterized": True}, edge_kw)
        lines = LineCollection(list(segments), **style)
        self.ax_.add_collection(lines, autolim=False)
        return lines

    def _draw_layers(self, layers: Sequence[Layer]) -> None:
        """A bar for each layer, darker where more genes or units are connected."""
        edges = _edges(self.weights)
        self.nodes_ = []
        for level, layer in enumerate(layers):
            ends = [edges[level - 1].above] if level else []
            ends += [edges[level].below] if level < len(edges) else []
            connected = np.zeros(len(layer.places))
            connected[np.unique(np.concatenate(ends))] = 1.0
            cells = (np.arange(len(connected)) * min(len(connected), MAX_CELLS)) // len(connected)
            shares = np.bincount(cells, connected[np.argsort(layer.places)]) / np.bincount(cells)
            where: Style = {"extent": (0.0, 1.0, level - BAR, level + BAR), "aspect": "auto", "zorder": 3}
            shades: Style = {"cmap": "Greys", "vmin": -0.15, "vmax": 1.3, "interpolation": "nearest"}
            self.nodes_.append(self.ax_.imshow(shares[None], **where, **shades))

    def _draw_hubs(self, layer: Layer) -> None:
        """Discs for hubs, by their number of targets, and what they are."""
        self.hubs_, self.texts_ = None, []
        if not len(self.hubs):
            return
        level, size = len(self.weights.hidden_sizes), self.weights.hidden_sizes[-1]
        x = layer.places[[size * hub.network + hub.unit for hub in self.hubs]]
        n_targets = np.array([hub.n_targets for hub in self.hubs])
        disc: Style = {"color": "black", "edgecolor": "white", "linewidth": 1.2, "zorder": 5}
        self.hubs_ = self.ax_.scatter(x, [level] * len(x), s=60 + 160 * n_targets / n_targets.max(), **disc)
        width = 72 * self.ax_.bbox.width / self.figure_.dpi  # points
        close = width < HUB_WIDTH * len(x)
        sides = cycle([BELOW, ABOVE] if close else [BESIDE])
        for place, hub in sorted(zip(x, self.hubs, strict=True), key=lambda pair: pair[0]):
            name = (f"network {hub.network}\n" if self.weights.n_networks > 1 else "") + f"unit {hub.unit}"
            box: Style = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "boxstyle": "round,pad=0.15"}
            text = f"{name}\n{plural(hub.n_targets, 'target')}"
            style: Style = {"textcoords": "offset points", "fontsize": "small", "bbox": box, "zorder": 6}
            label = self.ax_.annotate(text, (place, level), **style, **next(sides))
            self.texts_.append(label)

    def _handles(self) -> list[Any]:
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=POSITIVE, linewidth=2, label="positive weight"),
            Line2D([], [], color=NEGATIVE, linewidth=2, label="negative weight"),
        ]
        if self.hubs_ is not None:
            hub = "hub unit, and its connections"
            handles.append(Line2D([], [], color="black", linestyle="none", marker="o", markersize=9, label=hub))
        return handles


class Layer(NamedTuple):
    """A row of genes or units."""

    name: str
    places: np.ndarray  # of each, from 0 to 1


@dataclass(frozen=True, eq=False)
class Edges:
    """Connections from a layer to the next, by number in the layer (over all networks)."""

    below: np.ndarray
    above: np.ndarray
    weight: np.ndarray
    deviations: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def some(self, selection: np.ndarray) -> Edges:
        """Some of them."""
        return Edges(*(getattr(self, field.name)[selection] for field in fields(self)))

    def strongest(self, count: int) -> Edges:
        """So many with the largest deviations, the largest last: drawn on top."""
        order = np.argsort(np.abs(self.deviations), kind="stable")
        return self.some(order[max(len(order) - count, 0) :])


def _edges(weights: MajorWeights) -> list[Edges]:
    """All connections, from the landmarks to the targets."""
    sizes = weights.hidden_sizes
    edges = [_of(weights.inputs, weights.inputs["landmark_index"], _units(weights.inputs, "unit", sizes[0]))]
    for level, table in enumerate(weights.hidden):
        ends = _units(table, "unit_below", sizes[level]), _units(table, "unit", sizes[level + 1])
        edges.append(_of(table, *ends))
    outputs = weights.outputs
    return [*edges, _of(outputs, _units(outputs, "unit", sizes[-1]), outputs["target_index"])]


def _of(table: Table, below: np.ndarray, above: np.ndarray) -> Edges:
    return Edges(below, above, table["weight"], table["deviations"])


def _units(table: Table, name: str, size: int) -> np.ndarray:
    """Numbers of units over all networks."""
    return np.asarray(table["network"] * size + table[name], dtype=np.intp)


def _layers(weights: MajorWeights, hubs: Sequence[HubUnit]) -> list[Layer]:
    """The rows, from the landmarks up."""
    layers = [Layer(f"{weights.n_landmarks:,} landmark\ngenes", _evenly(weights.n_landmarks))]
    for level, size in enumerate(weights.hidden_sizes):
        of = "" if weights.n_networks == 1 else f"{weights.n_networks} x "
        depth = "" if len(weights.hidden_sizes) == 1 else f", layer {level + 1}"
        name = f"{of}{size:,} hidden\nunits{depth}"
        is_last = level == len(weights.hidden_sizes) - 1
        spread = [size * hub.network + hub.unit for hub in hubs] if is_last else []
        layers.append(Layer(name, _evenly(size * weights.n_networks, spread)))
    return [*layers, Layer(f"{weights.n_targets:,} target\ngenes", _evenly(weights.n_targets))]


def _evenly(size: int, spread: Sequence[int] = ()) -> np.ndarray:
    """Places in order, from 0 to 1; but some are taken out and spread evenly among the others."""
    slots = (np.arange(len(spread)) + 0.5) / max(len(spread), 1) * size
    chosen = np.sort(np.asarray(spread, dtype=np.intp))
    rank = np.empty(size, dtype=np.intp)
    rank[chosen] = slots.astype(np.intp)
    others = np.setdiff1d(np.arange(size), chosen)
    rank[others] = np.setdiff1d(np.arange(size), rank[chosen])
    return np.asarray((rank + 0.5) / size)
