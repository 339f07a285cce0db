"""Time of a layer with a given mapping: passes bounded by MACs and ports, and the DRAM link.

A pass is a pipeline over ofmap columns. A step is one column of all its ofmap rows, filters and
images: the ifmap port brings the new columns of the window, the PEs do p * q * S MACs each (at
the pace of the operand-width rule, rounded up to cycles once a step), the psums join those that
the psum port brought from the buffer, climb the column of PEs and leave by the psum port. A
port's cycle carries values of one step only, and queues between port and PEs never fill up
(assumed: the chip's depths are not published). Filters of a pass go from their buffer to the PEs
before it starts, and come to the buffer from DRAM while the pass before runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hwsim.dram import Link
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.work import LayerWork


def pass_cycles(
    images: np.ndarray,
    columns: int,
    mac_cycles: np.ndarray,
    first_window: np.ndarray,
    next_window: np.ndarray,
    psum_in: np.ndarray,
    psum_out: np.ndarray,
    hops: np.ndarray,
) -> np.ndarray:
    """Cycles of a pass after its filters are loaded, exactly; all arguments broadcast.

    images n and columns F give n * F steps. Per step: mac_cycles, and port cycles for the ifmap
    (first_window at the start of a row, next_window after), psums in and psums out. hops: PEs
    that a psum climbs.

    With A(j) and B(j) the times when step j's ifmap window and psums have arrived, its MACs end
    and its psums start to climb at X(j) = max(max(X(j-1), A(j)) + mac_cycles, B(j)), and the last
    psum leaves at hops + max over j of X(j) + (steps - j) * psum_out. All terms are linear in the
    image and in the column, so the largest lies at a first or last image and column.
    """
    steps = images * columns
    row = first_window + (columns - 1) * next_window

    def tail(step: np.ndarray | int) -> np.ndarray:
        """From the moment a step's psums start to climb to the end, hops left out."""
        left = steps - step
        return np.maximum(left * psum_out, (left - 1) * mac_cycles + psum_out)

    last = np.maximum(psum_in + tail(0), steps * psum_in + psum_out)
    for image in (0, images - 1):
        for column in (0, columns - 1):
            arrived = image * row + first_window + column * next_window
            last = np.maximum(last, arrived + mac_cycles + tail(image * columns + column))
    return hops + last


