"""The shape of the multilayer perceptron of D-GEX, and its parameters on the host and as a stack.

Parameters are those of a stack of independent networks, most often of one: the first axis of every array counts them.

Every activation offered maps zero to zero. A unit whose weights are zero is therefore silent and stays so
(its gradients are zero too), which lets :mod:`dgex._sharding` pad layers to a multiple of the device count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dgex._partition import TargetSets

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "abs": jnp.abs,
    "identity": lambda h: h,
}


class Layer(NamedTuple):
    """Parameters of one layer, or anything that there is one of per parameter."""

    kernel: Any  # (n_networks, fan_in, fan_out)
    bias: Any  # (n_networks, fan_out)


Parameters = tuple[Layer, ...]


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a network and how many of it there are; hashable, so that it can select a compiled program."""

    n_inputs: int
    hidden_layer_sizes: tuple[int, ...]
    n_outputs: int
    activation: str = "tanh"
    compute_dtype: str = "float32"
    n_networks: int = 1
    linear_path: bool = False  # whether the output layer sees the inputs, too, before the last hidden units

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of every layer, from the first hidden layer to the output."""
        *hidden, (n_units, n_outputs) = pairwise((self.n_inputs, *self.hidden_layer_sizes, self.n_outputs))
        return (*hidden, (n_units + self.linear_path * self.n_inputs, n_outputs))

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases of all networks."""
        return self.n_networks * sum((fan_in + 1) * fan_out for fan_in, fan_out in self.layer_shapes)

    def padded_to(self, multiple: int) -> NetworkConfig:
        """The same network with every layer's width rounded up to a multiple."""

        def round_up(width: int) -> int:
            return -(-width // multiple) * multiple

        hidden = tuple(round_up(width) for width in self.hidden_layer_sizes)
        return replace(self, hidden_layer_sizes=hidden, n_outputs=round_up(self.n_outputs))


def network_keys(key: jax.Array, n_networks: int) -> jax.Array:
    """A key for every network of a stack."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(n_networks))


def sum_over_profiles(values: jax.Array) -> jax.Array:
    """Sum over the first axis, always in the same order.

    That of XLA's own sums depends on the shape of the whole stack, and so on how many networks a device holds.
    """
    half = 1 << max(0, len(values) - 1).bit_length()
    # Without the barrier XLA may write what computes a value out for every term of the sum: minutes to compile.
    values = jax.lax.optimization_barrier(jnp.pad(values, [(0, half - len(values)), *[(0, 0)] * (values.ndim - 1)]))
    while half > 1:
        half //= 2
        values = values[:half] + values[half:]
    return values[0]


def stacked(parameters: Parameters, sets: TargetSets) -> Parameters:
    """Parameters as an estimator shows them, brought into the form of a stack.

    Estimators show those of one network as they are; of several the hidden layers are stacked, while the output layer
    has one column for each target, in their order.
    """
    *hidden, output = parameters
    if len(sets) == 1:
        hidden = [Layer(kernel[None], bias[None]) for kernel, bias in hidden]
    return (*hidden, Layer(*map(sets.split, output)))


def shown(parameters: Parameters, sets: TargetSets) -> Parameters:
    """The reverse of `stacked`."""
    *hidden, output = parameters
    if len(sets) == 1:
        hidden = [Layer(kernel[0], bias[0]) for kernel, bias in hidden]
    return (*hidden, Layer(*map(sets.joined, output)))


def ignoring_constant(parameters: Parameters, varies: Any, *, linear_path: bool) -> Parameters:
    """A stack without weights for landmarks that never vary in training, where they are zero.

    In other profiles they may vary after all, and weights that were never learned would add noise.
    """
    first, *others = parameters
    layers = [first._replace(kernel=first.kernel * varies[:, None]), *others]
    if linear_path:
        kernel = layers[-1].kernel
        of_units = jnp.ones(kernel.shape[-2] - len(varies), dtype=bool)
        layers[-1] = layers[-1]._replace(kernel=kernel * jnp.concatenate([varies, of_units])[:, None])
    return tuple(layers)
