"""The data sets of the protocol, each a function of a seed that returns a split.

Near-duplicates go before the split. Genes are standardized by the training profiles; where platforms differ, each by
its own profiles, as in Chen et al. (2016). The quantiles that arrays and RNA-seq are brought to are those of the
training arrays. Targets that are also landmarks are left out.
"""

import os
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from benchmarks import _examples
from dgex import QuantileJointNormalizer
from dgex.datasets import make_expression_profiles
from dgex.preprocessing import find_near_duplicates, gene_scaling, standardized

DATA = Path(os.environ.get("DGEX_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

# Shares of the training and the validation profiles; the rest is for the test.
TRAIN, VALIDATION = 0.7, 0.15

# Subsets of one series.
SERIES = {
    "GSE14924_CD4": "GSE14924",
    "GSE14924_CD8": "GSE14924",
    "GSE24739_G0": "GSE24739",
    "GSE24739_G1": "GSE24739",
    "GSE6956AA": "GSE6956",
    "GSE6956C": "GSE6956",
}

# Batches that hold samples of the same fermentations (DDB-PD-003 to 009).
FERMENTATIONS = ("DDB2-part1", "DDB2-part2", "DDB3-part1", "DDB3-part2", "DDB3-part3")

# Landmarks of E. coli, for which nobody has chosen any.
ECOLI_LANDMARKS = 400

# Genes of E. coli that vary less in training are left out: they are not expressed there, and an error in units of their
# standard deviation is noise. Log2 units.
ECOLI_FLAT = 0.1

# Generated compendia: genes, states and programs of the cells.
SYNTHETIC = {"n_landmarks": 400, "n_targets": 1000, "n_states": 40, "n_programs": 20, "noise": 0.3}
SYNTHETIC_TEST = 1000


class Profiles(NamedTuple):
    """Landmarks and targets of some profiles, standardized, float32."""

    X: np.ndarray
    y: np.ndarray


class Split(NamedTuple):
    """What models are fitted on, chosen on and tested on; the series or batch of each profile, if there are any; and
    which genes the targets are, if all splits are of the same genes.
    """

    train: Profiles
    validation: Profiles
    test: Profiles
    train_groups: np.ndarray | None = None
    validation_groups: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    genes: np.ndarray | None = None


class Compendium(NamedTuple):
    """Expression by platform, genes aligned; series or batch of profiles of the first; the landmarks among genes."""

    expression: dict[str, np.ndarray]
    groups: np.ndarray
    is_landmark: np.ndarray | None


class Parts(NamedTuple):
    """Rows of the profiles."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def arrays_random(seed: int) -> Split:
    """Human arrays, split at random."""
    compendium = human()
    return arrays_split(compendium, random_parts(len(compendium.groups), seed))


def arrays_new_studies(seed: int) -> Split:
    """Human arrays, every series on one side."""
    compendium = human()
    return arrays_split(compendium, whole_parts(compendium.groups, seed))


def arrays_to_rnaseq(seed: int) -> Split:
    """Human arrays (a random 85 % of them), chosen on lymphoblastoid RNA-seq, tested on glioblastoma RNA-seq."""
    compendium = human()
    order = np.random.default_rng(seed).permutation(len(compendium.groups))
    return platforms_split(compendium, np.sort(order[: round((TRAIN + VALIDATION) * len(order))]))


def ecoli_random(seed: int) -> Split:
    """E. coli RNA-seq, split at random: replicates may be on both sides."""
    compendium = ecoli()
    return ecoli_split(compendium, random_parts(len(compendium.groups), seed), seed)


def ecoli_new_batches(seed: int) -> Split:
    """E. coli RNA-seq, every batch on one side, and batches of the same fermentations together."""
    compendium = ecoli()
    return ecoli_split(compendium, whole_parts(compendium.groups, seed), seed)


def synthetic(seed: int, n_train: int, nonlinearity: float) -> Split:
    """Generated profiles of other cells for every seed; a tenth as many for validation, and 1,000 for the test.

    At a nonlinearity of 0.7, 70 % of a target's variance comes from switches, which no linear model represents.
    Measurement adds noise of 0.32 standard deviations to every gene.
    """
    n_validation = n_train // 10
    data = make_expression_profiles(
        n_train + n_validation + SYNTHETIC_TEST, nonlinearity=nonlinearity, random_state=seed, **SYNTHETIC
    )
    parts = Parts(*np.split(np.arange(len(data.X)), [n_train, n_train + n_validation]))
    return Split(*scaled(data.X, data.y, parts))


DATASETS: dict[str, Callable[[int], Split]] = {
    "arrays, random": arrays_random,
    "arrays, new studies": arrays_new_studies,
    "arrays to RNA-seq": arrays_to_rnaseq,
    "E. coli, random": ecoli_random,
    "E. coli, new batches": ecoli_new_batches,
    "synthetic 2k": partial(synthetic, n_train=2_000, nonlinearity=0.7),
    "synthetic 6k": partial(synthetic, n_train=6_000, nonlinearity=0.7),
    "synthetic 20k": partial(synthetic, n_train=20_000, nonlinearity=0.7),
    "synthetic linear 2k": partial(synthetic, n_train=2_000, nonlinearity=0.0),
}

# Data sets that need the folder of real expression data.
REAL = tuple(name for name in DATASETS if not name.startswith("synthetic"))


def random_parts(n_profiles: int, seed: int) -> Parts:
    """A random split."""
    order = np.random.default_rng(seed).permutation(n_profiles)
    borders = [round(TRAIN * n_profiles), round((TRAIN + VALIDATION) * n_profiles)]
    return Parts(*(np.sort(rows) for rows in np.split(order, borders)))


def whole_parts(groups: np.ndarray, seed: int) -> Parts:
    """A random assignment of whole groups: 10 to 20 % of the profiles, of two groups or more, for validation and test.

    It is the first such. Groups of more than a fifth of the profiles are therefore always trained on.
    """
    rng = np.random.default_rng(seed)
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    while True:
        part = rng.choice(3, size=len(names), p=[TRAIN, VALIDATION, 1 - TRAIN - VALIDATION])
        shares = [sizes[part == held_out].sum() / len(groups) for held_out in (1, 2)]
        if all(0.1 <= share <= 0.2 for share in shares) and np.bincount(part, minlength=3)[1:].min() >= 2:
            return Parts(*(np.flatnonzero(part[member] == number) for number in range(3)))


def arrays_split(compendium: Compendium, parts: Parts) -> Split:
    """Normalize and standardize arrays by those in training."""
    expression, is_landmark = compendium.expression["arrays"], compendium.is_landmark
    expression = QuantileJointNormalizer().fit(expression[parts.train]).transform(expression)
    profiles = scaled(expression[:, is_landmark], expression[:, ~is_landmark], parts)
    return Split(*profiles, *(compendium.groups[rows] for rows in parts), np.flatnonzero(~is_landmark))


def platforms_split(compendium: Compendium, train: np.ndarray) -> Split:
    """Bring RNA-seq to the distribution of the training arrays and standardize each data set by itself."""
    arrays = compendium.expression["arrays"][train]
    normalizer = QuantileJointNormalizer().fit(arrays)
    counts = QuantileJointNormalizer(ties="dense", reference=normalizer.reference_quantiles_)
    normalized = [normalizer.transform(arrays)]
    normalized += [counts.fit_transform(compendium.expression[name]) for name in ("lymphoblastoid", "glioblastoma")]
    profiles = []
    for expression in normalized:
        expression = standardized(expression, *gene_scaling(expression))
        profiles.append(by_role(expression, compendium.is_landmark))
    return Split(*profiles, compendium.groups[train], genes=np.flatnonzero(~compendium.is_landmark))


def ecoli_split(compendium: Compendium, parts: Parts, seed: int) -> Split:
    """Choose landmarks on the training profiles and standardize by them."""
    expression = compendium.expression["RNA-seq"]
    genes = np.flatnonzero(expression[parts.train].std(axis=0) > ECOLI_FLAT)
    expression = expression[:, genes]
    is_landmark = landmark_panel(expression[parts.train], ECOLI_LANDMARKS, seed)
    profiles = scaled(expression[:, is_landmark], expression[:, ~is_landmark], parts)
    return Split(*profiles, *(compendium.groups[rows] for rows in parts), genes[~is_landmark])


def landmark_panel(expression: np.ndarray, n_landmarks: int, seed: int) -> np.ndarray:
    """Whether each gene is a landmark: the one nearest to the centre of its k-means cluster, of standardized genes."""
    genes = standardized(expression, *gene_scaling(expression)).T
    clusters = KMeans(n_landmarks, n_init=1, max_iter=100, random_state=seed).fit(genes)
    distances = np.linalg.norm(genes - clusters.cluster_centers_[clusters.labels_], axis=1)
    is_landmark = np.zeros(len(genes), dtype=bool)
    for cluster in range(n_landmarks):
        members = np.flatnonzero(clusters.labels_ == cluster)
        is_landmark[members[distances[members].argmin()]] = True
    return is_landmark


def scaled(X: np.ndarray, y: np.ndarray, parts: Parts) -> list[Profiles]:
    """The parts, standardized by the training profiles."""
    X, y = (standardized(values, *gene_scaling(values[parts.train])).astype(np.float32) for values in (X, y))
    return [Profiles(X[rows], y[rows]) for rows in parts]


def by_role(expression: np.ndarray, is_landmark: np.ndarray) -> Profiles:
    """Landmarks and targets."""
    X, y = (np.ascontiguousarray(expression[:, genes], np.float32) for genes in (is_landmark, ~is_landmark))
    return Profiles(X, y)


@cache
def human() -> Compendium:
    """Arrays and both RNA-seq data sets by gene, in the genes that all share, and the series of each array."""
    expression, is_landmark, studies = _examples.arrays_to_rnaseq().load()
    return Compendium(expression, np.array([SERIES.get(study, study) for study in studies.tolist()]), is_landmark)


@cache
def ecoli() -> Compendium:
    """E. coli RNA-seq, one profile for each sample."""
    stored = np.load(DATA / "ecoli_rnaseq_precise2.npz", allow_pickle=False)
    _, first = np.unique([sequenced_sample(name) for name in stored["samples"].tolist()], return_index=True)
    first = np.sort(first)
    first = first[~find_near_duplicates(stored["X"][first], method="exact")]
    batches = stored["batch"][first].tolist()
    groups = np.array(["DDB2 and DDB3" if batch in FERMENTATIONS else batch for batch in batches])
    return Compendium({"RNA-seq": stored["X"][first]}, groups, None)


def sequenced_sample(name: str) -> str:
    """The sample that was sequenced, whose name some libraries write differently; all controls are of one sample."""
    name = re.sub(r"-RNA(seq\d?)?(_S\d+)?$", "", name)
    name = re.sub(r"(_S\d+)$", "", name)
    name = re.sub(r"AMBR-(\d)", r"AMBR-R\1", name).replace("--", "-")
    name = re.sub(r"^(DDB-I-SF-S1-001)-A\d+$", r"\1", name)
    return re.sub(r"_fixed(Vol|conc)_", "_", name)
