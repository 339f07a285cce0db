"""Problem: curves and a budget as plain arrays. Minimise distortion under rows of rate limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from hwsim.names import did_you_mean
from quant.allocation.budget import KINDS, Budget, InfeasibleBudget, Kind
from quant.allocation.hull import hull_gains
from quant.curves import WIDTHS, RDCurves

_FINEST = 10**4  # shares of a bit that are this fine or coarser are counted exactly
_BLOCK = 8192  # items worked on together, so that scratch stays in the cache


@dataclass(frozen=True, eq=False)
class Problem:
    """Items (channels, or whole activation tensors) in groups (layers), under rows of limits.

    All items of a group have the same rate at the same width, so they share one price per bit.
    keys: (groups,) of (kind, layer). start: (groups + 1,) first item of each group.
    values: (groups,) rate of an item at b bits is values * b.
    points: (9, items) distortion, inf where a width is not allowed. gains: (8, items) of its
    hull, see `hull_gains`.
    rows: (limits, groups) what a bit of each group counts; names of the limits.
    scale: (limits,) by how much a row and its limit are multiplied so that shares of a bit are
    whole numbers. asked: (limits,) so multiplied, less overhead: (limits,) what no width changes
    (metadata of channels, what a cap's memory holds besides). limits: (limits,) the largest rates
    within them that whole widths can have: no allocation is lost, and the lower bound rises.
    metadata_bits: of all channels, where the budget counts it.
    """

    keys: tuple[tuple[Kind, str], ...]
    start: np.ndarray
    values: np.ndarray
    points: np.ndarray
    gains: np.ndarray
    rows: np.ndarray
    scale: np.ndarray
    asked: np.ndarray
    overhead: np.ndarray
    limits: np.ndarray
    names: tuple[str, ...]
    metadata_bits: float = 0.0

    @property
    def items(self) -> int:
        return self.points.shape[1]

    def items_of(self, group: int) -> slice:
        return slice(int(self.start[group]), int(self.start[group + 1]))

    @cached_property
    def group(self) -> np.ndarray:
        """(items,) the group of each item."""
        return np.repeat(np.arange(len(self.keys), dtype=np.int32), np.diff(self.start))

    @cached_property
    def narrowest(self) -> np.ndarray:
        """(items,) the narrowest allowed width."""
        narrowest = np.empty(self.items, dtype=np.int8)
        for block in self._blocks():
            narrowest[block] = np.argmax(np.isfinite(self.points[:, block]), axis=0)
        return narrowest

    def _blocks(self) -> Iterator[slice]:
        for first in range(0, self.items, _BLOCK):
            yield slice(first, first + _BLOCK)

    def choose(self, prices: np.ndarray) -> np.ndarray:
        """(items,) least distortion + price * rate on the hull; of ties, the lowest rate."""
        bits = np.zeros(self.items, dtype=np.int8)
        for block in self._blocks():
            price = prices[self.group[block]]
            for gain in self.gains[:, block]:
                bits[block] += gain > price
        return bits

    def rates(self, bits: np.ndarray) -> np.ndarray:
        """(groups,) bits of each group."""
        return np.add.reduceat(bits.astype(np.int64), self.start[:-1]) * self.values

    def distortions(self, bits: np.ndarray) -> np.ndarray:
        """(groups,) distortion of each group."""
        chosen = np.empty(self.items)
        for block in self._blocks():
            width = bits[None, block].astype(np.intp)
            chosen[block] = np.take_along_axis(self.points[:, block], width, axis=0)[0]
        return np.add.reduceat(chosen, self.start[:-1])

    def lagrangian(self, prices: np.ndarray) -> np.ndarray:
        """(groups,) sum over items of the least distortion + price * rate, over all widths.

        Taken from the points themselves, not from their hulls, because the certificate is made
        of it.
        """
        least = np.empty(self.items)
        for block in self._blocks():
            group = self.group[block]
            per_bit = (prices * self.values)[group]
            best = self.points[0, block].copy()
            for b in range(1, WIDTHS):
                np.minimum(best, self.points[b, block] + b * per_bit, out=best)
            least[block] = best
        return np.add.reduceat(least, self.start[:-1])

    def dual_value(self, multipliers: np.ndarray) -> float:
        """The Lagrangian dual: no allocation that keeps the limits has less distortion."""
        saved = self.lagrangian(multipliers @ self.rows)
        return float(saved.sum() - multipliers @ self.limits)

    def first_groups(self, groups: int, limits: np.ndarray) -> Problem:
        """The same problem for the first groups only, under other limits; shares its arrays."""
        items = int(self.start[groups])
        return Problem(
            keys=self.keys[:groups],
            start=self.start[: groups + 1],
            values=self.values[:groups],
            points=self.points[:, :items],
            gains=self.gains[:, :items],
            rows=self.rows[:, :groups],
            scale=self.scale,
            asked=limits,
            overhead=self.overhead,
            limits=limits,
            names=self.names,
        )


def build(curves: RDCurves, budget: Budget, channels: int | None = None) -> Problem:
    """Curves and budget as arrays.

    channels: with metadata, where an item of the curves is several output channels together.
    Raises ValueError for layers that the curves do not have, a limit on activations without
    their curves, and fixed widths without a finite point.
    """
    keys: list[tuple[Kind, str]] = [("weights", curve.name) for curve in curves.weights]
    keys += [("activations", curve.name) for curve in curves.activations]
    if not keys:
        raise ValueError(f"curves of {curves.network!r}: there is no layer to allocate bits to")
    sizes = [c.channels for c in curves.weights] + [1] * len(curves.activations)
    start = np.concatenate([[0], np.cumsum(sizes)])
    all_values = [c.values for c in curves.weights] + [c.values for c in curves.activations]
    values = np.array(all_values, dtype=np.float64)
    metadata = budget.metadata_bits * (curves.channels if channels is None else channels)
    points = np.empty((WIDTHS, start[-1]))
    distortions = [c.distortion for c in curves.weights]
    distortions += [c.distortion for c in curves.activations]
    for g, distortion in enumerate(distortions):
        _fill(points[:, start[g] : start[g + 1]], keys[g], distortion, budget)
    for key in budget.fixed:
        _find(keys, key, "fixed width")
    rows, scale, limits, overhead, names = _limits(curves, budget, keys, metadata)
    asked = limits - overhead
    item_group = np.repeat(np.arange(len(keys)), sizes)
    gains = hull_gains(points, values[item_group])
    problem = Problem(
        tuple(keys), start, values, points, gains, rows, scale, asked, overhead, asked, names,
        float(metadata),
    )  # fmt: skip
    return replace(problem, limits=_in_whole_steps(problem))


def _in_whole_steps(problem: Problem) -> np.ndarray:
    """Limits brought down to the narrowest widths' rate plus a multiple of the least step.

    All rates that a group can have are apart by a multiple of its step, so those of a row are
    apart by a multiple of the steps' greatest common divisor.
    """
    steps = np.zeros(len(problem.keys), dtype=np.int64)
    allowed = np.logical_or.reduceat(np.isfinite(problem.points), problem.start[:-1], axis=1)
    for g in range(len(steps)):
        widths = np.flatnonzero(allowed[:, g])
        rate = widths * int(problem.values[g])
        steps[g] = np.gcd.reduce(rate - rate[0])
    limits = problem.asked.copy()
    smallest = problem.rows @ problem.rates(problem.narrowest)
    for j, row in enumerate(problem.rows):
        if (row % 1 == 0).all():
            step = np.gcd.reduce(row.astype(np.int64) * steps)
            room = limits[j] - smallest[j]
            if step and room >= 0:
                limits[j] = smallest[j] + room // step * step
    return limits


def _limits(
    curves: RDCurves, budget: Budget, keys: list[tuple[Kind, str]], metadata: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Rows, the scale of each, limits, what they hold besides, and names."""
    is_weight = np.array([kind == "weights" for kind, _ in keys])
    rows: list[np.ndarray] = []
    limits: list[float] = []
    overhead: list[float] = []
    names: list[str] = []
    scale = 1
    counts = (curves.weight_values, curves.activation_values)
    for kind, values, of_kind in zip(KINDS, counts, (is_weight, ~is_weight), strict=True):
        beside = metadata if kind == "weights" else 0
        limit = budget.limit_bits(kind, values, beside)
        if limit is None:
            continue
        if not values:
            raise ValueError(
                f"budget: a limit on {kind}, but the curves of {curves.network!r} have none; "
                f"measure them, or leave the limit out"
            )
        rows.append(of_kind.astype(np.float64))
        limits.append(limit)
        overhead.append(beside)
        names.append(kind)
    if budget.total_bits is not None:
        rate = Fraction(str(float(budget.activation_rate)))
        scale = rate.denominator if rate.denominator <= _FINEST else 1
        rows.append(np.where(is_weight, scale, float(rate * scale)))
        # sums of shares that are not whole are rounded: stay that much below
        exact = (rate * scale).denominator == 1
        limits.append(float(budget.total_bits) * scale * (1 if exact else 1 - 1e-12))
        overhead.append(metadata * scale)
        names.append("total")
    for cap in budget.caps:
        row = np.zeros(len(keys))
        for key in cap.members:
            row[_find(keys, key, f"cap {cap.name!r}")] = 1
        rows.append(row)
        limits.append(float(cap.limit_bits))
        overhead.append(cap.overhead_bits)
        names.append(cap.name)
    scales = np.array([float(scale) if name == "total" else 1.0 for name in names])
    matrix = np.array(rows).reshape(len(rows), len(keys))
    return matrix, scales, np.array(limits), np.array(overhead, dtype=np.float64), tuple(names)


def _find(keys: list[tuple[Kind, str]], key: tuple[Kind, str], where: str) -> int:
    if key not in keys:
        known = [name for kind, name in keys if kind == key[0]]
        raise ValueError(f"{where}: no {key[0]} of {key[1]!r}{did_you_mean(key[1], known)}")
    return keys.index(key)


def _fill(points: np.ndarray, key: tuple[Kind, str], curve: np.ndarray, budget: Budget) -> None:
    """Copy one layer's curve into (9, items), inf at widths that the budget does not allow."""
    kind, name = key
    points[:] = np.atleast_2d(curve).T
    if key in budget.fixed:  # need not be among the widths allowed elsewhere: 8 bits for the image
        fixed = np.asarray(budget.fixed[key])
        count = points.shape[1]
        lowest = 0 if kind == "weights" else 1
        where = f"fixed width of {kind} of {name!r}"
        if fixed.dtype.kind not in "iu" or fixed.shape not in ((), (count,)):
            raise ValueError(
                f"{where}: expected an integer or {count} integers, got {budget.fixed[key]!r}"
            )
        if fixed.min() < lowest or fixed.max() >= WIDTHS:
            raise ValueError(f"{where}: must lie in {lowest}..{WIDTHS - 1}, got {fixed}")
        points[:] = np.where(np.arange(WIDTHS)[:, None] == fixed, points, np.inf)
    else:
        widths = budget.weight_widths if kind == "weights" else budget.activation_widths
        for b in set(range(WIDTHS)) - set(widths):
            points[b] = np.inf
    if not np.isfinite(points).any(axis=0).all():
        raise ValueError(
            f"{kind} of {name!r}: none of the allowed widths has a finite distortion for every "
            f"channel; allow more widths"
        )


def check_feasible(problem: Problem) -> None:
    """Raise InfeasibleBudget unless the narrowest widths keep every limit.

    All counts in the rows are at least 0, so nothing else can keep a limit that these do not.
    """
    rows, overhead = problem.rows / problem.scale[:, None], problem.overhead / problem.scale
    asked = problem.asked / problem.scale + overhead
    smallest = rows @ problem.rates(problem.narrowest) + overhead
    over = smallest - asked
    if not (over > 0).any():
        return
    best = problem.choose(np.zeros(len(problem.keys)))
    largest = rows @ problem.rates(best) + overhead
    j = int(np.argmax(over))
    members = rows[j] > 0
    counts = np.diff(problem.start)[members] * problem.values[members] * rows[j, members]
    values = float(counts.sum())
    others = [problem.names[i] for i in np.flatnonzero(over > 0) if i != j]
    raise InfeasibleBudget(
        f"limit on {problem.names[j]!r} of {asked[j]:,.0f} bits "
        f"({asked[j] / values:.4g} a value) cannot be kept: the narrowest allowed widths "
        f"take {smallest[j]:,.0f} bits ({smallest[j] / values:.4g} a value), {over[j]:,.0f} too "
        f"many; {smallest[j]:,.0f} to {largest[j]:,.0f} bits ({smallest[j] / values:.4g} to "
        f"{largest[j] / values:.4g} a value) can be reached"
        + (f"; cannot be kept either: {', '.join(map(repr, others))}" if others else ""),
        problem.names[j], float(asked[j]), float(smallest[j]), float(largest[j]),
    )  # fmt: skip
