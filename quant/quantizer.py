"""Uniform quantisers: value <-> index, and the steps that lose least.

Weights: one width and one step per output channel, levels around zero. Activations: one step per
tensor, levels from zero upwards (after ReLU) or around a zero point. In both, zero padding and
dropped channels cost nothing extra, because zero is a level (but for 1-bit weights: +-step).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_SWEPT_BITS = 8  # the curves hold widths 0..8
_SEARCH_COLUMNS = 512  # weights of a channel that the search for its step looks at
_GRID_RATIO = 0.88  # between neighbouring steps of the search, which then refines the best
_GRID_END = 0.12  # least part of a channel's range worth keeping, reached at 2 bits


@dataclass(frozen=True)
class DeadZoneQuantizer:
    """Uniform reconstruction of weights, per channel; |x| < (1 - rounding) * |step| gives zero.

    Every other threshold moves with that of zero: level k begins at (k - rounding) * |step|.

    bits: (C,) integers, width of each channel's index. 0 drops the channel: all zeros.
    step: (C,) distance between reconstruction values, in units of x; its sign says on which side
    of zero the odd level lies: b >= 2 bits hold the levels -2**(b-1) .. 2**(b-1) - 1, one bit -1
    and +1. rounding: 0.5 is nearest; smaller widens the dead zone; one for all channels or (C,).
    """

    bits: Tensor
    step: Tensor
    rounding: float | Tensor = 0.5

    def __post_init__(self) -> None:
        if self.bits.shape != self.step.shape or self.bits.ndim != 1:
            raise ValueError(
                f"quantiser: bits and step must both be (channels,), got "
                f"{tuple(self.bits.shape)} and {tuple(self.step.shape)}"
            )
        if isinstance(self.rounding, Tensor) and self.rounding.shape != self.bits.shape:
            raise ValueError(
                f"quantiser: rounding must be one number or (channels,) = "
                f"{tuple(self.bits.shape)}, got {tuple(self.rounding.shape)}"
            )
        every = torch.as_tensor(self.rounding)
        if not bool(((every > 0.0) & (every <= 0.5)).all()):
            raise ValueError(f"quantiser: rounding must lie in 0..0.5, got {self.rounding}")

    def level(self, x: Tensor) -> Tensor:
        """x (C, K) -> the nearest allowed multiple of the step, as whole numbers in x's dtype."""
        rounding = self.rounding
        if isinstance(rounding, Tensor):
            rounding = rounding.unsqueeze(1)
        return _levels(x, self.bits.unsqueeze(1), self.step.unsqueeze(1), rounding)

    def index(self, x: Tensor) -> Tensor:
        """x (C, K) -> (C, K) int64 in 0 .. 2**bits - 1: what is stored."""
        level, bits = self.level(x).to(torch.int64), self.bits.unsqueeze(1)
        offset = torch.where(bits > 1, 2 ** (bits - 1).clamp(min=0), 0)
        return torch.where(bits == 1, (level + 1) // 2, level + offset)

    def value(self, index: Tensor) -> Tensor:
        """(C, K) indices -> values."""
        bits = self.bits.unsqueeze(1)
        offset = torch.where(bits > 1, 2 ** (bits - 1).clamp(min=0), 0)
        level = torch.where(bits == 1, 2 * index - 1, index - offset)
        return level.to(self.step.dtype) * self.step.unsqueeze(1)

    def __call__(self, x: Tensor) -> Tensor:
        """value(index(x)), without the integers in between."""
        return self.level(x) * self.step.unsqueeze(1)


def _levels(x: Tensor, bits: Tensor, step: Tensor, rounding: float | Tensor = 0.5) -> Tensor:
    """Whole multiples of `step` for x; bits, step and rounding broadcast against x."""
    scaled = x / step
    level = scaled.round()
    shifted = torch.as_tensor(rounding) < 0.5  # at 0.5 it would be the same but for ties
    if shifted.any():
        level = torch.where(shifted, scaled.sign() * (scaled.abs() + rounding).floor(), level)
    half = torch.where(bits > 0, 2.0 ** (bits - 1), 0.0).to(x.dtype)
    level = torch.minimum(torch.maximum(level, -half), (half - 1).clamp(min=0))
    if (bits == 1).any():
        level = torch.where(bits == 1, torch.where(scaled < 0, -1.0, 1.0).to(x.dtype), level)
    return level


def squared_error(weight: Tensor, step: Tensor, bits: int, importance: Tensor | None) -> Tensor:
    """(C,) sum of importance * error**2 of nearest rounding; weight (C, K), step (C,)."""
    column = step.unsqueeze(1)
    if bits < 2:
        error = _levels(weight, torch.tensor(bits), column).mul_(column)
    else:  # the same without its generality: this is the inner loop of the search
        half = 2 ** (bits - 1)
        error = (weight / column).round_().clamp_(-half, half - 1).mul_(column)
    error = error.sub_(weight).square_()
    return (error if importance is None else error.mul_(importance)).sum(1)


def choose_steps(weight: Tensor, bits: int, importance: Tensor | None = None) -> Tensor:
    """(C,) steps of least (weighted) squared error for weight (C, K) at one width.

    importance: (C, K) or (1, K) weight of each squared error; None counts all alike. A grid of
    clipping points, both signs at 2 and 3 bits where the odd level matters, then one
    least-squares fit of the step to the levels (a Lloyd iteration). A channel of zeros gets 1.
    """
    largest = weight.abs().amax(1)
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    if bits == 0:
        return torch.ones_like(largest)
    stride = max(1, weight.shape[1] // _SEARCH_COLUMNS)
    part = weight[:, ::stride].contiguous()
    weighing = importance
    if importance is not None and importance.shape[1] == weight.shape[1]:
        weighing = importance[:, ::stride]
    if bits == 1:
        best = safe
    else:
        # The odd level lies on the side of the channel's extreme value.
        extreme = weight.gather(1, weight.abs().argmax(1, keepdim=True)).squeeze(1)
        toward = torch.where(extreme > 0, -1.0, 1.0).to(weight.dtype)
        widest = safe / 2 ** (bits - 1)
        best, least = toward * widest, torch.full_like(largest, torch.inf)
        clip, end = 1.05, max(_GRID_END, 1 - 2.0 ** (3 - bits))
        ratio = _GRID_RATIO if bits < 6 else _GRID_RATIO**0.5
        # Short channels have lucky steps that only a fine grid meets, and cost little to search.
        ratio **= 1.0 / min(4, max(1, 256 // weight.shape[1]))
        while clip >= end:
            for sign in (1.0, -1.0) if bits <= 3 else (1.0,):
                step = toward * (sign * clip) * widest
                error = squared_error(part, step, bits, weighing)
                better = error < least
                best, least = torch.where(better, step, best), torch.where(better, error, least)
            clip *= ratio
        best = _refined(weight, best, bits, importance, ratio)
    level = _levels(weight, torch.tensor(bits), best.unsqueeze(1))
    weighed = level if importance is None else level * importance
    power = (weighed * level).sum(1)
    fitted = (weighed * weight).sum(1) / torch.where(power > 0, power, torch.ones_like(power))
    usable = (power > 0) & (fitted * best > 0)
    return torch.where(usable, fitted, torch.where(largest > 0, best, torch.ones_like(best)))


def _refined(
    weight: Tensor, step: Tensor, bits: int, importance: Tensor | None, ratio: float
) -> Tensor:
    """The best of `step` and four steps between it and its neighbours in the grid, all weights."""
    best, least = step, squared_error(weight, step, bits, importance)
    for power in (-2 / 3, -1 / 3, 1 / 3, 2 / 3):
        error = squared_error(weight, step * ratio**power, bits, importance)
        better = error < least
        best = torch.where(better, step * ratio**power, best)
        least = torch.where(better, error, least)
    return best


def weight_steps(weight: Tensor, importance: Tensor | None = None) -> Tensor:
    """(C, 9) steps of every channel at widths 0..8; see `choose_steps`."""
    widths = range(MAX_SWEPT_BITS + 1)
    return torch.stack([choose_steps(weight, bits, importance) for bits in widths], 1)


@dataclass(frozen=True)
class ActivationQuantizer:
    """Uniform levels of one tensor: value = (index - zero_point) * step, index 0 .. 2**bits - 1.

    zero_point is 0 for tensors without negative values. Zero is always a level, so that padding
    stays exact.
    """

    bits: int
    step: float
    zero_point: int = 0

    @property
    def least(self) -> float:
        """The lowest level, in steps."""
        return float(-self.zero_point)

    @property
    def most(self) -> float:
        return float(2**self.bits - 1 - self.zero_point)

    def index(self, x: Tensor) -> Tensor:
        level = (x / self.step).round_() + self.zero_point
        return level.clamp_(0, 2**self.bits - 1).to(torch.int64)

    def value(self, index: Tensor) -> Tensor:
        return (index - self.zero_point).to(torch.float32) * self.step

    def __call__(self, x: Tensor) -> Tensor:
        """value(index(x)), without the integers in between."""
        level = (x / self.step).round_()
        return level.clamp_(self.least, self.most).mul_(self.step)


def choose_activation(
    values: Tensor, low: float, high: float, bits: int, candidates: int = 40
) -> ActivationQuantizer:
    """The quantiser of least squared error over a sample of a tensor's values.

    values: (n,) sample; low, high: least and greatest value ever seen. The clipping range is the
    seen one times each of `candidates` factors from 1 down to 1/20; a tensor without negative
    values uses all its levels above zero.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return ActivationQuantizer(bits, 1.0)
    levels = 2**bits - 1
    best, least = ActivationQuantizer(bits, (high - low) / levels), float("inf")
    for i in range(candidates):
        step = (high - low) / levels * 20.0 ** (-i / (candidates - 1))
        # Shrink the range around the middle of what is seen, and keep zero on a level.
        zero_point = round(-low / (high - low) * levels)
        tried = ActivationQuantizer(bits, step, zero_point)
        error = float((tried(values) - values).square().sum(dtype=torch.float64))
        if error < least:
            best, least = tried, error
    return best
