"""Distributions of profiles before and after quantile normalization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from dgex._frames import frame_values
from dgex._normalization import full_length_quantiles, require_values
from dgex.plotting._legend import legend_beside
from dgex.plotting._style import Style, axes_for, line_style, merged, without_box, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

# Where the distribution of a profile is looked at: finer towards both ends.
LEVELS = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, 201))

# Of the profiles, at every level.
BAND = (0.05, 0.5, 0.95)

# A distribution whose top is so many times its middle is drawn on a logarithmic axis.
SKEWED = 30.0


class QuantileNormalizationDisplay:
    """Distributions of expression profiles before and after quantile normalization, by platform.

    The joint quantile normalization of Chen et al. [1]_ (section 2.1, no figure of theirs): before, a panel for each
    platform; after, one for all, where the curves are the same but for what tied values become (by `ties="dense"`, the
    paper's rule for counts, these move all quantiles). A curve is the median over profiles of their sorted values, a
    band reaches from the 5th to the 95th percentile of the profiles.

    Parameters
    ----------
    before, after : mapping of str to ndarray of shape (3, n_levels)
        By platform the 5th percentile, median and 95th percentile over profiles of their quantiles at `levels`.
    levels : ndarray of shape (n_levels,)
        Levels of the quantiles within a profile, from 0 to 1.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes of profiles after normalization.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_platforms + 1,)
        All axes, that of profiles after normalization last.
    figure_ : matplotlib.figure.Figure
        Their figure.
    lines_ : dict of (str, str) to matplotlib.lines.Line2D
        Medians by platform and "before" or "after".
    bands_ : dict of (str, str) to matplotlib.collections.FillBetweenPolyCollection
        Bands by platform and "before" or "after".
    legend_ : matplotlib.legend.Legend
        Platforms.

    See Also
    --------
    dgex.QuantileJointNormalizer : The normalization.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import QuantileJointNormalizer
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.plotting import QuantileNormalizationDisplay
    >>> arrays = make_expression_profiles(50, n_targets=200, random_state=0).y
    >>> counts = make_expression_profiles(50, n_targets=200, platform="counts", random_state=0).y
    >>> of_arrays = QuantileJointNormalizer().fit(arrays)
    >>> of_counts = QuantileJointNormalizer(ties="dense", reference=of_arrays.reference_quantiles_).fit(counts)
    >>> display = QuantileNormalizationDisplay.from_estimator(
    ...     {"arrays": of_arrays, "RNA-seq": of_counts}, {"arrays": arrays, "RNA-seq": counts}
    ... )
    >>> [ax.get_title() for ax in display.plot().axes_]
    ['arrays, before', 'RNA-seq, before', 'after']
    """

    ax_: Axes
    axes_: np.ndarray
    figure_: Figure | SubFigure
    lines_: dict[tuple[str, str], Line2D]
    bands_: dict[tuple[str, str], FillBetweenPolyCollection]
    legend_: Legend

    def __init__(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], levels: np.ndarray):
        self.before = before
        self.after = after
        self.levels = levels

    @classmethod
    def from_estimator(
        cls, normalizers: Mapping[str, Any], profiles: Mapping[str, Any], *, max_profiles: int = 500
    ) -> QuantileNormalizationDisplay:
        """Normalize the profiles of every platform.

        Parameters
        ----------
        normalizers : mapping of str to QuantileJointNormalizer
            The fitted normalizer of each platform.
        profiles : mapping of str to array-like of shape (n_profiles, n_genes)
            Profiles of each platform.
        max_profiles : int, default=500
            Of platforms with more profiles, so many are used, evenly spaced.

        Returns
        -------
        display : QuantileNormalizationDisplay
            Not drawn yet.
        """
        _require_same_platforms(normalizers, profiles, ("normalizers", "profiles"))
        before = {str(name): _some(profiles[name], max_profiles) for name in profiles}
        after = {str(name): normalizers[name].transform(before[str(name)]) for name in profiles}
        return cls.from_profiles(before, after, max_profiles=max_profiles)

    @classmethod
    def from_profiles(
        cls, before: Mapping[str, Any], after: Mapping[str, Any], *, max_profiles: int = 500
    ) -> QuantileNormalizationDisplay:
        """Compute the distributions of profiles.

        Parameters
        ----------
        before, after : mapping of str to array-like of shape (n_profiles, n_genes)
            Profiles of each platform; NaN marks a missing value.
        max_profiles : int, default=500
            Of platforms with more profiles, so many are used, evenly spaced.

        Returns
        -------
        display : QuantileNormalizationDisplay
            Not drawn yet.
        """
        _require_same_platforms(before, after, ("before", "after"))
        of_before, of_after = (
            {str(name): _bands(_some(profiles[name], max_profiles)) for name in before} for profiles in (before, after)
        )
        return cls(of_before, of_after, LEVELS)

    def plot(
        self,
        ax: Any = None,
        *,
        line_kw: Mapping[str, Any] | None = None,
        band_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> QuantileNormalizationDisplay:
        """Draw a panel for each platform before normalization, and one for all after it.

        Parameters
        ----------
        ax : sequence of matplotlib.axes.Axes, default=None
            Axes to draw on, one more than platforms; None for a new figure.
        line_kw : dict, default=None
            Style of the medians, over the defaults.
        band_kw : dict, default=None
            Style of the bands, over the defaults.
        legend_kw : dict, default=None
            Parameters of the legend, over the defaults. It is put beside axes of figures with a layout engine
            (``layout="constrained"``), which makes room for it.

        Returns
        -------
        self : QuantileNormalizationDisplay
            The display.

        Notes
        -----
        The axis is logarithmic (symmetrically, so that zero has a place) for a platform whose highest values are more
        than 30 times its middle ones, such as counts.
        """
        n_axes = len(self.before) + 1
        axes = axes_for(self, ax, (1.2 + 2.7 * n_axes, 3.4), n_axes, ncols=n_axes, sharex=True)
        self.axes_ = np.array(axes, dtype=object)
        self.ax_, self.figure_ = axes[-1], axes[-1].figure
        self.lines_, self.bands_ = {}, {}
        for index, name in enumerate(self.before):
            for when, bands, own in (("before", self.before, axes[index]), ("after", self.after, axes[-1])):
                style: Style = {**line_style(index), "linewidth": 1.8}
                low, middle, high = bands[name]
                (line,) = own.plot(100 * self.levels, middle, **merged({"label": name, **style}, line_kw))
                band: Style = {"color": line.get_color(), "alpha": 0.25, "linewidth": 0.0}
                self.bands_[name, when] = own.fill_between(100 * self.levels, low, high, **merged(band, band_kw))
                self.lines_[name, when] = line
            axes[index].set_title(wrapped(f"{name}, before"))
            if _is_skewed(self.before[name]):
                _compress(axes[index], [self.before[name]])
        if any(_is_skewed(bands) for bands in self.after.values()):
            _compress(self.ax_, self.after.values())
        self.ax_.set_title("after")
        for each in axes:
            without_box(each)
            each.set(xlabel="percentile of genes", xlim=(0, 100), xticks=[0, 25, 50, 75, 100])
        axes[0].set_ylabel("expression\n(median and 5-95% of profiles)")
        self.legend_ = legend_beside(self.ax_, legend_kw, own=ax is None, inside="upper left", frameon=False)
        return self


def _require_same_platforms(first: Any, second: Any, what: tuple[str, str]) -> None:
    for name, mapping in zip(what, (first, second), strict=True):
        if not isinstance(mapping, Mapping) or not mapping:
            raise ValueError(
                f"Got {name} of type {type(mapping).__name__} without any platform, but expected {{platform: ...}}."
            )
    if set(first) != set(second):
        raise ValueError(
            f"Got {what[0]} of {', '.join(map(str, first))} and {what[1]} of {', '.join(map(str, second))}, but "
            "expected the same platforms."
        )


def _some(profiles: Any, max_profiles: int) -> Any:
    """The profiles, or so many of them, evenly spaced."""
    n_profiles = _num_samples(profiles)
    if n_profiles <= max_profiles:
        return profiles
    return _safe_indexing(profiles, np.linspace(0, n_profiles - 1, max_profiles).astype(np.intp))


def _bands(profiles: Any) -> np.ndarray:
    """The quantiles of every profile at `LEVELS`, and of these the percentiles over profiles; shape (3, n_levels)."""
    array = np.asarray(frame_values(profiles), dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"Got profiles of shape {array.shape}, but expected two dimensions: profiles x genes.")
    require_values(array)
    places = np.linspace(0.0, 1.0, array.shape[1])
    quantiles = [np.interp(LEVELS, places, full_length_quantiles(profile)) for profile in np.sort(array, axis=1)]
    return np.quantile(quantiles, BAND, axis=0)


def _compress(ax: Axes, drawn: Iterable[np.ndarray]) -> None:
    """A logarithmic axis that has a place for zero, which lies on its lower end unless some bands are below."""
    lowest = min(float(bands.min()) for bands in drawn)
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(bottom=min(-0.2, 1.5 * lowest))


def _is_skewed(bands: np.ndarray) -> bool:
    """Whether a few values would press all others to the bottom of a linear axis."""
    middle = bands[1]
    return bool(middle[0] >= 0 and middle[-1] > SKEWED * max(float(np.median(middle)), 1.0))
