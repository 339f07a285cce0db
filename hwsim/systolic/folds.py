"""Folds: how a layer's matrix product is cut to fit the array and its accumulators.

A block is a set of columns that run side by side: up to `cols` filters of one group, or several
whole groups laid out block-diagonally where rows and columns have room for them. Each block goes
through the pixels in chunks that the accumulators hold, and through the reduction in folds of at
most `rows`. Channels of zero width take no column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hwsim.graph import Gemm

ColumnOrder = Literal["as_given", "widest_first", "narrowest_first"]


@dataclass(frozen=True)
class Blocks:
    """Columns that share a fold; all arrays have one entry a block.

    groups: groups side by side (more than 1 only when each fits whole). cols: columns in use.
    width_sum, width_max: of the columns' bit widths. channels: output channels of each block.
    """

    groups: np.ndarray
    cols: np.ndarray
    width_sum: np.ndarray
    width_max: np.ndarray
    channels: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Steps:
    """One layer on the array, in execution order; arrays have one entry a step.

    A step streams `pixels` rows through one fold. block, chunk, fold: its indices. rows, cols:
    array in use. new_tile: other weights than the step before. weight_bits: bits of the fold's
    weights, each column at its own width, without metadata.
    """

    block: np.ndarray
    chunk: np.ndarray
    fold: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    pixels: np.ndarray
    new_tile: np.ndarray
    weight_bits: np.ndarray

    def __len__(self) -> int:
        return len(self.block)


def cut_columns(
    gemm: Gemm, widths: np.ndarray, rows: int, cols: int, order: ColumnOrder = "as_given"
) -> Blocks:
    """Blocks of a layer. widths: (groups, columns) bit widths, 0 for a dropped channel.

    Groups are packed in order, first come first placed, when one group's reduction fits the rows
    and its columns fit the columns; otherwise each group is cut alone.

    order: `widest_first` takes a group's columns, and groups that share blocks, by falling width
    (equal ones as given), so that the sum of the blocks' widest columns is least: the k-th block's
    widest is never wider than in any other cut. `narrowest_first` runs the same blocks backwards,
    so that the first fetch, which nothing hides, is short. Results go back to their own channels
    by their addresses.
    """
    active = [np.flatnonzero(row) + g * gemm.columns for g, row in enumerate(widths)]
    flat = widths.ravel()
    if order != "as_given":
        active = [channels[np.argsort(-flat[channels], kind="stable")] for channels in active]
        if gemm.reduction <= rows and gemm.columns <= cols:
            active.sort(key=lambda channels: -int(flat[channels].max(initial=0)))
    members: list[np.ndarray] = []
    groups: list[int] = []
    if gemm.reduction <= rows and gemm.columns <= cols:
        side_by_side = rows // gemm.reduction
        for channels in active:
            if not len(channels):
                continue
            if groups and groups[-1] < side_by_side and len(members[-1]) + len(channels) <= cols:
                members[-1] = np.concatenate([members[-1], channels])
                groups[-1] += 1
            else:
                members.append(channels)
                groups.append(1)
    else:
        for channels in active:
            for first in range(0, len(channels), cols):
                members.append(channels[first : first + cols])
                groups.append(1)
    if order == "narrowest_first":
        members, groups = members[::-1], groups[::-1]
    return Blocks(
        groups=np.array(groups, dtype=np.int64),
        cols=np.array([len(m) for m in members], dtype=np.int64),
        width_sum=np.array([flat[m].sum() for m in members], dtype=np.int64),
        width_max=np.array([flat[m].max() for m in members], dtype=np.int64),
        channels=tuple(members),
    )


def split(total: int, size: int) -> np.ndarray:
    """Sizes of the pieces when `total` is cut into pieces of `size`; the last may be smaller."""
    pieces = np.full(-(-total // size), size, dtype=np.int64)
    pieces[-1] = total - size * (len(pieces) - 1)
    return pieces


def cut_steps(gemm: Gemm, blocks: Blocks, pixels: int, rows: int, chunk_rows: int) -> Steps:
    """Steps of a layer: for each block, for each chunk of pixels, for each fold of the reduction.

    pixels: ofmap pixels of the whole batch. With a single fold the weights stay for all chunks.
    """
    chunks, folds = split(pixels, chunk_rows), split(gemm.reduction, rows)
    shape = (len(blocks.cols), len(chunks), len(folds))
    block, chunk, fold = (index.ravel() for index in np.indices(shape))
    fold_rows = folds[fold] * blocks.groups[block]
    return Steps(
        block=block,
        chunk=chunk,
        fold=fold,
        rows=fold_rows,
        cols=blocks.cols[block],
        pixels=chunks[chunk],
        new_tile=(chunk == 0) | (len(folds) > 1),
        weight_bits=folds[fold] * blocks.width_sum[block],
    )
