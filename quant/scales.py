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
