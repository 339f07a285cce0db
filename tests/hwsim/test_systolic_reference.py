"""The fast recurrence equals the machine that moves real values, exactly, whatever the shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.systolic.reference import reference_serial_fold, run_reference
from hwsim.systolic.reference_steps import GemmTask, VectorWork
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, Task, VectorTask, finish_cycles

DATAFLOWS = ["weight_stationary", "output_stationary", "input_stationary"]


@st.composite
def arrays(draw, dataflow: str, schedule: str) -> SystolicArray:
    return SystolicArray(
        rows=draw(st.integers(1, 5)),
        cols=draw(st.integers(1, 5)),
        schedule=schedule,
        weight_fetch=draw(st.sampled_from(["packed", "whole_tiles"])),
        weight_fifo_tiles=draw(st.integers(1, 4)),
        accumulator_rows=draw(st.integers(2, 9)),
        accumulator_bits=32,
        mac_energy=1.0,
        dataflow=dataflow,
    )


@st.composite
def links(draw) -> Link:
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
def layers(draw, position: int) -> tuple[GemmTask | VectorWork, dict]:
    earlier = st.integers(0, position - 1) if position else st.nothing()
    after = tuple(draw(st.lists(earlier, max_size=2))) if position else ()
    if draw(st.integers(0, 4)) == 0:
        reads, writes = draw(st.sampled_from([0, 0, 13, 90])), draw(st.sampled_from([0, 0, 70]))
        operations, lanes = draw(st.integers(0, 40)), draw(st.integers(1, 8))
        return VectorWork(operations, lanes, after, reads, writes), {}
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
    spill = {
        "read": draw(st.sampled_from([None, 5, 60])),
        "write": draw(st.sampled_from([None, 7, 80])),
    }
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
    return task, spill


@st.composite
def cases(draw, dataflow: str, schedule: str):
    array, width = draw(arrays(dataflow, schedule)), draw(widths_of_pe)
    count = draw(st.integers(1, 3))
    reference, fast, schedules = [], [], {}
    for position in range(count):
        task, spill = draw(layers(position))
        if isinstance(task, VectorWork):
            cycles = -(-task.operations // task.lanes)
            fast.append(VectorTask(task.after, cycles, task.read_bits, task.write_bits))
            reference.append(task)
            continue
        groups, pixels, reduction = task.ifmap.shape
        gemm = Gemm(groups, pixels, reduction, task.weight.shape[2])
        schedule = schedule_layer(
            gemm, task.widths, task.activation_bits, pixels, array, width, task.metadata_bits,
            task.order,
        )  # fmt: skip
        turns = len(schedule.blocks.cols) * -(-pixels // schedule.chunk_rows)
        per_turn = {
            key: None if bits is None else [bits + 3 * turn for turn in range(turns)]
            for key, bits in spill.items()
        }
        reference.append(
            GemmTask(
                **{
                    **vars(task),
                    "read_bits": per_turn["read"],
                    "write_bits": per_turn["write"],
                }
            )
        )
        steps = schedule.timing_steps(task.from_chip, per_turn["read"], per_turn["write"])
        fast.append(ArrayTask(task.after, steps))
        schedules[position] = schedule
    return array, width, reference, fast, schedules


def moved(link: Link, tasks: list[Task]) -> tuple[int, int]:
    """Bits on the weight and the activation channel, from the fast model's steps."""
    weights = activations = 0
    for task in tasks:
        steps = task.steps if isinstance(task, ArrayTask) else [task]
        for step in steps:
            activations += link.moved_bits(step.read_bits) + link.moved_bits(step.write_bits)
            if isinstance(task, ArrayTask) and step.fetch_bits is not None and not step.from_chip:
                weights += link.moved_bits(step.fetch_bits)
    return weights, activations


