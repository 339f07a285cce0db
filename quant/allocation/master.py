"""Master problem for limits that overlap: a concave function of a few dozen multipliers.

A group is its steps in order of gain; whatever its number of items, the rate at a price is one
look-up. The linear programme over all steps is solved over pieces of them: coarse pieces first,
then finer ones where the price of the group falls, until the pieces there are single steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quant.allocation.interior import interior_multipliers
from quant.allocation.problem import Problem

_PIECES = 32  # a piece is cut into so many when a price falls into it
_ROUNDS = 8  # 32^8 steps a group
_SWEEPS = 4
_NEGLIGIBLE = 1e-13  # of the dual's value: below what the interior point resolves
_BISECTIONS = 200


@dataclass(frozen=True, eq=False)
class GroupSteps:
    """Steps of one group by falling gain.

    loss: (steps,) minus the gain of each, rising. rate, drop: (steps + 1,) running sums of bits
    and of distortion. forced_bits: rate of the narrowest allowed widths.
    """

    loss: np.ndarray
    rate: np.ndarray
    drop: np.ndarray
    forced_bits: float

    @classmethod
    def of(cls, problem: Problem, group: int) -> GroupSteps:
        gains = problem.gains[:, problem.items_of(group)]
        rates = np.full(gains.shape, problem.values[group])
        chosen = (gains > 0) & (gains < np.inf)
        order = np.argsort(-gains[chosen], kind="stable")
        gain, rate = gains[chosen][order], rates[chosen][order]
        return cls(
            -gain,
            np.concatenate([[0.0], np.cumsum(rate)]),
            np.concatenate([[0.0], np.cumsum(gain * rate)]),
            float(rates[gains == np.inf].sum()),
        )

    def taken(self, price: float) -> int:
        """Number of steps with a gain above the price."""
        return int(np.searchsorted(self.loss, -price, side="left"))

    def rate_bits(self, price: float) -> float:
        return self.forced_bits + float(self.rate[self.taken(price)])

    def saved(self, price: float) -> float:
        """Largest drop - price * rate: what is gained over the narrowest widths."""
        k = self.taken(price)
        return float(self.drop[k] - price * self.rate[k])


def overlapping_prices(
    problem: Problem, row_indices: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers of a component's rows, and prices of its groups that keep every row.

    Multipliers come from the interior point and an exact search along each of them. The prices
    are theirs, raised row by row where the items' choices would take more than the limit.
    """
    rows = problem.rows[np.ix_(row_indices, groups)]
    limits = problem.limits[row_indices]
    steps = [GroupSteps.of(problem, int(g)) for g in groups]
    room = limits - rows @ np.array([s.forced_bits for s in steps])
    multipliers = polish(steps, rows, room, _refine(steps, rows, room))
    prices = multipliers @ rows
    for j in range(len(rows)):  # a higher price never takes more of the rows before
        prices = prices + rows[j] * meeting_slope(steps, rows, room, prices, j)
    return multipliers, prices


def dual_value(
    steps: list[GroupSteps], rows: np.ndarray, room: np.ndarray, multipliers: np.ndarray
) -> float:
    """Upper bound on the drop below the narrowest widths: the least is the best bound."""
    prices = multipliers @ rows
    saved = sum(s.saved(float(p)) for s, p in zip(steps, prices, strict=True))
    return saved + float(multipliers @ room)


def _refine(steps: list[GroupSteps], rows: np.ndarray, room: np.ndarray) -> np.ndarray:
    # a limit without any room has no interior: its members stay where they are, for which its
    # multiplier need only be large; `polish` lowers it
    full = room <= 0
    stuck = [bool((row[full] > 0).any()) for row in rows.T]
    cuts = [
        np.unique(np.linspace(0, 0 if fixed else len(s.loss), _PIECES + 1).astype(int))
        for s, fixed in zip(steps, stuck, strict=True)
    ]
    highest = max(float(-s.loss[0]) for s in steps if len(s.loss))
    dear = np.where(full, highest / np.where(rows > 0, rows, np.inf).min(axis=1), 0.0)
    best, least = dear, np.inf
    if all(len(cut) < 2 for cut in cuts):
        return best
    for _ in range(_ROUNDS):
        parts = [
            (np.diff(s.drop[cut]) / np.diff(s.rate[cut]), np.diff(s.rate[cut]))
            for s, cut in zip(steps, cuts, strict=True)
        ]
        multipliers = dear.copy()
        multipliers[~full] = interior_multipliers(
            np.concatenate([gain for gain, _ in parts]),
            np.concatenate([rate for _, rate in parts]),
            np.repeat(np.arange(len(steps)), [len(gain) for gain, _ in parts]),
            rows[~full],
            room[~full],
        )
        value = dual_value(steps, rows, room, multipliers)
        if value < least:
            best, least = multipliers, value
        prices = multipliers @ rows
        finer = [
            cut if fixed else _cut(s, cut, float(p))
            for s, cut, p, fixed in zip(steps, cuts, prices, stuck, strict=True)
        ]
        if all(len(new) == len(old) for new, old in zip(finer, cuts, strict=True)):
            break
        cuts = finer
    return best


def _cut(steps: GroupSteps, cuts: np.ndarray, price: float) -> np.ndarray:
    """Cut the piece that the price falls in, and its neighbours, into finer ones."""
    at = int(np.searchsorted(cuts, steps.taken(price), side="right"))
    low, high = max(0, at - 2), min(len(cuts) - 1, at + 1)
    new = [
        np.linspace(a, b, _PIECES + 1).astype(int)
        for a, b in zip(cuts[low:high], cuts[low + 1 : high + 1], strict=True)
    ]
    return np.unique(np.concatenate([cuts, *new]))


def polish(
    steps: list[GroupSteps], rows: np.ndarray, room: np.ndarray, multipliers: np.ndarray
) -> np.ndarray:
    """Search along one multiplier after another; never worse than what it starts from."""
    y = multipliers.copy()
    least = dual_value(steps, rows, room, y)
    for _ in range(_SWEEPS):
        for j in range(len(room)):
            trial = y.copy()
            trial[j] = 0.0
            trial[j] = meeting_slope(steps, rows, room, trial @ rows, j)
            value = dual_value(steps, rows, room, trial)
            if value <= least:
                y, least = trial, value
    # what binds is told apart from noise; without room a multiplier costs the bound nothing
    return np.where((room <= 0) | (y * room > _NEGLIGIBLE * least), y, 0.0)


def meeting_slope(
    steps: list[GroupSteps], rows: np.ndarray, room: np.ndarray, prices: np.ndarray, j: int
) -> float:
    """Least multiplier of row j, added to the prices, that keeps it; to the last bit."""
    members = [(steps[g], float(rows[j, g]), float(prices[g])) for g in np.flatnonzero(rows[j])]

    def kept(slope: float) -> bool:
        rate = sum(a * (s.rate_bits(p + a * slope) - s.forced_bits) for s, a, p in members)
        return rate <= room[j]

    if kept(0.0):
        return 0.0
    low, high = 0.0, max((float(-s.loss[0]) / a for s, a, _ in members if len(s.loss)), default=0.0)
    while not kept(high):  # a rounding above the largest gain
        high *= 2
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if kept(middle):
            high = middle
        else:
            low = middle
    return high
