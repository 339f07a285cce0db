"""Caps that keep layers on chip."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import residual

from hwsim import BitWidths, Layer, LayerGraph, Tensor, load_accelerator, simulate
from hwsim.graph import Vector
from hwsim.memory import alive_tensors
from quant.allocation.fit import fit_caps

GRAPH = residual(4, 6)  # tensors of 144 values, layers of 4 channels with 36 weights
TPU = load_accelerator("tpu_v1")


def machine(bits: int, **changes):
    buffer, *others = TPU.memory
    return replace(TPU, memory=(replace(buffer, capacity=bits, **changes), *others))


def test_caps_hold_all_tensors_alive_where_tensors_are_kept():
    caps = {cap.name: cap for cap in fit_caps(GRAPH, machine(144 * 12)).caps}
    names = [name for _, name in caps["sum in tpu_v1 unified_buffer"].members]
    assert names == list(alive_tensors(GRAPH)["sum"]) == ["a", "b", "sum"]
    assert caps["a in tpu_v1 unified_buffer"].limit_bits == 144 * 12


def test_a_memory_for_tiles_sets_no_cap():
    assert fit_caps(GRAPH, machine(10, fit="tile")).caps == ()


def test_what_would_fit_only_below_four_bits_an_activation_is_listed_not_capped():
    fit = fit_caps(GRAPH, machine(144 * 10))
    assert {u.layer for u in fit.unfit} == {"sum"}
    assert fit.unfit[0].mean_bits == pytest.approx(10 / 3)
    assert {cap.name.split()[0] for cap in fit.caps} == {"a", "b"}


def test_what_is_capped_can_be_kept_with_the_least_widths():
    least = {"weights": 1, "activations": 3}
    assert not fit_caps(GRAPH, machine(144 * 9), least=least).unfit
    assert fit_caps(GRAPH, machine(144 * 9 - 1), least=least).unfit


def test_fixed_widths_take_their_room_first():
    fixed = {("activations", "image"): 8}
    assert fit_caps(GRAPH, machine(144 * 12), fixed=fixed).unfit == ()
    tight = fit_caps(GRAPH, machine(144 * 11), fixed=fixed)
    assert {u.layer: u.mean_bits for u in tight.unfit} == {
        "a": 11 / 2,
        "sum": pytest.approx(11 / 3),
    }


def test_a_batch_divides_the_room_for_activations():
    one, four = (fit_caps(GRAPH, machine(144 * 80), batch=b).caps[0] for b in (1, 4))
    assert four.limit_bits * 4 == one.limit_bits


def test_weights_are_capped_with_their_metadata():
    fit = fit_caps(GRAPH, machine(2000, holds=("weights",), keeps_tensors=False))
    assert [cap.members for cap in fit.caps] == [(("weights", "a"),), (("weights", "b"),)]
    assert fit.caps[0].overhead_bits == 4 * (16 + 4 + 32)
    least = 4 * 36 * 2 + 4 * (16 + 4 + 32)
    for capacity, unfit in ((least, 0), (least - 1, 2)):
        tight = machine(capacity, holds=("weights",), keeps_tensors=False)
        assert len(fit_caps(GRAPH, tight).unfit) == unfit


def test_weights_and_a_batch_of_activations_in_one_memory_are_refused():
    both = machine(5000, holds=("weights", "ifmap", "ofmap"))
    assert len(fit_caps(GRAPH, both).caps) == 3
    with pytest.raises(ValueError, match="use batch 1"):
        fit_caps(GRAPH, both, batch=2)


def test_caps_follow_the_order_in_which_the_layers_run():
    """x feeds a (6 values) and c (9), each squeezed to 1: the order that squeezes first needs 12
    values at once, the graph's own 17."""
    sizes = {"x": 2, "a": 6, "c": 9, "b": 1, "d": 1, "out": 1}
    x, a, c, b, d, out = (Tensor(name, (1, k, 1, 1)) for name, k in sizes.items())
    layers = (
        Layer("x", "input", Vector(0), (), x),
        Layer("a", "pool", Vector(6), (x,), a),
        Layer("c", "pool", Vector(9), (x,), c),
        Layer("b", "pool", Vector(1), (a,), b),
        Layer("d", "pool", Vector(1), (c,), d),
        Layer("out", "add", Vector(1), (b, d), out),
    )
    graph = LayerGraph("squeeze", layers, ("out",))
    least = {"weights": 8, "activations": 8}
    assert fit_caps(graph, machine(12 * 8), least=least).unfit == ()
    assert fit_caps(graph, machine(12 * 8 - 1), least=least).unfit != ()
    rows = simulate(graph, machine(12 * 8), BitWidths(8, 8)).layers
    required = {row.name: row.required_bits["unified_buffer"] // 8 for row in rows}
    caps = fit_caps(graph, machine(12 * 8), least=least).caps
    alive = {cap.name.split()[0]: sum(sizes[n] for _, n in cap.members) for cap in caps}
    assert alive == {name: need for name, need in required.items() if name != "x"}
