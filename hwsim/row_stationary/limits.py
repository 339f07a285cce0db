"""What a mapping may use: scratch pads, array, buffer, as numbers of values for one layer."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.row_stationary.shape import ConvShape


@dataclass(frozen=True)
class Limits:
    """Capacities in values (a packed word holds several) and how filters are folded.

    fold_rows, fold_cols: filter rows and columns of one pass; a filter taller than the array, or
    wider than the ifmap scratch pad, is folded and its parts accumulate like channels.
    tiles: buffer copies of the ifmap tile and of the psum tile (two when loads are overlapped).
    ports: values a cycle.
    """

    rows: int
    cols: int
    ifmap_spad: int
    filter_spad: int
    psum_spad: int
    filter_buffer: int
    banks: int
    ifmap_bank: int
    psum_bank: int
    tiles: int
    fold_rows: tuple[int, ...]
    fold_cols: tuple[int, ...]
    ifmap_port: int
    psum_in_port: int
    psum_out_port: int

    def sets(self, ofmap_rows: int) -> int:
        """PE sets of this width that fit on the array; a wide set is cut into segments.

        Segments are stacked, as the chip does with 27 -> 14 + 13.
        """
        stacked = self.rows // self.fold_rows[0]
        if ofmap_rows <= self.cols:
            return stacked * (self.cols // ofmap_rows)
        return stacked // -(-ofmap_rows // self.cols)

    @property
    def widest_set(self) -> int:
        return self.cols * (self.rows // self.fold_rows[0])


def words_packed(array: RowStationaryArray, bits: int) -> int:
    """Values of a width that share one word."""
    return array.word_bits // max(bits, 1) if array.pack_words else 1


def limits_for(
    shape: ConvShape, accelerator: Accelerator, weight_bits: int, ifmap_bits: int
) -> Limits:
    """Limits for a layer whose widest weights and ifmap values have these widths.

    Raises ValueError when even one filter row does not fit a PE.
    """
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
    ifmap_values = array.ifmap_spad * words_packed(array, ifmap_bits)
    filter_values = array.filter_spad * words_packed(array, weight_bits)
    buffer_words = accelerator.memory_for("weights").capacity // array.word_bits
    taps = next(
        taps
        for taps in range(shape.kernel[1], 0, -1)
        if taps == 1 or (shape.span(taps) <= ifmap_values and taps <= filter_values)
    )
    return Limits(
        rows=array.rows,
        cols=array.cols,
        ifmap_spad=ifmap_values,
        filter_spad=filter_values,
        psum_spad=array.psum_spad,
        filter_buffer=buffer_words * words_packed(array, weight_bits),
        banks=array.gbuf_banks,
        ifmap_bank=array.bank_bits // array.word_bits * words_packed(array, ifmap_bits),
        psum_bank=array.bank_bits // array.word_bits,
        tiles=2 if array.overlap else 1,
        fold_rows=_folds(shape.kernel[0], array.rows),
        fold_cols=_folds(shape.kernel[1], taps),
        ifmap_port=array.ifmap_port * words_packed(array, ifmap_bits),
        psum_in_port=array.psum_in_port,
        psum_out_port=array.psum_out_port,
    )


def _folds(size: int, most: int) -> tuple[int, ...]:
    """As few parts as fit, as even as possible, the largest first: 16 rows on 12 are 8 + 8."""
    count = -(-size // most)
    part = -(-size // count)
    count = -(-size // part)
    return (part,) * (count - 1) + (size - part * (count - 1),)
