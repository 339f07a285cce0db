"""The certificate against an exact solver: the dual is the linear programme's value, and the
answer is near the integer programme's.
"""

from __future__ import annotations

import highspy
import numpy as np
import pytest

from analysis.fuzz.allocation import convex_curves
from analysis.fuzz.solver import (
    BUDGETS,
    chain_caps,
    linear_bound,
    memory_caps,
    programme,
)  # fmt: skip
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget, Cap
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import build
from quant.curves import RDCurves


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BUDGETS)
def test_the_dual_is_the_value_of_the_linear_programme(name: str, seed: int) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=10, channels=20, tensors=12)
    problem = build(curves, BUDGETS[name](curves))
    dual = problem.dual_value(find_prices(problem).multipliers)
    assert dual == pytest.approx(linear_bound(problem), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 25])
def test_the_dual_holds_its_value_where_some_memories_have_no_room(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = convex_curves(rng, layers=6, channels=10, tensors=10)
    caps = [*chain_caps(curves, 5.2), *memory_caps(curves, 4.3)]
    for i in rng.permutation(len(caps))[:3]:  # down to 1 bit for tensors and none for weights
        tensors = [name for kind, name in caps[i].members if kind == "activations"]
        least = sum(curves.activation(name).values for name in tensors)
        caps[i] = Cap(caps[i].name, caps[i].members, least)
    budget = Budget(weight_bits=4, activation_bits=6, caps=tuple(caps))
    problem = build(curves, budget)
    dual = problem.dual_value(find_prices(problem).multipliers)
    assert dual == pytest.approx(linear_bound(problem), rel=1e-9)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("name", [*BUDGETS])
def test_the_solver_finds_nothing_better_than_the_bound(name: str, seed: int) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=6, channels=8, tensors=6)
    budget = BUDGETS[name](curves)
    answer = allocate(curves, budget)
    highs = programme(build(curves, budget), whole=True, seconds=5)
    best = float(highs.getInfo().objective_function_value)  # feasible even if time ran out
    assert answer.lower_bound <= best * (1 + 1e-7)
    assert answer.predicted_distortion <= best * (1 + 1e-4)
    if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
        assert answer.predicted_distortion >= best * (1 - 1e-7)


@pytest.mark.parametrize("name", ["few widths", "caps apart", "tensor caps in a budget"])
def test_few_items_are_allocated_exactly_and_proven_so(name: str) -> None:
    curves = convex_curves(np.random.default_rng(2), layers=8, channels=12, tensors=6)
    answer = allocate(curves, BUDGETS[name](curves))
    assert answer.relative_gap < 1e-5


@pytest.mark.parametrize("seed", [0, 5])
def test_tensors_in_a_chain_of_memories_are_allocated_as_well_as_by_the_solver(seed: int) -> None:
    drawn = convex_curves(np.random.default_rng(seed), layers=1, channels=10, tensors=20)
    curves = RDCurves("tensors", (), drawn.activations)
    budget = Budget(activation_bits=6, caps=chain_caps(curves, 5.2))
    highs = programme(build(curves, budget), whole=True)
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    best = highs.getInfo().objective_function_value
    answer = allocate(curves, budget)
    assert answer.predicted_distortion <= best * (1 + 1e-6)
    assert answer.lower_bound >= best * (1 - 1e-4)


@pytest.mark.parametrize("seed", [2, 5])
def test_weights_take_what_the_large_steps_of_tensors_leave(seed: int) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=12, channels=20, tensors=5)
    total = int(3 * curves.weight_values + 0.02 * 5 * curves.activation_values)
    budget = Budget(total_bits=total, activation_rate=0.02)
    highs = programme(build(curves, budget), whole=True, seconds=20)
    bound = float(highs.getInfo().mip_dual_bound)
    assert allocate(curves, budget).predicted_distortion <= bound * (1 + 2e-4)
