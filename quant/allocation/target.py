"""Targets for time and energy: widths with which a simulated chip meets them.

The simulator is calibrated, not copied: a few simulations at equal widths give the cost of every
layer's rate (`quant.allocation.convex_cost`), the allocation is solved with that cost as one more
limit, and the simulator says what the answer really takes. What they differ by is taken off the
limit, and the loop repeats until the simulation meets the target with nothing much left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from hwsim.accelerator import Accelerator
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats
from quant.allocation.allocate import solve, to_allocation, widths_of
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget
from quant.allocation.calibrated import Calibrated, calibrate
from quant.allocation.convex_cost import CostLimit, touched_by_lines
from quant.allocation.problem import Problem, check_feasible
from quant.curves import RDCurves
from quant.granularity import CHANNEL, group_problem

Quantity = Literal["latency", "energy"]
UNITS: dict[Quantity, tuple[str, float]] = {"latency": ("ms", 1e3), "energy": ("mJ", 1e-9)}

_ROUNDS = 12
_LEFT_OVER = 1e-3  # of the reachable range: a simulation so little below the target will do


@dataclass(frozen=True)
class Target:
    """At most `limit`: seconds of latency, or picojoules, for the whole batch of a simulation."""

    quantity: Quantity
    limit: float

    def __post_init__(self) -> None:
        if self.quantity not in UNITS:
            raise ValueError(f"target: expected latency or energy, got {self.quantity!r}")
        if not (isfinite(self.limit) and self.limit > 0):
            raise ValueError(
                f"target: {self.quantity} must be a number above 0, got {self.limit!r}"
            )

    def value(self, stats: NetworkStats) -> float:
        return stats.seconds if self.quantity == "latency" else stats.energy_pj

    def text(self, value: float) -> str:
        unit, factor = UNITS[self.quantity]
        return f"{value * factor:.6g} {unit}"


class InfeasibleTarget(ValueError):
    """No widths meet a target. smallest, largest: what can be reached, in the target's unit."""

    def __init__(self, target: Target, accelerator: str, smallest: float, largest: float) -> None:
        super().__init__(
            f"{target.quantity} of {target.text(target.limit)} on {accelerator} cannot be met: "
            f"{target.text(smallest)} to {target.text(largest)} can be reached within the other "
            f"limits; the nearest, {target.text(smallest)}, takes the narrowest allowed widths"
        )
        self.target, self.smallest, self.largest = target, smallest, largest


@dataclass(frozen=True)
class Met:
    """A target and what came of it.

    simulated: with the answer's widths. smallest, largest: with the narrowest widths, and with
    those that the other limits alone give. binds: whether bits were given up for it.
    """

    target: Target
    accelerator: str
    batch: int
    simulated: float
    smallest: float
    largest: float
    binds: bool

    @property
    def line(self) -> str:
        t = self.target
        reached = f"{t.text(self.smallest)} to {t.text(self.largest)} can be reached"
        if not self.binds:
            reached += "; it does not bind"
        if self.largest - self.smallest <= 0.001 * self.largest:
            reached += f"; fewer bits buy next to no {t.quantity} here"
        return (
            f"{t.quantity} on {self.accelerator}, batch {self.batch}: asked {t.text(t.limit)}, "
            f"simulated {t.text(self.simulated)} ({reached})"
        )

    def to_json(self) -> dict[str, object]:
        plain = {name: value for name, value in vars(self).items() if name != "target"}
        return {"quantity": self.target.quantity, "limit": self.target.limit, **plain}


@dataclass(frozen=True)
class Targeted:
    """allocation: its lower bound takes cost as calibrated; that of `untargeted`, the answer
    without targets, holds whatever the simulator says. simulations: how many were run."""

    allocation: Allocation
    untargeted: Allocation
    met: tuple[Met, ...]
    stats: NetworkStats
    simulations: int


