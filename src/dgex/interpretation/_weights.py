"""Connections that stand out, and the hidden units where they meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from scipy.sparse import csr_array

from dgex._statistics import divisors
from dgex._table import Table
from dgex.interpretation._networks import Network, landmark_names, networks_with_units_of, target_names


@dataclass(frozen=True, eq=False)
class MajorWeights:
    """The connections of a network that stand out, made by :func:`major_weights`.

    Parameters
    ----------
    inputs : Table
        From landmarks to the first hidden layer: "network", "landmark" (name), "landmark_index", "unit", "weight",
        "deviations" (standard deviations from the mean of the landmark's weights).
    hidden : list of Table
        From each hidden layer to the next: "network", "unit_below", "unit", "weight", "deviations" (of the lower unit's
        weights).
    outputs : Table
        From the last hidden layer to targets: "network", "unit", "target" (name), "target_index", "weight",
        "deviations" (of the target's weights).
    n_landmarks, n_targets : int
        Number of all genes, with major weights or not.
    hidden_sizes : tuple of int
        Units of each hidden layer of a network.
    n_networks : int
        Number of networks.
    """

    inputs: Table
    hidden: list[Table]
    outputs: Table
    n_landmarks: int
    n_targets: int
    hidden_sizes: tuple[int, ...]
    n_networks: int

    def __repr__(self) -> str:
        between = "".join(f", {len(table)} between hidden layers" for table in self.hidden)
        return f"MajorWeights({len(self.inputs)} from landmarks{between}, {len(self.outputs)} to targets)"


def major_weights(model: Any, n_std_in: float = 4.0, n_std_out: float = 5.0) -> MajorWeights:
    """Connections whose weights are far from those of the same gene.

    Parameters
    ----------
    model : DGEXRegressor
        A fitted network.
    n_std_in : float, default=4.0
        A connection of a landmark is major if its weight is more than so many standard deviations away from the mean of
        the weights from this landmark to all units of the first hidden layer.
    n_std_out : float, default=5.0
        A connection of a target is major if its weight is more than so many standard deviations away from the mean of
        the weights from all units of the last hidden layer to this target.

    Returns
    -------
    weights : MajorWeights
        Tables of connections: gene names, units numbered from 0, weights with their signs.

    Notes
    -----
    Chen et al. [1]_ look at networks of one hidden layer with these thresholds (section 3.3, Supplementary S3). In
    deeper ones every unit of a hidden layer is treated towards the next layer as a landmark is: its connections
    beyond `n_std_in` standard deviations of all weights from this unit are major. Weights are those of the network, on
    standardized expression. The direct weights from landmarks to targets of a network with a linear path, such as
    `recipes.modern`, are not among them: these are the first rows of ``coefs_[-1]``.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import major_weights
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X, data.y)
    >>> weights = major_weights(model, n_std_in=2.5, n_std_out=2.5)
    >>> list(weights.outputs.columns)
    ['network', 'unit', 'target', 'target_index', 'weight', 'deviations']
    """
    for name, n_std in (("n_std_in", n_std_in), ("n_std_out", n_std_out)):
        if not n_std > 0:
            raise ValueError(f"Got {name}={n_std!r}, but expected a positive number of standard deviations.")
    networks = networks_with_units_of(model)
    landmarks, targets = landmark_names(model), target_names(model)
    inputs = _joined(_from_below(network, 0, n_std_in, "landmark_index") for network in networks)
    depths = range(1, len(networks[0].kernels) - 1)
    hidden = [_joined(_from_below(network, depth, n_std_in, "unit_below") for network in networks) for depth in depths]
    outputs = _joined(_to_targets(network, n_std_out) for network in networks)
    return MajorWeights(
        inputs=_named(inputs, "landmark", landmarks),
        hidden=hidden,
        outputs=_named(outputs, "target", targets),
        n_landmarks=len(landmarks),
        n_targets=len(targets),
        hidden_sizes=tuple(kernel.shape[1] for kernel in networks[0].kernels[:-1]),
        n_networks=len(networks),
    )


@dataclass(frozen=True, eq=False)
class HubUnit:
    """A unit of the last hidden layer, with the genes that it connects.

    Parameters
    ----------
    network, unit : int
        Numbers of the network and of the unit in it, from 0.
    targets : ndarray of str
        Targets that it has major connections to, the strongest first.
    target_weights : ndarray
        Weights of these connections.
    landmarks : ndarray of str
        Landmarks from which major connections lead to it, the strongest first.
    landmark_weights : ndarray
        Their weights; through several layers, the sum over all paths of the product of the weights on a path.
    background : ndarray of str
        All targets of the network, among which those of the unit were found.
    """

    network: int
    unit: int
    targets: np.ndarray
    target_weights: np.ndarray
    landmarks: np.ndarray
    landmark_weights: np.ndarray
    background: np.ndarray

    @property
    def n_targets(self) -> int:
        """Number of major connections to targets."""
        return len(self.targets)

    @property
    def share_positive(self) -> float:
        """Share of these connections with a positive weight."""
        return float(np.mean(self.target_weights > 0)) if self.n_targets else float("nan")

    @property
    def name(self) -> str:
        """What to call the unit."""
        return f"unit {self.unit}" + (f" of network {self.network}" if self.network else "")

    def __repr__(self) -> str:
        return (
            f"HubUnit({self.name}: {self.n_targets} targets, {self.share_positive:.0%} positive, "
            f"{len(self.landmarks)} landmarks)"
        )


class HubUnits(Sequence[HubUnit]):
    """Hidden units by their number of major connections to targets, the largest first; made by :func:`hub_units`.

    Parameters
    ----------
    units : sequence of HubUnit
        The units.
    """

    def __init__(self, units: Sequence[HubUnit]):
        self._units = tuple(units)

    @overload
    def __getitem__(self, index: int) -> HubUnit: ...
    @overload
    def __getitem__(self, index: slice) -> HubUnits: ...
    def __getitem__(self, index: int | slice) -> HubUnit | HubUnits:
        return HubUnits(self._units[index]) if isinstance(index, slice) else self._units[index]

    def __len__(self) -> int:
        return len(self._units)

    def table(self, n_genes: int = 5) -> Table:
        """The units as a table.

        Parameters
        ----------
        n_genes : int, default=5
            Landmarks and targets to name, the strongest first.

        Returns
        -------
        table : Table
            "network", "unit", "n_targets", "share_positive", "n_landmarks", "landmarks", "targets".
        """
        genes = {
            name: [tuple(getattr(unit, name)[:n_genes]) for unit in self._units] for name in ("landmarks", "targets")
        }
        return Table(
            {
                "network": np.array([unit.network for unit in self._units], dtype=np.intp),
                "unit": np.array([unit.unit for unit in self._units], dtype=np.intp),
                "n_targets": np.array([unit.n_targets for unit in self._units], dtype=np.intp),
                "share_positive": np.array([unit.share_positive for unit in self._units], dtype=np.float64),
                "n_landmarks": np.array([len(unit.landmarks) for unit in self._units], dtype=np.intp),
                **{name: _objects(tuples) for name, tuples in genes.items()},
            }
        )

    def __repr__(self) -> str:
        return f"HubUnits of {len(self)} units\n{self.table()}"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def hub_units(model: Any, weights: MajorWeights | None = None, n_units: int | None = None) -> HubUnits:
    """Units of the last hidden layer by their number of major connections to targets.

    Parameters
    ----------
    model : DGEXRegressor
        A fitted network.
    weights : MajorWeights, default=None
        Which connections count; None for those of :func:`major_weights` with its defaults.
    n_units : int, default=None
        How many units to return; None for all that have a major connection to a target.

    Returns
    -------
    hubs : HubUnits
        A sequence of :class:`HubUnit` with their targets, the share of positive connections, and the landmarks behind
        them; units with equally many targets in the order of their numbers.

    Notes
    -----
    Chen et al. [1]_ find that hubs tend to have connections of one sign only, which `share_positive` shows. Landmarks
    of a unit in a second or third hidden layer are those from which a path of major connections leads to it.

    References
    ----------
    .. [1] Chen Y, Li Y, Narayan R, Subramanian A, Xie X (2016). Gene expression inference with deep learning.
       Bioinformatics 32(12), 1832-1839.

    Examples
    --------
    >>> from dgex import DGEXRegressor
    >>> from dgex.datasets import make_expression_profiles
    >>> from dgex.interpretation import hub_units, major_weights
    >>> data = make_expression_profiles(n_profiles=300, n_landmarks=20, n_targets=50, random_state=0)
    >>> model = DGEXRegressor(hidden_layer_sizes=(100,), max_iter=20, random_state=0).fit(data.X, data.y)
    >>> hubs = hub_units(model, weights=major_weights(model, n_std_in=2, n_std_out=2.5), n_units=3)
    >>> len(hubs), hubs[0].n_targets >= hubs[1].n_targets
    (3, True)
    """
    if n_units is not None and n_units < 0:
        raise ValueError(f"Got n_units={n_units!r}, but expected 0 or more.")
    networks = networks_with_units_of(model)
    weights = major_weights(model) if weights is None else weights
    landmarks, targets = landmark_names(model), target_names(model)
    _require_weights_of(weights, networks, len(landmarks), len(targets))
    units = []
    for network in networks:
        below, background = _paths(weights, network).tocsc(), targets[network.targets]
        outputs = weights.outputs.rows(weights.outputs["network"] == network.number)
        outputs = outputs.rows(np.lexsort((-np.abs(outputs["weight"]), outputs["unit"])))
        numbers, starts = np.unique(outputs["unit"], return_index=True)
        stops = [*starts[1:], len(outputs)][: len(starts)]
        for unit, start, stop in zip(numbers, starts, stops, strict=True):
            strength = below[:, [int(unit)]].toarray()[:, 0]
            order = np.argsort(-np.abs(strength), kind="stable")[: np.count_nonzero(strength)]
            units.append(
                HubUnit(
                    network=network.number,
                    unit=int(unit),
                    targets=outputs["target"][start:stop],
                    target_weights=outputs["weight"][start:stop],
                    landmarks=landmarks[order],
                    landmark_weights=strength[order],
                    background=background,
                )
            )
    units.sort(key=lambda unit: -unit.n_targets)
    return HubUnits(units[:n_units])


def _require_weights_of(weights: MajorWeights, networks: list[Network], n_landmarks: int, n_targets: int) -> None:
    """Raise unless the connections are of a model of this shape."""
    sizes = tuple(kernel.shape[1] for kernel in networks[0].kernels[:-1])
    shape = len(networks), n_landmarks, sizes, n_targets
    given = weights.n_networks, weights.n_landmarks, weights.hidden_sizes, weights.n_targets
    if given != shape:
        raise ValueError(
            f"Got weights of another model, with (networks, landmarks, hidden units, targets) = {given}, but expected "
            f"{shape}. Pass major_weights(model)."
        )


def _paths(weights: MajorWeights, network: Network) -> csr_array:
    """From every landmark to every unit of the last hidden layer, the sum over paths of major connections."""
    paths = csr_array(np.eye(weights.n_landmarks))
    tables = [(weights.inputs, "landmark_index"), *((table, "unit_below") for table in weights.hidden)]
    for (table, source), kernel in zip(tables, network.kernels[:-1], strict=True):
        own = table.rows(table["network"] == network.number)
        step = csr_array((own["weight"].astype(np.float64), (own[source], own["unit"])), shape=kernel.shape)
        paths = csr_array(paths @ step)
    return paths


def _from_below(network: Network, depth: int, n_std: float, source: str) -> dict[str, np.ndarray]:
    """Major connections of what is below a hidden layer: rows of its kernel are compared with themselves."""
    deviations = _deviations(network.kernels[depth], axis=1)
    below, unit = np.nonzero(np.abs(deviations) > n_std)
    return _connections(network, {source: below, "unit": unit}, network.kernels[depth], deviations, (below, unit))


def _to_targets(network: Network, n_std: float) -> dict[str, np.ndarray]:
    """Major connections of targets: columns of the output kernel are compared with themselves."""
    deviations = _deviations(network.units_to_targets, axis=0)
    unit, target = np.nonzero(np.abs(deviations) > n_std)
    genes = {"unit": unit, "target_index": network.targets[target]}
    return _connections(network, genes, network.units_to_targets, deviations, (unit, target))


def _deviations(kernel: np.ndarray, axis: int) -> np.ndarray:
    """How many standard deviations each weight is from the mean along an axis."""
    kernel = kernel.astype(np.float64)
    center = kernel - kernel.mean(axis=axis, keepdims=True)
    return np.asarray(center / divisors(center.std(axis=axis, keepdims=True)))


def _connections(
    network: Network,
    ends: dict[str, np.ndarray],
    kernel: np.ndarray,
    deviations: np.ndarray,
    place: tuple[np.ndarray, np.ndarray],
) -> dict[str, np.ndarray]:
    number = np.full(len(place[0]), network.number)
    return {"network": number, **ends, "weight": kernel[place], "deviations": deviations[place]}


def _joined(tables: Iterator[dict[str, np.ndarray]]) -> Table:
    """The connections of all networks, one after the other."""
    parts = list(tables)
    return Table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _named(table: Table, what: str, names: np.ndarray) -> Table:
    """A table with the names of genes before their numbers."""
    columns: dict[str, np.ndarray] = {}
    for name, column in table.columns.items():
        if name == f"{what}_index":
            columns[what] = names[column]
        columns[name] = column
    return Table(columns)


def _objects(values: Sequence[Any]) -> np.ndarray:
    """An array of Python objects."""
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array
