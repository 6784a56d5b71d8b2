"""The parameters that a network starts from when its output layer is found in closed form."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from dgex._closed_form import (
    Arrays,
    Ingredients,
    Inputs,
    centred,
    orthogonal_layer,
    output_layer,
)
from dgex._derivatives import last_hidden
from dgex._network import Layer, NetworkConfig, Parameters
from dgex._partition import TargetSets
from dgex._programs import Scaling
from dgex._statistics import gene_statistics, standardized
from dgex._validation import warn_user

# Standard deviations, or their inverse, from which on profiles are not standardized.
FAR_FROM_ONE = 30.0

# Profiles that are standardized at a time.
BLOCK_ROWS = 1024


class SomeProfiles(NamedTuple):
    """Rows of landmarks and of targets, in the units of the user."""

    X: np.ndarray
    y: np.ndarray
    rows: np.ndarray

    def seen(self, scaling: Scaling) -> Arrays:
        """Landmarks and targets of these rows as networks see them."""
        return (
            as_seen(self.X, self.rows, scaling.x_mean, scaling.x_scale),
            as_seen(self.y, self.rows, scaling.y_mean, scaling.y_scale),
        )


def as_seen(values: np.ndarray, rows: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Rows of an array, standardized, in float32; nothing else of that size is made."""
    result = np.empty((len(rows), values.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        result[block] = standardized(values[rows[block]], mean, scale)
    return result


def closed_form_parameters(
    config: NetworkConfig,
    targets: TargetSets,
    train: SomeProfiles,
    validation: SomeProfiles,
    scaling: Scaling,
    ingredients: Ingredients,
    rng: np.random.Generator,
    device: jax.Device,
) -> Parameters:
    """Random orthogonal hidden layers and the output layers that are best on them, as a stack of networks."""
    seen, seen_val = train.seen(scaling), validation.seen(scaling)
    *hidden, outputs = zip(
        *(
            closed_form_network(config, members, seen, seen_val, ingredients, rng, device)
            for members in targets.members
        ),
        strict=True,
    )
    kernel = np.empty((len(outputs[0].kernel), targets.n_targets), dtype=np.float32)
    bias = np.empty(targets.n_targets, dtype=np.float32)
    for members, output in zip(targets.members, outputs, strict=True):
        kernel[:, members], bias[members] = output
    stacks = [Layer(*map(np.stack, zip(*layers, strict=True))) for layers in hidden]
    return (*stacks, Layer(targets.split(kernel), targets.split(bias)))


def warn_of_other_units(X: np.ndarray, rows: np.ndarray) -> None:
    """Warn if landmarks that are taken as they are do not look standardized."""
    deviation = gene_statistics(X, rows)[1]
    typical = float(np.median(deviation[deviation > 0])) if deviation.any() else 1.0
    if not 1 / FAR_FROM_ONE < typical < FAR_FROM_ONE:
        warn_user(
            f"Got standardize=False and landmarks whose standard deviation is {typical:.3g}, but a closed form expects "
            "standardized expression, with deviations of about 1. Pass standardize=True, or standardize before."
        )


def closed_form_network(
    config: NetworkConfig,
    members: np.ndarray,
    train: Arrays,
    validation: Arrays,
    ingredients: Ingredients,
    rng: np.random.Generator,
    device: jax.Device,
) -> Parameters:
    """One network, for some of the targets."""
    hidden = tuple(Layer(*orthogonal_layer(*shape, rng)) for shape in config.layer_shapes[:-1])
    (X, y), (X_val, y_val) = train, validation
    if len(members) < y.shape[1]:
        y, y_val = np.ascontiguousarray(y[:, members]), np.ascontiguousarray(y_val[:, members])

    def centred_hidden(share: float) -> tuple[Layer, ...]:
        """Hidden layers that take so much of each profile's mean away."""
        first, *others = hidden
        return (Layer(centred(first.kernel, share, axis=0), first.bias), *others)

    def inputs(X: np.ndarray, centring: float) -> Inputs:
        landmarks = centred(X, centring, axis=1) if config.linear_path else X[:, :0]
        return Inputs(landmarks, last_hidden(config.activation, centred_hidden(centring), X, device))

    output = output_layer(inputs, (X, y), (X_val, y_val), ingredients, rng)
    if config.linear_path:
        output.kernel[: config.n_inputs] = centred(output.kernel[: config.n_inputs], output.centring, axis=0)
    return (*centred_hidden(output.centring), Layer(output.kernel, output.bias))
