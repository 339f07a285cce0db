"""A row-stationary array that moves real values, one cycle at a time.

PEs with scratch pads, the climbing psums, multicast ports of limited width, the buffers and the
DRAM link; slow, plain, and for small layers. The fast model in `timing.py` must give the same
cycles and the same traffic, and the ofmap must be the integer convolution. Nothing here knows a
formula for the length of a pass: it ends when its last psum has left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from hwsim.dram import Link
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.reference_pass import Pass, run_pass
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.work import RATE_UNIT, LayerWork


@dataclass
class ReferenceRun:
    """What a layer did. moved: values by path; dram_bits: bits by operand, in whole bursts."""

    ofmap: np.ndarray
    processing_cycles: int = 0
    stall_cycles: int = 0
    passes: int = 0
    macs: int = 0
    moved: Counter[str] = field(default_factory=Counter)
    dram_bits: Counter[str] = field(default_factory=Counter)

    @property
    def cycles(self) -> int:
        return self.processing_cycles + self.stall_cycles


class _DramLink:
    """A queue of transfers. Each moves burst by burst in cycles that are its own.

    Filters go before tiles, and a tile's transfer resumes where it stopped.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.filters: deque[list[int]] = deque()
        self.tiles: deque[list[int]] = deque()

    def start(self, queue: deque[list[int]], bits: int) -> int:
        """Queue a transfer; returns what crosses the link, whole bursts."""
        bursts = 0
        while bursts * self.link.burst_bits < bits:
            bursts += 1
        if bursts:
            queue.append([bursts * self.link.ticks_per_burst])
        return bursts * self.link.burst_bits

    def cycle(self) -> None:
        queue = self.filters or self.tiles
        if queue:
            queue[0][0] -= self.link.ticks_per_cycle
            if queue[0][0] <= 0:
                queue.popleft()


@dataclass(frozen=True)
class _Unit:
    """Passes on one ifmap tile; first, last: whether it starts or completes its psum tile."""

    group: int
    images: range
    rows: range
    channels: range
    filters: tuple[int, ...]  # of the block of m, as indices of ofmap channels in the group
    first: bool
    last: bool


def reference_layer(
    shape: ConvShape,
    limits: Limits,
    mapping: RsMapping,
    work: LayerWork,
    link: Link,
    ifmap: np.ndarray,
    weights: np.ndarray,
) -> ReferenceRun:
    """Run a layer. ifmap (N, groups * C, H, W), weights (groups, M, C, R, S), all integers.

    Filters are processed in the order given; work.group_widths has their widths. Returns the
    ofmap (N, groups * M, E, F) with cycles and traffic.
    """
    ofmap_shape = (shape.batch, shape.groups * shape.filters, *shape.ofmap)
    run = ReferenceRun(np.zeros(ofmap_shape, dtype=np.int64))
    dram = _DramLink(link)
    overlap = limits.tiles == 2
    units = list(_units(shape, mapping, work))
    program = [list(_passes(unit, shape, limits, mapping, work)) for unit in units]
    flat = [one for passes in program for one in passes]

    def idle_until_done() -> None:
        while dram.filters or dram.tiles:
            dram.cycle()
            run.stall_cycles += 1

    run.dram_bits["filters"] += dram.start(dram.tiles, work.metadata_bits)
    idle_until_done()
    if flat:
        _fetch(run, dram, flat[0])
        idle_until_done()
        _load(run, dram, shape, work, units[0])
        idle_until_done()
    position = 0
    psums: dict[tuple[int, int, int, int], int] = {}
    waiting_dump: tuple[_Unit, dict[tuple[int, int, int, int], int]] | None = None
    for index, unit in enumerate(units):
        tile = _read_tile(shape, unit, ifmap)
        if unit.first:
            psums = {}
        if overlap:
            if waiting_dump is not None:
                _dump(run, dram, shape, work, *waiting_dump)
                waiting_dump = None
            if index + 1 < len(units):
                _load(run, dram, shape, work, units[index + 1])
        for one in program[index]:
            _load_filters(run, dram, one, weights)
            position += 1
            if position < len(flat):
                _fetch(run, dram, flat[position])
            for _ in run_pass(one, tile, psums, run):
                run.processing_cycles += 1
                dram.cycle()
            while dram.filters:
                dram.cycle()
                run.stall_cycles += 1
            run.passes += 1
        idle_until_done()
        if unit.last and overlap and index + 1 < len(units):
            waiting_dump = (unit, psums)
        elif unit.last:
            _dump(run, dram, shape, work, unit, psums)
            idle_until_done()
        if not overlap and index + 1 < len(units):
            _load(run, dram, shape, work, units[index + 1])
            idle_until_done()
    values = work.dropped * shape.batch * shape.ofmap[0] * shape.ofmap[1]
    run.dram_bits["ofmap"] += dram.start(dram.tiles, _rated(values, work.ofmap_rate))
    idle_until_done()
    return run


def _rated(values: int, rate: int) -> int:
    """Bits of some values at a rate in 1/2^20 bit, rounded up."""
    bits, rest = divmod(values * rate, RATE_UNIT)
    return bits + (rest > 0)


