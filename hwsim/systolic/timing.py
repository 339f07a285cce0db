"""Fast timing of a weight-stationary array: a max-plus recurrence over folds.

Three machines work in order and wait for each other: the fetch of weight tiles into a FIFO, the
shift of a tile into the shadow plane, and the array that streams pixels through the live plane.

    fetch[m] ends   max(fetch[m-1] ends, shift[m-depth] ends) + transfer
    shift[m] begins max(fetch[m] ends, stream of tile m-1 begins, shift[m-1] ends)
    stream[i] begins max(stream[i-1] ends, shift ends, ifmap is there)

The shadow plane is free as soon as its tile goes live, which happens PE by PE in a wave behind
the first streamed row; the shift follows in the same wave, so both cost nothing but their order.
A layer's ifmap is there when its producers' last psums have left the array. `reference.py` moves
real values through the same machine one cycle at a time and must agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwsim.accelerator import SystolicArray
from hwsim.dram import Link


@dataclass(frozen=True)
class Step:
    """One fold and chunk on the array.

    stream_cycles: rows streamed times the operand-width factor. cols: columns in use.
    fetch_bits: bits of its weight tile in DRAM; None when the tile is already live.
    from_chip: the tile comes from an on-chip buffer, one row a cycle (a product of activations).
    read_bits, write_bits: ifmap and ofmap bits that cross the activation channel.
    """

    stream_cycles: int
    cols: int
    fetch_bits: int | None
    from_chip: bool = False
    read_bits: int = 0
    write_bits: int = 0


@dataclass(frozen=True)
class ArrayTask:
    """A layer on the array. after: positions of the tasks that produce what it reads."""

    after: tuple[int, ...]
    steps: Sequence[Step]


@dataclass(frozen=True)
class VectorTask:
    """A layer on the vector unit: read what is off chip, work, write what must leave."""

    after: tuple[int, ...]
    cycles: int
    read_bits: int = 0
    write_bits: int = 0


Task = ArrayTask | VectorTask


def finish_cycles(
    tasks: Sequence[Task], array: SystolicArray, weights: Link, activations: Link
) -> list[int]:
    """Cycle at which each task's last result is where it belongs, in program order.

    weights, activations: the DRAM channels. Shift and stream obey `array.schedule`.
    """
    machine = _Machine(array, weights, activations)
    ends: list[int] = []
    for task in tasks:
        ready = max((ends[i] for i in task.after), default=0)
        if isinstance(task, VectorTask):
            ends.append(machine.run_vector(task, ready))
        else:
            ends.append(machine.run_array(task, ready))
    return ends


class _Machine:
    """State of the recurrence between steps; times in cycles, link times in ticks."""

    def __init__(self, array: SystolicArray, weights: Link, activations: Link) -> None:
        self.array, self.weights, self.activations = array, weights, activations
        self.serial = array.schedule == "serial"
        self.fetch_end = 0  # ticks of the weight channel
        self.shift_ends: list[int] = []  # one a tile
        self.shadow_free = 0  # when the tile before went live
        self.stream_end = 0
        self.fold_done = 0  # serial: when the fold before has left the array
        self.transfer_end = 0  # ticks of the activation channel
        self.vector_end = 0

    def transfer(self, bits: int, ready: int) -> int:
        """Queue a transfer on the activation channel; returns the cycle at which it is over."""
        if bits == 0:
            return ready
        link = self.activations
        self.transfer_end = max(self.transfer_end, ready * link.ticks_per_cycle) + link.ticks(bits)
        return link.cycle(self.transfer_end)

    def run_vector(self, task: VectorTask, ready: int) -> int:
        begin = max(self.transfer(task.read_bits, ready), self.vector_end)
        self.vector_end = begin + task.cycles
        return self.transfer(task.write_bits, self.vector_end)

    def run_array(self, task: ArrayTask, ready: int) -> int:
        array, steps = self.array, task.steps
        end = ready
        arrived = self.transfer(steps[0].read_bits, ready) if steps else ready
        before_end = ready  # end of the stream that frees the next ifmap staging buffer
        for i, step in enumerate(steps):
            begin = max(self.stream_end, arrived)
            if step.fetch_bits is not None:
                begin = max(begin, self._load(step, ready))
                self.shadow_free = begin
            self.stream_end = begin + step.stream_cycles
            # the last psum of the last column in use has passed all rows
            drained = self.stream_end + array.rows - 1 + step.cols - 1
            if self.serial:  # SCALE-Sim waits for all columns and counts from cycle 0 to the last
                self.fold_done = self.stream_end + array.rows - 1 + array.cols - 1
                drained = self.fold_done - 1
            if i + 1 < len(steps):
                arrived = self.transfer(steps[i + 1].read_bits, before_end)
            before_end = self.stream_end
            end = max(end, self.transfer(step.write_bits, drained))
        self.fold_done = end  # serial: the next layer counts from there
        return end

    def _load(self, step: Step, ready: int) -> int:
        """Fetch and shift the step's tile; returns the first cycle at which it can go live."""
        assert step.fetch_bits is not None
        link, rows, shifts = self.weights, self.array.rows, self.shift_ends
        slot_free = 0
        if len(shifts) >= self.array.weight_fifo_tiles:
            slot_free = shifts[-self.array.weight_fifo_tiles]
        if step.from_chip:
            slot_free = max(slot_free, ready)
            ticks = rows * link.ticks_per_cycle
        else:
            ticks = link.ticks(step.fetch_bits)
        self.fetch_end = max(self.fetch_end, slot_free * link.ticks_per_cycle) + ticks
        begin = max(link.cycle(self.fetch_end), self.shadow_free, shifts[-1] if shifts else 0)
        if self.serial:
            begin = max(begin, self.fold_done, ready)
        shifts.append(begin + rows)
        return shifts[-1]
