"""Cells of the grid: one data set, one method, one seed; each in a process of its own, and stored when it is done.

What is compared gene by gene (a share of genes won) needs the gene-wise errors of both methods. These are kept in a
cache beside the code, not in the results; baselines that are not in it are run again. Of data sets that have the same
genes in all splits, errors are also averaged over splits before they are compared.
"""

import fcntl
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._memory import most_resident

CACHE = Path(__file__).parent / ".cache"

# R_gene of a gene that is called well inferred.
WELL_INFERRED = 0.95


class Cell(NamedTuple):
    """A place in the grid."""

    dataset: str
    method: str
    seed: int

    @property
    def file(self) -> str:
        """Where its gene-wise errors are cached."""
        return "".join(c if c.isalnum() else "_" for c in f"{self.dataset} {self.method} {self.seed}") + ".npz"


class Results:
    """Rows of a file of results, each with the run that it comes from, written after every cell.

    Several runs may write to one file.
    """

    def __init__(self, path: Path, cache: Path, origin: dict[str, Any]) -> None:
        self.path, self.cache, self.origin = path, cache, origin
        self.read()

    def read(self) -> None:
        """What the file holds now: other runs may have written to it."""
        stored = json.loads(self.path.read_text()) if self.path.exists() else {"runs": [], "rows": []}
        self.runs: list[dict[str, Any]] = stored["runs"]
        self.rows: dict[Cell, dict[str, Any]] = {cell_of(row): row for row in stored["rows"]}
        averages = stored.get("averages", [])
        self.averages: dict[tuple[str, str], dict[str, Any]] = {
            (row["dataset"], row["method"]): row for row in averages
        }

    def has(self, cell: Cell) -> bool:
        """Whether the cell has been run."""
        return cell in self.rows

    def can_compare(self, cell: Cell) -> bool:
        """Whether the cell has been run and its gene-wise errors are here."""
        return cell in self.rows and (self.cache / cell.file).exists()

    def add(self, cell: Cell, row: dict[str, Any]) -> None:
        """Store a finished cell, compare it and those that are compared with it."""
        for folder in (self.path.parent, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        with (self.cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            if self.origin not in self.runs:
                self.runs.append(self.origin)
            self.rows[cell] = {**cell._asdict(), **row, "run": self.runs.index(self.origin)}
            for other in [other for other in self.rows if other[::2] == cell[::2] and self.can_compare(other)]:
                self.rows[other].update(compared(other, self.rows, self.cache))
            self.average(cell.dataset)
            self.write()

    def average(self, dataset: str) -> None:
        """Compare methods on a data set by errors averaged over the splits at hand, unless fewer than before."""
        cells = sorted(cell for cell in self.rows if cell.dataset == dataset and self.can_compare(cell))
        for method, of_method in groupby(cells, key=attrgetter("method")):
            average = averaged(list(of_method), self.rows, self.cache)
            before = self.averages.get((dataset, method), {"seeds": []})
            if average and len(average["seeds"]) >= len(before["seeds"]):
                self.averages[dataset, method] = average

    def write(self) -> None:
        """Replace the file by one with all rows. What the whole file says of its origin is that of the last run."""
        temporary = self.path.with_suffix(".tmp")
        head = json.dumps({**self.runs[-1], "runs": self.runs}, indent=1).removesuffix("\n}")
        for name, rows in (("averages", self.averages), ("rows", self.rows)):
            head += f',\n "{name}": [\n  ' + ",\n  ".join(json.dumps(row) for row in rows.values()) + "\n ]"
        temporary.write_text(head + "\n}\n")
        temporary.replace(self.path)


def cell_of(row: dict[str, Any]) -> Cell:
    """The cell that a row is of."""
    return Cell(row["dataset"], row["method"], row["seed"])


def run(cells: Iterable[Cell], results: Results) -> list[Cell]:
    """Run cells, store their rows, and return those that failed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait must not keep other processes waiting
    failed = []
    for cell in cells:
        row = in_a_process(cell, results.cache)
        if row is None:
            failed.append(cell)
            print(f"{cell.dataset} | {cell.method} | seed {cell.seed}: failed", file=sys.stderr, flush=True)
            continue
        results.add(cell, row)
        print(
            f"{cell.dataset} | {cell.method} | seed {cell.seed}: MAE {row['MAE']:.4f}, {row['seconds']:.1f} s, "
            f"{row['peak MB']:.0f} MB, {row['chosen']}",
            flush=True,
        )
    return failed


def in_a_process(cell: Cell, cache: Path) -> dict[str, Any] | None:
    """Run a cell in a fresh process, whose peak memory is the cell's; None if that failed."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_measured, args=(cell, cache, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def send_measured(cell: Cell, cache: Path, sender: Any) -> None:
    """Run a cell and hand over its row."""
    try:
        sender.send(measured(cell, cache))
    except Exception:
        traceback.print_exc()
    finally:
        sender.close()


def measured(cell: Cell, cache: Path) -> dict[str, Any]:
    """Fit, choose and test a method; cache its gene-wise errors."""
    from benchmarks.accuracy._datasets import DATASETS
    from benchmarks.accuracy._methods import METHODS
    from dgex.metrics import genewise_mae, overall_error

    split = DATASETS[cell.dataset](cell.seed)
    start = time.perf_counter()
    fitted = METHODS[cell.method](split, cell.seed)
    seconds = time.perf_counter() - start
    targets = np.arange(split.test.y.shape[1]) if fitted.targets is None else fitted.targets
    peak = round(most_resident())
    predicted = fitted.predict(split.test.X)
    errors = genewise_mae(split.test.y[:, targets], predicted)
    cache.mkdir(parents=True, exist_ok=True)
    genes = {} if split.genes is None else {"genes": split.genes[targets]}
    np.savez(cache / cell.file, errors=errors, targets=targets, **genes)
    validation = overall_error(split.validation.y[:, targets], fitted.predict(split.validation.X)).mean
    return {
        "profiles": [len(part.X) for part in split[:3]],
        "landmarks": split.train.X.shape[1],
        "targets": len(targets),
        "chosen": fitted.chosen,
        "MAE": float(errors.mean()),
        "sd": float(errors.std()),
        "validation MAE": validation,
        **correlations(split.test.y[:, targets], predicted, whole=fitted.targets is None),
        "seconds": round(seconds, 2),
        "peak MB": peak,
    }


def correlations(y_true: np.ndarray, y_pred: np.ndarray, whole: bool) -> dict[str, float | None]:
    """Mean correlation of a gene, and the share of genes well inferred, which a choice of targets would change."""
    from dgex.metrics import genewise_correlation, r_gene

    ranks = r_gene(y_true, y_pred) if whole else None
    return {
        "Pearson": float(np.nanmean(genewise_correlation(y_true, y_pred))),
        "well inferred": None if ranks is None else float(np.mean(ranks >= WELL_INFERRED)),
    }


def compared(cell: Cell, rows: dict[Cell, dict[str, Any]], cache: Path) -> dict[str, Any]:
    """A cell's error next to those of ridge, of the best linear model and of KNN-GE, on the targets that it has.

    The best linear model is the one with the lowest validation error of those that have been run.
    """
    from benchmarks.accuracy._methods import LINEAR

    linear = [candidate for candidate in (cell._replace(method=name) for name in LINEAR) if candidate in rows]
    linear = [candidate for candidate in linear if (cache / candidate.file).exists()]
    best = min(linear, key=lambda candidate: rows[candidate]["validation MAE"], default=None)
    comparison: dict[str, Any] = {"best linear": best.method if best and len(linear) == len(LINEAR) else None}
    for name, method in (("ridge", "ridge"), ("best linear", comparison["best linear"]), ("KNN-GE", "KNN-GE")):
        baseline = cell._replace(method=method)
        known = baseline in rows and (cache / baseline.file).exists()
        comparison[f"vs {name}"], comparison[f"won vs {name}"] = (
            against(cache / cell.file, cache / baseline.file) if known else (None, None)
        )
    return comparison


def against(file: Path, baseline_file: Path) -> tuple[float, float]:
    """Relative improvement on a baseline and share of genes won, on the targets of the first."""
    from dgex.metrics import relative_improvement, win_rate

    errors, baseline_errors = paired_errors(file, baseline_file)
    return float(relative_improvement(errors.mean(), baseline_errors.mean())), win_rate(errors, baseline_errors)


def paired_errors(file: Path, baseline_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Errors of two methods on the targets of the first."""
    with np.load(file) as stored, np.load(baseline_file) as baseline:
        position = {target: index for index, target in enumerate(baseline["targets"].tolist())}
        return stored["errors"], baseline["errors"][[position[target] for target in stored["targets"].tolist()]]


def averaged(cells: Sequence[Cell], rows: dict[Cell, dict[str, Any]], cache: Path) -> dict[str, Any] | None:
    """A method next to the best linear model of each split, by the mean error of a gene over the splits that have it.

    None where there are fewer than two splits, or no genes in common.
    """
    from dgex.metrics import relative_improvement, win_rate

    splits = {}
    for cell in cells:
        best = cell._replace(method=rows[cell]["best linear"])
        with np.load(cache / cell.file) as stored:
            genes = stored.get("genes")
        if best.method is not None and genes is not None and (cache / best.file).exists():
            splits[cell.seed] = genes, *paired_errors(cache / cell.file, cache / best.file)
    if len(splits) < 2:
        return None
    genes, errors, baseline_errors = map(np.concatenate, zip(*splits.values(), strict=True))
    _, gene = np.unique(genes, return_inverse=True)
    means, baseline_means = (np.bincount(gene, values) / np.bincount(gene) for values in (errors, baseline_errors))
    return {
        **{"dataset": cells[0].dataset, "method": cells[0].method, "seeds": list(splits), "genes": len(means)},
        "vs best linear": float(relative_improvement(means.mean(), baseline_means.mean())),
        "won vs best linear": win_rate(means, baseline_means),
    }
