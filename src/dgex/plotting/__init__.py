"""Figures of models and their errors, those of Chen et al. (2016) among them, as scikit-learn displays.

A display is made from data by its class methods (`from_estimator`, `from_predictions`, ...), which compute and do
not draw; its `plot` draws, and keeps the axes and everything drawn as attributes. Only `plot` needs matplotlib (the
extra "plot"), so that a display can be computed on one machine, pickled, and drawn on another.
"""

from dgex.plotting._activations import AdjustedR2Display
from dgex.plotting._architecture import ArchitectureDisplay
from dgex.plotting._connections import ConnectionMapDisplay
from dgex.plotting._errors import GenewiseComparisonDisplay, GenewiseErrorDisplay
from dgex.plotting._normalization import QuantileNormalizationDisplay
from dgex.plotting._predictions import PredictionDisplay
from dgex.plotting._training import TrainingCurveDisplay

__all__ = [
    "AdjustedR2Display",
    "ArchitectureDisplay",
    "ConnectionMapDisplay",
    "GenewiseComparisonDisplay",
    "GenewiseErrorDisplay",
    "PredictionDisplay",
    "QuantileNormalizationDisplay",
    "TrainingCurveDisplay",
]
