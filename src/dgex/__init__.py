"""Infer the expression of target genes from landmark genes: D-GEX as scikit-learn estimators on JAX."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgex._knn import KNNGeneRegressor
    from dgex._normalization import QuantileJointNormalizer
    from dgex._regressor import DGEXRegressor
    from dgex._training import TrainingDiverged

__version__ = version("dgex")

__all__ = ["DGEXRegressor", "KNNGeneRegressor", "QuantileJointNormalizer", "TrainingDiverged", "__version__"]

# Imported on first use, so that `import dgex` and the estimators that do without it leave JAX alone.
_HOMES = {
    "DGEXRegressor": "dgex._regressor",
    "KNNGeneRegressor": "dgex._knn",
    "QuantileJointNormalizer": "dgex._normalization",
    "TrainingDiverged": "dgex._training",
}
_MODULES = (
    "datasets",
    "distributed",
    "inference",
    "interpretation",
    "io",
    "metrics",
    "persistence",
    "plotting",
    "preprocessing",
    "recipes",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"dgex.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
