"""One call of `DGEXRegressor.fit` or `partial_fit`, between the estimator's parameters and the training loop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext
from sklearn.utils import check_random_state

from dgex import _validation
from dgex._agreement import equal_facts
from dgex._checksums import fingerprint
from dgex._closed_form import Ingredients
from dgex._draws import CLOSED_FORM, PARTITION, generator, hold_out, monitored
from dgex._memory import (
    Demand,
    copied_by_cpus,
    free_memory,
    keep_on_devices,
    require_room_for_weights,
    shortage_explained,
    training_demand,
)
from dgex._network import Layer, NetworkConfig, Parameters, ignoring_constant
from dgex._optimizer import CosineDecay, LearningRateDecay
from dgex._partition import TargetSets, target_sets
from dgex._processes import (
    failing_together,
    loss_explained,
    of_the_first,
    own_devices,
    process_numbers,
    require_a_device_of_this_process,
)
from dgex._profiles import ProfileSet
from dgex._programs import Rates, Scaling, TrainConfig, place_scaling
from dgex._rates import initial_learning_rate, learning_rate_decay, training_rates
from dgex._sharding import Layout, devices_in_use, rounded_up
from dgex._start import SomeProfiles, closed_form_parameters, warn_of_other_units
from dgex._statistics import gene_scaling, gene_statistics
from dgex._training import (
    BestEpoch,
    EarlyStopping,
    TrainingData,
    TrainingRun,
    start_from,
    start_run,
    train,
)
from dgex._transfer import to_devices, to_host

Arrays = tuple[np.ndarray, np.ndarray]

# Parameters of the estimator that a run which goes on compares with those it was started with.
SETTINGS = ("learning_rate_init", "start_epochs", "standardize", "n_partitions", "partition")

# Where there are fewer profiles than a mini-batch takes, it takes the next multiple of so many.
BATCH_MULTIPLE = 16


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

    @property
    def targets(self) -> TargetSets:
        """Which target belongs to which network."""
        return self.data.training.targets

    def patience(self, model: Any) -> EarlyStopping | None:
        """The patience that an estimator asks for."""
        if not model.early_stopping:
            return None
        if not self.data.validation:
            raise ValueError(
                "Got early_stopping=True and validation_fraction=0 without validation data, but stopping needs an "
                "error to watch. Pass X_val and y_val, or a positive validation_fraction."
            )
        return EarlyStopping(model.n_iter_no_change, model.tol)

    def train(
        self, n_epochs: int, patience: EarlyStopping | None, observer: EpochObserver, *, judged: bool = True
    ) -> None:
        """Move the run on by up to so many epochs, but by no others than gentle ones if these are judged in vain."""
        self.run.decay = tuple(decay.for_call(n_epochs) for decay in self.run.decay)
        with shortage_explained(self.config, self.layout, self.demand):
            train(self.run, self.config, self.layout, self.data, self.rates, n_epochs, patience, observer, judged)

    def what_an_interrupt_has_left(self) -> str:
        """Which weights are kept, and how to go on."""
        run = self.run
        if run.best and run.best[0].parameters is not None:
            kept = f"the model of epoch {', '.join(map(str, run.best[0].epochs))} is kept"
        elif run.step:
            kept = f"its weights there are kept, of {run.step} mini-batches after epoch {run.epoch}"
        else:
            kept = f"the model of epoch {run.epoch} is kept"
        return (
            f"Training was interrupted {run.where}; {kept}. "
            "To go on from where it stopped, set warm_start=True and fit again (if it is saved: after load_model)."
        )

    def fitted_attributes(self) -> dict[str, Any]:
        """What an estimator needs to know of the run as it is now, as NumPy arrays and Python values."""
        with shortage_explained(self.config, self.layout, self.demand):
            run = to_host(self.run, self.config, self.targets)
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
            "partition_": self.targets.partition,
            **selected_attributes(run, self.targets, 0),
        }


def selected_attributes(run: TrainingRun, targets: TargetSets, validation_set: int) -> dict[str, Any]:
    """The attributes that depend on which validation set selects the epoch."""
    best = run.best[validation_set] if run.best else BestEpoch()
    if best.parameters is not None:
        parameters, epochs = best.parameters, best.epochs
        score = float(np.average(best.errors, weights=targets.sizes))
    else:
        parameters, epochs, score = run.state.parameters, (run.epoch,) * len(targets), None
    return {
        "coefs_": [layer.kernel for layer in parameters],
        "intercepts_": [layer.bias for layer in parameters],
        "best_epoch_": epochs[0] if len(targets) == 1 else np.array(epochs),
        "best_score_": score,
    }


@contextmanager
def open_session(
    model: Any, X: Any, y: Any, X_val: Any, y_val: Any, *, going_on: bool, validation_fraction: float
) -> Iterator[Session]:
    """Check a call and put its data, with a run that is new or the estimator's own, onto the devices."""
    _validation.require_valid_parameter(model, "devices")
    with devices_in_use(model.devices) as devices, loss_explained(devices):
        require_a_device_of_this_process(devices)
        with failing_together(devices) as facts:
            model._validate_params()
            profiles, sets = checked_data(
                model, X, y, X_val, y_val, going_on=going_on, validation_fraction=validation_fraction
            )
            if len(process_numbers(devices)) > 1:
                facts.update(equal_facts(model, profiles, sets, going_on=going_on))
        yield session_on(model, devices, profiles, sets, going_on=going_on, validation_fraction=validation_fraction)


