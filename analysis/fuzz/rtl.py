"""Layers on the array as RTL, whose clock is ticked: against the reference and the fast model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.model import same
from analysis.fuzz.systolic import SystolicCase
from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.rtl.machine import WeightStationary
from hwsim.rtl.simulate import RtlLayer, RtlRun, RtlSimulator
from hwsim.systolic.reference import run_reference
from hwsim.systolic.reference_steps import GemmTask
from hwsim.systolic.timing import finish_cycles


@dataclass(frozen=True)
class Hardware:
    rows: int
    cols: int
    fifo_tiles: int
    chunk_rows: int
    burst_bits: int
    metadata_bits: int = 0

    @cache  # noqa: B019  a dozen machines, each made once
    def simulator(self) -> RtlSimulator:
        return RtlSimulator(
            WeightStationary(
                self.rows, self.cols, self.fifo_tiles, self.chunk_rows, self.burst_bits,
                self.metadata_bits,
            )
        )  # fmt: skip


HARDWARE = (
    Hardware(1, 1, 1, 1, 8),
    Hardware(1, 4, 2, 3, 16),
    Hardware(5, 1, 3, 4, 8, 20),
    Hardware(2, 3, 1, 5, 24, 20),
    Hardware(3, 2, 4, 2, 40),
    Hardware(4, 4, 2, 8, 64, 52),
    Hardware(7, 5, 3, 6, 128, 20),
    Hardware(8, 8, 4, 16, 256, 52),
)


@dataclass(frozen=True)
class RtlCase:
    hardware: Hardware
    link: Link
    layer: RtlLayer


@st.composite
def cases(draw: st.DrawFn) -> RtlCase:
    """Up to three folds, blocks and chunks; weights from one burst a cycle to one in four."""
    hardware = draw(st.sampled_from(HARDWARE))
    pixels = draw(st.integers(1, 3 * hardware.chunk_rows))
    reduction, columns = (draw(st.integers(1, 3 * size)) for size in (hardware.rows, hardware.cols))
    ticks = draw(st.integers(1, 7))
    link = Link(hardware.burst_bits, draw(st.integers(ticks, 4 * ticks)), ticks)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return RtlCase(
        hardware, link, layer(hardware, rng, pixels, reduction, columns, draw(st.booleans()))
    )


def layer(
    hardware: Hardware,
    rng: np.random.Generator,
    pixels: int,
    reduction: int,
    columns: int,
    whole_tiles: bool,
) -> RtlLayer:
    """A layer with random values, and weights of random widths."""
    widths = rng.integers(1, 9, columns)
    limit = 1 << widths - 1
    return RtlLayer(
        ifmap=rng.integers(-128, 128, (pixels, reduction)),
        weight=rng.integers(-limit, limit, (reduction, columns)),
        widths=widths,
        whole_tiles=whole_tiles,
        metadata_bits=hardware.metadata_bits,
    )


def check(case: RtlCase) -> RtlRun:
    """Values, traffic, and cycles as counted on the clock; returns what the RTL did."""
    hardware, layer = case.hardware, case.layer
    run = hardware.simulator().run(layer, case.link)
    task = GemmTask(
        ifmap=layer.ifmap[None],
        weight=layer.weight[None],
        widths=layer.widths[None],
        activation_bits=8,
        metadata_bits=layer.metadata_bits,
    )
    array = SystolicArray(
        rows=hardware.rows,
        cols=hardware.cols,
        schedule="pipelined",
        weight_fetch="whole_tiles" if layer.whole_tiles else "packed",
        weight_fifo_tiles=hardware.fifo_tiles,
        accumulator_rows=hardware.chunk_rows,
        accumulator_bits=32,
        mac_energy=1.0,
    )
    width = OperandWidth("fixed", 8, 8)
    outcome = run_reference([task], array, width, case.link, case.link)
    same("ofmap of the RTL", run.ofmap, layer.ifmap @ layer.weight)
    same("ofmap", run.ofmap, outcome.ofmaps[0][0])
    same("cycles on the clock", run.cycles, outcome.ends[0])
    same("weight bits", run.weight_dram_bits, outcome.weight_dram_bits)
    fast = SystolicCase(array, width, case.link, case.link, (task,)).fast()
    ends = finish_cycles(fast, array, case.link, case.link)
    same("cycles of the fast model", ends[0], run.cycles)
    return run
