"""What a weighted layer's product reads: input patches, and their means and squares.

A patch is the vector that one filter is multiplied with: K = channels of one group x kernel
positions, in the order of a filter's weights. All layouts give (groups, K).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hwsim.graph import Conv, Layer


def patch_shape(layer: Layer) -> tuple[int, int]:
    """(groups, K) of a weighted layer."""
    gemm = layer.gemm
    assert gemm is not None
    return gemm.groups, gemm.reduction


def patches(layer: Layer, x: Tensor) -> Tensor:
    """All patches of x: (groups, K, images * positions)."""
    groups, size = patch_shape(layer)
    if not isinstance(layer.work, Conv):
        return x.reshape(-1, size).t().unsqueeze(0)
    work = layer.work
    if work.kernel == (1, 1) and work.padding == (0, 0):
        columns = x[:, :, :: work.stride[0], :: work.stride[1]].flatten(2)
    else:
        columns = functional.unfold(x, work.kernel, work.dilation, work.padding, work.stride)
    return columns.unflatten(1, (groups, size)).permute(1, 2, 0, 3).flatten(2)


def patch_sums(layer: Layer, x: Tensor) -> tuple[Tensor, int]:
    """Sum of all patches of x (groups, K) in float64, and how many there are.

    The same as patches(layer, x).sum(2), without building them: kernel position by kernel
    position, the pixels that it meets are added up.
    """
    groups, size = patch_shape(layer)
    if not isinstance(layer.work, Conv):
        rows = x.reshape(-1, size)
        return rows.sum(0, dtype=torch.float64).unsqueeze(0), len(rows)
    work = layer.work
    (pad_y, pad_x), (step_y, step_x) = work.padding, work.stride
    padded = functional.pad(x, (pad_x, pad_x, pad_y, pad_y))
    sums = []
    for row in range(work.kernel[0]):
        for column in range(work.kernel[1]):
            y, z = row * work.dilation[0], column * work.dilation[1]
            met = padded[
                :,
                :,
                y : y + step_y * (work.ofmap_size[0] - 1) + 1 : step_y,
                z : z + step_x * (work.ofmap_size[1] - 1) + 1 : step_x,
            ]
            # Rows of pixels in the tensor's own type, the rest in float64.
            sums.append(met.sum(3).sum((0, 2), dtype=torch.float64))
    total = torch.stack(sums, 1)  # (channels, kernel positions)
    return total.reshape(groups, size), len(x) * work.ofmap_size[0] * work.ofmap_size[1]


def per_channel(layer: Layer, by_group: Tensor) -> Tensor:
    """(groups, K) -> (out, K): every filter beside the values of its own group."""
    return by_group.repeat_interleave(layer.out_channels // len(by_group), 0)
