"""The reference's view of a layer: operand values cut into folds by plain loops.

Shares nothing with `folds.py`, which does the same by index arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.systolic.folds import ColumnOrder


@dataclass(frozen=True)
class GemmTask:
    """One layer with its values.

    ifmap: (groups, pixels, reduction), weight: (groups, reduction, columns) integers; widths:
    (groups, columns) bits of each column, two's complement, 0 drops it; activation_bits: of the
    ifmap. after: tasks that produce it. metadata_bits: fetched with each column's first fold.
    from_chip: weights come from an on-chip buffer. read_bits, write_bits: what crosses the
    activation channel at each (block, chunk), in program order; None when all stays on chip.
    order: in which columns are placed, see `folds.cut_columns`.
    """

    ifmap: np.ndarray
    weight: np.ndarray
    widths: np.ndarray
    activation_bits: int
    after: tuple[int, ...] = ()
    metadata_bits: int = 0
    from_chip: bool = False
    read_bits: Sequence[int] | None = None
    write_bits: Sequence[int] | None = None
    order: ColumnOrder = "as_given"
    pixels_per_image: int = 0  # 1: fully connected, for rules that care


@dataclass(frozen=True)
class VectorWork:
    """Work of the vector unit: a number of operations, `lanes` a cycle."""

    operations: int
    lanes: int
    after: tuple[int, ...] = ()
    read_bits: int = 0
    write_bits: int = 0


@dataclass
class Tile:
    """Weights of one fold: bits on their way from DRAM, then values in the FIFO."""

    bits: np.ndarray
    cells: list[tuple[int, int, int]]  # of each column: first row, rows, width

    def plane(self, rows: int, cols: int) -> np.ndarray:
        plane, at = np.zeros((rows, cols), dtype=np.int64), 0
        for col, (first, depth, width) in enumerate(self.cells):
            for row in range(first, first + depth):
                code = int("".join(map(str, self.bits[at : at + width])), 2)
                plane[row, col] = code - (1 << width) if code >> (width - 1) else code
                at += width
        return plane


@dataclass
class FoldStep:
    """One fold and chunk, with what enters the array in each of its cycles."""

    task: int
    number: int  # within the task
    tile: Tile | None  # None: the tile of the step before stays live
    place: list[tuple[int, int]]  # (group, column) of each array column in use
    rows: int
    base: int  # first pixel of the chunk
    feed: list[list[np.ndarray]]  # of each cycle, a (rows,) vector for each pixel that enters
    slices: list[tuple[int, int]]  # slice of weight and of ifmap that this cycle multiplies
    pixels: list[list[int]]  # that enter in each cycle
    weight_slices: int
    read_bits: int
    write_bits: int
    psums_left: int
    begin: int | None = None
    drained: int | None = None

    def streamed(self, cycle: int) -> bool:
        return self.begin is not None and self.begin + len(self.feed) <= cycle


def _encode(values: np.ndarray, width: int) -> np.ndarray:
    """Two's complement bits, most significant first. Values must fit: 2^width codes at most."""
    assert values.min() >= -(1 << width - 1)
    assert values.max() < 1 << width - 1
    return (values[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8).ravel()


def _slice(values: np.ndarray, index: int, count: int, bits: int) -> np.ndarray:
    """Slice `index` of `count`: unsigned `bits` each, but the top one keeps the sign."""
    part = values >> bits * index
    return part if index == count - 1 else part & (1 << bits) - 1


def _blocks(task: GemmTask, array: SystolicArray) -> list[list[tuple[int, int]]]:
    """(group, column) pairs that run side by side, by plain loops."""
    groups, _, reduction = task.ifmap.shape
    columns = task.weight.shape[2]
    blocks: list[list[tuple[int, int]]] = [[]]
    in_order = list(range(groups))
    if task.order != "as_given" and reduction <= array.rows and columns <= array.cols:
        in_order.sort(key=lambda g: -int(task.widths[g].max()))
    for g in in_order:
        mine = [(g, n) for n in range(columns) if task.widths[g, n] > 0]
        if task.order != "as_given":
            mine.sort(key=lambda pair: -int(task.widths[pair]))
        if reduction <= array.rows and columns <= array.cols:  # whole groups side by side
            together = {pair[0] for pair in blocks[-1] + mine}
            too_tall = len(together) * reduction > array.rows
            if too_tall or len(blocks[-1] + mine) > array.cols:
                blocks.append([])
            blocks[-1] += mine
        else:
            blocks += [mine[i : i + array.cols] for i in range(0, len(mine), array.cols)]
    blocks = [block for block in blocks if block]
    return blocks[::-1] if task.order == "narrowest_first" else blocks


def _entering(pixels: range, weight: int, activation: int, width: OperandWidth,
              fully_connected: bool) -> list[list[int]]:  # fmt: skip
    """Pixels that enter in each cycle at the rule's pace: one is through as soon as its share of
    cycles, and those of all before it, have passed."""
    share = {
        "bit_fusion": Fraction(_eights(weight) * _eights(activation)),
        "stripes": Fraction(activation, 16),
        "unpu": Fraction(weight, 16),
        "loom": Fraction(weight * (16 if fully_connected else activation), 256),
    }[width.rule]
    cycles: list[list[int]] = [[] for _ in range(ceil(len(pixels) * share))]
    for i, pixel in enumerate(pixels, start=1):
        cycles[ceil(i * share) - 1].append(pixel)
    return cycles


def _eights(bits: int) -> Fraction:
    """Cycles that one operand of a fusion unit contributes: four of 2 bits make one of 8."""
    for supported, share in ((2, Fraction(1, 4)), (4, Fraction(1, 2)), (8, Fraction(1))):
        if bits <= supported:
            return share
    return Fraction(2)


def plan_steps(
    index: int, task: GemmTask, array: SystolicArray, width: OperandWidth
) -> list[FoldStep]:
    """The layer's steps in program order."""
    _, pixels, reduction = task.ifmap.shape
    a_slices = -(-task.activation_bits // width.activation_bits)
    steps: list[FoldStep] = []
    turn = 0
    for block in _blocks(task, array):
        side = sorted({g for g, _ in block})
        widest = max(int(task.widths[pair]) for pair in block)
        w_slices = -(-widest // width.weight_bits)
        for base in range(0, pixels, array.accumulator_rows):
            chunk = range(base, min(base + array.accumulator_rows, pixels))
            for k in range(0, reduction, array.rows):
                depth = min(array.rows, reduction - k)
                plane = np.zeros((array.rows, array.cols), dtype=np.int64)
                cells = []
                for col, (g, n) in enumerate(block):
                    first = side.index(g) * depth
                    plane[first : first + depth, col] = task.weight[g, k : k + depth, n]
                    cells.append((first, depth, int(task.widths[g, n])))
                if array.weight_fetch == "whole_tiles":
                    cells = [(0, array.rows, width.weight_bits * w_slices)] * array.cols
                stream = [_encode(plane[f : f + d, c], w) for c, (f, d, w) in enumerate(cells)]
                if k == 0 and array.weight_fetch == "packed":
                    stream.append(np.zeros(task.metadata_bits * len(block), dtype=np.uint8))
                stays = base > 0 and reduction <= array.rows
                entering: list[list[int]] = []
                feed: list[list[np.ndarray]] = []
                slices: list[tuple[int, int]] = []
                vectors = {}
                for pixel in chunk:
                    row = np.zeros(array.rows, dtype=np.int64)
                    for i, g in enumerate(side):
                        row[i * depth : (i + 1) * depth] = task.ifmap[g, pixel, k : k + depth]
                    vectors[pixel] = row
                    if width.rule == "fixed":
                        for i in range(w_slices):
                            for j in range(a_slices):
                                feed.append([_slice(row, j, a_slices, width.activation_bits)])
                                slices.append((i, j))
                                entering.append([pixel])
                if width.rule != "fixed":  # whole values, at a rational pace
                    single = task.pixels_per_image == 1
                    entering = _entering(chunk, widest, task.activation_bits, width, single)
                    feed = [[vectors[p] for p in pixels] for pixels in entering]
                    slices = [(0, 0)] * len(feed)
                first_fold, last_fold = k == 0, k + depth == reduction
                reads = task.read_bits[turn] if task.read_bits and first_fold else 0
                writes = task.write_bits[turn] if task.write_bits and last_fold else 0
                steps.append(
                    FoldStep(
                        task=index,
                        number=len(steps),
                        tile=None if stays else Tile(np.concatenate(stream), cells),
                        place=block,
                        rows=depth * len(side),
                        base=base,
                        feed=feed,
                        slices=slices,
                        pixels=entering,
                        weight_slices=w_slices if width.rule == "fixed" else 1,
                        read_bits=reads,
                        write_bits=writes,
                        psums_left=sum(map(len, feed)) * len(block),
                    )
                )
            turn += 1
    return steps
