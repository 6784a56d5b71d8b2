"""One call of `DGEXRegressor.fit` or `partial_fit`, between the estimator's parameters and the training loop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.utils import check_random_state

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
from dgex._sharding import Layout, free_memory, select_devices, stored_rows
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

logger = logging.getLogger("dgex")

# Weights, their gradients, momentum, and the weights of the best epoch; "adamw" has one moment more.
COPIES_OF_WEIGHTS = {"sgd": 4, "adamw": 5}

# Share of the free memory that profiles and weights may take; the rest is for activations.
USABLE_MEMORY = 0.8


@dataclass
class Session:
    """A training run with all that it needs, on its devices."""

    config: TrainConfig
    layout: Layout
    data: TrainingData
    rates: Rates
    scaling: Scaling
    run: TrainingRun
    settings: dict[str, Any]  # parameters of the estimator that a later call has to compare with its own

    def train(self, n_epochs: int, patience: EarlyStopping | None, observer: EpochObserver) -> None:
        """Move the run on by up to so many epochs."""
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
    model: Any, profiles: Arrays, validation_sets: Sequence[Arrays], *, going_on: bool, validation_fraction: float
) -> Session:
    """Put data and a run, new or the estimator's own, onto the devices that the estimator's parameters ask for."""
    X, y = profiles
    layout = select_devices(model.devices)
    config = train_config(model, X, y)
    learning_rate = initial_learning_rate(model)
    settings = {name: getattr(model, name) for name in ("learning_rate_init", "standardize")}
    if going_on:
        require_same_network(model, config)
        run = to_devices(model._run, config, layout)
        run.decay = replace(run.decay, factor=float(model.learning_rate_decay), minimum=float(model.learning_rate_min))
        if settings["learning_rate_init"] != model._settings["learning_rate_init"]:
            run.decay = replace(run.decay, learning_rate=learning_rate)
    else:
        seed = int(check_random_state(model.random_state).randint(np.iinfo(np.int32).max))
        decay = LearningRateDecay(learning_rate, float(model.learning_rate_decay), float(model.learning_rate_min))
        run = start_run(config, layout, seed, decay)

    fraction = 0.0 if validation_sets else validation_fraction
    rows, held_out = hold_out(len(X), fraction, run.seed)
    if len(rows) < 2 and not going_on:
        raise ValueError(
            f"Got {len(X)} profiles, of which validation_fraction={fraction:g} holds out {len(held_out)} and leaves "
            f"{len(rows)}, but expected at least 2 to train on. Pass more profiles, or lower validation_fraction."
        )
    scaling = learned_scaling(model) if going_on else training_scaling(X, y, rows, model.standardize)
    resident = keep_on_devices(model.data_location, config, layout, [profiles, *validation_sets])
    X_stored, y_stored = placed(profiles, layout, resident)
    validation = [ProfileSet(X_stored, y_stored, held_out)] if len(held_out) else []
    for arrays in validation_sets:
        validation.append(ProfileSet(*placed(arrays, layout, resident), np.arange(len(arrays[0]))))
    data = TrainingData(
        training=ProfileSet(X_stored, y_stored, rows),
        monitor=ProfileSet(X_stored, y_stored, monitored(rows, model.monitor_size, run.seed)),
        validation=tuple(validation),
        scaling=place_scaling(scaling, layout),
        fingerprint=fingerprint(X, y, rows),
    )
    return Session(config, layout, data, training_rates(model, config, learning_rate), scaling, run, settings)


def keep_on_devices(location: str, config: TrainConfig, layout: Layout, sets: Sequence[Arrays]) -> bool:
    """Whether the profiles are put onto the devices as a whole, as asked for or as there is room."""
    n_devices = len(layout.devices)
    of_profiles = sum(4 * (X.size + y.size // n_devices) for X, y in sets)
    of_weights = 4 * config.network.n_parameters * COPIES_OF_WEIGHTS[config.solver] // n_devices
    free = free_memory(layout)
    resident = location == "device"
    if location == "auto":
        resident = free is None or of_profiles + of_weights <= USABLE_MEMORY * free
    logger.info(
        "Profiles %s: they take %.3g GB per device, weights %.3g GB, and %s is free (data_location=%r).",
        "stay on the devices" if resident else "are streamed from the host",
        of_profiles / 1e9,
        of_weights / 1e9,
        "an unknown amount" if free is None else f"{free / 1e9:.3g} GB",
        location,
    )
    return resident


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
