"""Items of large steps: activation tensors, or single widths of whole layers.

Equal slopes leave a gap of about one step for every limit that binds. Where items of large steps
have their limits to themselves, `quant.allocation.frontier` finds their best choice and proves
it. Where they share a limit with many channels, each of their choices that may be the best gets
its own bound: channels take exactly what it leaves, as much or as little as is best at a slope of
their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quant.allocation.exchange import exchange
from quant.allocation.fill import fill_greedily, room_of, take_ties
from quant.allocation.frontier import Frontier, reduced_costs, search
from quant.allocation.multipliers import find_prices
from quant.allocation.problem import Problem
from quant.curves import WIDTHS

FEW_ITEMS = 400  # under one limit: so few are searched even where they are channels
_MANY_ITEMS = 200_000  # beyond this a tensor's step is small beside the weights
_TRIES, _FEW_TRIES = 12, 4  # choices of tensors for which the weights are allocated anew
_CLOSE = 1e-5  # of the distortion: nearer the bound nothing more is tried
_SLOPES = np.exp(np.linspace(-0.6, 0.6, 49))
_BOUND_ROWS = 3


@dataclass(frozen=True, eq=False)
class Part:
    """Limits that may bind and what they count: nothing outside has to do with them.

    rows, groups, items: indices. large: those of the items whose steps are large.
    """

    rows: np.ndarray
    groups: np.ndarray
    items: np.ndarray
    large: np.ndarray


def improve(
    problem: Problem, bits: np.ndarray, multipliers: np.ndarray, part: Part, dual: float
) -> float:
    """Better widths for one part, in place; returns by how much its lower bound rises.

    bits: an allocation that keeps the limits. multipliers: (limits,) of the lower bound. dual: the
    part's lower bound at them.
    """
    prices = multipliers @ problem.rows
    value = _value(problem, bits, part)
    exchange(problem, bits, prices, part.large, value - dual)
    gap = _value(problem, bits, part) - dual
    if not gap > _CLOSE * abs(dual):
        return 0.0
    found = search(problem, part.large, part.rows, multipliers, gap)
    if len(part.large) == len(part.items):
        for widths in found.widths:
            trial = bits.copy()
            trial[part.large] = widths
            if (room_of(problem, trial) >= 0).all():
                if _value(problem, trial, part) < dual + gap:
                    bits[:] = trial
                break
        best = _value(problem, bits, part) - dual
        return max(0.0, min(best, found.missed, *found.cost[:1]))
    return _beside_weights(problem, bits, multipliers, part, dual, found)


def improve_caps(
    problem: Problem, bits: np.ndarray, multipliers: np.ndarray, rows: np.ndarray, dual: float
) -> float:
    """Better widths under caps of few channels, in place; returns by how much the bound rises.

    rows: limits of a part that is all weights; dual: its lower bound. Each cap is searched by
    itself, the limits around it at their multipliers, so what the searches prove adds up. The other
    channels then take what is left.
    """
    prices = multipliers @ problem.rows
    counted = problem.rows[rows] > 0
    counts = counted @ np.diff(problem.start)
    raised, done = 0.0, np.zeros(len(problem.keys), dtype=bool)
    room = room_of(problem, bits)
    searched, widths = [np.arange(0)], [np.arange(0, dtype=np.int8)]
    for j, groups, count in sorted(
        zip(rows, counted, counts, strict=True), key=lambda cap: (cap[2], cap[0])
    ):
        if not multipliers[j] > 0 or count > FEW_ITEMS or (done & groups).any():
            continue
        done |= groups
        items = np.flatnonzero(groups[problem.group])
        now = reduced_costs(problem, prices, items)[bits[items], np.arange(len(items))].sum()
        now += multipliers[j] * room[j]
        if not now > _CLOSE / 10 * dual:
            continue
        found = search(problem, items, np.array([j]), multipliers, float(now))
        raised += min(float(now), found.missed, *found.cost[:1])
        if len(found.cost):
            searched.append(items)
            widths.append(found.widths[0])
    items = np.concatenate(searched)
    if len(items):
        given = _with_widths(problem, items, np.concatenate(widths))
        if (room_of(given, given.narrowest) >= 0).all():
            trial = _choose_and_fill(given, find_prices(given).prices)
            if problem.distortions(trial).sum() < problem.distortions(bits).sum():
                bits[:] = trial
    return max(0.0, raised)


def _with_widths(problem: Problem, items: np.ndarray, widths: np.ndarray) -> Problem:
    """The same problem with some items' widths given."""
    points, gains = problem.points.copy(), problem.gains.copy()
    width = np.arange(WIDTHS)[:, None]
    points[:, items] = np.where(width == widths, points[:, items], np.inf)
    gains[:, items] = np.where(width[:-1] < widths, np.inf, 0.0)
    return replace(problem, points=points, gains=gains)


