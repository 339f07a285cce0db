"""Steps as a chip stores them: half precision, the 16-bit scale of the accelerators' metadata."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_MAX = 65504.0  # largest half-precision number
HALF_MIN = 2.0**-24  # smallest above zero


def stored_step(step: Tensor) -> Tensor:
    """The nearest half-precision number of at least 2**-24, as float32; the sign is kept.

    A network that is quantised with it is the one that its stored scales describe. A step that
    half precision would take to zero or infinity goes to the nearest end instead.
    """
    size = step.detach().abs().clamp(HALF_MIN, HALF_MAX).to(torch.float16).to(torch.float32)
    return torch.where(step < 0, -size, size)


def is_power_of_two(step: Tensor) -> Tensor:
    """Whether each |step| is a whole power of two: what a shift can multiply by."""
    return step.detach().abs().frexp().mantissa == 0.5


def power_of_two_step(step: Tensor) -> Tensor:
    """The power of two nearest to each |step|, by ratio, within half precision; the sign is kept.

    Exponents -24 .. 15. As float32.
    """
    size = step.detach().to(torch.float32).abs().clamp(min=HALF_MIN)
    size = size.log2().round().clamp(-24, 15).exp2()
    return torch.where(step < 0, -size, size)
