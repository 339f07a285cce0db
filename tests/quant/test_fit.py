"""Caps that keep layers on chip."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import residual

from hwsim import load_accelerator
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
