"""Sorting the genes of profiles, faster than `numpy.argsort`."""

from __future__ import annotations

import numpy as np


def ascending_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row of finite or missing values, missing ones last, and tell where in the flattened array they were.

    Takes contiguous float32 or float64 of shape (n_rows, n_values); returns positions (intp) and float64 values.

    NumPy sorts integers of 16 bits by their bytes, several times as fast as it sorts floats. So rows are sorted by the
    lower half of their leading 32 bits, then by the upper half. Values of float64 that these do not tell apart are
    mostly few, and NumPy is fast at putting right what is nearly sorted.
    """
    first, *others = halves(leading_bits(values))
    order = by_values(first)
    for digits in others:
        order = by_values(digits, order)
    ascending = np.take(values, order)
    if not is_ascending(ascending):
        order = by_values(values, order)
        ascending = np.take(values, order)
    return order, ascending.astype(np.float64, copy=False)


def by_values(values: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Positions in the flattened array in the order of each row's values; equal ones as in the order before."""
    in_order = values if order is None else np.take(values, order)
    positions = np.argsort(in_order, axis=1, kind="stable")
    positions += values.shape[1] * np.arange(len(values))[:, None]
    return positions if order is None else np.take(order, positions)


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


def is_ascending(values: np.ndarray) -> bool:
    """Whether no value is below the one before it in its row, or after a missing one."""
    before, after = values[:, :-1], values[:, 1:]
    return bool((before <= after).all() or ((before <= after) | np.isnan(after)).all())
