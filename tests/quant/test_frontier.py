"""The frontier of a few large items against every combination of their widths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fuzz.allocation import small_budget, small_curves
from quant.allocation import frontier
from quant.allocation.budget import Budget, Cap
from quant.allocation.frontier import search
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem, build
from quant.curves import RDCurves, TensorCurve

seeds = st.integers(0, 2**32 - 1)


def costs_of_all(problem: Problem, multipliers: np.ndarray) -> dict[tuple[int, ...], float]:
    """{widths that keep the limits: distortion above the Lagrangian dual}."""
    dual = problem.dual_value(multipliers)
    choices = [np.flatnonzero(np.isfinite(column)) for column in problem.points.T]
    found = {}
    for combination in itertools.product(*choices):
        bits = np.array(combination)
        if (problem.rows @ problem.rates(bits) <= problem.limits).all():
            found[combination] = float(problem.distortions(bits).sum()) - dual
    return found


def feasible(rng: np.random.Generator) -> Problem | None:
    curves = small_curves(rng)
    problem = build(curves, small_budget(rng, curves))
    kept = (problem.rows @ problem.rates(problem.narrowest) <= problem.limits).all()
    return problem if kept and len(problem.limits) else None


@given(seed=seeds)
def test_the_first_choice_is_the_best_of_all(seed: int) -> None:
    problem = feasible(np.random.default_rng(seed))
    if problem is None:
        return
    multipliers = find_prices(problem).multipliers
    costs = costs_of_all(problem, multipliers)
    worst = max(costs.values()) + 1
    rows, items = np.arange(len(problem.limits)), np.arange(problem.items)
    found = search(problem, items, rows, multipliers, worst)
    scale = float(problem.points[np.isfinite(problem.points)].max()) + 1
    assert abs(found.cost[0] - min(costs.values())) <= 1e-9 * scale
    assert tuple(found.widths[0].tolist()) in costs
    assert found.missed >= found.cost[0] - 1e-9 * scale
    for widths, cost, usage in zip(found.widths, found.cost, found.usage, strict=True):
        assert abs(cost - costs[tuple(widths.tolist())]) <= 1e-9 * scale
        assert np.allclose(usage, problem.rows @ problem.rates(widths))


@given(seed=seeds)
def test_items_under_many_overlapping_caps_are_chosen_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = []
    for i in range(6):
        d = -np.sort(-rng.lognormal(0, 2, 9))
        d[0] = np.inf
        tensors.append(TensorCurve(f"a{i}", d, int(rng.integers(1, 9))))
    caps = []
    for i in range(5):
        members = [tensors[k] for k in rng.permutation(6)[: int(rng.integers(2, 5))]]
        most = int(rng.uniform(3, 7) * sum(t.values for t in members))
        caps.append(Cap(f"cap{i}", tuple(("activations", t.name) for t in members), most))
    widths = (2, 4, 7)
    curves = RDCurves("caps", (), tuple(tensors))
    problem = build(curves, Budget(caps=tuple(caps), activation_widths=widths))
    multipliers = find_prices(problem).multipliers
    costs = costs_of_all(problem, multipliers)
    found = search(problem, np.arange(6), np.arange(5), multipliers, max(costs.values()) + 1)
    assert found.cost[0] == pytest.approx(min(costs.values()), abs=1e-9)


@given(seed=seeds)
def test_what_is_dropped_for_lack_of_room_costs_at_least_what_is_said(seed: int) -> None:
    problem = feasible(np.random.default_rng(seed))
    if problem is None:
        return
    multipliers = find_prices(problem).multipliers
    costs = costs_of_all(problem, multipliers)
    rows, items = np.arange(len(problem.limits)), np.arange(problem.items)
    scale = float(problem.points[np.isfinite(problem.points)].max()) + 1
    kept, frontier._STATES = frontier._STATES, 2
    try:
        found = search(problem, items, rows, multipliers, max(costs.values()) + 1)
    finally:
        frontier._STATES = kept
    best = min([found.missed, *found.cost])
    assert best <= min(costs.values()) + 1e-9 * scale


@given(seed=seeds)
def test_beside_other_items_no_choice_that_may_be_the_best_is_lost(seed: int) -> None:
    problem = feasible(np.random.default_rng(seed))
    if problem is None or problem.items < 2:
        return
    multipliers = find_prices(problem).multipliers
    costs = costs_of_all(problem, multipliers)
    best = min(costs.values())
    rows, items = np.arange(len(problem.limits)), np.arange(1, problem.items)
    scale = float(problem.points[np.isfinite(problem.points)].max()) + 1
    found = search(problem, items, rows, multipliers, best + 1e-6 * scale)
    reached = [
        cost
        for widths in found.widths
        for combination, cost in costs.items()
        if combination[1:] == tuple(widths.tolist())
    ]
    assert min(reached) <= best + 1e-9 * scale
