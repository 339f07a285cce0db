"""A buffer study: how large the TPU's activation buffer must be, at several widths.

    python -m examples.buffer_study

`chipfit explore` does the same for any fields of an accelerator, with figures.
"""

from __future__ import annotations

from dataclasses import replace

from analysis import load_graph
from hwsim import Accelerator, BitWidths, load_accelerator, simulate_many

KIB = 8 << 10  # bits
SIZES_KIB = (512, 1024, 2048, 4096, 8192, 16384)
BATCH = 4


def with_buffer(accelerator: Accelerator, name: str, capacity_bits: int) -> Accelerator:
    """The same chip with another capacity of one memory."""
    memories = (
        replace(memory, capacity=capacity_bits) if memory.name == name else memory
        for memory in accelerator.memory
    )
    return replace(accelerator, memory=tuple(memories))


def main() -> None:
    graph, accelerator = load_graph("resnet50"), load_accelerator("tpu_v1")
    chips = [with_buffer(accelerator, "unified_buffer", size * KIB) for size in SIZES_KIB]
    print(f"{graph.name} on {accelerator.name}, batch {BATCH}, by size of its unified buffer")
    print("        " + "".join(f"{size:>9,} KiB" for size in SIZES_KIB))
    for bits in (BitWidths(8, 8), BitWidths(4, 8), BitWidths(4, 4)):
        found = simulate_many(graph, chips, bits, BATCH)
        label = f"W{bits.weights}A{bits.activations}"
        print(f"{label}, ms" + "".join(f"{1e3 * s:13.2f}" for s in found.seconds))
        dram_bits = found.dram_read_bits + found.dram_write_bits
        print("  MB    " + "".join(f"{b / 8e6:13.2f}" for b in dram_bits))
        needed = int(found.required_bits["unified_buffer"].max())
        print(f"  every layer's tensors fit from {needed / KIB:,.0f} KiB on")


if __name__ == "__main__":
    main()
