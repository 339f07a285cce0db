"""The reference's data path: what enters the array, moves through its wires, and leaves it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.systolic.reference_steps import FoldStep
from hwsim.systolic.wires import IDLE, Feed, OutputWires, StationaryWires


@dataclass
class Outcome:
    """ends: cycle at which each task is over. ofmaps: {task: (groups, pixels, columns)}."""

    ofmaps: dict[int, np.ndarray]
    ends: list[int] = field(default_factory=list)
    weight_dram_bits: int = 0
    activation_dram_bits: int = 0
    ifmap_values: int = 0  # fed into the rows in use
    psum_writes: int = 0  # into the accumulators


class Datapath:
    """One array with its psums' destinations. program: all steps in order; out: what is filled."""

    def __init__(
        self, program: Sequence[FoldStep], array: SystolicArray, width: OperandWidth, out: Outcome
    ) -> None:
        self.program, self.array, self.width, self.out = program, array, width, out
        self.serial = array.schedule == "serial"
        self.planes = [step for step in program if step.plane is not None]
        lanes = max((len(lane) for step in program for lane in step.feed), default=1)
        self.stationary_wires = StationaryWires(
            array.rows,
            array.cols,
            width.activation_bits if array.dataflow == "input_stationary" else width.weight_bits,
            lanes,
        )
        self.output_wires = OutputWires(array.rows, array.cols, lanes)
        self.entered: dict[int, tuple[FoldStep, int]] = {}  # cycle -> what entered row 0

    def run(self, cycle: int, begun: int, shifts: Sequence[int]) -> None:
        """One cycle. begun: steps so far; shifts: when each plane's shift into the shadow began."""
        rows, cols = self.array.rows, self.array.cols
        if begun:
            step = self.program[begun - 1]
            assert step.begin is not None
            if not step.streamed(cycle):
                self.entered[cycle] = (step, cycle - step.begin)
                self.out.ifmap_values += step.rows * len(step.feed[cycle - step.begin])
        feeds = [self._feed(cycle - row, row) for row in range(rows)]
        if self.array.dataflow == "output_stationary":
            self._run_outputs(cycle, begun, feeds)
            return
        first = bisect_right(shifts, cycle - rows - cols)
        moving: list[tuple[int, np.ndarray]] = []
        for begin, step in zip(shifts[first:], self.planes[first:], strict=False):
            assert step.plane is not None
            moving.append((cycle - begin, step.plane))
        bottom = self.stationary_wires.tick(feeds, moving)
        for col in range(cols):
            entered = self.entered.get(cycle - (rows - 1) - col)
            if entered is not None:
                step, position = entered
                scale = self._scale(step, position)
                for places, psum in zip(step.places[position], bottom[:, col], strict=False):
                    if col < len(places):  # else the column is not in use
                        self._accumulate(step, places[col], int(psum) * scale, cycle)

    def _scale(self, step: FoldStep, position: int) -> int:
        i, j = step.slices[position]
        return 1 << (self.width.weight_bits * i + self.width.activation_bits * j)

    def _feed(self, entered: int, row: int) -> Feed:
        """What enters `row`: rows are skewed by one cycle each."""
        if entered not in self.entered:
            return IDLE
        step, position = self.entered[entered]
        slice_index, slices = step.stationary[position]
        return Feed(
            values=tuple(int(lane[row]) for lane in step.feed[position]),
            slice_index=slice_index,
            slices=slices,
            goes_live=position == 0 and step.plane is not None,
            scale=self._scale(step, position),
            ends=bool(step.drains) and position == len(step.feed) - 1,
        )

    def _run_outputs(self, cycle: int, begun: int, feeds: Sequence[Feed]) -> None:
        rows, cols = self.array.rows, self.array.cols
        tops: list[tuple[int, ...]] = []
        for col in range(cols):  # columns are skewed as rows are
            step, position = self.entered.get(cycle - col, (None, 0))
            tops.append(() if step is None else tuple(int(x[col]) for x in step.top[position]))
        finished = [step for step in self.program[:begun] if step.drains]
        drains: list[tuple[int, FoldStep]] = []
        for step in finished:
            assert step.ends is not None
            age = cycle - (step.ends + rows - 1)
            if not self.serial and 0 <= age < rows + cols:
                drains.append((age, step))
        bottom = self.output_wires.tick(feeds, tops, [age for age, _ in drains])
        for age, step in drains:
            for col in range(cols):
                row = rows - 1 - (age - col)
                if 0 <= row < len(step.drains) and age >= col and col < len(step.drains[row]):
                    self._accumulate(step, step.drains[row][col], int(bottom[col]), cycle)
        for step in finished:  # serial: read in place, each as it is finished
            assert step.ends is not None
            for row, places in enumerate(step.drains if self.serial else []):
                col = cycle - (step.ends - 1) - row
                if 0 <= col < len(places):
                    value = int(self.output_wires.shadow[row, col])
                    self._accumulate(step, places[col], value, cycle)

    def _accumulate(
        self, step: FoldStep, place: tuple[int, int, int], psum: int, cycle: int
    ) -> None:
        """A psum leaves the array and is added to its ofmap value."""
        self.out.ofmaps[step.task][place] += psum
        self.out.psum_writes += 1
        step.psums_left -= 1
        if step.psums_left == 0 and not self.serial:
            step.drained = cycle + 1
