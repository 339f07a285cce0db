"""Multipliers: what a bit costs under each limit, so that every channel can choose on its own.

The dual of the allocation. At prices per bit every item picks from its own hull, so the groups
interact only through one multiplier a limit. Limits that never meet the rate of the least
distortion are left out; what remains falls into components that share no group. Where the limits
of a component lie inside each other or apart (a cap on each layer inside a budget), the
multipliers follow exactly, innermost first: a cap is a second slope for its own members, and the
price of a member is the higher of the two. Limits that overlap go to `quant.allocation.master`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quant.allocation.master import overlapping_prices
from quant.allocation.problem import Problem
from quant.allocation.slopes import critical_slope


@dataclass(frozen=True, eq=False)
class Prices:
    """What a bit costs.

    multipliers: (limits,) at least 0. prices: (groups,) per bit: items that choose at them keep
    every limit. They are rows' * multipliers but for rounding, and somewhat more where limits
    overlap. components: (row indices, group indices) of limits that may bind and share no group.
    """

    multipliers: np.ndarray
    prices: np.ndarray
    components: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def components(rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(row indices, group indices) of each set of rows that share groups, directly or not."""
    left = list(range(len(rows)))
    found = []
    while left:
        members = [left.pop(0)]
        groups = rows[members[0]] > 0
        while near := [j for j in left if (groups & (rows[j] > 0)).any()]:
            members += near
            left = [j for j in left if j not in near]
            groups = groups | (rows[near] > 0).any(axis=0)
        found.append((np.array(sorted(members)), np.flatnonzero(groups)))
    return found


def is_nested(rows: np.ndarray) -> bool:
    """Whether any two rows are disjoint, or one is a multiple of the other on a part of it."""
    for i, a in enumerate(rows):
        for b in rows[i + 1 :]:
            both = (a > 0) & (b > 0)
            if not both.any():
                continue
            if not (np.array_equal(both, a > 0) or np.array_equal(both, b > 0)):
                return False
            ratio = a[both] / b[both]
            if (ratio != ratio[0]).any():
                return False
    return True


def find_prices(problem: Problem) -> Prices:
    """Multipliers that maximise the Lagrangian dual, and the prices that follow.

    Exact where limits are nested or apart; for overlapping limits see `quant.allocation.master`.
    Everett, Operations Research 11(3), 1963; Shoham and Gersho, IEEE Trans. ASSP 36(9), 1988.
    """
    groups = len(problem.keys)
    multipliers, prices = np.zeros(len(problem.limits)), np.zeros(groups)
    if not len(problem.limits):
        return Prices(multipliers, prices)
    free = problem.rows @ problem.rates(problem.choose(prices))
    active = np.flatnonzero(free > problem.limits)
    found = [(active[rows], groups_of) for rows, groups_of in components(problem.rows[active])]
    for rows, groups_of in found:
        if is_nested(problem.rows[rows]):
            multipliers[rows] = _nested(problem, rows, prices)
        else:
            multipliers[rows], prices[groups_of] = overlapping_prices(problem, rows, groups_of)
    return Prices(multipliers, prices, tuple(found))


def _nested(problem: Problem, rows: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Multipliers of nested rows; writes the prices of their groups."""
    slopes = np.zeros(len(problem.limits))
    # what a limit leaves over below its slope, as a step of its own: (a group, gain, rate)
    rests: list[tuple[int, float, float]] = []
    order = sorted(rows, key=lambda j: (int((problem.rows[j] > 0).sum()), int(j)))
    for j in order:
        row, limit = problem.rows[j], problem.limits[j]
        members = np.flatnonzero(row > 0)
        steps = _steps(problem, row, members, prices)
        inner = [rest for rest in rests if row[rest[0]] > 0]
        steps.append(
            (
                np.array([gain / row[g] for g, gain, _ in inner], dtype=np.float64),
                np.array([rate * row[g] for g, _, rate in inner], dtype=np.float64),
            )
        )
        slope = critical_slope(steps, limit)
        if not slope:
            continue
        slopes[j] = slope
        used = sum(float(rate[gain > slope].sum()) for gain, rate in steps)
        price = row[members] * slope
        # gain / row at the slope can be a rounding or two above it when multiplied back
        rounded = np.nextafter(np.nextafter(price, np.inf), np.inf)
        price = np.where(row[members] == 1, price, rounded)
        prices[members] = np.maximum(prices[members], price)
        g = int(members[0])
        rests = [r for r in rests if row[r[0]] == 0 or r[1] > row[r[0]] * slope]
        rests.append((g, row[g] * slope, (limit - used) / row[g]))
    multipliers = np.zeros(len(problem.limits))
    for j in reversed(order):  # an inner limit adds what the limits around it lack
        g = int(np.argmax(problem.rows[j] > 0))
        around = float(multipliers @ problem.rows[:, g])
        multipliers[j] = max(0.0, slopes[j] - around / problem.rows[j, g])
    return multipliers[rows]


def _steps(
    problem: Problem, row: np.ndarray, members: np.ndarray, floors: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gains and rates of the steps of some groups, counted as the row does, above their floors."""
    if np.array_equal(members, np.arange(members[0], members[-1] + 1)):
        first, last = int(problem.start[members[0]]), int(problem.start[members[-1] + 1])
        gains, group = problem.gains[:, first:last], problem.group[first:last]
    else:
        items = np.concatenate([np.arange(problem.start[g], problem.start[g + 1]) for g in members])
        gains, group = problem.gains[:, items], problem.group[items]
    rate = (problem.values * row)[group]
    if (row[members] != 1).any():
        gains = gains / row[group]
    if floors[members].any():
        gains = np.where(gains > (floors / np.where(row > 0, row, 1))[group], gains, 0.0)
    return [(gain, rate) for gain in gains]
