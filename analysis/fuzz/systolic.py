"""Small layers on small systolic arrays: the recurrence against the machine that moves values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.model import same
from hwsim.accelerator import Dataflow, OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.systolic.reference import run_reference
from hwsim.systolic.reference_steps import GemmTask, VectorWork
from hwsim.systolic.schedule import LayerSchedule, schedule_layer
from hwsim.systolic.timing import ArrayTask, Task, VectorTask, finish_cycles

NEVER = 10**9  # steps from which layers are solved at once


@dataclass(frozen=True)
class SystolicCase:
    """Layers in program order on an array. activations None: one channel for both operands."""

    array: SystolicArray
    width: OperandWidth
    weights: Link
    activations: Link | None
    tasks: tuple[GemmTask | VectorWork, ...]

    def schedules(self) -> list[LayerSchedule | None]:
        """Of each layer; None of vector work."""
        return [
            schedule_of(task, self.array, self.width) if isinstance(task, GemmTask) else None
            for task in self.tasks
        ]

    def fast(self) -> list[Task]:
        """The same layers for the fast model."""
        found: list[Task] = []
        for task, schedule in zip(self.tasks, self.schedules(), strict=True):
            if isinstance(task, VectorWork):
                cycles = -(-task.operations // task.lanes)
                found.append(VectorTask(task.after, cycles, task.read_bits, task.write_bits))
            else:
                assert schedule is not None
                steps = schedule.timing_steps(task.from_chip, task.read_bits, task.write_bits)
                found.append(ArrayTask(task.after, steps))
        return found


def schedule_of(task: GemmTask, array: SystolicArray, width: OperandWidth) -> LayerSchedule:
    groups, pixels, reduction = task.ifmap.shape
    gemm = Gemm(groups, task.pixels_per_image, reduction, task.weight.shape[2])
    return schedule_layer(
        gemm, task.widths, task.activation_bits, pixels, array, width, task.metadata_bits,
        task.order,
    )  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn, dataflow: Dataflow, schedule: str) -> SystolicArray:
    return SystolicArray(
        rows=draw(st.integers(1, 5)),
        cols=draw(st.integers(1, 5)),
        schedule=schedule,  # type: ignore[arg-type]
        weight_fetch=draw(st.sampled_from(["packed", "whole_tiles"])),
        weight_fifo_tiles=draw(st.integers(1, 4)),
        accumulator_rows=draw(st.integers(2, 9)),
        accumulator_bits=32,
        mac_energy=1.0,
        dataflow=dataflow,
    )


@st.composite
def links(draw: st.DrawFn) -> Link:
    """From far slower than the array to infinitely fast, mostly with a fractional burst time."""
    ticks_per_cycle = draw(st.integers(1, 12))
    return Link(
        burst_bits=draw(st.sampled_from([8, 24, 64])),
        ticks_per_burst=draw(st.integers(0, 3 * ticks_per_cycle)),
        ticks_per_cycle=ticks_per_cycle,
        turnaround=draw(st.sampled_from([0, 0, 1, 17])),
    )


widths_of_pe = st.builds(
    OperandWidth,
    rule=st.just("fixed"),
    weight_bits=st.sampled_from([3, 8]),
    activation_bits=st.sampled_from([3, 8]),
) | st.builds(OperandWidth, st.sampled_from(["bit_fusion", "stripes", "unpu", "loom"]))


@st.composite
def layers(
    draw: st.DrawFn, position: int, array: SystolicArray, width: OperandWidth
) -> GemmTask | VectorWork:
    """A layer that may read from the `position` ones before it."""
    earlier = st.integers(0, position - 1) if position else st.nothing()
    after = tuple(draw(st.lists(earlier, max_size=2))) if position else ()
    if draw(st.integers(0, 4)) == 0:
        reads, writes = draw(st.sampled_from([0, 0, 13, 90])), draw(st.sampled_from([0, 0, 70]))
        operations, lanes = draw(st.integers(0, 40)), draw(st.integers(1, 8))
        return VectorWork(operations, lanes, after, reads, writes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, pixels = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    reduction, columns = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    activation_bits = draw(st.integers(1, 9))
    widths = rng.integers(0 if draw(st.booleans()) else 1, 10, (groups, columns))
    limit = 2 ** np.maximum(widths - 1, 0)[:, None, :]
    weight = rng.integers(-limit, limit, (groups, reduction, columns)) * (widths > 0)[:, None, :]
    ifmap = rng.integers(
        -(2 ** (activation_bits - 1)), 2 ** (activation_bits - 1), (groups, pixels, reduction)
    )
    ifmap_bits = draw(st.sampled_from([None, 5, 60]))  # of the first turn, where it is spilled
    ofmap_bits = draw(st.sampled_from([None, 7, 80]))
    task = GemmTask(
        ifmap=ifmap,
        weight=weight,
        widths=widths,
        activation_bits=activation_bits,
        after=after,
        metadata_bits=draw(st.sampled_from([0, 20])),
        from_chip=draw(st.integers(0, 5)) == 0,
        order=draw(st.sampled_from(["as_given", "widest_first", "narrowest_first"])),
        pixels_per_image=pixels,
    )
    schedule = schedule_of(task, array, width)
    turns = range(len(schedule.blocks.cols) * -(-pixels // schedule.chunk_rows))
    return replace(
        task,
        read_bits=None if ifmap_bits is None else [ifmap_bits + 3 * turn for turn in turns],
        write_bits=None if ofmap_bits is None else [ofmap_bits + 3 * turn for turn in turns],
    )


@st.composite
def cases(draw: st.DrawFn, dataflow: Dataflow, schedule: str) -> SystolicCase:
    array, width = draw(arrays(dataflow, schedule)), draw(widths_of_pe)
    tasks = [draw(layers(i, array, width)) for i in range(draw(st.integers(1, 3)))]
    return SystolicCase(array, width, draw(links()), draw(st.none() | links()), tuple(tasks))


def moved(link: Link, tasks: Sequence[Task]) -> tuple[int, int]:
    """Bits on the weight and the activation channel, from the fast model's steps."""
    weights = activations = 0
    for task in tasks:
        for step in task.steps if isinstance(task, ArrayTask) else [task]:
            activations += link.moved_bits(step.read_bits) + link.moved_bits(step.write_bits)
            if isinstance(step, VectorTask) or step.fetch_bits is None or step.from_chip:
                continue
            weights += link.moved_bits(step.fetch_bits)
    return weights, activations


