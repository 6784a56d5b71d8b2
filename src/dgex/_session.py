"""One call of `DGEXRegressor.fit` or `partial_fit`, between the estimator's parameters and the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.utils import check_random_state

from dgex._memory import Demand, free_memory, keep_on_devices, shortage_explained, training_demand
from dgex._network import Layer, NetworkConfig
from dgex._optimizer import (
    LearningRateDecay,
    OptimizerSettings,
    automatic_layer_rates,
    automatic_learning_rate,
    paper_layer_rates,
)
from dgex._profiles import ProfileSet
from dgex._programs import Rates, Scaling, TrainConfig, place_scaling
from dgex._sharding import Layout, stored_rows
from dgex._statistics import gene_scaling
from dgex._training import (
    BestEpoch,
    EarlyStopping,
    TrainingData,
    TrainingRun,
    fingerprint,
    hold_out,
    monitored,
    start_run,
    to_devices,
    to_host,
    train,
)

Arrays = tuple[np.ndarray, np.ndarray]

# Parameters of the estimator that a run which goes on compares with those it was started with.
SETTINGS = ("learning_rate_init", "standardize")


@dataclass
class Session:
    """A training run with all that it needs, on its devices."""

    config: TrainConfig
    layout: Layout
    data: TrainingData
    rates: Rates
    scaling: Scaling
    run: TrainingRun
    settings: dict[str, Any]
    demand: Demand

    def train(self, n_epochs: int, patience: EarlyStopping | None, observer: EpochObserver) -> None:
        """Move the run on by up to so many epochs."""
        with shortage_explained(self.config, self.layout, self.demand):
            train(self.run, self.config, self.layout, self.data, self.rates, n_epochs, patience, observer)

    def fitted_attributes(self) -> dict[str, Any]:
        """What an estimator needs to know of the run as it is now, as NumPy arrays and Python values."""
        run = to_host(self.run, self.config)
        return {
            "_config": self.config,
            "_run": run,
            "_settings": self.settings,
            "landmark_mean_": self.scaling.x_mean,
            "landmark_scale_": self.scaling.x_scale,
            "target_mean_": self.scaling.y_mean,
            "target_scale_": self.scaling.y_scale,
            "history_": run.history,
            "loss_curve_": [record["loss"] for record in run.history],
            "n_iter_": run.epoch,
            "n_layers_": len(self.config.network.layer_shapes) + 1,
            **selected_attributes(run, 0),
        }


def selected_attributes(run: TrainingRun, validation_set: int) -> dict[str, Any]:
    """The attributes that depend on which validation set selects the epoch."""
    best = run.best[validation_set] if run.best else BestEpoch()
    if best.parameters is not None:
        parameters, epoch, score = best.parameters, best.epoch, best.error
    else:
        parameters, epoch, score = run.state.parameters, run.epoch, None
    return {
        "coefs_": [layer.kernel for layer in parameters],
        "intercepts_": [layer.bias for layer in parameters],
        "best_epoch_": epoch,
        "best_score_": score,
    }


def open_session(
    model: Any,
    layout: Layout,
    profiles: Arrays,
    validation_sets: Sequence[Arrays],
    *,
    going_on: bool,
    validation_fraction: float,
) -> Session:
    """Put data and a run, new or the estimator's own, onto the devices."""
    config = train_config(model, *profiles)
    learning_rate = initial_learning_rate(model)
    demand = training_demand(config, layout, [profiles, *validation_sets])
    resident = keep_on_devices(model.data_location, demand, free_memory(layout))
    with shortage_explained(config, layout, demand):
        run = opened_run(model, config, layout, learning_rate, going_on=going_on)
        fraction = 0.0 if validation_sets else validation_fraction
        rows, held_out = training_rows(len(profiles[0]), fraction, run.seed, n_wanted=1 if going_on else 2)
        scaling = learned_scaling(model) if going_on else training_scaling(*profiles, rows, model.standardize)

        X, y = placed(profiles, layout, resident)
        validation = [ProfileSet(X, y, held_out)] if len(held_out) else []
        for arrays in validation_sets:
            validation.append(ProfileSet(*placed(arrays, layout, resident), np.arange(len(arrays[0]))))
        data = TrainingData(
            training=ProfileSet(X, y, rows),
            monitor=ProfileSet(X, y, monitored(rows, model.monitor_size, run.seed)),
            validation=tuple(validation),
            scaling=place_scaling(scaling, layout),
            fingerprint=fingerprint(*profiles, rows),
        )
    rates = training_rates(model, config, learning_rate)
    settings = {name: getattr(model, name) for name in SETTINGS}
    return Session(config, layout, data, rates, scaling, run, settings, demand)


def opened_run(model: Any, config: TrainConfig, layout: Layout, learning_rate: float, *, going_on: bool) -> TrainingRun:
    """A new run on the devices, or the estimator's own with the decay that its parameters ask for now."""
    decay = LearningRateDecay(learning_rate, float(model.learning_rate_decay), float(model.learning_rate_min))
    if not going_on:
        seed = int(check_random_state(model.random_state).randint(np.iinfo(np.int32).max))
        return start_run(config, layout, seed, decay)
    require_same_network(model, config)
    run = to_devices(model._run, config, layout)
    if model.learning_rate_init == model._settings["learning_rate_init"]:
        decay = replace(decay, learning_rate=run.decay.learning_rate)
    run.decay = replace(decay, previous_error=run.decay.previous_error)
    return run


