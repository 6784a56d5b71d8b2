"""A hidden layer of random units and an output layer in closed form: where training starts, or all there is of it.

Up to `DUAL_PROFILES` profiles the output layer is found in the eigenbasis of the profiles' kernel, in which all
penalties cost little and errors at profiles left out cost nothing; beyond, by normal equations, for which the kernel of
some of the profiles chooses the prior and the centring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from dgex._prior import Prior, candidates, correlations_from, correlations_of
from dgex._statistics import gene_statistics

Arrays = tuple[np.ndarray, np.ndarray]

# More profiles than this have no kernel of their own; choices are then made by that of so many.
DUAL_PROFILES = 6000
CHOOSING_PROFILES = 3000

# The variance of hidden biases, where that of what a unit gets from the layer below is one.
BIAS_VARIANCE = 0.1

# The intercept is an input of this square, so large that a penalty on it means nothing.
INTERCEPT = 30.0

# Penalties, in units of the mean squared norm of the inputs of a profile.
PENALTIES = 10.0 ** np.arange(-3, 4.01, 0.25)

# The hidden units' share of that norm, beside a linear path. The smallest is nearly linear regression.
SHARES = (0.25, 0.1, 0.5)

# Noise of a profile, as a power of the mean squared error at it when it is left out; never less than a tenth of the
# average. With a power of zero all profiles are alike.
NOISE_POWERS = (1.0, 1.5, 0.0)
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
    """Whether profiles may differ in noise, targets in their penalty, and whether there may be a prior and centring."""

    profile_noise: bool = True
    target_penalties: bool = True
    prior: bool = True
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
    prior: Prior  # what weights of landmarks are drawn to
    centring: float = 0.0  # the share of its mean that is taken from a profile

    @property
    def noise(self) -> np.ndarray:
        """Of every profile."""
        return relative_noise(self.squares, self.power)


class Output(NamedTuple):
    """The output layer, which has the landmarks of a linear path before the hidden units; and how it sees profiles."""

    kernel: np.ndarray  # (n_landmarks + n_units, n_targets)
    bias: np.ndarray
    centring: float


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
    inputs: Callable[..., Inputs],
    train: Arrays,
    validation: Arrays,
    ingredients: Ingredients,
    rng: np.random.Generator,
) -> Output:
    """The output layer that validation profiles choose.

    `inputs(X, centring=)` makes what the output layer sees from landmarks, less a share of each profile's mean;
    landmarks and targets are standardized float32.
    """
    (X, y), (X_val, y_val) = train, validation
    compared = np.sort(rng.choice(y.shape[1], min(y.shape[1], COMPARED_TARGETS), replace=False))
    by_kernel = len(X) <= DUAL_PROFILES
    rows = np.arange(len(X)) if by_kernel else np.sort(rng.choice(len(X), CHOOSING_PROFILES, replace=False))
    some, some_val = (X[rows], y[np.ix_(rows, compared)]), (X_val, y_val[:, compared])

    def comparison(centring: float) -> Comparison:
        return Comparison.of(partial(inputs, centring=centring), some, some_val)

    best = chosen(comparison(0.0), ingredients)
    if ingredients.centring:
        of_centred = comparison(CENTRED).tried(best.choices._replace(centring=CENTRED))
        best = min(best, of_centred, key=attrgetter("error"))
    seen = partial(inputs, centring=best.choices.centring)
    if by_kernel:
        return kernel_output(seen(X), y, best, target_penalties=ingredients.target_penalties)
    return by_normal_equations(seen, train, validation, compared, best.choices)


def chosen(comparison: Comparison, ingredients: Ingredients) -> Attempt:
    """The attempt with the lowest validation error, one choice after the other."""
    share, *others = possible_shares(comparison.seen)
    power, *other_powers = NOISE_POWERS
    equal = Choices(share, power, np.ones(len(comparison.y)), Prior())
    best = comparison.tried(equal)
    if ingredients.profile_noise:
        squares = np.square(best.ridge.left_out(best.projected, best.penalty), dtype=np.float64).mean(axis=1)
        best = comparison.tried(equal._replace(squares=squares))
    for share in others:
        best = min(best, comparison.tried(best.choices._replace(share=share)), key=attrgetter("error"))
    for power in other_powers if ingredients.profile_noise else ():
        best = min(best, comparison.tried(best.choices._replace(power=power)), key=attrgetter("error"))
    if ingredients.prior and comparison.seen.landmarks.shape[1]:
        best = min(comparison.with_priors(best), key=attrgetter("error"))
    return best


def possible_shares(seen: Inputs) -> tuple[float, ...]:
    """Shares of the hidden units to choose from."""
    return SHARES if seen.landmarks.shape[1] else (1.0,)


class Attempt(NamedTuple):
    """The validation error that choices lead to, with the best penalty."""

    error: float
    penalty: float
    choices: Choices
    ridge: KernelRidge
    projected: np.ndarray  # what is fitted, as `KernelRidge` has it


class Comparison(NamedTuple):
    """Some of the targets, and what training profiles have in common among themselves and with validation profiles."""

    seen: Inputs  # of training profiles, less their means
    seen_val: Inputs
    overlaps: tuple[np.ndarray, np.ndarray]
    overlaps_val: tuple[np.ndarray, np.ndarray]
    y: np.ndarray
    y_val: np.ndarray

    @classmethod
    def of(cls, inputs: Callable[[np.ndarray], Inputs], train: Arrays, validation: Arrays) -> Comparison:
        """Of training and validation profiles."""
        seen, seen_val = inputs(train[0]), inputs(validation[0])
        means = seen.means
        seen, seen_val = seen.less(means), seen_val.less(means)
        return cls(seen, seen_val, seen.overlaps(seen), seen_val.overlaps(seen), train[1], validation[1])

    def tried(self, choices: Choices) -> Attempt:
        """Fit with these choices and the best penalty."""
        weights = self.seen.weights(choices.share)
        between, between_val = (kernel(overlaps, weights) for overlaps in (self.overlaps, self.overlaps_val))
        prior = choices.prior.of(self.seen.landmarks, self.y, 1 / choices.noise)
        return self.drawn_to(prior, choices, KernelRidge(between, choices.noise, between_val))

    def with_priors(self, attempt: Attempt) -> Iterator[Attempt]:
        """Go through all that weights may be drawn to."""
        correlations = correlations_of(self.seen.landmarks, self.y, 1 / attempt.choices.noise)
        y_val = self.y_val - self.y.mean(axis=0)
        for prior, weights in candidates(correlations, self.seen_val.landmarks, y_val):
            yield self.drawn_to(weights, attempt.choices._replace(prior=prior), attempt.ridge)

    def drawn_to(self, prior: np.ndarray, choices: Choices, ridge: KernelRidge) -> Attempt:
        """Fit what the prior leaves over, with the best penalty."""
        projected = ridge.projected(self.y - self.seen.landmarks @ prior)
        left_over = self.y_val - self.seen_val.landmarks @ prior
        errors = [float(np.abs(ridge.predicted(projected, penalty) - left_over).mean()) for penalty in PENALTIES]
        errors = [error if math.isfinite(error) else math.inf for error in errors]
        if min(errors) == math.inf:
            raise ValueError(
                "No error on the validation profiles is finite with any penalty. Are their values in the units of "
                "training?"
            )
        return Attempt(min(errors), float(PENALTIES[int(np.argmin(errors))]), choices, ridge, projected)


def kernel_output(seen: Inputs, y: np.ndarray, best: Attempt, *, target_penalties: bool) -> Output:
    """Ridge regression of all targets in the kernel of the inputs, with the choices made for some."""
    choices, ridge = best.choices, best.ridge
    means, n_landmarks = seen.means, seen.landmarks.shape[1]
    seen = seen.less(means)
    prior = choices.prior.of(seen.landmarks, y, 1 / choices.noise)
    projected = ridge.projected(y - seen.landmarks @ prior)
    multiples = target_multiples(ridge, projected, best.penalty) if target_penalties else np.ones(y.shape[1])
    coefficients = ridge.coefficients(projected, best.penalty * multiples)
    parts = zip(seen, seen.weights(choices.share), strict=True)
    output = np.concatenate([np.float32(weight) * (part.T @ coefficients) for part, weight in parts])
    output[:n_landmarks] += prior
    # From what is left over: a sum of large coefficients that cancel each other would have few digits.
    precision = (1 / choices.noise).astype(np.float32)
    left_over = precision @ y - np.concatenate([precision @ part for part in seen]) @ output
    bias = left_over / precision.sum() - means @ output
    return Output(output, bias.astype(np.float32), choices.centring)


class KernelRidge:
    """Ridge regression in a kernel with noise of known relative variance, for any targets and any penalty.

    With the eigenvectors of the kernel between profiles divided by their noise, a penalty is a diagonal matrix.
    """

    def __init__(self, between: np.ndarray, noise: np.ndarray, between_others: np.ndarray):
        root = 1.0 / np.sqrt(noise)
        values, vectors = np.linalg.eigh(between * root[:, None] * root)
        self.values = np.maximum(values, 0.0)
        self.squared_vectors = vectors**2
        self.vectors = vectors.astype(np.float32)
        self.root = root.astype(np.float32)[:, None]
        self.others = ((between_others * root) @ vectors).astype(np.float32)  # small beside the intercept

    def projected(self, y: np.ndarray) -> np.ndarray:
        """Targets of the profiles in the basis of the eigenvectors, which all other methods take."""
        return self.vectors.T @ (y * self.root)

    def shrunk(self, projected: np.ndarray, penalty: float | np.ndarray) -> np.ndarray:
        """The fit in that basis; `penalty` is one number, or one for each target."""
        return projected / (self.values[:, None] + penalty).astype(np.float32)

    def coefficients(self, projected: np.ndarray, penalty: float | np.ndarray) -> np.ndarray:
        """Of every profile, shape (n_profiles, n_targets)."""
        return self.root * (self.vectors @ self.shrunk(projected, penalty))

    def predicted(self, projected: np.ndarray, penalty: float) -> np.ndarray:
        """Targets of the other profiles."""
        return self.others @ self.shrunk(projected, penalty)

    def left_out(self, projected: np.ndarray, penalty: float) -> np.ndarray:
        """Errors at each profile of the fit to all others, in units of the square root of its noise."""
        leverage = (self.squared_vectors @ (1.0 / (self.values + penalty))).astype(np.float32)[:, None]
        return (self.vectors @ self.shrunk(projected, penalty)) / leverage


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


def target_multiples(ridge: KernelRidge, projected: np.ndarray, penalty: float) -> np.ndarray:
    """The penalty of each target as a multiple of the common one, by errors at profiles left out."""
    errors = np.array(
        [np.abs(ridge.left_out(projected, penalty * multiple)).mean(axis=0, dtype=np.float64) for multiple in MULTIPLES]
    )
    least = errors.min(axis=0)
    excess = np.divide(errors, least, out=np.ones_like(errors), where=least > 0) - 1  # constant targets have no errors
    likelihood = np.exp(-len(ridge.root) * excess)
    exponents = np.log10(MULTIPLES)
    own = (likelihood * exponents[:, None]).sum(axis=0) / likelihood.sum(axis=0)
    common = exponents[errors.mean(axis=1).argmin()]
    return 10.0 ** (MOVED * (own - common))


def by_normal_equations(
    inputs: Callable[[np.ndarray], Inputs],
    train: Arrays,
    validation: Arrays,
    compared: np.ndarray,
    choices: Choices,
) -> Output:
    """Ridge regression of many profiles, all of the same noise.

    More profiles may bear a larger share of the hidden units: validation profiles decide between it and the largest.
    """
    (X, y), (X_val, y_val) = train, validation
    seen_val = inputs(X_val)
    shares = sorted({possible_shares(seen_val)[-1], choices.share}, reverse=True)
    equations = NormalEquations.of(inputs, X, y, shares[0])
    attempts = (
        equations.solved(seen_val, y_val, compared, choices._replace(share=share), keep=share != shares[-1])
        for share in shares
    )
    return min(attempts, key=itemgetter(0))[1]


class NormalEquations(NamedTuple):
    """Sums over training profiles of products of inputs, and of inputs and targets, less their means."""

    gram: np.ndarray  # (n_inputs, n_inputs)
    products: np.ndarray  # (n_inputs, n_targets)
    mean: np.ndarray  # of the inputs
    y_mean: np.ndarray
    y_squares: np.ndarray  # sums, less the mean
    share: float  # of the hidden units among the inputs

    @classmethod
    def of(cls, inputs: Callable[[np.ndarray], Inputs], X: np.ndarray, y: np.ndarray, share: float) -> NormalEquations:
        """Of all profiles, block by block."""
        shift = inputs(X[:BLOCK_ROWS]).weighted(share).mean(axis=0)  # products of what is far from zero lose digits
        y_mean, deviation = gene_statistics(y)
        gram = np.zeros((len(shift), len(shift)))
        products, sums = np.zeros((len(gram), y.shape[1])), np.zeros(len(gram))
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            F = inputs(X[rows]).weighted(share) - shift
            gram += F.T @ F
            products += F.T @ (y[rows] - y_mean.astype(np.float32))
            sums += F.sum(axis=0, dtype=np.float64)
        mean = sums / len(X)
        gram -= np.outer(mean, sums)
        return cls(gram, products, mean + shift, y_mean, len(X) * deviation**2, share)

    def solved(
        self, seen_val: Inputs, y_val: np.ndarray, compared: np.ndarray, choices: Choices, *, keep: bool
    ) -> tuple[float, Output]:
        """The validation error with the best penalty, and the output layer; the sums are overwritten but to `keep`."""
        n_landmarks, sizes = seen_val.landmarks.shape[1], [part.shape[1] for part in seen_val]
        scale = np.sqrt(np.repeat(seen_val.weights(choices.share), sizes))
        ratio = scale / np.sqrt(np.repeat(seen_val.weights(self.share), sizes))
        gram = self.gram.copy() if keep else self.gram
        products = self.products
        if choices.share != self.share:
            for array, factors in ((gram, ratio), (gram, ratio[:, None]), (products, ratio[:, None])):
                array *= factors
        mean = ratio * self.mean
        F_val = seen_val.weighted(choices.share) - mean
        among, with_targets = gram[:n_landmarks, :n_landmarks], products[:n_landmarks]
        prior = choices.prior.weights(correlations_from(among, with_targets, self.y_squares))
        of_landmarks = gram[:, :n_landmarks].copy()
        values, vectors = scipy.linalg.eigh(gram.T, overwrite_a=True, check_finite=False, driver="evd")
        values = np.maximum(values, 0.0)

        def projected(targets: Any) -> np.ndarray:
            """What the prior leaves over of some targets."""
            result: np.ndarray = vectors.T @ (products[:, targets] - of_landmarks @ prior[:, targets])
            return result

        some, projected_val = projected(compared), F_val @ vectors
        left_over = y_val[:, compared] - self.y_mean[compared] - F_val[:, :n_landmarks] @ prior[:, compared]

        def error(penalty: float) -> float:
            return float(np.abs(projected_val @ (some / (values + penalty)[:, None]) - left_over).mean())

        least, penalty = min((error(penalty), penalty) for penalty in PENALTIES)
        kernel, bias = np.empty(products.shape, dtype=np.float32), np.empty(products.shape[1], dtype=np.float32)
        for start in range(0, products.shape[1], COMPARED_TARGETS):  # all at once would take several times the memory
            block = slice(start, start + COMPARED_TARGETS)
            output = vectors @ (projected(block) / (values + penalty)[:, None])
            output[:n_landmarks] += prior[:, block]
            kernel[:, block], bias[block] = output * scale[:, None], self.y_mean[block] - mean @ output
        return least, Output(kernel, bias, choices.centring)
