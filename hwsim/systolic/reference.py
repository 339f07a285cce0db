"""Reference of the systolic array: real values, one cycle at a time, plainly right.

Weights leave DRAM as the bit stream that their widths make, burst by burst, and wait in the FIFO.
With stationary weights they are shifted row by row into the shadow plane, go live PE by PE behind
the first ifmap row, and multiply ifmap values that move right while psums move down into the
accumulators. With stationary inputs a tile of ifmap is shifted in and filters move right. With
stationary outputs both move, psums stay until they are complete, and leave down a shadow plane. A
wrong schedule gives a wrong ofmap, not just another count. Slow: it is there to check `timing.py`
on small layers.

A time is the boundary at which a cycle begins. Everything that can happen on a boundary is settled
first (transfers end, a shift or a stream begins, a task is over); then channels and wires run one
cycle.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.systolic.reference_channels import Channel, Transfer, static_order
from hwsim.systolic.reference_datapath import Datapath, Outcome
from hwsim.systolic.reference_plans import plan_steps
from hwsim.systolic.reference_steps import FoldStep, GemmTask, VectorWork


def _over(time: int | None, cycle: int) -> bool:
    """Whether something that ends at `time` (None: not known yet) is over."""
    return time is not None and time <= cycle


class _Machine:
    def __init__(
        self,
        tasks: Sequence[GemmTask | VectorWork],
        array: SystolicArray,
        width: OperandWidth,
        weights: Link,
        activations: Link | None,
    ) -> None:
        self.tasks, self.array = tasks, array
        self.serial = array.schedule == "serial"
        self.plans = [
            plan_steps(i, task, array, width) if isinstance(task, GemmTask) else []
            for i, task in enumerate(tasks)
        ]
        self.program = [step for plan in self.plans for step in plan]
        order = static_order(tasks, self.plans)
        self.weights = Channel(weights, order)
        self.channels = [self.weights]
        if activations is not None:
            tiles = [t for t in order if t.kind == "tile"]
            self.weights = Channel(weights, tiles)
            others = [t for t in order if t.kind != "tile"]
            self.channels = [self.weights, Channel(activations, others)]
        self.tiles = [step for step in self.program if step.tile is not None]
        self.out = Outcome(
            {
                i: np.zeros((*task.ifmap.shape[:2], task.weight.shape[2]), dtype=np.int64)
                for i, task in enumerate(tasks)
                if isinstance(task, GemmTask)
            }
        )
        self.datapath = Datapath(self.program, array, width, self.out)
        self.planes = self.datapath.planes
        self.ends: dict[int, int] = {}
        self.transferred: dict[tuple[int, str, int], int] = {}
        self.fetched: list[int] = []  # when each tile was whole in the FIFO
        self.filling: int | None = None  # ticks left of a tile that comes from an on-chip buffer
        self.slots: list[int] = []  # when each tile leaves the FIFO, in order
        self.shifts: list[int] = []  # when each plane's shift began
        self.lives: list[int] = []  # when each plane went live
        self.begun = 0  # steps
        self.vector_begin: dict[int, int] = {}

    # --- what has happened by a boundary

    def _ready(self, index: int, cycle: int) -> bool:
        """Whether everything that the task reads has been produced."""
        return all(self.ends.get(i, cycle + 1) <= cycle for i in self.tasks[index].after)

    def _arrived(self, index: int, step: int, bits: int, cycle: int) -> bool:
        there = bits == 0 or self.transferred.get((index, "read", step), cycle + 1) <= cycle
        return there and self._ready(index, cycle)

    def _written(self, index: int, step: int, bits: int, cycle: int) -> bool:
        return bits == 0 or self.transferred.get((index, "write", step), cycle + 1) <= cycle

    def _opener(self, step: FoldStep) -> FoldStep:
        """The step at whose begin the ifmap of this one's chunk must be there."""
        return [s for s in self.plans[step.task][: step.number + 1] if s.opens][-1]

    def _fold_over(self, step: FoldStep, cycle: int) -> bool:
        """Serial schedule: whether the array is empty for this step's fold to begin."""
        position = self.program.index(step)
        if position == 0:
            return True
        before = self.program[position - 1]
        if before.task != step.task:  # a layer counts from the end of the one before
            return _over(self.ends.get(before.task), cycle)
        if not before.closes:
            return True
        return before.drained is not None and before.drained + 1 <= cycle

    # --- DRAM channels and the FIFO's input

    def _next_tile(self) -> FoldStep | None:
        return None if len(self.fetched) == len(self.tiles) else self.tiles[len(self.fetched)]

    def _slot_for_next(self, cycle: int) -> bool:
        gone = bisect_right(self.slots, cycle)  # tiles that have left the FIFO
        return len(self.fetched) - gone < self.array.weight_fifo_tiles

    def _allowed(self, transfer: Transfer, cycle: int) -> bool:
        """Whether what the transfer waits for has happened by this boundary."""
        index, number = transfer.task, transfer.step
        plan = self.plans[index]
        if transfer.kind == "tile":
            in_turn = self._next_tile() is plan[number] and self.filling is None
            return in_turn and self._slot_for_next(cycle)
        if transfer.kind == "read":  # two staging buffers: the chunk before the last frees one
            openers = [step.number for step in plan if step.opens]
            chunk = openers.index(number) if plan else 0
            free = chunk < 2 or plan[openers[chunk - 1] - 1].streamed(cycle)
            return free and self._ready(index, cycle)
        if isinstance(self.tasks[index], VectorWork):
            return _over(self._vector_end(index), cycle)
        return _over(plan[number].drained, cycle)

    def _begin_transfers(self, channel: Channel, cycle: int, over: int) -> bool:
        """Begin what may begin; transfers that take no time are over at `over`, at once."""
        changed = False
        while channel.may_begin() and self._allowed(channel.queue[0], cycle):
            channel.begin()
            changed = True
            if channel.left:
                break
            self._note(channel.end(), over)
        step = self._next_tile()
        if channel is self.weights and self.filling is None and step is not None:
            assert step.tile is not None
            free = self._slot_for_next(cycle) and self._ready(step.task, cycle)
            if step.tile.from_chip and free:  # one row of the tile a cycle
                self.filling = step.tile.chip_cycles * channel.link.ticks_per_cycle
                changed = True
        return changed

    def _note(self, transfer: Transfer, over: int) -> None:
        if transfer.kind == "tile":
            self.fetched.append(over)
        else:
            self.transferred[transfer.task, transfer.kind, transfer.step] = over

    def _run_channel(self, channel: Channel, cycle: int) -> None:
        for _ in range(channel.link.ticks_per_cycle):
            self._begin_transfers(channel, cycle, cycle + 1)
            channel.tick()
            if channel.left == 0:
                self._note(channel.end(), cycle + 1)
            if channel is self.weights and self.filling is not None:
                self.filling -= 1
                if self.filling == 0:
                    self.filling = None
                    self.fetched.append(cycle + 1)

    # --- vector unit, shadow plane, streams

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

    def _settle_shift(self, cycle: int) -> bool:
        number = len(self.shifts)
        if number == len(self.planes):
            return False
        if number and (len(self.lives) < number or self.shifts[-1] + self.array.rows > cycle):
            return False
        step = self.planes[number]
        if self.array.dataflow == "weight_stationary":
            there = number < len(self.fetched) and self.fetched[number] <= cycle
            there = there and (not self.serial or self._ready(step.task, cycle))
        else:
            opener = self._opener(step)
            there = self._arrived(step.task, opener.number, opener.read_bits, cycle)
        if not there or (self.serial and not self._fold_over(step, cycle)):
            return False
        self.shifts.append(cycle)
        if self.array.dataflow == "weight_stationary":  # a tile leaves as it is shifted
            self.slots.append(cycle + self.array.rows)
        return True

    def _settle_stream(self, cycle: int) -> bool:
        if self.begun == len(self.program):
            return False
        step, plane = self.program[self.begun], len(self.lives)
        opener = self._opener(step)
        can = self.begun == 0 or self.program[self.begun - 1].streamed(cycle)
        can = can and self._arrived(step.task, opener.number, opener.read_bits, cycle)
        if step.plane is not None:
            can = can and plane < len(self.shifts)
            can = can and self.shifts[plane] + self.array.rows <= cycle
        if self.array.dataflow != "weight_stationary":
            tiles = sum(s.tile is not None for s in self.program[: self.begun + 1])
            can = can and tiles <= len(self.fetched) and self.fetched[tiles - 1] <= cycle
        if self.array.dataflow == "output_stationary" and self.serial:
            can = can and self._fold_over(step, cycle)
        elif step.drains:  # the plane before must have left row by row before this one follows
            before = [s.ends for s in self.program[: self.begun] if s.drains]
            for end in before[-1:]:
                assert end is not None
                can = can and cycle + len(step.feed) >= end + self.array.rows
        if not can:
            return False
        step.begin = cycle
        if step.releases:
            self.slots.append(cycle + len(step.feed))
        if self.serial and step.closes:  # SCALE-Sim counts to the number of the last cycle
            step.drained = cycle + len(step.feed) + self.array.rows + self.array.cols - 3
        if step.plane is not None:
            self.lives.append(cycle)
        self.begun += 1
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
                    # a piece of the reduction whose psums stay has nothing to drain
                    (_over(step.drained, cycle) or (step.psums_left == 0 and step.drained is None))
                    and self._written(index, step.number, step.write_bits, cycle)
                    for step in reversed(self.plans[index])  # the last one is rarely over
                    if step.closes or not self.serial
                )
            if done:
                self.ends[index] = cycle
                changed = True
        return changed

    def run(self) -> Outcome:
        cycle = 0
        while True:
            while any([  # a list: every machine gets its turn
                *(self._begin_transfers(channel, cycle, cycle) for channel in self.channels),
                self._settle_vector(cycle), self._settle_stream(cycle),
                self._settle_shift(cycle), self._settle_ends(cycle),
            ]):  # fmt: skip
                pass
            if len(self.ends) == len(self.tasks):
                break
            for channel in self.channels:
                self._run_channel(channel, cycle)
            self.datapath.run(cycle, self.begun, self.shifts)
            cycle += 1
        for _ in range(2 if self.serial else 0):  # the last cycles that SCALE-Sim does not count
            self.datapath.run(cycle, self.begun, self.shifts)
            cycle += 1
        assert all(step.psums_left == 0 for step in self.program)
        self.out.ends = [self.ends[i] for i in range(len(self.tasks))]
        self.out.weight_dram_bits = self.weights.moved_bits["tile"]
        self.out.activation_dram_bits = sum(
            bits
            for channel in self.channels
            for kind, bits in channel.moved_bits.items()
            if kind != "tile"
        )
        return self.out


def run_reference(
    tasks: Sequence[GemmTask | VectorWork],
    array: SystolicArray,
    width: OperandWidth,
    weights: Link,
    activations: Link | None,
) -> Outcome:
    """Run layers in program order; ofmaps, times and traffic. activations None: one channel."""
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
