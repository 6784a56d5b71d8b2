"""Train on human microarrays, infer held-out arrays and the RNA-seq of another laboratory.

The protocol of Chen et al. (2016) in small: probe sets are averaged by gene, near-duplicates dropped, arrays and
RNA-seq brought to one distribution, each platform standardized by itself. Everything that is chosen (the epoch, the
penalty, the number of neighbours) is chosen on validation profiles of the platform that it is used on: held-out arrays,
or RNA-seq of lymphoblastoid lines for the glioblastomas. Targets that are also landmarks are left out.

Needs the folder of real expression data (`DGEX_DATA`, or ../shared/data beside the checkout); takes about six minutes
on two cores.
"""

import argparse
import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor

from dgex import DGEXRegressor, KNNGeneRegressor, QuantileJointNormalizer
from dgex.metrics import ComparisonTable, comparison_table, overall_error
from dgex.preprocessing import (
    align_genes,
    collapse_probes,
    common_genes,
    find_near_duplicates,
    gene_scaling,
    standardized,
)

DATA = Path(os.environ.get("DGEX_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PENALTIES = (30, 100, 300, 1000, 3000, 10_000)
NEIGHBORS = (1, 2, 3, 5, 10, 20, 50)
DROPOUT = (0.0, 0.1, 0.25)


class Profiles(NamedTuple):
    """Landmarks and targets of some profiles, standardized."""

    X: np.ndarray
    y: np.ndarray


class Platform(NamedTuple):
    """What models are chosen on, and what they are tested on."""

    validation: Profiles
    test: Profiles


def load() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Expression of the genes that all data sets share, which of these are landmarks, and the study of each array."""
    if not DATA.exists():
        raise SystemExit(f"No data in {DATA}. Set DGEX_DATA to the folder of the real expression data.")
    files = {
        "arrays": "human_affy_u133_geo.npz",
        "lymphoblastoid": "human_lcl_rnaseq.npz",
        "glioblastoma": "human_tcga_gbm_rnaseq.npz",
    }
    stored = {name: np.load(DATA / file, allow_pickle=False) for name, file in files.items()}
    with (DATA / "genes.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    landmarks = {row["ensembl"] for row in rows if row["role"] == "landmark"}
    probes = {
        row["ensembl"]: row["probes"].split(",")
        for row in rows
        if row["role"] == "landmark" or row["ensembl"] not in landmarks
    }
    arrays, genes = collapse_probes(stored["arrays"]["X"], stored["arrays"]["probes"], probes, missing="ignore")
    kept = ~find_near_duplicates(arrays, method="exact")
    rnaseq = [stored[name] for name in ("lymphoblastoid", "glioblastoma")]
    shared = common_genes(genes, *(profiles["genes"] for profiles in rnaseq))
    expression = {"arrays": align_genes(arrays[kept], shared, genes=genes)}
    for name, profiles in zip(("lymphoblastoid", "glioblastoma"), rnaseq, strict=True):
        expression[name] = align_genes(profiles["X"], shared, genes=profiles["genes"])
    return expression, np.array([gene in landmarks for gene in shared]), stored["arrays"]["study"][kept]


def prepare(
    expression: dict[str, np.ndarray], is_landmark: np.ndarray, seed: int
) -> tuple[Profiles, dict[str, Platform]]:
    """Split the arrays at random (70, 15, 15 %), normalize and standardize."""
    order = np.random.default_rng(seed).permutation(len(expression["arrays"]))
    train, validation, test = np.split(order, [round(0.7 * len(order)), round(0.85 * len(order))])
    normalizer = QuantileJointNormalizer().fit(expression["arrays"][train])
    counts = QuantileJointNormalizer(ties="dense", reference=normalizer.reference_quantiles_)
    arrays = normalizer.transform(expression["arrays"])
    arrays = standardized(arrays, *gene_scaling(arrays[train]))
    rnaseq = {name: counts.fit_transform(expression[name]) for name in ("lymphoblastoid", "glioblastoma")}
    rnaseq = {name: standardized(profiles, *gene_scaling(profiles)) for name, profiles in rnaseq.items()}

    def split(profiles: np.ndarray) -> Profiles:
        return Profiles(np.ascontiguousarray(profiles[:, is_landmark]), np.ascontiguousarray(profiles[:, ~is_landmark]))

    platforms = {
        "Held-out arrays": Platform(split(arrays[validation]), split(arrays[test])),
        "Glioblastoma RNA-seq": Platform(split(rnaseq["lymphoblastoid"]), split(rnaseq["glioblastoma"])),
    }
    return split(arrays[train]), platforms


Predict = Callable[[np.ndarray], np.ndarray]


def chosen(candidates: Iterable[Predict], platform: Platform) -> np.ndarray:
    """Predictions for the test profiles by the candidate with the lowest error on the validation profiles."""
    X, y = platform.validation
    return min(candidates, key=lambda predict: overall_error(y, predict(X)).mean)(platform.test.X)


def compare(train: Profiles, platforms: dict[str, Platform], seed: int, max_iter: int) -> dict[str, ComparisonTable]:
    """Train every model on the arrays; a table for each platform."""
    least_squares = LinearRegression().fit(*train)
    ridges = [Ridge(penalty).fit(*train).predict for penalty in PENALTIES]
    sample_knns = [KNeighborsRegressor(k).fit(*train).predict for k in NEIGHBORS]
    gene_knns = [KNNGeneRegressor(n_neighbors=k).fit(*train).predict for k in NEIGHBORS]
    networks = {
        f"D-GEX-{dropout:.0%}-3000x1": DGEXRegressor(
            dropout=dropout, max_iter=max_iter, standardize=False, random_state=seed
        ).fit(
            *train,
            X_val=tuple(platform.validation.X for platform in platforms.values()),
            y_val=tuple(platform.validation.y for platform in platforms.values()),
        )
        for dropout in DROPOUT
    }
    tables = {}
    for index, (name, platform) in enumerate(platforms.items()):
        predictions = {
            "least squares": least_squares.predict(platform.test.X),
            "ridge": chosen(ridges, platform),
            "sample KNN": chosen(sample_knns, platform),
            "KNN-GE": chosen(gene_knns, platform),
            **{model: network.best_model(index).predict(platform.test.X) for model, network in networks.items()},
        }
        tables[name] = comparison_table(platform.test.y, predictions, baseline="ridge")
    return tables


def main(seed: int = 0, max_iter: int = 100) -> None:
    """Run the protocol once and print its tables."""
    expression, is_landmark, _ = load()
    train, platforms = prepare(expression, is_landmark, seed)
    n_landmarks, n_targets = train.X.shape[1], train.y.shape[1]
    print(f"Trained on {len(train.X)} arrays, {n_landmarks} landmark and {n_targets} target genes.")
    for name, table in compare(train, platforms, seed, max_iter).items():
        n_validation, n_test = (len(profiles.X) for profiles in platforms[name])
        print(f"\n{name}: {n_test} profiles, models chosen on {n_validation} others\n\n{table}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-iter", type=int, default=100, help="epochs (the paper trains 200)")
    main(**vars(parser.parse_args()))
