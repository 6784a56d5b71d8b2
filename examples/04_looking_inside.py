"""Look into a network that was trained on human microarrays: hubs, gene sets, attributions, and every figure.

Trains on 306 arrays as `02_arrays_to_rnaseq.py` does, compares with ridge regression and KNN-GE on held-out arrays, and
asks what the network has learned. Gene sets are families of genes by their symbols, since the data folder holds no
others. Figures are written as PNG and PDF.

Needs the folder of real expression data (`DGEX_DATA`, or ../shared/data beside the checkout), matplotlib and pandas;
takes about three minutes on two cores.
"""

import argparse
import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer
from dgex.datasets import make_expression_profiles
from dgex.interpretation import (
    activation_adjusted_r2,
    gene_set_table,
    hub_units,
    landmark_attribution,
    linear_attribution,
    major_weights,
    partial_dependence,
    target_reliability,
)
from dgex.metrics import comparison_table, overall_error, r_gene
from dgex.plotting import (
    AdjustedR2Display,
    ArchitectureDisplay,
    ConnectionMapDisplay,
    GenewiseComparisonDisplay,
    GenewiseErrorDisplay,
    PredictionDisplay,
    QuantileNormalizationDisplay,
    TrainingCurveDisplay,
)
from dgex.preprocessing import collapse_probes, find_near_duplicates

