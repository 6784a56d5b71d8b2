"""What an estimator's parameters say of learning rates, weight decay and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgex._network import Layer
from dgex._optimizer import (
    CosineDecay,
    LearningRateDecay,
    OptimizerSettings,
    automatic_layer_rates,
    automatic_learning_rate,
    automatic_weight_decay,
    paper_layer_rates,
)
from dgex._partition import TargetSets
from dgex._programs import Rates, TrainConfig


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


def learning_rate_decay(model: Any, learning_rate: float, *, has_begun: bool) -> LearningRateDecay:
    """How the learning rate falls, from the first epoch on."""
    factor, minimum = float(model.learning_rate_decay), float(model.learning_rate_min)
    n_epochs, n_gentle = max(1, model.max_iter), model.start_epochs if model.start == "closed_form" else 0
    if model.learning_rate_schedule == "cosine":
        n_gentle = 0 if has_begun else min(n_gentle, n_epochs)
        return CosineDecay(0.0, factor, minimum, initial=learning_rate, n_epochs=n_epochs, n_gentle=n_gentle).at(0)
    if n_gentle:
        raise ValueError(
            f"Got start_epochs={n_gentle} and learning_rate_schedule={model.learning_rate_schedule!r}, but the epochs "
            "of the start have a cosine of their own. Pass learning_rate_schedule='cosine', or start_epochs=0."
        )
    return LearningRateDecay(learning_rate, factor, minimum)


def training_rates(model: Any, config: TrainConfig, targets: TargetSets, learning_rate: float, n_steps: int) -> Rates:
    """The numbers of the optimiser and of dropout, with so many steps in an epoch."""

    def factors(n_targets: int) -> list[tuple[float, float]]:
        *hidden, (fan_in, _) = config.network.layer_shapes
        if model.solver == "adamw":
            return [(1.0, 1.0)] * (len(hidden) + 1)
        if model.learning_rate_init == "auto":
            return automatic_layer_rates([*hidden, (fan_in, n_targets)], model.activation, int(model.batch_size))
        return paper_layer_rates(len(hidden) + 1)

    weight_decay = model.weight_decay
    if weight_decay == "auto":
        weight_decay = automatic_weight_decay(learning_rate, n_steps)
    by_network = np.array([factors(size) for size in targets.sizes], dtype=np.float32)
    settings = OptimizerSettings(
        np.full(len(targets), learning_rate, dtype=np.float32),
        momentum=float(model.momentum),
        weight_decay=float(weight_decay),
        beta_1=float(model.beta_1),
        beta_2=float(model.beta_2),
        epsilon=float(model.epsilon),
        layer_rates=tuple(
            Layer(by_network[:, layer, 0], by_network[:, layer, 1]) for layer in range(by_network.shape[1])
        ),
    )
    return Rates(settings, float(model.dropout))