@pytest.mark.parametrize("schedule", ["pipelined", "serial"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@settings(max_examples=170)
@given(data=st.data(), weights=links(), activations=st.none() | links())
def test_fast_timing_and_traffic_equal_the_reference(
    dataflow, schedule, data, weights, activations
):
    array, width, reference, fast, schedules = data.draw(cases(dataflow, schedule))
    outcome = run_reference(reference, array, width, weights, activations)
    for position, task in enumerate(reference):
        if isinstance(task, GemmTask):
            assert np.array_equal(outcome.ofmaps[position], task.ifmap @ task.weight)
    assert finish_cycles(fast, array, weights, activations) == outcome.ends
    assert moved(weights, fast)[0] == outcome.weight_dram_bits
    assert moved(activations or weights, fast)[1] == outcome.activation_dram_bits
    assert sum(s.ifmap_values for s in schedules.values()) == outcome.ifmap_values
    assert sum(s.psum_writes for s in schedules.values()) == outcome.psum_writes


@given(
    pixels=st.integers(1, 6),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    reduction=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_serial_schedule_is_the_sum_of_its_folds(pixels, rows, cols, reduction, columns, seed):
    array = SystolicArray(rows, cols, "serial", "packed", 1, 1, 32, 1.0)
    rng = np.random.default_rng(seed)
    cycles = 0
    for first_row in range(0, reduction, rows):
        for _ in range(0, columns, cols):
            depth = min(rows, reduction - first_row)
            ifmap, weight = np.zeros((pixels, rows), int), np.zeros((rows, cols), int)
            ifmap[:, :depth] = rng.integers(-8, 8, (pixels, depth))
            weight[:depth] = rng.integers(-8, 8, (depth, cols))
            ofmap, fold_cycles = reference_serial_fold(ifmap, weight)
            assert np.array_equal(ofmap, ifmap @ weight)
            assert fold_cycles == 2 * rows + cols + pixels - 2
            cycles += fold_cycles
    gemm = Gemm(1, pixels, reduction, columns)
    widths = np.full((1, columns), 8)
    width = OperandWidth("fixed", 8, 8)
    schedule = schedule_layer(gemm, widths, 8, pixels, array, width, 0)
    tasks = [ArrayTask((), schedule.timing_steps())] * 2
    instant = Link(1, 0, 1)
    ends = finish_cycles(tasks, array, instant, instant)
    assert ends == [cycles - 1, 2 * (cycles - 1)]  # SCALE-Sim reports the last cycle's number


def test_hand_count_of_two_outputs_planes_on_a_2_by_2_array():
    # 4 pixels in two chunks, one filter pair, 3 places of the reduction in pieces of 2 and 1. The
    # tiles take 4 cycles each (32 bits at 8 a cycle) and 2 (16 bits): there at 4 and 6. Chunk 0
    # streams 4..6 and 6..7; chunk 1 from 7 to 10, kept tiles. The last psum is finished 1 + 1 later
    # in the last PE; the 2 rows leave in 2 more cycles
    array = SystolicArray(2, 2, "pipelined", "packed", 2, 8, 32, 1.0, dataflow="output_stationary")
    gemm = Gemm(1, 4, 3, 2)
    cut = schedule_layer(gemm, np.full((1, 2), 8), 8, 4, array, OperandWidth("fixed", 8, 8), 0)
    link = Link(burst_bits=8, ticks_per_burst=1, ticks_per_cycle=1)
    assert finish_cycles([ArrayTask((), cut.timing_steps())], array, link, link) == [10 + 2 + 2]


def test_hand_count_of_filters_that_stream_past_stationary_inputs():
    # the ifmap's 2 x 2 tile shifts in by 2; the filters of 8 and 16 bits are there at 6 (48 bits);
    # they take 1 and 2 cycles; then 1 down and 1 across
    array = SystolicArray(2, 2, "pipelined", "packed", 2, 8, 32, 1.0, dataflow="input_stationary")
    cut = schedule_layer(
        Gemm(1, 2, 2, 2), np.array([[8, 16]]), 8, 2, array, OperandWidth("fixed", 8, 8), 0
    )
    link = Link(burst_bits=8, ticks_per_burst=1, ticks_per_cycle=1)
    assert finish_cycles([ArrayTask((), cut.timing_steps())], array, link, link) == [6 + 3 + 2]


def test_hand_count_of_one_channel_that_turns_around():
    # read 0..2, work 2..5, turn (the channel has been quiet for 3 of 7) until 9, write 9..11
    link = Link(burst_bits=8, ticks_per_burst=1, ticks_per_cycle=1, turnaround=7)
    array = SystolicArray(2, 2, "pipelined", "packed", 2, 8, 32, 1.0)
    assert finish_cycles([VectorTask((), 3, 16, 16)], array, link, None) == [11]


def test_one_channel_serves_a_step_after_the_other_in_the_order_of_their_needs():
    # 3 x 2 times 2 x 2, twice; each tile 32 bits, 4 cycles. On one channel: tile 0 until 4, then
    # the ifmap's 16 bits until 6 = shift's end; streams 6..9; tile 1 until 10; the ofmap, ready at
    # 9 + 2, until 13. The second layer reads 13..15, streams 15..18, drains to 20, writes to 22.
    array = SystolicArray(2, 2, "pipelined", "packed", 2, 8, 32, 1.0)
    cut = schedule_layer(
        Gemm(1, 3, 2, 2), np.full((1, 2), 8), 8, 3, array, OperandWidth("fixed", 8, 8), 0
    )
    steps = cut.timing_steps(read_bits=[16], write_bits=[16])
    link = Link(burst_bits=8, ticks_per_burst=1, ticks_per_cycle=1)
    tasks = [ArrayTask((), steps), ArrayTask((0,), steps)]
    assert finish_cycles(tasks, array, link, None) == [13, 22]
    assert finish_cycles(tasks, array, link, link) == [13, 22]  # tile 1 waited for nothing


@settings(max_examples=150)
@given(data=st.data(), weights=st.lists(links(), min_size=2, max_size=4), shared=st.booleans())
def test_many_design_points_at_once_are_each_as_if_alone(data, weights, shared):
    flow, schedule = (
        data.draw(st.sampled_from(DATAFLOWS)),
        data.draw(st.sampled_from(["pipelined", "serial"])),
    )
    array, _, _, fast, _ = data.draw(cases(flow, schedule))
    burst = weights[0].burst_bits  # points differ in times alone
    weights = [replace(link, burst_bits=burst) for link in weights]
    times = ("ticks_per_burst", "ticks_per_cycle", "turnaround")
    vector = Link(burst, *(np.array([getattr(x, f) for x in weights]) for f in times))
    together = finish_cycles(fast, array, vector, None if shared else vector, np.maximum)
    for point, link in enumerate(weights):
        alone = finish_cycles(fast, array, link, None if shared else link)
        assert [np.broadcast_to(t, len(weights))[point] for t in together] == alone


def test_hand_count_of_two_folds_on_a_2_by_2_array():
    # tile 0 is fetched in 4 cycles (32 bits at 8 a cycle), shifted in 2: streaming starts at 6;
    # tile 1 is there at 8, shifts at 8, goes live at 10; 3 rows stream, then 1 + 1 to drain
    array = SystolicArray(2, 2, "pipelined", "packed", 2, 8, 32, 1.0)
    width = OperandWidth("fixed", 8, 8)
    gemm = Gemm(1, 3, 4, 2)
    schedule = schedule_layer(gemm, np.full((1, 2), 8), 8, 3, array, width, 0)
    link = Link(burst_bits=8, ticks_per_burst=1, ticks_per_cycle=1)
    ends = finish_cycles([ArrayTask((), schedule.timing_steps())], array, link, link)
    assert ends == [10 + 3 + 2]


@pytest.mark.parametrize("schedule", ["pipelined", "serial"])
def test_a_layer_without_channels_takes_no_time(schedule):
    array = SystolicArray(2, 2, schedule, "packed", 2, 8, 32, 1.0)
    gemm = Gemm(1, 3, 4, 2)
    cut = schedule_layer(gemm, np.zeros((1, 2), int), 8, 3, array, OperandWidth("fixed", 8, 8), 52)
    link = Link(8, 1, 1)
    assert finish_cycles([ArrayTask((), cut.timing_steps())], array, link, link) == [0]
