"""Repeat examples/02_arrays_to_rnaseq.py over random splits: `python -m benchmarks.arrays_to_rnaseq`.

Writes results/arrays_to_rnaseq.json and prints the table of the README. About half an hour on two cores for five seeds.
"""

import argparse
import statistics
from collections import defaultdict

from benchmarks._examples import arrays_to_rnaseq
from benchmarks._results import provenance, write


def main(n_seeds: int, max_iter: int) -> None:
    """Run the protocol for every seed."""
    example, origin = arrays_to_rnaseq(), provenance()
    expression, is_landmark, _ = example.load()
    rows = []
    for seed in range(n_seeds):
        train, platforms = example.prepare(expression, is_landmark, seed)
        for platform, table in example.compare(train, platforms, seed, max_iter).items():
            rows += [{"seed": seed, "platform": platform, **row} for row in table]
            print(f"\nseed {seed}, {platform}\n\n{table}", flush=True)
        write("arrays_to_rnaseq", rows, origin)
    print(f"\n{summary(rows)}")


def summary(rows: list[dict]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    by_platform = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_platform[row["platform"]][row["model"]].append(row)
    models = list(next(iter(by_platform.values())))
    lines = [
        "| model | " + " | ".join(f"{platform} | vs ridge | genes won" for platform in by_platform) + " |",
        "|---|" + "---:|" * (3 * len(by_platform)),
    ]
    for model in models:
        cells = []
        for platform in by_platform.values():
            errors = [row["error"] for row in platform[model]]
            spread = statistics.stdev(errors) if len(errors) > 1 else float("nan")
            improvement = statistics.mean(row["improvement"] for row in platform[model])
            won = statistics.mean(row["genes won"] for row in platform[model])
            cells += [f"{statistics.mean(errors):.4f} ± {spread:.4f}", f"{improvement:+.1%}", f"{won:.0%}"]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-seeds", type=int, default=5)
    parser.add_argument("--max-iter", type=int, default=100)
    main(**vars(parser.parse_args()))
