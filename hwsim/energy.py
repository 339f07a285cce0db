"""Energy: access counts times the accelerator's table, by memory and data type; MACs by width.

A part is keyed (place, what): place is a memory, a DRAM channel, the array or the vector unit,
what is weights, ifmap, ofmap, psum, mac or operation. The table is the accelerator's file, with a
source on every number, in pJ a bit, so that narrow values cost less wherever they are moved.

A multiply-accumulate costs `mac_energy` at full width. How it shrinks: M. Horowitz, "Computing's
Energy Problem (and what we can do about it)", ISSCC 2014, Fig. 1.1.9 (45 nm, 0.9 V): integer
multiply 0.2 pJ at 8 bits and 3.1 pJ at 32, add 0.03 pJ at 8 bits and 0.1 pJ at 32. Interpolated
here: a multiply goes with the product of the widths (3.2 pJ at 32 bits, 3 % above the published
figure), an add with its width on the line through both published points (0.053 pJ at 16 bits).
Only the shares of multiply and add are taken from there, so that the law holds for any process.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from hwsim.accelerator import Accelerator, OperandWidth, RowStationaryArray
from hwsim.operand_width import pace

Part = tuple[str, str]  # place, what

MULTIPLY_8_PJ = 0.2  # Horowitz: 8-bit integer multiply
ADD_8_PJ, ADD_32_PJ = 0.03, 0.1  # Horowitz: 8-bit and 32-bit integer add


def multiply_pj(weight_bits: int, activation_bits: int) -> float:
    """A multiply in 45 nm, by the product of its widths."""
    return MULTIPLY_8_PJ * weight_bits * activation_bits / 64


def add_pj(bits: int) -> float:
    """An add in 45 nm, on the line through the published 8 and 32 bits."""
    return ADD_8_PJ + (ADD_32_PJ - ADD_8_PJ) * (bits - 8) / (32 - 8)


def mac_shares(
    width: OperandWidth,
    weight_bits: np.ndarray | int,
    activation_bits: int,
    psum_bits: int,
    fully_connected: bool = False,
) -> np.ndarray:
    """Energy of a MAC relative to one at full width, an entry for each weight width (1..16).

    Where the width rule shortens the multiply, as serial and fused units do, its share shrinks
    with the rule's factor: units that serve one operand alone save on that one alone. The add to
    the psum does not shrink. A fixed-width multiplier pays in full for narrow operands, once for
    each pair of slices of wide ones; with `gates_narrow_operands` its multiply goes with the
    product of the widths.
    """
    weights = np.asarray(weight_bits, dtype=np.int64)
    row = pace(width, weights, activation_bits, fully_connected)
    multiply = multiply_pj(width.weight_bits, width.activation_bits)
    add = add_pj(psum_bits)
    factor = row.cycles / row.of_rows
    if width.gates_narrow_operands:
        factor = weights * activation_bits / (width.weight_bits * width.activation_bits)
    return (multiply * factor + add * row.entries) / (multiply + add)


def mac_pj(
    accelerator: Accelerator,
    weight_bits: np.ndarray,
    activation_bits: int,
    macs_a_channel: int,
    fully_connected: bool,
) -> float:
    """Energy of the multiply-accumulates of a layer whose channels have these widths.

    weight_bits: any shape, one entry a channel; 0 drops it and costs nothing. macs_a_channel: for
    the whole batch. Every channel pays for its own width, also beside wider ones.
    """
    array = accelerator.array
    psum_bits = array.word_bits if isinstance(array, RowStationaryArray) else array.accumulator_bits
    widths, channels = np.unique(weight_bits[weight_bits > 0], return_counts=True)
    shares = mac_shares(
        accelerator.operand_width, widths, activation_bits, psum_bits, fully_connected
    )
    return float(array.mac_energy * macs_a_channel * (shares * channels).sum())


def energy_table(accelerator: Accelerator) -> dict[str, float]:
    """pJ of a bit read or written in every place that stores or carries bits."""
    table = {memory.name: float(memory.energy) for memory in accelerator.memory}
    table |= {dram.name: float(dram.energy) for dram in accelerator.dram}
    if isinstance(accelerator.array, RowStationaryArray):
        table["spad"] = accelerator.array.spad_energy
        table["network"] = accelerator.array.network_energy
    return table


def access_energy_pj(
    accelerator: Accelerator, bits: Mapping[Part, int | float | Fraction]
) -> dict[Part, float]:
    """Energy of accesses: {(place, what): bits read and written} times the table."""
    table = energy_table(accelerator)
    return {part: table[part[0]] * float(count) for part, count in bits.items()}


def by_place(bits: Mapping[Part, int]) -> dict[str, int]:
    """Bits of each place, whatever they hold, in the order of the parts."""
    total: dict[str, int] = {}
    for (place, _), count in bits.items():
        total[place] = total.get(place, 0) + count
    return total
