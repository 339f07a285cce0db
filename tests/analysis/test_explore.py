"""Exploration: fields and ranges mean what they say, points are those of `simulate`, and knees,
fits and fronts are read off rightly."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.cli import main
from analysis.design_space import (
    find_field,
    grid,
    latin_hypercube,
    numeric_fields,
    parse_axis,
    with_values,
)
from analysis.explore import Choice, explore
from analysis.explore_readings import KNEE, knee, pareto_front
from analysis.sources import load_graph
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.schema import parse_quantity
from hwsim.simulator import simulate

TPU, EYERISS = load_accelerator("tpu_v1"), load_accelerator("eyeriss_v1")


@cache
def digits() -> LayerGraph:
    return load_graph("digits")


def values(text: str) -> tuple[float, ...]:
    return parse_axis(TPU, text).values


@pytest.mark.parametrize("accelerator", [TPU, EYERISS], ids=lambda a: a.name)
def test_fields_are_the_numbers_that_the_accelerators_command_prints(capsys, accelerator):
    assert main(["accelerators", accelerator.name]) == 0
    printed = dict(line.split(" = ", 1) for line in capsys.readouterr().out.splitlines())
    fields = numeric_fields(accelerator)
    for path, field in fields.items():
        text, unit = printed[path], field.dimension
        shown = parse_quantity(text, unit) if unit else text
        assert float(shown) == field.value
    assert "memory[unified_buffer].capacity" in fields or accelerator is EYERISS
    assert "array.sort_columns" not in fields  # yes or no is no number


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("memory[unified_buffer].capacity", "memory[unified_buffer].capacity"),
        ("unified_buffer.capacity", "memory[unified_buffer].capacity"),
        ("weight_dram.bandwidth", "dram[weight_dram].bandwidth"),
        ("rows", "array.rows"),
        ("clock", "clock"),
    ],
)
def test_a_unique_end_of_a_path_names_its_field(name, path):
    assert find_field(TPU, name).path == path


def test_ranges_are_linear_geometric_or_listed_and_end_within_their_limit():
    mib = 2**23
    assert values("unified_buffer.capacity=4MiB:14MiB:4MiB") == (4 * mib, 8 * mib, 12 * mib)
    assert values("array.rows=64:513:x2") == (64, 128, 256, 512)
    assert values("clock=0.7 GHz,500MHz") == (700_000_000, 500_000_000)
    assert values("weight_dram.bandwidth=34GB/s:77GB/s:x1.5") == (272 * 10**9, 408 * 10**9,
                                                                    612 * 10**9)  # fmt: skip
    assert values("array.rows=64:64:1") == (64,)


def test_fields_that_vary_together_take_the_same_values():
    axis = parse_axis(TPU, "array.rows,array.cols=64:128:x2")
    chips = [with_values(TPU, [axis], design) for design in grid([axis])]
    assert [(c.array.rows, c.array.cols) for c in chips] == [(64, 64), (128, 128)]
    assert replace(chips[0], array=TPU.array) == TPU  # and nothing else changes


def test_the_banks_of_a_row_stationary_buffer_follow_its_capacity_and_the_other_way_round():
    size = parse_axis(EYERISS, "gbuf.capacity=40KiB")
    banks = parse_axis(EYERISS, "gbuf_banks=10")
    by_size = with_values(EYERISS, [size], size.values)
    assert by_size == with_values(EYERISS, [banks], banks.values)
    assert (by_size.array.gbuf_banks, by_size.memory_for("ifmap").capacity) == (10, 40 * 2**13)


@given(samples=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_latin_hypercube_draws_every_value_equally_often(samples, seed):
    axes = [parse_axis(TPU, f"{name}=1:{10**6}:1000") for name in ("rows", "vector.lanes")]
    axes.append(parse_axis(TPU, "clock=100MHz:700MHz:100MHz"))
    points = latin_hypercube(axes, samples, seed)
    assert points == latin_hypercube(axes, samples, seed)
    assert len(points) == samples  # of 7 million, none is met twice: rows alone differ
    for place, axis in enumerate(axes):
        drawn = [axis.values.index(point[place]) for point in points]
        counts = np.bincount(drawn, minlength=len(axis.values))
        assert counts.max() - counts.min() <= 1


@given(costs=arrays(np.int64, st.tuples(st.integers(1, 25), st.integers(1, 4)),
                    elements=st.integers(0, 4)))  # fmt: skip
def test_the_pareto_front_is_what_no_other_point_dominates(costs):
    dominated = [
        any((other <= own).all() and (other < own).any() for other in costs) for own in costs
    ]
    assert (~pareto_front(costs.astype(float))).tolist() == dominated


def test_the_knee_is_the_smallest_bandwidth_from_which_on_little_is_lost():
    cycles = [200, 104, 106, 105, 100]
    assert KNEE == 0.05
    assert knee([1, 2, 3, 4, 5], cycles, 100) == 4  # 2 is near, but 3 is not
    assert knee([1, 2, 3, 4, 5], cycles, 95) is None


def two_fields(vary: tuple[str, ...], choices: list[Choice], accelerator=TPU, batch=2):
    axes = [parse_axis(accelerator, text) for text in vary]
    return explore(digits(), accelerator, axes, grid(axes), choices, batch)


def test_every_point_is_what_simulate_says_of_it():
    vary = ("unified_buffer.capacity=1KiB:9KiB:4KiB", "array.rows,array.cols=32:64:x2",
            "weight_dram.bandwidth=100MB/s,34GB/s")  # fmt: skip
    choices = [Choice("8", BitWidths(8, 8)), Choice("W3A6", BitWidths(3, 6))]
    explored = two_fields(vary, choices)
    assert len(explored.table) == 2 * 12
    for row in explored.table.to_dict("records"):
        design = tuple(row[axis.name] for axis in explored.axes)
        chip = with_values(TPU, explored.axes, design)
        bits = next(c.bits for c in choices if c.label == row["allocation"])
        stats = simulate(digits(), chip, bits, 2)
        for name in ("cycles", "seconds", "stall_cycles", "dram_read_bits", "dram_write_bits"):
            assert row[name] == getattr(stats, name)
        assert row["energy_pj"] == pytest.approx(stats.energy_pj, rel=1e-12)
        assert (row["short_of"] == "") == stats.fits_on_chip
        assert row["onchip_bits"] == sum(memory.capacity for memory in chip.memory)


def test_the_smallest_buffer_is_the_first_tried_in_which_every_layer_fits():
    choices = [Choice("8", BitWidths(8, 8)), Choice("W8A2", BitWidths(8, 2))]
    explored = two_fields(("unified_buffer.capacity=256B:32KiB:256B",), choices, batch=1)
    for fit, bits in zip(explored.fits, (BitWidths(8, 8), BitWidths(8, 2)), strict=True):
        stats = simulate(digits(), TPU, bits)
        needs = max(layer.required_bits["unified_buffer"] for layer in stats.layers)
        assert (fit.memory, fit.most_bits) == ("unified_buffer", needs)
        assert fit.smallest_bits == -(-needs // 2048) * 2048
    assert explored.fits[1].smallest_bits < explored.fits[0].smallest_bits


def test_the_smallest_buffer_is_unknown_where_none_tried_is_enough():
    choices = [Choice("8", BitWidths(8, 8))]
    (fit,) = two_fields(("unified_buffer.capacity=64B,128B",), choices).fits
    assert fit.varied
    assert fit.smallest_bits is None


def test_knees_compare_with_a_channel_without_limit_for_each_value_of_the_others():
    vary = ("clock=350MHz,700MHz", "weight_dram.bandwidth=1GB/s:256GB/s:x2")
    explored = two_fields(vary, [Choice("8", BitWidths(8, 8))], batch=1)
    assert [k.others["clock"] for k in explored.knees] == [350_000_000, 700_000_000]
    name = explored.axes[1].name
    for found in explored.knees:
        rows = explored.table[explored.table["clock"] == found.others["clock"]]
        slow = rows[rows["cycles"] > 1.05 * found.unlimited_cycles][name].max()
        assert found.bandwidth == rows[rows[name] > slow][name].min()
        assert found.unlimited_cycles <= rows["cycles"].min()
    assert explored.knees[0].bandwidth < explored.knees[1].bandwidth


def test_a_field_without_effect_is_named():
    vary = ("unified_buffer.capacity=1MiB,2MiB", "weight_dram.bandwidth=1GB/s,34GB/s")
    assert two_fields(vary, [Choice("8", BitWidths(8, 8))]).idle == ("unified_buffer.capacity",)


def test_row_stationary_arrays_are_explored_too():
    explored = two_fields(
        ("gbuf.capacity=8KiB,100KiB",), [Choice("W4A8", BitWidths(4, 8))], EYERISS, batch=1
    )
    for row in explored.table.to_dict("records"):
        chip = with_values(EYERISS, explored.axes, (row[explored.axes[0].name],))
        stats = simulate(digits(), chip, BitWidths(4, 8))
        assert (row["cycles"], row["dram_read_bits"]) == (stats.cycles, stats.dram_read_bits)
        spads = 168 * 16 * (12 + 224 + 24)
        assert row["onchip_bits"] == sum(memory.capacity for memory in chip.memory) + spads


def test_shipped_curves_are_allocated_anew_for_every_design(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["explore", "mobilenet_v2", "--average", "4", "--reallocate", "-o", "out",
               "--vary", "unified_buffer.capacity=768KiB,8MiB",
               "--vary", "weight_dram.bandwidth=10GB/s:40GB/s:10GB/s"]  # fmt: skip
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "every layer fits from 768 KiB on" in text
    table = pd.read_csv("out/table.csv", keep_default_na=False)
    small, large = (rows for _, rows in table.groupby("memory[unified_buffer].capacity"))
    assert len(table) == 8
    assert set(small["short_of"]) == {""}
    assert small["predicted_distortion"].min() > large["predicted_distortion"].max()
    files = {"table.csv", "table.json", "summary.json", "summary.txt", "manifest.json",
             "maps.svg", "maps.png", "pareto.svg", "pareto.png", "explore.html"}  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert (tmp_path / "out/summary.txt").read_text() == text.rsplit("out/explore.html", 1)[0]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert set(manifest["outputs"]) | {"explore.html"} == files - {"manifest.json"}


def test_json_alone_is_written_to_standard_output(capsys, tmp_path):
    command = ["explore", "digits", "--samples", "5", "-o", str(tmp_path / "out"), "--json", "-"]
    for field in ("rows=8:64:8", "cols=8:64:8", "clock=100MHz:700MHz:100MHz", "lanes=1:64:x2"):
        command += ["--vary", field]
    assert main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 5
    assert rows[0]["predicted_distortion"] is None  # given widths have no price


BAD = [
    ("unified_bufer.capacity=1MiB", "did you mean 'unified_buffer.capacity'"),
    ("bandwidth=1GB/s", "'bandwidth' may be weight_dram.bandwidth or host_link.bandwidth"),
    ("array.schedule=1", "is no number"),
    ("unified_buffer.capacity=8MiB:4MiB:1MiB", "the range is reversed"),
    ("unified_buffer.capacity=4:8:1", "expected a quantity in quotes, such as"),
    ("array.rows=64:128:0.5", "array.rows is a whole number, and the range has 64.5 in it"),
    ("array.rows=64:128:x1.3", "array.rows is a whole number"),
    ("array.rows=64:128:0", "the step must be above 0"),
    ("array.rows=64:128:x1", "a factor above 1"),
    ("array.rows=64:128", "a range is LO:HI:STEP"),
    ("array.rows=64,64", "the same value twice"),
    ("array.rows=1:900000:1", "at most 65,536 points"),
    ("array.rows", "expected FIELD=LO:HI:STEP"),
    ("array.rows=0,8", "no tpu_v1 with array.rows = 0: rows must be at least 1, got 0"),
    ("array.rows,clock=1", "must be of one unit"),
    ("array.rows=8MiB", "expected a number without a unit, got '8MiB'"),
]


@pytest.mark.parametrize(("vary", "said"), BAD, ids=[vary for vary, _ in BAD])
def test_a_mistake_in_a_range_ends_in_one_line(capsys, tmp_path, vary, said):
    folder = tmp_path / "out"
    assert main(["explore", "digits", "--vary", vary, "-o", str(folder)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert said in captured.err
    assert not folder.exists()


MIXED = [
    (["--vary", "rows=1:256:1", "--vary", "cols=1:257:1"], "65,792 design points, and at most"),
    (["--vary", "rows=8", "--vary", "array.rows=8"], "array.rows is varied twice"),
    ([w for f in ("rows", "cols", "lanes", "accumulator_rows") for w in ("--vary", f"{f}=8,9")],
     "a full grid is of at most 3 --vary, got 4; give --samples N"),
    (["--vary", "rows=8", "--reallocate"], "--reallocate allocates --average for every design"),
    (["--vary", "rows=8", "--bits", "8", "--bits", "8"], "--bits has the same twice"),
    (["--vary", "rows=8", "--samples", "99999999"], "at most 65,536 points"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), MIXED, ids=[said[:30] for _, said in MIXED])
def test_options_that_cannot_be_together_end_in_one_line(capsys, options, said):
    assert main(["explore", "digits", *options]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert said in captured.err
