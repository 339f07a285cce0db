"""Reference of the weight-stationary array: real values, one cycle at a time, plainly right.

Weights leave DRAM as the bit stream that their widths make, burst by burst, wait in the FIFO, are
shifted row by row into the shadow plane, go live PE by PE behind the first ifmap row, and multiply
ifmap values that move right while psums move down into the accumulators. A wrong schedule gives a
wrong ofmap, not just another count. Slow: it is there to check `timing.py` on small layers.

A time is the boundary at which a cycle begins. Everything that can happen on a boundary is settled
first (transfers end, a shift or a stream begins, a task is over); then the wires run one cycle.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.systolic.reference_steps import FoldStep, GemmTask, VectorWork, plan_steps
from hwsim.systolic.wires import IDLE, Feed, Wires


@dataclass
class Outcome:
    """ends: cycle at which each task is over. ofmaps: {task: (groups, pixels, columns)}."""

    ofmaps: dict[int, np.ndarray]
    ends: list[int] = field(default_factory=list)
    weight_dram_bits: int = 0
    activation_dram_bits: int = 0
    ifmap_values: int = 0  # fed into the rows in use
    psum_writes: int = 0  # into the accumulators


def _over(time: int | None, cycle: int) -> bool:
    """Whether something that ends at `time` (None: not known yet) is over."""
    return time is not None and time <= cycle


class _Channel:
    """A DRAM channel that works through one transfer at a time, tick by tick."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.left: int | None = None  # ticks left of the transfer under way
        self.budget = 0  # ticks left of this cycle

    @property
    def free(self) -> bool:
        return self.left is None and self.budget > 0

    def begin(self, bits: int) -> int:
        """Begin a transfer; returns the bits that whole bursts move."""
        bursts = -(-bits // self.link.burst_bits)
        self.left = bursts * self.link.ticks_per_burst
        return bursts * self.link.burst_bits

    def work(self, cycle: int) -> int | None:
        """Spend this cycle's ticks; the boundary at which the transfer is over, None if not yet."""
        if self.left is None:
            return None
        spent = min(self.budget, self.left)
        over = cycle if spent == 0 and self.left == 0 else cycle + 1
        self.budget -= spent
        self.left -= spent
        if self.left:
            return None
        self.left = None
        return over


class _Machine:
    def __init__(
        self,
        tasks: Sequence[GemmTask | VectorWork],
        array: SystolicArray,
        width: OperandWidth,
        weights: Link,
        activations: Link,
    ) -> None:
        self.tasks, self.array, self.width = tasks, array, width
        self.weights, self.activations = _Channel(weights), _Channel(activations)
        self.plans = [
            plan_steps(i, task, array, width) if isinstance(task, GemmTask) else []
            for i, task in enumerate(tasks)
        ]
        self.program = [step for plan in self.plans for step in plan]
        lanes = max((len(pixels) for step in self.program for pixels in step.pixels), default=1)
        self.wires = Wires(array, width, lanes)
        self.tiles = [(step.tile, step.task) for step in self.program if step.tile is not None]
        self.planes = [tile.plane(array.rows, array.cols) for tile, _ in self.tiles]
        self.transfers = self._transfers()
        self.out = Outcome(
            {
                i: np.zeros((*task.ifmap.shape[:2], task.weight.shape[2]), dtype=np.int64)
                for i, task in enumerate(tasks)
                if isinstance(task, GemmTask)
            }
        )
        self.ends: dict[int, int] = {}
        self.transferred: dict[tuple[int, str, int], int] = {}
        self.fetched: list[int] = []  # when each tile was whole in the FIFO
        self.shifts: list[int] = []  # when each tile's shift began
        self.lives: list[int] = []  # when each tile went live
        self.begun = 0  # steps
        self.vector_begin: dict[int, int] = {}
        self.entered: dict[int, tuple[FoldStep, int]] = {}  # cycle -> what entered row 0

    def _transfers(self) -> list[tuple[int, str, int, int]]:
        """(task, direction, step, bits) in program order: the next chunk's ifmap is staged
        before this chunk's ofmap is written."""
        queue: list[tuple[int, str, int, int]] = []
        for index, task in enumerate(self.tasks):
            if isinstance(task, VectorWork):
                queue.append((index, "read", 0, task.read_bits))
                queue.append((index, "write", 0, task.write_bits))
                continue
            plan = self.plans[index]
            for step in plan[:1]:
                queue.append((index, "read", 0, step.read_bits))
            for step in plan:
                for after in plan[step.number + 1 : step.number + 2]:
                    queue.append((index, "read", after.number, after.read_bits))
                queue.append((index, "write", step.number, step.write_bits))
        return [transfer for transfer in queue if transfer[3] > 0]

    def _ready(self, index: int, cycle: int) -> bool:
        """Whether everything that the task reads has been produced."""
        return all(self.ends.get(i, cycle + 1) <= cycle for i in self.tasks[index].after)

    def _arrived(self, index: int, step: int, bits: int, cycle: int) -> bool:
        there = bits == 0 or self.transferred.get((index, "read", step), cycle + 1) <= cycle
        return there and self._ready(index, cycle)

    def _settle_fetch(self, cycle: int) -> bool:
        if self.weights.free and len(self.fetched) < len(self.tiles):
            tile, index = self.tiles[len(self.fetched)]
            task = self.tasks[index]
            assert isinstance(task, GemmTask)
            shifting = bool(self.shifts) and self.shifts[-1] + self.array.rows > cycle
            left_fifo = len(self.shifts) - shifting
            if len(self.fetched) - left_fifo < self.array.weight_fifo_tiles:
                if not task.from_chip:
                    self.out.weight_dram_bits += self.weights.begin(len(tile.bits))
                elif self._ready(index, cycle):  # one row of the tile a cycle
                    self.weights.left = self.array.rows * self.weights.link.ticks_per_cycle
        over = self.weights.work(cycle)
        if over is not None:
            self.fetched.append(over)
        return over is not None

    def _settle_transfer(self, cycle: int) -> bool:
        if self.activations.free and self.transfers:
            index, direction, number, bits = self.transfers[0]
            plan = self.plans[index]
            if direction == "read":  # two staging buffers: the step before the last frees one
                begin = self._ready(index, cycle)
                begin = begin and (number < 2 or plan[number - 2].streamed(cycle))
            elif isinstance(self.tasks[index], VectorWork):
                begin = _over(self._vector_end(index), cycle)
            else:
                begin = _over(plan[number].drained, cycle)
            if begin:
                self.out.activation_dram_bits += self.activations.begin(bits)
        over = self.activations.work(cycle)
        if over is not None:
            index, direction, number, _ = self.transfers.pop(0)
            self.transferred[index, direction, number] = over
        return over is not None

    def _vector_end(self, index: int) -> int | None:
        task = self.tasks[index]
        assert isinstance(task, VectorWork)
        begin = self.vector_begin.get(index)
        return None if begin is None else begin + -(-task.operations // task.lanes)

    def _settle_vector(self, cycle: int) -> bool:
        waiting = [
            i
            for i, task in enumerate(self.tasks)
            if isinstance(task, VectorWork) and i not in self.vector_begin
        ]
        busy = any((self._vector_end(i) or 0) > cycle for i in self.vector_begin)
        if not waiting or busy:
            return False
        task = self.tasks[waiting[0]]
        assert isinstance(task, VectorWork)
        if not self._arrived(waiting[0], 0, task.read_bits, cycle):
            return False
        self.vector_begin[waiting[0]] = cycle
        return True

    def _settle_stream(self, cycle: int) -> bool:
        if self.begun == len(self.program):
            return False
        step, tile = self.program[self.begun], len(self.lives)
        free = self.begun == 0 or self.program[self.begun - 1].streamed(cycle)
        shifted = step.tile is None or (
            tile < len(self.shifts) and self.shifts[tile] + self.array.rows <= cycle
        )
        if not (free and shifted and self._arrived(step.task, step.number, step.read_bits, cycle)):
            return False
        step.begin = cycle
        if step.tile is not None:
            self.lives.append(cycle)
        self.begun += 1
        return True

    def _settle_shift(self, cycle: int) -> bool:
        tile = len(self.shifts)
        if tile == len(self.tiles) or self.fetched[tile : tile + 1] > [cycle]:
            return False
        if tile == len(self.fetched):
            return False
        if tile and (len(self.lives) < tile or self.shifts[-1] + self.array.rows > cycle):
            return False
        self.shifts.append(cycle)
        return True

    def _settle_ends(self, cycle: int) -> bool:
        changed = False
        for index, task in enumerate(self.tasks):
            if index in self.ends or not self._ready(index, cycle):
                continue
            if isinstance(task, VectorWork):
                done = _over(self._vector_end(index), cycle)
                done = done and self._written(index, 0, task.write_bits, cycle)
            else:
                done = all(
                    _over(step.drained, cycle)
                    and self._written(index, step.number, step.write_bits, cycle)
                    for step in reversed(self.plans[index])  # the last one is rarely over
                )
            if done:
                self.ends[index] = cycle
                changed = True
        return changed

    def _written(self, index: int, step: int, bits: int, cycle: int) -> bool:
        return bits == 0 or self.transferred.get((index, "write", step), cycle + 1) <= cycle

    def _run_wires(self, cycle: int) -> None:
        rows = self.array.rows
        if self.begun:
            step = self.program[self.begun - 1]
            assert step.begin is not None
            if not step.streamed(cycle):
                self.entered[cycle] = (step, cycle - step.begin)
                self.out.ifmap_values += step.rows * len(step.pixels[cycle - step.begin])
        feeds = [self._feed(cycle - row, row) for row in range(rows)]
        first = bisect_right(self.shifts, cycle - rows - self.array.cols)
        shifts = [(cycle - self.shifts[m], self.planes[m]) for m in range(first, len(self.shifts))]
        bottom = self.wires.tick(feeds, shifts)
        for col in range(self.array.cols):
            step_and_position = self.entered.get(cycle - (rows - 1) - col)
            if step_and_position and col < len(step_and_position[0].place):
                self._accumulate(*step_and_position, col, bottom[:, col].tolist(), cycle)

    def _feed(self, entered: int, row: int) -> Feed:
        """What enters `row`: rows are skewed by one cycle each."""
        if entered not in self.entered:
            return IDLE
        step, position = self.entered[entered]
        return Feed(
            values=tuple(int(lane[row]) for lane in step.feed[position]),
            weight_slice=step.slices[position][0],
            weight_slices=step.weight_slices,
            goes_live=position == 0 and step.tile is not None,
        )

    def _accumulate(
        self, step: FoldStep, position: int, col: int, psums: list[int], cycle: int
    ) -> None:
        """Psums leave the bottom of a column: slices are put back in their place and added."""
        group, column = step.place[col]
        i, j = step.slices[position]
        weight = 1 << (self.width.weight_bits * i + self.width.activation_bits * j)
        for pixel, psum in zip(step.pixels[position], psums, strict=False):  # some lanes are idle
            assert 0 <= pixel - step.base < self.array.accumulator_rows
            self.out.ofmaps[step.task][group, pixel, column] += psum * weight
            self.out.psum_writes += 1
            step.psums_left -= 1
        if step.psums_left == 0:
            step.drained = cycle + 1

    def run(self) -> Outcome:
        cycle = 0
        while True:
            self.weights.budget = self.weights.link.ticks_per_cycle
            self.activations.budget = self.activations.link.ticks_per_cycle
            while any([  # a list: every machine gets its turn
                self._settle_fetch(cycle), self._settle_transfer(cycle),
                self._settle_vector(cycle), self._settle_stream(cycle),
                self._settle_shift(cycle), self._settle_ends(cycle),
            ]):  # fmt: skip
                pass
            if len(self.ends) == len(self.tasks):
                break
            self._run_wires(cycle)
            cycle += 1
        self.out.ends = [self.ends[i] for i in range(len(self.tasks))]
        return self.out


def run_reference(
    tasks: Sequence[GemmTask | VectorWork],
    array: SystolicArray,
    width: OperandWidth,
    weights: Link,
    activations: Link,
) -> Outcome:
    """Run layers in program order on the pipelined array; ofmaps, times and traffic."""
    return _Machine(tasks, array, width, weights, activations).run()


def reference_serial_fold(ifmap: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, int]:
    """One fold of the serial schedule: load all rows, then stream until the last column is empty.

    ifmap: (pixels, rows), weight: (rows, cols) -> ofmap (pixels, cols), cycles.
    """
    (pixels, rows), cols = ifmap.shape, weight.shape[1]
    value = np.zeros((rows, cols), dtype=np.int64)
    psum = np.zeros((rows, cols), dtype=np.int64)
    ofmap = np.zeros((pixels, cols), dtype=np.int64)
    cycle, finished = rows, 0  # rows cycles went on loading weights
    while finished < ofmap.size:
        t = cycle - rows
        edge = [ifmap[t - r, r] if 0 <= t - r < pixels else 0 for r in range(rows)]
        value = np.column_stack([edge, value[:, :-1]])
        psum = np.vstack([np.zeros(cols, dtype=np.int64), psum[:-1]]) + value * weight
        for c in range(cols):
            if 0 <= t - (rows - 1) - c < pixels:
                ofmap[t - (rows - 1) - c, c] = psum[-1, c]
                finished += 1
        cycle += 1
    return ofmap, cycle
