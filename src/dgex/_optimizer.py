"""Optimisers, learning rates per layer, and the learning-rate decay of D-GEX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import optax

# Chen et al. train one hidden layer with a learning rate of 5e-4, two and three with 3e-4, and multiply it by 3 for
# the weights above the first hidden layer.
PAPER_LEARNING_RATE_SHALLOW = 5e-4
PAPER_LEARNING_RATE_DEEP = 3e-4
PAPER_UPPER_LAYER_RATE = 3.0

# Adam's customary learning rate.
ADAMW_LEARNING_RATE = 1e-3

# The share of the weights that "auto" takes away in an epoch at the first learning rate, in however many steps.
DECAY_PER_EPOCH = 0.15

# The learning rate of gentle epochs is this times that of the others: at more, the first steps undo a start in closed
# form of a few hundred profiles.
GENTLE_RATE = 0.1

# The paper's architectures lie inside these bounds of the quantities that `automatic_layer_rates` computes, so that
# its rule is exactly the paper's there (both for its 4,760 targets per network and for all 9,520 at once).
PAPER_SIGNAL = 500.0
PAPER_LEVERAGE = (6e-5, 3.3e-4)
PAPER_BATCH_SIZE = 200

# Activations grow in training, the more the smaller they were: with one landmark and three layers, larger factors
# diverge after a while, and none was found to train faster.
LARGEST_FACTOR = 20.0

# The share of the squared norm that activations without bounds let through, at least where it is large.
SHARE_PASSED = {"identity": 1.0, "abs": 1.0, "relu": 0.5, "gelu": 0.5, "silu": 0.5}

# A chain of linear maps grows without anything to stop it; measured on profiles with few factors and on real ones.
LINEAR_NETWORK_RATE = 0.25

# k of `batch_factor`, as measured: smaller values diverge with one profile per mini-batch.
NOISE = 20.0


class OptimizerSettings(NamedTuple):
    """The numbers of an optimiser. All are traced: changing one compiles nothing."""

    learning_rate: Any  # (n_networks,)
    momentum: Any
    weight_decay: Any
    beta_1: Any
    beta_2: Any
    epsilon: Any
    layer_rates: Any  # factors of the learning rate, (n_networks,) for every array of the parameters


# Enough to ask an optimiser for the structure of its state.
AT_REST = OptimizerSettings(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None)


def make_optimizer(solver: str, settings: OptimizerSettings) -> optax.GradientTransformation:
    """The optimiser for one step, "sgd" or "adamw".

    "sgd" is classic momentum with the learning rate inside the velocity, v <- m v - lr g; w <- w + v: a velocity keeps
    the learning rate that it was gained with. (`optax.sgd` scales the velocity instead, which differs after a decay.)
    """

    def descend(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        del params

        def scaled(update: jax.Array, factor: jax.Array) -> jax.Array:
            rate = settings.learning_rate * factor
            return -rate.reshape(-1, *[1] * (update.ndim - 1)) * update

        return jax.tree.map(scaled, updates, settings.layer_rates)

    def is_kernel(params: optax.Params) -> optax.Params:
        return jax.tree.map(lambda parameter: parameter.ndim == 3, params)

    if solver == "sgd":
        return optax.chain(optax.stateless(descend), optax.trace(decay=settings.momentum))
    return optax.chain(
        optax.scale_by_adam(settings.beta_1, settings.beta_2, settings.epsilon),
        optax.add_decayed_weights(settings.weight_decay, mask=is_kernel),
        optax.stateless(descend),
    )


def automatic_learning_rate(solver: str, n_hidden_layers: int) -> float:
    """The learning rate that "auto" stands for."""
    if solver == "adamw":
        return ADAMW_LEARNING_RATE
    return PAPER_LEARNING_RATE_SHALLOW if n_hidden_layers == 1 else PAPER_LEARNING_RATE_DEEP


def automatic_weight_decay(learning_rate: float, n_steps: int) -> float:
    """The weight decay that "auto" stands for, with so many steps in an epoch: the fewer, the more in each."""
    return DECAY_PER_EPOCH / (learning_rate * n_steps)


def paper_layer_rates(n_layers: int) -> list[tuple[float, float]]:
    """Factors of the learning rate for (weights, biases) of every layer, as in the paper."""
    return [(1.0 if layer == 0 else PAPER_UPPER_LAYER_RATE, 1.0) for layer in range(n_layers)]


def automatic_layer_rates(
    layer_shapes: Sequence[tuple[int, int]], activation: str, batch_size: int
) -> list[tuple[float, float]]:
    """Factors of the learning rate for (weights, biases) of every layer, fitted to the size of the network.

    At the paper's sizes these are the paper's factors. Elsewhere two curvatures of the summed squared error decide how
    large a step may be. With q_l, the expected squared norm of the activations of layer l at the start,

        q_0 = n_inputs,    s_l = 2 q_{l-1} / (fan_in + fan_out),    q_l = fan_out s_l / (1 + s_l)

    (for activations without bounds, q_l = fan_out s_l times the share that they let through),

    1. the output weights see a curvature proportional to q_L, whatever the number of targets: their factor is
       3 min(1, q_L / 500)^(-3/4), at most 60, or 3 (q_L / 500)^(-1) where q_L exceeds 500 for want of bounds; a
       linear path, by which they see the inputs as well, makes the curvature proportional to q_L + q_0;
    2. a hidden layer l sees the error of all targets through output weights that grow as 1 / q_L: its curvature is
       proportional to n_targets q_{l-1} / q_L. Its factor is the square root of how far q_L / (n_targets q_{l-1}),
       itself lowered by min(1, q_L / 500)^(1/2), lies outside the paper's range (below it, without bounds, the whole
       of it: nothing saturates that a large step drives apart); at most that of the output.

    Exponents below one keep a distance from the edge of stability (`docs/design.md` has how it was found,
    `benchmarks/learning_rates.py` measures it). All factors fall with small mini-batches, as `batch_factor` says, and
    for a network without any nonlinearity.
    """
    passed = SHARE_PASSED.get(activation)
    signal = [float(layer_shapes[0][0])]
    for fan_in, fan_out in layer_shapes[:-1]:
        variance = 2 * signal[-1] / (fan_in + fan_out)
        signal.append(fan_out * (variance / (1 + variance) if passed is None else passed * variance))
    n_targets = layer_shapes[-1][1]
    relative_signal = signal[-1] / PAPER_SIGNAL
    if relative_signal < 1:
        output_factor = min(relative_signal**-0.75, LARGEST_FACTOR)
    else:
        output_factor = 1.0 if passed is None else 1.0 / relative_signal
    if len(layer_shapes) > 1 and layer_shapes[-1][0] > layer_shapes[-2][1]:  # a linear path
        output_factor *= signal[-1] / (signal[-1] + signal[0])
    low, high = PAPER_LEVERAGE

    factors = []
    for layer_signal in signal[:-1]:
        leverage = math.sqrt(min(1.0, relative_signal)) * signal[-1] / (n_targets * layer_signal)
        excess = leverage / min(max(leverage, low), high)
        factor = excess if excess < 1 and passed is not None else math.sqrt(excess)
        factors.append(min(factor, output_factor))
    factors.append(output_factor)
    common = batch_factor(batch_size) * (LINEAR_NETWORK_RATE if activation == "identity" else 1.0)
    return [
        (common * min(weight * factor, PAPER_UPPER_LAYER_RATE * output_factor), common * bias * factor)
        for (weight, bias), factor in zip(paper_layer_rates(len(factors)), factors, strict=True)
    ]


def batch_factor(batch_size: int) -> float:
    """How much smaller a step has to be than with the paper's mini-batches of 200 profiles.

    The steps of stochastic gradient descent are stable up to a rate proportional to 1 / (1 + k / batch_size), where k
    is how often the squared norm of one profile's activations exceeds the curvature along their main direction.
    """
    return min(1.0, (1 + NOISE / PAPER_BATCH_SIZE) / (1 + NOISE / batch_size))


# How the learning rate falls: when the training error rises, or along half a cosine.
SCHEDULES = ("adaptive", "cosine")


@dataclass(frozen=True)
class LearningRateDecay:
    """The paper's decay: after each epoch, times `factor` when the training error rose; never below `minimum`."""

    learning_rate: float
    factor: float
    minimum: float
    previous_error: float = math.inf

    def update(self, error: float) -> LearningRateDecay:
        """The record after an epoch that ended with the given training error."""
        learning_rate = self.learning_rate
        if error > self.previous_error:
            learning_rate = max(learning_rate * self.factor, self.minimum)
        return replace(self, learning_rate=learning_rate, previous_error=error)

    @property
    def is_gentle(self) -> bool:
        """Whether the next epoch is one that only adapts a start in closed form."""
        return False

    def gentle_only(self) -> LearningRateDecay:
        """The record without epochs that are not gentle, if it has gentle ones."""
        return self

    def for_call(self, n_epochs: int) -> LearningRateDecay:
        """The record with which a call begins that trains for so many epochs."""
        return self

    def since(self, error: float) -> LearningRateDecay:
        """The record with another error to compare the next with."""
        return replace(self, previous_error=error)


