"""Does learning_rate_init="auto" train stably and effectively at every size? `python -m benchmarks.learning_rates`.

Trains the combinations of landmarks, hidden layers and targets that are not too large (MAX_FLOPS) for 30 to 200 epochs
on synthetic profiles, under several conditions, and writes the training error before and after to
results/learning_rates.json. A row fails if the error ever exceeded that of predicting the mean by 2 %, ended above 1.05
times its lowest value, or fell by less than a fifth of that of the mean. About a quarter of an hour on two cores.
"""

import itertools
import time

import jax
import numpy as np

from benchmarks._results import provenance, write
from dgex import DGEXRegressor, TrainingDiverged

# Few factors make all genes move together, which is what large steps diverge on.
CONDITIONS = [
    {"activation": "tanh", "factors": 20, "batch size": 50},
    {"activation": "tanh", "factors": 2, "batch size": 20},
    {"activation": "relu", "factors": 2, "batch size": 50},
    {"activation": "identity", "factors": 2, "batch size": 50},
]
N_PROFILES = {1: 200, 943: 600}  # by landmarks
HIDDEN = [(n,) * depth for n in (10, 100, 1000) for depth in (1, 3)]
TARGETS = (1, 1000, 21290)
MAX_FLOPS = 5e11  # of 30 epochs; larger combinations are left to a GPU
FLOPS = 1e11  # small networks are cheap, and train for up to 200 epochs until this much is spent


def profiles(n_profiles: int, n_landmarks: int, n_targets: int, n_factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated landmarks, and targets that are functions of the same few factors, nonlinear in part."""
    rng = np.random.default_rng(0)
    n_factors = min(n_landmarks, n_factors)
    factors = rng.standard_normal((n_profiles, n_factors)) * np.linspace(3, 1, n_factors)
    X = factors @ rng.standard_normal((n_factors, n_landmarks)) / 4 + rng.standard_normal((n_profiles, n_landmarks))
    signal = np.hstack([X, np.tanh(X)] if n_landmarks < 20 else [factors, np.tanh(factors)])
    y = signal @ rng.standard_normal((signal.shape[1], n_targets))
    y /= y.std(axis=0)
    return X.astype(np.float32), (y + 0.3 * rng.standard_normal(y.shape)).astype(np.float32)


def measure(condition: dict, n_landmarks: int, hidden: tuple[int, ...], n_targets: int) -> dict:
    """Train once."""
    n_epochs = int(np.clip(FLOPS / flops_per_epoch(n_landmarks, hidden, n_targets), 30, 200))
    X, y = profiles(N_PROFILES[n_landmarks], n_landmarks, n_targets, condition["factors"])
    row = {**condition, "landmarks": n_landmarks, "hidden": hidden, "targets": n_targets, "epochs": n_epochs}
    model = DGEXRegressor(
        hidden_layer_sizes=hidden,
        activation=condition["activation"],
        max_iter=n_epochs,
        batch_size=condition["batch size"],
        validation_fraction=0,
        random_state=0,
    )
    start = time.perf_counter()
    try:
        model.fit(X, y)
    except TrainingDiverged as error:
        return {**row, "verdict": "fails", "error": str(error)}
    errors = np.array([record["train_mae"] for record in model.history_])
    of_mean = np.abs((y - model.target_mean_) / model.target_scale_).mean()
    stable = errors.max() < 1.02 * of_mean and errors[-1] < 1.05 * errors.min()
    effective = errors[-1] < 0.8 * of_mean
    return {
        **row,
        "verdict": "holds" if stable and effective else "fails",
        "error of the mean": round(float(of_mean), 4),
        "first error": round(float(errors[0]), 4),
        "highest error": round(float(errors.max()), 4),
        "last error": round(float(errors[-1]), 4),
        "seconds": round(time.perf_counter() - start, 1),
    }


def flops_per_epoch(n_landmarks: int, hidden: tuple[int, ...], n_targets: int) -> float:
    """Arithmetic of the matrix products, forward and backward."""
    sizes = (n_landmarks, *hidden, n_targets)
    return 6 * sum(a * b for a, b in itertools.pairwise(sizes)) * N_PROFILES[n_landmarks]


def main() -> None:
    """Train every combination."""
    origin, rows = provenance(), []
    for condition, n_landmarks, hidden, n_targets in itertools.product(CONDITIONS, N_PROFILES, HIDDEN, TARGETS):
        if 30 * flops_per_epoch(n_landmarks, hidden, n_targets) > MAX_FLOPS:
            continue
        rows.append(measure(condition, n_landmarks, hidden, n_targets))
        jax.clear_caches()  # hundreds of programs exhaust what the operating system maps
        print(*rows[-1].values(), flush=True)
        write("learning_rates", rows, origin)
    failed = [row for row in rows if row["verdict"] == "fails"]
    print(f"{len(rows) - len(failed)} of {len(rows)} combinations hold.")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
