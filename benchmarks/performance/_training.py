"""Training, whole fits: against the same network in PyTorch and scikit-learn's, and the machine's matrix products."""

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from benchmarks.performance._rounds import Case, in_new_process, medians, noise, verdict
from dgex import DGEXRegressor

N_PROFILES, N_LANDMARKS, N_TARGETS, BATCH = 2000, 943, 9520, 200
NETWORKS = ((1000,), (3000,), (3000, 3000, 3000))
EPOCHS, ROUNDS = 3, 3
DROPOUT = 0.1
# The training error is watched on 5,000 of 88,807 profiles in the paper.
MONITOR = round(N_PROFILES * 5000 / 88_807)


def cases() -> Iterator[Case]:
    """All networks, each in a process of its own."""
    for hidden in NETWORKS:
        yield from in_new_process(of_network, hidden)


def model(hidden: tuple[int, ...], dropout: float = DROPOUT) -> DGEXRegressor:
    """The network, with rates so small that noise cannot make it diverge."""
    rates = {"learning_rate_init": 1e-6, "learning_rate_min": 1e-7}
    return DGEXRegressor(
        hidden_layer_sizes=hidden,
        dropout=dropout,
        batch_size=BATCH,
        max_iter=EPOCHS,
        validation_fraction=0.0,
        monitor_size=MONITOR,
        standardize=False,
        random_state=0,
        **rates,
    )


def of_network(hidden: tuple[int, ...]) -> list[Case]:
    """Fits of one network by all, in turns."""
    X, y = noise(N_PROFILES, N_LANDMARKS), noise(N_PROFILES, N_TARGETS, seed=1)
    fits: dict[str, Callable[[], object]] = {
        "dgex": lambda: model(hidden).fit(X, y),
        "dgex without dropout": lambda: model(hidden, dropout=0.0).fit(X, y),
        "PyTorch": partial(torch_training(hidden, X, y, BATCH, compiled=False), EPOCHS),
        "PyTorch, compiled": partial(torch_training(hidden, X, y, BATCH, compiled=True), EPOCHS),
        "product": bare_products,
    }
    seconds = medians(fits, ROUNDS)
    # Takes longest, and is once after the others.
    mlp = medians({"MLPRegressor": partial(perceptron_fit, hidden, X, y)}, 1, warm=False)["MLPRegressor"]
    weights = [fan_in * fan_out for fan_in, fan_out in pairwise((N_LANDMARKS, *hidden, N_TARGETS))]
    products = 2 * (3 * sum(weights) - weights[0]) * N_PROFILES * EPOCHS  # landmarks have no gradient
    rate, bare = products / seconds["dgex"], PRODUCT_FLOPS / seconds["product"]
    name = f"training {'x'.join(map(str, (N_LANDMARKS, *hidden, N_TARGETS)))}"
    best = min(seconds["PyTorch"], seconds["PyTorch, compiled"])
    return [
        verdict(name, "speed, of PyTorch's better one", best / seconds["dgex"], 1.3, at_least=True, seconds=seconds),
        verdict(name, "speed, of MLPRegressor's", mlp / seconds["dgex"], 1.3, at_least=True, seconds=mlp),
        verdict(name, "share of the rate of bare products", rate / bare, 0.85, at_least=True, GFLOPS=bare / 1e9),
        verdict(name, "time, of that without dropout", seconds["dgex"] / seconds["dgex without dropout"], 1.05),
    ]


PRODUCT_SIZE = 3000
PRODUCT_FLOPS = 2.0 * PRODUCT_SIZE**3


def bare_products() -> np.ndarray:
    """One large product of float32 matrices, by NumPy."""
    return OPERAND @ OPERAND


OPERAND = noise(PRODUCT_SIZE, PRODUCT_SIZE)


def torch_training(
    hidden: tuple[int, ...], X: np.ndarray, y: np.ndarray, batch: int, *, compiled: bool, device: str = "cpu"
) -> Callable[[int], None]:
    """The same training in PyTorch: sums of squares, momentum, batches from random orders. Compiled once for all."""
    torch.manual_seed(0)
    widths = [X.shape[1], *hidden]
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.Tanh(), torch.nn.Dropout(DROPOUT)]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], y.shape[1])).to(device)
    forward = torch.compile(network) if compiled else network
    inputs, targets = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)

    def train(n_epochs: int) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.5, fused=True)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X), device=device).split(batch):
                optimizer.zero_grad(set_to_none=True)
                loss = ((forward(inputs[rows]) - targets[rows]) ** 2).sum() / batch
                loss.backward()
                optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return train


def perceptron_fit(hidden: tuple[int, ...], X: np.ndarray, y: np.ndarray) -> None:
    """scikit-learn's network of the same shape, which has no dropout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        MLPRegressor(
            hidden_layer_sizes=hidden,
            activation="tanh",
            solver="sgd",
            alpha=0.0,
            batch_size=BATCH,
            learning_rate_init=1e-6,
            momentum=0.5,
            nesterovs_momentum=False,
            max_iter=EPOCHS,
        ).fit(X, y)


def small_cases() -> Iterator[Case]:
    """Fits of small data, where everything but the arithmetic counts."""
    first, seconds = in_new_process(small_fits)
    ratio = seconds["dgex"] / seconds["MLPRegressor"]
    yield verdict("small fit", "time, of MLPRegressor's", ratio, 1.5, seconds=seconds)
    yield verdict("small fit", "the first in a process", first, 3.0, unit="s")
    without = in_new_process(first_fit_without_activations)
    yield verdict("small fit", "the first in a process, two layers without activations", without, 3.0, unit="s")
    programs, share, total = in_new_process(small_search)
    assert programs, "none of the programs that were compiled is called like that of training"
    yield verdict("grid search 3 x 3 x 5", "compilations of the training program", programs, 2, unit="")
    yield verdict("grid search 3 x 3 x 5", "share of the time spent compiling", share, 0.2, unit="", seconds=total)


def small_problem() -> tuple[np.ndarray, np.ndarray]:
    """300 profiles of 50 landmarks and 200 targets."""
    return noise(300, 50), noise(300, 200, seed=1)


def small_fits() -> tuple[float, dict[str, float]]:
    """Seconds of the first fit in this process, and of later ones in turns with scikit-learn's."""
    X, y = small_problem()

    def fit() -> None:
        DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(X, y)

    def other() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            MLPRegressor(hidden_layer_sizes=(100,), max_iter=20, batch_size=200, early_stopping=True).fit(X, y)

    start = time.perf_counter()
    fit()
    return time.perf_counter() - start, medians({"dgex": fit, "MLPRegressor": other}, 15)


def first_fit_without_activations() -> float:
    """Seconds of a fit, nearly all of which is compiling."""
    X, y = small_problem()
    start = time.perf_counter()
    DGEXRegressor(hidden_layer_sizes=(100, 100), activation="identity", max_iter=1, random_state=0).fit(X, y)
    return time.perf_counter() - start


def small_search() -> tuple[int, float, float]:
    """Compiled training programs, share of the time spent compiling, and seconds of a search over two rates."""
    import jax
    from sklearn.model_selection import GridSearchCV

    compiled: list[float] = []
    programs: list[str] = []

    def listen(event: str, seconds: float, **details: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)
            programs.append(str(details.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    X, y = small_problem()
    grid = {"dropout": [0.1, 0.25, 0.5], "learning_rate_init": [1e-3, 5e-4, 3e-4]}
    model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0)
    start = time.perf_counter()
    GridSearchCV(model, grid, cv=5).fit(X, y)
    total = time.perf_counter() - start
    return sum("loop" in name for name in programs), sum(compiled) / total, total
