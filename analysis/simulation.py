"""The folder that `chipfit simulate --plots` leaves: where time and energy go, and what memories
hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from analysis.energy_plot import BY, energy_figure, layer_energy
from analysis.manifest import MANIFEST, build_manifest, json_bytes
from analysis.memory_plot import memory_figure, memory_table
from analysis.plots import draw_layer_cycles, layer_dpi, layer_width, render
from analysis.roofline import roofline_figure, roofline_table
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.stats import NetworkStats


def simulation_files(
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    stats: NetworkStats,
    label: str,
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
) -> dict[str, bytes]:
    """{name inside the folder: content}: the layers of the simulation, their cycles, roofline,
    energy by memory and by data type, what every memory has to hold, and the manifest.

    stats: of this graph on this accelerator with these widths, of which label is a short name for
    titles. command, options, inputs: as in `manifest.build_manifest`.
    """
    memory = memory_table(graph, accelerator, bits, stats)
    energy = [layer_energy(stats, label, by) for by in BY]
    title = f"{graph.name} on {accelerator.name}, {label}, batch {stats.batch}"
    layers = stats.to_frame()
    roofline = roofline_table({label: stats}, accelerator)
    cycles = partial(
        draw_layer_cycles,
        frames={title: layers[layers["cycles"] > 0]},
        clock_mhz=accelerator.clock / 1e6,
    )
    files = {
        "layers.csv": layers.to_csv(index=False).encode(),
        "roofline.csv": roofline.to_csv(index=False).encode(),
        "memory.csv": memory.to_csv(index=False).encode(),
    }
    for kind in ("svg", "png"):
        width = layer_width(len(stats.layers))
        files[f"cycles.{kind}"] = render(cycles, width, 4.2, kind, layer_dpi(width))
        files[f"roofline.{kind}"] = roofline_figure(roofline, kind)
        files[f"energy.{kind}"] = energy_figure(energy, width, kind)
        files[f"memory.{kind}"] = memory_figure(memory, f"{title}: what memories hold", kind)
    manifest = build_manifest(command, options, inputs, files, {})
    files[MANIFEST] = json_bytes(manifest)
    return files
