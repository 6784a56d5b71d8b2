"""The compiled programs of D-GEX: draw a state, run mini-batches, sum errors, predict a block.

All work on a stack of independent networks. Each program is built once per (configuration, devices) and serves every
fit with them. Rates, row orders, the number of profiles and the bounds of loops are traced values, so that none of them
compiles anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dgex._draws import INITIALIZATION, epoch_key
from dgex._network import Layer, NetworkConfig, Parameters, ignoring_constant, network_keys, sum_over_profiles
from dgex._optimizer import AT_REST, OptimizerSettings, make_optimizer
from dgex._partition import TargetSets
from dgex._sharding import Layout, resized

if TYPE_CHECKING:
    from dgex._mlp import MLP

# Profiles evaluated or predicted at a time. One fixed shape compiles one program, and gives a profile the same result
# to the last bit whatever its neighbours are and however many there are.
BLOCK_ROWS = 256

# The same for errors, where so few profiles are stored at most: less is computed for rows that are not there.
FEW_ROWS, FEW_BLOCK_ROWS = 512, 64

# The same where NumPy multiplies with the output weights: it packs them anew for every block.
HOST_BLOCK_ROWS = 512

# The kernels that XLA makes for products on GPUs take longer than those of NVIDIA's library, and longer to compile.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_enable_triton_gemm": False}}


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

    def n_steps(self, n_profiles: int) -> int:
        """Mini-batches in an epoch; the last may be short."""
        return -(-n_profiles // self.batch_size)

    def padded_for(self, layout: Layout) -> TrainConfig:
        """The same configuration with every layer divisible among the devices."""
        return replace(self, network=self.network.padded_to(layout.n_shards))


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
    y_mean: Any  # (n_targets,), or those of each network on the devices
    y_scale: Any


def place_scaling(scaling: Scaling, sets: TargetSets, layout: Layout) -> Scaling:
    """Put gene-wise statistics onto the devices as float32, each beside its genes; padded targets have scale one."""
    x_mean, x_scale, y_mean, y_scale = (np.asarray(values, dtype=np.float32) for values in scaling)
    y_mean, y_scale = sets.split(y_mean), np.where(sets.present, sets.split(y_scale), np.float32(1.0))
    padding = (0, 0), (0, -sets.largest % layout.n_shards)
    y_mean, y_scale = np.pad(y_mean, padding), np.pad(y_scale, padding, constant_values=1.0)
    return Scaling(
        layout.put(x_mean, layout.replicated),
        layout.put(x_scale, layout.replicated),
        layout.put(y_mean, layout.divided(2)),
        layout.put(y_scale, layout.divided(2)),
    )


def initial_state(
    config: TrainConfig, key: jax.Array, present: jax.Array | None = None, varies: jax.Array | None = None
) -> TrainState:
    """Random parameters and an optimiser at rest; a pure function of `key`."""
    from dgex._mlp import initial_parameters

    parameters = initial_parameters(config.network, key, present)
    if varies is not None:
        parameters = ignoring_constant(parameters, varies, linear_path=config.network.linear_path)
    return TrainState(parameters, make_optimizer(config.solver, AT_REST).init(parameters))


@lru_cache(maxsize=128)
def state_structure(config: TrainConfig) -> TrainState:
    """Shapes and types of a training state."""
    return jax.eval_shape(lambda: initial_state(config, jax.random.key(0)))


@lru_cache(maxsize=128)
def initial_program(config: TrainConfig, layout: Layout) -> Callable[[int, np.ndarray, np.ndarray], TrainState]:
    """Draws the initial state of a run from its seed, its arrays created where they will live."""
    padded = state_structure(config.padded_for(layout))

    def create(seed: jax.Array, present: jax.Array, varies: jax.Array) -> TrainState:
        return resized(initial_state(config, epoch_key(seed, INITIALIZATION), present, varies), padded)

    return compiled(create, layout, layout.shardings(padded))


@lru_cache(maxsize=128)
def step_program(config: TrainConfig, layout: Layout) -> Callable[..., tuple[TrainState, jax.Array]]:
    """Runs the mini-batches start, ..., stop - 1 of an epoch; the state passed in is overwritten.

    Returns the new state and `total` plus each network's loss, summed over profiles. The last mini-batch of an epoch
    may be short: its missing profiles have error zero and the sum over profiles is divided by the full batch size all
    the same, so that every profile of an epoch weighs the same (and a batch of one profile does not make a step two
    hundred times too noisy).
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
        seed: jax.Array,
        epoch: jax.Array,
        start: jax.Array,
        stop: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        # Python numbers are 64-bit where JAX is configured so.
        rates = jax.tree.map(lambda rate: jnp.asarray(rate, jnp.float32), rates)
        optimizer = make_optimizer(config.solver, rates.optimizer)
        full_batch = jnp.minimum(config.batch_size, n_profiles)

        def batch_loss(
            parameters: Parameters, y: jax.Array, key: jax.Array, x: jax.Array, present: jax.Array
        ) -> jax.Array:
            prediction = mlp(padded.network, parameters)(x, rates.dropout if config.dropout else None, key)
            return jnp.sum(loss_of(jnp.where(present, prediction - y, 0.0))) / full_batch

        losses_and_gradients = for_every_network(config.network, jax.value_and_grad(batch_loss))
        keys = network_keys(epoch_key(seed, epoch), config.network.n_networks)

        def step(index: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            (parameters, optimizer_state), total = carry
            rows, present = _block(order, index, offset, config.batch_size, n_profiles)
            losses, gradients = losses_and_gradients(
                parameters,
                standardized_targets(y, rows, scaling),
                jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index),
                x=(X[rows] - scaling.x_mean) / scaling.x_scale,
                present=present,
            )
            if layout.n_shards == 1:  # else a number would have to travel
                gradients = after_those_below(gradients)
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
            return TrainState(optax.apply_updates(parameters, updates), optimizer_state), total + losses * full_batch

        return jax.lax.fori_loop(start, stop, step, (state, jnp.asarray(total, jnp.float32)))

    shardings = layout.shardings(state_structure(padded))
    return compiled(loop, layout, (shardings, layout.divided(1)), donate_argnums=0)


