"""What the systolic simulator moves, keeps and costs by where tensors and weights stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from graphs import residual, square_conv
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import BitWidths, load_accelerator, memory, simulate
from hwsim.accelerator import Accelerator, Memory, parse_accelerator
from hwsim.graph import Layer, LayerGraph, Tensor, Vector
from hwsim.memory import held_bits, held_operands, plan_residency, stored_bits
from hwsim.residency import Placement, Problem, place
from hwsim.stats import NetworkStats

TPU = load_accelerator("tpu_v1")
BYTE = 8


def branches(channels: int, size: int, kernel: int = 3) -> LayerGraph:
    """An Inception-like block: 1x1, kernel and pooled branches of an image joined, convolved and
    pooled; and a branch from the start added at the end."""
    image = Tensor("image", (1, channels, size, size))
    layers = [Layer("image", "input", Vector(0), (), image)]

    def conv(name: str, source: Tensor, filters: int, width: int) -> Tensor:
        work, shape = square_conv(source.channels, filters, width, size, pad=width // 2)
        layers.append(Layer(name, "conv", work, (source,), Tensor(name, shape)))
        return layers[-1].output

    def vector(name: str, kind, inputs: tuple[Tensor, ...], channels: int) -> Tensor:
        out = Tensor(name, (1, channels, size, size))
        layers.append(Layer(name, kind, Vector(out.values), inputs, out))
        return out

    a = conv("a", image, channels, 1)
    b = conv("b2", conv("b1", image, 2 * channels, 1), channels, kernel)
    c = vector("c", "pool", (image,), channels)
    joined = vector("joined", "concat", (a, b, c), 3 * channels)
    d = conv("d", joined, channels, kernel)
    e = conv("e", joined, channels, 1)
    twice = vector("twice", "add", (e, e), channels)
    vector("sum", "add", (vector("mix", "add", (d, twice), channels), image), channels)
    return LayerGraph("branches", tuple(layers), ("sum",))


def small_tpu(buffer_bits: int, **changes: object) -> Accelerator:
    """An 8 x 8 array with short chunks, 8-byte bursts and a buffer of the given bits."""
    array = replace(TPU.array, rows=8, cols=8, accumulator_rows=10)
    memories = tuple(
        replace(m, capacity=max(1, buffer_bits)) if m.keeps_tensors else m for m in TPU.memory
    )
    dram = tuple(replace(d, burst=64) for d in TPU.dram)
    return replace(TPU, array=array, memory=memories, dram=dram, **changes)


def activation_bits(stats: NetworkStats) -> int:
    return sum(int(layer.detail["activation_dram_bits"]) for layer in stats.layers)


@contextmanager
def keeping(choose: Callable[[Problem], frozenset[int]]) -> Iterator[None]:
    """Runs in which other tensors are kept than those that would be best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "place", lambda p: replace(place(p), kept=choose(p)))
        yield


shapes = st.tuples(st.integers(1, 6), st.integers(3, 7), st.sampled_from([1, 3]))
percents = st.integers(0, 110)


def peak(graph: LayerGraph, bits: BitWidths, batch: int) -> int:
    return plan_residency(graph, bits, batch, 10**15).peak_bits


@settings(max_examples=40)
@given(shape=shapes, batch=st.integers(1, 3), percent=percents, more=percents,
       weights=st.integers(1, 8), wide=st.integers(1, 16), narrower=st.integers(0, 16))  # fmt: skip
