"""Frontier: all width choices of a few large items that could still be the best, item by item.

Where steps are large beside the room (activation tensors, one width a layer), equal slopes leave a
gap between the answer and its bound. Few items can be searched exactly: partial choices are
extended by one item at a time, and dropped when another has no more of anything (dominance:
Nemhauser and Ullmann, Management Science 15(9), 1969) or when their cost above the Lagrangian bound
is more than is still allowed (for multiple choices: Pisinger, European J. Operational Research
83(2), 1995).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quant.allocation.problem import Problem
from quant.curves import WIDTHS

_STATES = 8_000  # partial choices kept; the cheapest of those dropped limits the bound
_ROUNDING = 1e-11  # of a limit: what fits but for rounding is counted, so that the bound holds
_GROWTH = 4.0
_FIRST = 1 / 64


@dataclass(frozen=True, eq=False)
class Frontier:
    """Choices of all items, cheapest first.

    widths: (choices, items). cost: (choices,) distortion above the Lagrangian minimum, with what
    is known of unused room. usage: (choices, limits) of these items. missed: no choice that is
    not here and is not dominated costs less.
    """

    widths: np.ndarray
    cost: np.ndarray
    usage: np.ndarray
    missed: float


@dataclass(frozen=True, eq=False)
class _Items:
    """The search's data, items in the order they are decided.

    rate: (9, items). reduced: (9, items) at least 0. rows: (limits, items) what a bit counts.
    room, multipliers: (limits,). shared: (limits,) whether other items may use the room.
    """

    rate: np.ndarray
    reduced: np.ndarray
    rows: np.ndarray
    room: np.ndarray
    multipliers: np.ndarray
    shared: np.ndarray

    @property
    def price(self) -> np.ndarray:
        """(limits,) of room that is left unused, which where it is shared is not known."""
        return np.where(self.shared, 0.0, self.multipliers)


def search(
    problem: Problem, items: np.ndarray, rows: np.ndarray, multipliers: np.ndarray, most: float
) -> Frontier:
    """Choices of some items within `most` of the Lagrangian minimum that keep the given rows.

    items: indices. rows: indices of limits; other items take at least their narrowest widths of
    them. multipliers: (limits,) at which costs are taken. most: distortion. Where no other item
    shares a row, the allowed cost grows from a small part of `most` until a choice is found, which
    then is the best; else all choices within it are.
    """
    data = _items(problem, items, rows, multipliers)
    allowed = most if data.shared.any() else most * _FIRST
    while True:
        allowed = min(allowed, most)
        found = _search(data, allowed)
        if len(found.cost) or found.missed < allowed or allowed >= most:
            return replace(found, missed=min(found.missed, allowed))
        allowed *= _GROWTH


def _items(
    problem: Problem, items: np.ndarray, rows: np.ndarray, multipliers: np.ndarray
) -> _Items:
    group = problem.group[items]
    rate = _rates(problem, items)
    reduced = reduced_costs(problem, multipliers @ problem.rows, items)
    others = np.ones(problem.items, dtype=bool)
    others[items] = False
    narrowest = np.where(others, problem.narrowest, 0)
    counted = problem.rows[rows]
    room = problem.limits[rows] - counted @ problem.rates(narrowest)
    present = np.zeros(len(problem.keys))
    np.add.at(present, problem.group[others], 1)
    shared = ((counted > 0) & (present > 0)).any(axis=1)
    return _Items(rate, reduced, counted[:, group], room, multipliers[rows], shared)


def _rates(problem: Problem, items: np.ndarray) -> np.ndarray:
    group, width = problem.group[items], np.arange(WIDTHS)[:, None]
    return width * problem.values[group]


def reduced_costs(problem: Problem, prices: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(9, items) distortion + price * rate above its least over the widths."""
    cost = problem.points[:, items] + prices[problem.group[items]] * _rates(problem, items)
    return cost - cost.min(axis=0)


def _search(data: _Items, allowed: float) -> Frontier:
    count, limits = data.rate.shape[1], len(data.room)
    room = data.room * (1 + _ROUNDING)
    options = [np.flatnonzero(column <= allowed) for column in data.reduced.T]
    ends = [
        (data.rows[:, i, None] * data.rate[None, options[i], i]) for i in range(count)
    ]  # (limits, options) of each item
    least = np.zeros((limits, count + 1))  # that the items from i on take at least, and at most
    largest = np.zeros((limits, count + 1))
    for i in range(count - 1, -1, -1):
        least[:, i] = least[:, i + 1] + ends[i].min(axis=1)
        largest[:, i] = largest[:, i + 1] + ends[i].max(axis=1)
    widths = np.zeros((1, count), dtype=np.int8)
    spent, usage = np.zeros(1), np.zeros((1, limits))
    missed = np.inf
    for i in range(count):
        parent = np.repeat(np.arange(len(spent)), len(options[i]))
        chosen = np.tile(np.arange(len(options[i])), len(spent))
        cost = spent[parent] + data.reduced[options[i], i][chosen]
        used = usage[parent] + ends[i].T[chosen]
        unused = np.maximum(data.room - used - largest[:, i + 1], 0) @ data.price
        keep = (cost + unused <= allowed) & (used + least[:, i + 1] <= room).all(axis=1)
        parent, chosen, cost, used = parent[keep], chosen[keep], cost[keep], used[keep]
        # where all that follows fits anyway, it is of no account how much is used
        tight = used.max(axis=0, initial=0) + largest[:, i + 1] > room
        shown = np.flatnonzero(data.shared | (tight & (largest[:, i + 1] > 0)))
        kept = _undominated(cost, used, shown, data)
        if len(kept) > _STATES:
            by_cost = kept[np.argsort(cost[kept], kind="stable")]
            missed = min(missed, float(cost[by_cost[_STATES]]))
            kept = by_cost[:_STATES]
        widths = widths[parent[kept]]
        widths[:, i] = options[i][chosen[kept]]
        spent, usage = cost[kept], used[kept]
    cost = spent + np.maximum(data.room - usage, 0) @ data.price
    order = np.argsort(cost, kind="stable")
    order = order[cost[order] <= allowed]
    return Frontier(widths[order], cost[order], usage[order], missed)


def _undominated(cost: np.ndarray, used: np.ndarray, shown: np.ndarray, data: _Items) -> np.ndarray:
    """Indices of choices that no other has less distortion than at no more of any open row.

    Of choices alike in all rows but the longest, the frontier of that one and of distortion.
    `cost` has the price of every bit in it; distortion is what is left without.
    """
    distortion = cost - used @ data.multipliers
    if not len(cost):
        return np.arange(0)
    if not len(shown):
        return np.argmin(distortion, keepdims=True)
    longest = shown[np.argmax((data.rows[shown] > 0).sum(axis=1))]
    direction = data.rows[longest]
    keys = []
    for j in shown:  # rows that count the same bits as the longest say nothing more
        both = data.rows[j] * direction.max() - direction * data.rows[j].max()
        if j != longest and np.abs(both).max() > _ROUNDING * direction.max() * data.rows[j].max():
            keys.append(used[:, j])
    order = np.lexsort((distortion, used[:, longest], *keys))
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= np.diff(key[order]) != 0
    # running minimum within each run of equal keys: shift runs apart, later ones lower
    value = distortion[order]
    run = np.cumsum(new) - 1
    span = float(value.max() - value.min()) + 1.0
    shifted = value - run * span
    before = np.concatenate([[np.inf], np.minimum.accumulate(shifted)[:-1]])
    return order[new | (shifted < before)]