@dataclass(frozen=True)
class CosineDecay(LearningRateDecay):
    """Half a cosine from the first learning rate down to `minimum`, where it stays, after that of gentle epochs."""

    initial: float = 0.0
    n_epochs: int = 1
    n_gentle: int = 0
    epoch: int = 0

    @property
    def is_gentle(self) -> bool:
        """Whether the next epoch is one that only adapts a start in closed form."""
        return self.epoch < self.n_gentle

    @property
    def stays_gentle(self) -> bool:
        """Whether no epoch of it is another."""
        return self.n_gentle == self.n_epochs

    def after(self, before: CosineDecay) -> CosineDecay:
        """The record that follows another: that one until it has ended, and a gentle one if all of that was."""
        if 0 < before.epoch < before.n_epochs:
            return replace(before, minimum=self.minimum).at(before.epoch)
        return self.gentle_only() if before.epoch > 0 and before.stays_gentle else self

    def gentle_only(self) -> CosineDecay:
        """The record without epochs that are not gentle."""
        return replace(self, n_gentle=self.n_epochs).at(self.epoch)

    def for_call(self, n_epochs: int) -> CosineDecay:
        """Goes on for a single epoch, or for as many as are left; else it begins anew."""
        if n_epochs <= 1 or n_epochs == self.n_epochs - self.epoch:
            return self
        n_gentle = min(self.n_gentle, n_epochs) if self.is_gentle else 0
        return replace(self, n_epochs=n_epochs, n_gentle=n_gentle).at(0)

    def update(self, error: float) -> CosineDecay:
        """The record after an epoch."""
        return replace(self, previous_error=error).at(min(self.epoch + 1, self.n_epochs))

    def at(self, epoch: int) -> CosineDecay:
        """The record before an epoch, counted from 0."""
        if epoch < self.n_gentle:
            highest, share = GENTLE_RATE * self.initial, epoch / self.n_gentle
        else:
            highest, share = self.initial, (epoch - self.n_gentle) / max(1, self.n_epochs - self.n_gentle)
        share = 1.0 if epoch == self.n_epochs else share
        lowest = min(self.minimum, highest)
        learning_rate = lowest + (highest - lowest) * (1 + math.cos(math.pi * share)) / 2
        return replace(self, learning_rate=learning_rate, epoch=epoch)
