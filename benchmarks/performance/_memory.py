"""The most memory that fit and predict take, in fresh processes."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import flax.nnx  # noqa: F401  # dgex imports it with the first network: it is a module, too
import numpy as np

from benchmarks._memory import most_resident, resident
from benchmarks.performance._rounds import Case, in_new_process, noise, verdict
from dgex import DGEXRegressor, recipes

N_PROFILES, N_LANDMARKS, N_TARGETS, N_UNITS = 20_000, 943, 9520, 1000
DATA = 4 * N_PROFILES * (N_LANDMARKS + N_TARGETS) / 1e6
PARAMETERS = 4 * ((N_LANDMARKS + 1) * N_UNITS + (N_UNITS + 1) * N_TARGETS) / 1e6

# Units of the network that starts in closed form, and its parameters.
N_FIXED = 2000
OF_CLOSED_FORM = 4 * ((N_LANDMARKS + 1) * N_FIXED + (N_LANDMARKS + N_FIXED + 1) * N_TARGETS) / 1e6


def cases() -> Iterator[Case]:
    """Beyond what a process has that has imported all modules, and computed nothing."""
    what = "of 1.25 x the data and 6 x the parameters"
    with tempfile.TemporaryDirectory() as name:
        for kind in ("arrays in memory", "memory maps"):
            peak, imported = median_of(fit, kind, Path(name))
            ratio = (peak - imported) / (1.25 * DATA + 6 * PARAMETERS)
            yield verdict(f"memory of fit, {kind}", what, ratio, 1.0, MB=peak, imported=imported)
    beyond = in_new_process(predict)
    yield verdict("memory of predict", "beyond the output", beyond, 300, unit="MB")
    peak, imported = in_new_process(closed_form)
    ratio = (peak - imported) / (1.25 * DATA + 6 * OF_CLOSED_FORM)
    yield verdict("memory of fit, closed form", what, ratio, None, MB=peak, imported=imported)


def median_of(measure: Callable[..., tuple[float, float]], *arguments: object) -> tuple[float, float]:
    """The median of three processes: which pages are large is up to the system, and worth 3 % of the peak."""
    return sorted(in_new_process(measure, *arguments) for _ in range(3))[1]


def model() -> DGEXRegressor:
    """One epoch of a network."""
    return DGEXRegressor(hidden_layer_sizes=(N_UNITS,), max_iter=1, random_state=0)


def fit(kind: str, folder: Path) -> tuple[float, float]:
    """Megabytes at most, of data and all else, and those before there was anything but modules."""
    if kind == "memory maps" and not (folder / "X.npy").exists():
        in_new_process(write, folder)
    imported = resident()
    if kind == "memory maps":
        X, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "Xy")
    else:
        X, y = noise(N_PROFILES, N_LANDMARKS), noise(N_PROFILES, N_TARGETS, seed=1)
    model().fit(X, y)
    return most_resident(), imported


def closed_form() -> tuple[float, float]:
    """The same of a smaller `recipes.modern`, whose output layer is found by normal equations."""
    imported = resident()
    X, y = noise(N_PROFILES, N_LANDMARKS), noise(N_PROFILES, N_TARGETS, seed=1)
    recipes.modern(hidden_layer_sizes=(N_FIXED,), max_iter=1, random_state=0).fit(X, y)
    return most_resident(), imported


def write(folder: Path) -> None:
    """Profiles in files, by a process that ends."""
    np.save(folder / "X.npy", noise(N_PROFILES, N_LANDMARKS))
    np.save(folder / "y.npy", noise(N_PROFILES, N_TARGETS, seed=1))


def predict() -> float:
    """Megabytes at most beyond the output, by a model that was fitted on a few profiles."""
    fitted = model().fit(noise(400, N_LANDMARKS), noise(400, N_TARGETS, seed=1))
    X = noise(N_PROFILES, N_LANDMARKS)
    before = resident()
    output = fitted.predict(X)
    return most_resident() - before - output.nbytes / 1e6
