"""Expression profiles to learn on: a generator whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params


@dataclass(frozen=True)
class ExpressionProfiles:
    """Generated profiles, and the truth behind them.

    Parameters
    ----------
    X : ndarray of shape (n_profiles, n_landmarks)
        Measured expression of the landmark genes: log2 intensities ("array") or counts ("counts"), float32.
    y : ndarray of shape (n_profiles, n_targets)
        Measured expression of the target genes.
    landmark_names, target_names : ndarray of str
        Names of the genes.
    states : ndarray of int of shape (n_profiles,)
        The state of each profile's cells.
    programs : ndarray of shape (n_profiles, n_programs)
        The activity of each gene program.
    expression : ndarray of shape (n_profiles, n_targets)
        Log2 expression of the target genes before any measurement, the same on either platform, float32.
    """

    X: np.ndarray
    y: np.ndarray
    landmark_names: np.ndarray
    target_names: np.ndarray
    states: np.ndarray
    programs: np.ndarray
    expression: np.ndarray

    def __repr__(self) -> str:
        return (
            f"ExpressionProfiles({len(self.X)} profiles, {self.X.shape[1]} landmarks, {self.y.shape[1]} targets, "
            f"{len(np.unique(self.states))} states)"
        )


@validate_params(
    {
        "n_profiles": [Interval(Integral, 1, None, closed="left")],
        "n_landmarks": [Interval(Integral, 1, None, closed="left")],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "n_states": [Interval(Integral, 1, None, closed="left")],
        "n_programs": [Interval(Integral, 1, None, closed="left")],
        "nonlinearity": [Interval(Real, 0, 1, closed="both")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "platform": [StrOptions({"array", "counts"})],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_expression_profiles(
    n_profiles: int = 1000,
    *,
    n_landmarks: int = 100,
    n_targets: int = 1000,
    n_states: int = 8,
    n_programs: int = 10,
    nonlinearity: float = 0.7,
    noise: float = 0.3,
    platform: str = "array",
    random_state: int | np.random.RandomState | None = None,
) -> ExpressionProfiles:
    """Generate expression profiles of cells in different states, measured on one of two platforms.

    Cells in a state run each of several gene programs at some activity. Landmark genes report the programs linearly;
    the expression of a target gene is a sum of programs, and of switches: programs that act only beyond a threshold, or
    only together with another. What is measured of it depends on the platform. With the same `random_state` the biology
    is the same on both.

    Parameters
    ----------
    n_profiles : int, default=1000
        Number of samples.
    n_landmarks, n_targets : int, default=100, 1000
        Number of genes.
    n_states : int, default=8
        Number of cell states.
    n_programs : int, default=10
        Number of gene programs.
    nonlinearity : float, default=0.7
        Share of the targets' variance between samples that comes from switches, in [0, 1]. At 0 targets are linear in
        the programs, and no method does better than a linear one.
    noise : float, default=0.3
        Standard deviation of what every gene does on its own, in log2 units (expression itself has about 1).
    platform : {"array", "counts"}, default="array"
        "array": log2 intensities, with an affinity for each probe and a brightness for each array. "counts": numbers of
        reads, overdispersed and with many zeros, proportional to a length for each gene and a depth for each library.
    random_state : int, RandomState instance or None, default=None
        Determines everything.

    Returns
    -------
    profiles : ExpressionProfiles
        Measurements and truth.

    Examples
    --------
    >>> from dgex.datasets import make_expression_profiles
    >>> arrays = make_expression_profiles(200, n_landmarks=50, n_targets=300, random_state=0)
    >>> arrays
    ExpressionProfiles(200 profiles, 50 landmarks, 300 targets, 8 states)
    >>> counts = make_expression_profiles(200, n_landmarks=50, n_targets=300, platform="counts", random_state=0)
    >>> bool((counts.expression == arrays.expression).all())
    True
    """
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    biology, measurement = (np.random.default_rng([seed, stream]) for stream in range(2))
    states, programs = _cells(biology, n_profiles, n_states, n_programs)
    own = noise * biology.standard_normal((n_profiles, n_landmarks + n_targets), dtype=np.float32)
    landmarks = _linear_reports(biology, programs, n_landmarks)
    targets = _regulated(biology, programs, n_targets, nonlinearity)
    level = biology.uniform(4.0, 12.0, n_landmarks + n_targets).astype(np.float32)
    expression = np.concatenate([landmarks, targets], axis=1) + level
    measure = _intensities if platform == "array" else _counts
    measured = measure(measurement, expression + own)
    return ExpressionProfiles(
        X=measured[:, :n_landmarks],
        y=measured[:, n_landmarks:],
        landmark_names=np.array([f"L{index + 1:04d}" for index in range(n_landmarks)], dtype=object),
        target_names=np.array([f"T{index + 1:05d}" for index in range(n_targets)], dtype=object),
        states=states,
        programs=programs,
        expression=expression[:, n_landmarks:],
    )


def _cells(rng: np.random.Generator, n_profiles: int, n_states: int, n_programs: int) -> tuple[np.ndarray, np.ndarray]:
    """The state of each sample, and its programs' activities: those of the state and some of its own, variance one."""
    states = rng.integers(n_states, size=n_profiles)
    of_state = rng.standard_normal((n_states, n_programs))
    activity = np.sqrt(0.5) * of_state[states] + np.sqrt(0.5) * rng.standard_normal((n_profiles, n_programs))
    return states, activity.astype(np.float32)


