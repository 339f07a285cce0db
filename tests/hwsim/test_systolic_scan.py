"""A layer at once gives what going step by step gives, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fuzz.systolic import NEVER, arrays, check_scan, links, programs, scan_cases
from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, VectorTask, finish_cycles

WIDTH = OperandWidth("fixed", 8, 8)


@settings(max_examples=400)
@given(case=scan_cases())
def test_layers_at_once_end_when_they_end_step_by_step(case):
    check_scan(case)


def stacked(links: list[Link]) -> Link:
    """One link with an entry per design point; bursts are alike."""
    fields = ("ticks_per_burst", "ticks_per_cycle", "turnaround")
    ticks = {field: np.array([getattr(link, field) for link in links]) for field in fields}
    return Link(links[0].burst_bits, **ticks)


@settings(max_examples=200)
@given(data=st.data(), shared=st.booleans(), count=st.integers(1, 5))
def test_design_points_side_by_side_end_when_each_ends_alone(data, shared, count):
    array = data.draw(arrays("weight_stationary", "pipelined"))
    tasks = data.draw(programs(array))
    points = [[data.draw(links()) for _ in range(count)] for _ in range(2)]
    points = [[Link(64, *list(vars(p).values())[1:]) for p in side] for side in points]
    weights, activations = points[0], [None] * count if shared else points[1]
    alone = [
        finish_cycles(tasks, array, w, a, scan_from=NEVER)
        for w, a in zip(weights, activations, strict=True)
    ]
    together = finish_cycles(
        tasks,
        array,
        stacked(weights),
        None if shared else stacked(points[1]),
        np.maximum,
        scan_from=1,
    )
    found = [np.broadcast_to(end, count).tolist() for end in together]
    assert [list(ends) for ends in zip(*found, strict=True)] == alone


def test_a_layer_at_once_begins_behind_the_turn_of_a_shared_channel():
    # the first layer ends with a long write, after its successor's first tile was fetched
    array = SystolicArray(
        rows=4, cols=4, schedule="pipelined", weight_fetch="packed", weight_fifo_tiles=4,
        accumulator_rows=8, accumulator_bits=32, mac_energy=1.0,
    )  # fmt: skip
    link = Link(burst_bits=64, ticks_per_burst=3, ticks_per_cycle=2, turnaround=501)
    cut = schedule_layer(Gemm(1, 4, 4, 4), np.full((1, 4), 8), 8, 4, array, WIDTH, 0)
    deep = schedule_layer(Gemm(1, 4, 32, 8), np.full((1, 8), 8), 8, 4, array, WIDTH, 0)
    tasks = [
        ArrayTask((), cut.timing_steps(write_bits=[9000])),
        ArrayTask((), deep.timing_steps()),
    ]
    by_steps = finish_cycles(tasks, array, link, None, scan_from=NEVER)
    assert finish_cycles(tasks, array, link, None, scan_from=1) == by_steps


def test_the_first_write_of_a_layer_at_once_waits_for_the_channel_to_turn():
    array = SystolicArray(
        rows=4, cols=4, schedule="pipelined", weight_fetch="packed", weight_fifo_tiles=4,
        accumulator_rows=8, accumulator_bits=32, mac_energy=1.0,
    )  # fmt: skip
    link = Link(burst_bits=64, ticks_per_burst=3, ticks_per_cycle=2, turnaround=501)
    cut = schedule_layer(Gemm(1, 4, 4, 4), np.full((1, 4), 8), 8, 4, array, WIDTH, 0)
    tasks = [VectorTask((), 0, read_bits=64), ArrayTask((), cut.timing_steps(write_bits=[90]))]
    by_steps = finish_cycles(tasks, array, link, link, scan_from=NEVER)
    assert finish_cycles(tasks, array, link, link, scan_from=1) == by_steps
    assert by_steps[1] >= 501 // 2
