"""The reference's view of a layer: operand values cut into folds by plain loops.

Shares nothing with `folds.py`, `input_stationary.py` and `output_stationary.py`, which do the same
by index arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.systolic.folds import ColumnOrder

Place = tuple[int, int, int]  # of an ofmap value: group, pixel, column


@dataclass(frozen=True)
class GemmTask:
    """One layer with its values.

    ifmap: (groups, pixels, reduction), weight: (groups, reduction, columns) integers; widths:
    (groups, columns) bits of each column, two's complement, 0 drops it; activation_bits: of the
    ifmap. after: tasks that produce it. metadata_bits: fetched with each column's first fold,
    that of dropped columns with the first of all.
    from_chip: weights come from an on-chip buffer. read_bits, write_bits: what crosses the
    activation channel at each (block, chunk); None when all stays on chip. order: in which columns
    are placed, see `folds.cut_columns`.
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
    cells: list[tuple[int, int, int]]  # of each filter: first row, rows, width
    from_chip: bool
    chip_cycles: int  # from an on-chip buffer

    def plane(self, rows: int, cols: int) -> np.ndarray:
        """(rows, cols) values, a filter a column."""
        plane, at = np.zeros((rows, cols), dtype=np.int64), 0
        for col, (first, depth, width) in enumerate(self.cells):
            for row in range(first, first + depth):
                code = int("".join(map(str, self.bits[at : at + width])), 2)
                plane[row, col] = code - (1 << width) if code >> (width - 1) else code
                at += width
        return plane


@dataclass(eq=False)  # a step is itself
class FoldStep:
    """Rows that stream through one fold with one weight tile, cycle by cycle."""

    task: int
    number: int  # within the task
    rows: int  # of the array, in use
    feed: list[list[np.ndarray]]  # of each cycle, a (rows,) vector for each lane in use
    slices: list[tuple[int, int]]  # slices of weight and of ifmap that this cycle multiplies
    stationary: list[tuple[int, int]]  # slice of the stationary operand, of how many
    places: list[list[list[Place]]]  # of each cycle and lane, of the psums leaving the columns
    tile: Tile | None = None  # None: the tile is there already
    plane: np.ndarray | None = None  # None: the plane stays
    top: list[list[np.ndarray]] = field(default_factory=list)  # (cols,) vectors, as `feed`
    drains: list[list[Place]] = field(default_factory=list)  # rows of a finished plane of psums
    opens: bool = True
    closes: bool = True
    releases: bool = False
    read_bits: int = 0
    write_bits: int = 0
    psums_left: int = 0
    begin: int | None = None
    drained: int | None = None

    @property
    def ends(self) -> int | None:
        """Boundary at which the last row has entered; None before it begins."""
        return None if self.begin is None else self.begin + len(self.feed)

    def streamed(self, cycle: int) -> bool:
        return self.begin is not None and self.begin + len(self.feed) <= cycle


