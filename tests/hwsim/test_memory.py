"""Residency: what is alive, what stays, what spills."""

from __future__ import annotations

from graphs import residual

from hwsim import BitWidths
from hwsim.memory import plan_residency

GRAPH = residual(4, 6)  # every tensor has 4 * 6 * 6 = 144 values
SIZE = 144 * 8


def test_a_residual_branch_keeps_its_input_alive():
    plan = plan_residency(GRAPH, BitWidths(8, 8), 1, 10**9)
    # image; image + a; a + b (image is done); a + b + sum
    assert plan.alive_bits == (SIZE, 2 * SIZE, 2 * SIZE, 3 * SIZE)
    assert plan.resident == {"image", "a", "b", "sum"}


def test_what_does_not_fit_beside_the_others_spills():
    plan = plan_residency(GRAPH, BitWidths(8, 8), 1, 2 * SIZE)
    assert plan.resident == {"image", "a", "b"}


def test_a_batch_takes_its_room():
    assert plan_residency(GRAPH, BitWidths(8, 8), 3, 2 * SIZE).resident == frozenset()
    plan = plan_residency(GRAPH, BitWidths(8, 2), 3, 3 * SIZE)
    assert plan.resident == {"image", "a", "b", "sum"}
