"""The wires of the reference: planes of PEs that pass values to their neighbours every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray


@dataclass(frozen=True)
class Feed:
    """What enters one row of the array in one cycle.

    values: ifmap values, or slices of them, one a lane: none or several where the operands' widths
    make a row take more or less than a cycle. weight_slice: which of `weight_slices` parts of the
    weight they meet. goes_live: the weights waiting in the shadow plane take over with them.
    """

    values: tuple[int, ...]
    weight_slice: int
    weight_slices: int
    goes_live: bool


IDLE = Feed((), 0, 1, False)


class Wires:
    """Registers of a rows x cols array; every method call is one clock edge.

    lanes: ifmap values that may enter a row in one cycle, each with psums of its own.
    """

    def __init__(self, array: SystolicArray, width: OperandWidth, lanes: int) -> None:
        self.rows, self.cols, self.slice_bits = array.rows, array.cols, width.weight_bits
        shape = (array.rows, array.cols)
        self.live = np.zeros(shape, dtype=np.int64)
        self.shadow = np.zeros(shape, dtype=np.int64)
        self.psum = np.zeros((lanes, *shape), dtype=np.int64)  # moves down
        # moving right: weight_slice, weight_slices, goes_live, and a value in each lane
        self.moving = np.zeros((3 + lanes, *shape), dtype=np.int64)

    def tick(self, feeds: Sequence[Feed], shifts: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
        """One cycle. feeds: (rows,) at the left edge. shifts: (cycles since it began, plane) of
        each tile on its way into the shadow plane. Returns the psums leaving the bottom row,
        (lanes, cols)."""
        self.moving[:, :, 1:] = self.moving[:, :, :-1].copy()
        self.moving[:, :, 0] = 0
        for row, feed in enumerate(feeds):
            self.moving[:3, row, 0] = feed.weight_slice, feed.weight_slices, feed.goes_live
            self.moving[3 : 3 + len(feed.values), row, 0] = feed.values
        weight_slice, weight_slices, goes_live = self.moving[:3]
        self.live = np.where(goes_live, self.shadow, self.live)
        part = self.live >> self.slice_bits * weight_slice
        unsigned = part & (1 << self.slice_bits) - 1
        part = np.where(weight_slice == weight_slices - 1, part, unsigned)
        self.psum[:, 1:] = self.psum[:, :-1].copy()
        self.psum[:, 0] = 0
        self.psum += self.moving[3:] * part
        for age, plane in shifts:
            self._shift(age, plane)
        return self.psum[:, -1].copy()

    def _shift(self, age: int, plane: np.ndarray) -> None:
        """A tile moves down one row: the bottom row's weights enter first, and column c is c
        cycles behind. Row r takes part from its r-th cycle on, so that the weights of the tile
        before stay until the wave that makes them live has passed."""
        before = self.shadow.copy()
        for c in range(self.cols):
            k = age - c
            if 0 <= k < self.rows:
                self.shadow[1 : k + 1, c] = before[:k, c]
                self.shadow[0, c] = plane[self.rows - 1 - k, c]
