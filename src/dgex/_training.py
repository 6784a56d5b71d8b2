"""The training loop of D-GEX: arrays in, arrays out; it never sees an estimator.

An epoch is a compiled loop over mini-batches that are gathered on the device, called in pieces short enough for a
keyboard interrupt to be felt. Between epochs the host decays the learning rate, keeps the best epoch of every
validation set and writes the history. Order and dropout derive from (seed, epoch, step) alone, so that neither the
number of devices nor an interruption changes the result.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dgex._network import NetworkConfig, Parameters
from dgex._optimizer import LearningRateDecay
from dgex._profiles import ProfileSet, pieces
from dgex._programs import (
    BLOCK_ROWS,
    Rates,
    Scaling,
    TrainConfig,
    TrainState,
    error_program,
    initial_program,
    state_structure,
    step_program,
)
from dgex._sharding import Layout, resized

# Work of one compiled call, about a second: what a keyboard interrupt has to wait for.
CPU_FLOPS_PER_CALL = 1e11
ACCELERATOR_FLOPS_PER_CALL = 2e13

# The key of the initial parameters is folded from the root key with a number that no epoch reaches.
INITIALIZATION = 2**32 - 1

# Streams of the host's random numbers.
ORDER, HOLD_OUT, MONITOR = range(3)


class TrainingDiverged(FloatingPointError):
    """The training error is no longer a finite number."""


@dataclass(frozen=True)
class TrainingData:
    """All the data of a run."""

    training: ProfileSet
    monitor: ProfileSet  # some of the training profiles, on which the training error is watched
    validation: tuple[ProfileSet, ...]
    scaling: Scaling
    fingerprint: int  # of the training profiles


@dataclass(frozen=True)
class BestEpoch:
    """The epoch with the lowest mean absolute error on one validation set so far."""

    parameters: Parameters | None = None
    epoch: int = 0
    error: float = math.inf


@dataclass(frozen=True)
class EarlyStopping:
    """Patience: stops once the error has not fallen by more than `tol` for so many epochs."""

    patience: int
    tol: float
    lowest: float = math.inf
    n_epochs_without_progress: int = 0

    def update(self, error: float) -> EarlyStopping:
        """The record after an epoch with the given validation error."""
        if error < self.lowest - self.tol:
            return replace(self, lowest=error, n_epochs_without_progress=0)
        return replace(self, n_epochs_without_progress=self.n_epochs_without_progress + 1)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.n_epochs_without_progress >= self.patience


class Observer(Protocol):
    """Watches a run from outside."""

    def epoch_begins(self) -> None:
        """Called before an epoch."""

    def epoch_ended(self, run: TrainingRun) -> bool:
        """Called after an epoch; True stops the run."""


@dataclass
class TrainingRun:
    """A training run between two mini-batches: all that it takes to go on as if it had never stopped."""

    state: TrainState
    seed: int
    decay: LearningRateDecay
    best: tuple[BestEpoch, ...] = ()  # one per validation set
    epoch: int = 0  # epochs finished
    step: int = 0  # mini-batches done of the epoch under way
    epoch_loss: float = 0.0  # their loss, summed over profiles
    batches: tuple[int, ...] = ()  # profiles, their fingerprint and the batch size that `step` counts in
    history: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False


def start_run(config: TrainConfig, layout: Layout, seed: int, decay: LearningRateDecay) -> TrainingRun:
    """A run before its first mini-batch."""
    key = jax.random.fold_in(root_key(seed), INITIALIZATION)
    return TrainingRun(initial_program(config, layout)(key), seed, decay)


def train(
    run: TrainingRun,
    config: TrainConfig,
    layout: Layout,
    data: TrainingData,
    rates: Rates,
    n_epochs: int,
    early_stopping: EarlyStopping | None = None,
    observer: Observer | None = None,
) -> None:
    """Move a run on by up to `n_epochs` epochs.

    It ends earlier when `early_stopping` (on the first validation set) runs out of patience, when the observer says so,
    or at a keyboard interrupt; `run` is valid and can go on after any of them.
    """
    resume(run, config, layout, data)
    try:
        for _ in range(n_epochs):
            if observer is not None:
                observer.epoch_begins()
            errors = train_epoch(run, config, layout, data, rates)
            if early_stopping is not None:
                early_stopping = early_stopping.update(errors[0])
            stop = observer is not None and observer.epoch_ended(run)
            if stop or (early_stopping is not None and early_stopping.exhausted):
                break
    except KeyboardInterrupt:
        run.interrupted = True


def resume(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData) -> None:
    """Make a run fit for data that may not be those of before.

    Errors are compared with errors on the same profiles only: the best epochs are measured on the validation sets at
    hand, and the training error on the profiles monitored now. On the data of before, nothing changes.
    """
    run.interrupted = False
    run.best = rescored(run.best, config.network, layout, data)
    batches = len(data.training.rows), data.fingerprint, config.batch_size
    if run.batches != batches:
        # An epoch that was interrupted on other data starts anew.
        run.batches, run.step, run.epoch_loss = batches, 0, 0.0
    if run.epoch > 0 and run.step == 0:
        error = mean_absolute_error(config.network, layout, run.state.parameters, data.monitor, data.scaling)
        run.decay = replace(run.decay, previous_error=error)


def train_epoch(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData, rates: Rates) -> list[float]:
    """Finish the epoch under way, record it, and return its validation errors."""
    start = time.perf_counter()
    run_steps(run, config, layout, data, rates)
    parameters = run.state.parameters
    training_error = mean_absolute_error(config.network, layout, parameters, data.monitor, data.scaling)
    require_finite(training_error, run)
    errors = [mean_absolute_error(config.network, layout, parameters, s, data.scaling) for s in data.validation]
    if not np.isfinite(errors).all():
        raise ValueError(
            f"The errors on the validation sets are {errors}, but expected finite numbers. Are their values in the "
            "units of training?"
        )

    with deferred_keyboard_interrupt():
        run.history.append(
            {
                "epoch": run.epoch + 1,
                "learning_rate": run.decay.learning_rate,
                "loss": run.epoch_loss / len(data.training.rows),
                "train_mae": training_error,
                **{f"validation_mae_{index}": error for index, error in enumerate(errors)},
                "seconds": time.perf_counter() - start,
            }
        )
        run.best = updated_best(run.best, parameters, run.epoch + 1, errors)
        run.decay = run.decay.update(training_error)
        run.epoch, run.step, run.epoch_loss = run.epoch + 1, 0, 0.0
    return errors


def run_steps(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData, rates: Rates) -> None:
    """Run the mini-batches that are left of the epoch, in pieces of about a second."""
    program = step_program(config, layout)
    rows = data.training.rows
    n_steps = -(-len(rows) // config.batch_size)
    order = generator(run.seed, ORDER, run.epoch).permutation(rows)
    rates = rates._replace(optimizer=rates.optimizer._replace(learning_rate=run.decay.learning_rate))
    key = jax.random.fold_in(root_key(run.seed), run.epoch)
    flops_per_call = CPU_FLOPS_PER_CALL if layout.platform == "cpu" else ACCELERATOR_FLOPS_PER_CALL
    max_steps = max(1, int(flops_per_call / (6 * config.network.n_parameters * config.batch_size)))

    left = range(run.step, n_steps)
    for X, y, numbers, offset, start, stop in pieces(data.training, order, config.batch_size, layout, left, max_steps):
        with deferred_keyboard_interrupt():
            run.state, loss = program(
                run.state, run.epoch_loss, X, y, data.scaling, numbers, offset, len(rows), rates, key, start, stop
            )
            run.epoch_loss = float(loss)
            run.step = stop
        require_finite(run.epoch_loss, run)


def mean_absolute_error(
    config: NetworkConfig, layout: Layout, parameters: Parameters, profiles: ProfileSet, scaling: Scaling
) -> float:
    """Mean absolute error over profiles and targets, on standardised expression, without dropout."""
    program = error_program(config, layout)
    n_profiles = len(profiles.rows)
    blocks = range(-(-n_profiles // BLOCK_ROWS))
    n_targets = config.padded_to(len(layout.devices)).n_outputs
    total = jax.device_put(np.zeros(n_targets, dtype=np.float32), layout.by_column(1))
    for X, y, rows, offset, start, stop in pieces(profiles, profiles.rows, BLOCK_ROWS, layout, blocks, len(blocks)):
        total = program(total, parameters, X, y, scaling, rows, offset, n_profiles, start, stop)
    # Targets are summed in float64 on the host, in their own order: the same number on any count of devices.
    return float(np.asarray(total, dtype=np.float64)[: config.n_outputs].mean() / n_profiles)


def updated_best(
    best: Sequence[BestEpoch], parameters: Parameters, epoch: int, errors: Sequence[float]
) -> tuple[BestEpoch, ...]:
    """The best epoch of every validation set, given the errors of one more epoch."""
    improved = [error < record.error for record, error in zip(best, errors, strict=True)]
    # A copy: the next step overwrites the parameters. Sets that improve together share it.
    kept = jax.tree.map(jnp.copy, parameters) if any(improved) else None
    return tuple(
        BestEpoch(kept, epoch, error) if better else record
        for record, error, better in zip(best, errors, improved, strict=True)
    )


def rescored(
    best: Sequence[BestEpoch], config: NetworkConfig, layout: Layout, data: TrainingData
) -> tuple[BestEpoch, ...]:
    """The best epochs so far with their errors on the validation sets at hand, which may not be those of before."""
    if len(best) != len(data.validation):
        return (BestEpoch(),) * len(data.validation)

    def rescore(record: BestEpoch, profiles: ProfileSet) -> BestEpoch:
        if record.parameters is None:
            return record
        error = mean_absolute_error(config, layout, record.parameters, profiles, data.scaling)
        return replace(record, error=error)

    return tuple(map(rescore, best, data.validation))


def to_host(run: TrainingRun, config: TrainConfig) -> TrainingRun:
    """The same run with NumPy arrays in the network's own shapes, and the optimiser's state as a list of them."""
    structure = state_structure(config)
    copies: dict[int, Any] = {}  # validation sets may share their best parameters

    def copy(tree: Any, like: Any) -> Any:
        if id(tree) not in copies:
            copies[id(tree)] = jax.tree.map(np.array, resized(jax.device_get(tree), like))
        return copies[id(tree)]

    def keep(record: BestEpoch) -> BestEpoch:
        return (
            replace(record, parameters=copy(record.parameters, structure.parameters)) if record.parameters else record
        )

    optimizer = jax.tree.leaves(copy(run.state.optimizer, structure.optimizer))
    state = TrainState(copy(run.state.parameters, structure.parameters), optimizer)
    return replace(run, state=state, best=tuple(map(keep, run.best)), history=list(run.history))


def to_devices(run: TrainingRun, config: TrainConfig, layout: Layout) -> TrainingRun:
    """A run that was kept on the host, made ready to go on."""
    padded = state_structure(config.padded_for(layout))

    def place(tree: Any, like: Any) -> Any:
        return layout.place(resized(tree, like))

    def restore(record: BestEpoch) -> BestEpoch:
        return replace(record, parameters=place(record.parameters, padded.parameters)) if record.parameters else record

    optimizer = jax.tree.unflatten(jax.tree.structure(padded.optimizer), run.state.optimizer)
    state = TrainState(place(run.state.parameters, padded.parameters), place(optimizer, padded.optimizer))
    return replace(run, state=state, best=tuple(map(restore, run.best)), history=list(run.history))


def require_finite(error: float, run: TrainingRun) -> None:
    """Raise `TrainingDiverged` unless the error is a finite number."""
    if not math.isfinite(error):
        raise TrainingDiverged(
            f"The training error became {error} in epoch {run.epoch + 1} at learning_rate="
            f"{run.decay.learning_rate:g}. Lower learning_rate_init (try a third of it) or momentum; if the data are "
            "not standardized, use standardize=True."
        )


@contextmanager
def deferred_keyboard_interrupt() -> Iterator[None]:
    """Hold SIGINT back for a moment, so that it cannot fall between a call and the storing of its result."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    received: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received and callable(previous):
        previous(*received[0])


def root_key(seed: int) -> jax.Array:
    """The key that all others of a run are folded from, whatever generator JAX is configured to use."""
    return jax.random.key(seed, impl="threefry2x32")


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The host's random numbers for one purpose of a run."""
    return np.random.default_rng([seed, *stream])


def hold_out(n_profiles: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split profiles at random into those to train on and a fraction (at least one) to select on."""
    if fraction == 0:
        return np.arange(n_profiles), np.arange(0)
    n_held_out = min(max(1, round(fraction * n_profiles)), n_profiles - 1)
    order = generator(seed, HOLD_OUT).permutation(n_profiles)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def fingerprint(X: np.ndarray, y: np.ndarray, rows: np.ndarray) -> int:
    """A number that other training profiles are unlikely to share, from a few of them."""
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), 8)).astype(np.intp)]
    return zlib.crc32(np.ascontiguousarray(X[few]).tobytes() + np.ascontiguousarray(y[few]).tobytes())


def monitored(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The fixed random profiles on which the training error is watched."""
    if len(rows) <= size:
        return rows
    return np.sort(generator(seed, MONITOR).choice(rows, size, replace=False))
