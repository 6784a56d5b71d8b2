"""Seconds and megabytes of an epoch as profiles, targets and units grow, one after the other."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks._memory import most_resident, resident
from benchmarks.performance._rounds import Case, in_new_process, noise, verdict
from benchmarks.performance._tables import short
from dgex import DGEXRegressor

N_PROFILES, N_LANDMARKS, N_TARGETS, N_UNITS = 4000, 943, 4000, 500
GROWTH = {
    "profiles": (1000, 2000, 4000, 8000, 16_000, 32_000),
    "targets": (1000, 2000, 5000, 10_000, 20_000),
    "units": (500, 1000, 2000, 4000, 6000),
}
# An exponent that still counts as linear on a noisy machine.
TOLERANCE = 1.15


def cases() -> Iterator[Case]:
    """Every size in a process of its own, and the exponents of growth between the larger ones."""
    for what, sizes in GROWTH.items():
        curve = []
        for size in sizes:
            seconds, megabytes = in_new_process(epoch, what, size)
            curve.append({"size": size, "seconds": seconds, "MB": megabytes})
        for column in ("seconds", "MB"):
            power = exponent(curve, column)
            yield verdict(f"growth with {what}", f"exponent of {column}", power, TOLERANCE, unit="", curve=curve)


def exponent(curve: list[dict[str, float]], column: str) -> float:
    """Of the power law through the two largest sizes."""
    (a, b) = curve[-2:]
    return float(np.log(b[column] / a[column]) / np.log(b["size"] / a["size"]))


def epoch(what: str, size: int) -> tuple[float, float]:
    """Median seconds of epochs after the first, and the most memory beyond that of a process with nothing loaded."""
    sizes = {"profiles": N_PROFILES, "targets": N_TARGETS, "units": N_UNITS} | {what: size}
    before = resident()
    X, y = noise(sizes["profiles"], N_LANDMARKS), noise(sizes["profiles"], sizes["targets"], seed=1)
    model = DGEXRegressor(hidden_layer_sizes=(sizes["units"],), max_iter=4, monitor_size=200, random_state=0)
    model.fit(X, y)
    return median(epoch["seconds"] for epoch in model.history_[1:]), most_resident() - before


def draw(rows: list[Case], path: Path) -> None:
    """The curves as one figure, beside dotted ones that are linear."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, len(GROWTH))
    for (column, what), (index, name) in product(enumerate(GROWTH), enumerate(("seconds", "MB"))):
        ax = panels[index, column]
        for row in rows:
            if (row["case"], row["what"]) == (f"growth with {what}", f"exponent of {name}"):
                sizes, values = (np.array([point[key] for point in row["curve"]]) for key in ("size", name))
                ax.loglog(sizes, values, "o-", label=short(row["run"]["processor"]))
                ax.loglog(sizes, values[-1] * sizes / sizes[-1], ":", color="gray")
        ax.set_xlabel(what)
        ax.set_xticks(GROWTH[what], map("{:,}".format, GROWTH[what]), rotation=45)
        ax.minorticks_off()
        ax.set_ylabel("an epoch (s)" if name == "seconds" else "most memory (MB)")
    panels[0, 0].legend()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dgex"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
