"""An accelerator of one's own, from a TOML file: what narrower widths buy there.

    python -m examples.own_accelerator

`chipfit accelerators tpu_v1 --toml > mine.toml` is another way to begin.
"""

from __future__ import annotations

from pathlib import Path

from analysis import load_graph
from hwsim import BitWidths, load_accelerator, simulate

FILE = Path(__file__).with_name("small_array.toml")


def main() -> None:
    graph = load_graph("mobilenet_v2")  # shapes only: no weights are needed
    for accelerator in (load_accelerator(FILE), load_accelerator("tpu_v1")):
        baseline = simulate(graph, accelerator, BitWidths(8, 8))
        print(f"{graph.name} on {accelerator.name}: {accelerator.description}")
        for weights, activations in ((8, 8), (4, 8), (4, 4)):
            stats = simulate(graph, accelerator, BitWidths(weights, activations))
            print(
                f"  W{weights}A{activations}: {1e3 * stats.seconds:6.2f} ms, "
                f"{baseline.cycles / stats.cycles:.2f}x over W8A8; "
                f"{stats.dram_bits / 8e6:6.2f} MB over DRAM, {stats.energy_pj / 1e9:5.2f} mJ; "
                f"waits {100 * stats.stall_cycles / stats.cycles:2.0f} % of the time"
            )
        slowest = max(baseline.layers, key=lambda layer: layer.stall_cycles)
        print(f"  waits longest, at W8A8, for {slowest.name}: {slowest.stall_cycles:,} cycles")


if __name__ == "__main__":
    main()
