"""The best mappings of a layer: every legal one is either simulated or proven worse.

Branch and bound. Array shapes (e, r, t) are bounded first, then whole mappings, by cycles that no
schedule can undercut; what survives is simulated exactly, in the order of its bound, until the
bound exceeds the best found. Batches and blocks of filters are cut as evenly as their number
allows, so m and n range over block counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from hwsim.dram import Link
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping, balanced
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.timing import Timing, layer_timing, pass_cycles
from hwsim.row_stationary.work import RATE_UNIT, LayerWork

CHUNK = 4096  # mappings bounded at once


@dataclass(frozen=True)
class Found:
    """A mapping with its time and energy."""

    mapping: RsMapping
    timing: Timing
    energy_pj: float

    @property
    def key(self) -> tuple[int, int, float, RsMapping]:
        """Fewest cycles, then least DRAM traffic, then least energy; then a fixed order."""
        return self.timing.cycles, self.timing.dram_bits, self.energy_pj, self.mapping


def even_blocks(total: int) -> list[int]:
    """Block sizes that cut `total` evenly, one for each possible number of blocks, ascending."""
    return sorted({balanced(total, count) for count in range(1, total + 1)})


def filter_blocks(filters: int, pass_filters: int) -> list[int]:
    """Sizes m that cut the passes' blocks of p * t filters evenly, ascending."""
    passes = -(-filters // pass_filters)
    return [min(filters, size * pass_filters) for size in even_blocks(passes)]


def search_mappings(
    shape: ConvShape,
    limits: Limits,
    work: LayerWork,
    link: Link,
    energy: Callable[[RsMapping, Timing], float],
    count: int = 1,
    q_times_r: int | None = None,
    set_pes: int | None = None,
) -> list[Found]:
    """The `count` best legal mappings, best first.

    q_times_r, set_pes: keep only mappings with this q * r, or r * t * e; for chips of which a
    part of the mapping is known. Raises ValueError when no mapping is legal.
    """
    bound = _Bound(shape, limits, work, link)
    found: list[Found] = []
    worst = np.inf

    def simulate(rows: np.ndarray, bounds: np.ndarray) -> None:
        nonlocal found, worst
        for row, least in sorted(zip(rows.tolist(), bounds.tolist(), strict=True), key=_second):
            if least > worst:
                break
            e, p, q, r, t, n, m = row
            for size in reversed([m_ for m_ in filter_blocks(work.filters, p * t) if m_ <= m]):
                mapping = RsMapping(size, n, e, p, q, r, t)
                if least + bound.reload_cycles(mapping, m) > worst:
                    break
                timing = layer_timing(shape, limits, mapping, work, link)
                found.append(Found(mapping, timing, energy(mapping, timing)))
            found = sorted(found, key=lambda item: item.key)[:count]
            worst = found[-1].timing.cycles if len(found) == count else np.inf

    arrays = _array_shapes(shape, limits, work)
    inside = _inside_pe(shape, limits, work)
    if q_times_r is not None:
        inside = inside[q_times_r % inside[:, 1] == 0]
    if set_pes is not None:
        arrays = arrays[arrays.prod(axis=1) == set_pes]
    array_bounds = bound.of_array_shapes(arrays, int(inside[:, 1].max(initial=1)))
    order = np.argsort(array_bounds, kind="stable")
    arrays, array_bounds = arrays[order], array_bounds[order]
    position = 0
    while position < len(arrays) and array_bounds[position] <= worst:
        stop = position + max(1, CHUNK // max(1, len(inside)))
        stop = min(stop, int(np.searchsorted(array_bounds, worst, side="right")))
        candidates = _legal(arrays[position:stop], inside, shape, limits, work, q_times_r)
        rough = bound.rough(candidates)
        keep = rough <= worst
        candidates, rough = candidates[keep], rough[keep]
        ranked = np.argsort(rough, kind="stable")
        for start in range(0, len(ranked), CHUNK):
            part = ranked[start : start + CHUNK]
            part = part[rough[part] <= worst]
            if len(part):
                bounds = bound.exact_passes(candidates[part])
                close = bounds <= worst
                simulate(candidates[part][close], bounds[close])
        position = stop
    if not found:
        raise ValueError(
            f"no mapping of {shape.channels} channels, {shape.filters} filters of "
            f"{shape.kernel[0]} x {shape.kernel[1]} and an ofmap of {shape.ofmap[0]} x "
            f"{shape.ofmap[1]} fits the buffer's {limits.banks} banks and the asked-for limits"
        )
    return found


def _second(pair: tuple[list[int], float]) -> float:
    return pair[1]


def _array_shapes(shape: ConvShape, limits: Limits, work: LayerWork) -> np.ndarray:
    """(count, 3) all (e, r, t) whose sets fit the array."""
    rows = []
    for e in range(1, min(shape.ofmap[0], limits.widest_set) + 1):
        sets = limits.sets(e)
        for r in range(1, min(sets, shape.channels) + 1):
            rows += [(e, r, t) for t in range(1, min(sets // r, work.filters) + 1)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _inside_pe(shape: ConvShape, limits: Limits, work: LayerWork) -> np.ndarray:
    """(count, 2) all (p, q) that fit the scratch pads of a PE."""
    taps = limits.fold_cols[0]
    most_q = min(limits.ifmap_spad // shape.span(taps), shape.channels)
    most_p = min(limits.psum_spad, work.filters)
    pairs = product(range(1, most_p + 1), range(1, most_q + 1))
    rows = [(p, q) for p, q in pairs if p * q * taps <= limits.filter_spad]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _legal(
    arrays: np.ndarray,
    inside: np.ndarray,
    shape: ConvShape,
    limits: Limits,
    work: LayerWork,
    q_times_r: int | None,
) -> np.ndarray:
    """(count, 7) e, p, q, r, t, n and the largest m, of all legal combinations."""
    e, r, t = (np.repeat(arrays[:, i], len(inside)) for i in range(3))
    p, q = (np.tile(inside[:, i], len(arrays)) for i in range(2))
    size = limits.fold_rows[0] * limits.fold_cols[0]
    keep = ((r - 1) * q < shape.channels) & ((t - 1) * p < work.filters)
    keep &= p * q * r * t * size <= limits.filter_buffer
    if q_times_r is not None:
        keep &= q * r == q_times_r
    e, p, q, r, t = e[keep], p[keep], q[keep], r[keep], t[keep]
    channels = np.minimum(q * r, shape.channels)
    tile_rows = shape.rows_table(shape.kernel[0])[e]
    parts = []
    for n in even_blocks(shape.batch):
        ifmap = n * channels * tile_rows * shape.padded_width
        banks = limits.banks // limits.tiles - -(-ifmap // limits.ifmap_bank)
        psums = np.maximum(banks, 0) * limits.psum_bank // (n * e * shape.ofmap[1])
        most = np.where(psums >= work.filters, work.filters, psums // (p * t) * (p * t))
        fits = most > 0
        parts.append(
            np.stack([e, p, q, r, t, np.full_like(e, n), np.minimum(most, work.filters)], 1)[fits]
        )
    return np.concatenate(parts)


class _Bound:
    """Lower bounds on a layer's cycles."""

    def __init__(self, shape: ConvShape, limits: Limits, work: LayerWork, link: Link) -> None:
        self.shape, self.limits, self.work, self.link = shape, limits, work, link
        rows = np.arange(shape.ofmap[0] + 1)
        self.taps = sum(limits.fold_cols)
        self.folds = len(limits.fold_rows) * len(limits.fold_cols)
        self.fewest_filters = min(len(work.group_widths[k]) for k in work.group_kinds)
        self.filters = sum(len(work.group_widths[k]) for k in work.group_kinds)
        self.busy_groups = sum(len(work.group_widths[k]) > 0 for k in work.group_kinds)
        self.filter_size = shape.channels * shape.kernel[0] * shape.kernel[1]
        widths = [work.group_widths[k] for k in work.group_kinds if len(work.group_widths[k])]
        self.weight_bits = sum(int(w.sum()) for w in widths)
        # each filter at the packing of its own width: no pass loads fewer words
        self.filter_words = sum(float((1 / work.words_packed(w)).sum()) for w in widths)
        self.cycles_per_bit = link.ticks_per_burst / link.burst_bits / link.ticks_per_cycle
        self.strips = np.maximum(-(-shape.ofmap[0] // np.maximum(rows, 1)), 1)
        self.rows = {h: self._rows_all_strips(h) for h in set(limits.fold_rows)}
        self.real_rows = np.zeros(shape.ofmap[0] + 1, dtype=np.int64)
        for e in range(1, min(shape.ofmap[0], limits.widest_set) + 1):
            self.real_rows[e] = shape.real_rows(e).sum()

    def _rows_all_strips(self, filter_rows: int) -> np.ndarray:
        """(E + 1,) ifmap rows read by all strips of e ofmap rows."""
        table = self.shape.rows_table(filter_rows)
        e = np.maximum(np.arange(self.shape.ofmap[0] + 1), 1)
        return self.shape.ofmap[0] // e * table[e] + table[self.shape.ofmap[0] % e]

    def of_array_shapes(self, arrays: np.ndarray, most_q: int) -> np.ndarray:
        """Whatever p, q, n and m: MACs spread over the sets, psums over the port."""
        shape, limits = self.shape, self.limits
        e, r, t = arrays.T
        strips = self.strips[e]
        steps = shape.batch * shape.ofmap[1]
        macs = steps * strips * self.taps * len(limits.fold_rows) * self.filters / t
        macs = macs * shape.channels / r
        cblocks = np.maximum(-(-shape.channels // (most_q * r)), 1) * self.folds
        psums = steps * shape.ofmap[0] * self.filters * cblocks / limits.psum_out_port
        return np.maximum(macs, psums) + self._filter_cycles(strips)

    def _filter_cycles(self, strips: np.ndarray) -> np.ndarray:
        return self.filter_words * self.filter_size * strips / self.work.filter_port

    def rough(self, candidates: np.ndarray) -> np.ndarray:
        """Sums over all passes of MACs, and of the largest port, with fill and drain."""
        shape, limits = self.shape, self.limits
        e, p, q, r, t, n, _ = candidates.T
        strips = self.strips[e]
        image_blocks = -(-shape.batch // n)
        steps = shape.batch * shape.ofmap[1]
        cblocks = -(-shape.channels // (q * r))
        per_pe = shape.channels // (q * r) * q + -(-(shape.channels % (q * r)) // r)
        fblocks = self.filters / (p * t)  # at least so many, groups may end in shorter ones
        macs = steps * strips * self.taps * len(limits.fold_rows) * per_pe * (self.filters / t)
        psums = steps * shape.ofmap[0] * self.filters * cblocks * self.folds / limits.psum_out_port
        fill: np.ndarray = np.zeros(len(e))
        ports: np.ndarray = np.zeros(len(e))
        for h in limits.fold_rows:
            values = self.rows[h][e] * shape.channels * fblocks / limits.ifmap_port
            for s in limits.fold_cols:
                span = shape.span(s)
                columns = span + (shape.ofmap[1] - 1) * min(shape.stride[1], span)
                fill += values * image_blocks * span
                ports += values * shape.batch * columns
        drain = psums / steps * image_blocks
        busy = np.maximum(np.maximum(macs + drain, psums) + fill, ports)
        loads = self._filter_cycles(strips) * image_blocks
        return busy + loads + self._dram_cycles(candidates, busy, strips * image_blocks)

    def _dram_cycles(
        self, candidates: np.ndarray, busy: np.ndarray, refetches: np.ndarray
    ) -> np.ndarray:
        """Waiting for DRAM at least: tiles, and filters beyond what the passes can hide."""
        shape, work = self.shape, self.work
        e, m = candidates[:, 0], candidates[:, 6]
        blocks = -(-self.fewest_filters // m) if self.fewest_filters else 0
        loads = self.real_rows[e] * (shape.ifmap[1] * shape.channels * shape.batch)
        loads = loads * blocks * self.busy_groups * (work.ifmap_rate / RATE_UNIT)
        plane = shape.ofmap[0] * shape.ofmap[1] * shape.batch
        dumps = self.filters * plane * (work.ofmap_rate / RATE_UNIT)
        tiles = (loads + dumps) * self.cycles_per_bit
        filters = self.weight_bits * self.filter_size * refetches * self.cycles_per_bit
        if self.limits.tiles == 2:
            loaded = self._filter_cycles(refetches)
            return np.maximum(tiles + filters - busy - loaded, 0)
        return tiles + np.maximum(filters - busy, 0)

    def reload_cycles(self, mapping: RsMapping, largest: int) -> float:
        """More waiting than with the largest m, when smaller blocks reload the ifmap."""
        if self.limits.tiles == 2 or not self.fewest_filters:
            return 0.0
        more = -(-self.fewest_filters // mapping.m) - -(-self.fewest_filters // largest)
        shape = self.shape
        values = self.real_rows[mapping.e] * shape.ifmap[1] * shape.channels * shape.batch
        bits = float(values) * self.busy_groups * self.work.ifmap_rate / RATE_UNIT
        return more * bits * self.cycles_per_bit

    def exact_passes(self, candidates: np.ndarray) -> np.ndarray:
        """Exact cycles of all passes, with the bounds of the rest."""
        shape, limits, work = self.shape, self.limits, self.work
        e, p, q, r, t, n, _ = candidates.T
        busy = np.zeros(len(e), dtype=np.int64)
        sizes = {len(work.group_widths[k]) for k in work.group_kinds}
        groups = {
            size: sum(len(work.group_widths[k]) == size for k in work.group_kinds) for size in sizes
        }
        for images, strips in product(_split(shape.batch, n), _split(shape.ofmap[0], e)):
            for channels, filters_of in product(
                _split(shape.channels, q * r, first=True), groups.items()
            ):
                size, repeats = filters_of
                if size == 0:
                    continue
                for filters in _split(size, p * t):
                    times = images[0] * strips[0] * channels[0] * filters[0] * repeats
                    if not times.any():
                        continue
                    per_pass = np.zeros(len(e), dtype=np.int64)
                    for i, (h, s) in enumerate(product(limits.fold_rows, limits.fold_cols)):
                        begins = bool(channels[2]) and i == 0
                        per_pass += self._one_pass(
                            images[1], strips[1], channels[1], filters[1], r, t, h, s, begins
                        )
                    busy += times * per_pass
        strips_all = self.strips[e]
        image_blocks = -(-shape.batch // n)
        loads = self._filter_cycles(strips_all) * image_blocks
        rest = self._dram_cycles(candidates, busy, strips_all * image_blocks)
        return np.floor(busy + loads * (1 - 1e-12) + rest * (1 - 1e-12))

    def _one_pass(
        self,
        n: np.ndarray,
        e: np.ndarray,
        c: np.ndarray,
        f: np.ndarray,
        r: np.ndarray,
        t: np.ndarray,
        h: int,
        s: int,
        begins: bool,
    ) -> np.ndarray:
        shape, limits = self.shape, self.limits
        span = shape.span(s)
        values = c * shape.rows_table(h)[e]
        step = min(shape.stride[1], span)
        psums = f * e
        return pass_cycles(
            images=n,
            columns=shape.ofmap[1],
            mac_cycles=-(-f // t) * -(-c // r) * s,
            first_window=-(-values * span // limits.ifmap_port),
            next_window=-(-values * step // limits.ifmap_port),
            psum_in=np.zeros_like(psums) if begins else -(-psums // limits.psum_in_port),
            psum_out=-(-psums // limits.psum_out_port),
            hops=h * r,
        )


def _split(
    total: int, size: np.ndarray, first: bool = False
) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """(how many, how large, whether the first) of the blocks that cut `total`.

    Whole blocks and the shorter last one; with `first` the first block stands alone.
    """
    whole, short = total // size, total % size
    if not first:
        return [(whole, size, False), ((short > 0).astype(np.int64), short, False)]
    alone = np.minimum(size, total)
    one = np.ones_like(size)
    rest_short = ((short > 0) & (whole > 0)).astype(np.int64)
    return [
        (one, alone, True),
        (np.maximum(whole - 1, 0), size, False),
        (rest_short, short, False),
    ]
