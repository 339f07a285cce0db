"""The reference's steps of a layer for each dataflow, by plain loops over blocks, chunks, folds."""

from __future__ import annotations

from itertools import chain

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.systolic.reference_steps import (
    FoldStep,
    GemmTask,
    blocks_of,
    entering,
    slice_counts,
    slice_of,
    tile_of,
)


def plan_steps(
    index: int, task: GemmTask, array: SystolicArray, width: OperandWidth
) -> list[FoldStep]:
    """The layer's steps in program order."""
    plan = {
        "weight_stationary": _weight_stationary,
        "output_stationary": _output_stationary,
        "input_stationary": _input_stationary,
    }[array.dataflow]
    steps = plan(index, task, array, width)
    for number, step in enumerate(steps):
        step.number = number
    if steps and steps[0].tile is not None and array.weight_fetch == "packed":
        dropped = task.metadata_bits * int((task.widths == 0).sum())
        steps[0].tile.bits = np.append(steps[0].tile.bits, np.zeros(dropped, dtype=np.uint8))
    return steps


def _pieces(total: int, size: int) -> list[range]:
    return [range(i, min(i + size, total)) for i in range(0, total, size)]


def _weight_stationary(
    index: int, task: GemmTask, array: SystolicArray, width: OperandWidth
) -> list[FoldStep]:
    _, pixels, reduction = task.ifmap.shape
    pipelined = array.schedule == "pipelined"
    chunks = _pieces(pixels, array.accumulator_rows if pipelined else pixels)
    steps: list[FoldStep] = []
    for b, block in enumerate(blocks_of(task, array.rows, array.cols, pack=pipelined)):
        side = sorted({g for g, _ in block})
        widest = max(int(task.widths[pair]) for pair in block)
        w_slices, a_slices = slice_counts(widest, task.activation_bits, width)
        for c, chunk in enumerate(chunks):
            cycles = entering([widest] * len(chunk), task, width)
            for fold in _pieces(reduction, array.rows):
                firsts = [side.index(g) * len(fold) for g, _ in block]
                tile = tile_of(task, block, firsts, fold[0], array, width, array.rows)
                stays = c > 0 and reduction <= array.rows
                rows = np.zeros((len(chunk), array.rows), dtype=np.int64)
                for i, g in enumerate(side):
                    part = task.ifmap[g, chunk.start : chunk.stop, fold.start : fold.stop]
                    rows[:, i * len(fold) : (i + 1) * len(fold)] = part
                turn = b * len(chunks) + c
                first, last = fold[0] == 0, fold.stop == reduction
                steps.append(
                    FoldStep(
                        task=index,
                        number=0,
                        rows=len(fold) * len(side),
                        feed=[
                            [slice_of(rows[r], j, a_slices, width.activation_bits)
                             for r, _, j in cycle]
                            for cycle in cycles
                        ],
                        slices=[cycle[0][1:] if cycle else (0, 0) for cycle in cycles],
                        stationary=[(cycle[0][1] if cycle else 0, w_slices) for cycle in cycles],
                        places=[
                            [[(g, chunk[r], n) for g, n in block] for r, _, _ in cycle]
                            for cycle in cycles
                        ],
                        tile=None if stays else tile,
                        plane=None if stays else tile.plane(array.rows, array.cols),
                        opens=first,
                        read_bits=task.read_bits[turn] if task.read_bits and first else 0,
                        write_bits=task.write_bits[turn] if task.write_bits and last else 0,
                        psums_left=sum(map(len, cycles)) * len(block),
                    )
                )  # fmt: skip
    return steps


