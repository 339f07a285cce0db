"""Where the energy goes: by memory and by data type, layer by layer and for whole networks.

`python -m analysis.energy_plot resnet50 --on tpu_v1 eyeriss_v1 --bits 8 W4A8 -o FOLDER` writes a
figure of every simulation's layers and one of all networks side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import layer_width, render
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.energy import Part
from hwsim.files import write_atomically
from hwsim.simulate import simulate
from hwsim.stats import NetworkStats

PJ_PER_UJ = 1e6
MOST_NAMES = 120  # of bars that are still readable, on the widest figure
# neighbours in a bar differ: Okabe and Ito's palette, then darker ones of other hues
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999",
    "#332288", "#882255", "#44AA99", "#661100",
)  # fmt: skip
BY: dict[str, Callable[[Part], str]] = {
    "memory": lambda part: part[0],
    "data type": lambda part: part[1],
}


@dataclass(frozen=True)
class EnergyTable:
    """Energy in microjoule. labels: of the bars; parts: {name: (bars,) energy}, stacked."""

    title: str
    by: str
    labels: tuple[str, ...]
    parts: Mapping[str, np.ndarray]

    @property
    def total_uj(self) -> np.ndarray:
        return sum(self.parts.values(), np.zeros(len(self.labels)))


def energy_table(
    title: str, bars: Sequence[tuple[str, Mapping[Part, float]]], by: str
) -> EnergyTable:
    """Bars (label, {(place, what): pJ}) grouped by `memory` or by `data type`, largest part first.

    Raises ValueError for another grouping.
    """
    if by not in BY:
        raise ValueError(f"energy is grouped by {' or '.join(BY)}, got {by!r}")
    found: dict[str, np.ndarray] = {}
    for i, (_, parts) in enumerate(bars):
        for part, pj in parts.items():
            found.setdefault(BY[by](part), np.zeros(len(bars)))[i] += pj / PJ_PER_UJ
    largest = sorted(found, key=lambda name: (-found[name].sum(), name))
    shown = {name: found[name] for name in largest if found[name].any()}
    return EnergyTable(title, by, tuple(label for label, _ in bars), shown)


def layer_energy(stats: NetworkStats, label: str, by: str) -> EnergyTable:
    """A bar for each layer of one simulation."""
    bars = [(layer.name, layer.energy_parts) for layer in stats.layers if layer.kind != "input"]
    total = stats.energy_pj / PJ_PER_UJ / 1000
    title = f"{stats.network} on {stats.accelerator}, {label}, batch {stats.batch}: {total:.3g} mJ"
    return energy_table(title, bars, by)


def network_energy(simulations: Sequence[tuple[str, NetworkStats]], by: str) -> EnergyTable:
    """A bar for each simulation, (label, statistics)."""
    bars = [(f"{s.network}\n{s.accelerator}\n{label}", s.energy_parts) for label, s in simulations]
    return energy_table("Energy of one batch", bars, by)


def draw_energy(ax: Axes, table: EnergyTable) -> None:
    """Stacked bars, with the legend beside them. Of many bars only every few are named."""
    x, below = np.arange(len(table.labels)), np.zeros(len(table.labels))
    for colour, (name, energy) in zip(_colours(len(table.parts)), table.parts.items(), strict=True):
        ax.bar(x, energy, bottom=below, width=0.85, label=name, color=colour, linewidth=0)
        below += energy
    every = -(-len(x) // MOST_NAMES)
    many = len(x) > 8
    ax.set_xticks(
        x[::every],
        table.labels[::every],
        rotation=90 if many else 0,
        fontsize=6 if many else 9,
    )
    ax.set_xlim(-0.7, len(x) - 0.3)
    ax.set_ylabel("energy [µJ]")
    ax.set_title(f"{table.title}, by {table.by}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=False, axis="x")
    ax.legend(
        fontsize=8, frameon=False, title=table.by, title_fontsize=8, alignment="left",
        loc="upper left", bbox_to_anchor=(1, 1), reverse=True,
    )  # fmt: skip


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def energy_figure(tables: Sequence[EnergyTable], width: float, kind: str = "svg") -> bytes:
    """A row for each table, `width` inches wide, as SVG or PNG; the same input, the same bytes."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
        for ax, table in zip(panels, tables, strict=True):
            draw_energy(ax, table)

    return render(draw, width, 3.6 * len(tables), kind)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="networks of torchvision")
    parser.add_argument("--on", nargs="+", default=["tpu_v1", "eyeriss_v1"])
    parser.add_argument("--bits", nargs="+", default=["W8A8", "W4A8"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the figures")
    options = parser.parse_args(arguments)
    from hwsim.frontends.models import from_name

    simulations = []
    for model in options.models:
        graph = from_name(model)
        for name in options.on:
            for bits in options.bits:
                stats = simulate(
                    graph, load_accelerator(name), BitWidths.parse(bits), options.batch
                )
                simulations.append((bits, stats))
                tables = [layer_energy(stats, bits, by) for by in BY]
                path = options.output / f"energy_{model}_{stats.accelerator}_{bits}.png"
                figure = energy_figure(tables, layer_width(len(stats.layers)), "png")
                write_atomically(path, figure)
    tables = [network_energy(simulations, by) for by in BY]
    width = max(6.0, 2.0 + 1.4 * len(simulations))
    write_atomically(options.output / "energy_networks.png", energy_figure(tables, width, "png"))


if __name__ == "__main__":
    main()
