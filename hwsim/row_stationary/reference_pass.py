"""One pass of the reference array: PEs, ports and climbing psums, cycle by cycle."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Protocol

import numpy as np

from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.shape import ConvShape

FilterKey = tuple[int, int, int, int]  # filter, channel, kernel row, kernel column
PsumKey = tuple[int, int, int, int]  # image, filter, ofmap row, ofmap column


class Counts(Protocol):
    """Where a pass reports what it moved."""

    macs: int
    moved: Counter[str]


@dataclass
class _Pe:
    """One processing element: a filter row against an ifmap row, for interleaved pairs."""

    filters: tuple[int, ...]
    channels: tuple[int, ...]
    kernel_row: int
    ifmap_row: int
    filter_spad: dict[tuple[int, int, int], int] = field(default_factory=dict)
    arrived: deque[tuple[int, int, int]] = field(default_factory=deque)  # channel, column, value
    window: dict[tuple[int, int], int] = field(default_factory=dict)
    psum_spad: dict[int, int] = field(default_factory=dict)
    finished: deque[dict[int, int]] = field(default_factory=deque)


@dataclass
class _Wave:
    """Psums of one step climbing the array, by filter and ofmap row."""

    step: int
    psums: dict[tuple[int, int], int]
    height: int = 0


@dataclass
class Pass:
    """One pass and the PEs that run it; ranges are of the layer's own indices."""

    shape: ConvShape
    limits: Limits
    mapping: RsMapping
    group: int
    images: range
    rows: range
    channels: range
    filters: tuple[int, ...]
    kernel_rows: range
    kernel_cols: range
    starts_psums: bool
    weight_bits: tuple[int, ...]
    cycles_a_mac: Fraction
    filter_values_a_cycle: int
    pes: dict[tuple[int, int, int, int], _Pe] = field(init=False)  # filter set, chain place, ...

    def __post_init__(self) -> None:
        self.filter_sets = _share(self.filters, self.mapping.t)
        self.channel_sets = _share(tuple(self.channels), self.mapping.r)
        self.column_now = 0
        self.pes = {}
        for t, filters in enumerate(self.filter_sets):
            for r, channels in enumerate(self.channel_sets):
                for k, kernel_row in enumerate(self.kernel_rows):
                    for y in self.rows:
                        row = y * self.shape.stride[0] + kernel_row * self.shape.dilation[0]
                        pe = _Pe(filters, channels, kernel_row, row - self.shape.padding[0])
                        self.pes[t, r, k, y] = pe
        self._place()

    def _place(self) -> None:
        """Lay the sets on the array; a set wider than the array is cut into stacked segments."""
        height = self.limits.fold_rows[0]
        width = min(self.mapping.e, self.limits.cols)
        segments = 1
        while segments * self.limits.cols < self.mapping.e:
            segments += 1
        side_by_side = self.limits.cols // width if segments == 1 else 1
        used: set[tuple[int, int]] = set()
        for t, r, k, y in self.pes:
            place = t * self.mapping.r + r
            segment, column = divmod(y - self.rows[0], self.limits.cols)
            band, beside = divmod(place, side_by_side)
            row = (band * segments + segment) * height + k
            column += beside * width
            assert row < self.limits.rows, "the sets do not fit the array's rows"
            assert column < self.limits.cols, "the sets do not fit the array's columns"
            assert (row, column) not in used, "two PEs of a mapping share a place"
            used.add((row, column))

    def filter_values(self, weights: np.ndarray) -> Iterator[tuple[FilterKey, int, int]]:
        """(key, value, width) of every filter value of the pass, in the order of loading."""
        for filter_, width in zip(self.filters, self.weight_bits, strict=True):
            for channel in self.channels:
                for row in self.kernel_rows:
                    for col in self.kernel_cols:
                        value = int(weights[self.group, filter_, channel, row, col])
                        yield (filter_, channel, row, col), value, width

    def store_filter(self, key: FilterKey, value: int) -> int:
        """Multicast one filter value; returns how many PEs took it."""
        filter_, channel, row, col = key
        takers = 0
        for pe in self.pes.values():
            if filter_ in pe.filters and channel in pe.channels and row == pe.kernel_row:
                pe.filter_spad[filter_, channel, col] = value
                assert len(pe.filter_spad) <= self.limits.filter_spad
                takers += 1
        return takers

    def interleaved(self) -> list[list[tuple[int, int, int]]]:
        """(filter, channel, kernel column) that a PE works on, as places in its sets: in each
        cycle of a step those MACs whose share of cycles, and that of all before, is over then."""
        filters, channels = len(self.filter_sets[0]), len(self.channel_sets[0])
        slots = [
            (f, c, col) for col in self.kernel_cols for c in range(channels) for f in range(filters)
        ]
        cycles: list[list[tuple[int, int, int]]] = [
            [] for _ in range(ceil(len(slots) * self.cycles_a_mac))
        ]
        for i, slot in enumerate(slots, start=1):
            cycles[ceil(i * self.cycles_a_mac) - 1].append(slot)
        return cycles

    def columns(self, x: int) -> range:
        """Padded ifmap columns under a filter's columns at ofmap column x."""
        start = x * self.shape.stride[1] + self.kernel_cols[0] * self.shape.dilation[1]
        end = x * self.shape.stride[1] + self.kernel_cols[-1] * self.shape.dilation[1]
        return range(start, end + 1)


