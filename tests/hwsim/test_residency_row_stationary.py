"""Tensors kept in the buffer of a row-stationary array."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import attention, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from test_residency_systolic import branches

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import Accelerator
from hwsim.graph import LayerGraph
from hwsim.memory import alive_tensors
from hwsim.stats import LayerStats, NetworkStats

EYERISS = load_accelerator("eyeriss_v1")
WORD = 16


def chip(capacity: int | None = None, keeps: bool = True, **array: object) -> Accelerator:
    """Eyeriss with a buffer that keeps tensors and has another capacity than its banks say, so
    that the mappings stay the same whatever is left for tensors."""
    gbuf = EYERISS.memory_for("ifmap")
    kept = replace(gbuf, keeps_tensors=keeps, fit="tile", capacity=capacity or gbuf.capacity)
    memory = tuple(kept if m is gbuf else m for m in EYERISS.memory)
    return replace(EYERISS, memory=memory, array=replace(EYERISS.array, **array))


def row(stats: NetworkStats, name: str) -> LayerStats:
    return next(layer for layer in stats.layers if layer.name == name)


def activation_bits(stats: NetworkStats) -> int:
    return sum(
        int(layer.detail["dram_ifmap_bits"]) + int(layer.detail["dram_ofmap_bits"])
        for layer in stats.layers
    )


def test_the_preset_keeps_nothing():
    assert not EYERISS.memory_for("ifmap").keeps_tensors
    stats = simulate(residual(4, 6), EYERISS, BitWidths(8, 8))
    assert all("ofmap_kept" not in layer.detail for layer in stats.layers)
    assert all(layer.dram_write_bits for layer in stats.layers)


def test_what_is_kept_does_not_cross_dram_and_costs_no_transfer_time():
    graph, bits = residual(4, 6), BitWidths(8, 8)
    from_dram, kept = (simulate(graph, chip(10**9, keeps), bits) for keeps in (False, True))
    for name in ("a", "b"):  # the sum leaves, the image comes from outside
        assert row(kept, name).dram_write_bits == 0 < row(from_dram, name).dram_write_bits
        assert row(kept, name).cycles < row(from_dram, name).cycles
        assert row(kept, name).detail["mapping"] == row(from_dram, name).detail["mapping"]
        assert row(kept, name).energy_pj < row(from_dram, name).energy_pj
    assert row(kept, "sum").detail["dram_ifmap_bits"] == 0
    assert row(kept, "sum").dram_write_bits == row(from_dram, "sum").dram_write_bits
    assert (
        row(kept, "a").detail["dram_ifmap_bits"]
        == row(from_dram, "a").dram_read_bits - (row(from_dram, "a").detail["dram_filter_bits"])
    )


@pytest.mark.parametrize("pack", [False, True])
def test_kept_tensors_take_whole_words_beside_the_tiles_to_the_bit(pack):
    """4-bit values of `a` fill a word each, or four share one; b needs a's room and its tile's."""
    graph, bits = residual(4, 6), BitWidths(8, 4)
    roomy = simulate(graph, chip(10**9, pack_words=pack), bits)
    size = 144 * WORD // (4 if pack else 1)
    without = simulate(graph, chip(10**9, keeps=False, pack_words=pack), bits)
    tiles = {layer.name: layer.required_bits["gbuf"] for layer in without.layers}
    required = {layer.name: layer.required_bits["gbuf"] for layer in roomy.layers}
    assert required == {
        "a": tiles["a"] + size, "b": tiles["b"] + 2 * size, "sum": 3 * size,
    }  # fmt: skip
    enough = max(required.values())
    assert row(simulate(graph, chip(enough, pack_words=pack), bits), "b").detail["ofmap_kept"]
    short = simulate(graph, chip(enough - 1, pack_words=pack), bits)
    assert not all(layer.detail["ofmap_kept"] for layer in short.layers)
    assert short.dram_bits > roomy.dram_bits


@settings(max_examples=15)
@given(shape=st.tuples(st.integers(1, 5), st.integers(3, 6), st.sampled_from([1, 3])),
       batch=st.integers(1, 2), bits=st.integers(1, 16), percent=st.integers(0, 100),
       more=st.integers(0, 50))  # fmt: skip
def test_more_room_never_moves_more_and_tiles_and_kept_tensors_fit_it(
    shape, batch, bits, percent, more
):
    graph, widths = branches(*shape), BitWidths(8, bits)
    full = simulate(graph, chip(10**9), widths, batch)
    top = max(layer.required_bits["gbuf"] for layer in full.layers)
    tiles = max(
        layer.required_bits["gbuf"]
        for layer in simulate(graph, chip(10**9, False), widths, batch).layers
    )
    capacity = tiles + (top - tiles) * percent // 100
    stats = simulate(graph, chip(capacity), widths, batch)
    larger = simulate(graph, chip(capacity + top * more // 100), widths, batch)
    assert stats.fits_on_chip
    assert larger.dram_bits <= stats.dram_bits
    assert larger.cycles <= stats.cycles
    nothing = simulate(graph, chip(10**9, False), widths, batch)
    assert full.dram_bits <= larger.dram_bits <= stats.dram_bits <= nothing.dram_bits
    _check_saving(graph, stats, nothing)


def _check_saving(graph: LayerGraph, stats: NetworkStats, nothing: NetworkStats) -> None:
    """A layer whose operands are all in DRAM moves what it moves where nothing is kept."""
    kept = {layer.name for layer in stats.layers if layer.detail["ofmap_kept"]}
    if "joined" not in kept:
        kept |= {"joined"} & {n for n in ("joined",) if kept & {"a", "b2", "c"}}
    for layer in stats.layers:
        reads = {tensor.name for tensor in graph[layer.name].inputs}
        if not reads & kept and layer.name not in kept:
            assert layer.dram_bits == row(nothing, layer.name).dram_bits
        if reads <= kept and layer.name not in ("sum",) and "joined" not in reads:
            assert layer.detail["dram_ifmap_bits"] == 0


def test_second_operands_and_network_inputs_stay_in_dram():
    stats = simulate(attention(6, 8), chip(10**9), BitWidths(8, 8))
    assert row(stats, "q").detail["ofmap_kept"]
    assert not row(stats, "k").detail["ofmap_kept"]
    assert row(stats, "k").dram_write_bits > 0
    assert row(stats, "scores").detail["dram_ifmap_bits"] == 0
    assert row(stats, "scores").detail["dram_filter_bits"] > 0
    assert row(stats, "q").detail["dram_ifmap_bits"] > 0


def test_parts_of_a_concatenation_that_are_kept_leave_their_share_of_the_reads():
    graph, bits = branches(4, 6, 1), BitWidths(8, 8)
    nothing = simulate(graph, chip(10**9, False), bits)
    assert row(nothing, "joined").cycles == 0
    tile = max(layer.required_bits["gbuf"] for layer in nothing.layers)
    size = 4 * 36 * WORD
    shares = set()
    for capacity in range(tile, tile + 6 * size, size):
        reads = row(simulate(graph, chip(capacity), bits), "e").detail["dram_ifmap_bits"]
        thirds = 3 * reads / row(nothing, "e").detail["dram_ifmap_bits"]
        assert thirds == pytest.approx(round(thirds), abs=0.2)  # up to whole words of the link
        shares.add(round(thirds))
    assert {0, 3} < shares <= {0, 1, 2, 3}


def test_weights_that_are_to_be_kept_are_refused():
    filters = replace(EYERISS.memory_for("weights"), keeps_weights=True)
    other = replace(EYERISS, memory=(EYERISS.memory_for("ifmap"), filters))
    with pytest.raises(ValueError, match="filters stream in every pass: leave it out"):
        simulate(residual(4, 6), other, BitWidths(8, 8))


def test_what_is_alive_follows_the_order_given():
    graph = branches(2, 3)
    order = [n for n in graph.liveness.names if n != "c"]
    order.insert(order.index("a"), "c")
    alive = alive_tensors(graph, order)
    assert alive["c"] == ("image", "c")
    assert alive["joined"] == ("image", "c", "a", "b2")
