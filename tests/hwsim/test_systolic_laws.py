"""Laws that any honest model keeps, over random small networks and machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from graphs import attention, chain, perceptron, residual, square_conv
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
        dataflow=draw(
            st.sampled_from(["weight_stationary", "output_stationary", "input_stationary"])
        ),
        schedule=draw(st.sampled_from(["pipelined", "pipelined", "serial"])),
    )
    buffer, *others = TPU.memory
    buffer = replace(buffer, capacity=draw(st.sampled_from([1, 10**4, 5 * 10**4, 10**9])))
    dram = tuple(
        replace(
            d,
            bandwidth=draw(st.integers(10**8, 10**12)),
            burst=draw(st.sampled_from([8, 512])),
            turnaround=draw(st.sampled_from([0, 15_000])),
        )
        for d in TPU.dram
    )
    if draw(st.booleans()):  # one channel for both operands
        dram = (replace(dram[0], carries=("weights", "activations")),)
    return replace(TPU, array=array, memory=(buffer, *others), dram=dram)


@st.composite
def graphs(draw):
    kind = draw(st.sampled_from(["chain", "depthwise", "residual", "perceptron", "attention"]))
    channels, size = draw(st.integers(1, 24)), draw(st.integers(3, 10))
    if kind == "residual":
        return residual(channels, size)
    if kind == "attention":
        return attention(size, channels)
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


@settings(max_examples=60)
@given(machine=machines(), tokens=st.integers(1, 12), width=st.integers(1, 30))
def test_a_spilled_second_operand_comes_back_over_the_channel_that_took_it(machine, tokens, width):
    buffer, *others = machine.memory
    tiny = replace(machine, memory=(replace(buffer, capacity=1), *others))
    graph = attention(tokens, width)
    scores = simulate(graph, tiny, BitWidths(8, 8), 2).layers[-1]
    assert scores.detail["weight_dram_bits"] == 0
    operands = 2 * 2 * tokens * width * 8
    result = 2 * tokens * tokens * 8
    assert scores.detail["activation_dram_bits"] >= operands + result
    # both operands must have come back before the last row can stream
    bits_per_cycle = tiny.dram_for("activations").bandwidth / tiny.clock
    assert scores.cycles >= operands / bits_per_cycle


def test_a_memory_for_several_operands_needs_room_for_all_of_them():
    graph = residual(4, 6)
    buffer = replace(TPU.memory[0], holds=("ifmap", "ofmap", "psum", "weights"))
    apart = simulate(graph, TPU, BitWidths(8, 8)).layers[1]
    together = simulate(graph, replace(TPU, memory=(buffer,)), BitWidths(8, 8)).layers[1]
    filters = 4 * 36 * 8 + 4 * TPU.metadata.bits
    needed = apart.required_bits["unified_buffer"] + apart.required_bits["accumulators"]
    assert together.required_bits == {"unified_buffer": needed + filters}
    assert together.onchip_bits == {"unified_buffer": sum(apart.onchip_bits.values())}


def test_wide_operands_make_more_psums():
    graph = residual(4, 6)
    traffic = [
        simulate(graph, TPU, BitWidths(w, a)).layers[1].onchip_bits["accumulators"]
        for w, a in ((8, 8), (16, 8), (16, 16))
    ]
    assert traffic == [traffic[0], 2 * traffic[0], 4 * traffic[0]]


def test_one_channel_for_both_operands_takes_the_time_of_all_transfers():
    # 64 bits a cycle for everything: the network cannot end before its traffic has crossed
    dram = replace(TPU.dram[0], carries=("weights", "activations"), bandwidth=64 * TPU.clock)
    one = simulate(residual(4, 6), replace(TPU, dram=(dram,)), BitWidths(8, 8))
    assert one.cycles >= one.dram_bits / 64
    # all reads come before the only write, that of the network's output: the channel turns once,
    # and 50 us, 35,000 cycles, are more than all that it could hide behind
    turning = replace(TPU, dram=(replace(dram, turnaround=50 * 10**6),))
    slower = simulate(residual(4, 6), turning, BitWidths(8, 8))
    assert 35_000 < slower.cycles < 35_000 + one.cycles
    assert slower.dram_bits == one.dram_bits


@settings(max_examples=100)
@given(case=cases, factor=st.integers(2, 5))
def test_compute_cycles_do_not_depend_on_the_dram(case, factor):
    graph, machine, seed, batch = case
    bits = random_bits(graph, seed, low=1)
    slower = tuple(replace(d, bandwidth=d.bandwidth // factor) for d in machine.dram)
    here = simulate(graph, machine, bits, batch)
    there = simulate(graph, replace(machine, dram=slower), bits, batch)
    assert there.compute_cycles == here.compute_cycles
    assert all(layer.compute_cycles >= 0 for layer in there.layers)
