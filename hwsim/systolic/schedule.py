"""From a layer's shape and widths to the steps that the array runs, and the traffic they cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.graph import Gemm
from hwsim.operand_width import Pace, pace
from hwsim.systolic.folds import Blocks, ColumnOrder, Steps, cut_columns, cut_steps
from hwsim.systolic.input_stationary import cut_input_stationary
from hwsim.systolic.output_stationary import cut_output_stationary
from hwsim.systolic.steps import StepTable


@dataclass(frozen=True)
class LayerSchedule:
    """One layer on the array: how it is cut, and per step its stream and its weight bits."""

    blocks: Blocks
    steps: Steps
    stream_cycles: np.ndarray
    rows_entered: np.ndarray  # of each step; wide operands enter slice by slice
    ifmap_read: np.ndarray  # values of each step, from the buffer
    psums: np.ndarray  # of each step, that enter the accumulators
    fetch_bits: np.ndarray  # of each step's tile, 0 where it is there already
    use_bits: np.ndarray  # of each step's tile, read from the FIFO
    tile_bits: np.ndarray  # that each step's tile takes in the FIFO, where metadata does not go
    tile_rows: np.ndarray  # cycles that each step's tile takes from an on-chip buffer
    chunk_rows: int  # pixels of a full chunk
    psum_rows: int  # rows of the accumulators that the largest chunk takes

    @property
    def ifmap_values(self) -> int:
        """Values that enter rows in use; with stationary inputs they are the filters'."""
        return int((self.rows_entered * self.steps.rows).sum())

    @property
    def ifmap_reads(self) -> int:
        """Values read from the ifmap's buffer for rows in use."""
        return int(self.ifmap_read.sum())

    @property
    def psum_writes(self) -> int:
        """Psums that enter the accumulators."""
        return int(self.psums.sum())

    @property
    def sram_counts(self) -> dict[str, int]:
        """Words that cross the ports of the operands' memories as SCALE-Sim counts them."""
        return {
            "ifmap_sram_reads": int(self.steps.ifmap_values.sum()),
            "filter_sram_reads": int(self.steps.filter_values.sum()),
            "ofmap_sram_writes": int(self.steps.ofmap_values.sum()),
        }

    def turns_that_read(self, ifmap_stays: bool) -> list[bool]:
        """Of each (block, chunk), whether its ifmap must be brought in. With stationary inputs a
        chunk serves all blocks of its group; ifmap_stays: so it does, whatever the dataflow."""
        chunks = int(self.steps.chunk.max(initial=0)) + 1
        reads = np.zeros((len(self.blocks.cols), chunks), dtype=bool)
        reads[self.steps.block[self.steps.opens], self.steps.chunk[self.steps.opens]] = True
        if ifmap_stays:
            reads &= self.blocks.first_of_groups[:, None]
        return reads.ravel().tolist()

    def timing_steps(
        self,
        from_chip: bool = False,
        read_bits: Sequence[int] | None = None,
        write_bits: Sequence[int] | None = None,
    ) -> StepTable:
        """Steps for `timing.finish_cycles`. read_bits, write_bits: what crosses the activation
        channel at each (block, chunk); read before the first fold, written after the last. With
        stationary inputs a chunk is read for the first block of its group alone."""
        cut = self.steps
        turn = cut.block * (int(cut.chunk.max(initial=0)) + 1) + cut.chunk
        nothing = np.zeros(len(cut), dtype=np.int64)
        reads, writes = (
            np.where(there, np.asarray(bits)[turn], 0) if bits else nothing
            for there, bits in ((cut.opens, read_bits), (cut.writes, write_bits))
        )
        return StepTable(
            stream_cycles=self.stream_cycles,
            cols=cut.cols,
            fetch_bits=self.fetch_bits,
            new_tile=cut.new_tile,
            from_chip=from_chip,
            read_bits=reads,
            write_bits=writes,
            new_plane=cut.new_plane,
            opens=cut.opens,
            closes=cut.closes,
            releases=cut.releases,
            tile_rows=self.tile_rows,
        )


MAX_STEPS = 2**26  # of one layer: some 200 bytes each