def _share(items: tuple[int, ...], sets: int) -> list[tuple[int, ...]]:
    """Items over sets, as evenly as they come in order; the last sets may stay empty."""
    each = 0
    while each * sets < len(items):
        each += 1
    return [items[i * each : (i + 1) * each] for i in range(sets)]


def run_pass(
    one: Pass,
    tile: dict[tuple[int, int, int], list[int]],
    psums: dict[PsumKey, int],
    counts: Counts,
) -> Iterator[None]:
    """Run a pass; yields once a cycle. Reads the ifmap tile, reads and writes the psum tile.

    Stages run from the last to the first, so that what one hands over is used a cycle later.
    """
    limits = one.limits
    steps = [(image, x) for image in one.images for x in range(one.shape.ofmap[1])]
    ifmap_port = _ifmap_port(one, steps, tile)
    psum_port = _psum_port(one, steps, psums)
    coming_ifmap, coming_psums = deque(next(ifmap_port)), deque(next(psum_port))
    windows_ready = 0  # steps whose ifmap window has arrived
    arriving: dict[tuple[int, int], int] = {}
    arrived: deque[dict[tuple[int, int], int]] = deque()  # psums of whole steps
    slots = one.interleaved()
    started = slot = left = 0  # steps whose MACs began, cycles of MACs to come, steps that left
    computed = False  # the step's MACs are done, its psums wait to climb
    launched = 0
    waves: deque[_Wave] = deque()
    leaving: deque[deque[tuple[PsumKey, int]]] = deque()

    while left < len(steps):
        if leaving:
            for _ in range(min(limits.psum_out_port, len(leaving[0]))):
                key, value = leaving[0].popleft()
                psums[key] = value
                counts.moved["psum buffer"] += 1
            if not leaving[0]:
                leaving.popleft()
                left += 1
        if computed and (one.starts_psums or arrived):
            waves.append(_Wave(launched, {} if one.starts_psums else arrived.popleft()))
            for pe in one.pes.values():
                pe.finished.append(pe.psum_spad)
            launched, computed = launched + 1, False
        for wave in waves:
            _climb(one, wave, counts)
        if waves and waves[0].height == len(one.kernel_rows) * one.mapping.r:
            wave = waves.popleft()
            image, x = steps[wave.step]
            leaving.append(deque(((image, f, y, x), v) for (f, y), v in wave.psums.items()))
        if slot == 0 and not computed and started < windows_ready:
            _slide_windows(one, steps[started][1])
            started += 1
            slot = len(slots)
        if slot:
            for together in slots[len(slots) - slot]:
                _multiply(one, together, counts)
            slot -= 1
            computed = slot == 0
        for _ in range(min(limits.ifmap_port, len(coming_ifmap))):
            takers, sent = coming_ifmap.popleft()
            counts.moved["ifmap buffer"] += 1
            counts.moved["ifmap into PEs"] += len(takers)
            for pe in takers:
                pe.arrived.append(sent)
            if not coming_ifmap:
                windows_ready += 1
        if not coming_ifmap and windows_ready < len(steps):
            coming_ifmap = deque(next(ifmap_port))
        if not one.starts_psums:
            for _ in range(min(limits.psum_in_port, len(coming_psums))):
                place, value = coming_psums.popleft()
                arriving[place] = value
                counts.moved["psum buffer"] += 1
            if arriving and not coming_psums:
                arrived.append(arriving)
                arriving = {}
                coming_psums = deque(next(psum_port, []))
        yield