def _cut(indices: range, size: int) -> Iterator[range]:
    while len(indices):
        yield indices[:size]
        indices = indices[size:]


def _units(shape: ConvShape, mapping: RsMapping, work: LayerWork) -> Iterator[_Unit]:
    for group in range(shape.groups):
        filters = range(len(work.group_widths[int(work.group_kinds[group])]))
        per_block = 0
        while per_block < mapping.m:  # whole passes
            per_block += mapping.p * mapping.t
        for block in _cut(filters, per_block):
            for images in _cut(range(shape.batch), mapping.n):
                for rows in _cut(range(shape.ofmap[0]), mapping.e):
                    cuts = list(_cut(range(shape.channels), mapping.q * mapping.r))
                    for channels in cuts:
                        first, last = channels is cuts[0], channels is cuts[-1]
                        yield _Unit(group, images, rows, channels, tuple(block), first, last)


def _passes(
    unit: _Unit, shape: ConvShape, limits: Limits, mapping: RsMapping, work: LayerWork
) -> Iterator[Pass]:
    widths = work.group_widths[int(work.group_kinds[unit.group])]
    row = 0
    starts_psums = unit.first
    for height in limits.fold_rows:
        col = 0
        for taps in limits.fold_cols:
            for filters in _cut(range(len(unit.filters)), mapping.p * mapping.t):
                chosen = [unit.filters[i] for i in filters]
                yield Pass(
                    shape=shape,
                    limits=limits,
                    mapping=mapping,
                    group=unit.group,
                    images=unit.images,
                    rows=unit.rows,
                    channels=unit.channels,
                    filters=tuple(chosen),
                    kernel_rows=range(row, row + height),
                    kernel_cols=range(col, col + taps),
                    starts_psums=starts_psums,
                    weight_bits=tuple(int(widths[f]) for f in chosen),
                    cycles_a_mac=Fraction(
                        int(work.pace[max(int(widths[f]) for f in chosen)]), work.pace_macs
                    ),
                    filter_values_a_cycle=work.filter_port
                    * int(work.words_packed(np.array(max(int(widths[f]) for f in chosen)))),
                )
            starts_psums = False
            col += taps
        row += height


def _fetch(run: ReferenceRun, dram: _DramLink, one: Pass) -> None:
    values = len(one.channels) * len(one.kernel_rows) * len(one.kernel_cols)
    bits = sum(values * width for width in one.weight_bits)
    run.moved["filter buffer bits"] += bits
    run.dram_bits["filters"] += dram.start(dram.filters, bits)


def _load_filters(run: ReferenceRun, dram: _DramLink, one: Pass, weights: np.ndarray) -> None:
    """Filter buffer to PEs, before the pass."""
    queue = deque(one.filter_values(weights))
    while queue:
        for _ in range(min(one.filter_values_a_cycle, len(queue))):
            key, value, width = queue.popleft()
            run.moved["filter buffer bits"] += width
            run.moved["filter bits into PEs"] += width * one.store_filter(key, value)
        run.processing_cycles += 1
        dram.cycle()


def _tile_rows(shape: ConvShape, unit: _Unit) -> set[int]:
    """Rows of the ifmap, negative or beyond its end for padding, that a unit needs."""
    return {
        y * shape.stride[0] + k * shape.dilation[0] - shape.padding[0]
        for y in unit.rows
        for k in range(shape.kernel[0])
    }


def _load(
    run: ReferenceRun, dram: _DramLink, shape: ConvShape, work: LayerWork, unit: _Unit
) -> None:
    rows = [row for row in _tile_rows(shape, unit) if 0 <= row < shape.ifmap[0]]
    values = len(unit.images) * len(unit.channels) * len(rows) * shape.ifmap[1]
    run.moved["fill"] += values
    run.dram_bits["ifmap"] += dram.start(dram.tiles, _rated(values, work.ifmap_rate))


def _read_tile(
    shape: ConvShape, unit: _Unit, ifmap: np.ndarray
) -> dict[tuple[int, int, int], list[int]]:
    """The buffer's ifmap tile: (image, channel, row) to its padded columns."""
    tile = {}
    for image in unit.images:
        for channel in unit.channels:
            for row in _tile_rows(shape, unit):
                columns = [0] * shape.ifmap[1]
                if 0 <= row < shape.ifmap[0]:
                    columns = ifmap[image, unit.group * shape.channels + channel, row].tolist()
                padding = [0] * shape.padding[1]
                tile[image, channel, row] = padding + columns + padding
    return tile


def _dump(
    run: ReferenceRun,
    dram: _DramLink,
    shape: ConvShape,
    work: LayerWork,
    unit: _Unit,
    psums: dict[tuple[int, int, int, int], int],
) -> None:
    for (image, filter_, y, x), value in psums.items():
        run.ofmap[image, unit.group * shape.filters + filter_, y, x] = value
    run.moved["psum buffer"] += len(psums)
    run.dram_bits["ofmap"] += dram.start(dram.tiles, _rated(len(psums), work.ofmap_rate))
