"""Residency: what is alive, what stays, what spills."""

from __future__ import annotations

from dataclasses import replace

from graphs import residual

from hwsim import BitWidths, load_accelerator
from hwsim.memory import alive_tensors, held_bits, held_operands, plan_residency

GRAPH = residual(4, 6)  # every tensor has 4 * 6 * 6 = 144 values
SIZE = 144 * 8


TPU = load_accelerator("tpu_v1")
BUFFER = TPU.memory_for("ifmap")


def test_a_residual_branch_keeps_its_input_alive():
    assert alive_tensors(GRAPH) == {
        "image": ("image",),
        "a": ("image", "a"),
        "b": ("a", "b"),
        "sum": ("a", "b", "sum"),
    }
    plan = plan_residency(GRAPH, BitWidths(8, 8), 1, 10**9)
    assert plan.resident == {"image", "a", "b", "sum"}


def test_a_memory_holds_what_it_is_for_and_only_kept_tensors_outlive_their_layer():
    wide = BitWidths({"a": 2, "b": 3}, 8)
    everything = replace(BUFFER, holds=("weights", "ifmap", "ofmap"))
    held = held_operands(GRAPH, everything)
    assert held["b"] == (("weights", "b"), ("activations", "a"), ("activations", "b"))
    assert held_bits(GRAPH, wide, 3, held["b"], 52) == 3 * 144 + 4 * 52 + 2 * 3 * SIZE
    filters = replace(BUFFER, holds=("weights",))
    assert held_operands(GRAPH, filters)["sum"] == ()
    skip = replace(GRAPH.layers[2], inputs=(GRAPH["image"].output,))
    branch = replace(GRAPH, layers=(*GRAPH.layers[:2], skip, GRAPH.layers[3]))
    tiles = replace(BUFFER, keeps_tensors=False)
    assert [name for _, name in held_operands(branch, tiles)["b"]] == ["image", "b"]
    assert [name for _, name in held_operands(branch, BUFFER)["b"]] == ["image", "a", "b"]


def test_what_does_not_fit_beside_the_others_spills():
    plan = plan_residency(GRAPH, BitWidths(8, 8), 1, 2 * SIZE)
    assert plan.resident == {"image", "a", "b"}


def test_a_batch_takes_its_room():
    assert plan_residency(GRAPH, BitWidths(8, 8), 3, 2 * SIZE).resident == frozenset()
    plan = plan_residency(GRAPH, BitWidths(8, 2), 3, 3 * SIZE)
    assert plan.resident == {"image", "a", "b", "sum"}
