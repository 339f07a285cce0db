"""From a layer's shape and widths to the steps that the array runs, and the traffic they cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.graph import Gemm
from hwsim.operand_width import pace
from hwsim.systolic.folds import Blocks, ColumnOrder, Steps, cut_columns, cut_steps
from hwsim.systolic.timing import Step


@dataclass(frozen=True)
class LayerSchedule:
    """One layer on the array: how it is cut, and per step its stream and its weight bits."""

    blocks: Blocks
    steps: Steps
    stream_cycles: np.ndarray
    rows_entered: np.ndarray  # of each step; wide operands enter slice by slice
    rows_read: np.ndarray  # of each step, from the buffer
    fetch_bits: np.ndarray  # of each step's tile, 0 where the tile stays
    tile_bits: np.ndarray  # that each step's tile takes in the FIFO, where metadata does not go
    chunk_rows: int  # pixels of a full chunk

    @property
    def ifmap_values(self) -> int:
        """Values that enter rows in use."""
        return int((self.rows_entered * self.steps.rows).sum())

    @property
    def ifmap_reads(self) -> int:
        """Values read from the ifmap's buffer for rows in use."""
        return int((self.rows_read * self.steps.rows).sum())

    @property
    def psum_writes(self) -> int:
        """Psums that enter the accumulators."""
        return int((self.rows_entered * self.steps.cols).sum())

    def timing_steps(
        self,
        from_chip: bool = False,
        read_bits: Sequence[int] | None = None,
        write_bits: Sequence[int] | None = None,
    ) -> list[Step]:
        """Steps for `timing.finish_cycles`. read_bits, write_bits: what crosses the activation
        channel at each (block, chunk); read before the first fold, written after the last."""
        cut, folds = self.steps, int(self.steps.fold.max(initial=0)) + 1
        steps = []
        for i, (stream, cols, fetch, new, fold) in enumerate(
            zip(
                self.stream_cycles.tolist(),
                cut.cols.tolist(),
                self.fetch_bits.tolist(),
                cut.new_tile.tolist(),
                cut.fold.tolist(),
                strict=True,
            )
        ):
            reads = read_bits[i // folds] if read_bits is not None and fold == 0 else 0
            writes = write_bits[i // folds] if write_bits is not None and fold == folds - 1 else 0
            steps.append(Step(stream, cols, fetch if new else None, from_chip, reads, writes))
        return steps


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
    whole batch; metadata_bits: fetched with each channel's first fold (packed storage only). A
    fold runs at the pace of its widest column; order: see `cut_columns`.
    """
    blocks = cut_columns(gemm, widths, array.rows, array.cols, order)
    # the serial schedule has no accumulator chunks: SCALE-Sim streams all pixels of a fold
    chunk_rows = array.accumulator_rows if array.schedule == "pipelined" else pixels
    steps = cut_steps(gemm, blocks, pixels, array.rows, chunk_rows)
    row_pace = pace(
        operand, blocks.width_max[steps.block], activation_bits, fully_connected=gemm.pixels == 1
    )
    if array.weight_fetch == "packed":
        first_fold = steps.fold == 0
        tile_bits = steps.weight_bits
        fetch_bits = tile_bits + first_fold * metadata_bits * steps.cols
    else:
        words = -(-blocks.width_max[steps.block] // operand.weight_bits)
        fetch_bits = tile_bits = array.pes * operand.weight_bits * words
    return LayerSchedule(
        blocks=blocks,
        steps=steps,
        stream_cycles=row_pace.stream_cycles(steps.pixels),
        rows_entered=steps.pixels * row_pace.entries,
        rows_read=steps.pixels * row_pace.reads,
        fetch_bits=np.where(steps.new_tile, fetch_bits, 0),
        tile_bits=tile_bits,
        chunk_rows=chunk_rows,
    )