def _choose_and_fill(problem: Problem, prices: np.ndarray) -> np.ndarray:
    bits = problem.choose(prices)
    take_ties(problem, bits, prices)
    fill_greedily(problem, bits)
    return bits


def _value(problem: Problem, bits: np.ndarray, part: Part) -> float:
    return float(problem.distortions(bits)[part.groups].sum())


def _beside_weights(
    problem: Problem,
    bits: np.ndarray,
    multipliers: np.ndarray,
    part: Part,
    dual: float,
    found: Frontier,
) -> float:
    weights = int(problem.group[part.large[0]])  # groups of tensors come after those of weights
    best = _value(problem, bits, part)
    bounds = _bounds(problem, multipliers, part, found, weights)
    bounds = np.maximum(bounds, dual + found.cost)
    tries = _TRIES if problem.items <= _MANY_ITEMS else _FEW_TRIES
    for choice in np.argsort(bounds, kind="stable")[:tries]:
        if bounds[choice] >= best * (1 - _CLOSE):
            break
        trial = bits.copy()
        trial[part.large] = found.widths[choice]
        trial, exact = _weights_given_tensors(problem, weights, trial, part)
        bounds[choice] = max(bounds[choice], exact)
        value = _value(problem, trial, part)
        if value < best:
            bits[:], best = trial, value
    return max(0.0, min(best, dual + found.missed, bounds.min(initial=np.inf)) - dual)


def _bounds(
    problem: Problem, multipliers: np.ndarray, part: Part, found: Frontier, weights: int
) -> np.ndarray:
    """(choices,) lower bound on the part's distortion with each choice of its tensors.

    The Lagrangian of the weights alone, at multipliers that differ from the given ones in one of
    the largest shared limits. Any multipliers make a bound; the best of them is taken.
    """
    tensors = problem.group[part.large]
    distortion = problem.points[found.widths, part.large].sum(axis=1)
    rows = part.rows
    of_weights = part.groups[part.groups < weights]
    shared = (problem.rows[np.ix_(rows, of_weights)] > 0).any(axis=1)
    rows, usage = rows[shared], found.usage[:, shared]
    y = multipliers[rows]
    both = (problem.rows[np.ix_(rows, tensors)] > 0).any(axis=1) & (y > 0)
    order = np.flatnonzero(both)[np.argsort(-(y * problem.limits[rows])[both], kind="stable")]
    only = problem.first_groups(weights, problem.limits)
    bounds = np.full(len(distortion), -np.inf)
    for j in order[: _BOUND_ROWS if problem.items <= _MANY_ITEMS else 0]:
        for slope in _SLOPES:
            trial = y.copy()
            trial[j] *= slope
            saved = only.lagrangian(trial @ only.rows[rows])[of_weights].sum()
            value = distortion + saved + (usage - problem.limits[rows]) @ trial
            np.maximum(bounds, value, out=bounds)
    return bounds


def _weights_given_tensors(
    problem: Problem, weights: int, bits: np.ndarray, part: Part
) -> tuple[np.ndarray, float]:
    """Allocate the weights anew in what the tensors leave of every limit.

    Returns all widths, and a lower bound on the part's distortion with these tensors.
    """
    rates = problem.rates(bits)
    rest = problem.first_groups(
        weights, problem.limits - problem.rows[:, weights:] @ rates[weights:]
    )
    prices = find_prices(rest)
    chosen = _choose_and_fill(rest, prices.prices)
    new = np.concatenate([chosen, bits[rest.items :]])
    of_weights = part.groups[part.groups < weights]
    bound = rest.lagrangian(prices.multipliers @ rest.rows)[of_weights].sum()
    bound -= (prices.multipliers * rest.limits)[part.rows].sum()
    tensors = part.groups[part.groups >= weights]
    return new, float(bound + problem.distortions(new)[tensors].sum())