def _output_stationary(
    index: int, task: GemmTask, array: SystolicArray, width: OperandWidth
) -> list[FoldStep]:
    _, pixels, reduction = task.ifmap.shape
    chunks, folds = _pieces(pixels, array.rows), _pieces(reduction, array.rows)
    kept = len(folds) <= array.weight_fifo_tiles
    steps: list[FoldStep] = []
    for b, block in enumerate(blocks_of(task, array.rows, array.cols, pack=False)):
        g = block[0][0]
        widest = max(int(task.widths[pair]) for pair in block)
        w_slices, a_slices = slice_counts(widest, task.activation_bits, width)
        for c, chunk in enumerate(chunks):
            for fold in folds:
                tile = tile_of(task, block, [0] * len(block), fold[0], array, width, array.rows)
                weights = tile.plane(array.rows, array.cols)
                cycles = entering([widest] * len(fold), task, width)
                columns = np.zeros((array.rows, len(fold)), dtype=np.int64)
                columns[: len(chunk)] = task.ifmap[
                    g, chunk.start : chunk.stop, fold.start : fold.stop
                ]
                turn = b * len(chunks) + c
                first, last = fold[0] == 0, fold.stop == reduction
                steps.append(
                    FoldStep(
                        task=index,
                        number=0,
                        rows=len(chunk),
                        feed=[
                            [slice_of(columns[:, k], j, a_slices, width.activation_bits)
                             for k, _, j in cycle]
                            for cycle in cycles
                        ],
                        top=[
                            [slice_of(weights[k], i, w_slices, width.weight_bits)
                             for k, i, _ in cycle]
                            for cycle in cycles
                        ],
                        slices=[cycle[0][1:] if cycle else (0, 0) for cycle in cycles],
                        stationary=[(0, 1)] * len(cycles),
                        places=[[] for _ in cycles],
                        tile=tile if c == 0 or not kept else None,
                        drains=[[(g, p, n) for _, n in block] for p in chunk] if last else [],
                        opens=first,
                        closes=last,
                        releases=c == len(chunks) - 1 or not kept,
                        read_bits=task.read_bits[turn] if task.read_bits and first else 0,
                        write_bits=task.write_bits[turn] if task.write_bits and last else 0,
                        psums_left=len(chunk) * len(block) if last else 0,
                    )
                )  # fmt: skip
    return steps


def _input_stationary(
    index: int, task: GemmTask, array: SystolicArray, width: OperandWidth
) -> list[FoldStep]:
    _, pixels, reduction = task.ifmap.shape
    pipelined = array.schedule == "pipelined"
    size = array.accumulator_rows if pipelined else task.weight.shape[2]
    blocks = blocks_of(task, reduction, size, pack=False)
    in_order = dict.fromkeys(chain.from_iterable([g for g, _ in block] for block in blocks))
    chunks, folds = _pieces(pixels, array.cols), _pieces(reduction, array.rows)
    steps: list[FoldStep] = []
    for g in in_order:
        mine = [b for b, block in enumerate(blocks) if block[0][0] == g]
        tiles = sum(len(_pieces(len(blocks[b]), array.cols)) for b in mine) * len(folds)
        kept = tiles <= array.weight_fifo_tiles
        for c, chunk in enumerate(chunks):
            for b in mine:
                for fold in folds:
                    plane = np.zeros((array.rows, array.cols), dtype=np.int64)
                    part = task.ifmap[g, chunk.start : chunk.stop, fold.start : fold.stop]
                    plane[: len(fold), : len(chunk)] = part.T
                    for piece in _pieces(len(blocks[b]), array.cols):
                        filters = blocks[b][piece.start : piece.stop]
                        tile = tile_of(
                            task, filters, [0] * len(filters), fold[0], array, width, len(filters)
                        )
                        weights = tile.plane(array.rows, array.cols)
                        widths = [int(task.widths[pair]) for pair in filters]
                        cycles = entering(widths, task, width)
                        counts = [slice_counts(w, task.activation_bits, width) for w in widths]
                        loads = piece[0] == 0 and (b == mine[0] or len(folds) > 1)
                        opens = piece[0] == 0 and b == mine[0] and fold[0] == 0
                        closes = piece.stop == len(blocks[b])
                        writes = closes and fold.stop == reduction
                        turn = b * len(chunks) + c
                        steps.append(
                            FoldStep(
                                task=index,
                                number=0,
                                rows=len(fold),
                                feed=[
                                    [slice_of(weights[:, f], i, counts[f][0], width.weight_bits)
                                     for f, i, _ in cycle]
                                    for cycle in cycles
                                ],
                                slices=[cycle[0][1:] if cycle else (0, 0) for cycle in cycles],
                                stationary=[(cycle[0][2] if cycle else 0, counts[0][1])
                                            for cycle in cycles],
                                places=[
                                    [[(g, p, filters[f][1]) for p in chunk] for f, _, _ in cycle]
                                    for cycle in cycles
                                ],
                                tile=tile if c == 0 or not kept else None,
                                plane=plane if loads else None,
                                opens=opens,
                                closes=closes,
                                releases=c == len(chunks) - 1 or not kept,
                                read_bits=task.read_bits[turn] if task.read_bits and opens else 0,
                                write_bits=task.write_bits[turn]
                                if task.write_bits and writes else 0,
                                psums_left=sum(map(len, cycles)) * len(chunk),
                            )
                        )  # fmt: skip
    return steps
