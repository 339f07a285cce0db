"""Folds with stationary inputs: tiles of ifmap stay in the PEs while filters stream.

The transposed product: a chunk of at most `cols` ofmap pixels takes the columns, one pixel each,
a fold of at most `rows` places of the reduction takes the rows, and the filters of a group stream,
one a row, in blocks that the accumulators hold. A weight tile is the fold's part of at most `cols`
filters. Groups run one after the other.
"""

from __future__ import annotations

import numpy as np

from hwsim.graph import Gemm
from hwsim.systolic.folds import Blocks, ColumnOrder, Steps, cut_columns, split


def cut_input_stationary(
    gemm: Gemm,
    widths: np.ndarray,
    pixels: int,
    rows: int,
    cols: int,
    block_rows: int,
    fifo_tiles: int,
    order: ColumnOrder,
) -> tuple[Blocks, Steps, np.ndarray, list[np.ndarray]]:
    """Blocks, steps, the index of each step's tile, and the channels of each tile.

    For each group, for each chunk of pixels, for each block of at most `block_rows` filters, for
    each fold, for each tile. A group whose tiles fit the FIFO together fetches them once and keeps
    them for all its chunks. A plane of ifmap with a single fold stays for all blocks.
    """
    blocks = cut_columns(gemm, widths, gemm.reduction, block_rows, order, pack_groups=False)
    flat = widths.ravel()
    chunks, folds = split(pixels, cols), split(gemm.reduction, rows)
    of_group: dict[int, list[int]] = {}
    for b, channels in enumerate(blocks.channels):
        of_group.setdefault(int(channels[0]) // gemm.columns, []).append(b)
    tiles: list[np.ndarray] = []
    parts: list[np.ndarray] = []  # (7, steps) of each group
    for members in of_group.values():
        first_tile = len(tiles)
        one_chunk = []  # of each step: block, fold, tile, whether it loads a plane
        for turn, b in enumerate(members):
            channels = blocks.channels[b]
            cut = [channels[i : i + cols] for i in range(0, len(channels), cols)]
            one_chunk += [
                (b, fold, len(tiles) + i, i == 0 and (turn == 0 or len(folds) > 1))
                for fold in range(len(folds))
                for i in range(len(cut))
            ]
            tiles += cut
        again = len(folds) * (len(tiles) - first_tile) > fifo_tiles
        number = np.repeat(np.arange(len(chunks)), len(one_chunk))
        fetched, last = again | (number == 0), again | (number == len(chunks) - 1)
        each = np.tile(np.array(one_chunk).T, len(chunks))
        parts.append(np.vstack([each, number, fetched, last]))
    joined = np.hstack(parts) if parts else np.zeros((7, 0), dtype=np.int64)
    block, fold, tile, loads, chunk, new_tile, releases = joined
    counts = np.array([len(t) for t in tiles], dtype=np.int64)
    width_sums = np.array([flat[t].sum() for t in tiles], dtype=np.int64)
    depth, in_use, filters = folds[fold], chunks[chunk], counts[tile]
    # a step ends its (chunk, block, fold) where the next one begins another
    same = (block[1:] == block[:-1]) & (fold[1:] == fold[:-1]) & (chunk[1:] == chunk[:-1])
    closes = np.append(~same, True)[: len(block)]
    first_of_group = np.zeros(len(blocks.cols), dtype=bool)
    first_of_group[[members[0] for members in of_group.values()]] = True
    begins = np.append(True, ~same)[: len(block)]
    return (
        blocks,
        Steps(
            block=block,
            chunk=chunk,
            fold=fold,
            rows=depth,
            cols=in_use,
            streamed=filters,
            new_tile=new_tile.astype(bool),
            releases=releases.astype(bool),
            new_plane=loads.astype(bool),
            opens=begins & (fold == 0) & first_of_group[block],
            closes=closes,
            writes=closes & (fold == len(folds) - 1),
            filters=filters,
            weight_bits=depth * width_sums[tile],
            ifmap_values=np.where(loads, depth * in_use, 0),
            filter_values=depth * filters,
            ofmap_values=filters * in_use,
        ),
        tile,
        tiles,
    )
