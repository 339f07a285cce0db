"""Accesses of a layer by memory and data type, and their energy.

Energies are those of the normalised table of Chen et al., ISCA 2016, Table IV, as the
accelerator's file gives them per bit, so that narrow words cost less where they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hwsim.accelerator import Accelerator, Operand, RowStationaryArray
from hwsim.energy import Part, access_energy_pj
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.timing import Timing
from hwsim.row_stationary.work import LayerWork

_BUFFERED: tuple[Operand, Operand] = ("ifmap", "weights")
_CARRIED: tuple[Literal["weights"], Literal["activations"]] = ("weights", "activations")


@dataclass(frozen=True)
class Accesses:
    """Bits read and written, each operand at its own width.

    buffer_*: reads of ifmap tiles by the ports, and psums written once and read once a pass (the
    final read-out included), as the paper counts them. fill: DRAM to buffer. filter_buffer: in
    and out. network: values arriving in PEs, and psums hopping between them. spad: three reads
    and a psum write a MAC, and what the network writes. macs: of filters that were not dropped.
    """

    macs: int
    buffer_ifmap: int
    buffer_psum: int
    buffer_fill: int
    filter_buffer: int
    network_ifmap: int
    network_filter: int
    network_psum: int
    spad_ifmap: int
    spad_filter: int
    spad_psum: int

    @property
    def buffer(self) -> int:
        """Buffer traffic as the paper counts it."""
        return self.buffer_ifmap + self.buffer_psum

    @property
    def network(self) -> int:
        return self.network_ifmap + self.network_filter + self.network_psum

    @property
    def spad(self) -> int:
        return self.spad_ifmap + self.spad_filter + self.spad_psum


def accesses(
    shape: ConvShape,
    limits: Limits,
    mapping: RsMapping,
    work: LayerWork,
    ifmap_bits: Fraction,
    psum_bits: int,
) -> Accesses:
    """Accesses of a whole layer; ifmap_bits is the mean width of an ifmap value on chip."""
    images, plane = shape.batch, shape.ofmap[0] * shape.ofmap[1]
    rows, cols = shape.kernel
    full, short = divmod(shape.ofmap[0], mapping.e)
    strips = full + bool(short)
    image_blocks = -(-images // mapping.n)
    channel_blocks = -(-shape.channels // mapping.pass_channels)
    reduction_blocks = channel_blocks * len(limits.fold_rows) * len(limits.fold_cols)
    columns_read = sum(
        shape.span(s) + (shape.ofmap[1] - 1) * min(shape.stride[1], shape.span(s))
        for s in limits.fold_cols
    )
    rows_read = sum(
        full * shape.rows_read(mapping.e, h) + (shape.rows_read(short, h) if short else 0)
        for h in limits.fold_rows
    )
    column_copies = sum(limits.fold_rows) * columns_read  # a row of ofmap needs them in its PEs
    kept = passes_filters = m_blocks = sets = weight_bits = 0
    for kind in work.group_kinds:
        widths = work.group_widths[int(kind)]
        kept += len(widths)
        passes_filters += -(-len(widths) // mapping.pass_filters)
        m_blocks += -(-len(widths) // mapping.m)
        sets += _filter_sets(len(widths), mapping)
        weight_bits += int(widths.sum())
    per_filter = shape.channels * rows * cols
    filled = images * m_blocks * shape.channels * shape.ifmap[1]
    filled *= int(shape.real_rows(mapping.e).sum())
    macs = kept * per_filter * images * plane
    ifmap_values = images * passes_filters * shape.channels * rows_read * columns_read
    psum_values = images * kept * plane * reduction_blocks
    delivered = images * sets * shape.channels * shape.ofmap[0] * column_copies
    filter_loads = weight_bits * per_filter * image_blocks * strips
    filter_copies = weight_bits * per_filter * image_blocks * shape.ofmap[0]
    chain = images * kept * plane * len(limits.fold_cols) * channel_blocks * rows * mapping.r
    mac_weight_bits = weight_bits * per_filter * images * plane
    return Accesses(
        macs=macs,
        buffer_ifmap=round(ifmap_values * ifmap_bits),
        buffer_psum=2 * psum_values * psum_bits,
        buffer_fill=round(filled * ifmap_bits),
        filter_buffer=2 * filter_loads,
        network_ifmap=round(delivered * ifmap_bits),
        network_filter=filter_copies,
        network_psum=chain * psum_bits,
        spad_ifmap=round((macs + delivered) * ifmap_bits),
        spad_filter=mac_weight_bits + filter_copies,
        spad_psum=2 * macs * psum_bits,
    )


def _filter_sets(filters: int, mapping: RsMapping) -> int:
    """Filter sets with work, over all passes; a short pass spreads its filters evenly."""
    whole, short = divmod(filters, mapping.pass_filters)
    if not short:
        return whole * mapping.t
    return whole * mapping.t + -(-short // -(-short // mapping.t))


def energy_parts(
    accelerator: Accelerator, moved: Accesses, timing: Timing, zero_fraction: float, mac_pj: float
) -> dict[Part, float]:
    """Energy of a layer by place and data type: accesses times the accelerator's table.

    mac_pj: of all MACs. With zero gating a zero ifmap value saves its MAC and the filter and psum
    accesses that go with it (Chen et al., JSSC 52(1), 2017, Sec. V).
    """
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
    active = 1 - zero_fraction if array.zero_gating else 1.0
    gbuf, filters = (accelerator.memory_for(op).name for op in _BUFFERED)
    weights, activations = (accelerator.dram_for(c).name for c in _CARRIED)
    bits: dict[Part, int | float] = {
        ("spad", "ifmap"): moved.spad_ifmap,
        ("spad", "weights"): active * moved.spad_filter,
        ("spad", "psum"): active * moved.spad_psum,
        ("network", "ifmap"): moved.network_ifmap,
        ("network", "weights"): moved.network_filter,
        ("network", "psum"): moved.network_psum,
        (gbuf, "ifmap"): moved.buffer_ifmap + moved.buffer_fill,
        (gbuf, "psum"): moved.buffer_psum,
        (filters, "weights"): moved.filter_buffer,
        (weights, "weights"): timing.dram_filter_bits,
        (activations, "ifmap"): timing.dram_ifmap_bits,
        (activations, "ofmap"): timing.dram_ofmap_bits,
    }
    return {("array", "mac"): active * mac_pj, **access_energy_pj(accelerator, bits)}
