"""LayerWork: the widths and rates of one layer's operands, in the order they are processed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hwsim.bits import MAX_BITS
from hwsim.operand_width import Pace
from hwsim.row_stationary.shape import ConvShape

RATE_UNIT = 2**20  # bits a value are kept in whole 1/2^20 bits, so that sums are exact


@dataclass(frozen=True)
class LayerWork:
    """What moves.

    group_widths: for every kind of group, the weight widths of its filters in processing order,
    dropped ones left out. group_kinds: (groups,) kind of each group. ifmap_rate, ofmap_rate: DRAM
    bits of a value, in 1/2^20 bit, compression included. metadata_bits: read once with the
    filters. dropped: filters of width 0, of all groups. filter_port: words a cycle. word_bits,
    pack: how many values share a word. pace: (17,) cycles in which a PE does `pace_macs` MACs with
    weights of each width; filters of a pass run in step, at the pace of their widest.
    """

    group_widths: tuple[np.ndarray, ...]
    group_kinds: np.ndarray
    ifmap_rate: int
    ofmap_rate: int
    metadata_bits: int
    dropped: int
    filter_port: int
    word_bits: int
    pack: bool
    pace: np.ndarray
    pace_macs: int

    @property
    def filters(self) -> int:
        """Filters of the largest group, dropped ones left out."""
        return max((len(widths) for widths in self.group_widths), default=0)

    @property
    def widest(self) -> int:
        return max((int(w.max()) for w in self.group_widths if len(w)), default=1)

    def words_packed(self, widths: np.ndarray) -> np.ndarray:
        return self.word_bits // widths if self.pack else np.ones_like(widths)

    def mac_cycles(self, macs: np.ndarray, widths: np.ndarray | int) -> np.ndarray:
        """Cycles of one PE for so many MACs in a row, with weights of these widths."""
        return -(-macs * self.pace[widths] // self.pace_macs)

    def ifmap_bits(self, values: np.ndarray) -> np.ndarray:
        return -(-values * self.ifmap_rate // RATE_UNIT)

    def ofmap_bits(self, values: np.ndarray | int) -> np.ndarray:
        return -(-np.asarray(values) * self.ofmap_rate // RATE_UNIT)

    def dropped_values(self, shape: ConvShape) -> int:
        """Ofmap values of dropped filters: constants, but the next layer reads them."""
        return self.dropped * shape.batch * shape.ofmap[0] * shape.ofmap[1]


def make_work(
    widths: np.ndarray,
    ifmap_rate: Fraction | float,
    ofmap_rate: Fraction | float,
    metadata_bits: int,
    filter_port: int,
    word_bits: int,
    pack: bool,
    by_width: bool,
    mac_pace: Pace | None = None,
) -> LayerWork:
    """LayerWork from (groups, filters) weight widths and DRAM bits a value.

    mac_pace: for weight widths 0..16; a MAC a cycle by default. by_width: filters of like width
    are processed together, widest first, because the filters of a pass run in step and share the
    packing and the pace of their widest.
    """
    rows: dict[bytes, int] = {}
    kinds: list[np.ndarray] = []
    group_kinds = np.zeros(len(widths), dtype=np.int64)
    for group, row in enumerate(widths):
        kept = row[row > 0]
        if by_width:
            kept = -np.sort(-kept, kind="stable")
        key = kept.tobytes()
        if key not in rows:
            rows[key] = len(kinds)
            kinds.append(kept)
        group_kinds[group] = rows[key]
    return LayerWork(
        group_widths=tuple(kinds),
        group_kinds=group_kinds,
        ifmap_rate=round(Fraction(ifmap_rate) * RATE_UNIT),
        ofmap_rate=round(Fraction(ofmap_rate) * RATE_UNIT),
        metadata_bits=metadata_bits,
        dropped=int((widths == 0).sum()),
        filter_port=filter_port,
        word_bits=word_bits,
        pack=pack,
        pace=np.ones(MAX_BITS + 1, dtype=np.int64) if mac_pace is None else mac_pace.cycles,
        pace_macs=1 if mac_pace is None else mac_pace.of_rows,
    )