def allocate_within(
    curves: RDCurves,
    budget: Budget,
    graph: LayerGraph,
    accelerator: Accelerator,
    targets: Sequence[Target],
    batch: int = 1,
    *,
    group: int = CHANNEL,
) -> Targeted:
    """Least predicted distortion within a budget and targets that the simulator confirms.

    batch: images of the simulation. group: output channels that share a width, as in `allocate`.
    Raises InfeasibleBudget and InfeasibleTarget, each with what can be reached, and ValueError as
    `allocate` and `simulate`.
    """
    if not targets or len({t.quantity for t in targets}) != len(targets):
        raise ValueError("targets: give a latency, an energy, or one of each")
    problem = group_problem(curves, budget, group)
    check_feasible(problem)
    chip = _Chip(curves, problem, graph, accelerator, batch)
    bits, multipliers, bound = solve(problem)
    untargeted = to_allocation(curves, problem, bits, multipliers, bound)
    free, least = chip.run(bits), chip.run(problem.narrowest)
    binds = [t.value(free) > t.limit for t in targets]
    for target in targets:
        if target.value(least) > target.limit:
            raise InfeasibleTarget(
                target,
                accelerator.name,
                target.value(least),
                max(target.value(free), target.value(least)),
            )
    answer, stats = untargeted, free
    if any(binds):
        found = _search(chip, problem, [t for t in targets if t.value(free) > t.limit], bits)
        if any(t.value(found[3]) > t.limit for t in targets):  # another one began to bind
            found = _search(chip, problem, targets, bits)
        answer, stats = to_allocation(curves, *found[:2], *found[2]), found[3]
    met = tuple(
        Met(t, accelerator.name, batch, t.value(stats), t.value(least), t.value(free), bound)
        for t, bound in zip(targets, binds, strict=True)
    )
    return Targeted(answer, untargeted, met, stats, chip.simulations)


class _Chip:
    """Simulations of a problem's widths, each distinct one once."""

    def __init__(
        self,
        curves: RDCurves,
        problem: Problem,
        graph: LayerGraph,
        accelerator: Accelerator,
        batch: int,
    ) -> None:
        self.curves, self.problem, self.graph = curves, problem, graph
        self.accelerator, self.batch = accelerator, batch
        self.known: dict[bytes, NetworkStats] = {}

    @property
    def simulations(self) -> int:
        return len(self.known)

    def run(self, bits: np.ndarray) -> NetworkStats:
        key = bits.astype(np.int8).tobytes()
        if key not in self.known:
            widths = widths_of(self.curves, self.problem, bits)
            self.known[key] = simulate(self.graph, self.accelerator, widths, self.batch)
        return self.known[key]


_Found = tuple[Problem, np.ndarray, tuple[np.ndarray, float], NetworkStats]


def _search(chip: _Chip, problem: Problem, targets: Sequence[Target], bits: np.ndarray) -> _Found:
    """The best that was met: the problem with its cost rows, widths, multipliers and bound."""
    costs = calibrate(chip.graph, problem, chip.run, targets, bits)
    least = problem.narrowest
    low = np.array([t.value(chip.run(least)) for t in targets])
    high = np.array([t.value(chip.run(bits)) for t in targets])
    limit = np.array([t.limit for t in targets])
    span = np.maximum(high - low, 0)
    asked = limit.copy()  # of the calibrated cost
    rates = problem.rates(bits)
    best: _Found | None = None
    for _ in range(_ROUNDS):
        limits = [_limit(cost, t, a) for cost, t, a in zip(costs, targets, asked, strict=True)]
        touched, _ = touched_by_lines(problem, limits, rates)
        chosen, multipliers, bound = solve(touched)
        stats = chip.run(chosen)
        got = np.array([t.value(stats) for t in targets])
        if (got <= limit).all():
            value = problem.distortions(chosen).sum()
            if best is None or value < problem.distortions(best[1]).sum():
                best = touched, chosen, (multipliers, bound), stats
        over = got - limit
        binding = multipliers[len(problem.names) :] > 0
        done = (over <= 0) & ((over >= -_LEFT_OVER * span) | ~binding)
        rates = problem.rates(chosen)
        if done.all():
            break
        # what the simulation takes beyond the calibrated cost comes off the limit
        asked = np.where(done, asked, asked - over - 0.1 * _LEFT_OVER * span * (over > 0))
        floor = np.array([c.total(problem.rates(least)) for c in costs])
        # the least rates lie on every line, but for a rounding
        asked = np.maximum(asked, floor + 1e-9 * np.abs(floor))
    if best is None:  # the narrowest widths meet every target
        rows, bound = touched_by_lines(problem, limits, rates)
        best = rows, least, (np.zeros(len(rows.limits)), bound), chip.run(least)
    return best


def _limit(cost: Calibrated, target: Target, asked: float) -> CostLimit:
    return CostLimit(target.quantity, cost.costs, asked - cost.constant)
