"""Training runs between the devices that train them and the host, where estimators keep them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from dgex._network import Layer, Parameters, shown, stacked
from dgex._partition import TargetSets
from dgex._processes import gathered
from dgex._programs import TrainConfig, TrainState, state_structure
from dgex._sharding import Layout, resized
from dgex._training import BestEpoch, TrainingRun, loss_so_far


def to_host(run: TrainingRun, config: TrainConfig, targets: TargetSets) -> TrainingRun:
    """The same run with NumPy arrays in the form of `shown`, and the optimiser's state as a list of them.

    Parameters are copies that a user may change; the optimiser's state may be the memory that XLA has it in.
    """
    structure = state_structure(config)
    copies: dict[int, Any] = {}  # validation sets may share their best parameters

    def on_host(tree: Any, like: Any, array: Callable[[Any], np.ndarray]) -> Any:
        arrays = jax.tree.map(array, resized(jax.tree.map(gathered, tree), like))
        return jax.tree.map(lambda node: in_form(shown, node, targets), arrays, is_leaf=is_parameters)

    def copy(tree: Any, like: Any) -> Any:
        if id(tree) not in copies:
            copies[id(tree)] = on_host(tree, like, np.array)
        return copies[id(tree)]

    def keep(record: BestEpoch) -> BestEpoch:
        return (
            replace(record, parameters=copy(record.parameters, structure.parameters)) if record.parameters else record
        )

    optimizer = jax.tree.leaves(on_host(run.state.optimizer, structure.optimizer, np.asarray))
    state = TrainState(copy(run.state.parameters, structure.parameters), optimizer)
    return replace(
        run, state=state, best=tuple(map(keep, run.best)), history=list(run.history), epoch_loss=loss_so_far(run)
    )


def to_devices(run: TrainingRun, config: TrainConfig, layout: Layout, targets: TargetSets) -> TrainingRun:
    """A run that was kept on the host, made ready to go on."""
    padded = state_structure(config.padded_for(layout))

    def place(tree: Any, like: Any) -> Any:
        stack = jax.tree.map(lambda node: in_form(stacked, node, targets), tree, is_leaf=is_parameters)
        return layout.place(resized(stack, like))

    def restore(record: BestEpoch) -> BestEpoch:
        return replace(record, parameters=place(record.parameters, padded.parameters)) if record.parameters else record

    optimizer = jax.tree.unflatten(jax.tree.structure(padded.optimizer), run.state.optimizer)
    state = TrainState(place(run.state.parameters, padded.parameters), place(optimizer, padded.optimizer))
    return replace(run, state=state, best=tuple(map(restore, run.best)), history=list(run.history))


def is_parameters(node: Any) -> bool:
    """Whether a node of a training state has the structure of parameters, as moments have too."""
    return isinstance(node, tuple) and len(node) > 0 and isinstance(node[0], Layer)


def in_form(form: Callable[[Parameters, TargetSets], Parameters], node: Any, targets: TargetSets) -> Any:
    """`stacked` or `shown` of a node, unless it is a counter."""
    return form(node, targets) if is_parameters(node) else node