def _check_steps(gemm: Gemm, pixels: int, array: SystolicArray) -> None:
    """Raise ValueError before a layer of endless steps fills the memory."""
    chunk = {"weight_stationary": array.accumulator_rows, "output_stationary": array.rows}
    if array.schedule == "serial":
        chunk["weight_stationary"] = pixels
    chunks = -(-pixels // chunk.get(array.dataflow, array.cols))
    # groups that share a block take a step together
    packed = min(max(1, array.rows // gemm.reduction), max(1, array.cols // gemm.columns))
    blocks = -(-gemm.groups // packed) * -(-gemm.columns // array.cols)
    steps = blocks * chunks * -(-gemm.reduction // array.rows)
    if steps > MAX_STEPS:
        raise ValueError(
            f"a product of {pixels:,} x {gemm.reduction:,} x {gemm.columns:,} in {gemm.groups:,} "
            f"groups takes {steps:,} steps on an array of {array.rows} x {array.cols}, and at most "
            f"{MAX_STEPS:,} can be simulated: take a larger array, a smaller batch or layer"
        )


def schedule_layer(
    gemm: Gemm,
    widths: np.ndarray,
    activation_bits: int,
    pixels: int,
    array: SystolicArray,
    operand: OperandWidth,
    metadata_bits: int,
    order: ColumnOrder = "as_given",
) -> LayerSchedule:
    """Cut a layer and price its weight tiles.

    widths: (groups, columns) bits of each filter; activation_bits: of the ifmap; pixels: of the
    whole batch; metadata_bits: fetched with each channel's first fold, that of dropped channels
    with the layer's first (packed storage only; nothing of a layer that is dropped whole). A fold
    runs at the pace of its widest column, and filters that stream each at their own; order:
    see `cut_columns`.
    """
    _check_steps(gemm, pixels, array)
    # the serial schedule has no accumulator chunks: SCALE-Sim streams all rows of a fold
    pipelined, flat = array.schedule == "pipelined", widths.ravel()
    fully_connected = gemm.pixels == 1
    if array.dataflow == "input_stationary":
        block_rows = array.accumulator_rows if pipelined else max(1, gemm.columns)
        blocks, steps, tile, tiles = cut_input_stationary(
            gemm, widths, pixels, array.rows, array.cols, block_rows, array.weight_fifo_tiles, order
        )
        row_pace = _add_filters(operand, flat, activation_bits, fully_connected, tiles, tile)
        widest = np.array([flat[t].max() for t in tiles], dtype=np.int64)[tile]
        chunk_rows, tile_rows = array.cols, steps.filters
        stream_cycles, rows_entered = row_pace.stream_cycles(1), row_pace.entries
        psums = rows_entered * steps.cols
    else:
        # SCALE-Sim runs groups one after the other
        pack = array.dataflow == "weight_stationary" and pipelined
        blocks = cut_columns(gemm, widths, array.rows, array.cols, order, pack)
        if array.dataflow == "weight_stationary":
            chunk_rows = array.accumulator_rows if pipelined else pixels
            steps = cut_steps(gemm, blocks, pixels, array.rows, chunk_rows)
        else:
            chunk_rows = array.rows
            steps = cut_output_stationary(gemm, blocks, pixels, array.rows, array.weight_fifo_tiles)
        widest = blocks.width_max[steps.block]
        tile_rows = np.full(len(steps), array.rows, dtype=np.int64)
        row_pace = pace(operand, widest, activation_bits, fully_connected)
        stream_cycles = row_pace.stream_cycles(steps.streamed)
        rows_entered = steps.streamed * row_pace.entries
        psums = rows_entered * steps.cols
        if array.dataflow == "output_stationary":
            psums = steps.ofmap_values
    if array.weight_fetch == "packed":
        tile_bits = steps.weight_bits
        all_bits = tile_bits + (steps.fold == 0) * metadata_bits * steps.filters
        all_bits[:1] += metadata_bits * int((widths == 0).sum())
    else:
        words = -(-widest // operand.weight_bits)
        all_bits = tile_bits = array.pes * operand.weight_bits * words
    fetch_bits = np.where(steps.new_tile, all_bits, 0)
    psum_rows = {
        "weight_stationary": steps.streamed.max(initial=0),
        "input_stationary": blocks.cols.max(initial=0),
        "output_stationary": 0,  # psums wait in the PEs
    }
    return LayerSchedule(
        blocks=blocks,
        steps=steps,
        stream_cycles=stream_cycles,
        rows_entered=rows_entered,
        ifmap_read=steps.ifmap_values * row_pace.reads,
        psums=psums,
        fetch_bits=fetch_bits,
        use_bits=fetch_bits if array.dataflow == "weight_stationary" else all_bits,
        tile_bits=tile_bits,
        tile_rows=tile_rows,
        chunk_rows=chunk_rows,
        psum_rows=int(psum_rows[array.dataflow]),
    )


def _add_filters(
    operand: OperandWidth,
    widths: np.ndarray,
    activation_bits: int,
    fully_connected: bool,
    tiles: Sequence[np.ndarray],
    tile: np.ndarray,
) -> Pace:
    """Pace of steps whose filters stream one after the other; tile: of each step."""
    flat = np.concatenate([widths[:0], *(widths[t] for t in tiles)])
    filters = pace(operand, flat, activation_bits, fully_connected)
    starts = np.cumsum([0, *map(len, tiles)])[:-1]
    cycles, entries = (
        np.add.reduceat(v, starts)[tile] if tiles else v for v in (filters.cycles, filters.entries)
    )
    return Pace(cycles, filters.of_rows, entries, np.ones_like(cycles))
