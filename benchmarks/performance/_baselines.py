"""The normalizer against qnorm, KNN-GE against the product it needs, and the time to import."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import qnorm

from benchmarks.performance._rounds import Case, in_new_process, medians, noise, verdict
from dgex import KNNGeneRegressor, QuantileJointNormalizer

N_GENES = 10_463
ROUNDS = 7

# Results of so small a difference are equal but for rounding.
EQUAL = 1e-6


def normalizer_cases() -> Iterator[Case]:
    """Equal profiles, equal results; and growth with the number of profiles."""
    for dtype in ("float32", "float64"):
        for what in ("arrays", "counts"):
            yield from in_new_process(normalizer_case, what, dtype)
    yield in_new_process(normalizer_growth)


def profiles(n_profiles: int, what: str, dtype: str) -> np.ndarray:
    """Noise of all the digits that the type has, nearly without ties, or counts of which four in ten are zero."""
    if what == "arrays":
        return noise(n_profiles, N_GENES, dtype=np.dtype(dtype).type)
    rng = np.random.default_rng(0)
    return rng.poisson(50, (n_profiles, N_GENES)).astype(dtype) * (rng.random((n_profiles, N_GENES)) > 0.4)


def normalizer_case(what: str, dtype: str) -> list[Case]:
    """Seconds for 5,000 profiles, of both."""
    X = profiles(5000, what, dtype)
    results = {}

    def ours() -> None:
        results["dgex"] = QuantileJointNormalizer(ties="mean").fit_transform(X)

    def peer() -> None:
        results["qnorm"] = qnorm.quantile_normalize(X, axis=0, ncpus=2)

    seconds = medians({"dgex": ours, "qnorm": peer}, ROUNDS)
    difference = float(np.abs(results["dgex"] - results["qnorm"]).max())
    ratio = seconds["qnorm"] / seconds["dgex"]
    name = f"normalizer, {what}, {dtype}"
    return [
        verdict(name, "speed, of qnorm's", ratio, 3.0, at_least=True, seconds=seconds),
        verdict(name, "largest difference from qnorm's", difference, EQUAL, unit=""),
    ]


def normalizer_growth() -> Case:
    """How much more a profile takes among 20,000 than among 1,000."""
    X = profiles(20_000, "arrays", "float32")
    few, many = (lambda n=n: QuantileJointNormalizer().fit_transform(X[:n]) for n in (1000, 20_000))
    seconds = medians({"1,000": few, "20,000": many}, ROUNDS)
    ratio = seconds["20,000"] / seconds["1,000"] / 20
    return verdict("normalizer, growth", "time per profile, 20,000 of 1,000", ratio, 1.2, seconds=seconds)


def neighbor_cases() -> Iterator[Case]:
    """KNN-GE at 20,000 profiles."""
    yield in_new_process(neighbor_case)


def neighbor_case() -> Case:
    """Seconds of a fit and of the product of targets and landmarks."""
    X, y = noise(20_000, 943), noise(20_000, 9520, seed=1)
    seconds = medians({"fit": lambda: KNNGeneRegressor().fit(X, y), "product": lambda: y.T @ X}, ROUNDS)
    return verdict("KNN-GE", "time of fit, of its product's", seconds["fit"] / seconds["product"], 1.3, seconds=seconds)


def import_cases(rounds: int = 7) -> Iterator[Case]:
    """Seconds of fresh interpreters, in turns."""
    programs = {
        "dgex": "import dgex",
        "DGEXRegressor": "from dgex import DGEXRegressor; import sys; assert 'flax' not in sys.modules",
        "a first fit": "from dgex import DGEXRegressor; from flax import nnx",
        "its dependencies": "import jax, optax, sklearn",
        "normalizer": "from dgex import QuantileJointNormalizer; import sys; assert 'jax' not in sys.modules",
        "python": "",
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    for name, what in (("dgex", "dgex itself"), ("DGEXRegressor", "DGEXRegressor")):
        ratio = (median[name] - median["python"]) / (median["its dependencies"] - median["python"])
        yield verdict("import", f"time of {what}, of jax, optax, sklearn", ratio, 1.15, seconds=median)
    ratio = (median["a first fit"] - median["python"]) / (median["its dependencies"] - median["python"])
    yield verdict(
        "import", "time of DGEXRegressor and of Flax, for a first fit, of the same", ratio, None, seconds=median
    )
    ratio = median["normalizer"] / median["its dependencies"]
    yield verdict("import", "time of QuantileJointNormalizer, of the same", ratio, None, seconds=median)
