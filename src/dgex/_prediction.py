"""Predictions by a trained network, in blocks of one fixed shape."""

from __future__ import annotations

from collections import deque

import jax
import numpy as np

from dgex._network import NetworkConfig, Parameters, initial_parameters, stacked
from dgex._partition import TargetSets
from dgex._programs import BLOCK_ROWS, Scaling, place_scaling, predict_program
from dgex._sharding import Layout, resized

# Blocks computed ahead of the one that is copied to the host.
BLOCKS_IN_FLIGHT = 2


def predict(
    config: NetworkConfig,
    layout: Layout,
    parameters: Parameters,
    sets: TargetSets,
    scaling: Scaling,
    X: np.ndarray,
) -> np.ndarray:
    """Predicted targets in the units of training and the type of `X`, shape (n_profiles, n_targets).

    Takes memory for the result and a few blocks beyond it. A profile's prediction is the same to the last bit whichever
    profiles come with it.
    """
    program = predict_program(config, layout)
    padded = config.padded_to(layout.n_shards)
    structure = jax.eval_shape(lambda: initial_parameters(padded, jax.random.key(0)))
    stack = resized(stacked(parameters, sets), structure)
    parameters = jax.tree.map(lambda array: layout.put(array, layout.divided(array.ndim)), stack)
    scaling = place_scaling(scaling, sets, layout)
    result = np.empty((len(X), sets.n_targets), dtype=X.dtype)
    computed: deque[tuple[int, jax.Array]] = deque()

    def collect() -> None:
        start, block = computed.popleft()
        rows = result[start : start + BLOCK_ROWS]
        stack = np.asarray(block)
        for network, size in enumerate(sets.sizes):
            rows[:, sets.columns(network, 0, size)] = stack[network, : len(rows), :size]

    for start in range(0, len(X), BLOCK_ROWS):
        x = np.zeros((BLOCK_ROWS, config.n_inputs), dtype=np.float32)
        rows = X[start : start + BLOCK_ROWS]
        x[: len(rows)] = rows
        computed.append((start, program(parameters, scaling, layout.put(x, layout.replicated))))
        if len(computed) > BLOCKS_IN_FLIGHT:
            collect()
    while computed:
        collect()
    return result
