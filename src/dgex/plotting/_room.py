"""Room for a legend below axes in a grid. It imports matplotlib, and is imported in drawing only."""

from __future__ import annotations

from typing import Any

from matplotlib.gridspec import SubplotSpec
from matplotlib.transforms import Bbox


class RoomBelow(SubplotSpec):
    """A place in a grid of which the lowest part is left free; else it is the place that it was.

    Parameters
    ----------
    whole : SubplotSpec
        The place.
    share : float
        How much of its height is left free.
    """

    def __init__(self, whole: SubplotSpec, share: float):
        super().__init__(whole.get_gridspec(), whole.num1, whole.num2)
        self.whole = whole
        self.share = share

    def get_position(self, figure: Any) -> Bbox:
        """The upper part of the place, in a figure as it is now."""
        box = self.whole.get_position(figure)
        return Bbox.from_extents(box.x0, box.y0 + self.share * box.height, box.x1, box.y1)
