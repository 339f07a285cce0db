"""What is left of a budget after every channel has chosen at its price, spent channel by channel.

First channels that are tied at the price, then single changes by the largest distortion drop per
bit. Both keep every limit. `quant.allocation.exchange` does more for few large items.
"""

from __future__ import annotations

import numpy as np

from quant.allocation.problem import Problem
from quant.curves import WIDTHS

_AT_ONCE = 4096  # single changes taken from one look at all items
_KEPT = 16 * _AT_ONCE  # beyond this many the least of them are dropped
_BLOCK = 8192  # items looked at together


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
        items, width, cost, ratio = _largest(items, width, cost, ratio)
        group = problem.group[items]
        before = room.copy()
        for i in np.lexsort((items, cost, -ratio))[:_AT_ONCE]:
            use = problem.rows[:, group[i]] * cost[i]
            if (use <= room).all():
                bits[items[i]] = width[i]
                room -= use
        if np.array_equal(room, before):
            return  # what fits but for a rounding, where a limit counts shares of a bit


def _best_changes(
    problem: Problem, bits: np.ndarray, headroom_bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Items, and for each its best widening that fits: width, bits of rate, drop per bit.

    Of many, at least the _AT_ONCE best are among them. Items are looked at in blocks, so that
    scratch stays in the cache and the time is linear.
    """
    found: list[tuple[np.ndarray, ...]] = [_no_changes()]
    count = 0
    fits = headroom_bits >= problem.values
    for first in range(0, problem.items, _BLOCK):
        block = slice(first, min(first + _BLOCK, problem.items))
        group = problem.group[block]
        if not fits[group[0] : group[-1] + 1].any():  # groups are in the order of their items
            continue
        found.append(_best_of_block(problem, bits, headroom_bits, block))
        count += len(found[-1][0])
        if count > _KEPT:
            found = [_largest(*(np.concatenate(parts) for parts in zip(*found, strict=True)))]
            count = len(found[0][0])
    items, width, cost, ratio = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return items, width, cost, ratio


def _no_changes() -> tuple[np.ndarray, ...]:
    return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.int8), np.zeros(0), np.zeros(0)


def _largest(
    items: np.ndarray, width: np.ndarray, cost: np.ndarray, ratio: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The _AT_ONCE changes of largest ratio, with all that are tied with the last."""
    if len(items) <= _AT_ONCE:
        return items, width, cost, ratio
    keep = np.flatnonzero(ratio >= np.partition(ratio, -_AT_ONCE)[-_AT_ONCE])
    return items[keep], width[keep], cost[keep], ratio[keep]


def _best_of_block(
    problem: Problem, bits: np.ndarray, headroom_bits: np.ndarray, block: slice
) -> tuple[np.ndarray, ...]:
    group, now = problem.group[block], bits[block]
    values, most = problem.values[group], headroom_bits[group]
    points = problem.points[:, block]
    at = np.take_along_axis(points, now[None].astype(np.intp), axis=0)[0]
    ratio, width, cost = np.zeros(len(now)), now.copy(), np.zeros(len(now))
    for b in range(1, WIDTHS):
        extra = (b - now) * values
        drop = at - points[b]
        with np.errstate(divide="ignore", invalid="ignore"):
            per_bit = np.where((b > now) & (extra <= most), drop / extra, 0)
        better = per_bit > ratio
        ratio[better], cost[better], width[better] = per_bit[better], extra[better], b
    keep = np.flatnonzero(ratio > 0)
    return block.start + keep, width[keep], cost[keep], ratio[keep]
