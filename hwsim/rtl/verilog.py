"""The array as Verilog.

python -m hwsim.rtl.verilog ROWS COLS -o FILE [--fifo-tiles 4] [--chunk-rows 16] [--burst-bits 64]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amaranth.back import verilog

from hwsim.files import write_atomically
from hwsim.rtl.machine import WeightStationary


def to_verilog(rtl: WeightStationary) -> str:
    """Verilog of the array as module `weight_stationary`; clock `clk`, synchronous reset `rst`."""
    return verilog.convert(rtl, name="weight_stationary", emit_src=False)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hwsim.rtl.verilog", description=__doc__)
    for name, what in (("rows", "of PEs"), ("cols", "of PEs")):
        parser.add_argument(name, type=int, help=what)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--fifo-tiles", type=int, default=4, help="weight tiles (default 4)")
    parser.add_argument("--chunk-rows", type=int, default=16, help="of an accumulator")
    parser.add_argument("--burst-bits", type=int, default=64, help="of the weights' DRAM")
    o = parser.parse_args(argv)
    for name in ("rows", "cols", "fifo_tiles", "chunk_rows", "burst_bits"):
        if getattr(o, name) < 1:
            parser.error(f"{name} must be at least 1, got {getattr(o, name)}")
    rtl = WeightStationary(o.rows, o.cols, o.fifo_tiles, o.chunk_rows, o.burst_bits)
    write_atomically(o.output, to_verilog(rtl).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