def checked_data(
    model: Any, X: Any, y: Any, X_val: Any, y_val: Any, *, going_on: bool, validation_fraction: float
) -> tuple[Arrays, list[Arrays]]:
    """Training data and validation sets as arrays of floats."""
    min_profiles = 1 if going_on and validation_fraction == 0 else 2
    profiles = _validation.validated_training_data(model, X, y, reset=not going_on, min_profiles=min_profiles)
    for array, name in zip(profiles, ("X", "y"), strict=True):
        _validation.require_single_precision(array, name)
    sets = _validation.validated_sets(model, X_val, y_val)
    if not going_on:
        _validation.warn_of_measured_targets(model, *profiles)
    return profiles, sets


def session_on(
    model: Any,
    devices: tuple[Any, ...],
    profiles: Arrays,
    validation_sets: Sequence[Arrays],
    *,
    going_on: bool,
    validation_fraction: float,
) -> Session:
    """A session of checked data."""
    drawn = model._run.seed if going_on else check_random_state(model.random_state).randint(np.iinfo(np.int32).max)
    seed = int(of_the_first(devices, np.array(drawn)))
    fraction = 0.0 if validation_sets else validation_fraction
    rows, held_out = training_rows(len(profiles[0]), fraction, seed, n_wanted=1 if going_on else 2)
    if going_on:
        targets = TargetSets.of(model.partition_)
    else:
        targets = target_sets(model.partition, model.n_partitions, profiles[1], rows, generator(seed, PARTITION))
        targets = TargetSets.of(of_the_first(devices, targets.partition))
    config = train_config(model, profiles[0], targets)
    layout = Layout(devices, len(targets))
    learning_rate = initial_learning_rate(model)
    n_best = len(validation_sets) or (1 if len(held_out) else 0)
    sets = [profiles, *validation_sets]
    demand, free = training_demand(config, layout, sets, n_best), free_memory(layout)
    resident = keep_on_devices(model.data_location, demand, free, copied_by_cpus(layout, sets, demand))
    if not resident:
        demand = demand._replace(profiles=0)
    require_room_for_weights(config, layout, demand, free)
    require_a_start(model, n_best, going_on=going_on)
    with shortage_explained(config, layout, demand):
        decay = learning_rate_decay(model, learning_rate, has_begun=going_on and model._run.epoch > 0)
        if going_on:
            run, scaling = reopened_run(model, config, layout, targets, decay), learned_scaling(model)
        else:
            scaling = training_scaling(*profiles, rows, model.standardize)
            scaling = Scaling(*(of_the_first(devices, numbers) for numbers in scaling))
            parameters = None
            if model.start == "closed_form":  # before anything else takes memory
                train, chosen_on = SomeProfiles(*profiles, rows), SomeProfiles(*profiles, held_out)
                if validation_sets:
                    chosen_on = SomeProfiles(*validation_sets[0], np.arange(len(validation_sets[0][0])))
                parameters = parameters_in_closed_form(
                    model, config, layout, targets, train, chosen_on, scaling, generator(seed, CLOSED_FORM)
                )
            varies = of_the_first(devices, varying_landmarks(profiles[0], rows, scaling, model.standardize))
            run = start_run(config, layout, targets, varies, seed, decay)
            if parameters is not None:
                if not varies.all():
                    parameters = ignoring_constant(parameters, varies, linear_path=model.linear_path)
                start_from(parameters, run, config, layout, n_best)
        training = placed(profiles, rows, targets, layout, resident)
        validation = [
            placed(arrays, np.arange(len(arrays[0])), targets, layout, resident) for arrays in validation_sets
        ]
        if len(held_out):
            validation = [replace(training, rows=held_out)]
        data = TrainingData(
            training,
            monitor=replace(training, rows=monitored(rows, model.monitor_size, seed)),
            validation=tuple(validation),
            scaling=place_scaling(scaling, targets, layout),
            fingerprint=fingerprint(*profiles, rows),
            holds_out=len(held_out) > 0,
        )
    n_steps = max(config.n_steps(len(rows)), model._settings.get("n_steps", 0) if going_on else 0)
    rates = training_rates(model, config, targets, learning_rate, n_steps)
    settings = {name: getattr(model, name) for name in SETTINGS} | {"n_steps": n_steps}
    return Session(config, layout, data, rates, scaling, run, settings, demand)


