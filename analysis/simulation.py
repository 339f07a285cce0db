"""The folder that `chipfit simulate --plots` leaves: where the energy goes, what memories hold."""

from __future__ import annotations

import json
from collections.abc import Mapping

from analysis.energy_plot import BY, energy_figure, layer_energy
from analysis.manifest import build_manifest
from analysis.memory_plot import memory_figure, memory_table
from analysis.plots import layer_width
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
    """{name inside the folder: content}: the layers of the simulation, energy by memory and by
    data type, what every memory has to hold, and the manifest.

    stats: of this graph on this accelerator with these widths, of which label is a short name for
    titles. command, options, inputs: as in `manifest.build_manifest`.
    """
    memory = memory_table(graph, accelerator, bits, stats)
    energy = [layer_energy(stats, label, by) for by in BY]
    title = f"{graph.name} on {accelerator.name}, {label}, batch {stats.batch}: what memories hold"
    files = {
        "layers.csv": stats.to_frame().to_csv(index=False).encode(),
        "memory.csv": memory.to_csv(index=False).encode(),
    }
    for kind in ("svg", "png"):
        width = layer_width(len(stats.layers))
        files[f"energy.{kind}"] = energy_figure(energy, width, kind)
        files[f"memory.{kind}"] = memory_figure(memory, title, kind)
    manifest = build_manifest(command, options, inputs, files, {})
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    return files
