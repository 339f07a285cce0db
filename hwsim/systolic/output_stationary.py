"""Folds with stationary outputs: psums of rows x cols ofmap values stay while operands stream.

A block of at most `cols` filters meets the ofmap pixels in chunks of at most `rows`, one pixel a
row. The reduction streams in pieces as deep as a weight tile. Groups run one after the other:
side by side they would share the rows' pixels, not the rows' values.
"""

from __future__ import annotations

import numpy as np

from hwsim.graph import Gemm
from hwsim.systolic.folds import Blocks, Steps, split


def cut_output_stationary(
    gemm: Gemm, blocks: Blocks, pixels: int, rows: int, fifo_tiles: int
) -> Steps:
    """Steps of a layer: for each block, for each chunk of pixels, for each piece of the reduction.

    blocks: not packed. A block whose tiles fit the FIFO together fetches them once and keeps them
    for all its chunks; others are fetched again for each.
    """
    chunks, pieces = split(pixels, rows), split(gemm.reduction, rows)
    shape = (len(blocks.cols), len(chunks), len(pieces))
    block, chunk, fold = (index.ravel() for index in np.indices(shape))
    depth, cols, in_use = pieces[fold], blocks.cols[block], chunks[chunk]
    again = len(pieces) > fifo_tiles
    last = fold == len(pieces) - 1
    return Steps(
        block=block,
        chunk=chunk,
        fold=fold,
        rows=in_use,
        cols=cols,
        streamed=depth,
        new_tile=(chunk == 0) | again,
        releases=(chunk == len(chunks) - 1) | again,
        new_plane=np.zeros(len(block), dtype=bool),
        opens=fold == 0,
        closes=last,
        writes=last,
        filters=cols,
        weight_bits=depth * blocks.width_sum[block],
        ifmap_values=depth * in_use,
        filter_values=depth * cols,
        ofmap_values=np.where(last, in_use * cols, 0),
    )
