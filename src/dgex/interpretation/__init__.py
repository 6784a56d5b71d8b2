"""What trained networks have learned: connections, hidden units, attributions, reliability. Tables; no drawing."""

from dgex._table import Table
from dgex.interpretation._activations import activation_adjusted_r2
from dgex.interpretation._attribution import (
    LandmarkAttribution,
    landmark_attribution,
    linear_attribution,
    partial_dependence,
)
from dgex.interpretation._gene_sets import gene_set_table, read_gmt
from dgex.interpretation._reliability import target_reliability
from dgex.interpretation._weights import HubUnit, HubUnits, MajorWeights, hub_units, major_weights

__all__ = [
    "HubUnit",
    "HubUnits",
    "LandmarkAttribution",
    "MajorWeights",
    "Table",
    "activation_adjusted_r2",
    "gene_set_table",
    "hub_units",
    "landmark_attribution",
    "linear_attribution",
    "major_weights",
    "partial_dependence",
    "read_gmt",
    "target_reliability",
]
