"""Lower convex hull of rate-distortion points: what each further bit of a channel is worth.

A slope can reach only the points on the lower convex hull of a channel's (rate, distortion) points.
`hull_gains` gives, for each step from one width to the next, the distortion that the hull loses per
bit of rate; these gains never increase, so at a slope a channel has as many bits as it has gains
above the slope. `lower_hull` is the usual monotone chain, one channel at a time, in exact numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import isfinite

import numpy as np

_BLOCK = 4096  # columns worked on together: nine rows of them and the scratch stay in the L2 cache


def hull_gains(distortion: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Distortion that the lower hull loses per bit of rate, for every step in width.

    distortion: (widths, channels), at 0, 1, 2, ... bits, inf where a width is not allowed; at
    least one finite a channel. values: (channels,) values behind a channel, so that b bits have a
    rate of values * b.
    Returns (widths - 1, channels): row j is the gain from j to j + 1 bits; never increasing down a
    column; inf below the narrowest allowed width, 0 where more bits do not help.

    The hull's slope over a step is the largest, over points before it, of the smallest slope to a
    point behind it (the min-max form of isotonic regression: Barlow et al., 1972).
    """
    widths, channels = distortion.shape
    gains = np.empty((widths - 1, channels))
    for start in range(0, channels, _BLOCK):
        block = slice(start, start + _BLOCK)
        d = distortion[:, block]
        rate = values[block] * np.arange(widths, dtype=np.float64)[:, None]
        _block_gains(np.ascontiguousarray(d), rate, gains[:, block])
    return gains


def _block_gains(d: np.ndarray, rate: np.ndarray, out: np.ndarray) -> None:
    widths, channels = d.shape
    drop, length, least = np.empty(channels), np.empty(channels), np.empty(channels)
    slope = np.full((widths - 1, channels), -np.inf)
    # inf - inf is NaN, which fmin and fmax pass over: neither of the two points is allowed
    with np.errstate(invalid="ignore"):
        for i in range(widths - 1):
            least.fill(np.inf)
            for k in range(widths - 1, i, -1):
                np.subtract(d[k], d[i], out=drop)
                np.subtract(rate[k], rate[i], out=length)
                np.divide(drop, length, out=drop)
                np.fmin(least, drop, out=least)
                np.fmax(slope[k - 1], least, out=slope[k - 1])
    np.negative(slope, out=slope)
    np.maximum(slope, 0, out=out)
    for j in range(1, widths - 1):
        np.minimum(out[j], out[j - 1], out=out[j])  # rounding can disorder collinear points


def lower_hull(rate: Sequence[float], distortion: Sequence[float]) -> list[int]:
    """Indices of the lower hull's vertices from the lowest rate to the least distortion.

    rate: increasing. Points of infinite distortion are left out, and so are points between
    vertices and points of more rate without less distortion. Monotone chain: Andrew, Information
    Processing Letters 9(5), 1979; in exact arithmetic.
    """
    points = [i for i, d in enumerate(distortion) if isfinite(d)]
    r, d = [Fraction(x) for x in rate], {i: Fraction(distortion[i]) for i in points}
    hull: list[int] = []
    for i in points:
        while len(hull) > 1:
            a, b = hull[-2:]
            if (d[b] - d[a]) * (r[i] - r[a]) < (d[i] - d[a]) * (r[b] - r[a]):
                break
            hull.pop()
        hull.append(i)
    least = min(d.values())
    return hull[: 1 + next(i for i, point in enumerate(hull) if d[point] == least)]


def reference_gains(rate: Sequence[float], distortion: Sequence[float]) -> list[float]:
    """`hull_gains` of one channel, read off its `lower_hull`."""
    hull = lower_hull(rate, distortion)
    gains = [float("inf")] * hull[0]
    for a, b in pairwise(hull):
        gains += [(distortion[a] - distortion[b]) / (rate[b] - rate[a])] * (b - a)
    return gains + [0.0] * (len(rate) - 1 - hull[-1])
