"""Interior-point method for the linear programme of overlapping limits.

maximise    sum_s gain_s rate_s x_s
subject to  sum_s rows[j, group_s] rate_s x_s <= limits[j],  0 <= x <= 1

Steps of one group share a column direction, so the normal equations are as small as the number of
limits and each iteration is linear in the number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_ITERATIONS = 100
_GAP = 1e-13  # relative; what double precision allows
_STALLED = 5  # iterations without a smaller gap: numbers have run out
_BACK = 0.9995  # stop this share short of the boundary


@dataclass(frozen=True, eq=False)
class _Programme:
    a: np.ndarray  # (steps,) rate
    c: np.ndarray  # (steps,) gain * rate
    b: np.ndarray  # (limits,)
    group: np.ndarray  # (steps,)
    rows: np.ndarray  # (limits, groups)

    def by_group(self, x: np.ndarray) -> np.ndarray:
        return np.bincount(self.group, weights=x, minlength=self.rows.shape[1])

    def rates(self, x: np.ndarray) -> np.ndarray:
        """M x: what the steps taken count in each row."""
        return self.rows @ self.by_group(self.a * x)

    def costs(self, y: np.ndarray) -> np.ndarray:
        """M' y: what each step costs at the multipliers y."""
        return self.a * (y @ self.rows)[self.group]


class _Point(NamedTuple):
    """x, u = 1 - x: steps taken and left; slack of the limits; y, z, v: duals of limits, x, u."""

    x: np.ndarray
    u: np.ndarray
    slack: np.ndarray
    y: np.ndarray
    z: np.ndarray
    v: np.ndarray

    @property
    def gap(self) -> float:
        return float(self.x @ self.z + self.u @ self.v + self.slack @ self.y)

    def moved(self, to: _Point, share: float) -> _Point:
        """Move along a direction, primal and dual each as far as that share of what is allowed."""
        primal = share * min(_longest(a, d) for a, d in zip(self[:3], to[:3], strict=True))
        dual = share * min(_longest(a, d) for a, d in zip(self[3:], to[3:], strict=True))
        lengths = [primal] * 3 + [dual] * 3
        return _Point(*(a + t * d for a, d, t in zip(self, to, lengths, strict=True)))


def interior_multipliers(
    gain: np.ndarray, rate: np.ndarray, group: np.ndarray, rows: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    """(limits,) multipliers of the programme above, at least 0, the best that were met.

    They are nearly optimal; if numbers run out before, any multipliers still make a bound.

    gain, rate: (steps,) above 0. group: (steps,) column of rows.
    rows: (limits, groups) at least 0. limits: (limits,) above 0.
    Predictor-corrector: Mehrotra, SIAM J. Optimization 2(4), 1992; with upper bounds.
    """
    gain_unit, rate_unit = float(np.median(gain)), float(rate.max())
    a = rate / rate_unit
    lp = _Programme(a, gain / gain_unit * a, limits / rate_unit, group, rows)
    p = _start(lp)
    best, least, stalled = p.y, np.inf, 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for _ in range(_ITERATIONS):
            # the start is dual feasible and every step stays so
            residual = lp.b - lp.rates(p.x) - p.slack
            error = (p.gap + float(np.abs(residual) @ p.y)) / float(lp.c @ p.x)
            if not np.isfinite(error):
                break
            stalled = 0 if error < least else stalled + 1
            if error < least:
                best, least = p.y, error
            if error < _GAP or stalled == _STALLED:
                break
            p = _iterate(lp, p, residual)
    return np.maximum(best, 0) * gain_unit


def _iterate(lp: _Programme, p: _Point, residual: np.ndarray) -> _Point:
    """One predictor and corrector step."""
    theta = 1.0 / (p.v / p.u + p.z / p.x)
    # M theta M' summed within groups first, because their steps have one direction
    normal = (lp.rows * lp.by_group(lp.a * lp.a * theta)) @ lp.rows.T + np.diag(p.slack / p.y)

    def newton(xz: np.ndarray, uv: np.ndarray, sy: np.ndarray) -> _Point:
        """The step that closes the residual and changes x z, u v and slack y by given amounts."""
        h = xz / p.x - uv / p.u
        dy = _solve(normal, lp.rates(theta * h) + sy / p.y - residual)
        dx = theta * (h - lp.costs(dy))
        ds = (sy - p.slack * dy) / p.y
        return _Point(dx, -dx, ds, dy, (xz - p.z * dx) / p.x, (uv + p.v * dx) / p.u)

    xz, uv, sy = p.x * p.z, p.u * p.v, p.slack * p.y
    ahead = newton(-xz, -uv, -sy)
    mean = p.gap / (2 * len(p.x) + len(p.y))
    mu = mean * (p.moved(ahead, 1.0).gap / p.gap) ** 3
    d = newton(
        mu - xz - ahead.x * ahead.z,
        mu - uv - ahead.u * ahead.v,
        mu - sy - ahead.slack * ahead.y,
    )
    return p.moved(d, _BACK)


def _start(lp: _Programme) -> _Point:
    x = np.full(len(lp.a), 0.5)
    y = np.full(len(lp.b), 1.0 / max(1.0, float(lp.rows.sum(axis=0).max())))
    slack = np.maximum(lp.b - lp.rates(x), 0.1 * lp.b + 0.1)
    reduced = lp.c - lp.costs(y)
    v = np.maximum(reduced, 0) + 0.1 * lp.a
    z = np.maximum(-reduced, 0) + 0.1 * lp.a
    return _Point(x, 1.0 - x, slack, y, z, v)


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    scale = 1.0 / np.sqrt(np.diag(normal))
    scaled = normal * scale[:, None] * scale
    scaled[np.diag_indices_from(scaled)] += 1e-14  # rows that say the same
    return scale * np.linalg.solve(scaled, right * scale)


def _longest(value: np.ndarray, change: np.ndarray) -> float:
    """Longest step, at most 1, that keeps every value at or above 0."""
    shrinking = change < 0
    if not shrinking.any():
        return 1.0
    return min(1.0, float((value[shrinking] / -change[shrinking]).min()))
