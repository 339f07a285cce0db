"""Eyeriss v1 against the measured chip.

`python -m analysis.reports.eyeriss_validation` writes the report.

Measurements: Chen, Krishna, Emer, Sze, IEEE J. Solid-State Circuits 52(1), 2017, Table V (AlexNet,
batch 4) and Table VI (VGG-16, batch 3), both at 200 MHz core and 60 MHz link. Table VI was read
from the transcription in github.com/cucapra/fodlam, data/eyeriss-vgg16.csv, with the readings
mended that disagree with the table's own totals (see `VGG16_CHIP`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray, load_accelerator
from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import LayerGraph
from hwsim.row_stationary import load_mappings, simulate_network
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.operands import feature_maps
from hwsim.row_stationary.search import Found
from hwsim.row_stationary.task import layer_task, width_classes
from hwsim.stats import LayerStats, NetworkStats

REPORT = Path("reports/eyeriss_validation.md")
NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")
EVERY = 20_000  # more mappings than any layer has with a given q * r and number of PEs


@dataclass(frozen=True)
class Measured:
    """One row of Table V or VI, for the whole batch. zeros: of the ifmap."""

    layer: str
    total_ms: float
    processing_ms: float
    active_pes: int
    zeros: float
    buffer_mb: float
    dram_mb: float
    q_times_r: int = 0


ALEXNET_CHIP = (
    Measured("conv1", 20.9, 16.5, 154, 0.0001, 18.5, 5.0),
    Measured("conv2", 41.9, 39.2, 135, 0.387, 77.6, 4.0),
    Measured("conv3", 23.6, 21.8, 156, 0.725, 50.2, 3.0),
    Measured("conv4", 18.4, 16.0, 156, 0.793, 37.4, 2.1),
    Measured("conv5", 10.5, 10.0, 156, 0.776, 24.9, 1.3),
)
ALEXNET_PASSES = (288, 1536, 384, 384, 256)  # from Table III
# Mended readings: active PEs of CONV5-1 168 (the table says 100 %), not 163; buffer of CONV2-2
# 2402.8, not 2402.3, which the printed sum of 11035.8 needs; DRAM of CONV1-1 15.4, not 154; DRAM
# of CONV4-2 28.6, not 20.6: with it the column sums to the printed 321.1 but for rounding.
# q * r: implied by the buffer traffic.
VGG16_CHIP = (
    Measured("features.0", 76.2, 38.0, 156, 0.16, 112.6, 15.4, 1),
    Measured("features.2", 910.3, 810.6, 156, 0.477, 2402.8, 54.0, 1),
    Measured("features.5", 470.3, 405.3, 156, 0.248, 1201.4, 33.4, 1),
    Measured("features.7", 894.3, 810.8, 156, 0.387, 2402.8, 48.5, 1),
    Measured("features.10", 241.1, 204.0, 156, 0.397, 607.4, 20.2, 2),
    Measured("features.12", 460.9, 408.1, 156, 0.581, 1214.8, 32.2, 2),
    Measured("features.14", 457.7, 408.1, 156, 0.587, 1214.8, 30.8, 2),
    Measured("features.17", 135.8, 105.1, 168, 0.643, 321.8, 17.8, 4),
    Measured("features.19", 254.8, 210.0, 168, 0.747, 643.7, 28.6, 4),
    Measured("features.21", 246.3, 210.0, 168, 0.854, 643.7, 22.8, 4),
    Measured("features.24", 54.3, 48.3, 168, 0.794, 90.0, 6.3, 8),
    Measured("features.26", 53.7, 48.5, 168, 0.874, 90.0, 5.7, 8),
    Measured("features.28", 53.7, 48.5, 168, 0.885, 90.0, 5.6, 8),
)


def published_zeros(graph: LayerGraph, chip: Sequence[Measured]) -> dict[str, float]:
    """Zero fraction of every tensor between the measured layers.

    A layer's ifmap has the published fraction. What a pooling layer reads is taken to have the
    fraction of what it writes, and the last ofmap that of the last ifmap (both unpublished).
    """
    zeros = {graph[row.layer].inputs[0].name: row.zeros for row in chip}
    zeros[chip[-1].layer] = chip[-1].zeros
    for layer in graph:
        if layer.kind == "pool" and layer.name in zeros:
            zeros[layer.inputs[0].name] = zeros[layer.name]
    return zeros


def chip_run(
    graph: LayerGraph, chip: Sequence[Measured], batch: int, mappings: dict[str, RsMapping] | None
) -> NetworkStats:
    """The measured network at 16 bits with published zeros; without mappings, the best ones."""
    accelerator = load_accelerator("eyeriss_v1")
    zeros = published_zeros(graph, chip)
    return simulate_network(graph, accelerator, BitWidths(16, 16), batch, mappings, zeros)


def likely_mappings(graph: LayerGraph, fewest_cycles: bool = False) -> dict[str, Found]:
    """VGG-16, batch 3: of all mappings with the known q * r and active PEs the best of each layer.

    By energy, which the chip's mapper minimises, or by cycles.
    """
    accelerator, bits = load_accelerator("eyeriss_v1"), BitWidths(16, 16)
    maps = feature_maps(graph, accelerator, bits, published_zeros(graph, VGG16_CHIP))
    best = {}
    for row in VGG16_CHIP:
        task = layer_task(graph[row.layer], accelerator, bits, 3, maps)
        set_pes = row.active_pes // task.shape.kernel[0]
        found = task.search(1 if fewest_cycles else EVERY, row.q_times_r, set_pes)
        best[row.layer] = min(found, key=lambda item: item.energy_pj)
    return best


def megabytes(bits: float) -> float:
    return bits / 8e6


def milliseconds(cycles: int, stats: NetworkStats) -> float:
    return cycles / stats.clock_hz * 1e3


def figures(stats: NetworkStats, layer: str) -> dict[str, float]:
    """A layer in the units of the tables."""
    row: LayerStats = next(item for item in stats.layers if item.name == layer)
    detail = row.detail
    buffer_bits = float(detail["buffer_ifmap_bits"]) + float(detail["buffer_psum_bits"])
    return {
        "processing": milliseconds(int(detail["processing_cycles"]), stats),
        "total": milliseconds(row.cycles, stats),
        "buffer": megabytes(buffer_bits),
        "dram": megabytes(row.dram_bits),
        "pes": float(detail["active_pes"]),
        "passes": float(detail["passes"]),
    }


def _against(predicted: float, measured: float) -> str:
    return f"{predicted:.1f} / {measured:.1f} ({predicted / measured - 1:+.1%})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def comparison(stats: NetworkStats, chip: Sequence[Measured]) -> str:
    """Markdown: predicted / measured (deviation) for every layer and in total."""
    rows, sums = [], np.zeros((2, 4))
    for row in chip:
        got = figures(stats, row.layer)
        pairs = [
            (got["processing"], row.processing_ms),
            (got["total"], row.total_ms),
            (got["buffer"], row.buffer_mb),
            (got["dram"], row.dram_mb),
        ]
        sums += np.array(pairs).T
        layer = next(item for item in stats.layers if item.name == row.layer)
        detail = [str(layer.detail["mapping"]), str(layer.detail["bound_by"])]
        pes = f"{got['pes']:.0f} / {row.active_pes}"
        rows.append([row.layer, *detail, pes, *(_against(*pair) for pair in pairs)])
    rows.append(["total", "", "", "", *(_against(*pair) for pair in sums.T.tolist())])
    header = ["layer", "mapping", "bound by", "PEs", "processing ms", "total ms", "buffer MB",
              "DRAM MB"]  # fmt: skip
    return _table(header, rows)


def seven_or_eight(graph: LayerGraph) -> str:
    """What q * r of 7 and of 8 predict for the first layer of block 5, where 7-8 was implied."""
    accelerator, bits = load_accelerator("eyeriss_v1"), BitWidths(16, 16)
    maps = feature_maps(graph, accelerator, bits, published_zeros(graph, VGG16_CHIP))
    row = VGG16_CHIP[10]
    task = layer_task(graph[row.layer], accelerator, bits, 3, maps)
    said = []
    for q_times_r in (7, 8):
        found = task.search(EVERY, q_times_r, row.active_pes // task.shape.kernel[0])
        fastest = min(item.timing.processing_cycles for item in found)
        least = min(item.timing.dram_bits for item in found)
        said.append(
            f"with {q_times_r} at least {fastest / accelerator.clock * 1e3:.1f} ms processing and "
            f"{megabytes(least):.1f} MB of DRAM traffic for {row.layer}"
        )
    return f"{'; '.join(said)}; measured {row.processing_ms} ms and {row.dram_mb} MB: it is 8"


def buffer_remark(stats: NetworkStats) -> str:
    """Why the measured buffer traffic of the early VGG-16 layers cannot be read as 10^6 bytes."""
    row = VGG16_CHIP[1]
    layer = next(item for item in stats.layers if item.name == row.layer)
    psums = megabytes(float(layer.detail["buffer_psum_bits"]))
    deviations = [
        abs(figures(stats, other.layer)["buffer"] / (other.buffer_mb * 2**20 / 1e6) - 1)
        for other in VGG16_CHIP[:10]
    ]
    return (
        f"with q * r = 1 the psums of {row.layer} alone make {psums:.0f} MB of buffer traffic, "
        f"more than the {row.buffer_mb} MB measured. If the table's MB were 2^20 bytes, blocks 1 "
        f"to 4 would lie within {max(deviations):.1%}; else some psum traffic is not counted."
    )


def packed(accelerator: Accelerator, grouped: bool = True) -> Accelerator:
    """The same chip with narrow words packed in scratch pads, buffer and network."""
    assert isinstance(accelerator.array, RowStationaryArray)
    array = replace(accelerator.array, pack_words=True, group_channels=grouped)
    return replace(accelerator, array=array)


def binding(stats: NetworkStats) -> str:
    """What binds, by share of the cycles."""
    cycles: dict[str, int] = {}
    for layer in stats.layers:
        name = str(layer.detail["bound_by"])
        cycles[name] = cycles.get(name, 0) + layer.cycles
    shares = sorted(cycles.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share / stats.cycles:.0%}" for name, share in shares
                     if share >= 0.05 * stats.cycles)  # fmt: skip


def widths_table(graphs: dict[str, LayerGraph], accelerator: Accelerator) -> str:
    """Markdown: seconds and speedup over 16 bits on the same array, batch 1."""
    rows = []
    for name, graph in graphs.items():
        base = simulate_network(graph, accelerator, BitWidths(16, 16))
        for bits in (16, 8, 4, 2):
            stats = simulate_network(graph, accelerator, BitWidths(bits, bits))
            speedup = f"{base.cycles / stats.cycles:.2f}"
            rows.append([name, str(bits), f"{stats.seconds * 1e3:.1f}", speedup, binding(stats)])
    return _table(["network", "bits", "ms", "speedup over 16", "bound by (share of cycles)"], rows)


def grouping_table(graph: LayerGraph, layers: Sequence[str], seed: int = 0) -> str:
    """Markdown: cycles of layers whose channels have 2, 4 or 8 bits at random, packed words."""
    rng, rows = np.random.default_rng(seed), []
    plain = load_accelerator("eyeriss_v1")
    for name in layers:
        layer = graph[name]
        bits = BitWidths({name: rng.choice([2, 4, 8], layer.out_channels)}, 8)
        cycles = []
        for accelerator in (packed(plain, grouped=False), packed(plain)):
            maps = feature_maps(graph, accelerator, bits, None)
            task = layer_task(layer, accelerator, bits, 1, maps)
            whole = task.search()[0].timing.cycles
            parts = [part.search()[0].timing.cycles for part in width_classes(task)]
            cycles += [whole, sum(parts)] if parts else [whole]
        given, ordered, apart = cycles
        best = min(ordered, apart)
        rows.append([name, *(f"{c:,}" for c in (given, ordered, apart)), f"{given / best:.2f}"])
    header = ["layer", "as they come", "in order of width", "each width apart", "gain"]
    return _table(header, rows)


def report(command: str) -> str:
    """The whole report as markdown."""
    from hwsim.frontends.models import from_name
    from hwsim.frontends.paper_networks import alexnet_paper

    accelerator = load_accelerator("eyeriss_v1")
    alexnet, vgg16 = alexnet_paper(), from_name("vgg16")
    given = chip_run(alexnet, ALEXNET_CHIP, 4, load_mappings("alexnet_chip"))
    passes = [int(figures(given, row.layer)["passes"]) for row in ALEXNET_CHIP]
    preset = load_mappings("vgg16_chip")
    fewest = {name: item.mapping for name, item in likely_mappings(vgg16, True).items()}
    graphs = {name: from_name(name) for name in NETWORKS}
    sections = [
        "# Eyeriss v1 against the measured chip\n",
        f"Made by `{command}`, chipfit {version('chipfit')}, {date.today().isoformat()}. "
        "Every cell is predicted / measured (deviation). MB are 10^6 bytes. Measurements: Chen, "
        "Krishna, Emer, Sze, IEEE J. Solid-State Circuits 52(1), 2017, Tables V and VI "
        "(200 MHz core, 60 MHz link); Table VI as transcribed in github.com/cucapra/fodlam, "
        "data/eyeriss-vgg16.csv, four readings mended by the table's own totals and percentages. "
        "No constant was fitted: all come from the chip's description.\n",
        "## AlexNet, batch 4, the published mappings\n",
        comparison(given, ALEXNET_CHIP),
        f"Passes {passes}, as Table III implies {list(ALEXNET_PASSES)}. The measured buffer "
        "traffic of CONV3 fits the mapping of CONV4 (q3 r2 t2), not the published one. CONV4 and "
        "CONV5 do the same work a pass but the chip's overhead differs; the model is the same "
        "for both. What is above the MACs and the filter loads is the fill and drain of each "
        "pass: first ifmap window, first MACs, last psums.\n",
        "### The best mappings the search finds for AlexNet, batch 4\n",
        comparison(chip_run(alexnet, ALEXNET_CHIP, 4, None), ALEXNET_CHIP),
        "## VGG-16, batch 3\n",
        "The chip's mapping is not published. The measured buffer traffic implies q * r = 1, 1, "
        f"2, 4, 7 or 8 for blocks 1 to 5 ({seven_or_eight(vgg16)}), and the active PEs are "
        "published. Of all legal mappings with these, `vgg16_chip` holds the one of least energy, "
        "which the chip's own mapper minimises.\n",
        comparison(chip_run(vgg16, VGG16_CHIP, 3, preset), VGG16_CHIP),
        f"Where the chip differs: {buffer_remark(chip_run(vgg16, VGG16_CHIP, 3, preset))} DRAM "
        "traffic of CONV1-2 and of block 4 is that of no mapping shown here. Total latency is "
        "low in the late layers: the chip exposes more than DRAM transfers.\n",
        "### The same, by fewest cycles instead of least energy\n",
        comparison(chip_run(vgg16, VGG16_CHIP, 3, fewest), VGG16_CHIP),
        "### The best mappings the search finds for VGG-16, batch 3\n",
        comparison(chip_run(vgg16, VGG16_CHIP, 3, None), VGG16_CHIP),
        "Small sets with many filter sets side by side let q * r grow, which relieves the psum "
        "port in the early layers. Whether the chip's network can be configured for them is not "
        "published.\n",
        "## Narrower words, batch 1, best mappings\n",
        "Weights and activations have the same width; feature maps are run-length coded with "
        "the stated zero fraction. On the chip as it is only DRAM traffic shrinks:\n",
        widths_table(graphs, accelerator),
        "With narrow words packed in scratch pads, buffer and network (psums stay 16-bit):\n",
        widths_table(graphs, packed(accelerator)),
        "## Channels of like width together\n",
        "Cycles with packed words when each filter has 2, 4 or 8 bits at random, activations 8: "
        "filters of a pass run in step and share the packing of their widest.\n",
        grouping_table(
            graphs["resnet50"],
            [
                "layer1.0.conv2",
                "layer2.0.conv2",
                "layer3.0.conv2",
                "layer4.0.conv2",
                "layer4.0.conv1",
            ],
        ),
    ]
    return "\n".join(sections)


def mapping_file(mappings: dict[str, RsMapping]) -> str:
    """The layers of a mapping file as TOML."""
    lines = []
    for name, mapping in mappings.items():
        values = ", ".join(f"{key} = {value}" for key, value in vars(mapping).items())
        lines.append(f'"{name}" = {{ {values} }}')
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare eyeriss_v1 with the measured chip.")
    parser.add_argument("--mappings", action="store_true", help="print the layers of vgg16_chip")
    parser.add_argument("-o", "--output", default=str(REPORT), help="the report's path")
    options = parser.parse_args(arguments)
    if options.mappings:
        from hwsim.frontends.models import from_name

        found = likely_mappings(from_name("vgg16"))
        print(mapping_file({name: item.mapping for name, item in found.items()}))
        return
    text = report("python -m analysis.reports.eyeriss_validation")
    write_atomically(options.output, text)


if __name__ == "__main__":
    main()
