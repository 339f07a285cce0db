"""The RTL at work: its clock is ticked, its DRAM and ifmap buffer answer, cycles are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from hwsim.dram import Link
from hwsim.rtl.array import OPERAND_BITS
from hwsim.rtl.machine import WeightStationary


@dataclass(frozen=True)
class RtlLayer:
    """A layer with its values. ifmap: (pixels, reduction), weight: (reduction, columns), widths:
    (columns,) bits of each column, 1 to 8, two's complement. whole_tiles: tiles are fetched as
    rows x cols weights of 8 bits, however little of them is used."""

    ifmap: np.ndarray
    weight: np.ndarray
    widths: np.ndarray
    whole_tiles: bool = False
    metadata_bits: int = 0


@dataclass(frozen=True)
class RtlRun:
    """ofmap: (pixels, columns). cycles: clock ticks from reset to `done`."""

    ofmap: np.ndarray
    cycles: int
    weight_dram_bits: int


class WeightChannel:
    """DRAM that sends tiles in order, a burst when its time has passed, while the FIFO has room.

    Time is counted as by `hwsim.dram.Link`; a burst takes at least a clock cycle.
    """

    def __init__(self, link: Link, tiles: list[list[int]]) -> None:
        if link.ticks_per_burst < link.ticks_per_cycle:
            raise ValueError(
                f"link: the FIFO takes one burst a cycle, got {link.ticks_per_cycle} ticks a cycle "
                f"and {link.ticks_per_burst} a burst; use longer bursts"
            )
        self.link, self.tiles = link, list(tiles)
        self.bursts: list[int] = []  # left of the tile under way
        self.ticks = 0  # left of the burst under way
        self.moved_bits = 0

    def cycle(self, free: int) -> tuple[int, bool] | None:
        """One clock cycle with `free` slots at its begin; the burst that arrives and whether it is
        its tile's last, or None."""
        arrived = None
        for _ in range(self.link.ticks_per_cycle):
            if not self.bursts:
                if not self.tiles or free == 0:
                    break
                self.bursts, self.ticks = self.tiles.pop(0), self.link.ticks_per_burst
            self.ticks -= 1
            if self.ticks == 0:
                arrived = (self.bursts.pop(0), not self.bursts)
                free -= not self.bursts
                self.ticks = self.link.ticks_per_burst
                self.moved_bits += self.link.burst_bits
        return arrived


def tiles_of(layer: RtlLayer, rtl: WeightStationary) -> Iterator[list[int]]:
    """Bursts of each tile, in the order in which tiles are needed; for the layout see `machine`."""
    reduction, columns = layer.weight.shape
    chunks = -(-len(layer.ifmap) // rtl.chunk_rows)
    for column in range(0, columns, rtl.cols):
        for _ in range(chunks if reduction > rtl.rows else 1):
            for place in range(0, reduction, rtl.rows):
                block = layer.weight[place : place + rtl.rows, column : column + rtl.cols]
                widths = layer.widths[column : column + rtl.cols]
                used = len(widths)
                if layer.whole_tiles:
                    padded = np.zeros((rtl.rows, rtl.cols), dtype=np.int64)
                    padded[: len(block), :used] = block
                    block, widths = padded, np.full(rtl.cols, OPERAND_BITS)
                bits = 0
                length = 0
                for row in block[::-1]:
                    for value, width in zip(row.tolist(), widths.tolist(), strict=True):
                        bits |= (value & (1 << width) - 1) << length
                        length += width
                if place == 0 and not layer.whole_tiles:
                    length += layer.metadata_bits * used
                size = rtl.burst_bits
                yield [bits >> at & (1 << size) - 1 for at in range(0, length, size)]


class RtlSimulator:
    """A piece of hardware that runs one layer after another, each from reset."""

    def __init__(self, rtl: WeightStationary) -> None:
        self.rtl = rtl
        self.simulator = Simulator(rtl)
        self.simulator.add_clock(1e-6)
        self.has_run = False

    def run(self, layer: RtlLayer, link: Link, limit: int = 100_000) -> RtlRun:
        """Values and cycles of a layer. Raises RuntimeError if it takes more than `limit`."""
        self.layer, self.limit = layer, limit
        self.channel = WeightChannel(link, list(tiles_of(layer, self.rtl)))
        self.ofmap: list[list[int]] = [[] for _ in range(self.rtl.cols)]
        self.cycles = 0
        if self.has_run:
            self.simulator.reset()
        else:
            self.simulator.add_testbench(self._bench)
        self.has_run = True
        self.simulator.run()
        if self.cycles > limit:
            raise RuntimeError(f"the RTL is not done after {limit} cycles")
        pixels, columns = len(layer.ifmap), layer.weight.shape[1]
        ofmap = np.zeros((pixels, columns), dtype=np.int64)
        for col, values in enumerate(self.ofmap):  # block after block
            ofmap[:, col :: self.rtl.cols] = np.array(values).reshape(-1, pixels).T
        return RtlRun(ofmap, self.cycles, self.channel.moved_bits)

    async def _bench(self, ctx: SimulatorContext) -> None:
        rtl, layer = self.rtl, self.layer
        ctx.set(rtl.pixels, len(layer.ifmap))
        ctx.set(rtl.reduction, layer.ifmap.shape[1])
        ctx.set(rtl.columns, layer.weight.shape[1])
        ctx.set(rtl.whole_tiles, layer.whole_tiles)
        widths = np.append(layer.widths, np.zeros(rtl.cols, dtype=np.int64)).tolist()
        ifmap = np.pad(layer.ifmap, ((0, 0), (0, rtl.rows))).tolist()
        while not ctx.get(rtl.done) and self.cycles <= self.limit:
            arrived = self.channel.cycle(ctx.get(rtl.free))
            ctx.set(rtl.valid, arrived is not None)
            if arrived is not None:
                ctx.set(rtl.burst, arrived[0])
                ctx.set(rtl.last, arrived[1])
            first = ctx.get(rtl.shift_column)
            for port, width in zip(rtl.widths, widths[first : first + rtl.cols], strict=False):
                ctx.set(port, width)
            if ctx.get(rtl.enter):
                place = ctx.get(rtl.place)
                row = ifmap[ctx.get(rtl.pixel)][place : place + rtl.rows]
                for port, value in zip(rtl.values, row, strict=True):
                    ctx.set(port, value)
            valid = ctx.get(rtl.ofmap_valid)
            for col, values in enumerate(self.ofmap):
                if valid >> col & 1:
                    values.append(ctx.get(rtl.ofmap[col]))
            await ctx.tick()
            self.cycles += 1
