"""What is left of a budget after every channel has chosen at its price, spent channel by channel.

All three ways keep every limit: channels that are tied at the price, then single changes by the
largest distortion drop per bit, then, for the few items that are large beside the room, pairs of
changes, one of which may free bits for the other.
"""

from __future__ import annotations

import numpy as np

from quant.curves import WIDTHS
from quant.problem import Problem

_AT_ONCE = 4096  # single changes taken from one look at all items
_OPTIONS = 1500  # changes that pairs are made of
_SWEEPS = 20


def room_of(problem: Problem, bits: np.ndarray) -> np.ndarray:
    """(limits,) bits left under each limit; below 0 where it is exceeded."""
    return problem.limits - problem.rows @ problem.rates(bits)


def headroom(problem: Problem, room: np.ndarray) -> np.ndarray:
    """(groups,) bits that a group may still take, inf where no limit counts it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        per_row = np.where(problem.rows > 0, room[:, None] / problem.rows, np.inf)
    return per_row.min(axis=0, initial=np.inf)


def take_ties(problem: Problem, bits: np.ndarray, prices: np.ndarray) -> None:
    """Widen items whose next gain is exactly the price, lowest rate first, then lowest index."""
    room = room_of(problem, bits)
    for g in sorted(range(len(prices)), key=lambda g: (problem.values[g], g)):
        if not prices[g] > 0:
            continue
        items = problem.items_of(g)
        steps = (problem.gains[:, items] == prices[g]).sum(axis=0)
        tied = np.flatnonzero(steps)
        if not len(tied):
            continue
        chosen = bits[items]
        cost = steps[tied] * problem.values[g]
        cost += (chosen[tied] == 0) * problem.metadata_bits[g]
        order = np.argsort(cost, kind="stable")
        fits = np.cumsum(cost[order]) <= headroom(problem, room)[g]
        taken = tied[order[fits]]
        chosen[taken] += steps[taken].astype(np.int8)
        room -= problem.rows[:, g] * cost[order[fits]].sum()


def fill_greedily(problem: Problem, bits: np.ndarray) -> None:
    """Take the change with the largest drop per bit that still fits, until none does.

    Changes need not be on the hull. An item is widened once before all are looked at again, so
    the cost is linear in the items times the few looks. Ties: lowest rate, then lowest index.
    """
    while True:
        room = room_of(problem, bits)
        items, width, cost, ratio = _best_changes(problem, bits, headroom(problem, room))
        if not len(items):
            return
        if len(items) > _AT_ONCE:
            least = np.partition(ratio, -_AT_ONCE)[-_AT_ONCE]
            keep = np.flatnonzero(ratio >= least)
            items, width, cost, ratio = items[keep], width[keep], cost[keep], ratio[keep]
        group = problem.group[items]
        for i in np.lexsort((items, cost, -ratio))[:_AT_ONCE]:
            use = problem.rows[:, group[i]] * cost[i]
            if (use <= room).all():
                bits[items[i]] = width[i]
                room -= use


def _best_changes(
    problem: Problem, bits: np.ndarray, headroom_bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Items, and for each its best widening that fits: width, bits of rate, drop per bit."""
    items = np.flatnonzero((headroom_bits >= problem.values)[problem.group])
    group = problem.group[items]
    now, values = bits[items], problem.values[group]
    at = problem.points[now, items]
    most = headroom_bits[group]
    metadata = np.where(now == 0, problem.metadata_bits[group], 0)
    ratio, width, cost = np.zeros(len(items)), now.copy(), np.zeros(len(items))
    for b in range(1, WIDTHS):
        extra = (b - now) * values + metadata
        drop = at - problem.points[b, items]
        with np.errstate(divide="ignore", invalid="ignore"):
            per_bit = np.where((b > now) & (extra <= most), drop / extra, 0)
        better = per_bit > ratio
        ratio[better], cost[better], width[better] = per_bit[better], extra[better], b
    keep = ratio > 0
    return items[keep], width[keep], cost[keep], ratio[keep]


def exchange(
    problem: Problem, bits: np.ndarray, prices: np.ndarray, items: np.ndarray, gap: float
) -> None:
    """Change up to two of the given items at a time while that lowers the distortion.

    gap: distortion above the lower bound. An allocation that is better than the present one has
    no item whose distortion + price * rate is more than the gap above its least, so other
    changes are not looked at.
    """
    if not len(items) or not gap > 0:
        return
    group = problem.group[items]
    widths = np.arange(WIDTHS)[:, None]
    rate = widths * problem.values[group] + (widths > 0) * problem.metadata_bits[group]
    reduced = problem.points[:, items] + prices[group] * rate
    reduced -= reduced.min(axis=0)
    width, item = np.nonzero(reduced <= gap)
    if len(item) > _OPTIONS:
        keep = np.sort(np.argsort(reduced[width, item], kind="stable")[:_OPTIONS])
        width, item = width[keep], item[keep]
    rows = problem.rows[:, group[item]]
    for _ in range(_SWEEPS):
        improved = False
        room = room_of(problem, bits)
        for first in range(len(item)):
            now = bits[items]
            distortion = problem.points[now, items]
            change = problem.points[width, items[item]] - distortion[item]
            use = rows * (rate[width, item] - rate[now, np.arange(len(items))][item])
            # the second change may be that of any other item, or none (its own present width)
            total = change[first] + change
            total[item == item[first]] = np.inf
            total[first] = change[first]
            together = use + use[:, first : first + 1]
            together[:, first] = use[:, first]
            fits = (together <= room[:, None]).all(axis=0)
            total[~fits] = np.inf
            second = int(np.argmin(total))
            if total[second] < -1e-12 * distortion.sum():
                bits[items[item[first]]] = width[first]
                bits[items[item[second]]] = width[second]
                room -= together[:, second]
                improved = True
        if not improved:
            return