def varying_landmarks(X: np.ndarray, rows: np.ndarray, scaling: Scaling, standardize: bool) -> np.ndarray:
    """Which landmarks are not constant in training; all if they are not standardized, as constants count then."""
    varies = np.ones(X.shape[1], dtype=bool)
    if standardize:
        candidates = np.flatnonzero(scaling.x_scale == 1.0)
        varies[candidates] = gene_statistics(X[:, candidates], rows)[1] > 0
    return varies


def parameters_in_closed_form(
    model: Any,
    config: TrainConfig,
    layout: Layout,
    targets: TargetSets,
    train: SomeProfiles,
    validation: SomeProfiles,
    scaling: Scaling,
    random: np.random.Generator,
) -> Parameters:
    """What training starts from, in all processes that of the first."""
    if not model.standardize:
        warn_of_other_units(train.X, train.rows)
    ingredients = Ingredients(*(getattr(model, f"start_{field.name}") for field in fields(Ingredients)))
    device = own_devices(layout.devices)[0]
    parameters = closed_form_parameters(
        config.network, targets, train, validation, scaling, ingredients, random, device
    )
    # Where rounding lets processes choose otherwise, their networks do not fit together.
    return tuple(Layer(*(of_the_first(layout.devices, array) for array in layer)) for layer in parameters)


def require_a_start(model: Any, n_validation_sets: int, *, going_on: bool) -> None:
    """Raise if there is no model before the first epoch where one is asked for."""
    if model.start == "random":
        if model.max_iter == 0 and not going_on:
            raise ValueError("Got max_iter=0 and start='random', but random weights are no model. Train some epochs.")
    elif not n_validation_sets and not going_on:
        raise ValueError(
            "Got start='closed_form' without validation data, but its penalties are chosen on some. Pass X_val and "
            "y_val, or to `fit` a positive validation_fraction."
        )


