"""What a chunk of a layer reads from and writes to DRAM when its tensors are not on chip."""

from __future__ import annotations

from functools import lru_cache

from hwsim.graph import Conv, Layer, Linear, Matmul
from hwsim.systolic.folds import Blocks, split


@lru_cache(maxsize=4096)
def touched(
    first: int, last: int, size: int, kernel: int, stride: int, pad: int, dilation: int
) -> frozenset[int]:
    """Ifmap positions along one axis that ofmap positions first..last (inclusive) read.

    Padding is not among them: zeros are not fetched. Empty when last is before first.
    """
    return frozenset(
        position
        for tap in range(-pad, kernel * dilation - pad, dilation)
        for position in range(first * stride + tap, last * stride + tap + 1, stride)
        if 0 <= position < size
    )


def _conv_values(conv: Conv, first_pixel: int, last_pixel: int) -> int:
    """Ifmap values of one channel behind ofmap pixels first..last, counted over the batch's images
    in order; of rows that are begun or ended in the middle only what the pixels touch."""
    per_image = conv.ofmap_size[0] * conv.ofmap_size[1]
    values = 0
    for image in range(first_pixel // per_image, last_pixel // per_image + 1):
        first = max(first_pixel - image * per_image, 0)
        last = min(last_pixel - image * per_image, per_image - 1)
        values += _image_values(conv, first, last)
    return values


@lru_cache(maxsize=4096)
def _image_values(conv: Conv, first_pixel: int, last_pixel: int) -> int:
    """The same inside one image: full ofmap rows, and up to two that are not."""
    columns = conv.ofmap_size[1]
    (top, left), (bottom, right) = divmod(first_pixel, columns), divmod(last_pixel, columns)
    if top == bottom:
        parts = [(top, top, left, right)]
    else:
        parts = [(top, top, left, columns - 1), (bottom, bottom, 0, right)]
        parts.append((top + 1, bottom - 1, 0, columns - 1))
    found = [
        (_axis(conv, 0, first, last), _axis(conv, 1, west, east))
        for first, last, west, east in parts
    ]
    values = 0
    for rows, across in found:
        values += len(rows) * len(across)
    # what several parts touch is counted once
    for i, (rows, across) in enumerate(found):
        for other_rows, other_across in found[:i]:
            values -= len(rows & other_rows) * len(across & other_across)
    if len(found) == 3:
        rows = found[0][0] & found[1][0] & found[2][0]
        values += len(rows) * len(found[0][1] & found[1][1] & found[2][1])
    return values


def _axis(conv: Conv, axis: int, first: int, last: int) -> frozenset[int]:
    return touched(
        first,
        last,
        conv.ifmap_size[axis],
        conv.kernel[axis],
        conv.stride[axis],
        conv.padding[axis],
        conv.dilation[axis],
    )


def chunk_read_values(layer: Layer, blocks: Blocks, pixels: int, chunk_rows: int) -> list[int]:
    """Ifmap values that each (block, chunk) needs, in program order; halos are read again.

    A convolution's chunk needs the ifmap values behind its pixels in the channels of the block's
    groups; a product's chunk its rows in full. Each value of a chunk is fetched once and the array
    reads it at least once, so no more is fetched than is read.
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
