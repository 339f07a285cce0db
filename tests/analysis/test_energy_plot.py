"""Energy figures: what is stacked is what was simulated."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import residual
from matplotlib.figure import Figure

from analysis.energy_plot import draw_energy, energy_table, layer_energy, network_energy
from hwsim import BitWidths, load_accelerator, simulate


@pytest.mark.parametrize("name", ["tpu_v1", "eyeriss_v1"])
@pytest.mark.parametrize("by", ["memory", "data type"])
def test_bars_add_up_to_the_energy_of_layers_and_networks(name, by):
    stats = simulate(residual(5, 6), load_accelerator(name), BitWidths(4, 8))
    layers = layer_energy(stats, "W4A8", by)
    rows = [layer for layer in stats.layers if layer.kind != "input"]
    assert layers.labels == tuple(layer.name for layer in rows)
    assert layers.total_uj == pytest.approx([layer.energy_pj / 1e6 for layer in rows])
    networks = network_energy([("W4A8", stats)], by)
    assert networks.total_uj == pytest.approx([stats.energy_pj / 1e6])


def test_parts_are_grouped_with_the_largest_first():
    bars = [("a", {("buffer", "ifmap"): 1e6, ("dram", "ifmap"): 2e6, ("dram", "weights"): 4e6})]
    by_memory = energy_table("t", bars, "memory").parts
    assert {name: pj.tolist() for name, pj in by_memory.items()} == {"dram": [6], "buffer": [1]}
    assert list(by_memory) == ["dram", "buffer"]
    assert list(energy_table("t", bars, "data type").parts) == ["weights", "ifmap"]
    with pytest.raises(ValueError, match="grouped by memory or data type, got 'layer'"):
        energy_table("t", bars, "layer")


def test_the_drawn_stacks_are_as_high_as_the_table():
    stats = simulate(residual(5, 6), load_accelerator("tpu_v1"), BitWidths(4, 8))
    table = layer_energy(stats, "W4A8", "memory")
    ax = Figure().add_subplot()
    draw_energy(ax, table)
    tops = np.zeros(len(table.labels))
    for bar in ax.patches:
        column = round(bar.get_x() + bar.get_width() / 2)
        tops[column] = max(tops[column], bar.get_y() + bar.get_height())
    assert tops == pytest.approx(table.total_uj)
    assert ax.get_ylabel() == "energy [µJ]"
