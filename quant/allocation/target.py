"""Targets for time and energy: widths with which a simulated chip meets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from hwsim.accelerator import Accelerator
from hwsim.graph import LayerGraph
from hwsim.stats import NetworkStats
from quant.allocation.allocate import solve, to_allocation
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget
from quant.allocation.problem import check_feasible
from quant.allocation.target_search import Chip, search
from quant.curves import RDCurves
from quant.granularity import CHANNEL, group_problem

Quantity = Literal["latency", "energy"]
UNITS: dict[Quantity, tuple[str, float]] = {"latency": ("ms", 1e3), "energy": ("mJ", 1e-9)}


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
    chip = Chip(curves, problem, graph, accelerator, batch)
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
        found = search(chip, problem, [t for t in targets if t.value(free) > t.limit], bits)
        if any(t.value(found[3]) > t.limit for t in targets):  # another one began to bind
            found = search(chip, problem, targets, bits)
        answer, stats = to_allocation(curves, *found[:2], *found[2]), found[3]
    met = tuple(
        Met(t, accelerator.name, batch, t.value(stats), t.value(least), t.value(free), bound)
        for t, bound in zip(targets, binds, strict=True)
    )
    return Targeted(answer, untargeted, met, stats, chip.simulations)