def reopened_run(
    model: Any, config: TrainConfig, layout: Layout, targets: TargetSets, decay: LearningRateDecay
) -> TrainingRun:
    """An estimator's own run on the devices, with the decay that its parameters ask for now."""
    require_same_network(model, config)
    run = to_devices(model._run, config, layout, targets)
    unchanged = all(
        getattr(model, name) == model._settings.get(name, getattr(model, name))
        for name in ("learning_rate_init", "start_epochs")
    )

    def changed(before: LearningRateDecay) -> LearningRateDecay:
        if isinstance(decay, CosineDecay):
            return decay.after(before) if unchanged and isinstance(before, CosineDecay) else decay
        same = unchanged and not isinstance(before, CosineDecay)
        learning_rate = before.learning_rate if same else decay.learning_rate
        return replace(decay, learning_rate=learning_rate, previous_error=before.previous_error)

    run.decay = tuple(map(changed, run.decay))
    return run


def training_rows(n_profiles: int, fraction: float, seed: int, n_wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Which profiles to train on, and which to hold out."""
    rows, held_out = hold_out(n_profiles, fraction, seed)
    if len(rows) < n_wanted:
        raise ValueError(
            f"Got {n_profiles} profiles, of which validation_fraction={fraction:g} holds out {len(held_out)} and "
            f"leaves {len(rows)}, but expected at least {n_wanted} to train on. Pass more profiles, or validation data "
            "(X_val, y_val); validation_fraction=0 holds none out."
        )
    return rows, held_out


def placed(arrays: Arrays, rows: np.ndarray, targets: TargetSets, layout: Layout, resident: bool) -> ProfileSet:
    """Some profiles on the devices, or as they are on the host."""
    X, y = arrays
    if not resident:
        return ProfileSet(X, y, rows, targets)
    return ProfileSet(layout.place_landmarks(X), layout.place_targets(y, targets), rows, targets)


def train_config(model: Any, X: np.ndarray, targets: TargetSets) -> TrainConfig:
    """What of an estimator's parameters selects the compiled program."""
    sizes = model.hidden_layer_sizes
    sizes = (sizes,) if np.ndim(sizes) == 0 else tuple(sizes)
    if not all(isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 1 for size in sizes):
        raise ValueError(f"Got hidden_layer_sizes={sizes}, but expected whole numbers of at least 1, one per layer.")
    for name, asked in (("linear_path=True", model.linear_path), ("start='closed_form'", model.start == "closed_form")):
        if asked and not sizes:
            raise ValueError(f"Got {name} without hidden layers, but it is about what is beside or in them. Add one.")
    network = NetworkConfig(
        X.shape[1],
        tuple(map(int, sizes)),
        targets.largest,
        model.activation,
        model.compute_dtype,
        n_networks=len(targets),
        linear_path=bool(model.linear_path),
    )
    batch_size = min(int(model.batch_size), rounded_up(len(X), BATCH_MULTIPLE))
    return TrainConfig(network, model.loss, model.solver, batch_size, dropout=model.dropout > 0)


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
        ("n_partitions", model._settings["n_partitions"], model.n_partitions),
        *([("partition", model._settings["partition"], model.partition)] if model.n_partitions > 1 else []),
        ("hidden_layer_sizes", trained.network.hidden_layer_sizes, asked.network.hidden_layer_sizes),
        ("activation", trained.network.activation, asked.network.activation),
        ("linear_path", trained.network.linear_path, asked.network.linear_path),
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
        if self.verbose and self.session.layout.leads:
            print(_line(run.history[-1]))
        if self.epoch is None:
            return False
        stop = self.epoch.call_on_fit_task_end(**self.watched, reconstruction_attributes=self.session.fitted_attributes)
        return bool(stop)


def _line(record: dict[str, float]) -> str:
    validation = [f"{value:.4f}" for name, value in record.items() if re.fullmatch(r"validation_mae_\d+", name)]
    selected = f", validation MAE {' '.join(validation)}" if validation else ""
    return (
        f"Epoch {record['epoch']:3d}: training MAE {record['train_mae']:.4f}{selected}, "
        f"learning rate {record['learning_rate']:.2g}, {record['seconds']:.1f} s"
    )
