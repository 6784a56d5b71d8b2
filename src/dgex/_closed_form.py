"""A hidden layer of random units and an output layer in closed form: where training starts, or all there is of it.

Up to `DUAL_PROFILES` profiles the output layer is found in the eigenbasis of the profiles' kernel, in which all
penalties cost little and errors at profiles left out cost nothing; beyond, by normal equations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

# More profiles than this have no kernel of their own.
DUAL_PROFILES = 6000

# The variance of hidden biases, where that of what a unit gets from the layer below is one.
BIAS_VARIANCE = 0.1

# The intercept is an input of this square, so large that a penalty on it means nothing.
INTERCEPT = 30.0

# Penalties, in units of the mean squared norm of the inputs of a profile.
PENALTIES = 10.0 ** np.arange(-3, 4.01, 0.25)

# The hidden units' share of that norm, beside a linear path. The smallest is nearly linear regression.
SHARES = (0.25, 0.1, 0.5)

# Noise of a profile, as a power of the mean squared error at it when it is left out; never less than a tenth of the
# average.
NOISE_POWERS = (1.0, 1.5)
LEAST_NOISE = 0.1

# Multiples of the common penalty that a target may have by itself, and how far it is moved to its own: half way, since
# errors of a single target are noisy.
MULTIPLES = 10.0 ** np.arange(-1, 1.01, 0.25)
MOVED = 0.5

# Penalties are compared on so many targets.
COMPARED_TARGETS = 1000

# Profiles of the normal equations that are added up in single precision.
BLOCK_ROWS = 4096

# How much of a profile's mean over landmarks may be taken from all of them, which shifts of a platform live in.
CENTRED = 0.5


@dataclass(frozen=True)
class Ingredients:
    """Whether profiles differ in their noise, targets in their penalty, and whether profiles may be centred."""

    profile_noise: bool = True
    target_penalties: bool = True
    centring: bool = True


class Inputs(NamedTuple):
    """What the output layer sees of some profiles: landmarks (none without a linear path) and hidden units."""

    landmarks: np.ndarray
    units: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Of landmarks and units."""
        return np.concatenate([part.mean(axis=0) for part in self])

    def less(self, means: np.ndarray) -> Inputs:
        """The distance from the means."""
        n_landmarks = self.landmarks.shape[1]
        return Inputs(self.landmarks - means[:n_landmarks], self.units - means[n_landmarks:])

    def overlaps(self, others: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Products with other profiles, of landmarks and of units, each of shape (n_profiles, n_others)."""
        return self.landmarks @ others.landmarks.T, self.units @ others.units.T

    def weights(self, share: float) -> tuple[float, float]:
        """How much the square of a landmark and that of a hidden unit count, all units together about the share."""
        return (1 - share) / max(1, self.landmarks.shape[1]), share / self.units.shape[1]

    def weighted(self, share: float) -> np.ndarray:
        """Landmarks and hidden units side by side, so that their squares count so much."""
        parts = zip(self, self.weights(share), strict=True)
        return np.concatenate([part * np.float32(np.sqrt(weight)) for part, weight in parts], axis=1)


class Choices(NamedTuple):
    """What validation profiles choose, and what the noise of profiles comes from."""

    share: float  # of the hidden units
    power: float  # of errors at profiles left out, in their noise
    squares: np.ndarray  # of these errors, mean over targets


class Output(NamedTuple):
    """The output layer, which has the landmarks of a linear path before the hidden units, and what chose it."""

    kernel: np.ndarray  # (n_landmarks + n_units, n_targets)
    bias: np.ndarray
    error: float  # on validation profiles, over some of the targets
    choices: Choices | None  # that were made on the way


def orthogonal_layer(n_inputs: int, n_units: int, rng: np.random.Generator) -> Arrays:
    """Weights of units that repeat each other the least, in orthogonal directions and of Gaussian norms, and biases."""
    blocks = []
    for start in range(0, n_units, n_inputs):
        width = min(n_inputs, n_units - start)
        directions, _ = np.linalg.qr(rng.standard_normal((n_inputs, width)))
        blocks.append(directions * np.sqrt(rng.chisquare(n_inputs, width) / n_inputs))
    bias = rng.standard_normal(n_units) * np.sqrt(BIAS_VARIANCE)
    return np.concatenate(blocks, axis=1).astype(np.float32), bias.astype(np.float32)


def centred(X: np.ndarray, share: float, axis: int) -> np.ndarray:
    """Less a share of the mean along an axis: that of profiles, or of weights that are then as good as for those."""
    return X - np.float32(share) * X.mean(axis=axis, keepdims=True)


def output_layer(
    inputs: Callable[[np.ndarray], Inputs],
    train: Arrays,
    validation: Arrays,
    ingredients: Ingredients,
    rng: np.random.Generator,
    like: Choices | None = None,
) -> Output:
    """The output layer whose penalty, and whose share of hidden units, validation profiles choose.

    `inputs` makes what the output layer sees from landmarks; landmarks and targets are standardized float32. All but
    the penalty is taken from `like`, if that is given.
    """
    n_targets = train[1].shape[1]
    compared = np.sort(rng.choice(n_targets, min(n_targets, COMPARED_TARGETS), replace=False))
    if len(train[0]) > DUAL_PROFILES:
        return by_normal_equations(inputs, train, validation, compared)
    return by_kernel(inputs, train, validation, ingredients, compared, like)


def by_kernel(
    inputs: Callable[[np.ndarray], Inputs],
    train: Arrays,
    validation: Arrays,
    ingredients: Ingredients,
    compared: np.ndarray,
    like: Choices | None,
) -> Output:
    """Ridge regression in the kernel of the inputs, with noise of each profile and a penalty of each target."""
    (X, y), (X_val, y_val) = train, validation
    seen, seen_val = inputs(X), inputs(X_val)
    means = seen.means
    seen, seen_val = seen.less(means), seen_val.less(means)
    overlaps, overlaps_val = seen.overlaps(seen), seen_val.overlaps(seen)
    best = chosen(Compared(seen, overlaps, overlaps_val, y[:, compared], y_val[:, compared]), ingredients, like)
    ridge = best.ridge.of(y)
    multiples = target_multiples(ridge, best.penalty) if ingredients.target_penalties else np.ones(y.shape[1])
    coefficients = ridge.coefficients(best.penalty * multiples)
    parts = zip(seen, seen.weights(best.choices.share), strict=True)
    output = np.concatenate([np.float32(weight) * (part.T @ coefficients) for part, weight in parts])
    bias = np.float32(INTERCEPT) * coefficients.sum(axis=0) - means @ output
    return Output(output, bias, best.error, best.choices)


def chosen(compared: Compared, ingredients: Ingredients, like: Choices | None) -> Attempt:
    """The attempt with the lowest validation error; or the only one, if the choices are known."""
    if like is not None:
        return compared.tried(like)
    share, *others = possible_shares(compared.seen)
    power, *other_powers = NOISE_POWERS
    squares = np.ones(len(compared.y))
    if ingredients.profile_noise:
        equal = compared.tried(Choices(share, power, squares))
        squares = np.square(equal.ridge.left_out(equal.penalty), dtype=np.float64).mean(axis=1)
    best = compared.tried(Choices(share, power, squares))
    for share in others:
        best = min(best, compared.tried(Choices(share, power, squares)), key=attrgetter("error"))
    for power in other_powers if ingredients.profile_noise else ():
        best = min(best, compared.tried(best.choices._replace(power=power)), key=attrgetter("error"))
    return best


def possible_shares(seen: Inputs) -> tuple[float, ...]:
    """Shares of the hidden units to choose from."""
    return SHARES if seen.landmarks.shape[1] else (1.0,)


class Attempt(NamedTuple):
    """The validation error that choices lead to, and the best penalty with them."""

    error: float
    penalty: float
    choices: Choices
    ridge: KernelRidge


class Compared(NamedTuple):
    """Some of the targets, and what training profiles have in common among themselves and with validation profiles."""

    seen: Inputs  # of training profiles, centred
    overlaps: tuple[np.ndarray, np.ndarray]
    overlaps_val: tuple[np.ndarray, np.ndarray]
    y: np.ndarray
    y_val: np.ndarray

    def tried(self, choices: Choices) -> Attempt:
        """Fit with these choices and the best penalty."""
        weights = self.seen.weights(choices.share)
        ridge = KernelRidge(kernel(self.overlaps, weights), self.y, relative_noise(choices.squares, choices.power))
        between_val = kernel(self.overlaps_val, weights).astype(np.float32)
        errors = [float(np.abs(between_val @ ridge.coefficients(penalty) - self.y_val).mean()) for penalty in PENALTIES]
        return Attempt(min(errors), float(PENALTIES[int(np.argmin(errors))]), choices, ridge)


class KernelRidge:
    """Ridge regression in a kernel with noise of known relative variance, for any penalty.

    With the eigenvectors of the kernel between profiles divided by their noise, a penalty is a diagonal matrix.
    """

    def __init__(self, between: np.ndarray, y: np.ndarray, noise: np.ndarray):
        root = 1.0 / np.sqrt(noise)
        values, vectors = np.linalg.eigh(between * root[:, None] * root)
        self.values = np.maximum(values, 0.0)
        self.squared_vectors = vectors**2
        self.vectors = vectors.astype(np.float32)
        self.root = root.astype(np.float32)[:, None]
        self.projected = self.vectors.T @ (y * self.root)

    def of(self, y: np.ndarray) -> KernelRidge:
        """The same for other targets of the same profiles."""
        other = copy.copy(self)
        other.projected = self.vectors.T @ (y * self.root)
        return other

    def coefficients(self, penalty: float | np.ndarray) -> np.ndarray:
        """Of every profile, shape (n_profiles, n_targets); `penalty` is one number, or one for each target."""
        return self.root * (self.vectors @ (self.projected / (self.values[:, None] + penalty).astype(np.float32)))

    def left_out(self, penalty: float) -> np.ndarray:
        """Errors at each profile of the fit to all others, in units of the square root of its noise."""
        inverse = 1.0 / (self.values + penalty)
        leverage = (self.squared_vectors @ inverse).astype(np.float32)[:, None]
        return (self.vectors @ (self.projected * inverse.astype(np.float32)[:, None])) / leverage


def kernel(overlaps: tuple[np.ndarray, np.ndarray], weights: tuple[float, float]) -> np.ndarray:
    """What two sets of profiles have in common, an intercept included; float64."""
    result = np.full(overlaps[0].shape, INTERCEPT)
    for overlap, weight in zip(overlaps, weights, strict=True):
        result += weight * overlap.astype(np.float64)
    return result


def relative_noise(squares: np.ndarray, power: float) -> np.ndarray:
    """The noise of each profile, one on average: the worse the others tell it, the less it counts."""
    noise = squares**power
    if not noise.any():  # nothing is told badly
        return np.ones(len(noise))
    noise = LEAST_NOISE + (1 - LEAST_NOISE) * noise / noise.mean()
    return noise / noise.mean()


def target_multiples(ridge: KernelRidge, penalty: float) -> np.ndarray:
    """The penalty of each target as a multiple of the common one, by errors at profiles left out."""
    errors = np.array(
        [np.abs(ridge.left_out(penalty * multiple)).mean(axis=0, dtype=np.float64) for multiple in MULTIPLES]
    )
    least = errors.min(axis=0)
    excess = np.divide(errors, least, out=np.ones_like(errors), where=least > 0) - 1  # constant targets have no errors
    likelihood = np.exp(-len(ridge.root) * excess)
    exponents = np.log10(MULTIPLES)
    own = (likelihood * exponents[:, None]).sum(axis=0) / likelihood.sum(axis=0)
    common = exponents[errors.mean(axis=1).argmin()]
    return 10.0 ** (MOVED * (own - common))


def by_normal_equations(
    inputs: Callable[[np.ndarray], Inputs], train: Arrays, validation: Arrays, compared: np.ndarray
) -> Output:
    """Ridge regression of many profiles."""
    (X, y), (X_val, y_val) = train, validation
    seen_val = inputs(X_val)
    share = possible_shares(seen_val)[-1]
    F_val = seen_val.weighted(share)
    gram = np.zeros((F_val.shape[1], F_val.shape[1]))
    products, sums = np.zeros((len(gram), y.shape[1])), np.zeros(len(gram))
    for start in range(0, len(X), BLOCK_ROWS):
        F, targets = inputs(X[start : start + BLOCK_ROWS]).weighted(share), y[start : start + BLOCK_ROWS]
        gram += F.T @ F
        products += F.T @ targets
        sums += F.sum(axis=0, dtype=np.float64)
    mean, y_mean = sums / len(X), y.mean(axis=0, dtype=np.float64)
    gram -= len(X) * np.outer(mean, mean)
    products -= len(X) * np.outer(mean, y_mean)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)
    projected, projected_val = vectors.T @ products, (F_val - mean) @ vectors

    def error(penalty: float) -> float:
        predicted = projected_val @ (projected[:, compared] / (values + penalty)[:, None]) + y_mean[compared]
        return float(np.abs(predicted - y_val[:, compared]).mean())

    penalty = min(PENALTIES, key=error)
    output = vectors @ (projected / (values + penalty)[:, None])
    bias = y_mean - mean @ output
    scale = np.sqrt(np.repeat(seen_val.weights(share), [part.shape[1] for part in seen_val]))
    return Output((output * scale[:, None]).astype(np.float32), bias.astype(np.float32), error(penalty), None)
