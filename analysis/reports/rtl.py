"""The array as RTL beside the reference and the fast model, layer by layer.

    python -m analysis.reports.rtl [--cases 40]

writes reports/rtl.md. Needs the extras `rtl` and `dev`.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import numpy as np

from analysis.fuzz.rtl import HARDWARE, Hardware, RtlCase, check, layer
from hwsim.dram import Link
from hwsim.files import write_atomically


def tally(hardware: Hardware, cases: int) -> list[int]:
    """Layers compared; of them with several folds, chunks, blocks; that waited for weights; their
    cycles on the clock. AssertionError at the first that differs."""
    rng = np.random.default_rng(hardware.rows)
    counts = np.zeros(6, dtype=np.int64)
    for _ in range(cases):
        pixels, reduction, columns = (
            int(rng.integers(1, 3 * size + 1))
            for size in (hardware.chunk_rows, hardware.rows, hardware.cols)
        )
        drawn = layer(hardware, rng, pixels, reduction, columns, bool(rng.integers(2)))
        ticks = int(rng.integers(1, 8))
        slow = Link(hardware.burst_bits, int(rng.integers(ticks, 4 * ticks + 1)), ticks)
        cycles, unhindered = (
            check(RtlCase(hardware, link, drawn)).cycles
            for link in (slow, Link(hardware.burst_bits, 1, 1))
        )
        counts += [
            1, reduction > hardware.rows, pixels > hardware.chunk_rows, columns > hardware.cols,
            cycles > unhindered, cycles + unhindered,
        ]  # fmt: skip
    return counts.tolist()


def report(cases: int) -> str:
    rows = []
    for h in HARDWARE:
        numbers = [h.fifo_tiles, h.chunk_rows, h.burst_bits, *tally(h, cases)]
        rows.append(f"| {h.rows} x {h.cols} | {' | '.join(f'{n:,}' for n in numbers)} |")
    return "\n".join(
        [
            "# The array on a clock",
            "",
            f"Made by `python -m analysis.reports.rtl --cases {cases}` with chipfit "
            f"{version('chipfit')} and Amaranth {version('amaranth')}.",
            "",
            "`hwsim/rtl` is a weight-stationary array as synthesisable RTL: PEs with a shadow "
            "weight each, a weight FIFO that unpacks columns of different widths, accumulators, "
            "and two sequencers. Its clock is ticked with real values in `amaranth.sim`. Every "
            "layer below gave the right ofmap, and the same cycles (counted on the clock from "
            "reset to the last result) and weight bits from DRAM as the reference that moves "
            "values and as the fast model, all exactly. Each ran twice: with weights as the DRAM "
            "of the case sends them, and with a burst a cycle.",
            "",
            "| array | FIFO tiles | accumulator rows | burst bits | layers | with several folds "
            "| chunks | blocks | slower than with a burst a cycle | cycles |",
            "| --- | " + "---: | " * 9,
            *rows,
            "",
            "Covered: the pipelined schedule with stationary weights (fetch, shift, stream, "
            "drain), FIFO depth and stalls, chunks, folds, blocks, weights of 1 to 8 bits by "
            "column, whole tiles, metadata, fractional DRAM rates up to one burst a cycle. Not "
            "in RTL, and resting on the reference alone: the DRAM channel of activations and "
            "the turns of a shared one, several layers in a row (the next one's first tile is "
            "fetched early), groups side by side, operands cut in slices and the serial operand "
            "widths, stationary outputs and inputs, SCALE-Sim's serial schedule, the vector unit, "
            "bursts faster than the clock, and the row-stationary array.",
            "",
            "`python -m hwsim.rtl.verilog ROWS COLS -o FILE` writes it as Verilog.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=40, help="layers for each array")
    write_atomically("reports/rtl.md", report(parser.parse_args().cases))


if __name__ == "__main__":
    main()