def test_a_larger_buffer_and_fewer_bits_never_move_more(
    shape, batch, percent, more, weights, wide, narrower
):
    graph = branches(*shape)
    full = peak(graph, BitWidths(weights, wide), batch)
    moved = simulate(graph, small_tpu(full * percent // 100), BitWidths(weights, wide), batch)
    larger = small_tpu(full * (percent + more) // 100)
    assert simulate(graph, larger, BitWidths(weights, wide), batch).dram_bits <= moved.dram_bits
    fewer = BitWidths(max(0, weights - narrower), max(1, wide - narrower))
    same = small_tpu(full * percent // 100)
    assert simulate(graph, same, fewer, batch).dram_bits <= moved.dram_bits


@settings(max_examples=25)
@given(shape=shapes, batch=st.integers(1, 2), percent=percents, in_place=st.booleans(),
       widths=st.lists(st.integers(1, 9), min_size=9, max_size=9))  # fmt: skip
def test_traffic_is_that_of_the_choice_and_no_choice_moves_less(
    shape, batch, percent, in_place, widths
):
    """The simulator's counts against the plan's, and against runs with other tensors kept."""
    graph = branches(*shape)
    names = [layer.name for layer in graph]
    bits = BitWidths(4, dict(zip(names, [*widths, *widths], strict=False)))
    vector = replace(TPU.vector, in_place=in_place)
    chip = small_tpu(peak(graph, bits, batch) * percent // 100, vector=vector)
    moved = activation_bits(simulate(graph, chip, bits, batch))
    plans: list[Placement] = []

    def everything(problem: Problem) -> frozenset[int]:
        plans.append(place(problem))
        return frozenset(i for i in problem.liveness.nodes if problem.gain(i) >= 0)

    with keeping(everything):
        least = activation_bits(simulate(graph, chip, bits, batch))
    best = plans[0]
    assert moved == least + best.extra_bits
    for tensor in best.kept:
        with keeping(lambda _problem, gone=tensor: best.kept - {gone}):
            assert activation_bits(simulate(graph, chip, bits, batch)) >= moved


@given(shape=shapes, batch=st.integers(1, 3), percent=percents)
def test_kept_tensors_never_exceed_the_buffer_at_any_layer(shape, batch, percent):
    graph, bits = branches(*shape), BitWidths(4, 5)
    capacity = peak(graph, bits, batch) * percent // 100
    stats = simulate(graph, small_tpu(capacity), bits, batch)
    kept = {layer.name for layer in stats.layers if layer.detail["ofmap_kept"]}
    sizes = stored_bits(graph, bits, batch)
    reads = {layer.name: {t.name for t in layer.inputs} for layer in graph}
    reads |= {n: (r - {"joined"}) | {"a", "b2", "c"} for n, r in reads.items() if "joined" in r}
    order = [layer.name for layer in stats.layers]
    for now, _ in enumerate(order):
        here = [
            name for i, name in enumerate(order)
            if name in kept and name != "joined" and i <= now
            and (i == now or any(name in reads[later] for later in order[now:]))
        ]  # fmt: skip
        assert sum(sizes[name] for name in here) <= max(1, capacity)


def test_a_concatenation_costs_nothing_where_its_parts_need_not_move():
    graph, bits = branches(4, 6), BitWidths(8, 8)
    for capacity in (10**9, 0):
        stats = simulate(graph, small_tpu(capacity), bits)
        row = next(layer for layer in stats.layers if layer.name == "joined")
        assert (row.cycles, row.dram_bits, row.energy_pj) == (0, 0, 0)
        assert sum(row.onchip_bits.values()) == 0
        # its parts and the image, which the addition still wants, once each
        assert row.required_bits["unified_buffer"] == 4 * 4 * 36 * BYTE


def test_spilled_parts_of_a_concatenation_are_read_and_kept_ones_are_not():
    """Only the branch c (made last) is kept: then d and e read two thirds of `joined`."""
    graph, bits = branches(4, 6, kernel=1), BitWidths(8, 8)
    chip = small_tpu(0)
    chip = replace(chip, array=replace(chip.array, accumulator_rows=100))
    size = 4 * 36 * BYTE
    rows = {layer.name: layer for layer in simulate(graph, chip, bits).layers}
    assert rows["e"].dram_read_bits - rows["e"].detail["weight_dram_bits"] == 3 * size
    assert rows["c"].dram_write_bits == size
    with keeping(lambda problem: frozenset({problem.liveness.index["c"]})):
        rows = {layer.name: layer for layer in simulate(graph, chip, bits).layers}
    assert rows["e"].dram_read_bits - rows["e"].detail["weight_dram_bits"] == 2 * size
    assert rows["c"].dram_write_bits == 0


def test_work_in_place_lets_an_addition_fit_where_it_would_spill():
    graph, bits = residual(4, 6), BitWidths(8, 8)
    size = 4 * 36 * BYTE
    assert peak(graph, bits, 1) == 3 * size
    spilling = simulate(graph, small_tpu(2 * size), bits)
    in_place = small_tpu(2 * size, vector=replace(TPU.vector, in_place=True))
    kept = simulate(graph, in_place, bits)
    # the image is loaded and the sum written in any case; the sum alone is never read back
    assert activation_bits(kept) == 2 * size
    assert activation_bits(spilling) >= activation_bits(kept)
    assert all(layer.detail["ofmap_kept"] for layer in kept.layers)
    assert not all(layer.detail["ofmap_kept"] for layer in spilling.layers)


STORE = """
schema = 1
kind = "systolic"
name = "keeper"
description = "an array beside an SRAM for the weights of a whole network"
source = "none: a test"
clock = "700 MHz"
[array]
rows = 8
cols = 8
schedule = "pipelined"
weight_fetch = "packed"
weight_fifo_tiles = 2
accumulator_rows = 16
accumulator_bits = 32
mac_energy = "0.3 pJ"
[operand_width]
rule = "fixed"
weight_bits = 8
activation_bits = 8
[vector]
lanes = 8
energy = "0.1 pJ"
in_place = true
[metadata]
scale = "16 bit"
width_code = "4 bit"
bias = "32 bit"
[[memory]]
name = "buffer"
capacity = "64 KiB"
holds = ["ifmap", "ofmap"]
keeps_tensors = true
energy = "1 pJ/bit"
[[memory]]
name = "store"
capacity = "CAPACITY bit"
holds = ["weights"]
keeps_weights = true
energy = "1 pJ/bit"
[[memory]]
name = "fifo"
capacity = "1 KiB"
holds = ["weights"]
energy = "1 pJ/bit"
[[memory]]
name = "accumulators"
capacity = "1 KiB"
holds = ["psum"]
energy = "1 pJ/bit"
[[dram]]
name = "weight_dram"
carries = ["weights"]
bandwidth = "100 MB/s"
burst = "8 B"
energy = "20 pJ/bit"
[[dram]]
name = "host"
carries = ["activations"]
bandwidth = "1 GB/s"
burst = "8 B"
energy = "20 pJ/bit"
"""


def keeper(capacity: int) -> Accelerator:
    return parse_accelerator(STORE.replace("CAPACITY", str(capacity)).encode(), "keeper.toml")


def test_weights_that_all_fit_never_cross_dram_and_one_bit_less_makes_all_cross():
    graph, bits = residual(4, 6), BitWidths({"a": 3, "b": 5}, 8)
    everything = (3 + 5) * 4 * 4 * 9 + 2 * 4 * (16 + 4 + 32)
    kept, streamed = (simulate(graph, keeper(everything - i), bits) for i in (0, 1))
    assert [layer.detail["weight_dram_bits"] for layer in kept.layers] == [0] * 4
    assert sum(layer.detail["weight_dram_bits"] for layer in streamed.layers) >= everything
    assert all(layer.required_bits["store"] == everything for layer in kept.layers)
    assert kept.fits_on_chip
    assert not streamed.fits_on_chip
    assert kept.cycles < streamed.cycles
    assert kept.layers[1].onchip_bits["store"] > 0
    assert kept.layers[1].onchip_bits["fifo"] == kept.layers[1].required_bits["fifo"] == 0
    assert streamed.layers[1].onchip_bits["store"] == 0


def test_only_a_memory_for_weights_and_only_one_can_keep_them():
    with pytest.raises(ValueError, match="holds must name weights, got ifmap"):
        Memory("m", 8, ("ifmap",), 1.0, keeps_weights=True)
    chip = keeper(8)
    twice = (*chip.memory, replace(chip.weight_store, name="other"))
    with pytest.raises(ValueError, match="only one memory can keep"):
        replace(chip, memory=twice)


def test_the_memory_that_weights_stream_through_comes_before_the_one_that_keeps_them():
    assert keeper(8).memory_for("weights").name == "fifo"
    assert keeper(8).weight_store.name == "store"
    assert TPU.weight_store is None


def test_rows_come_in_the_order_of_execution_and_what_is_required_follows_it():
    """x feeds a (6) and c (9), each squeezed to 1: the order that squeezes first needs less."""
    sizes = {"x": 2, "a": 6, "c": 9, "b": 1, "d": 1}
    x, a, c, b, d = (Tensor(name, (1, k, 1, 1)) for name, k in sizes.items())
    out = Tensor("out", (1, 1, 1, 1))
    layers = (
        Layer("x", "input", Vector(0), (), x),
        Layer("a", "pool", Vector(6), (x,), a),
        Layer("c", "pool", Vector(9), (x,), c),
        Layer("b", "pool", Vector(1), (a,), b),
        Layer("d", "pool", Vector(1), (c,), d),
        Layer("out", "add", Vector(1), (b, d), out),
    )
    graph = LayerGraph("squeeze", layers, ("out",))
    stats = simulate(graph, TPU, BitWidths(8, 8))
    assert [layer.name for layer in stats.layers] == ["x", "a", "b", "c", "d", "out"]
    required = [layer.required_bits["unified_buffer"] // BYTE for layer in stats.layers]
    assert required == [2, 8, 9, 12, 11, 3]
    held = held_operands(graph, TPU.memory_for("ifmap"))  # in the graph's own order
    assert held_bits(graph, BitWidths(8, 8), 1, held["c"], 0) == 17 * BYTE
    assert stats.residency_gap_bits == 0
