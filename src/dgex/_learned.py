"""What a network has learned, as an estimator has it: whether it is all there and fits together."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from dgex._network import Layer, Parameters
from dgex._validation import listed

# All that `fit` stores, besides names of genes.
ATTRIBUTES = (
    *("_config", "_run", "_settings", "_y_is_vector", "n_features_in_", "n_outputs_", "n_iter_", "n_layers_"),
    *("landmark_mean_", "landmark_scale_", "target_mean_", "target_scale_", "partition_"),
    *("coefs_", "intercepts_", "best_epoch_", "best_score_", "history_", "loss_curve_"),
)


def learned_parameters(model: Any) -> Parameters:
    """Weights and biases; an error unless they have the shapes of the network that was fitted."""
    parameters = tuple(Layer(*layer) for layer in zip(model.coefs_, model.intercepts_, strict=True))
    require_shapes(model, parameters, ("coefs_", "intercepts_"))
    return parameters


def require_whole(model: Any) -> None:
    """Raise unless everything that was learned is there, if there are weights, and fits together."""
    missing = [name for name in ATTRIBUTES if name not in vars(model)]
    if {"coefs_", "_run"}.issubset(missing):
        return
    if missing:
        raise ValueError(f"the fitted {type(model).__name__} has no {listed(missing)}")
    network, targets = model._config.network, (model.n_outputs_,)
    require_shape("partition_", model.partition_, targets)
    sizes = np.bincount(model.partition_)
    announced = (network.n_networks, network.n_inputs, network.n_outputs)
    if (len(sizes), model.n_features_in_, sizes.max()) != announced or not sizes.all():
        raise ValueError(f"partition_ and n_features_in_ are not those of {announced} networks, inputs and outputs")
    for name in ("landmark_mean_", "landmark_scale_"):
        require_shape(name, getattr(model, name), (model.n_features_in_,))
    for name in ("target_mean_", "target_scale_"):
        require_shape(name, getattr(model, name), targets)
    state, kept = model._run.state, [record.parameters for record in model._run.best]
    learned_parameters(model)
    for parameters in (state.parameters, *(each for each in kept if each is not None)):
        require_shapes(model, parameters, ("the weights of the run", "the biases of the run"))
    of_weights, of_moments = (
        [np.shape(array) for array in arrays if np.ndim(array) > 1]  # others may be counters
        for arrays in (chain.from_iterable(state.parameters), state.optimizer)
    )
    if of_moments != of_weights * (len(of_moments) // len(of_weights)):
        raise ValueError(f"Got moments of the shapes {of_moments}, but weights of {of_weights}.")


def require_shapes(model: Any, parameters: Parameters, names: tuple[str, str]) -> None:
    """Raise unless weights and biases have the shapes that the estimator shows them in."""
    network = model._config.network
    several = (network.n_networks,) if network.n_networks > 1 else ()
    *hidden, (n_units, _) = network.layer_shapes
    shapes = [*((several + shape, several + shape[1:]) for shape in hidden)]
    shapes.append(((n_units, model.n_outputs_), (model.n_outputs_,)))
    if len(parameters) != len(shapes):
        raise ValueError(f"Got {names[0]} of {len(parameters)} layer(s), but the network has {len(shapes)}.")
    for number, (layer, expected) in enumerate(zip(parameters, shapes, strict=True)):
        for name, array, shape in zip(names, layer, expected, strict=True):
            require_shape(f"{name}[{number}]", array, shape)


def require_shape(name: str, array: Any, shape: Iterable[int]) -> None:
    """Raise unless an array has the shape that it was learned in."""
    if np.shape(array) != tuple(shape):
        raise ValueError(f"Got {name} of shape {np.shape(array)}, but expected {tuple(shape)}, as they were learned.")
