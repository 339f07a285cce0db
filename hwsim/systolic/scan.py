"""A whole layer at once: the recurrence of `timing.py` as scans over its steps.

With stationary weights, pipelined, each machine alone is a chain `end = max(end before, ready) +
work`, which is one cumulative sum and one cumulative maximum over all steps; the chains wait for
each other through `ready`. They are evaluated in turn, each from what the others said last, until
nothing changes. Every time depends on earlier steps alone, so the equations have exactly one
solution: what satisfies them all is what the recurrence finds step by step, bit for bit. Where a
layer does not settle within a few rounds, or is of another kind, the caller goes step by step.

Design points lie along the first axis, steps along the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwsim.systolic.steps import Step, StepTable

if TYPE_CHECKING:
    from hwsim.dram import Link

Times = int | np.ndarray
ROUNDS = 16  # beyond, going step by step costs about as much
LARGEST = 1 << 60  # times that may occur, so that their sums stay within 64 bits


@dataclass(frozen=True)
class Frontier:
    """Where the machines stand between two layers; times are integers, () or (points,).

    stream_end, shift_end, shadow_free, tile_there, fetch_end: as in `timing.py`, fetch_end no
    earlier than the weights' channel is free. activations_end: tick at which their channel is
    free; writing: direction of its last transfer. slots: when the FIFO's slots are free, of the
    tiles fetched last, oldest first, at most its depth.
    """

    stream_end: Times
    shift_end: Times
    shadow_free: Times
    tile_there: Times
    fetch_end: Times
    activations_end: Times
    writing: bool | None
    slots: Sequence[Times]


def _chain(start: np.ndarray, ready: np.ndarray, work: np.ndarray) -> np.ndarray:
    """end[k] = max(end[k-1], ready[k]) + work[k], with end[-1] = start. (points, steps) each."""
    total = np.cumsum(work, axis=-1)
    waits = ready - (total - work)
    np.maximum(waits[:, :1], start, out=waits[:, :1])
    np.maximum.accumulate(waits, axis=-1, out=waits)
    waits += total
    return waits


def _bursts(bits: np.ndarray, link: Link) -> np.ndarray:
    return -(-bits // link.burst_bits)


def _column(times: Times) -> np.ndarray:
    return np.atleast_1d(np.asarray(times))[:, None]


class _Transfers:
    """Activations that a layer reads ahead and writes, in the channel's order."""

    def __init__(self, table: StepTable, link: Link, writing: bool | None) -> None:
        openers = np.flatnonzero(table.opens)
        # an opener's ifmap is staged at the turn of the opener before
        ahead = table.read_bits[openers[1:]] > 0
        self.arrives = openers[1:][ahead]
        self.turns, self.writes = openers[:-1][ahead], table.writers
        bits = np.concatenate([table.read_bits[self.arrives], table.write_bits[self.writes]])
        self.order = np.argsort(
            np.concatenate([2 * self.turns, 2 * self.writes + 1]), kind="stable"
        )
        self.bursts = _bursts(bits, link)[self.order]
        self.link, self.writing = link, writing

    def __len__(self) -> int:
        return len(self.order)

    @property
    def last_writes(self) -> bool:
        return bool(self.order[-1] >= len(self.turns))

    def price(self) -> None:
        """Turn bursts and changes of direction into ticks."""
        link = self.link
        writes = self.order >= len(self.turns)
        before = np.append(writes[:1] if self.writing is None else self.writing, writes[:-1])
        self.ticks = _column(link.ticks_per_cycle)
        self.pauses = (before[: len(self)] != writes) * _column(link.turnaround)
        self.work = self.bursts * _column(link.ticks_per_burst)

    def over(
        self, start: np.ndarray, freed: np.ndarray, drained: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cycles at which the reads and the writes are over, and the tick of the last of all.

        freed: when each step's turn finds a staging buffer free; drained: when its psums are out.
        """
        ready = np.concatenate([freed[:, self.turns], drained[:, self.writes]], axis=1)
        ready = ready[:, self.order] * self.ticks
        # a pause runs from the end of the transfer before, not from when the next is ready
        ends = _chain(start, ready - self.pauses, self.work + self.pauses)
        cycles = np.empty_like(ends)
        cycles[:, self.order] = -(-ends // self.ticks)
        reads = len(self.turns)
        return cycles[:, :reads], cycles[:, reads:], ends[:, -1]


def scan_layer(
    table: StepTable,
    following: Step | None,
    ready: Times,
    arrived: Times,
    links: tuple[Link, Link],
    size: tuple[int, int, int],
    at: Frontier,
) -> tuple[np.ndarray, Frontier] | None:
    """(points,) cycles at which a layer's last result is where it belongs, and what it leaves.

    Weight stationary, pipelined; the first tile has been fetched and the first ifmap staged.
    following: the next layer's first step if its tile is fetched early. ready, arrived: when the
    layer's operands are, and when the ifmap of its first chunk is there. links: of weights and of
    activations, fields may be (points,). size: the array's rows, its FIFO's tiles, and points.
    None where the layer does not settle or its times might not fit 64 bits.
    """
    (weights, activations), (rows, depth, points) = links, size
    tiles = table.tiles[1:]
    if following is not None:
        tiles = np.append(tiles, following.fetch_bits or 0)
    bursts = _bursts(tiles, weights)
    transfers = _Transfers(table, activations, at.writing)
    drain = table.stream_cycles + (table.cols + rows - 2)
    plane = table.new_plane
    planes = np.flatnonzero(plane)
    # a plane that follows a plane goes live at least a shift after it
    least = table.stream_cycles.copy()
    pairs = plane[:-1] & plane[1:]
    least[:-1][pairs] = np.maximum(least[:-1][pairs], rows)
    cycles = int(least.sum() + drain.max()) + 2 * rows * (len(planes) + 1)
    if _latest(cycles, bursts, transfers, ready, arrived, links, at) > LARGEST:
        return None

    before = np.cumsum(least) - least
    per_cycle = _column(weights.ticks_per_cycle)
    fetches = bursts * _column(weights.ticks_per_burst)
    transfers.price()
    fetch_end, channel_end = _column(at.fetch_end), _column(at.activations_end)
    first = np.maximum(_column(arrived), _column(at.stream_end))
    shadow = np.maximum(_column(at.shadow_free), _column(at.shift_end))
    slots = np.zeros((points, depth + len(planes)), dtype=np.int64)
    for i, slot in enumerate(at.slots, depth - len(at.slots)):
        slots[:, i] = slot
    begins = np.zeros((points, len(table)), dtype=np.int64)
    staged = np.zeros((points, len(transfers.arrives)), dtype=np.int64)
    there = np.empty((points, len(tiles) + 1), dtype=np.int64)
    there[:, :1] = _column(at.tile_there)
    fetched, written = fetch_end, None
    for _ in range(ROUNDS):
        if len(tiles):
            fetched = _chain(fetch_end, slots[:, 1 : len(tiles) + 1] * per_cycle, fetches)
            there[:, 1:] = -(-fetched // per_cycle)
        shifts = there[:, : len(planes)].copy()
        np.maximum(shifts[:, :1], shadow, out=shifts[:, :1])
        np.maximum(shifts[:, 1:], begins[:, planes[:-1]], out=shifts[:, 1:])
        shifts += rows
        waits = np.zeros_like(begins)
        waits[:, planes] = shifts
        waits[:, transfers.arrives] = np.maximum(waits[:, transfers.arrives], staged)
        np.maximum(waits[:, :1], first, out=waits[:, :1])
        waits -= before
        np.maximum.accumulate(waits, axis=1, out=waits)
        waits += before
        # the shifts again, now that it is known when the planes before go live
        shifts[:, 1:] = np.maximum(there[:, 1 : len(planes)], waits[:, planes[:-1]]) + rows
        settled = np.array_equal(shifts, slots[:, depth:]) and np.array_equal(waits, begins)
        begins, slots[:, depth:] = waits, shifts
        if len(transfers):
            freed = np.empty_like(begins)
            freed[:, :1] = _column(ready)
            freed[:, 1:] = begins[:, :-1] + table.stream_cycles[:-1]
            arrives, written, ended = transfers.over(channel_end, freed, begins + drain)
            settled = settled and np.array_equal(arrives, staged)
            staged = arrives
        if settled:
            break
    else:
        return None

    end = np.maximum(_column(ready)[:, 0], (begins + drain).max(axis=1))
    channel, writing = channel_end[:, 0], at.writing
    if written is not None:
        end = np.maximum(end, written.max(axis=1, initial=0))
        channel, writing = ended, transfers.last_writes
    return end, Frontier(
        stream_end=begins[:, -1] + table.stream_cycles[-1],
        shift_end=slots[:, -1],
        shadow_free=begins[:, planes[-1]],
        tile_there=there[:, -1],
        fetch_end=fetched[:, -1],
        activations_end=channel,
        writing=writing,
        slots=[slots[:, i] for i in range(len(planes), depth + len(planes))],
    )


def _latest(
    cycles: int,
    bursts: np.ndarray,
    transfers: _Transfers,
    ready: Times,
    arrived: Times,
    links: tuple[Link, Link],
    at: Frontier,
) -> float:
    """A time, in the finest ticks, that nothing in a layer comes after; `cycles`: all its work on
    the array, one after the other. Twice what can occur, so that rounding does not matter."""

    def most(value: Times) -> float:
        return float(np.max(np.asarray(value, dtype=float)))

    total = most(ready) + most(arrived) + most(at.stream_end) + most(at.shift_end) + cycles
    finest = 1.0
    moved = int(bursts.sum()), int(transfers.bursts.sum())
    for link, count, end in zip(links, moved, (at.fetch_end, at.activations_end), strict=True):
        ticks = most(end) + most(link.ticks_per_burst) * count
        ticks += most(link.turnaround) * len(transfers)
        # a point's ticks are measured by its own clock; the shortest cycle is on the safe side
        total += ticks / float(np.min(np.asarray(link.ticks_per_cycle, dtype=float)))
        finest = max(finest, most(link.ticks_per_cycle))
    return 2 * finest * (total + len(bursts) + len(transfers))
