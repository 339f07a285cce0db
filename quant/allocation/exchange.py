"""Exchanges between few large items (activation tensors), where one step is large beside the room.

Equal slopes leave a gap of about one step for every limit that binds. Where steps are large, pairs
of changes, one of which frees bits for the other, close part of it; from where no pair helps, one
change is forced, room is made for it, and pairs are tried around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quant.allocation.fill import room_of
from quant.allocation.problem import Problem
from quant.curves import WIDTHS

_OPTIONS = 1500  # changes that pairs are made of
_BLOCK = 100_000  # pairs looked at together
_KICKS = 64
_NEAR_OPTIONS = 100
_NEAR = 16  # a limit with more members than that is no neighbourhood
_LEAST = 1e-12  # of the distortion: a smaller drop is rounding


@dataclass(frozen=True, eq=False)
class _Options:
    """Changes worth looking at: item and width of each, most promising first.

    items: (movable,) items of the problem. rate: (9, movable) bits. item, width: (options,).
    """

    items: np.ndarray
    rate: np.ndarray
    item: np.ndarray
    width: np.ndarray

    def only(self, keep: np.ndarray) -> _Options:
        return _Options(self.items, self.rate, self.item[keep], self.width[keep])


def exchange(
    problem: Problem, bits: np.ndarray, prices: np.ndarray, items: np.ndarray, gap: float
) -> None:
    """Change a few of the given items at a time while that lowers the distortion; in place.

    prices: (groups,) of the lower bound; gap: distortion above it. An allocation that is better
    than the present one has no item whose distortion + price * rate is more than the gap above
    its least, so other changes are not looked at. Every limit is kept.
    """
    if not len(items) or not gap > 0:
        return
    group = problem.group[items]
    width = np.arange(WIDTHS)[:, None]
    rate = width * problem.values[group]
    reduced = problem.points[:, items] + prices[group] * rate
    reduced -= reduced.min(axis=0)
    widths, columns = np.nonzero(reduced <= gap)
    order = np.argsort(reduced[widths, columns], kind="stable")[:_OPTIONS]
    options = _Options(items, rate, columns[order], widths[order])
    _pairs(problem, bits, options)
    near = _neighbours(problem, group)
    kicks = 0
    for item, b in zip(options.item, options.width, strict=True):
        if kicks == _KICKS or bits[items[item]] == b:
            continue
        kicks += 1
        trial = bits.copy()
        trial[items[item]] = b
        if not _make_room(problem, trial, options, int(item)):
            continue
        around = near[item, options.item] & (options.item != item)
        _pairs(problem, trial, options.only(np.flatnonzero(around)[:_NEAR_OPTIONS]))
        if _distortion(problem, trial, items) < _distortion(problem, bits, items) * (1 - _LEAST):
            bits[items] = trial[items]


def _distortion(problem: Problem, bits: np.ndarray, items: np.ndarray) -> float:
    return float(problem.points[bits[items], items].sum())


def _neighbours(problem: Problem, group: np.ndarray) -> np.ndarray:
    """(movable, movable) whether two items share a limit of few members, or all where none has."""
    counts = problem.rows[:, group] > 0
    few = counts[counts.sum(axis=1) <= _NEAR].astype(np.int32)
    near = few.T @ few > 0
    near |= near @ near  # and theirs
    near[~near.any(axis=1)] = True
    return near


def _pairs(problem: Problem, bits: np.ndarray, options: _Options) -> None:
    """Take changes of one or two items until none lowers the distortion."""
    item, width = options.item, options.width
    if not len(item):
        return
    place = options.items[item]
    rows = problem.rows[:, problem.group[place]]
    counted = rows.any(axis=1)
    rows = rows[counted]
    block = max(1, _BLOCK // len(item))
    quiet, start = 0, 0
    while quiet < len(item):  # until every option was looked at without success
        now = bits[place]
        at = problem.points[now, place]
        change = problem.points[width, place] - at
        use = rows * (options.rate[width, item] - options.rate[now, item])
        room = room_of(problem, bits)[counted]
        first = np.arange(start, min(start + block, len(item)))
        pair = _best_pair(change, use, room, item, first, float(_LEAST * at.sum()))
        if pair is None:
            quiet += len(first)
            start = (start + len(first)) % len(item)
        else:
            bits[place[list(pair)]] = width[list(pair)]
            quiet = 0


def _best_pair(
    change: np.ndarray,
    use: np.ndarray,
    room: np.ndarray,
    item: np.ndarray,
    first: np.ndarray,
    least: float,
) -> tuple[int, int] | None:
    """Of the options in `first` and any second ones, the pair that lowers the distortion most.

    An option with itself is a single change. None if no pair that fits drops more than `least`.
    """
    total = change[first, None] + change
    total[item[first, None] == item] = np.inf
    total[first - first[0], first] = change[first]
    one, two = np.nonzero(total < -least)
    if not len(one):
        return None
    drop, one = total[one, two], first[one]
    fits = np.ones(len(one), dtype=bool)
    for used, left in zip(use, room, strict=True):
        fits &= np.where(one == two, used[one], used[one] + used[two]) <= left
    if not fits.any():
        return None
    best = int(np.argmin(np.where(fits, drop, np.inf)))
    return int(one[best]), int(two[best])


def _make_room(problem: Problem, bits: np.ndarray, options: _Options, kept: int) -> bool:
    """Narrow other items, least distortion per bit first, until all limits are kept again."""
    items, rate = options.items, options.rate
    columns = np.arange(len(items))
    rows = problem.rows[:, problem.group[items]]
    room = room_of(problem, bits)
    while (room < 0).any():
        now = bits[items]
        freed = rate[now, columns] - rate
        useful = (rows[room < 0].sum(axis=0) * freed > 0) & (columns != kept)
        cost = problem.points[:, items] - problem.points[now, items]
        with np.errstate(divide="ignore", invalid="ignore"):
            per_bit = np.where(useful, cost / (rows[room < 0].sum(axis=0) * freed), np.inf)
        b, column = np.unravel_index(int(np.argmin(per_bit)), per_bit.shape)
        if per_bit[b, column] == np.inf:
            return False
        bits[items[column]] = b
        room += rows[:, column] * freed[b, column]
    return True
