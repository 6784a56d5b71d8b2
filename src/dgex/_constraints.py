"""What values the parameters of `DGEXRegressor` take."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from dgex._network import ACTIVATIONS
from dgex._optimizer import SCHEDULES
from dgex._programs import LOSSES

CONSTRAINTS = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "linear_path": ["boolean"],
    "start": [StrOptions({"random", "closed_form"})],
    "start_profile_noise": ["boolean"],
    "start_target_penalties": ["boolean"],
    "start_prior": ["boolean"],
    "start_centring": ["boolean"],
    "start_epochs": [Interval(Integral, 0, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "loss": [StrOptions(set(LOSSES))],
    "solver": [StrOptions({"sgd", "adamw"})],
    "learning_rate_init": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "learning_rate_decay": [Interval(Real, 0, 1, closed="right")],
    "learning_rate_schedule": [StrOptions(set(SCHEDULES))],
    "learning_rate_min": [Interval(Real, 0, None, closed="left")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "standardize": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "monitor_size": [Interval(Integral, 1, None, closed="left")],
    "early_stopping": ["boolean"],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "compute_dtype": [StrOptions({"float32", "bfloat16"})],
    "n_partitions": [Interval(Integral, 1, None, closed="left")],
    "partition": [StrOptions({"random", "clustered"})],
    "devices": [Interval(Integral, 1, None, closed="left"), StrOptions({"one"}), "array-like", None],
    "data_location": [StrOptions({"auto", "device", "host"})],
}