def check(case: SystolicCase) -> None:
    """Times, traffic on and off chip, and the values that the reference's ofmap has."""
    fast = case.fast()
    outcome = run_reference(case.tasks, case.array, case.width, case.weights, case.activations)
    for position, task in enumerate(case.tasks):
        if isinstance(task, GemmTask):
            same(f"ofmap {position}", task.ifmap @ task.weight, outcome.ofmaps[position])
    ends = finish_cycles(fast, case.array, case.weights, case.activations)
    same("ends of layers", ends, outcome.ends)
    at_once = finish_cycles(fast, case.array, case.weights, case.activations, scan_from=1)
    same("ends of layers solved at once", at_once, outcome.ends)
    same("weight bits", moved(case.weights, fast)[0], outcome.weight_dram_bits)
    same(
        "activation bits",
        moved(case.activations or case.weights, fast)[1],
        outcome.activation_dram_bits,
    )
    schedules = [schedule for schedule in case.schedules() if schedule is not None]
    same("ifmap values", sum(s.ifmap_values for s in schedules), outcome.ifmap_values)
    same("psum writes", sum(s.psum_writes for s in schedules), outcome.psum_writes)


# --- layers of many steps, which the reference would take too long for


@dataclass(frozen=True)
class ScanCase:
    """Layers of up to some hundred steps, between vector tasks."""

    array: SystolicArray
    weights: Link
    activations: Link | None
    tasks: tuple[Task, ...]


@st.composite
def programs(draw: st.DrawFn, array: SystolicArray) -> list[Task]:
    """Layers of up to some hundred steps, between vector tasks; some read and write DRAM."""
    width = OperandWidth("fixed", 8, 8)
    tasks: list[Task] = []
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    on_chip = draw(st.integers(0, 5)) == 0
    for position in range(draw(st.integers(1, 4))):
        after = tuple(range(max(0, position - draw(st.integers(0, 2))), position))
        if draw(st.integers(0, 3)) == 0:
            reads, writes = draw(st.sampled_from([0, 400])), draw(st.sampled_from([0, 400]))
            tasks.append(VectorTask(after, draw(st.integers(0, 90)), reads, writes))
            continue
        pixels, reduction = draw(st.integers(1, 30)), draw(st.integers(1, 30))
        groups, columns = draw(st.integers(1, 3)), draw(st.integers(1, 40))
        widths = rng.integers(0 if draw(st.booleans()) else 1, 17, (groups, columns))
        if draw(st.booleans()):
            widths[:] = 8
        gemm = Gemm(groups, pixels, reduction, columns)
        cut = schedule_layer(gemm, widths, 8, pixels, array, width, draw(st.sampled_from([0, 52])))
        if not len(cut.steps):
            tasks.append(VectorTask(after, 0))
            continue
        turns = len(cut.blocks.cols) * -(-pixels // cut.chunk_rows)
        bits = [
            (rng.integers(0, high, turns) if high else np.zeros(turns, dtype=int)).tolist()
            for high in (draw(st.sampled_from([0, 0, 300, 5000])) for _ in range(2))
        ]
        if on_chip:
            cut.fetch_bits[:] = 0
        tasks.append(ArrayTask(after, cut.timing_steps(draw(st.integers(0, 6)) == 0, *bits)))
    return tasks


@st.composite
def scan_cases(draw: st.DrawFn) -> ScanCase:
    array = draw(arrays("weight_stationary", "pipelined"))
    tasks = tuple(draw(programs(array)))
    return ScanCase(array, draw(links()), draw(links() | st.none()), tasks)


def check_scan(case: ScanCase) -> None:
    """Layers solved at once end when they end step by step."""
    ends = [
        finish_cycles(case.tasks, case.array, case.weights, case.activations, scan_from=limit)
        for limit in (1, NEVER)
    ]
    same("ends of layers", *ends)
    same("type of the ends", {type(end) for end in ends[0]}, {int})
