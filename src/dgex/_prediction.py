"""Predictions by a trained network, in blocks of one fixed shape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import jax
import numpy as np

from dgex._network import NetworkConfig, Parameters, initial_parameters, stacked
from dgex._partition import TargetSets
from dgex._programs import BLOCK_ROWS, HOST_BLOCK_ROWS, Scaling, hidden_program, place_scaling, predict_program
from dgex._sharding import Layout, resized

# Blocks computed ahead of the one that is copied to the host.
BLOCKS_IN_FLIGHT = 2

# Rows that are scaled at a time, so that they stay in the processor's cache.
SCALED_ROWS = 8

# Starts the computation of a block on the devices; makes predictions of the result and writes them into an array.
Begin = Callable[[jax.Array], jax.Array]
Finish = Callable[[np.ndarray, np.ndarray], None]


def predict(
    config: NetworkConfig,
    layout: Layout,
    parameters: Parameters,
    sets: TargetSets,
    scaling: Scaling,
    X: np.ndarray,
    result: np.ndarray,
) -> None:
    """Write predicted targets in the units of training into an array of shape (n_profiles, n_targets).

    Takes memory for a few blocks. A profile's prediction is the same to the last bit whichever profiles come with it.
    """
    on_host = multiplied_on_host(config, layout)
    divide, n_rows = (finished_on_host, HOST_BLOCK_ROWS) if on_host else (finished_on_devices, BLOCK_ROWS)
    begin, finish = divide(config, layout, stacked(parameters, sets), sets, scaling)
    begun: deque[tuple[int, jax.Array]] = deque()

    def finish_first() -> None:
        start, block = begun.popleft()
        finish(np.asarray(block), result[start : start + n_rows])

    for start in range(0, len(X), n_rows):
        x = np.zeros((n_rows, config.n_inputs), dtype=np.float32)
        rows = X[start : start + n_rows]
        x[: len(rows)] = rows
        begun.append((start, begin(layout.put(x, layout.replicated))))
        if len(begun) > BLOCKS_IN_FLIGHT:
            finish_first()
    while begun:
        finish_first()


def multiplied_on_host(config: NetworkConfig, layout: Layout) -> bool:
    """Whether NumPy multiplies with the output weights."""
    return layout.platform == "cpu" and config.compute_dtype == "float32"


def finished_on_devices(
    config: NetworkConfig, layout: Layout, stack: Parameters, sets: TargetSets, scaling: Scaling
) -> tuple[Begin, Finish]:
    """The devices do all; the host copies their results."""
    program = predict_program(config, layout)
    padded = config.padded_to(layout.n_shards)
    stack = placed(resized(stack, jax.eval_shape(lambda: initial_parameters(padded, jax.random.key(0)))), layout)
    scaling = place_scaling(scaling, sets, layout)

    def finish(predictions: np.ndarray, result: np.ndarray) -> None:
        for network, size in enumerate(sets.sizes):
            result[:, sets.columns(network, 0, size)] = predictions[network, : len(result), :size]

    return lambda x: program(stack, scaling, x), finish


def finished_on_host(
    config: NetworkConfig, layout: Layout, stack: Parameters, sets: TargetSets, scaling: Scaling
) -> tuple[Begin, Finish]:
    """The devices are the host's own processor, and NumPy multiplies with the output weights: most of the work.

    Its product takes two thirds of the time of XLA's on processors with wide vectors, and writes into the same memory
    for every block.
    """
    padded = config.padded_to(layout.n_shards)
    *hidden, output = stack
    *structure, _ = jax.eval_shape(lambda: initial_parameters(padded, jax.random.key(0)))
    placed_hidden = placed(resized(tuple(hidden), tuple(structure)), layout)
    program = hidden_program(config, layout)
    x_mean, x_scale, y_mean, y_scale = (np.asarray(values, dtype=np.float32) for values in scaling)
    x_statistics = [layout.put(values, layout.replicated) for values in (x_mean, x_scale)]
    y_mean, y_scale = sets.split(y_mean), sets.split(y_scale)
    product = np.empty((HOST_BLOCK_ROWS, sets.largest), dtype=np.float32)

    def finish(activations: np.ndarray, result: np.ndarray) -> None:
        for network, size in enumerate(sets.sizes):
            kernel, bias = output.kernel[network, :, :size], output.bias[network, :size]
            scale = y_scale[network, :size]
            offset = bias * scale + y_mean[network, :size]
            columns = sets.columns(network, 0, size)
            np.matmul(activations[network, :, : len(kernel)], kernel, out=product[:, :size])
            for start in range(0, len(result), SCALED_ROWS):
                rows = slice(start, min(start + SCALED_ROWS, len(result)))
                scaled = product[rows, :size]
                scaled *= scale
                scaled += offset
                result[rows, columns] = scaled

    return lambda x: program(placed_hidden, *x_statistics, x), finish


def placed(tree: Parameters, layout: Layout) -> Parameters:
    """Parameters on the devices, divided among them."""
    return jax.tree.map(lambda array: layout.put(array, layout.divided(array.ndim)), tree)
