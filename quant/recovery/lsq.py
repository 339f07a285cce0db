"""Learned step size quantisation: rounding with gradients to the value and to the step.

Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned step size quantization", ICLR 2020. Forward:
clamp(round(x / s), low, high) * s. Backward, with the rounding's own move taken as constant:
d/dx = 1 inside low < x / s < high and 0 outside (straight through); d/ds = level - x / s inside
and the level outside, times the gradient scale 1 / sqrt(values * high) that keeps the step's
updates in proportion with the weights'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from quant.scales import stored_step


def gradient_scale(values: int, high: float) -> float:
    """1 / sqrt(values * high): values that share a step, high: largest level (Sec. 2.2)."""
    return 1.0 / math.sqrt(values * max(high, 1.0))


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, low: Tensor, high: Tensor, binary: Tensor, scale: Tensor
    ) -> Tensor:
        scaled = x / step
        level = torch.minimum(torch.maximum(scaled.round(), low), high)
        if binary.any():
            level = torch.where(binary, torch.where(scaled < 0, -1.0, 1.0).to(x.dtype), level)
        ctx.save_for_backward(scaled, level, low, high, scale)
        ctx.shape = step.shape
        return level * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        scaled, level, low, high, scale = ctx.saved_tensors
        inside = (scaled > low) & (scaled < high)
        of_x = gradient * inside
        of_step = gradient * torch.where(inside, level - scaled, level)
        return of_x, of_step.sum_to_size(ctx.shape) * scale, None, None, None, None


def round_with_step(
    x: Tensor, step: Tensor, low: Tensor, high: Tensor, binary: Tensor, scale: Tensor
) -> Tensor:
    """x on the levels low..high of `step`, with the gradients of LSQ.

    step, low, high, binary, scale broadcast against x; step's sign says on which side the odd
    level lies. binary: two levels, -step and step, for 1-bit weights, whose low and high are -1
    and 1. scale: gradient scale, of step's shape.
    """
    return _LearnedStep.apply(x, step, low, high, binary, scale)


class _Stored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Tensor) -> Tensor:
        return stored_step(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def as_stored(step: Tensor) -> Tensor:
    """The half-precision number that is stored for a step; the gradient passes through."""
    return _Stored.apply(step)
