"""The multilayer perceptron of D-GEX: initialisation, dropout, forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from dgex._network import ACTIVATIONS, Layer, NetworkConfig, Parameters, network_keys, sum_over_profiles

# Chen et al. initialise the output weights from U(-1e-4, 1e-4): training starts from a prediction of zero.
OUTPUT_INIT_BOUND = 1e-4


def symmetric_uniform(bound: float) -> nnx.Initializer:
    """Initializer that draws from U(-bound, bound)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dropout(h: jax.Array, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Zero each activation with probability `rate`, scale the others by 1 / (1 - rate).

    With a key of :mod:`dgex._draws`, padded and sharded networks drop the same units. `rate` is traced: a sweep over
    dropout rates runs one compiled program.
    """
    words = jax.random.bits(key, h.shape, jnp.uint32)
    # 24 bits are compared as float32, which represents all of them exactly.
    keep = (words >> 8).astype(jnp.float32) >= rate * 2.0**24
    return jnp.where(keep, h * (1.0 / (1.0 - rate)), 0.0)


@jax.custom_vjp
def add_bias(h: jax.Array, bias: jax.Array) -> jax.Array:
    """Add a bias whose gradient is summed by `sum_over_profiles`."""
    return h + bias


add_bias.defvjp(lambda h, bias: (h + bias, None), lambda _, gradient: (gradient, sum_over_profiles(gradient)))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rounded_product(dtype: str, x: jax.Array, w: jax.Array) -> jax.Array:
    """The product of two matrices whose operands are rounded to `dtype`, and so are those of its gradients.

    Sums, results and gradients are float32. By itself JAX would multiply the float32 gradient of the result with the
    rounded operands, which is no faster than float32, and round the gradient of the weights.
    """
    return _rounded_product_forward(dtype, x, w)[0]


def _rounded_product_forward(dtype: str, x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    x, w = x.astype(dtype), w.astype(dtype)
    return jnp.matmul(x, w, preferred_element_type=jnp.float32), (x, w)


def _rounded_product_backward(
    dtype: str, operands: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = operands
    gradient = gradient.astype(dtype)
    return (
        jnp.matmul(gradient, w.T, preferred_element_type=jnp.float32),
        jnp.matmul(x.T, gradient, preferred_element_type=jnp.float32),
    )


rounded_product.defvjp(_rounded_product_forward, _rounded_product_backward)


def dot_general(dtype: str) -> Callable[..., jax.Array]:
    """What a linear layer multiplies with: JAX's own product, or `rounded_product`."""
    if dtype == "float32":
        return jax.lax.dot_general
    return lambda x, w, *_, **__: rounded_product(dtype, x, w)


class MLP(nnx.Module):
    """Fully connected network with a linear output layer (Chen et al. 2016, section 2.3).

    Hidden kernels start from U(+-sqrt(6 / (fan_in + fan_out))), the output kernel from U(+-1e-4), biases
    from zero. Parameters and accumulation are float32 whatever the compute dtype.
    """

    def __init__(self, config: NetworkConfig, rngs: nnx.Rngs):
        *hidden_shapes, output_shape = config.layer_shapes
        hidden_init = nnx.initializers.glorot_uniform()
        inits = [hidden_init] * len(hidden_shapes) + [symmetric_uniform(OUTPUT_INIT_BOUND)]
        self.activation = config.activation
        self.linear_path = config.linear_path
        self.layers = nnx.List(
            nnx.Linear(
                fan_in,
                fan_out,
                use_bias=False,
                dtype=jnp.float32,
                param_dtype=jnp.float32,
                preferred_element_type=jnp.float32,
                dot_general=dot_general(config.compute_dtype),
                kernel_init=init,
                rngs=rngs,
            )
            for (fan_in, fan_out), init in zip([*hidden_shapes, output_shape], inits, strict=True)
        )
        self.biases = nnx.List(nnx.Param(jnp.zeros(fan_out, jnp.float32)) for _, fan_out in config.layer_shapes)

    @classmethod
    def of(cls, config: NetworkConfig, parameters: Parameters) -> MLP:
        """The module that holds the parameters of one network of a stack; to be called while tracing."""
        module = nnx.eval_shape(lambda: cls(config, nnx.Rngs(0)))
        for layer, (kernel, _) in zip(module.layers, parameters, strict=True):
            layer.kernel = nnx.Param(kernel)
        module.biases = nnx.List(nnx.Param(bias) for _, bias in parameters)
        return module

    @property
    def parameters(self) -> Parameters:
        """Weights and biases of every layer."""
        pairs = zip(self.layers, self.biases, strict=True)
        return tuple(Layer(layer.kernel.get_value(), bias.get_value()) for layer, bias in pairs)

    def last_hidden(
        self, x: jax.Array, dropout_rate: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Activations of the last hidden layer, shape (n_profiles, n_units); dropout after each layer."""
        activation = ACTIVATIONS[self.activation]
        for depth, (layer, bias) in enumerate(zip(self.layers[:-1], self.biases[:-1], strict=True)):
            x = activation(add_bias(layer(x), bias.get_value()))
            if dropout_rate is not None and key is not None:
                x = dropout(x, dropout_rate, jax.random.fold_in(key, depth))
        return x

    def before_output(
        self, x: jax.Array, dropout_rate: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """What the output layer sees: the last hidden layer, and before it the inputs if there is a linear path."""
        hidden = self.last_hidden(x, dropout_rate, key)
        return jnp.concatenate([x, hidden], axis=1) if self.linear_path else hidden

    def __call__(self, x: jax.Array, dropout_rate: jax.Array | None = None, key: jax.Array | None = None) -> jax.Array:
        """Predicted targets, shape (n_profiles, n_outputs)."""
        return add_bias(self.layers[-1](self.before_output(x, dropout_rate, key)), self.biases[-1].get_value())


def initial_parameters(config: NetworkConfig, key: jax.Array, present: jax.Array | None = None) -> Parameters:
    """Draw the initial parameters of every network of a stack; a pure function of `key`.

    `present`, shape (n_networks, n_outputs), says which outputs have a target; the weights of the others are zero. The
    first network of a stack is drawn as if it were alone.
    """

    def draw(key: jax.Array) -> Parameters:
        return MLP(config, nnx.Rngs(params=key)).parameters

    *hidden, output = jax.vmap(draw)(network_keys(key, config.n_networks))
    if present is not None:
        output = output._replace(kernel=jnp.where(present[:, None], output.kernel, 0.0))
    return (*hidden, output)
