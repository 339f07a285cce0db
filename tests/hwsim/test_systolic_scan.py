"""A layer at once gives what going step by step gives, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_systolic_reference import arrays, links

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, VectorTask, finish_cycles

NEVER = 10**9
WIDTH = OperandWidth("fixed", 8, 8)


@st.composite
def programs(draw, array):
    """Layers of up to some hundred steps, between vector tasks; some read and write DRAM."""
    tasks = []
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
        cut = schedule_layer(gemm, widths, 8, pixels, array, WIDTH, draw(st.sampled_from([0, 52])))
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


@settings(max_examples=400)
@given(data=st.data(), weights=links(), activations=links() | st.none())
def test_layers_at_once_end_when_they_end_step_by_step(data, weights, activations):
    array = data.draw(arrays("weight_stationary", "pipelined"))
    tasks = data.draw(programs(array))
    at_once, by_steps = (
        finish_cycles(tasks, array, weights, activations, scan_from=limit) for limit in (1, NEVER)
    )
    assert at_once == by_steps
    assert all(type(end) is int for end in at_once)


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
