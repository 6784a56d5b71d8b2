"""Predictions by a trained network, in blocks of one fixed shape."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache

import jax
import numpy as np

from dgex._network import Layer, NetworkConfig, Parameters, stacked
from dgex._partition import TargetSets
from dgex._programs import BLOCK_ROWS, HOST_BLOCK_ROWS, Scaling, hidden_program, place_scaling, predict_program
from dgex._sharding import Layout, resized
from dgex._threads import threads_of_products

# Blocks computed ahead of the one that is finished.
BLOCKS_IN_FLIGHT = 2

# Rows that are scaled at a time, so that they stay in the processor's cache.
SCALED_ROWS = 8

# Most targets that a thread of the host computes at a time, with the same block for all.
TILE_TARGETS = 2560


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
    finish = predict_on_host if multiplied_on_host(config, layout) else predict_on_devices
    finish(config, layout, stacked(parameters, sets), sets, scaling, X, result)


def multiplied_on_host(config: NetworkConfig, layout: Layout) -> bool:
    """Whether NumPy multiplies with the output weights."""
    return layout.platform == "cpu" and config.compute_dtype == "float32" and places_do_not_matter()


@cache
def places_do_not_matter() -> bool:
    """Whether NumPy's product gives a row the same bits wherever it is in a block.

    OpenBLAS's for AVX2 does not: of twelve rows it rounds six in another way than the others. XLA's does everywhere.
    """
    rng = np.random.default_rng(0)
    row, kernel = rng.standard_normal((1, 300), np.float32), rng.standard_normal((300, 256), np.float32)
    with threads_of_products() as threads:
        product = threads.submit(np.matmul, np.repeat(row, HOST_BLOCK_ROWS, axis=0), kernel).result()
    return bool((product == product[0]).all())


def predict_on_devices(
    config: NetworkConfig,
    layout: Layout,
    stack: Parameters,
    sets: TargetSets,
    scaling: Scaling,
    X: np.ndarray,
    result: np.ndarray,
) -> None:
    """The devices do all; the host copies their results."""
    program = predict_program(config, layout)
    stack = placed(resized(stack, structure(config, layout)), layout)
    scaling = place_scaling(scaling, sets, layout)

    def begin(x: np.ndarray) -> jax.Array:
        return program(stack, scaling, layout.put(x, layout.replicated))

    for rows, predictions in computed(X, BLOCK_ROWS, begin):
        for network, size in enumerate(sets.sizes):
            block = result[rows]
            block[:, sets.columns(network, 0, size)] = predictions[network, : len(block), :size]


def predict_on_host(
    config: NetworkConfig,
    layout: Layout,
    stack: Parameters,
    sets: TargetSets,
    scaling: Scaling,
    X: np.ndarray,
    result: np.ndarray,
) -> None:
    """The devices are the host's own processor, and NumPy multiplies with the output weights: most of the work.

    Its product takes two thirds of the time of XLA's on processors with wide vectors, and writes into the same memory
    for every block.
    """
    *hidden, output = stack
    placed_hidden = placed(resized(tuple(hidden), structure(config, layout)[:-1]), layout)
    program = hidden_program(config, layout)
    x_mean, x_scale, y_mean, y_scale = (np.asarray(values, dtype=np.float32) for values in scaling)
    statistics = [layout.put(values, layout.replicated) for values in (x_mean, x_scale)]
    y_mean, y_scale = sets.split(y_mean), sets.split(y_scale)
    of_thread = threading.local()

    def begin(x: np.ndarray) -> jax.Array:
        return program(placed_hidden, *statistics, layout.put(x, layout.replicated))

    def finish(activations: np.ndarray, network: int, tile: slice, block: np.ndarray) -> None:
        if not hasattr(of_thread, "room"):
            of_thread.room = np.empty(HOST_BLOCK_ROWS * TILE_TARGETS, dtype=np.float32)
        kernel, scale = output.kernel[network, :, tile], y_scale[network, tile]
        offset = output.bias[network, tile] * scale + y_mean[network, tile]
        product = of_thread.room[: len(activations) * len(scale)].reshape(len(activations), len(scale))
        np.matmul(activations[:, : len(kernel)], kernel, out=product)
        columns = sets.columns(network, tile.start, tile.stop)
        for start in range(0, len(block), SCALED_ROWS):
            rows = slice(start, min(start + SCALED_ROWS, len(block)))
            scaled = product[rows]
            scaled *= scale
            scaled += offset
            block[rows, columns] = scaled

    tiles = [(network, tile) for network, size in enumerate(sets.sizes) for tile in equal_parts(size, TILE_TARGETS)]
    begun: deque[Future[None]] = deque()
    with threads_of_products() as threads:
        for rows, activations in computed(X, HOST_BLOCK_ROWS, begin):
            begun += [
                threads.submit(finish, activations[network], network, tile, result[rows]) for network, tile in tiles
            ]
            while len(begun) > BLOCKS_IN_FLIGHT * len(tiles):
                begun.popleft().result()
        for task in begun:
            task.result()


def computed(
    X: np.ndarray, n_rows: int, begin: Callable[[np.ndarray], jax.Array]
) -> Iterator[tuple[slice, np.ndarray]]:
    """What the devices make of each block of profiles, while they are at the next ones already."""
    begun: deque[tuple[slice, jax.Array]] = deque()
    for start in range(0, len(X), n_rows):
        x = np.zeros((n_rows, X.shape[1]), dtype=np.float32)
        rows = slice(start, min(start + n_rows, len(X)))
        x[: rows.stop - start] = X[rows]
        begun.append((rows, begin(x)))
        if len(begun) > BLOCKS_IN_FLIGHT:
            rows, block = begun.popleft()
            yield rows, np.asarray(block)
    for rows, block in begun:
        yield rows, np.asarray(block)


def equal_parts(size: int, most: int) -> Iterator[slice]:
    """Parts of nearly equal size, none larger than `most`."""
    step = -(-size // -(-size // most))
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def structure(config: NetworkConfig, layout: Layout) -> Parameters:
    """Shapes of the parameters on the devices."""
    padded = config.padded_to(layout.n_shards)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((padded.n_networks, *shape), np.float32)

    return tuple(Layer(array(fan_in, fan_out), array(fan_out)) for fan_in, fan_out in padded.layer_shapes)


def placed(tree: Parameters, layout: Layout) -> Parameters:
    """Parameters on the devices, divided among them."""
    return jax.tree.map(lambda array: layout.put(array, layout.divided(array.ndim)), tree)