@lru_cache(maxsize=128)
def no_errors(config: NetworkConfig, layout: Layout) -> jax.Array:
    """What `error_program` adds to first."""
    n_outputs = config.padded_to(layout.n_shards).n_outputs
    return layout.put(np.zeros((config.n_networks, n_outputs), dtype=np.float32), layout.divided(2))


def error_rows(n_stored: int) -> int:
    """Profiles of a block whose errors are summed, of so many that are stored."""
    return FEW_BLOCK_ROWS if n_stored <= FEW_ROWS else BLOCK_ROWS


@lru_cache(maxsize=128)
def error_program(config: NetworkConfig, layout: Layout, block_rows: int) -> Callable[..., jax.Array]:
    """Adds the absolute standardised errors of some blocks of profiles, without dropout, to a sum by target."""
    padded = config.padded_to(layout.n_shards)

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
        def add_block(index: jax.Array, total: jax.Array) -> jax.Array:
            block, present = _block(rows, index, offset, block_rows, n_profiles)
            prediction = predictions(padded, parameters, (X[block] - scaling.x_mean) / scaling.x_scale)
            error = jnp.abs(prediction - standardized_targets(y, block, scaling))
            return total + jax.vmap(sum_over_profiles)(jnp.where(present, error, 0.0))

        return jax.lax.fori_loop(start, stop, add_block, total)

    return compiled(total_error, layout, layout.divided(2))


@lru_cache(maxsize=128)
def predict_program(config: NetworkConfig, layout: Layout) -> Callable[[Parameters, Scaling, jax.Array], jax.Array]:
    """Predicts a block of `BLOCK_ROWS` profiles in the units of the training targets, network by network."""
    padded = config.padded_to(layout.n_shards)

    def predict(parameters: Parameters, scaling: Scaling, x: jax.Array) -> jax.Array:
        prediction = predictions(padded, parameters, (x - scaling.x_mean) / scaling.x_scale)
        return prediction * scaling.y_scale[:, None] + scaling.y_mean[:, None]

    return compiled(predict, layout, layout.read_by_host(3))


