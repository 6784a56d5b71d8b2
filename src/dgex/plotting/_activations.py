"""How well targets follow linearly from hidden units, against from the landmarks themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dgex._frames import column_names
from dgex.plotting._style import (
    axes_for,
    cloud_size,
    corner_text,
    draw_cloud,
    draw_diagonal,
    model_name,
    n_outside,
    plural,
    require_genes_of,
    require_same_length,
    shared_limits,
    with_room_for_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text


class AdjustedR2Display:
    """Adjusted R2 of each target from the activations of hidden units against that from the landmarks.

    Supplementary S2 of Chen et al. [1]_: above the diagonal are the targets that are closer to linear in what the
    network has made of the landmarks.

    Parameters
    ----------
    landmarks, activations : ndarray of shape (n_targets,)
        Adjusted R2 of linear regression on the landmarks and on the activations. NaN marks a target for which one is
        undefined: it is left out, and counted.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes drawn on.
    figure_ : matplotlib.figure.Figure
        Their figure.
    points_ : matplotlib.collections.PathCollection or PolyCollection
        The targets, or hexagons where there are more than 20,000.
    diagonal_ : matplotlib.lines.Line2D
        Where both are the same.
    texts_ : list of matplotlib.text.Text
        Targets above the diagonal, and what is left out.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> import numpy as np
    >>> from dgex.plotting import AdjustedR2Display
    >>> table = {"target": ["A", "B", "C"], "landmarks": [0.2, 0.5, np.nan], "activations": [0.4, 0.6, 0.1]}
    >>> display = AdjustedR2Display.from_table(table)
    >>> print(display.plot().texts_[0].get_text())
    higher from activations:
    2 of 2 targets (100.0%)
    """

    ax_: Axes
    figure_: Figure | SubFigure
    points_: PathCollection | PolyCollection
    diagonal_: Line2D
    texts_: list[Text]

    def __init__(self, landmarks: np.ndarray, activations: np.ndarray):
        self.landmarks = landmarks
        self.activations = activations

    @classmethod
    def from_estimator(cls, model: Any, X: Any, y: Any) -> AdjustedR2Display:
        """Compute both numbers for a fitted network.

        Parameters
        ----------
        model : DGEXRegressor
            A fitted network, also within a search or as the last step of a pipeline, whose other steps transform `X`.
        X : array-like of shape (n_profiles, n_landmarks)
            Expression of the landmark genes.
        y : array-like of shape (n_profiles, n_targets)
            Measured expression of the target genes.

        Returns
        -------
        display : AdjustedR2Display
            Not drawn yet.
        """
        # Here, not above: it loads JAX.
        from dgex.interpretation import activation_adjusted_r2

        require_genes_of({model_name(model): model}, column_names(y))
        return cls.from_table(activation_adjusted_r2(*_network_and_landmarks(model, X), y))

    @classmethod
    def from_table(cls, table: Any) -> AdjustedR2Display:
        """Take both numbers from a table.

        Parameters
        ----------
        table : Table, DataFrame or mapping
            Columns "landmarks" and "activations", as `dgex.interpretation.activation_adjusted_r2` returns them.

        Returns
        -------
        display : AdjustedR2Display
            Not drawn yet.
        """
        columns = {}
        for name in ("landmarks", "activations"):
            try:
                columns[name] = np.asarray(table[name], dtype=np.float64)
            except KeyError:
                raise ValueError(
                    f'Got a table without the column "{name}", but expected "landmarks" and "activations", as '
                    "dgex.interpretation.activation_adjusted_r2 returns them."
                ) from None
        return cls(**columns)

    def plot(
        self,
        ax: Any = None,
        *,
        points_kw: Mapping[str, Any] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> AdjustedR2Display:
        """Draw a point for each target, the diagonal, and the share of the targets above it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None for a new figure.
        points_kw : dict, default=None
            Parameters of `scatter` (`hexbin` beyond 20,000 targets), over the defaults.
        line_kw : dict, default=None
            Style of the diagonal, over the defaults.

        Returns
        -------
        self : AdjustedR2Display
            The display.
        """
        require_same_length({"landmarks": self.landmarks, "activations": self.activations}, "adjusted R2")
        landmarks, activations = (np.asarray(values, dtype=np.float64) for values in (self.landmarks, self.activations))
        defined = np.isfinite(landmarks) & np.isfinite(activations)
        if not defined.any():
            raise ValueError(
                f"Got {plural(len(defined), 'target')} without a defined adjusted R2, but expected at least one: it "
                "needs more profiles than landmarks and than hidden units. Pass more profiles."
            )
        x, y = landmarks[defined], activations[defined]
        (self.ax_,) = axes_for(self, ax, cloud_size(len(x)))
        self.figure_ = self.ax_.figure
        corners = ["upper left"] if defined.all() else ["upper left", "lower right"]
        limits = with_room_for_text(x, y, shared_limits(x, y), corners)
        self.points_ = draw_cloud(self.ax_, x, y, limits, points_kw, "target genes")
        self.diagonal_ = draw_diagonal(self.ax_, limits, line_kw)
        above = int(np.count_nonzero(y > x))
        share = f"{above:,} of {plural(len(x), 'target')} ({above / len(x):.1%})"
        self.texts_ = [corner_text(self.ax_, f"higher from activations:\n{share}", "upper left")]
        left_out = {"undefined": int(np.count_nonzero(~defined)), "beyond the axes": n_outside(x, y, limits)}
        notes = [f"{plural(count, 'target')} {why}" for why, count in left_out.items() if count]
        if notes:
            self.texts_.append(corner_text(self.ax_, "\n".join(notes), "lower right"))
        self.ax_.set(xlabel="adjusted R² from landmarks", ylabel="adjusted R² from hidden activations")
        return self


def _network_and_landmarks(model: Any, X: Any) -> tuple[Any, Any]:
    """The network inside searches and pipelines, and the landmarks as they reach it."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif hasattr(model, "steps"):
            X = model[:-1].transform(X) if len(model.steps) > 1 else X
            model = model[-1]
        else:
            return model, X
