"""The compiled programs of D-GEX: draw a state, run mini-batches, sum errors, predict a block.

Each is built once per (configuration, devices) and serves every fit with them. Rates, row orders, the number of
profiles and the bounds of loops are traced values, so that none of them compiles anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dgex._network import NetworkConfig, Parameters, initial_parameters, network
from dgex._optimizer import AT_REST, OptimizerSettings, make_optimizer
from dgex._sharding import Layout, resized

# Profiles evaluated or predicted at a time. One fixed shape compiles one program, and gives a profile the same result
# to the last bit whatever its neighbours are and however many there are.
BLOCK_ROWS = 256


def huber(error: jax.Array) -> jax.Array:
    """Twice Huber's loss with its corner at one: e^2 inside, 2 |e| - 1 outside; small errors count as squared."""
    size = jnp.abs(error)
    return jnp.where(size <= 1.0, size * size, 2.0 * size - 1.0)


LOSSES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "squared_error": jnp.square,
    "absolute_error": jnp.abs,
    "huber": huber,
}


@dataclass(frozen=True)
class TrainConfig:
    """What selects a compiled training program. Rates are not part of it."""

    network: NetworkConfig
    loss: str
    solver: str
    batch_size: int
    dropout: bool

    def padded_for(self, layout: Layout) -> TrainConfig:
        """The same configuration with every layer divisible among the devices."""
        return replace(self, network=self.network.padded_to(len(layout.devices)))


class TrainState(NamedTuple):
    """What a training step changes."""

    parameters: Parameters
    optimizer: optax.OptState


class Rates(NamedTuple):
    """The traced numbers of a training step."""

    optimizer: OptimizerSettings
    dropout: Any


class Scaling(NamedTuple):
    """Gene-wise statistics: a network sees (value - mean) / scale."""

    x_mean: Any  # (n_landmarks,)
    x_scale: Any
    y_mean: Any  # (n_targets,)
    y_scale: Any


def place_scaling(scaling: Scaling, layout: Layout) -> Scaling:
    """Put gene-wise statistics onto the devices as float32, each beside its genes; padded targets have scale one."""
    padding = (0, -len(scaling.y_mean) % len(layout.devices))
    x_mean, x_scale, y_mean, y_scale = (np.asarray(values, dtype=np.float32) for values in scaling)
    return Scaling(
        *jax.device_put((x_mean, x_scale), layout.replicated),
        *jax.device_put((np.pad(y_mean, padding), np.pad(y_scale, padding, constant_values=1.0)), layout.by_column(1)),
    )


def initial_state(config: TrainConfig, key: jax.Array) -> TrainState:
    """Random parameters and an optimiser at rest; a pure function of `key`."""
    parameters = initial_parameters(config.network, key)
    return TrainState(parameters, make_optimizer(config.solver, AT_REST).init(parameters))


@lru_cache(maxsize=128)
def state_structure(config: TrainConfig) -> TrainState:
    """Shapes and types of a training state."""
    return jax.eval_shape(lambda: initial_state(config, jax.random.key(0)))


@lru_cache(maxsize=128)
def initial_program(config: TrainConfig, layout: Layout) -> Callable[[jax.Array], TrainState]:
    """Draws the initial state from a key, its arrays created where they will live."""
    padded = state_structure(config.padded_for(layout))

    def create(key: jax.Array) -> TrainState:
        return resized(initial_state(config, key), padded)

    return jax.jit(create, out_shardings=layout.shardings(padded))


