"""What it costs to measure errors between epochs, at the proportions of the paper's data."""

from collections.abc import Iterator
from itertools import chain
from statistics import median

from benchmarks.performance._rounds import Case, in_new_process, noise, verdict
from dgex import DGEXRegressor

N_LANDMARKS = 943
PAPERS = 88_807, 11_101, 5_000  # profiles to train on, to select the epoch on, to watch the training error on
EPOCHS, ROUNDS = 2, 3  # epochs of a fit that count; one goes before


def cases() -> Iterator[Case]:
    """One network on a CPU."""
    seconds, monitored, both = in_new_process(shares, (1000,), 4000, 9520)
    name = "errors 943x1000x9520"
    yield verdict(name, "of the training, share of an epoch", monitored, 0.05, unit="", seconds=seconds)
    yield verdict(name, "of training and validation, share of an epoch", both, 0.05, unit="", seconds=seconds)


def shares(hidden: tuple[int, ...], n_profiles: int, n_targets: int) -> tuple[float, float, float]:
    """Seconds of an epoch without errors, and what the training error and both errors add to it, by fits in turns."""
    n_validation, n_monitored = (round(number * n_profiles / PAPERS[0]) for number in PAPERS[1:])
    X, y = noise(n_profiles + n_validation, N_LANDMARKS), noise(n_profiles + n_validation, n_targets, seed=1)
    validation = {"X_val": X[n_profiles:], "y_val": y[n_profiles:]}

    def epochs(monitor_size: int, **validation: object) -> list[float]:
        model = DGEXRegressor(
            hidden_layer_sizes=hidden,
            max_iter=1 + EPOCHS,
            validation_fraction=0.0,
            monitor_size=monitor_size,
            standardize=False,
            learning_rate_init=1e-6,
            learning_rate_min=1e-7,
            random_state=0,
        )
        model.fit(X[:n_profiles], y[:n_profiles], **validation)
        return [record["seconds"] for record in model.history_[1:]]

    rounds = [(epochs(1), epochs(n_monitored), epochs(n_monitored, **validation)) for _ in range(ROUNDS)]
    without, monitored, both = (median(chain.from_iterable(fits)) for fits in zip(*rounds, strict=True))
    return without, monitored / without - 1, both / without - 1
