"""The wires of the reference: planes of PEs that pass values to their neighbours every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Feed:
    """What enters one row of the array in one cycle.

    values: values that stream, or slices of them, one a lane: none or several where the operands'
    widths make a row take more or less than a cycle. slice_index: which of `slices` parts of the
    stationary value they meet. goes_live: the plane waiting in the shadow takes over with them.
    scale: of psums that stay in the PEs. ends: they are complete with these values.
    """

    values: tuple[int, ...]
    slice_index: int = 0
    slices: int = 1
    goes_live: bool = False
    scale: int = 1
    ends: bool = False


IDLE = Feed(())


class StationaryWires:
    """Registers of a rows x cols array whose weights or inputs stay; every call is one clock edge.

    lanes: values that may enter a row in one cycle, each with psums of its own. slice_bits: of the
    stationary operand.
    """

    def __init__(self, rows: int, cols: int, slice_bits: int, lanes: int) -> None:
        self.rows, self.cols, self.slice_bits = rows, cols, slice_bits
        shape = (rows, cols)
        self.live = np.zeros(shape, dtype=np.int64)
        self.shadow = np.zeros(shape, dtype=np.int64)
        self.psum = np.zeros((lanes, *shape), dtype=np.int64)  # moves down
        # moving right: slice_index, slices, goes_live, and a value in each lane
        self.moving = np.zeros((3 + lanes, *shape), dtype=np.int64)

    def tick(self, feeds: Sequence[Feed], shifts: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
        """One cycle. feeds: (rows,) at the left edge. shifts: (cycles since it began, plane) of
        each plane on its way into the shadow. Returns the psums leaving the bottom row,
        (lanes, cols)."""
        self.moving[:, :, 1:] = self.moving[:, :, :-1].copy()
        self.moving[:, :, 0] = 0
        for row, feed in enumerate(feeds):
            self.moving[:3, row, 0] = feed.slice_index, feed.slices, feed.goes_live
            self.moving[3 : 3 + len(feed.values), row, 0] = feed.values
        slice_index, slices, goes_live = self.moving[:3]
        self.live = np.where(goes_live, self.shadow, self.live)
        part = self.live >> self.slice_bits * slice_index
        unsigned = part & (1 << self.slice_bits) - 1
        part = np.where(slice_index == slices - 1, part, unsigned)
        self.psum[:, 1:] = self.psum[:, :-1].copy()
        self.psum[:, 0] = 0
        self.psum += self.moving[3:] * part
        for age, plane in shifts:
            self._shift(age, plane)
        return self.psum[:, -1].copy()

    def _shift(self, age: int, plane: np.ndarray) -> None:
        """A plane moves down one row: the bottom row's values enter first, and column c is c
        cycles behind. Row r takes part from its r-th cycle on, so that the values of the plane
        before stay until the wave that makes them live has passed."""
        before = self.shadow.copy()
        for c in range(self.cols):
            k = age - c
            if 0 <= k < self.rows:
                self.shadow[1 : k + 1, c] = before[:k, c]
                self.shadow[0, c] = plane[self.rows - 1 - k, c]


class OutputWires:
    """Registers of a rows x cols array whose psums stay; every call is one clock edge."""

    def __init__(self, rows: int, cols: int, lanes: int) -> None:
        self.rows, self.cols = rows, cols
        self.psum = np.zeros((rows, cols), dtype=np.int64)
        self.shadow = np.zeros((rows, cols), dtype=np.int64)  # finished, on their way out
        self.right = np.zeros((2 + lanes, rows, cols), dtype=np.int64)  # scale, ends, values
        self.down = np.zeros((lanes, rows, cols), dtype=np.int64)

    def tick(
        self, feeds: Sequence[Feed], tops: Sequence[tuple[int, ...]], drains: Sequence[int]
    ) -> np.ndarray:
        """One cycle. feeds: (rows,) at the left edge; tops: (cols,) values at the top edge, a lane
        each. drains: cycles since column 0 of each plane on its way out was finished. Returns the
        (cols,) values at the bottom of the shadow plane."""
        self.right[:, :, 1:] = self.right[:, :, :-1].copy()
        self.right[:, :, 0] = 0
        for row, feed in enumerate(feeds):
            self.right[:2, row, 0] = feed.scale, feed.ends
            self.right[2 : 2 + len(feed.values), row, 0] = feed.values
        self.down[:, 1:] = self.down[:, :-1].copy()
        self.down[:, 0] = 0
        for col, values in enumerate(tops):
            self.down[: len(values), 0, col] = values
        bottom = self.shadow[-1].copy()
        for age in drains:
            self._drain(age)
        scale, ends = self.right[:2]
        self.psum += scale * (self.right[2:] * self.down).sum(axis=0)
        self.shadow = np.where(ends, self.psum, self.shadow)
        self.psum = np.where(ends, 0, self.psum)
        return bottom

    def _drain(self, age: int) -> None:
        """Values move down one row; column c is c cycles behind. Row r passes on its own value and
        the r above it, then waits for the next plane's."""
        before = self.shadow.copy()
        for c in range(self.cols):
            k = age - c
            if 0 <= k < self.rows:
                self.shadow[k + 1 :, c] = before[k:-1, c]
