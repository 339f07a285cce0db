"""The fast recurrence equals the machine that moves real values, exactly, whatever the shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fuzz.systolic import cases, check, links
from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.systolic.reference import reference_serial_fold
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, VectorTask, finish_cycles

DATAFLOWS = ["weight_stationary", "output_stationary", "input_stationary"]


@pytest.mark.parametrize("schedule", ["pipelined", "serial"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@settings(max_examples=170)
@given(data=st.data())
def test_fast_timing_and_traffic_equal_the_reference(dataflow, schedule, data):
    check(data.draw(cases(dataflow, schedule)))


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
    case = data.draw(cases(flow, schedule))
    array, fast = case.array, case.fast()
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
