"""Where the energy goes: by memory and by data type, layer by layer and for whole networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, layer_dpi, render
from hwsim.energy import Part
from hwsim.stats import NetworkStats

PJ_PER_UJ = 1e6
MOST_NAMES = 120  # of bars that are still readable, on the widest figure
# Okabe and Ito's palette, then darker ones of other hues
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999",
    "#332288", "#882255", "#44AA99", "#661100",
)  # fmt: skip
_DATA_TYPES = {  # of the same colour in every figure, and in those of memories
    "weights": ORANGE, "ifmap": BLUE, "ofmap": GREEN, "psum": SKY, "mac": PURPLE, "operation": RED,
}  # fmt: skip
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
    colours = _colours(table)
    for name, energy in table.parts.items():
        ax.bar(x, energy, bottom=below, width=0.85, label=name, color=colours[name], linewidth=0)
        below += energy
    every = -(-len(x) // MOST_NAMES)
    many = len(x) > 8
    ax.set_xticks(
        x[::every],
        table.labels[::every],
        rotation=90 if many else 0,
        fontsize=(6 if len(x) > 90 else 7) if many else 9,
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


def _colours(table: EnergyTable) -> dict[str, str]:
    """Of every part: by its name and not by its size, so that figures of one chip agree."""
    if table.by == "data type" and table.parts.keys() <= _DATA_TYPES.keys():
        return _DATA_TYPES
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(table.parts))}


def energy_figure(tables: Sequence[EnergyTable], width: float, kind: str = "svg") -> bytes:
    """A row for each table, `width` inches wide, as SVG or PNG; the same input, the same bytes.

    tables: of the same bars, which are named below the last row.
    """

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(tables), 1, sharex=True, squeeze=False)[:, 0]
        for ax, table in zip(panels, tables, strict=True):
            draw_energy(ax, table)

    return render(draw, width, 1.2 + 2.4 * len(tables), kind, layer_dpi(width))