def _ifmap_port(
    one: Pass, steps: list[tuple[int, int]], tile: dict[tuple[int, int, int], list[int]]
) -> Iterator[list[tuple[list[_Pe], tuple[int, int, int]]]]:
    """Per step the values to send, each with the PEs that take it: what their windows lack."""
    takers: dict[tuple[int, int], list[_Pe]] = {}
    for pe in one.pes.values():
        for channel in pe.channels if pe.filters else ():
            takers.setdefault((channel, pe.ifmap_row), []).append(pe)
    for image, x in steps:
        held = set(one.columns(x - 1)) if x else set()
        yield [
            (pes, (channel, column, tile[image, channel, row][column]))
            for column in one.columns(x)
            if column not in held
            for (channel, row), pes in takers.items()
        ]


def _psum_port(
    one: Pass, steps: list[tuple[int, int]], psums: dict[PsumKey, int]
) -> Iterator[list[tuple[tuple[int, int], int]]]:
    """Per step the psums so far of its column, by filter and ofmap row."""
    for image, x in steps:
        if one.starts_psums:
            yield []
        else:
            yield [((f, y), psums[image, f, y, x]) for f in one.filters for y in one.rows]


def _slide_windows(one: Pass, x: int) -> None:
    """Take what arrived for column x into the ifmap scratch pads and drop what is left behind."""
    columns = one.columns(x)
    one.column_now = x * one.shape.stride[1]
    for pe in one.pes.values():
        pe.psum_spad = dict.fromkeys(pe.filters, 0)
        assert len(pe.psum_spad) <= one.limits.psum_spad
        if x == 0:
            pe.window = {}
        pe.window = {key: value for key, value in pe.window.items() if key[1] in columns}
        lacking = (len(columns) * len(pe.channels) if pe.filters else 0) - len(pe.window)
        for _ in range(lacking):
            channel, column, value = pe.arrived.popleft()
            pe.window[channel, column] = value
        assert len(pe.window) <= one.limits.ifmap_spad
        assert all(column in columns for _, column in pe.window)


def _multiply(one: Pass, slot: tuple[int, int, int], counts: Counts) -> None:
    """A MAC in every PE, which all work on the same interleaved filter, channel and column."""
    filter_slot, channel_slot, kernel_col = slot
    column = one.column_now + kernel_col * one.shape.dilation[1]
    for pe in one.pes.values():
        if filter_slot < len(pe.filters) and channel_slot < len(pe.channels):
            filter_, channel = pe.filters[filter_slot], pe.channels[channel_slot]
            weight = pe.filter_spad[filter_, channel, kernel_col]
            pe.psum_spad[filter_] += weight * pe.window[channel, column]
            counts.macs += 1


def _climb(one: Pass, wave: _Wave, counts: Counts) -> None:
    """Every psum of a wave moves up one PE and takes that PE's part along."""
    r, k = divmod(wave.height, len(one.kernel_rows))
    wave.height += 1
    for t in range(len(one.filter_sets)):
        for y in one.rows:
            part = one.pes[t, r, k, y].finished.popleft()
            for filter_ in one.filter_sets[t]:
                wave.psums[filter_, y] = wave.psums.get((filter_, y), 0) + part[filter_]
                counts.moved["psum hops"] += 1
