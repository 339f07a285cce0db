"""allocate: one bit width for every channel, by equal slopes, under limits, with a certificate.

Every channel chooses the point of its lower convex hull where the slope sits; the slope is what
brings the sum of the rates to the budget. Cost is linear in channels times widths. What the slope
leaves of the budget is filled channel by channel. The Lagrangian dual at the same slopes bounds
the distortion of any other allocation from below: Everett, Operations Research 11(3), 1963;
Shoham and Gersho, IEEE Trans. ASSP 36(9), 1988.
"""

from __future__ import annotations

import numpy as np

from hwsim.bits import BitWidths
from quant.allocation.allocation import Allocation, Constraint
from quant.allocation.budget import KINDS, Budget, Kind
from quant.allocation.fill import fill_greedily, take_ties
from quant.allocation.large_steps import FEW_ITEMS, Part, improve, improve_caps
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem, build, check_feasible
from quant.curves import RDCurves
from quant.granularity import CHANNEL, LAYER, group_problem


def allocate(curves: RDCurves, budget: Budget, group: int = CHANNEL) -> Allocation:
    """Least predicted distortion within the budget.

    group: up to so many neighbouring output channels of a layer share a width (the largest number
    that divides the layer's channels); the lower bound then holds for such groups.
    Exact up to the relative gap that the answer states: what is lost because a channel's width
    is a whole number. The same curves and budget give the same answer; of equal choices the
    lower rate is taken, then the lower index. A budget above the rate of the least distortion
    gives that, with rate left over.
    Raises InfeasibleBudget if a limit is below the narrowest allowed widths, and ValueError for
    a budget that names layers or limits activations that the curves do not have.
    """
    problem = group_problem(curves, budget, group)
    check_feasible(problem)
    return to_allocation(curves, problem, *solve(problem))


def per_layer(curves: RDCurves, budget: Budget) -> Allocation:
    """The best with one width per layer, by the same method: what finer granularity is held
    against. Its lower bound holds for one width per layer. Raises as `allocate` does.
    """
    return allocate(curves, budget, LAYER)


def equal_widths(
    curves: RDCurves, weight_bits: int, activation_bits: int | None = None
) -> Allocation:
    """The same width everywhere. Its lower bound is that of any widths of at most its rates.

    activation_bits: needed if the curves have activations. Raises ValueError for widths outside
    0..8 (1..8 for activations), and where a curve does not allow the width.
    """
    fixed: dict[tuple[Kind, str], int | np.ndarray] = {
        ("weights", c.name): weight_bits for c in curves.weights
    }
    if curves.activations:
        if activation_bits is None:
            raise ValueError(
                f"curves of {curves.network!r} have activations: give their width as well"
            )
        fixed |= {("activations", c.name): activation_bits for c in curves.activations}
    pinned = build(curves, Budget(fixed=fixed))
    bits = pinned.narrowest  # and the only one allowed
    rates = pinned.rates(bits)
    is_weight = np.array([kind == "weights" for kind, _ in pinned.keys])
    problem = build(
        curves,
        Budget(
            weight_total_bits=float(rates[is_weight].sum()) if curves.weights else None,
            activation_total_bits=float(rates[~is_weight].sum()) if curves.activations else None,
        ),
    )
    _, multipliers, bound = solve(problem)
    return to_allocation(curves, problem, bits, multipliers, bound)


def solve(problem: Problem) -> tuple[np.ndarray, np.ndarray, float]:
    """Widths of all items, multipliers of all limits, and the lower bound."""
    found = find_prices(problem)
    bound = problem.dual_value(found.multipliers)
    bits = problem.choose(found.prices)
    weights = sum(kind == "weights" for kind, _ in problem.keys)
    prices = found.multipliers @ problem.rows
    take_ties(problem, bits, found.prices)
    fill_greedily(problem, bits)
    first = int(problem.start[weights])
    for rows, groups in found.components:
        # the bound splits into those of components that share no limit
        dual = problem.lagrangian(prices)[groups].sum()
        dual -= (found.multipliers * problem.limits)[rows].sum()
        items = np.flatnonzero(np.isin(problem.group, groups))
        large = items if len(items) <= FEW_ITEMS else items[items >= first]
        if len(large):
            part = Part(rows, groups, items, large)
            bound += improve(problem, bits, found.multipliers, part, float(dual))
        else:
            bound += improve_caps(problem, bits, found.multipliers, rows, float(dual))
    return bits, found.multipliers, bound


def to_allocation(
    curves: RDCurves,
    problem: Problem,
    bits: np.ndarray,
    multipliers: np.ndarray,
    bound: float,
) -> Allocation:
    """An answer in the nouns of the project. bits: (items,) widths."""
    rates, distortions = problem.rates(bits), problem.distortions(bits)
    is_weight = np.array([kind == "weights" for kind, _ in problem.keys])
    budgets = [j for j, name in enumerate(problem.names) if name in (*KINDS, "total")]
    slopes = multipliers[budgets] @ problem.rows[budgets]
    used = (problem.rows @ rates + problem.overhead) / problem.scale
    weight_distortion = float(distortions[is_weight].sum())
    activation_distortion = float(distortions[~is_weight].sum())
    return Allocation(
        network=curves.network,
        bits=widths_of(curves, problem, bits),
        weight_slope=float(slopes[is_weight].max(initial=0.0)),
        activation_slope=float(slopes[~is_weight].max(initial=0.0)),
        weight_values=curves.weight_values,
        weight_rate_bits=float(rates[is_weight].sum()) + problem.metadata_bits,
        weight_distortion=weight_distortion,
        activation_values=curves.activation_values,
        activation_rate_bits=float(rates[~is_weight].sum()),
        activation_distortion=activation_distortion,
        lower_bound=min(bound, weight_distortion + activation_distortion),
        constraints=tuple(
            Constraint(name, float(limit), float(bits_used), float(multiplier))
            for name, limit, bits_used, multiplier in zip(
                problem.names,
                (problem.asked + problem.overhead) / problem.scale,
                used,
                multipliers * problem.scale,
                strict=True,
            )
        ),
        metadata_bits=problem.metadata_bits,
    )


def widths_of(curves: RDCurves, problem: Problem, bits: np.ndarray) -> BitWidths:
    """BitWidths from (items,) widths."""
    widths: dict[str, dict[str, np.ndarray]] = {"weights": {}, "activations": {}}
    for g, (kind, name) in enumerate(problem.keys):
        chosen = bits[problem.items_of(g)].astype(np.int64)
        if kind == "weights":  # one item may stand for some or all channels of its layer
            channels = curves.weights[g].channels
            widths[kind][name] = np.repeat(chosen, channels // len(chosen))
        else:
            widths[kind][name] = chosen[0]
    return BitWidths(**widths)
