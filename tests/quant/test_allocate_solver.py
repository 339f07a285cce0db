"""The certificate against an exact solver: the dual is the linear programme's value, and the
answer is near the integer programme's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from analysis.fuzz.allocation import convex_curves
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget, Cap
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem, build
from quant.curves import RDCurves

highspy = pytest.importorskip("highspy")


def programme(problem: Problem, whole: bool, seconds: float = 60) -> Any:
    """One variable per item and allowed width, one of them chosen; the limits as rows.

    Returns HiGHS after it has run. Each row is scaled so that its limit is 1, and the tolerance of
    whole solutions is such that not one bit too many is taken.
    """
    width, item = np.nonzero(np.isfinite(problem.points))
    order = np.lexsort((width, item))
    width, item = width[order], item[order]
    group = problem.group[item]
    rate = width * problem.values[group]
    unit = np.maximum(problem.limits, 1.0)
    columns, rows = len(width), len(problem.limits)
    counts = problem.rows[:, group] * rate / unit[:, None]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, problem.items + rows
    lp.col_cost_ = problem.points[width, item]
    lp.col_lower_, lp.col_upper_ = np.zeros(columns), np.ones(columns)
    lp.row_lower_ = np.concatenate([np.ones(problem.items), np.full(rows, -np.inf)])
    lp.row_upper_ = np.concatenate([np.ones(problem.items), problem.limits / unit])
    used, at = np.nonzero(counts)
    index = np.concatenate([item, problem.items + used])
    column = np.concatenate([np.arange(columns), at])
    value = np.concatenate([np.ones(columns), counts[used, at]])
    by_column = np.lexsort((index, column))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(column[by_column], np.arange(columns + 1))
    lp.a_matrix_.index_, lp.a_matrix_.value_ = index[by_column], value[by_column]
    if whole:
        lp.integrality_ = [highspy.HighsVarType.kInteger] * columns
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("time_limit", seconds)
    highs.setOptionValue("threads", 1)
    if whole:
        for option in ("primal_feasibility_tolerance", "mip_feasibility_tolerance"):
            highs.setOptionValue(option, 1e-10)
    highs.setOptionValue("mip_rel_gap", 1e-9)
    highs.setOptionValue("mip_abs_gap", 0.0)
    highs.passModel(lp)
    highs.run()
    return highs


def linear_bound(problem: Problem) -> float:
    highs = programme(problem, whole=False)
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(highs.getInfo().objective_function_value)


def weight_caps(curves: RDCurves, share: float) -> tuple[Cap, ...]:
    return tuple(
        Cap(f"weights of {c.name}", (("weights", c.name),), int(share * c.values * c.channels))
        for c in curves.weights[::2]
    )


def chain_caps(curves: RDCurves, share: float) -> tuple[Cap, ...]:
    return tuple(
        Cap(
            f"{a.name} and {b.name}",
            (("activations", a.name), ("activations", b.name)),
            int(share * (a.values + b.values)),
        )
        for a, b in pairwise(curves.activations)
    )


def memory_caps(curves: RDCurves, share: float) -> tuple[Cap, ...]:
    """A layer's weights beside its input and output."""
    caps = []
    for weights, (into, out) in zip(curves.weights[1:], pairwise(curves.activations), strict=False):
        size = weights.values * weights.channels + into.values + out.values
        members = (
            ("weights", weights.name), ("activations", into.name), ("activations", out.name),
        )  # fmt: skip
        caps.append(Cap(f"memory of {weights.name}", members, int(share * size)))
    return tuple(caps)


BUDGETS = {
    "weights": lambda c: Budget(weight_bits=3.3),
    "both": lambda c: Budget(weight_bits=3, activation_bits=4.7),
    "joint": lambda c: Budget(total_bits=3 * c.weight_values + 5 * c.activation_values),
    "joint, cheap activations": lambda c: Budget(
        total_bits=int(3 * c.weight_values + 0.01 * 5 * c.activation_values), activation_rate=0.01
    ),
    "metadata": lambda c: Budget(
        weight_total_bits=3 * c.weight_values, metadata_bits=24, activation_bits=6
    ),
    "few widths": lambda c: Budget(weight_bits=4, weight_widths=(2, 4, 8)),
    "caps apart": lambda c: Budget(weight_bits=4, caps=weight_caps(c, 3.5)),
    "caps in caps": lambda c: Budget(
        weight_bits=4,
        total_bits=4 * c.weight_values + 3 * c.activation_values,
        caps=weight_caps(c, 3.5),
    ),
    "caps in a chain": lambda c: Budget(weight_bits=4, activation_bits=6, caps=chain_caps(c, 5.2)),
    "tensor caps in a budget": lambda c: Budget(
        activation_bits=4.2,
        caps=tuple(
            Cap(f"memory of {t.name}", (("activations", t.name),), int(4.6 * t.values))
            for t in c.activations[::2]
        ),
    ),
    "memories and metadata": lambda c: Budget(
        weight_bits=4, activation_bits=6, metadata_bits=48, caps=memory_caps(c, 4.3)
    ),
    "memories": lambda c: Budget(weight_bits=4, activation_bits=6, caps=memory_caps(c, 4.3)),
}


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
