"""Measure how fast and lean the library is: `python -m benchmarks.performance`, or `make bench`.

Every part beside its peers, in turns. Each row has a verdict: whether what was asked for holds. Rows are stored as soon
as they are measured, in results/performance.json, in place of those of the same case on such a processor before; the
exit status says whether any was missed. `--page docs/performance.md` fills the tables of a page from the rows,
`--figure docs/figures/growth.svg` draws the curves of growth, and both measure nothing. Less than 20 minutes on two
cores that do nothing else.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._pages import fill
from benchmarks._results import FOLDER, provenance, write
from benchmarks.performance import _baselines, _curves, _errors, _memory, _training
from benchmarks.performance._rounds import Case
from benchmarks.performance._tables import table, tables

PARTS: dict[str, Callable[[], Iterator[Case]]] = {
    "import": _baselines.import_cases,
    "small": _training.small_cases,
    "normalizer": _baselines.normalizer_cases,
    "neighbors": _baselines.neighbor_cases,
    "memory": _memory.cases,
    "training": _training.cases,
    "errors": _errors.cases,
    "growth": _curves.cases,
}


def main(arguments: argparse.Namespace) -> int:
    """Measure the parts that are asked for."""
    path = FOLDER / "performance.json"
    stored: list[Case] = json.loads(path.read_text())["rows"] if path.exists() else []
    if arguments.page or arguments.figure:
        if arguments.page:
            fill(arguments.page, tables(stored))
        if arguments.figure:
            _curves.draw(stored, arguments.figure)
        return 0
    origin = provenance()
    origin["command"] = " ".join(["python", "-m", "benchmarks.performance", *sys.argv[1:]])
    run = {"commit": origin["commit"], "command": origin["command"], "processor": origin["machine"]["processor"]}
    measured: list[Case] = []
    for part in arguments.parts:
        print(f"{part} ...", flush=True)
        for row in PARTS[part]():
            measured.append(row | {"run": run})
            print(f"  {row['case']}, {row['what']}: {row['value']:.3g} {row['unit']} {row['verdict']}", flush=True)
            now = set(map(identity, measured))
            kept = [row for row in stored if identity(row) not in now]
            write("performance", [*kept, *measured], origin)
    print(f"\n{table(measured)}")
    return int(any(row["verdict"] == "missed" for row in measured))


def identity(row: Case) -> tuple[str, str, str]:
    """What a row is a measurement of."""
    return row["run"]["processor"], row["case"], row["what"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--page", type=Path, help="only fill the tables of this page")
    parser.add_argument("--figure", type=Path, help="only draw the curves of growth")
    sys.exit(main(parser.parse_args()))
