"""Expression profiles to learn on: public ones, fetched when asked for, and a generator whose truth is known."""

from dgex.datasets._fetch import (
    fetch_1000genomes,
    fetch_cmap_training,
    fetch_gene_info,
    fetch_gtex,
    fetch_ols_weights,
)
from dgex.datasets._genes import GeneInfo
from dgex.datasets._synthetic import ExpressionProfiles, make_expression_profiles

__all__ = [
    "ExpressionProfiles",
    "GeneInfo",
    "fetch_1000genomes",
    "fetch_cmap_training",
    "fetch_gene_info",
    "fetch_gtex",
    "fetch_ols_weights",
    "make_expression_profiles",
]
