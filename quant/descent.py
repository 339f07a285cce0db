"""Coordinate descent on codes: each weight to its best level, while all others stay.

Error feedback decides each weight once, when those after it are still free to make up for its
error. Seen from the end, some could have been chosen better. A pass over the columns gives every
weight the level of least (w - q)' H (w - q) beside what the others have become; the error never
rises (Gauss-Seidel on the integers; COMQ: Zhang et al., IEEE Access 13, 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.rounding import level_range

_BLOCK = 128  # columns that are finished before the rest hears of their changes


def descend(
    weight: Tensor, levels: Tensor, step: Tensor, bits: Tensor, covariance: Tensor, passes: int
) -> Tensor:
    """(groups, out, K) levels after `passes` over all columns.

    weight, levels: (groups, out, K). step, bits: (groups, out). covariance: (groups, K, K), all
    variances above 0. Channels of 0 and 1 bits stay as they are.
    """
    low, high = level_range(bits, weight.dtype)
    moves = bits > 1
    low, high = (torch.where(moves, end, 0.0) for end in (low, high))
    step = torch.where(moves, step, 1.0)
    variances = covariance.diagonal(dim1=1, dim2=2)
    levels, size = levels.clone(), weight.shape[2]
    pull = torch.bmm(weight - levels * step.unsqueeze(2), covariance)
    for _ in range(passes):
        for start in range(0, size, _BLOCK):
            stop = min(start + _BLOCK, size)
            own, inner = pull[:, :, start:stop].clone(), covariance[:, start:stop, start:stop]
            moved = torch.zeros_like(own)
            for i in range(stop - start):
                old = levels[:, :, start + i]
                wanted = own[:, :, i] / (variances[:, start + i].unsqueeze(1) * step)
                new = torch.clamp((old + wanted).round(), low, high)
                new = torch.where(moves, new, old)
                moved[:, :, i] = (new - old) * step
                levels[:, :, start + i] = new
                own.baddbmm_(moved[:, :, i : i + 1], inner[:, i : i + 1], alpha=-1)
            pull.baddbmm_(moved, covariance[:, start:stop], alpha=-1)
    return levels
