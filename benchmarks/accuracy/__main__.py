"""Measure how accurately expression is inferred: `python -m benchmarks.accuracy`.

Every method on every data set over several seeds, splits included. Each cell is stored when it is done, in
results/accuracy.json; cells that are there are not run again, unless asked (`--again`). `--tables docs/accuracy.md`
fills the tables of a page from the rows and runs nothing. Real data sets need the folder of real expression data
(`DGEX_DATA`, or ../shared/data beside the checkout). Several hours on two cores; `--quick` is one seed of two data
sets, in minutes.
"""

import argparse
import sys
from pathlib import Path

from benchmarks._pages import fill
from benchmarks._results import FOLDER, provenance
from benchmarks.accuracy._cells import CACHE, Cell, Results, run
from benchmarks.accuracy._datasets import DATASETS
from benchmarks.accuracy._methods import ABLATIONS, BASELINES, METHODS, ON_REQUEST
from benchmarks.accuracy._tables import tables

QUICK_DATASETS = ("E. coli, random", "synthetic 2k")
QUICK_METHODS = ("least squares", "ridge", "lasso", "partial least squares", "sample KNN", "KNN-GE")


def main(arguments: argparse.Namespace) -> int:
    """Run the cells that are asked for and not there yet."""
    origin = {} if arguments.tables else provenance()
    origin["command"] = " ".join(["python", "-m", "benchmarks.accuracy", *sys.argv[1:]])
    results = Results(arguments.results / "accuracy.json", arguments.cache, origin)
    if arguments.tables:
        fill(arguments.tables, tables(list(results.rows.values()), list(results.averages.values())))
        return 0
    cells = planned(arguments, results)
    print(f"{len(cells)} cells to run, {len(results.rows)} there", flush=True)
    failed = run(cells, results)
    if results.rows:
        for table in tables(list(results.rows.values()), list(results.averages.values())).values():
            print(f"\n{table}")
    return 1 if failed else 0


def planned(arguments: argparse.Namespace, results: Results) -> list[Cell]:
    """Cells to run, seed by seed, the baselines that others are compared with first."""
    if arguments.quick:
        arguments.seeds, arguments.datasets, arguments.methods = 1, QUICK_DATASETS, QUICK_METHODS
    methods = list(ABLATIONS) if arguments.ablation else [*arguments.methods]
    if arguments.all_cells and "D-GEX paper, 27 cells" not in methods:
        methods.append("D-GEX paper, 27 cells")
    cells = []
    for seed in range(arguments.seeds):
        for dataset in arguments.datasets:
            wanted = [Cell(dataset, method, seed) for method in methods]
            wanted = [cell for cell in wanted if arguments.again or not results.has(cell)]
            baselines = [Cell(dataset, method, seed) for method in BASELINES] if wanted else []
            missing = [cell for cell in baselines if not results.can_compare(cell)]
            cells += dict.fromkeys(missing + wanted)
    return cells


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = [method for method in METHODS if method not in ON_REQUEST]
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=usual, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--quick", action="store_true", help="one seed, two data sets, methods that take seconds")
    parser.add_argument("--ablation", action="store_true", help="what each ingredient adds, instead of the methods")
    parser.add_argument("--all-cells", action="store_true", help="also the best of all 27 configurations of the paper")
    parser.add_argument("--again", action="store_true", help="run cells that are there again")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of accuracy.json")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of gene-wise errors")
    parser.add_argument("--tables", type=Path, metavar="PAGE", help="only fill the tables of this page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parsed()))
