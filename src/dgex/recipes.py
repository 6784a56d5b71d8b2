"""Named configurations of :class:`dgex.DGEXRegressor`."""

from __future__ import annotations

from itertools import product
from typing import Any

from dgex._regressor import DGEXRegressor

# Chen et al. 2016, section 2.3: every combination was trained.
PAPER_LAYERS = (1, 2, 3)
PAPER_UNITS = (3000, 6000, 9000)
PAPER_DROPOUT = (0.0, 0.1, 0.25)


def _name(n_layers: int, n_units: int, dropout: float) -> str:
    return f"D-GEX-{round(100 * dropout)}%-{n_units}x{n_layers}"


PAPER_CONFIGURATIONS = {
    _name(n_layers, n_units, dropout): {"hidden_layer_sizes": (n_units,) * n_layers, "dropout": dropout}
    for n_layers, n_units, dropout in product(PAPER_LAYERS, PAPER_UNITS, PAPER_DROPOUT)
}


def paper(name: str = "D-GEX-10%-9000x3", **parameters: Any) -> DGEXRegressor:
    """One of the 27 configurations of Chen et al. (2016).

    Parameters
    ----------
    name : str, default="D-GEX-10%-9000x3"
        "D-GEX-<dropout>%-<units>x<layers>" with a dropout of 0, 10 or 25 %, 3000, 6000 or 9000 units in each of 1, 2 or
        3 hidden layers. :data:`PAPER_CONFIGURATIONS` lists them all. The default had the lowest error on GEO.
    **parameters
        Other parameters of :class:`dgex.DGEXRegressor`, such as `random_state` or `devices`.

    Returns
    -------
    model : DGEXRegressor
        An estimator that is not fitted yet.

    Raises
    ------
    ValueError
        If there is no such configuration.

    Notes
    -----
    The paper trains each configuration twice, on either half of its 9,520 targets; here one network has all targets.

    Examples
    --------
    >>> from dgex import recipes
    >>> recipes.paper("D-GEX-25%-9000x2", random_state=0)
    DGEXRegressor(dropout=0.25, hidden_layer_sizes=(9000, 9000), random_state=0)
    >>> len(recipes.PAPER_CONFIGURATIONS)
    27
    """
    if name not in PAPER_CONFIGURATIONS:
        raise ValueError(
            f"Got name={name!r}, but expected one of {len(PAPER_CONFIGURATIONS)} configurations: 'D-GEX-' with 0, 10 "
            "or 25 %, 3000, 6000 or 9000 units and 1 to 3 layers, such as 'D-GEX-10%-3000x1'."
        )
    return DGEXRegressor(**{**PAPER_CONFIGURATIONS[name], **parameters})
