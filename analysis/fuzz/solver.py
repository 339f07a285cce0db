"""The allocation against an exact solver, HiGHS (extra `solver`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import highspy
import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.allocation import convex_curves
from quant.allocation.budget import Budget, Cap, Kind
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem, build
from quant.curves import RDCurves


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
        members: tuple[tuple[Kind, str], ...] = (
            ("weights", weights.name), ("activations", into.name), ("activations", out.name),
        )  # fmt: skip
        caps.append(Cap(f"memory of {weights.name}", members, int(share * size)))
    return tuple(caps)


BUDGETS: dict[str, Callable[[RDCurves], Budget]] = {
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


@dataclass(frozen=True)
class SolverCase:
    """Random curves of a few dozen channels and tensors under one of `BUDGETS`."""

    budget: str
    seed: int
    layers: int
    channels: int
    tensors: int


cases = st.builds(
    SolverCase,
    budget=st.sampled_from(list(BUDGETS)),
    seed=st.integers(0, 2**32 - 1),
    layers=st.integers(2, 8),
    channels=st.integers(2, 12),
    tensors=st.integers(2, 8),
)


def check(case: SolverCase) -> None:
    """The certificate's bound is the value of the linear programme."""
    rng = np.random.default_rng(case.seed)
    curves = convex_curves(rng, case.layers, case.channels, case.tensors)
    problem = build(curves, BUDGETS[case.budget](curves))
    dual = problem.dual_value(find_prices(problem).multipliers)
    np.testing.assert_allclose(dual, linear_bound(problem), rtol=1e-6)
