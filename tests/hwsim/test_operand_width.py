"""Operand-width rules: their published factors, the reference that keeps them, sorted columns."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib import resources

import numpy as np
import pytest
from graphs import chain, perceptron, square_conv
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import OperandWidth, SystolicArray, parse_accelerator
from hwsim.dram import Link
from hwsim.graph import Gemm
from hwsim.operand_width import pace
from hwsim.systolic.folds import cut_columns
from hwsim.systolic.reference import run_reference
from hwsim.systolic.reference_steps import GemmTask
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, finish_cycles

TPU = load_accelerator("tpu_v1")
EYERISS = load_accelerator("eyeriss_v1")
TPU_TEXT = (resources.files("hwsim") / "accelerators" / "tpu_v1.toml").read_text()
SERIAL_RULES = ["bit_fusion", "stripes", "unpu", "loom"]
RULES = [OperandWidth("fixed", 8, 8), *map(OperandWidth, SERIAL_RULES)]
ORDERS = ["as_given", "widest_first", "narrowest_first"]


def factor(rule: OperandWidth, weight: int, activation: int, fully_connected: bool = False):
    row = pace(rule, weight, activation, fully_connected)
    return Fraction(int(row.cycles), row.of_rows)


@pytest.mark.parametrize(
    ("weight", "activation", "expected"),
    [
        (8, 8, Fraction(1)),
        (4, 8, Fraction(1, 2)),
        (4, 4, Fraction(1, 4)),
        (2, 2, Fraction(1, 16)),
        (1, 1, Fraction(1, 16)),
        (8, 2, Fraction(1, 4)),
        (3, 5, Fraction(1, 2)),  # runs as 4 x 8
        (16, 16, Fraction(4)),
        (16, 8, Fraction(2)),
        (2, 16, Fraction(1, 2)),
    ],
)
def test_bit_fusion_speeds_up_by_the_products_that_a_unit_holds(weight, activation, expected):
    assert factor(OperandWidth("bit_fusion"), weight, activation) == expected


@given(weight=st.integers(1, 16), activation=st.integers(1, 16))
def test_every_rule_has_its_published_factor(weight, activation):
    w, a = weight, activation
    assert factor(OperandWidth("stripes"), w, a) == Fraction(a, 16)
    assert factor(OperandWidth("unpu"), w, a) == Fraction(w, 16)
    assert factor(OperandWidth("loom"), w, a) == Fraction(a * w, 256)
    assert factor(OperandWidth("loom"), w, a, fully_connected=True) == Fraction(w, 16)
    slices = (1 if w <= 8 else 2) * (1 if a <= 8 else 2)
    assert factor(OperandWidth("fixed", 8, 8), w, a) == slices
    if w <= 8 and a <= 8:
        units = Fraction(1, 8 // max(a, 2) * (8 // max(w, 2)))
        assert factor(OperandWidth("bit_fusion"), w, a) == units


@given(rule=st.sampled_from(RULES), w=st.integers(2, 16), a=st.integers(2, 16), fc=st.booleans())
def test_narrower_operands_are_never_slower(rule, w, a, fc):
    assert factor(rule, w - 1, a, fc) <= factor(rule, w, a, fc)
    assert factor(rule, w, a - 1, fc) <= factor(rule, w, a, fc)


def test_cycles_of_a_fold_are_rounded_up_once():
    # 5 rows at 3/16 of a cycle are 15/16 of a cycle; rounded row by row they would be 5
    assert pace(OperandWidth("unpu"), 3, 8).stream_cycles(5) == 1
    assert pace(OperandWidth("unpu"), np.array([3, 16]), 8).stream_cycles(6).tolist() == [2, 6]


@st.composite
def cases(draw):
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    array = SystolicArray(rows, cols, "pipelined", draw(st.sampled_from(["packed", "whole_tiles"])),
                          draw(st.integers(1, 3)), draw(st.integers(2, 9)), 32, 1.0)  # fmt: skip
    width, order = draw(st.sampled_from(RULES)), draw(st.sampled_from(ORDERS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reference, fast, schedules = [], [], []
    for position in range(draw(st.integers(1, 2))):
        groups, images = draw(st.integers(1, 4)), draw(st.integers(1, 2))
        per_image, reduction = draw(st.integers(1, 10)), draw(st.integers(1, 8))
        gemm = Gemm(groups, per_image, reduction, draw(st.integers(1, 7)))
        pixels, activation_bits = images * per_image, draw(st.integers(1, 16))
        widths = rng.integers(0 if draw(st.booleans()) else 1, 17, (groups, gemm.columns))
        limit = 2 ** np.maximum(widths - 1, 0)[:, None, :]
        weight = rng.integers(-limit, limit, (groups, reduction, gemm.columns))
        weight *= (widths > 0)[:, None, :]
        half = 2 ** (activation_bits - 1)
        ifmap = rng.integers(-half, half, (groups, pixels, reduction))
        after = (0,) if position and draw(st.booleans()) else ()
        schedule = schedule_layer(gemm, widths, activation_bits, pixels, array, width, 20, order)
        schedules.append(schedule)
        fast.append(ArrayTask(after, schedule.timing_steps()))
        reference.append(
            GemmTask(ifmap, weight, widths, activation_bits, after, 20, order=order,
                     pixels_per_image=per_image)
        )  # fmt: skip
    return array, width, reference, fast, schedules


@settings(max_examples=200)
@given(case=cases(), burst_ticks=st.integers(0, 30))
def test_fast_timing_equals_the_reference_under_every_rule_and_order(case, burst_ticks):
    array, width, reference, fast, schedules = case
    link = Link(burst_bits=24, ticks_per_burst=burst_ticks, ticks_per_cycle=7)
    outcome = run_reference(reference, array, width, link, link)
    for position, task in enumerate(reference):
        assert np.array_equal(outcome.ofmaps[position], task.ifmap @ task.weight)
    assert finish_cycles(fast, array, link, link) == outcome.ends
    assert sum(s.ifmap_values for s in schedules) == outcome.ifmap_values
    assert sum(s.psum_writes for s in schedules) == outcome.psum_writes


@given(
    groups=st.integers(1, 6),
    columns=st.integers(1, 9),
    reduction=st.integers(1, 5),
    cols=st.integers(1, 9),
    rows=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from(ORDERS),
)
def test_every_order_places_each_kept_column_once(
    groups, columns, reduction, cols, rows, seed, order
):
    widths = np.random.default_rng(seed).integers(0, 9, (groups, columns))
    gemm = Gemm(groups, 3, reduction, columns)
    blocks = cut_columns(gemm, widths, rows, cols, order)
    placed = np.concatenate([[], *blocks.channels]).astype(int)
    assert sorted(placed.tolist()) == np.flatnonzero(widths.ravel()).tolist()
    flat = widths.ravel()
    assert blocks.width_max.tolist() == [flat[c].max() for c in blocks.channels]
    assert blocks.width_sum.tolist() == [flat[c].sum() for c in blocks.channels]


@given(
    widths=st.lists(st.integers(1, 8), min_size=1, max_size=7),
    cols=st.integers(1, 4),
    data=st.data(),
)
def test_no_other_order_of_columns_has_narrower_blocks(widths, cols, data):
    gemm = Gemm(1, 3, 20, len(widths))
    other = np.array([data.draw(st.permutations(widths))])
    ours = cut_columns(gemm, np.array([widths]), 4, cols, "widest_first").width_max
    given_order = cut_columns(gemm, other, 4, cols).width_max
    assert (ours <= -np.sort(-given_order)).all()


def mixed(graph, seed: int, low: int = 0) -> BitWidths:
    rng = np.random.default_rng(seed)
    weights = {x.name: rng.integers(low, 9, x.out_channels) for x in graph.weighted}
    return BitWidths(weights, int(rng.integers(1, 9)))


@st.composite
def networks(draw):
    channels, size = draw(st.integers(1, 20)), draw(st.integers(3, 6))
    if draw(st.booleans()):
        return perceptron("p", draw(st.lists(st.integers(1, 60), min_size=2, max_size=4)))
    groups = draw(st.sampled_from([1, channels, 2 if channels % 2 == 0 else 1]))
    conv, out = square_conv(channels, 2 * channels, 3, size, pad=1, groups=groups)
    point, wide = square_conv(2 * channels, draw(st.integers(1, 60)), 1, size)
    return chain("c", (1, channels, size, size), [("conv", conv, out), ("conv", point, wide)])


@st.composite
def machines(draw):
    array = replace(
        TPU.array,
        rows=draw(st.integers(4, 40)),
        cols=draw(st.integers(2, 20)),
        weight_fifo_tiles=draw(st.integers(1, 4)),
        accumulator_rows=draw(st.integers(16, 64)),
    )
    dram = tuple(replace(d, bandwidth=draw(st.integers(10**8, 10**12))) for d in TPU.dram)
    return replace(TPU, array=array, dram=dram, operand_width=draw(st.sampled_from(RULES)))


@settings(max_examples=100)
@given(graph=networks(), machine=machines(), seed=st.integers(0, 2**32 - 1))
def test_sorting_columns_is_never_slower_than_not(graph, machine, seed):
    bits = mixed(graph, seed)
    sorting = replace(machine, array=replace(machine.array, sort_columns=True))
    before, after = simulate(graph, machine, bits, 2), simulate(graph, sorting, bits, 2)
    assert after.cycles <= before.cycles
    assert after.macs == before.macs


@settings(max_examples=100)
@given(graph=networks(), machine=machines(), seed=st.integers(0, 2**32 - 1))
def test_with_sorted_columns_narrower_channels_are_never_slower(graph, machine, seed):
    sorting = replace(machine, array=replace(machine.array, sort_columns=True))
    bits = mixed(graph, seed, low=2)
    rng = np.random.default_rng(seed)
    fewer = {n: np.maximum(1, w - rng.integers(0, 2, len(w))) for n, w in bits.weights.items()}
    before = simulate(graph, sorting, bits)
    after = simulate(graph, sorting, BitWidths(fewer, bits.activations))
    assert after.cycles <= before.cycles


def test_sorting_halves_the_time_of_alternating_widths():
    # 512 columns of 2 and 8 bits in turn: both folds of 256 run at 8 bits; sorted, one of them does
    graph = perceptron("p", [256, 512])
    machine = replace(
        TPU,
        operand_width=OperandWidth("unpu"),
        dram=tuple(replace(d, bandwidth=10**15) for d in TPU.dram),
    )
    bits = BitWidths({"l0": np.tile([2, 8], 256)}, 8)
    sorting = replace(machine, array=replace(machine.array, sort_columns=True))
    batch = 1600
    slow, fast = (simulate(graph, m, bits, batch) for m in (machine, sorting))
    assert slow.compute_cycles - fast.compute_cycles == batch * 8 // 16 - batch * 2 // 16


def toml(rule: str) -> bytes:
    start = TPU_TEXT.index("[operand_width]")
    end = TPU_TEXT.index("[vector]")
    return f"{TPU_TEXT[:start]}[operand_width]\n{rule}\n\n{TPU_TEXT[end:]}".encode()


@pytest.mark.parametrize("rule", SERIAL_RULES)
def test_a_file_chooses_a_rule_by_its_name_alone(rule):
    accelerator = parse_accelerator(toml(f'rule = "{rule}"'), "mine.toml")
    assert accelerator.operand_width == OperandWidth(rule)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rule = "stripe"', "rule: expected one of fixed, bit_fusion, stripes, unpu, loom"),
        ('rule = "fixed"', "weight_bits must be at least 1 with rule 'fixed', got 0"),
        ('rule = "loom"\nweight_bits = 8', "relative to 16-bit operands, got 8; leave it out"),
        ('rule = "fixed"\nweight_bits = 8\nactivation_bits = 0', "activation_bits must be at"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_way_out(text, said):
    with pytest.raises(ValueError, match=r"mine\.toml: operand_width") as caught:
        parse_accelerator(toml(text), "mine.toml")
    assert said in str(caught.value)


CONV, CONV_OUT = square_conv(64, 64, 1, 16)
CONV_NET = chain("conv", (1, 64, 16, 16), [("conv", CONV, CONV_OUT)])


def loom_and_full(accelerator):
    fast = tuple(replace(d, bandwidth=10**15) for d in accelerator.dram)
    rules = OperandWidth("loom"), OperandWidth("fixed", 16, 16)
    return [replace(accelerator, dram=fast, operand_width=rule) for rule in rules]


@pytest.mark.parametrize(
    ("graph", "rows", "share"),
    [(CONV_NET, 64 * 256, Fraction(1, 16)), (perceptron("fc", [256, 256]), 2048, Fraction(1, 4))],
)
def test_loom_uses_narrow_activations_in_convolutions_alone(graph, rows, share):
    # one fold: fill, shift and drain stay, the stream shrinks to the rule's share
    batch = 64 if graph is CONV_NET else rows
    loom, full = (simulate(graph, a, BitWidths(4, 4), batch) for a in loom_and_full(TPU))
    assert full.compute_cycles - loom.compute_cycles == rows * (1 - share)


@pytest.mark.parametrize("graph", [CONV_NET, perceptron("fc", [1024, 1024])])
def test_a_row_stationary_array_gains_from_serial_units_until_its_ports_bound_it(graph):
    loom, full = loom_and_full(EYERISS)
    bits = BitWidths(4, 4)
    slow, bound = (simulate(graph, a, bits, 16).compute_cycles for a in (full, loom))
    wide = dict.fromkeys(("ifmap_port", "psum_in_port", "psum_out_port", "filter_port"), 10**6)
    free = simulate(graph, replace(loom, array=replace(loom.array, **wide)), bits, 16)
    assert slow > bound > free.compute_cycles
