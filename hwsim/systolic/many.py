"""Many systolic design points at once: what they share is worked out once.

Design points whose arrays cut the layers alike share the cuts. Of those, points that keep the same
tensors on chip run the same program, and differ in nothing but the speed of their channels: the
program's traffic, storage and energy are counted once, and its recurrence runs once over vectors
with one entry a point (`timing.finish_cycles`). A few points, or times that might outgrow 64 bits,
take the plain recurrence. Every result is exactly that of `simulate`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hwsim.accelerator import Accelerator, SystolicArray
from hwsim.bits import BitWidths
from hwsim.dram import Link
from hwsim.graph import LayerGraph
from hwsim.stats import LayerStats
from hwsim.systolic.costs import layer_rows
from hwsim.systolic.folds import ColumnOrder
from hwsim.systolic.planner import Planner, channel_links
from hwsim.systolic.scan import LARGEST
from hwsim.systolic.simulate import check, column_orders, run
from hwsim.systolic.steps import StepTable
from hwsim.systolic.timing import ArrayTask, Task, VectorTask

FEW = 4  # points that the plain recurrence runs faster one by one
SCAN_FROM = 16  # steps of a layer from which scans are faster, with a vector of points
SLICE = 128  # points a vector at most
CELLS = 1 << 21  # steps of a layer times points: 16 MiB for each of a dozen arrays of times


class LayerPoint(NamedTuple):
    """What one layer costs at one design point, for the whole batch; see `stats.LayerStats`."""

    name: str
    cycles: int
    stall_cycles: int
    dram_read_bits: int
    dram_write_bits: int
    energy_pj: float

    @classmethod
    def of(cls, row: LayerStats) -> LayerPoint:
        return cls(*(getattr(row, name) for name in cls._fields))


@dataclass(frozen=True)
class PointStats:
    """What one design point costs, for the whole batch; see `stats.NetworkStats`.

    required_bits: of each memory, the most that any layer needs. layers: in execution order,
    empty unless asked for.
    """

    cycles: int
    stall_cycles: int
    dram_read_bits: int
    dram_write_bits: int
    energy_pj: float
    required_bits: dict[str, int]
    residency_gap_bits: int
    layers: tuple[LayerPoint, ...] = ()


def groups(accelerators: Sequence[Accelerator]) -> list[list[int]]:
    """Positions of accelerators that cut layers alike, in groups; those with most steps first."""
    found: dict[Hashable, list[int]] = {}
    for i, accelerator in enumerate(accelerators):
        found.setdefault(_cut_key(accelerator), []).append(i)
    return sorted(found.values(), key=lambda group: accelerators[group[0]].array.pes)


def simulate_group(
    graph: LayerGraph,
    accelerators: Sequence[Accelerator],
    bits: BitWidths,
    batch: int,
    per_layer: bool = False,
) -> list[PointStats]:
    """Results of accelerators that cut layers alike, in their order (one of `groups`).

    Raises ValueError as `simulate` does.
    """
    check(graph, accelerators[0], bits, batch)
    array = accelerators[0].array
    assert isinstance(array, SystolicArray)
    best: list[tuple[int, PointStats] | None] = [None] * len(accelerators)
    for order in column_orders(graph, array, bits):
        for i, found in _in_order(graph, accelerators, bits, batch, order, per_layer):
            now = best[i]
            if now is None or found[0] < now[0]:  # the first of equal ones
                best[i] = found
    return [found[1] for found in best if found is not None]


def _in_order(
    graph: LayerGraph,
    accelerators: Sequence[Accelerator],
    bits: BitWidths,
    batch: int,
    order: ColumnOrder,
    per_layer: bool,
) -> Iterable[tuple[int, tuple[int, PointStats]]]:
    """Of each accelerator: the cycle at which all is over, and its results."""
    alike: dict[Hashable, list[int]] = {}
    for i, accelerator in enumerate(accelerators):
        alike.setdefault(_storage_key(accelerator), []).append(i)
    first: Planner | None = None
    programs: dict[Hashable, tuple[Planner, list[int]]] = {}
    for positions in alike.values():
        accelerator = accelerators[positions[0]]
        if first is None:
            planner = first = Planner(graph, accelerator, bits, batch, order)
        else:
            planner = first.on(accelerator)
        key = _program_key(accelerator, planner)
        programs.setdefault(key, (planner, []))[1].extend(positions)
    for planner, members in programs.values():
        links = [channel_links(accelerators[i]) for i in members]
        yield from zip(members, _run_program(planner, links, per_layer), strict=True)


def _cut_key(accelerator: Accelerator) -> Hashable:
    """What the cut of the layers depends on."""
    array = accelerator.array
    assert isinstance(array, SystolicArray)
    array = replace(array, mac_energy=0.0)
    if array.dataflow == "weight_stationary":  # the others keep tiles in the FIFO if they fit
        array = replace(array, weight_fifo_tiles=1)
    return array, accelerator.operand_width, accelerator.metadata.bits


# what only the speed depends on, or nothing at all
_OF_CHIP = {"name", "description", "source", "clock"}
_OF_CHANNEL = {"bandwidth", "turnaround"}


def _fields_but(noun: object, left_out: set[str]) -> tuple[object, ...]:
    return tuple(value for name, value in vars(noun).items() if name not in left_out)


def _storage_key(accelerator: Accelerator) -> Hashable:
    """An accelerator without names and without the speed of its clock and channels."""
    drams = tuple(_fields_but(dram, _OF_CHANNEL) for dram in accelerator.dram)
    return _fields_but(accelerator, _OF_CHIP | {"dram"}), drams


def _program_key(accelerator: Accelerator, planner: Planner) -> Hashable:
    """The same without capacities, but with what follows from them for the program."""
    drams = tuple(_fields_but(dram, _OF_CHANNEL) for dram in accelerator.dram)
    memories = tuple(_fields_but(memory, {"capacity"}) for memory in accelerator.memory)
    ifmap = planner.buffer
    return (
        _fields_but(accelerator, _OF_CHIP | {"dram", "memory"}),
        drams,
        memories,
        planner.residency.order,
        planner.residency.resident,
        planner.residency.gap_bits,
        planner.weights_stay is not None,
        # a buffer that keeps no tensors may hold the whole ifmap of some layers
        None if ifmap.keeps_tensors else ifmap.capacity,
    )


def _run_program(
    planner: Planner, links: Sequence[tuple[Link, Link]], per_layer: bool
) -> Iterable[tuple[int, PointStats]]:
    plans = planner.plan_all()
    last = [planner.ends[layer.name] for layer in planner.layers]
    untimed = [0] * len(plans)
    rows = list(layer_rows(planner, plans, untimed, untimed))
    costs = _count(planner, rows)
    free = np.array([run(planner, None)])
    work = _work(planner.tasks, planner)
    vectors = [i for i, pair in enumerate(links) if _latest(work, pair) <= LARGEST]
    ends = np.zeros((len(links), len(planner.tasks)), dtype=np.int64)
    if len(vectors) < FEW:
        vectors = []
    longest = max((len(t.steps) for t in planner.tasks if isinstance(t, ArrayTask)), default=1)
    together = max(1, min(SLICE, CELLS // longest))
    for start in range(0, len(vectors), together):
        part = vectors[start : start + together]
        stacked = _stacked([links[i][0] for i in part]), _stacked([links[i][1] for i in part])
        times = run(planner, stacked, np.maximum, scan_from=SCAN_FROM)
        ends[part] = np.array([np.broadcast_to(t, len(part)) for t in times]).T
    for i in set(range(len(links))) - set(vectors):
        found = run(planner, links[i])
        if max(found) > LARGEST:
            raise ValueError(
                f"accelerator {planner.accelerator.name!r}: the network takes {max(found)} cycles, "
                f"more than the {LARGEST} that a table holds; give its DRAM more bandwidth"
            )
        ends[i] = found
    over, free_over = (
        np.maximum.accumulate(
            np.stack([times[:, list(tasks)].max(axis=1) for tasks in last], axis=1), axis=1
        )
        for times in (ends, free)
    )
    # the delay behind the free run that no later layer makes good, as in `simulate_network`
    lasting = np.minimum.accumulate((over - free_over)[:, ::-1], axis=1)[:, ::-1]
    for done, total, delay in zip(ends.max(axis=1).tolist(), over, lasting, strict=True):
        layers: tuple[LayerPoint, ...] = ()
        if per_layer:
            taken, stalled = (np.diff(t, prepend=0).tolist() for t in (total, delay))
            layers = tuple(
                LayerPoint.of(row)._replace(cycles=cycles, stall_cycles=stalls)
                for row, cycles, stalls in zip(rows, taken, stalled, strict=True)
            )
        cycles, stalls = int(total[-1]), int(delay[-1])
        yield done, replace(costs, cycles=cycles, stall_cycles=stalls, layers=layers)


def _count(planner: Planner, rows: Sequence[LayerStats]) -> PointStats:
    """All that does not depend on time."""
    return PointStats(
        cycles=0,
        stall_cycles=0,
        dram_read_bits=sum(row.dram_read_bits for row in rows),
        dram_write_bits=sum(row.dram_write_bits for row in rows),
        energy_pj=sum(row.energy_pj for row in rows),
        required_bits={
            memory.name: max(row.required_bits[memory.name] for row in rows)
            for memory in planner.accelerator.memory
        },
        residency_gap_bits=planner.residency.gap_bits,
    )


def _work(tasks: Sequence[Task], planner: Planner) -> tuple[int, int, int]:
    """Cycles of everything on the array and the vector unit one after the other, and the bursts
    and transfers of both channels together."""
    array, (weights, activations) = planner.array, channel_links(planner.accelerator)
    cycles = bursts = transfers = 0
    for task in tasks:
        if isinstance(task, VectorTask):
            cycles += task.cycles
            bursts += activations.bursts(task.read_bits) + activations.bursts(task.write_bits)
            transfers += 2
            continue
        table = task.steps
        assert isinstance(table, StepTable)
        cycles += int(table.stream_cycles.sum() + table.tile_rows.sum())
        cycles += len(table) * (4 * array.rows + 2 * array.cols)
        bursts += int(weights.bursts(table.tiles).sum())
        bursts += int(activations.bursts(table.read_bits).sum())
        bursts += int(activations.bursts(table.write_bits).sum())
        transfers += 3 * len(table)
    return cycles, bursts, transfers


def _latest(work: tuple[int, int, int], links: tuple[Link, Link]) -> int:
    """A tick that nothing can come after: all work and all transfers one after the other."""
    cycles, bursts, transfers = work
    for link in links:
        ticks = bursts * link.ticks_per_burst + transfers * link.turnaround
        cycles += ticks // link.ticks_per_cycle + transfers + 1
    return 2 * cycles * max(link.ticks_per_cycle for link in links)


def _stacked(links: Sequence[Link]) -> Link:
    """One link whose times have an entry per design point; bursts are alike."""
    times = (
        np.array([getattr(link, name) for link in links], dtype=np.int64)
        for name in ("ticks_per_burst", "ticks_per_cycle", "turnaround")
    )
    # the fields of a Link stand for numbers; arrays of them work wherever `later` is given
    return Link(links[0].burst_bits, *times)  # type: ignore[arg-type]