@lru_cache(maxsize=128)
def step_program(config: TrainConfig, layout: Layout) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Runs the mini-batches start, ..., stop - 1 of an epoch; the state passed in is overwritten.

    Returns the new state and `total` plus the loss, summed over profiles. The last mini-batch of an epoch may be short:
    its missing profiles have error zero and the sum over profiles is divided by the full batch size all the same, so
    that every profile of an epoch weighs the same (and a batch of one profile does not make a step two hundred times
    too noisy).
    """
    padded = config.padded_for(layout)
    loss_of = LOSSES[config.loss]

    def loop(
        state: TrainState,
        total: jax.Array,
        X: jax.Array,
        y: jax.Array,
        scaling: Scaling,
        order: jax.Array,
        offset: jax.Array,
        n_profiles: jax.Array,
        rates: Rates,
        key: jax.Array,
        start: jax.Array,
        stop: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        # Python numbers are 64-bit where JAX is configured so.
        rates = jax.tree.map(lambda rate: jnp.asarray(rate, jnp.float32), rates)
        optimizer = make_optimizer(config.solver, rates.optimizer)
        full_batch = jnp.minimum(config.batch_size, n_profiles)

        def batch_loss(
            parameters: Parameters, x: jax.Array, y: jax.Array, present: jax.Array, key: jax.Array
        ) -> jax.Array:
            prediction = network(padded.network, parameters)(x, rates.dropout if config.dropout else None, key)
            return jnp.sum(loss_of(jnp.where(present, prediction - y, 0.0))) / full_batch

        def step(index: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            (parameters, optimizer_state), total = carry
            rows, present = _block(order, index, offset, config.batch_size, n_profiles)
            loss, gradients = jax.value_and_grad(batch_loss)(
                parameters,
                (X[rows] - scaling.x_mean) / scaling.x_scale,
                (y[rows] - scaling.y_mean) / scaling.y_scale,
                present,
                jax.random.fold_in(key, index),
            )
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
            return TrainState(optax.apply_updates(parameters, updates), optimizer_state), total + loss * full_batch

        return jax.lax.fori_loop(start, stop, step, (state, jnp.asarray(total, jnp.float32)))

    shardings = layout.shardings(state_structure(padded))
    return jax.jit(loop, donate_argnums=0, out_shardings=(shardings, layout.replicated))


@lru_cache(maxsize=128)
def error_program(config: NetworkConfig, layout: Layout) -> Callable[..., jax.Array]:
    """Adds the absolute standardised errors of some blocks of profiles, without dropout, to a sum by target."""
    padded = config.padded_to(len(layout.devices))

    def total_error(
        total: jax.Array,
        parameters: Parameters,
        X: jax.Array,
        y: jax.Array,
        scaling: Scaling,
        rows: jax.Array,
        offset: jax.Array,
        n_profiles: jax.Array,
        start: jax.Array,
        stop: jax.Array,
    ) -> jax.Array:
        module = network(padded, parameters)

        def add_block(index: jax.Array, total: jax.Array) -> jax.Array:
            block, present = _block(rows, index, offset, BLOCK_ROWS, n_profiles)
            prediction = module((X[block] - scaling.x_mean) / scaling.x_scale)
            error = jnp.abs(prediction - (y[block] - scaling.y_mean) / scaling.y_scale)
            return total + jnp.sum(jnp.where(present, error, 0.0), axis=0)

        return jax.lax.fori_loop(start, stop, add_block, total)

    return jax.jit(total_error, out_shardings=layout.by_column(1))


@lru_cache(maxsize=128)
def predict_program(config: NetworkConfig, layout: Layout) -> Callable[[Parameters, Scaling, jax.Array], jax.Array]:
    """Predicts a block of `BLOCK_ROWS` profiles in the units of the training targets."""
    padded = config.padded_to(len(layout.devices))

    def predict(parameters: Parameters, scaling: Scaling, x: jax.Array) -> jax.Array:
        prediction = network(padded, parameters)((x - scaling.x_mean) / scaling.x_scale)
        return prediction * scaling.y_scale + scaling.y_mean

    return jax.jit(predict, out_shardings=layout.by_column(2))


def _block(
    rows: jax.Array, index: jax.Array, offset: jax.Array, size: int, n_profiles: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The `index`-th so many of the rows, which begin with block `offset`, and a column: which of them exist."""
    present = index * size + jnp.arange(size) < n_profiles
    return jax.lax.dynamic_slice(rows, ((index - offset) * size,), (size,)), present[:, None]
