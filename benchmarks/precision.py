"""What bfloat16 costs in accuracy and gains in speed, on real profiles: `python -m benchmarks.precision`.

The protocol of examples/02_arrays_to_rnaseq.py, whose data it needs: the paper's smallest network is trained on human
arrays, once with float32 and once with bfloat16 as the type of matrix products, everything else equal; errors are those
on held-out arrays and on the RNA-seq of glioblastomas, each with the epoch chosen on other profiles of its platform.
Writes results/precision.json. About fifteen minutes on two cores for five seeds. Speed depends on the processor: where
it has no bfloat16 products, "bfloat16" is slower.
"""

import argparse
import statistics
from typing import Any

import jax

from benchmarks._examples import arrays_to_rnaseq
from benchmarks._results import provenance, write
from dgex import DGEXRegressor
from dgex.metrics import overall_error

DTYPES = ("float32", "bfloat16")


def main(n_seeds: int, max_iter: int) -> None:
    """Train both for every seed."""
    example, origin = arrays_to_rnaseq(), provenance()
    expression, is_landmark, _ = example.load()
    rows = []
    for seed in range(n_seeds):
        train, platforms = example.prepare(expression, is_landmark, seed)
        float32, bfloat16 = (measured(train, platforms, seed, max_iter, dtype) for dtype in DTYPES)
        for platform in platforms:
            rows.append(
                {
                    "seed": seed,
                    "platform": platform,
                    "device": jax.devices()[0].device_kind,
                    **{f"error {dtype}": row[platform] for dtype, row in zip(DTYPES, (float32, bfloat16), strict=True)},
                    "error ratio": bfloat16[platform] / float32[platform],
                    "seconds per epoch float32": float32["seconds"],
                    "seconds per epoch bfloat16": bfloat16["seconds"],
                    "speed ratio": float32["seconds"] / bfloat16["seconds"],
                }
            )
            print(rows[-1], flush=True)
        write("precision", rows, origin)
    print(summary(rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """Errors over seeds and ratios, as Markdown."""
    lines = [
        "| test profiles | error, float32 | error, bfloat16 | mean of the ratio | largest ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for platform in dict.fromkeys(row["platform"] for row in rows):
        of_platform = [row for row in rows if row["platform"] == platform]
        errors = [statistics.mean(row[f"error {dtype}"] for row in of_platform) for dtype in DTYPES]
        ratios = [row["error ratio"] for row in of_platform]
        cells = [*(f"{error:.4f}" for error in errors), f"{statistics.mean(ratios):.5f}", f"{max(ratios):.5f}"]
        lines.append(f"| {platform} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measured(train: Any, platforms: dict[str, Any], seed: int, max_iter: int, dtype: str) -> dict[str, float]:
    """The test error on every platform, and the median seconds of an epoch."""
    network = DGEXRegressor(compute_dtype=dtype, max_iter=max_iter, standardize=False, random_state=seed)
    validation = [platform.validation for platform in platforms.values()]
    network.fit(*train, X_val=tuple(sets.X for sets in validation), y_val=tuple(sets.y for sets in validation))
    errors = {
        name: float(overall_error(platform.test.y, network.best_model(index).predict(platform.test.X)).mean)
        for index, (name, platform) in enumerate(platforms.items())
    }
    return {**errors, "seconds": statistics.median(record["seconds"] for record in network.history_)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-seeds", type=int, default=5)
    parser.add_argument("--max-iter", type=int, default=100)
    main(**vars(parser.parse_args()))
