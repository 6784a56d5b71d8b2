"""The training loop of D-GEX: arrays in, arrays out; it never sees an estimator.

An epoch is a compiled loop over mini-batches that are gathered on the device, called in pieces short enough for a
keyboard interrupt to be felt. Between epochs the host decays the learning rate, keeps the best epoch of every
validation set and writes the history. Order and dropout derive from (seed, epoch, step) alone, so that neither the
number of devices nor an interruption changes the result.

A run trains a stack of independent networks, most often of one. Each has its own learning rate and its own best epochs,
by its own targets; they share the order of the profiles and end together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dgex._draws import ORDER, generator
from dgex._network import NetworkConfig, Parameters
from dgex._optimizer import LearningRateDecay
from dgex._partition import TargetSets
from dgex._processes import exchanged, gathered, process_numbers
from dgex._profiles import ProfileSet, pieces
from dgex._programs import (
    Rates,
    Scaling,
    TrainConfig,
    TrainState,
    error_program,
    error_rows,
    initial_program,
    no_errors,
    state_structure,
    step_program,
)
from dgex._sharding import Layout, resized
from dgex._signals import deferred_keyboard_interrupt
from dgex._validation import warn_user

# Work of one compiled call, about a second: what a keyboard interrupt has to wait for. Every call has memory
# of its own, which the system has to clear.
CPU_FLOPS_PER_CALL = 3e11
ACCELERATOR_FLOPS_PER_CALL = 2e13

# By how much gentle epochs have to lower the validation error, as a share of it, for others to follow.
WORTHWHILE = 0.01

# Validation errors that differ by more, as a share of them, are of other profiles.
SAME_ERROR = 1e-3


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
    holds_out: bool = False  # whether validation profiles are some of those that were given to train on


@dataclass(frozen=True)
class BestEpoch:
    """For every network, the epoch with the lowest mean absolute error on one validation set so far."""

    parameters: Parameters | None = None
    epochs: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()


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
    decay: tuple[LearningRateDecay, ...]  # one per network
    best: tuple[BestEpoch, ...] = ()  # one per validation set
    epoch: int = 0  # epochs finished
    step: int = 0  # mini-batches done of the epoch under way
    epoch_loss: Any = 0.0  # their loss, summed over profiles, of each network; on the devices until it is waited for
    batches: tuple[int, ...] = ()  # profiles, their fingerprint and the batch size that `step` counts in
    history: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False
    start_error: float = math.inf  # of a start in closed form on the first validation set

    @property
    def where(self) -> str:
        """How far training has come."""
        return f"in epoch {self.epoch + 1}" if self.step > 0 else f"after epoch {self.epoch}"

    @property
    def is_a_model(self) -> bool:
        """Whether there is an epoch that can be kept, or a start that can."""
        return self.epoch > 0 or any(record.parameters is not None for record in self.best)


def start_run(
    config: TrainConfig,
    layout: Layout,
    targets: TargetSets,
    varies: np.ndarray,
    seed: int,
    decay: LearningRateDecay,
) -> TrainingRun:
    """A run before its first mini-batch; landmarks that do not vary have no weights."""
    state = initial_program(config, layout)(seed, targets.present, varies)
    return TrainingRun(state, seed, (decay,) * len(targets))


def start_from(
    parameters: Parameters, run: TrainingRun, config: TrainConfig, layout: Layout, n_validation_sets: int
) -> None:
    """Give a run other parameters to start from, in the form of a stack, which are a model that can be selected.

    `train` measures them on the validation sets.
    """
    padded = state_structure(config.padded_for(layout))
    run.state = run.state._replace(parameters=layout.place(resized(parameters, padded.parameters)))
    kept = jax.tree.map(jnp.copy, run.state.parameters)  # the next step overwrites them
    n_networks = len(run.decay)
    run.best = (BestEpoch(kept, (run.epoch,) * n_networks, (math.inf,) * n_networks),) * n_validation_sets


def train(
    run: TrainingRun,
    config: TrainConfig,
    layout: Layout,
    data: TrainingData,
    rates: Rates,
    n_epochs: int,
    early_stopping: EarlyStopping | None = None,
    observer: Observer | None = None,
    judged: bool = True,
) -> None:
    """Move a run on by up to `n_epochs` epochs.

    It ends earlier when `early_stopping` (on the first validation set) runs out of patience, after gentle epochs that
    were not worth it (if these are to be `judged`), when the observer says so, or at a keyboard interrupt; `run` is
    valid and can go on after any of them. (Among several processes an interrupt is passed on.)
    """
    was_gentle = False
    try:
        with deferred_keyboard_interrupt():  # a start that is kept has been measured
            resume(run, config, layout, data)
            lowest = lowest_error(run, data.training.targets)
            if run.epoch == 0:
                run.start_error = lowest
        if early_stopping is not None:
            early_stopping = replace(early_stopping, lowest=lowest)
        for _ in range(n_epochs):
            if observer is not None:
                observer.epoch_begins()
            was_gentle = judged and run.decay[0].is_gentle
            errors = train_epoch(run, config, layout, data, rates)
            lowest = min([lowest, *errors[:1]])
            if early_stopping is not None:
                early_stopping = early_stopping.update(errors[0])
            was_in_vain = was_gentle and has_been_in_vain(run, lowest)
            was_gentle = False
            stop = observer is not None and observer.epoch_ended(run)
            stop = bool(exchanged(layout.devices, np.array(stop)).any())
            if stop or was_in_vain or (early_stopping is not None and early_stopping.exhausted):
                break
    except KeyboardInterrupt:
        if len(process_numbers(layout.devices)) > 1:
            raise  # the others may be at another mini-batch
        if was_gentle:
            has_been_in_vain(run, lowest_error(run, data.training.targets))
        run.interrupted = True


def has_been_in_vain(run: TrainingRun, lowest: float) -> bool:
    """Whether the last gentle epoch is over and the lowest error not low enough for others; it then stays gentle."""
    in_vain = not run.decay[0].is_gentle and lowest > (1 - WORTHWHILE) * run.start_error
    if in_vain:
        run.decay = tuple(decay.gentle_only() for decay in run.decay)
    return in_vain


def lowest_error(run: TrainingRun, targets: TargetSets) -> float:
    """The error of the best epoch so far, or of a start in closed form, on the first validation set; else infinite."""
    if not run.best or run.best[0].parameters is None:
        return math.inf
    return float(np.average(run.best[0].errors, weights=targets.sizes))


def resume(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData) -> None:
    """Make a run fit for data that may not be those of before.

    Errors are compared with errors on the same profiles only: the best epochs are measured on the validation sets at
    hand, and the training error on the profiles monitored now. On the data of before, nothing changes.
    """
    run.interrupted = False
    before = lowest_error(run, data.training.targets)
    run.best = rescored(run.best, config.network, layout, data)
    if not math.isclose(lowest_error(run, data.training.targets), before, rel_tol=SAME_ERROR):
        run.start_error = math.inf  # it was that of other profiles
    batches = len(data.training.rows), data.fingerprint, config.batch_size
    if run.batches != batches:
        if data.holds_out and run.epoch > 0 and run.batches[:2] != batches[:2]:
            warn_user(
                "Training goes on with other profiles, or with another validation_fraction, than before. Unless all "
                "are new, some of those held out now may have been trained on, and epochs chosen on them are then too "
                "late: pass X_val and y_val."
            )
        # An epoch that was interrupted on other data starts anew.
        run.batches, run.step, run.epoch_loss = batches, 0, 0.0
    if run.epoch > 0 and run.step == 0:
        errors = mean_absolute_errors(config.network, layout, run.state.parameters, data.monitor, data.scaling)
        errors_by_network = zip(run.decay, data.monitor.targets.means(errors), strict=True)
        run.decay = tuple(decay.since(error) for decay, error in errors_by_network)


def train_epoch(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData, rates: Rates) -> list[float]:
    """Finish the epoch under way, record it, and return its validation errors."""
    start = time.perf_counter()
    run_steps(run, config, layout, data, rates)
    # Devices have all this to do before the host waits for any of it.
    sets = data.monitor, *data.validation
    sums = [summed_errors(config.network, layout, run.state.parameters, profiles, data.scaling) for profiles in sets]
    loss_so_far(run)
    training_errors, *errors = map(mean_errors, sums, sets)
    require_finite(training_errors, run)
    if not all(np.isfinite(by_target).all() for by_target in errors):
        raise ValueError(
            f"The errors on the validation sets are {[float(by_target.mean()) for by_target in errors]}, but expected "
            "finite numbers. Are their values in the units of training?"
        )

    with deferred_keyboard_interrupt():
        seconds = time.perf_counter() - start
        run.history.append(epoch_record(run, data, training_errors, errors, seconds))
        run.best = updated_best(run.best, run.state.parameters, run.epoch + 1, data.training.targets, errors)
        errors_by_network = zip(run.decay, data.training.targets.means(training_errors), strict=True)
        run.decay = tuple(decay.update(error) for decay, error in errors_by_network)
        run.epoch, run.step, run.epoch_loss = run.epoch + 1, 0, 0.0
    return [float(by_target.mean()) for by_target in errors]


def epoch_record(
    run: TrainingRun, data: TrainingData, training_errors: np.ndarray, errors: Sequence[np.ndarray], seconds: float
) -> dict[str, float]:
    """What the history says of an epoch: of all targets, and of each network where there are several."""
    targets = data.training.targets
    losses = np.asarray(run.epoch_loss, dtype=np.float64) / len(data.training.rows)
    learning_rates = np.array([decay.learning_rate for decay in run.decay])
    named_errors = {"train_mae": training_errors}
    named_errors.update({f"validation_mae_{index}": by_target for index, by_target in enumerate(errors)})
    record = {
        "epoch": run.epoch + 1,
        "learning_rate": float(learning_rates.mean()),
        "loss": float(losses.sum()),
        **{name: float(by_target.mean()) for name, by_target in named_errors.items()},
        "seconds": seconds,
    }
    if len(targets) > 1:
        by_network = {"learning_rate": learning_rates, "loss": losses}
        by_network.update({name: targets.means(by_target) for name, by_target in named_errors.items()})
        for name, numbers in by_network.items():
            record.update({f"{name}_partition_{network}": float(number) for network, number in enumerate(numbers)})
    return record


def run_steps(run: TrainingRun, config: TrainConfig, layout: Layout, data: TrainingData, rates: Rates) -> None:
    """Run the mini-batches that are left of the epoch, in pieces of about a second."""
    program = step_program(config, layout)
    rows = data.training.rows
    n_steps = config.n_steps(len(rows))
    order = generator(run.seed, ORDER, run.epoch).permutation(rows)
    learning_rates = np.array([decay.learning_rate for decay in run.decay], dtype=np.float32)
    weight_decay = 0.0 if run.decay[0].is_gentle else rates.optimizer.weight_decay  # a closed form has its own penalty
    optimizer = rates.optimizer._replace(learning_rate=learning_rates, weight_decay=weight_decay)
    rates = rates._replace(optimizer=optimizer)
    flops_per_call = CPU_FLOPS_PER_CALL if layout.platform == "cpu" else ACCELERATOR_FLOPS_PER_CALL
    max_steps = max(1, int(flops_per_call / (6 * config.network.n_parameters * config.batch_size)))

    left = range(run.step, n_steps)
    for X, y, numbers, offset, start, stop in pieces(data.training, order, config.batch_size, layout, left, max_steps):
        so_far = np.broadcast_to(np.float32(run.epoch_loss), len(run.decay))
        with deferred_keyboard_interrupt():
            run.state, run.epoch_loss = program(
                run.state,
                so_far,
                X,
                y,
                data.scaling,
                numbers,
                offset,
                len(rows),
                rates,
                run.seed,
                run.epoch,
                start,
                stop,
            )
            run.step = stop
        if stop < n_steps or not data.training.on_devices:
            loss_so_far(run)  # pieces that wait take memory


def loss_so_far(run: TrainingRun) -> np.ndarray | float:
    """The loss of the epoch under way, waited for."""
    if isinstance(run.epoch_loss, jax.Array):
        run.epoch_loss = gathered(run.epoch_loss)
        require_finite(run.epoch_loss, run)
    return run.epoch_loss


def summed_errors(
    config: NetworkConfig, layout: Layout, parameters: Parameters, profiles: ProfileSet, scaling: Scaling
) -> jax.Array:
    """Absolute errors of every target summed over profiles, on standardised expression and without dropout."""
    block_rows, n_profiles = error_rows(profiles.n_stored), len(profiles.rows)
    program = error_program(config, layout, block_rows)
    blocks = range(-(-n_profiles // block_rows))
    total = no_errors(config, layout)
    for X, y, rows, offset, start, stop in pieces(profiles, None, block_rows, layout, blocks, len(blocks)):
        total = program(total, parameters, X, y, scaling, rows, offset, n_profiles, start, stop)
        if not profiles.on_devices:
            total.block_until_ready()  # pieces that wait take memory
    return total


def mean_errors(sums: jax.Array, profiles: ProfileSet) -> np.ndarray:
    """What `summed_errors` started, waited for: the mean absolute error of every target."""
    # Means over targets are taken in float64 on the host, in their own order: the same on any number of devices.
    return profiles.targets.joined(gathered(sums).astype(np.float64)) / len(profiles.rows)


def mean_absolute_errors(
    config: NetworkConfig, layout: Layout, parameters: Parameters, profiles: ProfileSet, scaling: Scaling
) -> np.ndarray:
    """The mean absolute error of every target over profiles."""
    return mean_errors(summed_errors(config, layout, parameters, profiles, scaling), profiles)


def updated_best(
    best: Sequence[BestEpoch], parameters: Parameters, epoch: int, targets: TargetSets, errors: Sequence[np.ndarray]
) -> tuple[BestEpoch, ...]:
    """The best epochs on every validation set, given the errors by target of one more epoch."""
    # Copies, since the next step overwrites the parameters. Sets on which all networks improve share one.
    shared: list[Parameters] = []

    def update(record: BestEpoch, by_target: np.ndarray) -> BestEpoch:
        news = targets.means(by_target)
        better = np.array(news < np.array(record.errors or (math.inf,) * len(news)))
        if not better.any():
            return record
        if better.all() and not shared:
            shared.append(jax.tree.map(jnp.copy, parameters))
        return BestEpoch(
            shared[0] if better.all() else chosen(better, parameters, record.parameters),
            tuple(np.where(better, epoch, record.epochs or 0).tolist()),
            tuple(np.where(better, news, record.errors or math.inf).tolist()),
        )

    return tuple(map(update, best, errors))


def chosen(networks: np.ndarray, these: Any, those: Any) -> Any:
    """New arrays, those of `these` for the given networks of a stack and of `those` for the others."""
    return jax.tree.map(lambda a, b: jnp.where(networks.reshape(-1, *[1] * (a.ndim - 1)), a, b), these, those)


def rescored(
    best: Sequence[BestEpoch], config: NetworkConfig, layout: Layout, data: TrainingData
) -> tuple[BestEpoch, ...]:
    """The best epochs so far with their errors on the validation sets at hand, which may not be those of before.

    Of further sets, the best epoch so far is that of the first, which predicts.
    """
    predicting = best[0] if best else BestEpoch()
    n_further = len(data.validation) - len(best)

    def rescore(record: BestEpoch, profiles: ProfileSet) -> BestEpoch:
        if record.parameters is None:
            return record
        errors = mean_absolute_errors(config, layout, record.parameters, profiles, data.scaling)
        return replace(record, errors=tuple(profiles.targets.means(errors).tolist()))

    return tuple(map(rescore, [*best, *[predicting] * n_further], data.validation))


def require_finite(errors: np.ndarray, run: TrainingRun) -> None:
    """Raise `TrainingDiverged` unless all errors are finite numbers."""
    if np.isfinite(errors).all():
        return
    learning_rate = max(decay.learning_rate for decay in run.decay)
    raise TrainingDiverged(
        f"The training error became {float(np.sum(errors))} in epoch {run.epoch + 1} at learning_rate="
        f"{learning_rate:g}. Lower learning_rate_init (try a third of it) or momentum; if the data are not "
        "standardized, use standardize=True."
    )
