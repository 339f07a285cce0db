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
    first_of_groups: whether no block before has columns of the same groups.
    """

    groups: np.ndarray
    cols: np.ndarray
    width_sum: np.ndarray
    width_max: np.ndarray
    channels: tuple[np.ndarray, ...]
    first_of_groups: np.ndarray


@dataclass(frozen=True)
class Steps:
    """One layer on the array, in execution order; arrays have one entry a step.

    A step streams `streamed` rows through one fold: ofmap pixels with stationary weights, filters
    with stationary inputs, places of the reduction with stationary outputs. block, chunk, fold:
    its columns, ofmap pixels and part of the reduction. rows, cols: array in use. new_tile: other
    weights than those at hand; releases: last use of its tile (not with stationary weights, whose
    tiles leave the FIFO for the array). new_plane: other stationary values than the step before.
    opens: first of a chunk of ifmap; closes: last of a fold; writes: finishes the ofmap of its
    block and chunk. filters: in the tile. weight_bits: of the tile, each filter at its own width,
    without metadata. ifmap_values, filter_values, ofmap_values: words read from and written to the
    memories beside the array, each word once a fold (SCALE-Sim's SRAM accesses).
    """

    block: np.ndarray
    chunk: np.ndarray
    fold: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    streamed: np.ndarray
    new_tile: np.ndarray
    releases: np.ndarray
    new_plane: np.ndarray
    opens: np.ndarray
    closes: np.ndarray
    writes: np.ndarray
    filters: np.ndarray
    weight_bits: np.ndarray
    ifmap_values: np.ndarray
    filter_values: np.ndarray
    ofmap_values: np.ndarray

    def __len__(self) -> int:
        return len(self.block)


def cut_columns(
    gemm: Gemm,
    widths: np.ndarray,
    rows: int,
    cols: int,
    order: ColumnOrder = "as_given",
    pack_groups: bool = True,
) -> Blocks:
    """Blocks of a layer. widths: (groups, columns) bit widths, 0 for a dropped channel.

    pack_groups: groups are packed in order, first come first placed, when one group's reduction
    fits the rows and its columns fit the columns; otherwise each group is cut alone.

    order: `widest_first` takes a group's columns, and groups that share blocks, by falling width
    (equal ones as given), so that the sum of the blocks' widest columns is least: the k-th block's
    widest is never wider than in any other cut. `narrowest_first` runs the same blocks backwards,
    so that the first fetch, which nothing hides, is short. Results go back to their own channels
    by their addresses.
    """
    flat = widths.ravel()
    pack = pack_groups and gemm.reduction <= rows and gemm.columns <= cols
    channels = np.flatnonzero(flat)
    group = channels // gemm.columns
    if order != "as_given":
        if pack:  # rank of each group, by its widest column
            group = np.argsort(np.argsort(-widths.max(axis=1), kind="stable"))[group]
        falling = np.lexsort((-flat[channels], group))
        channels, group = channels[falling], group[falling]
    cuts: list[int] = []  # columns of each block
    groups: list[int] = []
    side_by_side = rows // gemm.reduction
    for count in np.bincount(group).tolist():
        if not count:
            continue
        if pack:
            if groups and groups[-1] < side_by_side and cuts[-1] + count <= cols:
                cuts[-1] += count
                groups[-1] += 1
                continue
            pieces = [count]
        else:
            pieces = [cols] * (count // cols) + [count % cols] * (count % cols > 0)
        cuts += pieces
        groups += [1] * len(pieces)
    firsts = np.cumsum([0, *cuts[:-1]]) if cuts else np.zeros(0, dtype=np.int64)
    members = [channels[f : f + n] for f, n in zip(firsts.tolist(), cuts, strict=True)]
    used = flat[channels]
    sums, widest = (
        (np.add.reduceat(used, firsts), np.maximum.reduceat(used, firsts)) if cuts else (used, used)
    )
    step = -1 if order == "narrowest_first" else 1
    whose = group[firsts][::step]  # the group that begins each block
    return Blocks(
        groups=np.array(groups, dtype=np.int64)[::step],
        cols=np.array(cuts, dtype=np.int64)[::step],
        width_sum=sums[::step],
        width_max=widest[::step],
        channels=tuple(members[::step]),
        first_of_groups=np.append(True, whose[1:] != whose[:-1])[: len(cuts)],
    )


def split(total: int, size: int) -> np.ndarray:
    """Sizes of the pieces when `total` is cut into pieces of `size`; the last may be smaller."""
    pieces = np.full(-(-total // size), size, dtype=np.int64)
    pieces[-1] = total - size * (len(pieces) - 1)
    return pieces


def cut_steps(gemm: Gemm, blocks: Blocks, pixels: int, rows: int, chunk_rows: int) -> Steps:
    """Steps with stationary weights: for each block, for each chunk of pixels, for each fold of
    the reduction.

    pixels: ofmap pixels of the whole batch. With a single fold the weights stay for all chunks.
    """
    chunks, folds = split(pixels, chunk_rows), split(gemm.reduction, rows)
    shape = (len(blocks.cols), len(chunks), len(folds))
    block, chunk, fold = (index.ravel() for index in np.indices(shape))
    depth, cols, streamed = folds[fold], blocks.cols[block], chunks[chunk]
    new_tile = (chunk == 0) | (len(folds) > 1)
    return Steps(
        block=block,
        chunk=chunk,
        fold=fold,
        rows=depth * blocks.groups[block],
        cols=cols,
        streamed=streamed,
        new_tile=new_tile,
        releases=np.zeros(len(block), dtype=bool),
        new_plane=new_tile,
        opens=fold == 0,
        closes=np.ones(len(block), dtype=bool),
        writes=fold == len(folds) - 1,
        filters=cols,
        weight_bits=depth * blocks.width_sum[block],
        ifmap_values=streamed * depth * blocks.groups[block],
        filter_values=np.where(new_tile, depth * cols, 0),
        ofmap_values=streamed * cols,
    )