def _linear_reports(rng: np.random.Generator, programs: np.ndarray, n_genes: int) -> np.ndarray:
    """Genes that follow one program each, and the others a little."""
    n_programs = programs.shape[1]
    loadings = 0.3 * rng.standard_normal((n_programs, n_genes)) / np.sqrt(n_programs)
    loadings[np.arange(n_genes) % n_programs, np.arange(n_genes)] += rng.choice([-1.0, 1.0], n_genes)
    return programs @ loadings.astype(np.float32)


def _regulated(rng: np.random.Generator, programs: np.ndarray, n_genes: int, nonlinearity: float) -> np.ndarray:
    """Genes with a linear and a switched part, the switched one with the given share of the variance."""
    n_programs = programs.shape[1]
    loadings = (rng.standard_normal((n_programs, n_genes)) / np.sqrt(n_programs)).astype(np.float32)
    linear = _unit_variance(programs @ loadings)
    if nonlinearity == 0:
        return linear
    first, second = rng.integers(n_programs, size=(2, n_genes))
    thresholds = rng.normal(0.5, 0.5, (2, n_genes)).astype(np.float32)
    sign = rng.choice([-1.0, 1.0], n_genes).astype(np.float32)
    on = [
        1.0 / (1.0 + np.exp(-4.0 * (programs[:, program] - threshold)))
        for program, threshold in zip((first, second), thresholds, strict=True)
    ]
    switched = _unit_variance(sign * on[0] * on[1])
    return np.float32(np.sqrt(1 - nonlinearity)) * linear + np.float32(np.sqrt(nonlinearity)) * switched


def _unit_variance(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / (values.std(axis=0) + np.float32(1e-6))


def _intensities(rng: np.random.Generator, expression: np.ndarray) -> np.ndarray:
    """Log2 intensities of a microarray."""
    n_profiles, n_genes = expression.shape
    affinity = rng.standard_normal(n_genes, dtype=np.float32)
    brightness = np.float32(0.2) * rng.standard_normal((n_profiles, 1), dtype=np.float32)
    error = np.float32(0.1) * rng.standard_normal((n_profiles, n_genes), dtype=np.float32)
    return expression + affinity + brightness + error


def _counts(rng: np.random.Generator, expression: np.ndarray) -> np.ndarray:
    """Read counts of an RNA-seq library, gamma-Poisson with a biological coefficient of variation of 0.2."""
    n_profiles, n_genes = expression.shape
    length = rng.standard_normal(n_genes, dtype=np.float32)
    depth = 50.0 * n_genes * rng.lognormal(0.0, 0.3, (n_profiles, 1))
    abundance = np.exp2(expression + length, dtype=np.float64)
    abundance *= depth / abundance.sum(axis=1, keepdims=True)
    shape = 1.0 / 0.2**2
    return rng.poisson(abundance * rng.gamma(shape, 1.0 / shape, abundance.shape)).astype(np.float32)
