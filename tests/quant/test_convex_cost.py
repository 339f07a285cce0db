"""Convex costs, and rows that touch them, against the whole linear programme."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fuzz.allocation import convex_curves, small_budget, small_curves
from quant.allocation.budget import Budget
from quant.allocation.convex_cost import ConvexCost, CostLimit, touched_by_lines
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem, build

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds)
def test_a_cost_is_the_largest_convex_one_below_its_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate, cost = rng.integers(0, 30, 7).astype(float), rng.integers(0, 30, 7).astype(float)
    found = ConvexCost.through(rate.tolist(), cost.tolist())
    assert (np.diff(found.slopes) > 0).all()
    assert (found.slopes >= 0).all()
    for r, c in zip(rate, cost, strict=True):
        assert found.at(float(r)) <= c + 1e-12
    for r, c in zip(found.rate, found.cost, strict=True):  # a knot lies on a point, or right of one
        assert any(c == point and r <= at for at, point in zip(rate, cost, strict=True))
    for slope in (0.0, 0.3, 2.0):
        lines = found.line(slope) + slope * found.rate
        assert (lines <= found.cost + 1e-12).all()
        assert np.isclose(lines, found.cost).any()


def test_a_layer_computes_for_as_long_as_its_bits_take_no_longer() -> None:
    cost = ConvexCost.through([10, 20, 30, 40], [100, 100, 150, 200])
    assert cost.rate.tolist() == [10, 20, 40]
    assert cost.slopes.tolist() == [0, 5]
    assert [cost.at(r) for r in (10, 20, 25, 50)] == [100, 100, 125, 250]


def random_limit(problem: Problem, rng: np.random.Generator, share: float) -> CostLimit:
    """Knees anywhere among the rates of each group, and a limit that binds."""
    least, most = (
        problem.rates(bits)
        for bits in (problem.narrowest, problem.choose(np.zeros(len(problem.keys))))
    )
    costs = {}
    for g in range(len(problem.keys)):
        knots = least[g] + (most[g] - least[g]) * np.array([0, *sorted(rng.random(2)), 1])
        slopes = np.cumsum(rng.integers(0, 3, 3)) * rng.choice([0.1, 1, 10])
        cost = np.concatenate([[5.0], 5 + np.cumsum(slopes * np.diff(knots))])
        costs[g] = ConvexCost.through(knots.tolist(), cost.tolist())
    limit = CostLimit("latency", costs, 0.0)
    ends = limit.total(least), limit.total(most)
    return CostLimit("latency", costs, ends[0] + share * (ends[1] - ends[0]))


@given(seed=seeds, share=st.floats(0.05, 0.95))
def test_no_widths_within_the_cost_are_below_the_bound(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    curves = small_curves(rng)
    problem = build(curves, small_budget(rng, curves))
    if (problem.rows @ problem.rates(problem.narrowest) > problem.limits).any():
        return
    limit = random_limit(problem, rng, share)
    _, bound = touched_by_lines(problem, [limit], problem.rates(problem.narrowest))
    choices = [np.flatnonzero(np.isfinite(column)) for column in problem.points.T]
    for combination in itertools.product(*choices):
        bits = np.array(combination)
        rates = problem.rates(bits)
        if limit.total(rates) <= limit.limit and (problem.rows @ rates <= problem.limits).all():
            assert bound <= problem.distortions(bits).sum() * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("budget", [Budget(), Budget(weight_bits=4.5), Budget(weight_bits=3)])
def test_the_bound_is_within_a_step_of_the_linear_programme_with_its_knees(
    seed: int, budget: Budget
) -> None:
    highspy = pytest.importorskip("highspy")
    rng = np.random.default_rng(seed)
    curves = convex_curves(rng, layers=8, channels=60, tensors=0)
    problem = build(curves, budget)
    limit = random_limit(problem, rng, 0.2)
    free = problem.rates(problem.choose(find_prices(problem).prices))
    _, bound = touched_by_lines(problem, [limit], free)
    width, item = np.nonzero(np.isfinite(problem.points))
    group = problem.group[item]
    rate = width * problem.values[group]
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # its scheduler takes one number in a process
    shares = [highs.addVariable(lb=0, ub=1, obj=problem.points[w, i])
              for w, i in zip(width, item, strict=True)]  # fmt: skip
    times = [highs.addVariable(lb=0) for _ in problem.keys]
    for i in range(problem.items):
        highs.addConstr(sum(shares[k] for k in np.flatnonzero(item == i)) == 1)
    used = [
        sum(float(rate[k]) * shares[k] for k in np.flatnonzero(group == g))
        for g in range(len(problem.keys))
    ]
    for row, most in zip(problem.rows, problem.limits, strict=True):
        highs.addConstr(sum(float(row[g]) * used[g] for g in np.flatnonzero(row)) <= float(most))
    for g, cost in limit.costs.items():
        for slope in cost.slopes if len(cost.slopes) else [0.0]:
            highs.addConstr(times[g] >= cost.line(float(slope)) + float(slope) * used[g])
    highs.addConstr(sum(times) <= limit.limit)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    best = highs.getInfo().objective_function_value
    assert bound <= best * (1 + 1e-7)
    assert bound >= best * (1 - 1e-3)