def ceil_div(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
    return -(-np.asarray(a) // b)


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer.

    processing_cycles: filter loads into the PEs and passes, as the paper defines processing
    latency. filter_stall_cycles, ifmap_stall_cycles, ofmap_stall_cycles: waiting for DRAM that
    nothing hides (with overlapped transfers all of it counts as ifmap_stall_cycles). dram_*_bits:
    what crosses the link.
    """

    passes: int
    processing_cycles: int
    filter_load_cycles: int
    filter_stall_cycles: int
    ifmap_stall_cycles: int
    ofmap_stall_cycles: int
    dram_filter_bits: int
    dram_ifmap_bits: int
    dram_ofmap_bits: int

    @property
    def stall_cycles(self) -> int:
        return self.filter_stall_cycles + self.ifmap_stall_cycles + self.ofmap_stall_cycles

    @property
    def cycles(self) -> int:
        return self.processing_cycles + self.stall_cycles

    @property
    def dram_bits(self) -> int:
        return self.dram_filter_bits + self.dram_ifmap_bits + self.dram_ofmap_bits


def blocks(total: int, size: int) -> np.ndarray:
    """(ceil(total / size),) sizes of the blocks, the last one what is left."""
    count = -(-total // size)
    sizes = np.full(count, size, dtype=np.int64)
    sizes[-1] = total - size * (count - 1)
    return sizes


@dataclass(frozen=True)
class _Units:
    """Runs of passes on one ifmap tile, in order; one entry each."""

    busy: np.ndarray  # filter loads and passes
    inner_stall: np.ndarray  # waiting for filters inside
    first_fetch: np.ndarray  # DRAM cycles of the first pass's filters
    all_fetch: np.ndarray  # DRAM cycles of all its filters
    last_pass: np.ndarray  # cycles of its last pass, behind which the next fetch hides
    load: np.ndarray  # DRAM cycles of the ifmap tile
    dump: np.ndarray  # DRAM cycles of the psum tile that this unit completes, or 0

    @staticmethod
    def join(parts: list[_Units]) -> _Units:
        names = _Units.__dataclass_fields__
        return _Units(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def layer_timing(
    shape: ConvShape, limits: Limits, mapping: RsMapping, work: LayerWork, link: Link
) -> Timing:
    """Time and DRAM traffic of a layer.

    Loops, outermost first: groups, blocks of m filters, batches of n images, strips of e rows,
    blocks of q * r channels (one ifmap tile each), folds, p * t filters (one pass).
    """
    group_units: dict[int, _Units] = {}
    bits = np.zeros(3, dtype=np.int64)  # filters, ifmap, ofmap
    totals = np.zeros(2, dtype=np.int64)  # passes, filter load cycles
    for kind, count in zip(*np.unique(work.group_kinds, return_counts=True), strict=True):
        units, counts, moved = _group_units(shape, limits, mapping, work, int(kind), link)
        group_units[int(kind)] = units
        bits += moved * count
        totals += counts * count
    extra_ofmap = int(work.ofmap_bits(work.dropped_values(shape)))
    metadata = link.moved_bits(work.metadata_bits)
    bits += [metadata, 0, link.moved_bits(extra_ofmap)]
    edge = [link.cycle(link.ticks(work.metadata_bits)), link.cycle(link.ticks(extra_ofmap))]
    kinds = [int(kind) for kind in work.group_kinds if len(group_units[int(kind)].busy)]
    busy = sum(int(group_units[kind].busy.sum()) for kind in kinds)
    stalls = _overlapped(group_units, kinds) if limits.tiles == 2 else _exposed(group_units, kinds)
    return Timing(
        passes=int(totals[0]),
        processing_cycles=busy,
        filter_load_cycles=int(totals[1]),
        filter_stall_cycles=stalls[0] + edge[0],
        ifmap_stall_cycles=stalls[1],
        ofmap_stall_cycles=stalls[2] + edge[1],
        dram_filter_bits=int(bits[0]),
        dram_ifmap_bits=int(bits[1]),
        dram_ofmap_bits=int(bits[2]),
    )


def _exposed(units: dict[int, _Units], kinds: list[int]) -> tuple[int, int, int]:
    """Stalls (filters, ifmap, ofmap) when the array idles during ifmap loads and ofmap dumps."""
    if not kinds:
        return 0, 0, 0
    between = {}
    for a, b in set(pairwise(kinds)):
        between[a, b] = max(0, int(units[b].first_fetch[0] - units[a].last_pass[-1]))
    inside = {
        kind: int(unit.inner_stall.sum())
        + int(np.maximum(unit.first_fetch[1:] - unit.last_pass[:-1], 0).sum())
        for kind, unit in units.items()
    }
    filters = int(units[kinds[0]].first_fetch[0])
    filters += sum(inside[kind] for kind in kinds)
    filters += sum(between[pair] for pair in pairwise(kinds))
    load = {kind: int(unit.load.sum()) for kind, unit in units.items()}
    dump = {kind: int(unit.dump.sum()) for kind, unit in units.items()}
    return filters, sum(load[kind] for kind in kinds), sum(dump[kind] for kind in kinds)


def _overlapped(units: dict[int, _Units], kinds: list[int]) -> tuple[int, int, int]:
    """Stalls when the link also loads the next ifmap tile and dumps the last psum tile meanwhile.

    Filters go first on the link; tiles take what is left of it during the passes of a unit, and
    the next unit starts when array and link are both done.
    """
    if not kinds:
        return 0, 0, 0
    all_units = _Units.join([units[kind] for kind in kinds])
    next_fetch = np.append(all_units.first_fetch[1:], 0)
    wait = all_units.inner_stall + np.maximum(next_fetch - all_units.last_pass, 0)
    bulk = np.append(all_units.load[1:], 0) + np.append(0, all_units.dump[:-1])
    fetched = all_units.all_fetch - all_units.first_fetch + next_fetch
    late = np.maximum(fetched + bulk - all_units.busy - wait, 0)
    filters = int(all_units.first_fetch[0] + wait.sum())
    return filters, int(all_units.load[0] + late.sum()), int(all_units.dump[-1])


def _group_units(
    shape: ConvShape, limits: Limits, mapping: RsMapping, work: LayerWork, kind: int, link: Link
) -> tuple[_Units, np.ndarray, np.ndarray]:
    """Units of one group, (passes, filter load cycles), and bits moved (filters, ifmap, ofmap)."""
    widths = work.group_widths[kind]
    parts: list[_Units] = []
    counts, moved = np.zeros(2, dtype=np.int64), np.zeros(3, dtype=np.int64)
    step = -(-mapping.m // mapping.pass_filters) * mapping.pass_filters
    for start in range(0, len(widths), step):
        units, passes, bits = _block_units(
            shape, limits, mapping, work, widths[start : start + step], link
        )
        parts.append(units)
        counts += passes
        moved += bits
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return _Units(*[nothing] * 7), counts, moved
    return _Units.join(parts), counts, moved


def _block_units(
    shape: ConvShape,
    limits: Limits,
    mapping: RsMapping,
    work: LayerWork,
    widths: np.ndarray,
    link: Link,
) -> tuple[_Units, np.ndarray, np.ndarray]:
    """Units of one block of m filters, with their widths, over all images and strips."""
    images = blocks(shape.batch, mapping.n)
    strips = blocks(shape.ofmap[0], mapping.e)
    channels = blocks(shape.channels, mapping.pass_channels)
    filters = blocks(len(widths), mapping.pass_filters)
    starts = np.arange(len(filters)) * mapping.pass_filters
    filter_bits = np.add.reduceat(widths, starts)
    widest = np.maximum.reduceat(widths, starts)
    packed = work.words_packed(widest)

    # axes: image kind, strip kind, channel kind, fold, filters of a pass
    image_kinds, image_index = np.unique(images, return_inverse=True)
    strip_kinds, strip_index = np.unique(strips, return_inverse=True)
    first = np.arange(len(channels)) == 0
    channel_kinds, channel_index = np.unique(
        np.stack([channels, first]), axis=1, return_inverse=True
    )
    channel_index = np.ravel(channel_index)
    folds = [(h, s) for h in limits.fold_rows for s in limits.fold_cols]
    n = image_kinds[:, None, None, None, None]
    e = strip_kinds[None, :, None, None, None]
    c = channel_kinds[0][None, None, :, None, None]
    starts_psums = channel_kinds[1][None, None, :, None, None]
    fold = np.arange(len(folds))[None, None, None, :, None]
    h = np.array([h for h, _ in folds])[None, None, None, :, None]
    s = np.array([s for _, s in folds])[None, None, None, :, None]
    rows = np.stack([shape.rows_table(h)[strip_kinds] for h, _ in folds], axis=1)
    rows = rows[None, :, None, :, None]
    f = filters[None, None, None, None, :]

    span = (s - 1) * shape.dilation[1] + 1
    new_columns = np.minimum(shape.stride[1], span)
    values = c * rows
    psums = ceil_div(f * e, limits.psum_in_port)
    passes = pass_cycles(
        images=n,
        columns=shape.ofmap[1],
        mac_cycles=work.mac_cycles(ceil_div(f, mapping.t) * ceil_div(c, mapping.r) * s, widest),
        first_window=ceil_div(values * span, limits.ifmap_port),
        next_window=ceil_div(values * new_columns, limits.ifmap_port),
        psum_in=np.where((starts_psums == 1) & (fold == 0), 0, psums),
        psum_out=ceil_div(f * e, limits.psum_out_port),
        hops=h * mapping.r,
    )
    loads = ceil_div(f * c * h * s, work.filter_port * packed)
    fetches = transfer_cycles(link, filter_bits[None, None, None, None, :] * (c * h * s))
    passes, loads, fetches = (
        np.broadcast_to(a, passes.shape).reshape(*passes.shape[:3], -1)
        for a in (passes, loads, fetches)
    )
    kinds = np.ix_(image_index, strip_index, channel_index)
    real_rows = shape.real_rows(mapping.e)
    ifmap_values = images[:, None, None] * real_rows[:, None] * channels * shape.ifmap[1]
    ifmap_bits = work.ifmap_bits(ifmap_values)
    ofmap_bits = np.zeros_like(ifmap_bits)
    ofmap_values = images[:, None] * strips * (len(widths) * shape.ofmap[1])
    ofmap_bits[:, :, -1] = work.ofmap_bits(ofmap_values)
    units = _Units(
        busy=(passes + loads).sum(-1)[kinds].ravel(),
        inner_stall=np.maximum(fetches[..., 1:] - passes[..., :-1], 0).sum(-1)[kinds].ravel(),
        first_fetch=fetches[..., 0][kinds].ravel(),
        all_fetch=fetches.sum(-1)[kinds].ravel(),
        last_pass=passes[..., -1][kinds].ravel(),
        load=transfer_cycles(link, ifmap_bits).ravel(),
        dump=transfer_cycles(link, ofmap_bits).ravel(),
    )
    runs = len(images) * len(strips)
    fetched_bits = ceil_div(
        filter_bits[None, None, None, None, :] * (c * h * s), link.burst_bits
    ).reshape(*channel_kinds.shape[1:], -1)
    moved = np.array(
        [
            fetched_bits.sum(-1)[channel_index].sum() * runs,
            ceil_div(ifmap_bits, link.burst_bits).sum(),
            ceil_div(ofmap_bits, link.burst_bits).sum(),
        ]
    )
    load_cycles = loads.sum(-1)[kinds].sum()
    passes_run = runs * len(channels) * len(folds) * len(filters)
    return units, np.array([passes_run, load_cycles]), moved * link.burst_bits


def transfer_cycles(link: Link, bits: np.ndarray) -> np.ndarray:
    """Cycles that the array waits for transfers of so many bits; each starts on a cycle."""
    ticks = ceil_div(bits, link.burst_bits) * link.ticks_per_burst
    return ceil_div(ticks, link.ticks_per_cycle)
