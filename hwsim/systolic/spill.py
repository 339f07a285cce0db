"""What a chunk of a layer reads from and writes to DRAM when its tensors are not on chip."""

from __future__ import annotations

import numpy as np

from hwsim.graph import Conv, Layer, Linear, Matmul
from hwsim.systolic.folds import Blocks, split


def touched(
    first: int, last: int, size: int, kernel: int, stride: int, pad: int, dilation: int
) -> int:
    """Distinct ifmap positions along one axis that ofmap positions first..last (inclusive) read.

    Padding is not counted: zeros are not fetched.
    """
    starts = np.arange(first, last + 1)[:, None] * stride - pad
    positions = np.unique(starts + np.arange(kernel) * dilation)
    return int(((positions >= 0) & (positions < size)).sum())


def _conv_values(conv: Conv, first_pixel: int, last_pixel: int) -> int:
    """Ifmap values of one channel behind ofmap pixels first..last, counted over the batch's images
    in order. Whole rows are fetched: every column that the row's ofmap pixels touch."""
    rows, columns = conv.ofmap_size
    per_image = rows * columns
    (kernel_h, kernel_w), (stride_h, stride_w) = conv.kernel, conv.stride
    width = touched(
        0, columns - 1, conv.ifmap_size[1], kernel_w, stride_w, conv.padding[1], conv.dilation[1]
    )
    values = 0
    for image in range(first_pixel // per_image, last_pixel // per_image + 1):
        first = max(first_pixel - image * per_image, 0) // columns
        last = min(last_pixel - image * per_image, per_image - 1) // columns
        values += width * touched(
            first, last, conv.ifmap_size[0], kernel_h, stride_h, conv.padding[0], conv.dilation[0]
        )
    return values


def chunk_read_values(layer: Layer, blocks: Blocks, pixels: int, chunk_rows: int) -> list[int]:
    """Ifmap values that each (block, chunk) needs, in program order; halos are read again.

    A convolution's chunk needs the ifmap rows behind its pixels in the channels of the block's
    groups; a product's chunk its rows in full.
    """
    work, gemm = layer.work, layer.gemm
    assert isinstance(work, Conv | Linear | Matmul)
    assert gemm is not None
    sizes = split(pixels, chunk_rows).tolist()
    firsts = [chunk_rows * i for i in range(len(sizes))]
    if isinstance(work, Conv):
        channels = work.in_channels // work.groups
        per_group = [
            channels * _conv_values(work, f, f + s - 1) for f, s in zip(firsts, sizes, strict=True)
        ]
    else:
        per_group = [size * gemm.reduction for size in sizes]
    return [int(groups) * values for groups in blocks.groups for values in per_group]


def chunk_write_values(blocks: Blocks, channels: int, pixels: int, chunk_rows: int) -> list[int]:
    """Ofmap values that each (block, chunk) writes, in program order.

    channels: of the layer; those that no block computes, being dropped, hold their bias and are
    written beside the first block's.
    """
    columns = blocks.cols.tolist()
    columns[0] += channels - sum(columns)
    sizes = split(pixels, chunk_rows).tolist()
    return [cols * size for cols in columns for size in sizes]
