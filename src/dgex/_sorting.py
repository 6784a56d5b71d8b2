"""Sorting the genes of profiles, faster than `numpy.argsort`."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np

# Takes contiguous float32 or float64 of shape (n_rows, n_values), finite or missing. Returns the positions (intp) in
# the flattened array in the order of each row's values, missing ones last, as far as the leading bits tell; and the
# values in that order.
Way = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Times that neighbours are swapped before all are sorted. Of 10,000 float64 that are not counts, two are mostly enough.
N_SWEEPS = 3

# Numbers to sort in deciding on a way.
N_TRIED, N_TRIALS = 2**13, 5

# Values above this are sorted by swaps, so that the missing ones' bits are above all others'. The missing ones' last 32
# bits are zero, as are those of many other values.
LARGEST = np.finfo(np.float64).max * (1 - 2**-20)
MISSING = (np.array(np.finfo(np.float64).max).view(np.uint64) >> np.uint64(32) << np.uint64(32)).view(np.float64)

# The bits that float32 has none of, when it is float64.
FREE_IN_SINGLE = 2**29

# Values of a row that tell, mostly, whether all have free bits.
N_LOOKED_AT = 64


def ascending_order(values: np.ndarray, way: Way) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row of finite or missing values, missing ones last, and tell where in the flattened array they were.

    Returns positions (intp) and float64 values. Values of float64 that the way does not tell apart are mostly few
    pairs, which are swapped; if there are more, NumPy sorts what is by then nearly sorted.
    """
    order, ascending = way(values)
    if not swapped_until_ascending(order, ascending):
        order = np.take(order, order_by_numpy(ascending))
        ascending = np.take(values, order)
    return order, ascending.astype(np.float64, copy=False)


@cache
def fastest_way() -> Way:
    """The way that is faster on this machine; they differ in time only, up to four times for either.

    NumPy sorts floats by vector instructions, which are slow on some processors that have them.
    """
    values = np.random.default_rng(0).standard_normal((1, N_TRIED))
    return min(
        by_digits, by_whole_numbers, key=lambda way: min(timeit.repeat(lambda: way(values), number=1, repeat=N_TRIALS))
    )


def by_whole_numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort numbers of which the last bits are their positions, as NumPy sorts positions by numbers one by one.

    Where these bits are free, as in float32 sorted as float64, in counts, and in what was float32, the numbers give the
    values back.
    """
    position_bits = np.uint64((1 << values.size.bit_length()) - 1)
    numbers = values.astype(np.float64) if values.dtype == np.float32 else np.minimum(values, LARGEST)
    has_missing = bool(np.isnan(numbers.min()))
    if has_missing:
        np.fmin(numbers, MISSING, out=numbers)
    bits = numbers.view(np.uint64)
    is_free = (values.dtype == np.float32 and position_bits < FREE_IN_SINGLE) or are_free(bits, position_bits)
    if not is_free:
        bits &= ~position_bits
    bits |= positions(values.shape)
    numbers.sort(axis=1)
    if not is_free:
        bits &= position_bits
        order = bits.view(np.intp)
        return order, np.take(values, order)
    order = (bits & position_bits).view(np.intp)
    bits &= ~position_bits
    if has_missing:
        numbers[numbers == MISSING] = np.nan
    return order, numbers


def are_free(bits: np.ndarray, some: np.uint64) -> bool:
    """Whether some bits are zero in all integers."""
    return all(not np.bitwise_or.reduce(part, axis=None) & some for part in (bits[:, :N_LOOKED_AT], bits))


@lru_cache(maxsize=2)
def positions(shape: tuple[int, int]) -> np.ndarray:
    """Where each value of a block is when it is flattened. A call has blocks of one shape, and a last one."""
    result = np.arange(shape[0] * shape[1], dtype=np.uint64).reshape(shape)
    result.flags.writeable = False
    return result


def by_digits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort by the lower half of the leading 32 bits, then by the upper half, as NumPy counts integers of 16 bits."""
    first, *others = halves(leading_bits(values))
    order = order_by_numpy(first)
    for digits in others:
        order = np.take(order, order_by_numpy(np.take(digits, order)))
    return order, np.take(values, order)


def order_by_numpy(values: np.ndarray) -> np.ndarray:
    """Positions in the flattened array in the order of each row's values; equal ones as they were."""
    positions = np.argsort(values, axis=1, kind="stable")
    positions += values.shape[1] * np.arange(len(values))[:, None]
    return positions


def leading_bits(values: np.ndarray) -> np.ndarray:
    """Unsigned integers of 32 bits that ascend as the values do, as far as their leading bits tell."""
    n_bits = 8 * values.itemsize
    bits = (values.view(f"i{values.itemsize}") >> (n_bits - 32)).astype(np.int32)
    bits ^= (bits >> 31) | np.int32(-(2**31))  # lower is more below zero, and all of these before others
    if np.isnan(values.max()):
        bits[np.isnan(values)] = -1
    return bits.view(np.uint32)


def halves(integers: np.ndarray) -> list[np.ndarray]:
    """The lower and the upper 16 bits; the lower are left out if all are the same, as in counts."""
    lower, upper = integers.astype(np.uint16), (integers >> 16).astype(np.uint16)
    return [upper] if lower.min() == lower.max() else [lower, upper]


def swapped_until_ascending(order: np.ndarray, ascending: np.ndarray) -> bool:
    """Swap neighbours in the wrong order, of both arrays, a few times; whether that was enough."""
    for _ in range(N_SWEEPS):
        wrong = np.flatnonzero(above_the_next(ascending))
        if len(wrong) == 0:
            return True
        left = wrong[np.diff(wrong, prepend=-2) > 1]
        for array in (order.reshape(-1), ascending.reshape(-1)):
            array[left], array[left + 1] = array[left + 1], array[left]
    return not above_the_next(ascending).any()


def above_the_next(ascending: np.ndarray) -> np.ndarray:
    """Whether each value is above the next in its row."""
    above = np.zeros(ascending.shape, dtype=bool)
    np.greater(ascending[:, :-1], ascending[:, 1:], out=above[:, :-1])
    return above