DATA = Path(os.environ.get("DGEX_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PENALTIES = (30, 100, 300, 1000, 3000, 10_000)
NEIGHBORS = (1, 2, 3, 5, 10, 20, 50)

# Under a strong decay, weights that are not used fade, and those that are stand out.
NETWORK = {"solver": "adamw", "weight_decay": 3.0, "learning_rate_init": 1e-3, "batch_size": 32, "random_state": 0}

# Families whose symbols are alike.
FAMILIES = {
    "RPL": r"RPLP?\d+[AL]?$",
    "RPS": r"RPS(A|\d+[ALXY]?)$",
    "MRPL": r"MRPL\d+$",
    "MRPS": r"MRPS\d+[A-C]?$",
    "NDUF": r"NDUF[A-CSV]",
    "COX": r"COX\d",
    "ATP5": r"ATP5",
    "PSM": r"PSM[A-G]\d",
    "HLA": r"HLA-",
    "IFI": r"IFI(T|H|\d)",
    "COL": r"COL\d+A\d",
    "KRT": r"KRT\d",
    "CD": r"CD\d+[A-Z]?\d?$",
    "CXC": r"CXC[LR]\d",
    "ZNF": r"ZNF\d",
}

# What the Connectivity Map calls well inferred.
WELL_INFERRED = 0.95

# A target whose landmarks are shown.
TARGET = "IFIT1"


class Arrays(NamedTuple):
    """Arrays with the landmarks and the targets by name."""

    X: pd.DataFrame
    y: pd.DataFrame


def load() -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """Expression of all arrays by study and gene, the landmarks among the genes, and the symbol of each gene."""
    if not DATA.exists():
        raise SystemExit(f"No data in {DATA}. Set DGEX_DATA to the folder of the real expression data.")
    stored = np.load(DATA / "human_affy_u133_geo.npz", allow_pickle=False)
    with (DATA / "genes.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    landmarks = {row["ensembl"] for row in rows if row["role"] == "landmark"}
    rows = [row for row in rows if row["role"] == "landmark" or row["ensembl"] not in landmarks]
    probes = {row["ensembl"]: row["probes"].split(",") for row in rows}
    values, genes = collapse_probes(stored["X"], stored["probes"], probes, missing="ignore")
    kept = ~find_near_duplicates(values, method="exact")
    values, studies = values[kept], stored["study"][kept]
    expression = pd.DataFrame(values, columns=list(genes), index=studies)
    return expression, [gene for gene in genes if gene in landmarks], {row["ensembl"]: row["symbol"] for row in rows}


def prepare(
    expression: pd.DataFrame, landmarks: list[str], seed: int = 0
) -> tuple[dict[str, Arrays], QuantileJointNormalizer]:
    """Arrays to train, choose and test on (70, 15, 15 % at random), normalized by the training arrays."""
    order = np.random.default_rng(seed).permutation(len(expression))
    parts = np.split(order, [round(0.7 * len(order)), round(0.85 * len(order))])
    normalizer = QuantileJointNormalizer().set_output(transform="pandas").fit(expression.iloc[parts[0]])
    targets = expression.columns.difference(landmarks, sort=False)
    arrays = {}
    for name, rows in zip(("train", "validation", "test"), parts, strict=True):
        normalized = normalizer.transform(expression.iloc[rows])
        arrays[name] = Arrays(normalized[landmarks], normalized[targets])
    return arrays, normalizer


def fitted(
    arrays: dict[str, Arrays], hidden_layer_sizes: tuple[int, ...], dropout: float, max_iter: int
) -> DGEXRegressor:
    """A network, its epoch chosen on the validation arrays."""
    network = DGEXRegressor(hidden_layer_sizes=hidden_layer_sizes, dropout=dropout, max_iter=max_iter, **NETWORK)
    return network.fit(*arrays["train"], X_val=arrays["validation"].X, y_val=arrays["validation"].y)


def baselines(arrays: dict[str, Arrays], scale: np.ndarray) -> dict[str, Any]:
    """Ridge regression and KNN-GE, tuned on the validation arrays."""
    X, y = arrays["validation"]
    candidates = {
        "ridge": [Ridge(penalty).fit(*arrays["train"]) for penalty in PENALTIES],
        "KNN-GE": [KNNGeneRegressor(n_neighbors=k, standardize=True).fit(*arrays["train"]) for k in NEIGHBORS],
    }
    return {
        name: min(models, key=lambda model: overall_error(y, model.predict(X), scale=scale).mean)
        for name, models in candidates.items()
    }


def families(symbols: Mapping[str, str]) -> dict[str, list[str]]:
    """Genes by what their symbols look like."""
    return {
        family: sorted({symbol for symbol in symbols.values() if re.match(pattern, symbol)})
        for family, pattern in FAMILIES.items()
    }


def well_inferred(model: Any, arrays: dict[str, Arrays]) -> dict[str, float]:
    """The share of well inferred targets, by the model and by knowing no more than the study of an array."""
    X, y = arrays["test"]
    by_study = arrays["train"].y.groupby(level=0).mean().reindex(y.index)
    of_study = r_gene(y, by_study.fillna(arrays["train"].y.mean()))
    return {
        "model": float(target_reliability(model, X, y, store=True)["well_inferred"].mean()),
        "study": float((of_study >= WELL_INFERRED).mean()),
    }


def look_inside(network: DGEXRegressor, ridge: Ridge, arrays: dict[str, Arrays], symbols: dict[str, str]) -> None:
    """Print what the network has learned."""
    weights, sets = major_weights(network, n_std_in=3, n_std_out=3), families(symbols)
    hubs = hub_units(network, weights)
    print(f"\n{weights}\n\nHub units\n")
    for hub in hubs[:5]:
        print(f"{hub}: {', '.join(symbols[gene] for gene in hub.targets[:8])}, ...")
    print("\nGene families among the targets of the 20 largest hubs\n")
    print(gene_set_table(hubs[:20], sets, symbols=symbols))
    attribution = landmark_attribution(network, arrays["train"].X.iloc[:100])
    print("\nGene families among the 100 targets that depend most on a landmark\n")
    print(gene_set_table(attribution, sets, symbols=symbols))
    linear = linear_attribution(ridge, *arrays["train"])
    target = next(gene for gene in network.target_names_ if symbols[gene] == TARGET)
    table = attribution.strongest_landmarks(target, n=8, beside=linear)
    named = [symbols[gene] for gene in table["landmark"]]
    print(
        f"\nLandmarks that {TARGET} depends on most\n\n{table.to_pandas().assign(symbol=named).to_string(index=False)}"
    )
    curve = partial_dependence(network, arrays["test"].X, table["landmark"][0], [target], n_points=5)
    print(f"\n{TARGET} by the expression of {named[0]}\n\n{curve}")
    shares = well_inferred(network, arrays)
    print(f"\nWell inferred on the test arrays (R_gene of at least {WELL_INFERRED}): {shares['model']:.0%}")
    print(f"by the mean of an array's study, without its landmarks: {shares['study']:.0%}")


def architectures(arrays: dict[str, Arrays], max_iter: int) -> list[dict[str, Any]]:
    """Validation errors of small networks of several shapes and dropout rates."""
    rows = []
    for layers in (1, 2):
        for units in (100, 200, 400):
            for dropout in (0.0, 0.1, 0.25):
                network = fitted(arrays, (units,) * layers, dropout, max_iter)
                rows.append({"layers": layers, "units": units, "dropout": dropout, "error": network.best_score_})
    return rows


def generated_r2(max_iter: int) -> Any:
    """Adjusted R^2 on generated profiles: 306 arrays are fewer than the landmarks, where it is undefined."""
    data = make_expression_profiles(3000, n_landmarks=100, n_targets=1000, random_state=0)
    network = DGEXRegressor(hidden_layer_sizes=(300,), max_iter=max_iter, random_state=0).fit(data.X, data.y)
    return activation_adjusted_r2(network, data.X, data.y)


def figures(
    network: DGEXRegressor,
    models: dict[str, Any],
    arrays: dict[str, Arrays],
    expression: pd.DataFrame,
    normalizer: QuantileJointNormalizer,
    max_iter: int,
) -> dict[str, Any]:
    """Every display, made of the arrays where it can be."""
    X, y = arrays["test"]
    scale = network.target_scale_
    errors = {
        name: overall_error(arrays["validation"].y, model.predict(arrays["validation"].X), scale=scale).mean
        for name, model in models.items()
        if model is not network
    }
    curves = {f"dropout {rate:.0%}": fitted(arrays, (200,), rate, max_iter) for rate in (0.0, 0.25)}
    gene = int(np.argmax(np.ptp(y.to_numpy(), axis=0)))
    return {
        "errors": GenewiseErrorDisplay.from_estimator(models, X, y, scale=scale),
        "ridge": GenewiseComparisonDisplay.from_estimator(
            network, models["ridge"], X, y, names=("D-GEX", "ridge"), scale=scale
        ),
        "knn": GenewiseComparisonDisplay.from_estimator(
            network, models["KNN-GE"], X, y, names=("D-GEX", "KNN-GE"), scale=scale
        ),
        "architectures": ArchitectureDisplay.from_results(architectures(arrays, max_iter // 3), baselines=errors),
        "training": TrainingCurveDisplay.from_estimator(curves),
        "connections": ConnectionMapDisplay.from_estimator(network, n_std_in=3, n_std_out=3),
        "adjusted_r2": AdjustedR2Display.from_table(generated_r2(max_iter)),
        "normalization": QuantileNormalizationDisplay.from_estimator({"arrays": normalizer}, {"arrays": expression}),
        "gene": PredictionDisplay.from_estimator(network, X, y, target=gene),
        "profile": PredictionDisplay.from_estimator(network, X, y, profile=0),
    }


def main(output: Path, max_iter: int = 150) -> None:
    """Run the chain, print its tables and write its figures."""
    expression, landmarks, symbols = load()
    arrays, normalizer = prepare(expression, landmarks)
    network = fitted(arrays, (500,), 0.25, max_iter)
    models = {"D-GEX": network, **baselines(arrays, network.target_scale_)}
    X, y = arrays["test"]
    predictions = {name: model.predict(X) for name, model in models.items()}
    print(f"{len(X)} test arrays, {y.shape[1]} targets; mean absolute error, standardized\n")
    print(comparison_table(y, predictions, scale=network.target_scale_, baseline="ridge"))
    look_inside(network, models["ridge"], arrays, symbols)
    output.mkdir(parents=True, exist_ok=True)
    for name, display in figures(network, models, arrays, expression, normalizer, max_iter).items():
        figure = display.plot().figure_
        for ending in ("png", "pdf"):
            figure.savefig(output / f"{name}.{ending}", bbox_inches="tight", dpi=200)
    print(f"\nFigures are in {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("figures"))
    parser.add_argument("--max-iter", type=int, default=150, help="epochs")
    main(**vars(parser.parse_args()))
