"""`chipfit simulate`: one network on one accelerator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import (
    BITS_HELP,
    MODEL_HELP,
    add_image_size,
    add_json,
    batch_size,
    output_folder,
)

if TYPE_CHECKING:
    from hwsim.accelerator import Accelerator
    from hwsim.bits import BitWidths
    from hwsim.graph import LayerGraph
    from hwsim.stats import NetworkStats


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help=f"{MODEL_HELP}, alexnet_paper or vgg16_paper")
    parser.add_argument(
        "--on", default="tpu_v1", metavar="ACCEL", help="preset or .toml (default tpu_v1)"
    )
    parser.add_argument("--bits", default="8", metavar="B", help=f"{BITS_HELP} (default 8)")
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--mapping", metavar="FILE",
                        help="mappings of a row-stationary array: a preset or a .toml")  # fmt: skip
    parser.add_argument("--plots", type=output_folder, metavar="DIR",
                        help="write figures and tables of cycles, roofline, energy and of what "
                        "memories hold to a folder")  # fmt: skip
    add_image_size(parser)
    add_json(parser)


def run(options: Namespace) -> None:
    from analysis.commands.common import emit
    from analysis.sources import load_graph
    from analysis.summary import columns
    from hwsim.accelerator import load_accelerator
    from hwsim.bits import BitWidths
    from hwsim.simulator import simulate as run_simulation

    if options.plots is not None:
        from analysis.run import check_folder

        check_folder(options.plots)
    accelerator = load_accelerator(options.on)
    bits = BitWidths.parse(options.bits)
    graph = load_graph(options.model, options.image_size)
    mappings = None
    if options.mapping is not None:
        from hwsim.row_stationary import load_mappings

        mappings = load_mappings(options.mapping)
    stats = run_simulation(graph, accelerator, bits, options.batch, mappings)
    rows = [["layer", "kind", "cycles", "stall", "util %", "DRAM kbit", "energy uJ", "fits"]]
    for layer in stats.layers:
        rows.append(
            [
                layer.name,
                layer.kind,
                f"{layer.cycles:,}",
                f"{layer.stall_cycles:,}",
                f"{100 * layer.macs / (stats.pes * layer.cycles) if layer.cycles else 0:.1f}",
                f"{layer.dram_bits / 1e3:,.1f}",
                f"{layer.energy_pj / 1e6:,.2f}",
                "yes" if layer.fits_on_chip else "no",
            ]
        )
    total = (
        f"{graph.name} on {accelerator.name}, bits {options.bits}, batch {options.batch}: "
        f"{stats.cycles:,} cycles ({1e3 * stats.seconds:.4g} ms), {stats.stall_cycles:,} of them "
        f"waiting for DRAM; {stats.dram_bits / 8e6:.2f} MB over DRAM; "
        f"{stats.energy_pj / 1e9:.3g} mJ; utilisation {100 * stats.utilisation:.1f} %"
    )
    lines = [*columns(rows), total]
    if options.plots is not None:
        lines.append(_plot(options, graph, accelerator, bits, stats))
    emit(options.json, stats.to_json(options.bits), lines)


def _plot(
    options: Namespace,
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    stats: NetworkStats,
) -> str:
    """Write the figures of a simulation to the folder of --plots; returns the line that says so."""

    from analysis.run import write_folder
    from analysis.simulation import simulation_files

    from_file = Path(options.bits).is_file()
    label = Path(options.bits).stem if from_file else options.bits
    recorded = {
        "model": options.model,
        "accelerator": options.on,
        "bits": options.bits,
        "batch": options.batch,
    }
    named = (options.bits if from_file else None, options.model, options.on, options.mapping)
    files = {name: name for name in named if name is not None and Path(name).is_file()}
    made = simulation_files(graph, accelerator, bits, stats, label, options.argv, recorded, files)
    write_folder(options.plots, made)
    names = ", ".join(sorted(name for name in made if name.endswith(".png")))
    return f"{options.plots}/{names}, and their tables"
