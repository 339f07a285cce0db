"""One network on several chips at several widths: totals, energy by part, and memories, in words
and figures.

`python -m analysis.reports.memory_and_energy resnet50 --bits W8A8 4bit=ALLOCATION.json` writes
reports/memory_and_energy.md and its figures. `chipfit simulate --plots` makes the same figures of
one simulation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.energy_plot import BY, energy_figure, energy_table, layer_energy, network_energy
from analysis.memory_plot import memory_figure, memory_table
from analysis.plots import layer_width
from analysis.sources import load_graph
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats

FIGURES = "figures"  # folder beside the report
KIB = 8 << 10


@dataclass(frozen=True)
class Case:
    """label: of the widths, in file names and titles."""

    label: str
    bits: BitWidths
    stats: NetworkStats


def parse_widths(text: str) -> tuple[str, BitWidths]:
    """'W8A8', or 'LABEL=FILE.json'. Raises ValueError as `BitWidths.parse` does."""
    label, found, spec = text.partition("=")
    return (label, BitWidths.parse(spec)) if found else (text, BitWidths.parse(text))


def total_lines(graph: LayerGraph, cases: Sequence[Case]) -> list[str]:
    """A row a simulation: time, traffic, energy, and how many layers keep their result on chip."""
    lines = [
        "| accelerator | widths | bits a weight | cycles | waiting for DRAM | ms | DRAM MB | mJ "
        "| results that stay on chip | layers that fit |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in cases:
        stats = case.stats
        layers = [layer for layer in stats.layers if layer.kind != "input"]
        kept = sum(int(layer.detail.get("ofmap_kept", 0)) for layer in layers)
        fits = sum(layer.fits_on_chip for layer in layers)
        mean = case.bits.average_weight_bits(graph)
        lines.append(
            f"| {stats.accelerator} | {case.label} | {mean:.2f} | {stats.cycles:,} "
            f"| {stats.stall_cycles:,} | {1e3 * stats.seconds:.4g} | {stats.dram_bits / 8e6:.2f} "
            f"| {stats.energy_pj / 1e9:.2f} | {kept} of {len(layers)} | {fits} of {len(layers)} |"
        )
    return lines


def energy_lines(cases: Sequence[Case], by: str) -> list[str]:
    """A row a simulation: energy of each part in mJ, with its share."""
    tables = [energy_table("", [("", c.stats.energy_parts)], by) for c in cases]
    lines = []
    for case, table in zip(cases, tables, strict=True):
        total = float(table.total_uj[0])
        parts = ", ".join(
            f"{name} {uj[0] / 1e3:.2f} ({100 * uj[0] / total:.0f} %)"
            for name, uj in table.parts.items()
        )
        lines.append(f"| {case.stats.accelerator} | {case.label} | {total / 1e3:.2f} | {parts} |")
    return [f"| accelerator | widths | mJ | by {by} |", "| --- | --- | ---: | --- |", *lines]


def memory_lines(cases: Sequence[Case]) -> list[str]:
    """A row a memory and simulation: the most that any layer needs, and how many need too much."""
    lines = [
        "| accelerator | memory | KiB | widths | most that a layer needs, KiB | at "
        "| layers that need more than there is |",
        "| --- | --- | ---: | --- | ---: | --- | ---: |",
    ]
    for case in sorted(cases, key=lambda c: c.stats.accelerator):
        layers = case.stats.layers
        for name, available in layers[0].available_bits.items():
            need = [layer.required_bits[name] for layer in layers]
            most = need.index(max(need))
            over = sum(bits > available for bits in need)
            lines.append(
                f"| {case.stats.accelerator} | {name} | {available / KIB:,.0f} | {case.label} "
                f"| {need[most] / KIB:,.1f} | {layers[most].name} | {over} of {len(layers)} |"
            )
    return lines


def report(
    graph: LayerGraph, names: Sequence[str], widths: Sequence[tuple[str, BitWidths]], command: str
) -> dict[str, bytes]:
    """{path beside the report: content} of the figures, and the text under ''."""
    files: dict[str, bytes] = {}
    cases, shown = [], []
    for name in names:
        accelerator = load_accelerator(name)
        for label, bits in widths:
            stats = simulate(graph, accelerator, bits)
            cases.append(Case(label, bits, stats))
            title = f"{graph.name} on {stats.accelerator}, {label}"
            shown += ["", f"## {title}", ""]
            tables = [layer_energy(stats, label, by) for by in BY]
            memory = memory_table(graph, accelerator, bits, stats)
            for what, figure in (
                ("energy", energy_figure(tables, layer_width(len(stats.layers)), "png")),
                ("memory", memory_figure(memory, title, "png")),
            ):
                path = f"{FIGURES}/{graph.name}_{stats.accelerator}_{label}_{what}.png"
                files[path] = figure
                shown.append(f"![{what} of every layer]({path})")
    pairs = [(case.label, case.stats) for case in cases]
    path = f"{FIGURES}/{graph.name}_energy.png"
    width = max(6.0, 2.0 + 1.4 * len(cases))
    files[path] = energy_figure([network_energy(pairs, by) for by in BY], width, "png")
    text = [
        f"# Energy and memory of {graph.name}",
        "",
        f"Made by `{command}`. Batch 1, and an image of",
        f"{' x '.join(map(str, graph.layers[0].output.shape[1:]))}. An allocation gives every "
        "channel a width of its own.",
        "",
        *total_lines(graph, cases),
        "",
        f"![energy of the network]({path})",
        "",
        "Energies of the two chips are counts times tables of different sources and technologies",
        "(see their files): compare widths on one chip, not the chips.",
        "",
        *energy_lines(cases, "memory"),
        "",
        *energy_lines(cases, "data type"),
        "",
        "What a memory needs: whole operands where it is to hold a layer or keeps tensors, tiles",
        "elsewhere. A layer that needs more than there is runs in tiles, and its traffic is",
        "counted.",
        "",
        *memory_lines(cases),
        *shown,
        "",
    ]
    return {**files, "": "\n".join(text).encode()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="network: a name, or a file that chipfit simulate takes")
    parser.add_argument("--on", nargs="+", default=["tpu_v1", "eyeriss_v1"], metavar="ACCEL")
    parser.add_argument("--bits", nargs="+", default=["W8A8"], metavar="B",
                        help="a pair such as W8A8, or LABEL=ALLOCATION.json")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/memory_and_energy.md"))
    options = parser.parse_args(arguments)
    try:
        widths = [parse_widths(text) for text in options.bits]
        named = [t if "=" not in t else f"{t.split('=')[0]}={Path(t).name}" for t in options.bits]
        command = (
            f"python -m analysis.reports.memory_and_energy {options.model} --bits {' '.join(named)}"
        )
        files = report(load_graph(options.model), options.on, widths, command)
    except ValueError as error:
        parser.error(str(error))
    for path, content in files.items():
        write_atomically(options.output.parent / path if path else options.output, content)


if __name__ == "__main__":
    main()