def encode(values: np.ndarray, width: int) -> np.ndarray:
    """Two's complement bits, most significant first. Values must fit: 2^width codes at most."""
    assert values.min() >= -(1 << width - 1)
    assert values.max() < 1 << width - 1
    return (values[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8).ravel()


def slice_of(values: np.ndarray, index: int, count: int, bits: int) -> np.ndarray:
    """Slice `index` of `count`: unsigned `bits` each, but the top one keeps the sign."""
    part = values >> bits * index
    return part if index == count - 1 else part & (1 << bits) - 1


def blocks_of(task: GemmTask, rows: int, size: int, pack: bool) -> list[list[tuple[int, int]]]:
    """(group, column) pairs that share a block of at most `size`, by plain loops. pack: whole
    groups side by side where their reduction fits the rows."""
    groups, _, reduction = task.ifmap.shape
    columns = task.weight.shape[2]
    pack = pack and reduction <= rows and columns <= size
    blocks: list[list[tuple[int, int]]] = [[]]
    in_order = list(range(groups))
    if task.order != "as_given" and pack:
        in_order.sort(key=lambda g: -int(task.widths[g].max()))
    for g in in_order:
        mine = [(g, n) for n in range(columns) if task.widths[g, n] > 0]
        if task.order != "as_given":
            mine.sort(key=lambda pair: -int(task.widths[pair]))
        if pack:
            together = {pair[0] for pair in blocks[-1] + mine}
            if len(together) * reduction > rows or len(blocks[-1] + mine) > size:
                blocks.append([])
            blocks[-1] += mine
        else:
            blocks += [mine[i : i + size] for i in range(0, len(mine), size)]
    blocks = [block for block in blocks if block]
    return blocks[::-1] if task.order == "narrowest_first" else blocks


def entering(
    weights: Sequence[int], task: GemmTask, width: OperandWidth
) -> list[list[tuple[int, int, int]]]:
    """What enters in each cycle when rows that meet weights of these widths stream: the row, and
    the slices of weight and ifmap that are multiplied. At a rational pace a row is through as soon
    as its share of cycles, and those of all before it, have passed."""
    activation = task.activation_bits
    if width.rule == "fixed":
        return [
            [(row, i, j)]
            for row, bits in enumerate(weights)
            for i in range(-(-bits // width.weight_bits))
            for j in range(-(-activation // width.activation_bits))
        ]
    single = task.pixels_per_image == 1
    shares = [
        {
            "bit_fusion": _eights(bits) * _eights(activation),
            "stripes": Fraction(activation, 16),
            "unpu": Fraction(bits, 16),
            "loom": Fraction(bits * (16 if single else activation), 256),
        }[width.rule]
        for bits in weights
    ]
    cycles: list[list[tuple[int, int, int]]] = [[] for _ in range(ceil(sum(shares)))]
    for row in range(len(weights)):
        cycles[ceil(sum(shares[: row + 1])) - 1].append((row, 0, 0))
    return cycles


def _eights(bits: int) -> Fraction:
    """Cycles that one operand of a fusion unit contributes: four of 2 bits make one of 8."""
    for supported, share in ((2, Fraction(1, 4)), (4, Fraction(1, 2)), (8, Fraction(1))):
        if bits <= supported:
            return share
    return Fraction(2)


def slice_counts(widest: int, activation_bits: int, width: OperandWidth) -> tuple[int, int]:
    """Slices of weights and of ifmap values; whole values but for the fixed rule."""
    if width.rule != "fixed":
        return 1, 1
    return -(-widest // width.weight_bits), -(-activation_bits // width.activation_bits)


def tile_of(
    task: GemmTask,
    filters: Sequence[tuple[int, int]],
    firsts: Sequence[int],
    k: int,
    array: SystolicArray,
    width: OperandWidth,
    chip_cycles: int,
) -> Tile:
    """The weights from place k of the reduction on, as they lie in DRAM. firsts: row of each
    filter's first weight."""
    depth = min(array.rows, task.ifmap.shape[2] - k)
    widest = max(int(task.widths[pair]) for pair in filters)
    plane = np.zeros((array.rows, array.cols), dtype=np.int64)
    cells = []
    for col, ((g, n), first) in enumerate(zip(filters, firsts, strict=True)):
        plane[first : first + depth, col] = task.weight[g, k : k + depth, n]
        cells.append((first, depth, int(task.widths[g, n])))
    if array.weight_fetch == "whole_tiles":
        bits = width.weight_bits * -(-widest // width.weight_bits)
        cells = [(0, array.rows, bits)] * array.cols
    stream = [encode(plane[f : f + d, c], w) for c, (f, d, w) in enumerate(cells)]
    if k == 0 and array.weight_fetch == "packed":
        stream.append(np.zeros(task.metadata_bits * len(filters), dtype=np.uint8))
    return Tile(np.concatenate(stream), cells, task.from_chip, chip_cycles)
