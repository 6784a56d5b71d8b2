"""What attributions, coefficients and hub units find: `python -m benchmarks.interpretation`.

Over several seeds: regulators that were planted, among the five landmarks that a target depends on most by the network
or by least squares; programs of generated profiles by the landmarks that report them; and, on human arrays (whose data
examples/04_looking_inside.py needs), how many landmarks have a family of genes among the 100 targets that depend on
them most, by the network or by ridge regression, and how many hub units have one among their targets. Writes
results/interpretation.json. About six minutes on two cores for five seeds.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, Ridge

from benchmarks._examples import example
from benchmarks._results import provenance, write
from dgex import DGEXRegressor
from dgex.datasets import ExpressionProfiles, make_expression_profiles
from dgex.interpretation import (
    LandmarkAttribution,
    gene_set_table,
    hub_units,
    landmark_attribution,
    linear_attribution,
    major_weights,
)

# Landmarks of a target that are looked at.
N_TOP = 5

# A network that learns V-shaped effects.
TRAINED = {
    "hidden_layer_sizes": (400,),
    "activation": "relu",
    "solver": "adamw",
    "batch_size": 100,
    "max_iter": 60,
    "dropout": 0.0,
}

# Hub units that gene sets are looked for in.
N_HUBS = 20


def main(n_seeds: int) -> None:
    """Measure for every seed."""
    origin, rows = provenance(), []
    for seed in range(n_seeds):
        for part in (planted, generated, arrays):
            rows += [{"seed": seed, **row} for row in part(seed)]
        write("interpretation", rows, origin)
        print(f"seed {seed}\n\n{summary(rows)}\n", flush=True)


def planted(seed: int) -> Iterator[dict[str, Any]]:
    """Regulators that were planted, one for each target."""
    X, y, regulators, nonlinear = regulated(np.random.default_rng(seed))
    network = DGEXRegressor(**TRAINED, random_state=seed).fit(X, y)
    attributions = landmark_attribution(network, X[:200]), linear_attribution(LinearRegression().fit(X, y), X, y)
    for name, attribution in zip(("network", "least squares"), attributions, strict=True):
        found = (strongest(attribution) == regulators).any(axis=0)
        yield {"what": "planted regulators, linear", "by": name, "share": float(found[~nonlinear].mean())}
        yield {"what": "planted regulators, V-shaped", "by": name, "share": float(found[nonlinear].mean())}


def generated(seed: int) -> Iterator[dict[str, Any]]:
    """The landmarks of the program that dominates a target."""
    data = make_expression_profiles(
        3000, n_landmarks=60, n_targets=300, n_states=40, n_programs=30, nonlinearity=1.0, random_state=seed
    )
    program, dominated = dominant_program(data)
    network = DGEXRegressor(
        hidden_layer_sizes=(200,), activation="gelu", solver="adamw", batch_size=100, max_iter=30, random_state=seed
    ).fit(data.X, data.y)
    ridge = Ridge(10).fit(data.X, data.y)
    attributions = landmark_attribution(network, data.X[:200]), linear_attribution(ridge, data.X, data.y)
    for name, attribution in zip(("network", "ridge"), attributions, strict=True):
        right = (strongest(attribution) % 30 == program)[:, dominated]  # landmarks report programs in turn
        yield {"what": "dominant program among five landmarks", "by": name, "share": float(right.any(axis=0).mean())}
        yield {"what": "both its landmarks first", "by": name, "share": float(right[:2].all(axis=0).mean())}


def arrays(seed: int) -> Iterator[dict[str, Any]]:
    """Families of genes among targets, on human arrays."""
    looking = example("04_looking_inside")
    expression, landmarks, symbols = looking.load()
    profiles, _ = looking.prepare(expression, landmarks, seed)
    network = looking.fitted(profiles, (500,), 0.25, 150)
    ridge = looking.baselines(profiles, network.target_scale_)["ridge"]
    sets = looking.families(symbols)
    for name, attribution in (
        ("network", landmark_attribution(network, profiles["train"].X.iloc[:100])),
        ("ridge", linear_attribution(ridge, *profiles["train"])),
    ):
        yield {
            "what": "landmarks with a gene family",
            "by": name,
            "share": with_family(attribution, sets, symbols) / len(landmarks),
        }
    for name, share in looking.well_inferred(network, profiles).items():
        yield {
            "what": "targets well inferred",
            "by": {"model": "network", "study": "mean of the study"}[name],
            "share": share,
        }
    hubs = hub_units(network, major_weights(network, n_std_in=3, n_std_out=3), n_units=N_HUBS)
    yield {"what": "hub units with a gene family", "by": "network", "share": with_family(hubs, sets, symbols) / N_HUBS}


def with_family(genes: Any, sets: dict[str, list[str]], symbols: dict[str, str]) -> int:
    """Lists with a gene set of q below 0.05."""
    table = gene_set_table(genes, sets, symbols=symbols)
    return len(set(table["list"][table["q"] < 0.05]))


def strongest(attribution: LandmarkAttribution) -> np.ndarray:
    """The landmarks that each target depends on most, shape (N_TOP, n_targets)."""
    return np.argsort(-attribution.magnitude, axis=0)[:N_TOP]


def regulated(rng: np.random.Generator, n_profiles: int = 3000, n_landmarks: int = 40, n_targets: int = 120) -> Any:
    """Targets that one landmark each regulates: half of them linearly, half by how far it is from its mean."""
    X = rng.normal(size=(n_profiles, n_landmarks))
    regulators = rng.integers(n_landmarks, size=n_targets)
    effect = X[:, regulators]
    nonlinear = np.arange(n_targets) % 2 == 1
    effect[:, nonlinear] = 1.6 * (np.abs(effect[:, nonlinear]) - 0.8)
    others = 0.3 * X @ rng.normal(size=(n_landmarks, n_targets)) / np.sqrt(n_landmarks)
    y = effect + others + 0.3 * rng.normal(size=(n_profiles, n_targets))
    return X.astype(np.float32), y.astype(np.float32), regulators, nonlinear


def dominant_program(data: ExpressionProfiles, n_bins: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Of every target, the program that explains most of its variance by itself, and whether no other comes near."""
    order = np.argsort(np.argsort(data.programs, axis=0), axis=0) * n_bins // len(data.programs)
    means = np.array([[data.expression[bins == number].mean(axis=0) for number in range(n_bins)] for bins in order.T])
    explained = means.var(axis=1) / data.expression.var(axis=0)  # programs x targets
    first, second = np.sort(explained, axis=0)[[-1, -2]]
    return explained.argmax(axis=0), (first >= 0.5) & (second < first / 2)


def summary(rows: list[dict]) -> str:
    """Means and standard deviations over seeds, as Markdown."""
    shares = defaultdict(list)
    for row in rows:
        shares[row["what"], row["by"]].append(row["share"])
    lines = ["| share of | by | mean ± sd |", "|---|---|---:|"]
    for (what, by), values in shares.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        lines.append(f"| {what} | {by} | {statistics.mean(values):.1%} ± {spread:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-seeds", type=int, default=5)
    main(**vars(parser.parse_args()))
