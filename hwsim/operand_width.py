"""Operand-width rules: how long the array works on a row when its operands are narrow or wide.

The reference is the full-width array, where a row of operands takes one cycle. A rule gives the
cycles of one row as an exact fraction, from the width of the weights and that of the
activations. A fold streams many rows; their cycles are added exactly and rounded up once, so that
nothing is lost between rows. Weights of different widths in one fold run at the pace of the
widest, because all columns share the rows that enter; `sort_columns` of a systolic array brings
like widths together. A row-stationary PE takes these cycles for each of its multiply-accumulates,
rounded up once for each column of the ofmap, where its pass is in step with the ports.

Chosen in an accelerator's file:

    [operand_width]
    rule = "bit_fusion"     # fixed, bit_fusion, stripes, unpu or loom

`fixed` asks for the native widths besides, `weight_bits = 8` and `activation_bits = 8`; the other
rules bring their own. What the rules leave out: energy, which `energy.py` has, and the area of
the serial units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import OperandWidth


@dataclass(frozen=True)
class Pace:
    """Cycles of one row, cycles / of_rows, one entry for each weight width asked about.

    entries: times that the row enters the array and its psums leave it; reads: times that it is
    read from its buffer. Both are 1, but for operands that are cut in slices.
    """

    cycles: np.ndarray
    of_rows: int
    entries: np.ndarray
    reads: np.ndarray

    def stream_cycles(self, rows: np.ndarray | int) -> np.ndarray:
        """Whole cycles in which `rows` rows pass, rounded up once."""
        return -(-rows * self.cycles // self.of_rows)


def fixed(weight: np.ndarray, activation: int, width: OperandWidth) -> Pace:
    """Operands wider than the native ones are cut in slices; each pair of slices takes a cycle.

    A row is read once for each slice of the weights; its own slices share a reading. Nothing is
    faster below the native widths (TPU v1, 8 bits, 8 x 16 at half speed, 16 x 16 at a
    quarter: Jouppi et al., ISCA 2017, Sec. 2; Eyeriss, 16 bits: Chen et al., JSSC 52(1), 2017).
    """
    weight_slices = -(-weight // width.weight_bits)
    slices = weight_slices * -(-activation // width.activation_bits)
    return Pace(slices, 1, entries=slices, reads=weight_slices)


def bit_fusion(weight: np.ndarray, activation: int) -> Pace:
    """A fusion unit does one 8 x 8 product a cycle, or floor(8 / a) * floor(8 / w) narrower ones,
    for operands of 2, 4 or 8 bits; 1 bit runs as 2. 16 x 16 bits take four cycles.

    Widths in between run as the next of 2, 4, 8 and 16, which is what the floors make of them.
    Source: Sharma et al., "Bit Fusion", ISCA 2018.
    """
    quarters = np.array([1, 1, 1, 2, 2, 4, 4, 4, 4] + [8] * 8)  # of a cycle, one operand alone
    return _whole_rows(quarters[weight] * int(quarters[activation]), 16)


def stripes(weight: np.ndarray, activation: int) -> Pace:
    """Activations enter bit by bit, sixteen rows side by side: a / 16 (Judd et al., MICRO 2016)."""
    return _whole_rows(np.full_like(weight, activation), 16)


def unpu(weight: np.ndarray) -> Pace:
    """Weights enter bit by bit, 1 to 16 of them: w / 16 (Lee et al., JSSC 54(1), 2019)."""
    return _whole_rows(weight, 16)


def loom(weight: np.ndarray, activation: int, fully_connected: bool) -> Pace:
    """Both operands enter bit by bit: a * w / 256 where weights are used for many rows.

    Fully connected layers gain from the weights' width alone, w / 16: each of their weights meets
    one row, so that loading it takes as long as computing (Sharify et al., DAC 2018).
    """
    return _whole_rows(weight * (16 if fully_connected else activation), 256)


def _whole_rows(cycles: np.ndarray, of_rows: int) -> Pace:
    """A pace at which whole values enter, once each."""
    once = np.ones_like(cycles)
    return Pace(cycles, of_rows, entries=once, reads=once)


_RULES: dict[str, Callable[[np.ndarray, int, OperandWidth, bool], Pace]] = {
    "fixed": lambda w, a, width, fc: fixed(w, a, width),
    "bit_fusion": lambda w, a, width, fc: bit_fusion(w, a),
    "stripes": lambda w, a, width, fc: stripes(w, a),
    "unpu": lambda w, a, width, fc: unpu(w),
    "loom": lambda w, a, width, fc: loom(w, a, fc),
}


def pace(
    width: OperandWidth,
    weight_bits: np.ndarray | int,
    activation_bits: int,
    fully_connected: bool = False,
) -> Pace:
    """The rule's pace for weights of these widths, 1..16 each, and activations of one, 1..16.

    fully_connected: each weight meets one row of an image (one ofmap pixel); only `loom` cares.
    """
    weights = np.asarray(weight_bits, dtype=np.int64)
    return _RULES[width.rule](weights, int(activation_bits), width, fully_connected)
