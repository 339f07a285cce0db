"""Cycles of many mappings at once: coarse bounds that no schedule undercuts."""

from __future__ import annotations

import numpy as np

from hwsim.dram import Link
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.work import RATE_UNIT, LayerWork


class RoughBound:
    """Coarse lower bounds on the cycles of many mappings of one layer.

    Candidates are rows (e, p, q, r, t, n, m). Attributes hold what all mappings share.
    """

    def __init__(self, shape: ConvShape, limits: Limits, work: LayerWork, link: Link) -> None:
        self.shape, self.limits, self.work, self.link = shape, limits, work, link
        rows = np.arange(shape.ofmap[0] + 1)
        self.taps = sum(limits.fold_cols)
        self.folds = len(limits.fold_rows) * len(limits.fold_cols)
        kinds, repeats = np.unique(work.group_kinds, return_counts=True)
        self.kinds = {
            int(kind): int(count)
            for kind, count in zip(kinds, repeats, strict=True)
            if len(work.group_widths[kind])
        }
        self.group_sizes: dict[int, int] = {}
        for kind, count in self.kinds.items():
            size = len(work.group_widths[kind])
            self.group_sizes[size] = self.group_sizes.get(size, 0) + count
        distinct = {int(b) for kind in self.kinds for b in np.unique(work.group_widths[kind])}
        alike = len(distinct) == 1 and len(work.group_widths) == 1
        self.one_width = distinct.pop() if alike else 0
        edge_bits = (work.metadata_bits, int(work.ofmap_bits(work.dropped_values(shape))))
        self.edge_cycles = sum(link.cycle(link.ticks(bits)) for bits in edge_bits)
        self.fewest_filters = min(len(work.group_widths[k]) for k in work.group_kinds)
        self.filters = sum(len(work.group_widths[k]) for k in work.group_kinds)
        # at the pace of the operand-width rule, each filter at that of its own width
        kept = np.concatenate([work.group_widths[k] for k in work.group_kinds])
        paces = work.pace[kept]
        self.paced_filters = float(paces.sum()) / work.pace_macs * (1 - 1e-12)
        self.paces_differ = len(np.unique(paces)) > 1
        self.narrowest = int(kept[np.argmin(paces)]) if len(kept) else 0
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
        macs = steps * strips * self.taps * len(limits.fold_rows) * self.paced_filters / t
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
        macs = steps * strips * self.taps * len(limits.fold_rows) * per_pe
        macs = macs * (self.paced_filters / t)
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
        tiles = self._exposed_tiles(candidates)
        filters = self.weight_bits * self.filter_size * refetches * self.cycles_per_bit
        if self.limits.tiles == 2:
            loaded = self._filter_cycles(refetches)
            return np.maximum(tiles + filters - busy - loaded, 0)
        return tiles + np.maximum(filters - busy, 0)

    def _exposed_tiles(self, candidates: np.ndarray) -> np.ndarray:
        """Link cycles of all tiles, not rounded up tile by tile."""
        shape, work = self.shape, self.work
        e, m = candidates[:, 0], candidates[:, 6]
        m_blocks = -(-self.fewest_filters // m)
        loads = self.real_rows[e] * (shape.ifmap[1] * shape.channels * shape.batch)
        loads = loads * m_blocks * self.busy_groups * (work.ifmap_rate / RATE_UNIT)
        plane = shape.ofmap[0] * shape.ofmap[1] * shape.batch
        dumps = self.filters * plane * (work.ofmap_rate / RATE_UNIT)
        return (loads + dumps) * self.cycles_per_bit * (1 - 1e-12)

    def reload_cycles(self, mapping: RsMapping, largest: int) -> float:
        """More waiting than with the largest m, when smaller blocks reload the ifmap."""
        if self.limits.tiles == 2 or not self.fewest_filters:
            return 0.0
        more = -(-self.fewest_filters // mapping.m) - -(-self.fewest_filters // largest)
        shape = self.shape
        values = self.real_rows[mapping.e] * shape.ifmap[1] * shape.channels * shape.batch
        bits = float(values) * self.busy_groups * self.work.ifmap_rate / RATE_UNIT
        return more * bits * self.cycles_per_bit
