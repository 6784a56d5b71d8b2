"""Which target gene is inferred by which network: one for all, or several with disjoint sets of targets."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dgex._statistics import divisors, gene_statistics, standardized

# Genes are clustered by their expression in so many training profiles: enough for correlations with an error of 0.03.
CLUSTERING_PROFILES = 1000

# Networks are stacked and padded to the largest; no set has more than this many times the average number of targets.
LARGEST_SHARE = 2.0


@dataclass(frozen=True)
class TargetSets:
    """Disjoint sets of the target genes, one for each network of a stack, padded to the largest."""

    members: tuple[np.ndarray, ...]  # column numbers in y, increasing

    @classmethod
    def of(cls, partition: np.ndarray) -> TargetSets:
        """The sets that a vector of network numbers, one for each target, stands for."""
        return cls(tuple(np.flatnonzero(partition == network) for network in range(partition.max() + 1)))

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of targets of each set."""
        return tuple(map(len, self.members))

    @property
    def largest(self) -> int:
        """Number of targets of the largest set."""
        return max(self.sizes)

    @property
    def n_targets(self) -> int:
        """Number of all targets."""
        return sum(self.sizes)

    @property
    def partition(self) -> np.ndarray:
        """The network of every target, shape (n_targets,)."""
        return self.joined(np.arange(len(self)).repeat(self.largest).reshape(len(self), -1))

    @property
    def present(self) -> np.ndarray:
        """Which places of the padded stack hold a target, shape (n_networks, largest)."""
        return np.arange(self.largest) < np.array(self.sizes)[:, None]

    def columns(self, network: int, start: int, stop: int) -> slice | np.ndarray:
        """Columns of `y` in the given places of a network; a slice where they are adjacent."""
        chosen = self.members[network][start:stop]
        if len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1:
            return slice(chosen[0], chosen[-1] + 1)
        return chosen

    def split(self, array: np.ndarray) -> np.ndarray:
        """Numbers by target, shape (..., n_targets), as a stack of shape (n_networks, ..., largest) with zeros."""
        if len(self) == 1:
            return array[None]
        stack = np.zeros((len(self), *array.shape[:-1], self.largest), dtype=array.dtype)
        for network, members in enumerate(self.members):
            stack[network, ..., : len(members)] = array[..., members]
        return stack

    def joined(self, stack: np.ndarray) -> np.ndarray:
        """The reverse of `split`, whatever more padding there is."""
        if len(self) == 1:
            return stack[0, ..., : self.n_targets]
        array = np.empty((*stack.shape[1:-1], self.n_targets), dtype=stack.dtype)
        for network, members in enumerate(self.members):
            array[..., members] = stack[network, ..., : len(members)]
        return array

    def means(self, values: np.ndarray) -> np.ndarray:
        """The mean of a number by target over each set, shape (n_networks,)."""
        return np.array([values[members].mean() for members in self.members])


def one_set(n_targets: int) -> TargetSets:
    """All targets in one network."""
    return TargetSets((np.arange(n_targets),))


def random_sets(n_targets: int, n_sets: int, generator: np.random.Generator) -> TargetSets:
    """Random sets whose sizes differ by one at most, the larger first."""
    return TargetSets(tuple(map(np.sort, np.array_split(generator.permutation(n_targets), n_sets))))


def clustered_sets(y: np.ndarray, rows: np.ndarray, n_sets: int, generator: np.random.Generator) -> TargetSets:
    """Sets of targets with similar expression profiles, the larger first.

    Standardized genes are clustered by k-means over some of the given rows: the squared distance of two genes is then
    proportional to one minus their correlation.
    """
    from sklearn.cluster import KMeans  # a fifth of what importing the regressor takes beyond JAX, and rarely needed
    from sklearn.exceptions import ConvergenceWarning

    chosen = np.sort(generator.choice(rows, min(len(rows), CLUSTERING_PROFILES), replace=False))
    some = np.asarray(y[chosen])
    mean, deviation = gene_statistics(some)
    genes = standardized(some, mean, divisors(deviation)).T
    clustering = KMeans(n_sets, n_init=3, random_state=int(generator.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different genes than sets
        distances = clustering.fit_transform(genes)
    numbers = assigned(distances, int(np.ceil(LARGEST_SHARE * len(genes) / n_sets)))
    sets = [np.flatnonzero(numbers == number) for number in range(n_sets)]
    return TargetSets(tuple(sorted(sets, key=len, reverse=True)))


def assigned(distances: np.ndarray, capacity: int) -> np.ndarray:
    """The set of each target: the nearest that is not full, the nearest targets choosing first; none stays empty."""
    n_targets, n_sets = distances.shape
    numbers = np.empty(n_targets, dtype=np.intp)
    sizes = np.zeros(n_sets, dtype=np.intp)
    for target in np.argsort(distances.min(axis=1), kind="stable"):
        free = np.where(sizes < capacity, distances[target], np.inf)
        numbers[target] = np.argmin(free)
        sizes[numbers[target]] += 1
    for number in np.flatnonzero(sizes == 0):
        donors = np.flatnonzero(sizes[numbers] == sizes.max())
        target = donors[np.argmax(distances[donors, numbers[donors]])]
        sizes[numbers[target]] -= 1
        numbers[target], sizes[number] = number, 1
    return numbers


def target_sets(
    partition: str, n_partitions: int, y: np.ndarray, rows: np.ndarray, generator: np.random.Generator
) -> TargetSets:
    """The sets that the parameters `n_partitions` and `partition` of an estimator ask for."""
    n_targets = y.shape[1]
    if n_partitions > n_targets:
        raise ValueError(
            f"Got n_partitions={n_partitions}, but expected at most {n_targets}, the number of target genes: every "
            "network needs a target. Lower n_partitions."
        )
    if n_partitions == 1:
        return one_set(n_targets)
    if partition == "clustered":
        return clustered_sets(y, rows, n_partitions, generator)
    return random_sets(n_targets, n_partitions, generator)
