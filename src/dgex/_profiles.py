"""Where the profiles of a training run are: on the devices, or on the host and streamed to them piece by piece.

Either way a compiled program sees the same rows in the same blocks, and computes the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from dgex._partition import TargetSets
from dgex._sharding import Layout, stored_rows

# Bytes of the profiles that travel to the devices at a time; twice as much is there, since the next piece is loaded
# while one is computed with.
PIECE_BYTES = 2**28
CPU_PIECE_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class ProfileSet:
    """Some profiles of a pair of arrays, in the units of the user.

    On the devices, landmarks are replicated and targets divided by network and gene; on the host, both are NumPy arrays
    of any kind (memory maps among them).
    """

    X: Any  # (n_stored, n_landmarks)
    y: Any  # (n_networks, n_stored, targets of the largest set) on the devices, else (n_stored, n_targets)
    rows: np.ndarray  # which rows belong to the set
    targets: TargetSets
    _placed: dict[int, jax.Array] = field(default_factory=dict, init=False, repr=False)

    @property
    def on_devices(self) -> bool:
        """Whether the arrays are on the devices as a whole."""
        return isinstance(self.X, jax.Array)

    @property
    def n_stored(self) -> int:
        """How many rows the arrays have on the devices, or would have."""
        return self.X.shape[0] if self.on_devices else stored_rows(self.X)

    def in_blocks(self, layout: Layout, block_rows: int) -> jax.Array:
        """The row numbers on the devices, for a set whose arrays are there; put there once."""
        if block_rows not in self._placed:
            numbers = padded_rows(self.rows, self.n_stored, block_rows)
            self._placed[block_rows] = layout.put(numbers, layout.replicated)
        return self._placed[block_rows]


class Piece(NamedTuple):
    """Blocks start, ..., stop - 1 of an order of profiles, on the devices."""

    X: jax.Array
    y: jax.Array
    order: jax.Array  # row numbers in X and y, from block `offset` on
    offset: int
    start: int
    stop: int


def pieces(
    profiles: ProfileSet, order: np.ndarray | None, block_rows: int, layout: Layout, blocks: range, max_blocks: int
) -> Iterator[Piece]:
    """The given blocks of an order of profiles, at most so many at a time.

    Parameters
    ----------
    profiles : ProfileSet
        Where the rows are.
    order : ndarray of int or None
        Row numbers, cut into blocks of `block_rows`; the last may be short. None is the order of the set itself.
    block_rows : int
        Rows of a block.
    layout : Layout
        The devices.
    blocks : range
        Which blocks, with step 1.
    max_blocks : int
        Blocks of a piece; fewer if their rows have to travel and take much memory.
    """
    if profiles.on_devices:
        if order is None:
            rows = profiles.in_blocks(layout, block_rows)
        else:
            rows = layout.put(padded_rows(order, profiles.n_stored, block_rows), layout.replicated)
        for start in range(blocks.start, blocks.stop, max_blocks):
            yield Piece(profiles.X, profiles.y, rows, 0, start, min(start + max_blocks, blocks.stop))
        return

    order = profiles.rows if order is None else order
    row_bytes = 4 * (profiles.X.shape[1] + len(profiles.targets) * profiles.targets.largest)
    piece_bytes = CPU_PIECE_BYTES if layout.platform == "cpu" else PIECE_BYTES
    n_blocks = max(1, min(max_blocks, -(-len(order) // block_rows), piece_bytes // (row_bytes * block_rows)))

    def load(start: int) -> Piece:
        rows = order[start * block_rows : (start + n_blocks) * block_rows]
        n_stored = n_blocks * block_rows
        here = layout.put(padded_rows(np.arange(n_stored), n_stored, block_rows), layout.replicated)
        X = layout.place_landmarks(profiles.X, rows, n_stored)
        y = layout.place_targets(profiles.y, profiles.targets, rows, n_stored)
        return Piece(X, y, here, start, start, min(start + n_blocks, blocks.stop))

    with ThreadPoolExecutor(max_workers=1) as loader:
        coming = loader.submit(load, blocks.start)
        for start in range(blocks.start, blocks.stop, n_blocks):
            piece = coming.result()
            if start + n_blocks < blocks.stop:
                coming = loader.submit(load, start + n_blocks)
            yield piece


def padded_rows(rows: np.ndarray, n_stored: int, block: int) -> np.ndarray:
    """Row numbers as int32, extended with zeros so that whole blocks cover as many rows as are stored, and one more.

    The length depends on the stored rows only: sets of different size over the same arrays share a program. Of a single
    block, XLA would gather the rows before the loop over blocks begins, and sum products in another order.
    """
    padded = np.zeros((-(-n_stored // block) + 1) * block, dtype=np.int32)
    padded[: len(rows)] = rows
    return padded