def training_rows(n_profiles: int, fraction: float, seed: int, n_wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Which profiles to train on, and which to hold out."""
    rows, held_out = hold_out(n_profiles, fraction, seed)
    if len(rows) < n_wanted:
        raise ValueError(
            f"Got {n_profiles} profiles, of which validation_fraction={fraction:g} holds out {len(held_out)} and "
            f"leaves {len(rows)}, but expected at least {n_wanted} to train on. Pass more profiles, or lower "
            "validation_fraction."
        )
    return rows, held_out


def placed(arrays: Arrays, layout: Layout, resident: bool) -> tuple[Any, Any]:
    """Landmarks and targets on the devices, or as they are on the host."""
    X, y = arrays
    return (layout.place_landmarks(X), layout.place_targets(y)) if resident else (X, y)


def train_config(model: Any, X: np.ndarray, y: np.ndarray) -> TrainConfig:
    """What of an estimator's parameters selects the compiled program."""
    sizes = model.hidden_layer_sizes
    sizes = (sizes,) if np.ndim(sizes) == 0 else tuple(sizes)
    if not all(isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(f"Got hidden_layer_sizes={sizes}, but expected whole numbers of at least 1, one per layer.")
    network = NetworkConfig(X.shape[1], tuple(map(int, sizes)), y.shape[1], model.activation, model.compute_dtype)
    batch_size = min(int(model.batch_size), stored_rows(X))
    return TrainConfig(network, model.loss, model.solver, batch_size, dropout=model.dropout > 0)


def initial_learning_rate(model: Any) -> float:
    """The learning rate of the first epoch."""
    learning_rate = model.learning_rate_init
    if learning_rate == "auto":
        n_hidden_layers = np.size(model.hidden_layer_sizes)
        learning_rate = automatic_learning_rate(model.solver, n_hidden_layers)
    if model.learning_rate_min > learning_rate:
        raise ValueError(
            f"Got learning_rate_min={model.learning_rate_min}, but expected at most "
            f"learning_rate_init={learning_rate}. Lower the one or raise the other."
        )
    return float(learning_rate)


def training_rates(model: Any, config: TrainConfig, learning_rate: float) -> Rates:
    """The numbers of the optimiser and of dropout."""
    shapes = config.network.layer_shapes
    if model.solver == "adamw":
        factors = [(1.0, 1.0)] * len(shapes)
    elif model.learning_rate_init == "auto":
        factors = automatic_layer_rates(shapes, model.activation, int(model.batch_size))
    else:
        factors = paper_layer_rates(len(shapes))
    settings = OptimizerSettings(
        learning_rate,
        momentum=float(model.momentum),
        weight_decay=float(model.weight_decay),
        beta_1=float(model.beta_1),
        beta_2=float(model.beta_2),
        epsilon=float(model.epsilon),
        layer_rates=tuple(Layer(*pair) for pair in factors),
    )
    return Rates(settings, float(model.dropout))


def training_scaling(X: np.ndarray, y: np.ndarray, rows: np.ndarray, standardize: bool) -> Scaling:
    """Statistics over the training profiles, or those that change nothing."""
    chosen = None if len(rows) == len(X) else rows
    return Scaling(*gene_scaling(X, chosen, standardize=standardize), *gene_scaling(y, chosen, standardize=standardize))


def learned_scaling(model: Any) -> Scaling:
    """The statistics that a fitted estimator standardizes with."""
    return Scaling(model.landmark_mean_, model.landmark_scale_, model.target_mean_, model.target_scale_)


def require_same_network(model: Any, asked: TrainConfig) -> None:
    """Raise unless training can go on with the parameters asked for."""
    trained: TrainConfig = model._config
    for name, before, now in (
        ("standardize", model._settings["standardize"], model.standardize),
        ("hidden_layer_sizes", trained.network.hidden_layer_sizes, asked.network.hidden_layer_sizes),
        ("activation", trained.network.activation, asked.network.activation),
        ("solver", trained.solver, asked.solver),
    ):
        if before != now:
            raise ValueError(
                f"Got {name}={now!r}, but the network to go on with was trained with {before!r}. Set it back, or start "
                "anew with warm_start=False."
            )


class EpochObserver:
    """Prints epochs and reports them to scikit-learn's callbacks."""

    def __init__(
        self,
        session: Session,
        verbose: bool | int,
        task: CallbackContext | None = None,
        watched: dict[str, Any] | None = None,
    ):
        self.session = session
        self.verbose = verbose
        self.task = task
        self.watched = watched or {}
        self.epoch: CallbackContext | None = None

    def epoch_begins(self) -> None:
        """Open the callbacks' task of an epoch."""
        if self.task is not None:
            self.epoch = self.task.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.watched)

    def epoch_ended(self, run: TrainingRun) -> bool:
        """Print the newest record and close the callbacks' task; True if one of them asks to stop."""
        if self.verbose:
            print(_line(run.history[-1]))
        if self.epoch is None:
            return False
        stop = self.epoch.call_on_fit_task_end(**self.watched, reconstruction_attributes=self.session.fitted_attributes)
        return bool(stop)


def _line(record: dict[str, float]) -> str:
    validation = [f"{value:.4f}" for name, value in record.items() if name.startswith("validation_mae")]
    selected = f", validation MAE {' '.join(validation)}" if validation else ""
    return (
        f"Epoch {record['epoch']:3d}: training MAE {record['train_mae']:.4f}{selected}, "
        f"learning rate {record['learning_rate']:.2g}, {record['seconds']:.1f} s"
    )
