"""Laws that any honest model keeps, over random small networks and machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from graphs import chain, perceptron, residual, square_conv
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.graph import Vector

TPU = load_accelerator("tpu_v1")


@st.composite
def machines(draw):
    array = replace(
        TPU.array,
        rows=draw(st.integers(1, 40)),
        cols=draw(st.integers(1, 40)),
        weight_fifo_tiles=draw(st.integers(1, 4)),
        accumulator_rows=draw(st.integers(1, 64)),
    )
    buffer, *others = TPU.memory
    buffer = replace(buffer, capacity=draw(st.sampled_from([1, 10**4, 5 * 10**4, 10**9])))
    dram = tuple(
        replace(
            d, bandwidth=draw(st.integers(10**8, 10**12)), burst=draw(st.sampled_from([8, 512]))
        )
        for d in TPU.dram
    )
    return replace(TPU, array=array, memory=(buffer, *others), dram=dram)


@st.composite
def graphs(draw):
    kind = draw(st.sampled_from(["chain", "depthwise", "residual", "perceptron"]))
    channels, size = draw(st.integers(1, 24)), draw(st.integers(3, 10))
    if kind == "residual":
        return residual(channels, size)
    if kind == "perceptron":
        return perceptron("p", draw(st.lists(st.integers(1, 90), min_size=2, max_size=4)))
    groups = channels if kind == "depthwise" else 1
    stride = draw(st.integers(1, 2))
    conv, out = square_conv(channels, channels, 3, size, stride, pad=1, groups=groups)
    pool = ("pool", Vector(4 * out[1] * out[2] * out[3]), out)
    return chain(kind, (1, channels, size, size), [("conv", conv, out), pool])


def random_bits(graph, seed, low=0, high=8):
    rng = np.random.default_rng(seed)
    weights = {x.name: rng.integers(low, high + 1, x.out_channels) for x in graph.weighted}
    return BitWidths(weights, {x.name: int(rng.integers(1, 9)) for x in graph})


cases = st.tuples(graphs(), machines(), st.integers(0, 2**32 - 1), st.integers(1, 3))


@settings(max_examples=150)
@given(case=cases)
def test_cycles_cover_the_macs_and_rows_add_up(case):
    graph, machine, seed, batch = case
    stats = simulate(graph, machine, random_bits(graph, seed, low=1), batch)
    assert stats.macs == graph.macs * batch
    assert stats.cycles * machine.array.pes >= stats.macs
    for layer in stats.layers:
        assert layer.cycles == layer.compute_cycles + layer.stall_cycles
        assert layer.stall_cycles >= 0
        if layer.kind != "input":
            assert layer.dram_bits + sum(layer.onchip_bits.values()) > 0
    assert stats.cycles == sum(layer.cycles for layer in stats.layers)
    frame = stats.to_frame()
    for column in ("cycles", "macs", "dram_read_bits", "energy_pj"):
        assert frame[column].sum() == getattr(stats, column)
    assert 0 < stats.utilisation <= 1


@settings(max_examples=150)
@given(case=cases, factor=st.integers(2, 5))
def test_more_bandwidth_is_never_slower_and_moves_the_same(case, factor):
    graph, machine, seed, batch = case
    bits = random_bits(graph, seed)
    faster = replace(
        machine, dram=tuple(replace(d, bandwidth=d.bandwidth * factor) for d in machine.dram)
    )
    slow, fast = simulate(graph, machine, bits, batch), simulate(graph, faster, bits, batch)
    assert fast.cycles <= slow.cycles
    assert fast.dram_read_bits == slow.dram_read_bits
    assert fast.dram_write_bits == slow.dram_write_bits


@settings(max_examples=150)
@given(case=cases, layer=st.integers(0, 10))
def test_fewer_weight_bits_never_move_more_or_take_longer(case, layer):
    graph, machine, seed, batch = case
    bits = random_bits(graph, seed, low=2)
    name = graph.weighted[layer % len(graph.weighted)].name
    fewer = BitWidths({**bits.weights, name: bits.weights[name] // 2}, bits.activations)
    before, after = simulate(graph, machine, bits, batch), simulate(graph, machine, fewer, batch)
    assert after.cycles <= before.cycles
    assert after.dram_bits <= before.dram_bits
    assert after.energy_pj <= before.energy_pj


@settings(max_examples=100)
@given(case=cases)
def test_every_weight_and_the_network_input_and_output_cross_dram(case):
    graph, machine, seed, batch = case
    bits = random_bits(graph, seed, low=1)
    stats = simulate(graph, machine, bits, batch)
    assert stats.dram_read_bits >= bits.weight_bits(graph) + bits.activation_bits(graph["image"])
    assert stats.dram_write_bits >= bits.activation_bits(graph[graph.outputs[0]]) * batch


@settings(max_examples=100)
@given(case=cases)
def test_a_buffer_that_holds_everything_spills_nothing(case):
    graph, machine, seed, batch = case
    buffer, *others = machine.memory
    roomy = replace(machine, memory=(replace(buffer, capacity=10**12), *others))
    bits = random_bits(graph, seed, low=1)
    large, small = simulate(graph, roomy, bits, batch), simulate(graph, machine, bits, batch)
    assert large.dram_bits <= small.dram_bits
    assert large.fits_on_chip
    inside = [layer for layer in large.layers if layer.name not in ("image", *graph.outputs)]
    assert all(layer.detail["activation_dram_bits"] == 0 for layer in inside)
