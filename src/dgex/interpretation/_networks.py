"""The trained networks of an estimator, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dgex import _validation
from dgex._derivatives import last_hidden
from dgex._frames import column_names
from dgex._genes import names_or_numbers
from dgex._network import Layer
from dgex._statistics import standardized
from dgex._validation import listed


@dataclass(frozen=True)
class Network:
    """One of the networks that an estimator consists of."""

    number: int
    activation: str
    kernels: tuple[np.ndarray, ...]  # of each layer, shape (n_units_below, n_units)
    biases: tuple[np.ndarray, ...]
    targets: np.ndarray  # columns of y that the network infers

    @property
    def hidden(self) -> tuple[Layer, ...]:
        """The hidden layers."""
        return tuple(map(Layer, self.kernels[:-1], self.biases[:-1]))

    @property
    def units_to_targets(self) -> np.ndarray:
        """Weights from the last hidden units to the targets, without those of a linear path."""
        return self.kernels[-1][-self.kernels[-2].shape[1] :]

    def before_output(self, Z: np.ndarray, device: Any) -> np.ndarray:
        """What the output layer sees of standardized profiles, as the kernel of the output layer has it."""
        units = last_hidden(self.activation, self.hidden, Z, device)
        linear_path = len(self.kernels[-1]) > units.shape[1]
        return np.concatenate([Z, units], axis=1) if linear_path else units

    def output_kernel(self, targets: np.ndarray) -> np.ndarray:
        """Weights of some of its targets, given by their columns of y."""
        return self.kernels[-1][:, np.searchsorted(self.targets, targets)]


def networks_of(model: Any) -> list[Network]:
    """The networks of a fitted `DGEXRegressor`: one, or as many as it has partitions."""
    check_is_fitted(model)
    if not hasattr(model, "partition_"):
        raise TypeError(
            f"Got {type(model).__name__}, but expected a fitted DGEXRegressor, which has layers to look into. Of a "
            "Pipeline pass the last step, model[-1], with what the steps before it make of the data; of a search its "
            "best_estimator_."
        )
    numbers = range(int(model.partition_.max()) + 1)
    networks = []
    for number in numbers:
        targets = np.flatnonzero(model.partition_ == number)
        *hidden, output = zip(model.coefs_, model.intercepts_, strict=True)
        if len(numbers) > 1:
            hidden = [(kernel[number], bias[number]) for kernel, bias in hidden]
        kernels, biases = zip(*hidden, (output[0][:, targets], output[1][targets]), strict=True)
        networks.append(Network(number, model._config.network.activation, kernels, biases, targets))
    return networks


def networks_with_units_of(model: Any) -> list[Network]:
    """The same, of a model that has hidden layers."""
    networks = networks_of(model)
    if not networks[0].hidden:
        raise ValueError("Got a network without hidden layers, which has no units. Pass one with hidden_layer_sizes.")
    return networks


def landmark_names(model: Any) -> np.ndarray:
    """Names of the landmarks, or their numbers as text."""
    return names_or_numbers(getattr(model, "feature_names_in_", None), model.n_features_in_)


def target_names(model: Any) -> np.ndarray:
    """Names of the targets, or their numbers as text."""
    return names_or_numbers(getattr(model, "target_names_", None), model.n_outputs_)


def require_same_names(data: Any, names: np.ndarray | None, what: str) -> None:
    """Raise if data have names of genes that are not those of the model, in their order."""
    given = column_names(data)
    if given is None or names is None or np.array_equal(given, names):
        return
    known = set(names)
    apart = [str(gene) for gene in given if gene not in known] or [
        f"{gene} for {expected}" for gene, expected in zip(given, names, strict=False) if gene != expected
    ]
    raise ValueError(
        f"The genes of {what} are not those of the model, in their order ({listed(apart)}). Select them by name: "
        f"{what}[names]."
    )


def standardized_landmarks(model: Any, X: Any) -> np.ndarray:
    """Profiles as the network sees them, float32."""
    array = _validation.validated_profiles(model, X, reset=False)
    _validation.require_single_precision(array, "X")
    return standardized(array, model.landmark_mean_, model.landmark_scale_).astype(np.float32, copy=False)
