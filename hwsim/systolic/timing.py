"""Fast timing of a systolic array: a max-plus recurrence over folds.

Machines work in order and wait for each other: the fetch of weight tiles into a FIFO, the load of
a stationary plane, the array that streams rows through its live plane, and the drain of psums. A
tile is at most rows x cols weights; a FIFO slot is free again once its tile has left.

Weight stationary: a tile is shifted into the shadow plane and goes live there.

    fetch[m] ends     max(fetch[m-1] ends, slot of tile m-depth free) + transfer
    shift[m] begins   max(fetch[m] ends, stream of tile m-1 begins, shift[m-1] ends)
    stream[i] begins  max(stream[i-1] ends, shift ends, ifmap is there)
    slot of m free    shift[m] ends

Input stationary: the transposed product. Tiles of ifmap are shifted into the shadow plane straight
from their buffer; a row that streams is one filter, which takes the time of its own width.

    shift[m] begins   max(ifmap is there, stream of plane m-1 begins, shift[m-1] ends)
    stream[i] begins  max(stream[i-1] ends, shift ends, fetch of its tile ends)
    slot free         the last stream of its tile ends

Output stationary: both operands stream, the reduction in pieces of a tile, and psums stay. A
finished plane of psums moves to a shadow plane, in a wave behind the last operands, and is drained
down the columns, one row a cycle, beside the next plane's streams. It must be out before that one
is finished.

    stream[i] begins  max(stream[i-1] ends, fetch of its tile ends, ifmap is there,
                          for a last piece: last piece before ends + rows - its own cycles)
    slot free         the last stream of its tile ends

The shadow plane is free as soon as its plane goes live, which happens PE by PE in a wave behind
the first streamed row; the shift follows in the same wave, so both cost nothing but their order.
A layer's ifmap is there when its producers' last psums have left the array.

In the serial schedule a fold begins when the one before has left all columns, and a layer ends one
cycle before its last fold: SCALE-Sim (Samajdar et al., ISPASS 2020) reports the number of the last
cycle, counted from 0. Its output-stationary fold leaves no time for draining.

DRAM channels serve their transfers in one fixed order, each as soon as what it waits for allows;
whoever comes later waits. That is the order in which steps need them: a step's turn fetches the
tile of the next step (also of the next layer), stages the ifmap of the next chunk when the step is
the first of its own, and writes the ofmap that the step finishes. With one channel for both
operands all of these queue there; with a channel each, the tiles have theirs. A fixed order keeps
times monotone: nothing that comes earlier can make anything end later.

`reference.py` moves real values through the same machine one cycle at a time and must agree
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.accelerator import SystolicArray
from hwsim.dram import Link
from hwsim.systolic.scan import Frontier, scan_layer
from hwsim.systolic.steps import Step, StepTable

SCAN_FROM = 96  # steps of a layer from which scans are faster than going step by step


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
    tasks: Sequence[Task],
    array: SystolicArray,
    weights: Link,
    activations: Link | None,
    later: Callable = max,
    scan_from: int = SCAN_FROM,
) -> list[int]:
    """Cycle at which each task's last result is where it belongs, in program order.

    weights, activations: the DRAM channels; activations None: they cross the weights' channel.
    Dataflow and schedule are the array's. later: the later of two times; `numpy.maximum` where the
    links' times are integer arrays with one entry per design point, as then all times are.
    scan_from: layers of so many steps, kept as a `StepTable`, are solved at once where `scan.py`
    can; it changes no result.
    """
    machine = _Machine(array, weights, activations, later, scan_from)
    following: list[Step | None] = []  # first step of the next task that has any
    first: Step | None = None
    for task in reversed(tasks):
        following.append(first)
        if isinstance(task, ArrayTask) and task.steps:
            first = task.steps[0]
    ends: list[int] = []
    for task, after in zip(tasks, reversed(following), strict=True):
        ready = 0
        for i in task.after:
            ready = later(ready, ends[i])
        if isinstance(task, VectorTask):
            ends.append(machine.run_vector(task, ready))
        else:
            ends.append(machine.run_array(task, ready, after))
    return ends


class _Channel:
    """A DRAM channel in its fixed order; times in ticks."""

    def __init__(self, link: Link, later: Callable) -> None:
        self.link, self.later = link, later
        self.end = 0
        self.writing: bool | None = None  # direction of the transfer before

    def transfer(self, bits: int, ready: int, writing: bool) -> int:
        """Queue a transfer; returns the tick at which it is over."""
        free = self.end
        if self.writing is not None and self.writing != writing:
            free = free + self.link.turnaround
        self.writing = writing
        self.end = self.later(free, ready) + self.link.ticks(bits)
        return self.end


class _Machine:
    """State of the recurrence between steps; times in cycles unless they say ticks."""

    def __init__(
        self,
        array: SystolicArray,
        weights: Link,
        activations: Link | None,
        later: Callable,
        scan_from: int,
    ) -> None:
        self.array, self.later, self.scan_from = array, later, scan_from
        self.serial = array.schedule == "serial"
        self.weights = _Channel(weights, later)
        self.activations = self.weights if activations is None else _Channel(activations, later)
        self.fetched = 0  # tiles
        self.fetch_end = 0  # ticks of the weights' link
        self.tile_there = 0  # when the tile fetched last is whole
        self.slots: list[int] = []  # when each tile's slot is free again
        self.shift_end = 0
        self.shadow_free = 0  # when the plane before went live
        self.stream_end = 0
        self.fold_done = 0  # serial: when the fold before has left the array
        # output stationary: end of the stream that finished the plane before
        self.plane_done = -array.rows
        self.vector_end = 0
        self.early: Step | None = None  # next task's first step, when its tile is on its way

    def transfer(self, bits: int, ready: int, writing: bool) -> int:
        """Queue a transfer of activations; returns the cycle at which it is over."""
        if bits == 0:
            return ready
        link = self.activations.link
        return link.cycle(self.activations.transfer(bits, ready * link.ticks_per_cycle, writing))

    def run_vector(self, task: VectorTask, ready: int) -> int:
        begin = self.later(self.transfer(task.read_bits, ready, False), self.vector_end)
        self.vector_end = begin + task.cycles
        return self.transfer(task.write_bits, self.vector_end, True)

    def run_array(self, task: ArrayTask, ready: int, following: Step | None) -> int:
        """following: the first step of the next task on the array, whose tile may come early."""
        later, steps = self.later, task.steps
        if not steps:
            return ready
        if self.early is None:
            self._fetch(steps[0], ready)
        self.early = None
        arrived = self.transfer(steps[0].read_bits, ready, False)
        if isinstance(steps, StepTable) and len(steps) >= self.scan_from:
            if following is not None and not following.from_chip:
                self.early = following
            scanned = self._scan(steps, ready, arrived)
            if scanned is not None:
                return scanned
            self.early = None
        openers = iter([step for step in steps if step.opens][1:])
        staged = arrived  # when the ifmap of the next chunk is there
        end, last = ready, len(steps) - 1
        for i, step in enumerate(steps):
            if step.opens:
                arrived = staged
            before_end = self.stream_end
            drained = self._stream(step, arrived, ready)
            if i < last:
                self._fetch(steps[i + 1], ready)
            elif following is not None and not following.from_chip:
                self._fetch(following, 0)
                self.early = following
            if step.opens:
                # of two staging buffers, the chunk before has freed one
                opener = next(openers, None)
                if opener is not None:
                    freed = ready if i == 0 else before_end
                    staged = self.transfer(opener.read_bits, freed, False)
            end = later(end, self.transfer(step.write_bits, drained, True))
        self.fold_done = end  # serial: the next layer counts from there
        return end

    def _scan(self, table: StepTable, ready: int, arrived: int) -> int | None:
        """`run_array` at once, where that works; changes nothing where it does not."""
        weights, activations, depth = self.weights, self.activations, self.array.weight_fifo_tiles
        fetch = [] if self.early is None else [self.early.fetch_bits or 0]
        bits = np.append(table.tiles[1:], np.array(fetch, dtype=np.int64))
        crosses = len(bits) > 0 and bool(bits.all())
        shared = weights is activations
        if (
            self.serial
            or self.array.dataflow != "weight_stationary"
            or table.from_chip
            or bool(bits.any()) != crosses  # some tiles are on chip
            or (shared and (table.read_bits.any() or table.write_bits.any()))
        ):
            return None
        fetch_end = self.fetch_end
        if crosses:
            free = weights.end + (weights.link.turnaround if weights.writing else 0)
            fetch_end = self.later(fetch_end, free)
        points = len(np.atleast_1d(weights.link.ticks_per_cycle))
        found = scan_layer(
            table,
            self.early,
            ready,
            arrived,
            (weights.link, activations.link),
            (self.array.rows, depth, points),
            Frontier(
                self.stream_end, self.shift_end, self.shadow_free, self.tile_there, fetch_end,
                activations.end, activations.writing, self.slots[-depth:],
            ),
        )  # fmt: skip
        if found is None:
            return None

        def plain(times: Any) -> Any:
            return int(np.asarray(times).flat[0]) if self.later is max else times

        end, left = found
        self.stream_end, self.shift_end = plain(left.stream_end), plain(left.shift_end)
        self.shadow_free, self.tile_there = plain(left.shadow_free), plain(left.tile_there)
        shifted = int(table.new_plane.sum())
        self.fetched += len(bits)
        if len(bits):
            self.fetch_end = plain(left.fetch_end)
        # only the last ones are asked for again
        self.slots += [0] * max(0, shifted - depth)
        self.slots += [plain(slot) for slot in left.slots[-min(shifted, depth) :]]
        if not shared:
            activations.end, activations.writing = plain(left.activations_end), left.writing
        if crosses:
            weights.end, weights.writing = self.fetch_end, False
        return plain(end)

    def _stream(self, step: Step, arrived: int, ready: int) -> int:
        """One step; returns the cycle at which its results have left the array. arrived: when its
        ifmap is there; ready: when all that its layer reads has been produced."""
        later, rows, cols = self.later, self.array.rows, self.array.cols
        output_stationary = self.array.dataflow == "output_stationary"
        begin = later(self.stream_end, arrived)
        if self.serial:
            begin = later(begin, self.fold_done)
        if step.new_plane:
            begin = later(begin, self._shift(step, arrived, ready))
        if self.array.dataflow != "weight_stationary":
            begin = later(begin, self.tile_there)
        if output_stationary and step.closes and not self.serial:
            begin = later(begin, self.plane_done + rows - step.stream_cycles)
        if step.new_plane:
            self.shadow_free = begin
        self.stream_end = begin + step.stream_cycles
        if step.releases:
            self.slots.append(self.stream_end)
        if self.serial:
            if step.closes:  # SCALE-Sim waits for all columns
                self.fold_done = self.stream_end + rows - 1 + cols - 1
            return self.fold_done - 1
        # the last psum of the last column in use has passed all rows
        drained = self.stream_end + rows - 1 + step.cols - 1
        if output_stationary and step.closes:
            self.plane_done = self.stream_end
            return drained + rows
        return drained

    def _shift(self, step: Step, arrived: int, ready: int) -> int:
        """Shift a stationary plane in; returns the first cycle at which it can go live."""
        weight_stationary = self.array.dataflow == "weight_stationary"
        begin = self.later(self.shadow_free, self.shift_end)
        begin = self.later(begin, self.tile_there if weight_stationary else arrived)
        if self.serial:
            begin = self.later(begin, self.later(self.fold_done, ready))
        self.shift_end = begin + self.array.rows
        if weight_stationary:
            self.slots.append(self.shift_end)
        return self.shift_end

    def _fetch(self, step: Step, ready: int) -> None:
        """Bring the step's tile into the FIFO, if it brings one. ready: its task's inputs are."""
        if step.fetch_bits is None:
            return
        link, later, depth = self.weights.link, self.later, self.array.weight_fifo_tiles
        free = self.slots[self.fetched - depth] if self.fetched >= depth else 0
        self.fetched += 1
        if step.from_chip:
            free = later(free, ready)
            begin = later(self.fetch_end, free * link.ticks_per_cycle)
            self.fetch_end = begin + step.tile_rows * link.ticks_per_cycle
        else:  # no bits: the weights are on chip
            begin = later(self.fetch_end, free * link.ticks_per_cycle)
            bits = step.fetch_bits
            self.fetch_end = self.weights.transfer(bits, begin, False) if bits else begin
        self.tile_there = link.cycle(self.fetch_end)
