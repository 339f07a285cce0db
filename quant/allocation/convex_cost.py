"""Convex cost of a group's rate: what a layer's bits cost in cycles or in energy.

A layer's time is the larger of computing and of moving its bits: below the knee bits cost nothing,
above it each costs its transfer. That is convex in the layer's rate. So a limit on the sum over
layers is, for the dual, one more limit on bits: each layer counts by the slope of a line that
touches its cost from below. Where a layer sits at its knee the slope lies between those beside it,
and it is the one at which the layer takes exactly the bits that are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from quant.allocation.master import GroupSteps
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem

_ROUNDS = 40
_STILL = 1e-7  # of the bound: less gain than that ends the rounds
_BISECTIONS = 60


_Slopes = list[dict[int, float]]  # of each limit: of each group


@dataclass(frozen=True, eq=False)
class ConvexCost:
    """Piecewise linear, convex, never falling. rate: (knots,) bits, rising. cost: (knots,)."""

    rate: np.ndarray
    cost: np.ndarray

    @classmethod
    def through(cls, rate: Sequence[float], cost: Sequence[float]) -> ConvexCost:
        """The largest such function that no point lies below."""
        order = np.lexsort((cost, rate))
        points = [(float(rate[i]), float(cost[i])) for i in order]
        least = np.minimum.accumulate([c for _, c in points][::-1])[::-1]
        hull: list[tuple[float, float]] = []
        for r, c in zip([r for r, _ in points], least.tolist(), strict=True):
            if hull and hull[-1][0] == r:
                continue
            while len(hull) > 1:
                (r0, c0), (r1, c1) = hull[-2:]
                if (c1 - c0) * (r - r0) < (c - c0) * (r1 - r0):
                    break
                hull.pop()
            hull.append((r, c))
        return cls(np.array([r for r, _ in hull]), np.array([c for _, c in hull]))

    @property
    def slopes(self) -> np.ndarray:
        """(knots - 1,) cost of a bit between knots; rising."""
        return np.diff(self.cost) / np.diff(self.rate)

    def at(self, rate: float) -> float:
        """Beyond the knots the nearest piece goes on."""
        slopes = self.slopes
        if not len(slopes):
            return float(self.cost[0])
        if rate > self.rate[-1]:
            return float(self.cost[-1] + slopes[-1] * (rate - self.rate[-1]))
        return float(np.interp(rate, self.rate, self.cost))

    def line(self, slope: float) -> float:
        """Where the line of that slope that touches the cost from below meets rate 0."""
        return float((self.cost - slope * self.rate).min())

    def slope_at(self, rate: float) -> float:
        slopes = self.slopes
        if not len(slopes):
            return 0.0
        return float(slopes[np.clip(np.searchsorted(self.rate, rate) - 1, 0, len(slopes) - 1)])


@dataclass(frozen=True, eq=False)
class CostLimit:
    """The sum over groups of their cost is at most `limit`.

    costs: {group: its cost}; other groups cost nothing.
    """

    name: str
    costs: dict[int, ConvexCost]
    limit: float

    def total(self, rates: np.ndarray) -> float:
        return sum(cost.at(float(rates[g])) for g, cost in self.costs.items())


def touched_by_lines(
    problem: Problem, limits: Sequence[CostLimit], rates: np.ndarray
) -> tuple[Problem, float]:
    """The problem with one row more for each cost limit, and the lower bound of its dual.

    rates: (groups,) to begin with. The slopes of the lines and the multipliers are improved in
    turn, each exactly for the other, and no round lowers the dual. With many small steps it ends at
    its largest value; a large step at a knee can hold it up below, by about that step. Any lines
    give rows that every allocation within the cost limits keeps.
    """
    slopes = [{g: c.slope_at(float(rates[g])) for g, c in limit.costs.items()} for limit in limits]
    best, least = with_rows(problem, limits, slopes), -np.inf
    steps: dict[int, GroupSteps] = {}
    for _ in range(_ROUNDS):
        trial = with_rows(problem, limits, slopes)
        multipliers = find_prices(trial).multipliers
        value = trial.dual_value(multipliers)
        gain = value - least
        if gain > 0:
            best, least = trial, value
        if not gain > _STILL * abs(value):
            break
        prices = multipliers @ trial.rows
        new: _Slopes = []
        for k, limit in enumerate(limits):
            row = trial.rows[len(problem.names) + k]
            mu = float(multipliers[len(problem.names) + k])
            new.append(dict(slopes[k]))
            for g, cost in limit.costs.items() if mu > 0 else ():
                if len(cost.rate) > 2:  # else there is one line only
                    if g not in steps:
                        steps[g] = GroupSteps.of(problem, g)
                    around = float(prices[g] - mu * row[g])
                    new[k][g] = _best_slope(steps[g], cost, max(0.0, around), mu)
        slopes = new
    return best, least


def with_rows(
    problem: Problem, limits: Sequence[CostLimit], slopes: Sequence[dict[int, float]]
) -> Problem:
    """The problem with a row of slopes for each limit."""
    rows = np.zeros((len(limits), len(problem.keys)))
    rooms = np.zeros(len(limits))
    for k, (limit, slope) in enumerate(zip(limits, slopes, strict=True)):
        for g, s in slope.items():
            rows[k, g] = s
        rooms[k] = limit.limit - sum(limit.costs[g].line(s) for g, s in slope.items())
    return replace(
        problem,
        rows=np.concatenate([problem.rows, rows]),
        scale=np.concatenate([problem.scale, np.ones(len(limits))]),
        asked=np.concatenate([problem.asked, rooms]),
        overhead=np.concatenate([problem.overhead, np.zeros(len(limits))]),
        limits=np.concatenate([problem.limits, rooms]),
        names=(*problem.names, *(limit.name for limit in limits)),
    )


def _best_slope(steps: GroupSteps, cost: ConvexCost, around: float, mu: float) -> float:
    """Slope of the line for which the group's part of the dual is largest.

    around: price of a bit but for this limit. At price around + mu * slope the group takes a rate
    where a line of that slope touches the cost.
    """
    slopes, knots = cost.slopes, cost.rate
    for k, slope in enumerate(slopes):
        rate = steps.rate_bits(around + mu * slope)
        if rate < knots[k] and k:  # dearer bits are not wanted, cheaper ones are: at the knee
            low, high = slopes[k - 1], slope
            for _ in range(_BISECTIONS):
                middle = 0.5 * (low + high)
                if steps.rate_bits(around + mu * middle) > knots[k]:
                    low = middle
                else:
                    high = middle
            return float(high)
        if rate <= knots[k + 1]:
            return float(slope)
    return float(slopes[-1])
