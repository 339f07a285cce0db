"""The array with its weight FIFO, accumulators and sequencers: one layer, start to finish.

The layer is a product of pixels x reduction by reduction x columns. Its schedule is that of
`hwsim.systolic.timing`: blocks of columns, in each chunks of pixels that the accumulators hold, in
each folds of the reduction; three machines (fetch, shift, stream) run through it and wait for each
other. A layer begins when the reset is released.

Weights arrive as the bit stream of a tile in bursts: the rows in use, last one first, in each the
columns in use, each weight at its column's own width, least significant bit first.
"""

from __future__ import annotations

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwsim.rtl.array import OPERAND_BITS, PSUM_BITS, PeArray, delayed

SIZE_BITS = 16  # of a layer's dimensions


class Sequencer(wiring.Component):
    """Where in the layer a machine is: block, chunk, fold; `step` goes on to the next.

    column, pixel, place: the first of each. rows, depth, used: pixels of the chunk, places of the
    fold, columns of the block. tiles: one step a weight tile, where the machine works on tiles: a
    tile that is the whole reduction stays for all chunks.
    """

    def __init__(self, rows: int, cols: int, chunk_rows: int, tiles: bool) -> None:
        self.sizes, self.tiles = (cols, chunk_rows, rows), tiles
        given = ("pixels", "reduction", "columns")
        found = ("column", "pixel", "place", "rows", "depth", "used")
        super().__init__(
            {name: In(SIZE_BITS) for name in given}
            | {name: Out(SIZE_BITS) for name in found}
            | {"step": In(1), "last_fold": Out(1), "last": Out(1), "done": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        loops = [
            (self.columns, self.column, self.used),
            (self.pixels, self.pixel, self.rows),
            (self.reduction, self.place, self.depth),
        ]
        ends = []
        for (total, first, count), size in zip(loops, self.sizes, strict=True):
            left = Signal(SIZE_BITS)
            m.d.comb += [left.eq(total - first), count.eq(Mux(left > size, size, left))]
            ends.append(left <= size)
        if self.tiles:
            ends[1] |= self.reduction <= self.sizes[2]
        m.d.comb += [self.last_fold.eq(ends[2]), self.last.eq(ends[0] & ends[1] & ends[2])]
        with m.If(self.step):
            m.d.sync += self.done.eq(self.last)
            inner = C(1)  # whether all inner loops end
            for i in (2, 1, 0):
                first = loops[i][1]
                with m.If(inner):
                    m.d.sync += first.eq(Mux(ends[i], 0, first + self.sizes[i]))
                inner &= ends[i]
        return m


class WeightFifo(wiring.Component):
    """Tiles on their way from DRAM to the shadow plane, `tiles` of `tile_bits` each.

    burst: what DRAM sends while `valid`, `last` with a tile's last. free: slots that no whole tile
    takes. tile: the bits of the oldest tile, while `ready`; pop: its slot is free after this cycle.
    """

    def __init__(self, tiles: int, tile_bits: int, burst_bits: int) -> None:
        self.tiles, self.bursts = tiles, -(-tile_bits // burst_bits)
        super().__init__(
            {
                "burst": In(burst_bits),
                "valid": In(1),
                "last": In(1),
                "free": Out(range(tiles + 1), init=tiles),
                "ready": Out(1),
                "tile": Out(self.bursts * burst_bits),
                "pop": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.slots = slots = Memory(shape=len(self.tile), depth=self.tiles, init=[])
        write = slots.write_port(granularity=len(self.burst))
        read = slots.read_port(domain="comb")
        place = Signal(range(self.bursts))  # of the next burst in its tile
        arrived = Signal()
        m.d.comb += [
            write.data.eq(self.burst.replicate(self.bursts)),
            write.en.eq(self.valid << place),
            arrived.eq(self.valid & self.last),
            self.tile.eq(read.data),
            self.ready.eq(self.free != self.tiles),
        ]
        m.d.sync += self.free.eq(self.free + self.pop - arrived)
        with m.If(self.valid):
            m.d.sync += place.eq(Mux(self.last, 0, place + 1))
        for port, moves in ((write, arrived), (read, self.pop)):
            with m.If(moves):
                following = Mux(port.addr == self.tiles - 1, 0, port.addr + 1)
                m.d.sync += port.addr.eq(following)
        return m


class Accumulators(wiring.Component):
    """A memory a column: psums of a chunk's pixels, until the last fold completes them.

    enter: a row of values enters the array, pixel `row` of its chunk; first, last: fold of the
    reduction; ends: nothing follows. totals: the array's, column c `rows - 1 + c` cycles behind.
    ofmap: a finished value of column c while `valid[c]`. done: the last one has left.
    """

    def __init__(self, rows: int, cols: int, chunk_rows: int) -> None:
        self.rows, self.cols, self.chunk_rows = rows, cols, chunk_rows
        super().__init__(
            {
                "enter": In(1),
                "row": In(range(chunk_rows)),
                "first": In(1),
                "last": In(1),
                "ends": In(1),
                "used": In(SIZE_BITS),
                "totals": In(signed(PSUM_BITS)).array(cols),
                "ofmap": Out(signed(PSUM_BITS)).array(cols),
                "valid": Out(cols),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(range(self.cols + 1))
        m.d.comb += count.eq(self.used)
        tag = Cat(self.enter, self.first, self.last, self.ends, count, self.row)
        tag = delayed(m, tag, self.rows - 1)
        ended, pending = C(0), C(0)  # the last column of the last row; others are still to come
        for c in range(self.cols):
            enter, first, last, ends = tag[:4]
            used, row = tag[4 : 4 + len(count)], tag[4 + len(count) :]
            m.submodules[f"column_{c}"] = psums = Memory(
                shape=signed(PSUM_BITS), depth=self.chunk_rows, init=[]
            )
            read, write = psums.read_port(domain="comb"), psums.write_port()
            m.d.comb += [
                read.addr.eq(row),
                write.addr.eq(row),
                self.ofmap[c].eq(self.totals[c] + Mux(first, 0, read.data)),
                write.data.eq(self.ofmap[c]),
                write.en.eq(enter),
                self.valid[c].eq(enter & last & (used > c)),
            ]
            ended |= enter & ends & (used == c + 1)
            pending |= enter & (used > c + 1)
            tag = delayed(m, tag, 1)
        # a last block of few columns is through before the block ahead has left all of its own
        seen = Signal()
        m.d.sync += [seen.eq(seen | ended), self.done.eq((seen | ended) & ~pending)]
        return m


class WeightStationary(wiring.Component):
    """A weight-stationary systolic array.

    pixels, reduction, columns: of the layer, 1 to 2^16 - 1, steady. widths: bits, 1 to 8, of the
    columns from `shift_column` on, the tile that is shifted; whole_tiles: a tile is always all
    rows and columns at 8 bits. burst, valid, last, free: from DRAM, see `WeightFifo`. values: the
    ifmap of pixel `pixel` from `place` on, zeros beyond the reduction, while `enter`; a buffer
    that answers within the cycle. ofmap, ofmap_valid, done: see `Accumulators`.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        fifo_tiles: int = 4,
        chunk_rows: int = 16,
        burst_bits: int = 64,
        metadata_bits: int = 0,
    ) -> None:
        self.rows, self.cols, self.chunk_rows = rows, cols, chunk_rows
        self.fifo_tiles, self.burst_bits = fifo_tiles, burst_bits
        self.tile_bits = rows * cols * OPERAND_BITS + cols * metadata_bits
        super().__init__(
            {
                "pixels": In(SIZE_BITS),
                "reduction": In(SIZE_BITS),
                "columns": In(SIZE_BITS),
                "shift_column": Out(SIZE_BITS),
                "widths": In(range(OPERAND_BITS + 1)).array(cols),
                "whole_tiles": In(1),
                "burst": In(burst_bits),
                "valid": In(1),
                "last": In(1),
                "free": Out(range(fifo_tiles + 1)),
                "enter": Out(1),
                "pixel": Out(SIZE_BITS),
                "place": Out(SIZE_BITS),
                "values": In(signed(OPERAND_BITS)).array(rows),
                "ofmap": Out(signed(PSUM_BITS)).array(cols),
                "ofmap_valid": Out(cols),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes = self.rows, self.cols, self.chunk_rows
        m.submodules.array = array = PeArray(self.rows, self.cols)
        m.submodules.fifo = fifo = WeightFifo(self.fifo_tiles, self.tile_bits, self.burst_bits)
        m.submodules.accumulators = accumulators = Accumulators(*sizes)
        m.submodules.shifts = shifts = Sequencer(*sizes, tiles=True)
        m.submodules.streams = streams = Sequencer(*sizes, tiles=False)
        for sequencer in (shifts, streams):
            m.d.comb += [
                sequencer.pixels.eq(self.pixels),
                sequencer.reduction.eq(self.reduction),
                sequencer.columns.eq(self.columns),
            ]
        m.d.comb += [
            fifo.burst.eq(self.burst),
            fifo.valid.eq(self.valid),
            fifo.last.eq(self.last),
            self.free.eq(fifo.free),
        ]
        plane_ready, goes_live = Signal(), Signal()  # the shadow plane is whole; is put to use
        self._shift(m, array, fifo, shifts, plane_ready, goes_live)
        self._stream(m, array, accumulators, streams, plane_ready, goes_live)
        return m

    def _shift(
        self, m: Module, array: PeArray, fifo: WeightFifo, shifts: Sequencer,
        plane_ready: Signal, goes_live: Signal,
    ) -> None:  # fmt: skip
        """From the FIFO into the shadow plane, a row a cycle, once the plane before is in use."""
        age, shifting, ends = Signal(range(self.rows)), Signal(), Signal()
        begins = fifo.ready & ~shifts.done & (~plane_ready | goes_live)
        depth = Mux(self.whole_tiles, self.rows, shifts.depth)
        m.d.comb += [
            shifting.eq((age != 0) | begins),
            ends.eq(shifting & (age == self.rows - 1)),
            array.shift.eq(Mux(shifting, (2 << age) - 1, 0)),  # row r takes part from age r on
            fifo.pop.eq(ends),
            shifts.step.eq(ends),
            self.shift_column.eq(shifts.column),
        ]
        with m.If(shifting):
            m.d.sync += age.eq(Mux(ends, 0, age + 1))
        with m.If(ends):
            m.d.sync += plane_ready.eq(1)
        with m.Elif(goes_live):
            m.d.sync += plane_ready.eq(0)
        # this row's place in the tile's bits
        start = Signal(range(len(fifo.tile) + 1))
        row_bits = Signal(range(self.cols * OPERAND_BITS + 1))
        in_use = Signal()
        starts = [C(0)]
        for c in range(self.cols):
            width = Mux(shifts.used > c, self.widths[c], 0)
            width = Mux(self.whole_tiles, OPERAND_BITS, width)
            above = (OPERAND_BITS - width)[: len(self.widths[c])]  # bits that are not the weight's
            code = fifo.tile.bit_select(start + starts[c], OPERAND_BITS) << above
            weight = code[:OPERAND_BITS].as_signed() >> above
            m.d.comb += array.weights[c].eq(Mux(in_use, weight, 0))
            starts.append(starts[c] + width)
        m.d.comb += [row_bits.eq(starts[-1]), in_use.eq(self.rows - 1 - age < depth)]
        with m.If(ends):
            m.d.sync += start.eq(0)
        with m.Elif(shifting & in_use):
            m.d.sync += start.eq(start + row_bits)

    def _stream(
        self, m: Module, array: PeArray, accumulators: Accumulators, streams: Sequencer,
        plane_ready: Signal, goes_live: Signal,
    ) -> None:  # fmt: skip
        """A row of ifmap values a cycle, once the plane that they need is there."""
        row = Signal(range(self.chunk_rows))
        new_plane = (streams.pixel == 0) | (self.reduction > self.rows)
        begins = ~streams.done & (plane_ready | ~new_plane)
        ends = self.enter & (row == streams.rows - 1)
        m.d.comb += [
            self.enter.eq((row != 0) | begins),
            goes_live.eq((row == 0) & begins & new_plane),
            streams.step.eq(ends),
            self.pixel.eq(streams.pixel + row),
            self.place.eq(streams.place),
            array.live.eq(goes_live),
            Cat(*array.values).eq(Cat(*self.values)),
            Cat(*accumulators.totals).eq(Cat(*array.totals)),
            accumulators.enter.eq(self.enter),
            accumulators.row.eq(row),
            accumulators.first.eq(streams.place == 0),
            accumulators.last.eq(streams.last_fold),
            accumulators.ends.eq(ends & streams.last),
            accumulators.used.eq(streams.used),
            Cat(*self.ofmap).eq(Cat(*accumulators.ofmap)),
            self.ofmap_valid.eq(accumulators.valid),
            self.done.eq(accumulators.done),
        ]
        with m.If(self.enter):
            m.d.sync += row.eq(Mux(ends, 0, row + 1))
