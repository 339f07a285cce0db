"""The search for widths that a simulated chip runs within its targets.

The simulator is calibrated, not copied: a few simulations at equal widths give the cost of every
layer's rate (`quant.allocation.convex_cost`), the allocation is solved with that cost as one more
limit, and the simulator says what the answer really takes. What they differ by is taken off the
limit, and the loop repeats until the simulation meets the target with nothing much left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwsim.accelerator import Accelerator
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats
from quant.allocation.allocate import solve, widths_of
from quant.allocation.calibrated import Calibrated, calibrate
from quant.allocation.convex_cost import ConvexCost, CostLimit, touched_by_lines
from quant.allocation.problem import Problem
from quant.curves import RDCurves

if TYPE_CHECKING:
    from quant.allocation.target import Target

_ROUNDS = 12
_HALVINGS = 16
_LEFT_OVER = 1e-3  # of the reachable range: a simulation so little below the target will do


class Chip:
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


Found = tuple[Problem, np.ndarray, tuple[np.ndarray, float], NetworkStats]


def search(chip: Chip, problem: Problem, targets: Sequence[Target], bits: np.ndarray) -> Found:
    """The best that was met: the problem with its cost rows, widths, multipliers and bound.

    What weights cost beside wide tensors is not what they cost beside narrow ones, where both share
    a layer's time: if the first calibration leads nowhere, another is made around the narrowest
    tensors. Where layers wait for each other's bits no sum over layers tells the time; then all
    bits cost the same, and how many there may be is found by halving.
    """
    is_weight = np.array([kind == "weights" for kind, _ in problem.keys])[problem.group]
    narrow_tensors = np.where(is_weight, bits, problem.narrowest)
    tries = _Tries(chip, problem, targets, bits)
    for around in (bits, narrow_tensors):
        costs = calibrate(chip.graph, problem, chip.run, targets, around)
        if tries.follow(costs):
            break
    else:
        tries.halve([_stored_bits(problem)] * len(targets))
    return tries.best or tries.narrowest(costs)


def _stored_bits(problem: Problem) -> Calibrated:
    """Every bit stored costs 1, of whatever it is."""
    line = ConvexCost(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    return Calibrated(0.0, dict.fromkeys(range(len(problem.keys)), line))


class _Tries:
    """Solutions under limits on a cost, each simulated; the best that meets every target is kept.

    widest: (items,) widths without the targets.
    """

    def __init__(
        self, chip: Chip, problem: Problem, targets: Sequence[Target], widest: np.ndarray
    ) -> None:
        self.chip, self.problem, self.targets = chip, problem, targets
        self.limit = np.array([t.limit for t in targets])
        ends = [
            [t.value(chip.run(widths)) for t in targets] for widths in (problem.narrowest, widest)
        ]
        self.span = np.maximum(np.subtract(ends[1], ends[0]), 0)
        self.rates = self.widest_rates = problem.rates(widest)
        self.best: Found | None = None

    def follow(self, costs: Sequence[Calibrated]) -> bool:
        """Take what the simulation needs beyond the cost off the limit, until little is left."""
        asked, lowest = self.limit, self._lowest(costs)
        for _ in range(_ROUNDS):
            got, binding = self._attempt(costs, np.maximum(asked, lowest))
            over = got - self.limit
            done = (over <= 0) & ((over >= -_LEFT_OVER * self.span) | ~binding)
            if done.all():
                return True
            less = over + 0.1 * _LEFT_OVER * self.span * (over > 0)
            before, asked = asked, np.maximum(np.where(done, asked, asked - less), lowest)
            if (asked == before).all():  # all that the cost can ask for
                break
        return False

    def halve(self, costs: Sequence[Calibrated]) -> None:
        """Halve what is between the cost of the narrowest widths and that of the widest."""
        meets = self._lowest(costs)
        misses = np.array([c.total(self.widest_rates) for c in costs])
        for _ in range(_HALVINGS):
            middle = (meets + misses) / 2
            if (self._attempt(costs, middle)[0] <= self.limit).all():
                meets = middle
            else:
                misses = middle

    def narrowest(self, costs: Sequence[Calibrated]) -> Found:
        """The narrowest widths; the bound is that of the cost's limits."""
        least = self.problem.narrowest
        rows, bound = touched_by_lines(
            self.problem, self._limits(costs, self._lowest(costs)), self.problem.rates(least)
        )
        return rows, least, (np.zeros(len(rows.limits)), bound), self.chip.run(least)

    def _attempt(
        self, costs: Sequence[Calibrated], asked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve with limits on the cost: what was simulated, and which limits bind."""
        problem = self.problem
        touched, _ = touched_by_lines(problem, self._limits(costs, asked), self.rates)
        chosen, multipliers, bound = solve(touched)
        stats, self.rates = self.chip.run(chosen), problem.rates(chosen)
        got = np.array([t.value(stats) for t in self.targets])
        value = problem.distortions(chosen).sum()
        if (got <= self.limit).all() and (
            self.best is None or value < problem.distortions(self.best[1]).sum()
        ):
            self.best = touched, chosen, (multipliers, bound), stats
        return got, multipliers[len(problem.names) :] > 0

    def _lowest(self, costs: Sequence[Calibrated]) -> np.ndarray:
        """Costs of the least rates; they lie on every line, but for a rounding."""
        lowest = np.array([c.total(self.problem.rates(self.problem.narrowest)) for c in costs])
        return lowest + 1e-9 * np.abs(lowest)

    def _limits(self, costs: Sequence[Calibrated], asked: np.ndarray) -> list[CostLimit]:
        return [
            CostLimit(target.quantity, cost.costs, float(most) - cost.constant)
            for cost, target, most in zip(costs, self.targets, asked, strict=True)
        ]
