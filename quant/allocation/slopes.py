"""The slope at which a rate meets a limit: selection in linear time, without sorting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_DIGITS = (16, 16, 16, 16)  # bits of a float's pattern looked at in each pass
_SMALL_DIGITS = (12, 13, 13, 13, 13)  # the first holds sign and exponent
_MANY = 1 << 19  # steps, above which the larger tables are worth their passes
_BLOCK = 1 << 17  # steps looked at together, so that scratch stays in the cache
_FEW = 1 << 11  # so few are sorted faster than their digits are counted


def critical_slope(steps: Sequence[tuple[np.ndarray, np.ndarray]], limit_bits: float) -> float:
    """Least slope >= 0 at which the steps with a gain above it have a rate of at most limit_bits.

    steps: arrays of gains (distortion per bit; those of 0 or less are never taken) and of the
    rate of each, of equal length. Returns 0 if all gains above 0 fit, else one of the gains.
    Raises ValueError if the steps with infinite gain do not fit.

    The patterns of positive floats are in the order of their values, so this is a selection by
    digits, most significant first: each pass adds up rates by digit and keeps one digit's steps.
    """
    count = sum(len(gain) for gain, _ in steps)
    if count <= _FEW:
        return _of_few(steps, limit_bits)
    steps = [
        (gain[first : first + _BLOCK], rate_bits[first : first + _BLOCK])
        for gain, rate_bits in steps
        for first in range(0, max(1, len(gain)), _BLOCK)
    ]
    room = limit_bits
    low = 0  # pattern of the critical gain, as far as it is known
    shift = 64
    for digit_bits in _DIGITS if count > _MANY else _SMALL_DIGITS:
        shift -= digit_bits
        rate = np.zeros(1 << digit_bits)
        for gain, rate_bits in steps:
            digits = (gain.view(np.int64) >> shift) & ((1 << digit_bits) - 1)
            # steps of no gain get no rate (a negative zero would have the largest digit of all)
            weight = np.where(gain > 0, rate_bits, 0)
            rate += np.bincount(digits, weights=weight, minlength=1 << digit_bits)
        above = np.cumsum(rate[::-1])[::-1]  # rate of this digit and of larger ones
        over = np.flatnonzero(above > room)
        if len(over):
            digit = int(over[-1])
        elif not low:
            return 0.0  # everything fits
        else:  # rates that are not whole bits: the sum differs by a rounding from the last pass
            digit = int(np.flatnonzero(rate)[0])
        room -= above[digit] - rate[digit]
        low |= digit << shift
        steps = _of_digit(steps, low >> shift, shift)
        (gain, _), *_ = steps
        if len(gain) <= _FEW:
            # they do not all fit, but for the rounding of rates that are not whole bits
            return _of_few(steps, room) or float(gain.min())
    return _finite(float(np.array(low, dtype=np.int64).view(np.float64)), limit_bits)


def _of_few(steps: Sequence[tuple[np.ndarray, np.ndarray]], limit_bits: float) -> float:
    gains = np.concatenate([gain for gain, _ in steps])
    rates = np.concatenate([rate_bits for _, rate_bits in steps])
    taken = gains > 0
    gains, rates = gains[taken], rates[taken]
    order = np.argsort(-gains, kind="stable")
    over = np.flatnonzero(np.cumsum(rates[order]) > limit_bits)
    return _finite(float(gains[order[over[0]]]), limit_bits) if len(over) else 0.0


def _finite(slope: float, limit_bits: float) -> float:
    if slope == np.inf:
        raise ValueError(f"steps that cannot be left out do not fit in {limit_bits:,.0f} bits")
    return slope


def _of_digit(
    steps: Sequence[tuple[np.ndarray, np.ndarray]], prefix: int, shift: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    kept = []
    for gain, rate_bits in steps:
        keep = (gain.view(np.int64) >> shift == prefix) & (gain > 0)
        kept.append((gain[keep], rate_bits[keep]))
    return [(np.concatenate([k[0] for k in kept]), np.concatenate([k[1] for k in kept]))]


def critical_slope_by_sorting(gain: np.ndarray, rate_bits: np.ndarray, limit_bits: float) -> float:
    """The same by sorting: the plain version that `critical_slope` is tested against."""
    for slope in [0.0, *sorted(gain[(gain > 0) & (gain < np.inf)])]:
        if rate_bits[gain > slope].sum() <= limit_bits:
            return float(slope)
    raise ValueError(f"steps that cannot be left out do not fit in {limit_bits:,.0f} bits")
