"""Rows of results as Markdown tables, for pages with marks: `<!-- table: accuracy_arrays_random -->`."""

import re
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks._pages import markdown
from benchmarks.accuracy._methods import ABLATIONS, GENTLE, MEAN, MODERN

Rows = Sequence[dict[str, Any]]

# What the recommended recipe was to reach on each data set: how much lower an error than the best linear model's, the
# share of genes won, and how much lower than that of KNN-GE; and everywhere than that of scikit-learn's perceptron.
AIMS = {
    "arrays, random": (0.03, 0.75, 0.12),
    "E. coli, random": (0.03, 0.75, 0.12),
    "arrays, new studies": (0.02, 0.65, 0.12),
    "E. coli, new batches": (0.02, 0.65, 0.12),
    "arrays to RNA-seq": (0.01, 0.60, 0.06),
}
BEYOND_PERCEPTRON = 0.08

# Columns that are shares, with what they are called and how they are written.
SHARES = {
    "vs best linear": ("vs best linear", "{:+.1%}"),
    "won vs best linear": ("genes won", "{:.0%}"),
    "vs KNN-GE": ("vs KNN-GE", "{:+.1%}"),
    "Pearson": ("Pearson", "{:.3f}"),
    "well inferred": ("R_gene ≥ 0.95", "{:.0%}"),
    "seconds": ("seconds", "{:.4g}"),
    "peak MB": ("peak MB", "{:.0f}"),
}


def tables(rows: Rows, averages: Rows = ()) -> dict[str, str]:
    """All tables by name: one for each data set, and improvements by methods.

    And improvements by ablations, by a mean of networks, by gentle epochs only, and of errors averaged over splits.
    """
    beside = {
        "accuracy_ablation": [row for row in rows if row["method"] in (MODERN, *ABLATIONS)],
        "accuracy_mean": [row for row in rows if row["method"] in (MODERN, MEAN)],
        "accuracy_gentle": [row for row in rows if row["method"] in (MODERN, GENTLE)],
    }
    rows = [row for row in rows if row["method"] not in (MEAN, GENTLE, *ABLATIONS)]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    made = {name_of(dataset): dataset_table([row for row in rows if row["dataset"] == dataset]) for dataset in datasets}
    of_few_splits = {name: improvements(on_common_splits(of_some), splits=True) for name, of_some in beside.items()}
    of_averages = improvements([row for row in averages if row["method"] not in (GENTLE, *ABLATIONS)])
    return {
        **{"accuracy_aims": aims(rows), "accuracy_improvements": improvements(rows), "accuracy_averages": of_averages},
        **of_few_splits,
        **made,
    }


def aims(rows: Rows) -> str:
    """What was asked for, what is reached, and whether that is enough; means over seeds."""
    lines = [["error lower than", "best linear model", "genes won", "KNN-GE", "MLPRegressor"], ["---"] + ["---:"] * 4]
    for dataset, asked in AIMS.items():
        of_modern = {row["seed"]: row for row in rows if (row["dataset"], row["method"]) == (dataset, MODERN)}
        peers = [row for row in rows if (row["dataset"], row["method"]) == (dataset, "MLPRegressor")]
        peers = [row for row in peers if row["seed"] in of_modern]
        if not peers:
            continue
        reached = [
            statistics.mean(row[column] for row in of_modern.values())
            for column in ("vs best linear", "won vs best linear", "vs KNN-GE")
        ]
        reached.append(statistics.mean(1 - of_modern[row["seed"]]["MAE"] / row["MAE"] for row in peers))
        cells = [
            f"{value:.1%} of {aim:.0%} {'holds' if value >= aim else 'missed'}"
            for value, aim in zip(reached, (*asked, BEYOND_PERCEPTRON), strict=True)
        ]
        lines.append([dataset, *cells])
    return markdown(lines)


def on_common_splits(rows: Rows) -> Rows:
    """Those of the data sets and seeds that every method there has, of data sets with several methods."""
    by_method: dict[str, dict[str, set[int]]] = {}
    for row in rows:
        by_method.setdefault(row["dataset"], {}).setdefault(row["method"], set()).add(row["seed"])
    common = {name: set.intersection(*of.values()) for name, of in by_method.items() if len(of) > 1}
    return [row for row in rows if row["seed"] in common.get(row["dataset"], ())]


def name_of(dataset: str) -> str:
    """The name of a data set's table."""
    return "accuracy_" + re.sub(r"\W+", "_", dataset.lower())


def dataset_table(rows: Rows) -> str:
    """A line for each method: means over its seeds, the standard deviation of its error, and how many they are."""
    header = ["method", "MAE ± sd over seeds", "sd over genes", *(name for name, _ in SHARES.values()), "seeds"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for method, of_method in by_method(rows).items():
        cells = [labelled(method, of_method), error(of_method), shown(of_method, "sd", "{:.4f}")]
        shares = [shown(of_method, column, form) for column, (_, form) in SHARES.items()]
        lines.append([*cells, *shares, str(len(of_method))])
    return markdown(lines)


def improvements(rows: Rows, *, splits: bool = False) -> str:
    """How much lower each method's error is than that of the best linear model, and the share of genes won.

    With `splits`, a last line says over how many.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = [["method", *datasets], ["---"] + ["---:"] * len(datasets)]
    for method, of_method in by_method(rows).items():
        cells = [labelled(method, of_method)]
        for dataset in datasets:
            here = [row for row in of_method if row["dataset"] == dataset]
            improvement, won = shown(here, "vs best linear", "{:+.1%}"), shown(here, "won vs best linear", "{:.0%}")
            few = f" ({len(here[0]['seeds'])} splits)" if here and "seeds" in here[0] else ""
            cells.append(f"{improvement}, {won}{few}" if here else "")
        lines.append(cells)
    if splits:
        seeds = [{row["seed"] for row in rows if row["dataset"] == dataset} for dataset in datasets]
        lines.append(["splits", *(str(len(of_dataset)) for of_dataset in seeds)])
    return markdown(lines)


def by_method(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Rows of each method."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        methods.setdefault(row["method"], []).append(row)
    return methods


def labelled(method: str, rows: Rows) -> str:
    """The method, with its targets where they are not all; those of R_gene are never."""
    return f"{method} ({rows[0]['targets']} targets)" if rows[0].get("well inferred", 1) is None else method


def error(rows: Rows) -> str:
    """Mean and standard deviation over seeds."""
    errors = [row["MAE"] for row in rows]
    spread = f" ± {statistics.stdev(errors):.4f}" if len(errors) > 1 else ""
    return f"{statistics.mean(errors):.4f}{spread}"


def shown(rows: Rows, column: str, form: str) -> str:
    """The mean of a column, or nothing where a row has none."""
    values = [row.get(column) for row in rows]
    return "" if not values or None in values else form.format(statistics.mean(values))