@lru_cache(maxsize=128)
def hidden_program(config: NetworkConfig, layout: Layout) -> Callable[..., jax.Array]:
    """What the output layer sees of a block of profiles, network by network."""
    padded = config.padded_to(layout.n_shards)
    nothing = Layer(None, None)

    def before_output(hidden: Parameters, x: jax.Array) -> jax.Array:
        return mlp(padded, (*hidden, nothing)).before_output(x)

    def activations(hidden: Parameters, x_mean: jax.Array, x_scale: jax.Array, x: jax.Array) -> jax.Array:
        return for_every_network(config, before_output)(hidden, x=(x - x_mean) / x_scale)

    return compiled(activations, layout, layout.replicated)


def compiled(function: Callable[..., Any], layout: Layout, out_shardings: Any, **options: Any) -> Callable[..., Any]:
    """A function that is compiled when it is called, its results on the devices as said."""
    return jax.jit(function, out_shardings=out_shardings, compiler_options=compiler_options(layout.platform), **options)


@cache
def compiler_options(platform: str) -> dict[str, bool] | None:
    """What XLA is told to do otherwise than by default, as far as this XLA knows it."""
    options = COMPILER_OPTIONS.get(platform)
    if options is not None:
        try:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
        except jax.errors.JaxRuntimeError:
            return None
    return options


def mlp(config: NetworkConfig, parameters: Parameters) -> MLP:
    """The network with these parameters; to be called while tracing.

    Flax comes with it, which takes longer to import than all of dgex and is not needed before.
    """
    from dgex._mlp import MLP

    return MLP.of(config, parameters)


def predictions(config: NetworkConfig, parameters: Parameters, x: jax.Array) -> jax.Array:
    """Standardized predictions of all networks of a stack, shape (n_networks, n_profiles, n_outputs)."""
    return for_every_network(config, lambda parameters, x: mlp(config, parameters)(x))(parameters, x=x)


def for_every_network(config: NetworkConfig, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one network for a stack of them; keyword arguments are the same for all.

    A single network is computed without its axis: products of stacked matrices take a half more time on a CPU.
    """

    def stacked_function(*stacked: Any, **shared: Any) -> Any:
        if config.n_networks == 1:
            result = function(*jax.tree.map(lambda array: array[0], stacked), **shared)
            return jax.tree.map(lambda array: array[None], result)
        # XLA would merge products with the same matrix into one, which rounds differently with the number of networks.
        copies = {name: jnp.broadcast_to(array, (config.n_networks, *array.shape)) for name, array in shared.items()}
        return jax.vmap(lambda copies, *of_one: function(*of_one, **copies))(copies, *stacked)

    return stacked_function


def after_those_below(gradients: Parameters) -> Parameters:
    """The same gradients, each of which XLA can compute only after that of the layer below it.

    Backpropagation has then read a layer's kernel for the last time before the kernel changes, which can happen in
    place: without the order, XLA copies every such kernel in every step. (It takes nothing times a number for a number
    that it does not know; its own barriers do not reach that far.)
    """
    ordered = [gradients[0]]
    for below, (kernel, bias) in pairwise(gradients):
        nothing = 0.0 * below.bias[:, :1]
        ordered.append(Layer(kernel + nothing[..., None], bias + nothing))
    return tuple(ordered)


def standardized_targets(y: jax.Array, rows: jax.Array, scaling: Scaling) -> jax.Array:
    """Some profiles of all networks' targets."""
    return (y[:, rows] - scaling.y_mean[:, None]) / scaling.y_scale[:, None]


def _block(
    rows: jax.Array, index: jax.Array, offset: jax.Array, size: int, n_profiles: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The `index`-th so many of the rows, which begin with block `offset`, and a column: which of them exist."""
    present = index * size + jnp.arange(size) < n_profiles
    return jax.lax.dynamic_slice(rows, ((index - offset) * size,), (size,)), present[:, None]
