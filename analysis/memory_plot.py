"""What the memories of a chip have to hold, layer by layer: a table, and its figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, layer_dpi, layer_width, render
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.occupancy import PARTS, occupancy
from hwsim.stats import NetworkStats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(PARTS, (ORANGE, BLUE, GREEN, PURPLE, SKY), strict=True))
_HATCHES = dict(zip(PARTS, ("", "", "//", "..", "xx"), strict=True))
FAR = 4  # capacities beyond so many times the highest bar are left off the axis
_UNITS = (("MiB", 1 << 23), ("KiB", 1 << 13), ("bit", 1))


def memory_table(
    graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, stats: NetworkStats
) -> pd.DataFrame:
    """One row per memory and layer, in execution order: step, layer, memory, required_bits,
    available_bits, required_bits by part, and the names of the tensors that stay.

    stats: of this graph on this accelerator with these widths (see `hwsim.occupancy`).
    """
    import pandas as pd

    return pd.DataFrame([row.to_row() for row in occupancy(graph, accelerator, bits, stats)])


def draw_memory(figure: Figure, table: pd.DataFrame, title: str = "") -> None:
    """Required bits over the layers, stacked by part, one panel a memory, with its capacity.

    table: of `memory_table`. A layer whose bar is above the line is tiled or spills. Memories
    that need nothing at any layer are left out.
    """
    used = table.groupby("memory", sort=False)["required_bits"].max()
    memories = [name for name in used.index if used[name] > 0]
    panels = figure.subplots(max(1, len(memories)), 1, sharex=True, squeeze=False)[:, 0]
    for ax, memory in zip(panels, memories, strict=False):
        _draw_one(ax, table[table["memory"] == memory], memory)
    names = list(table[table["memory"] == table["memory"].iloc[0]]["layer"])
    last = panels[-1]
    size = 8 if len(names) <= 40 else 7 if len(names) <= 90 else 6
    last.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    last.set_xlim(-0.6, len(names) - 0.4)
    if title:
        figure.suptitle(title, fontsize=10)


def _draw_one(ax: Axes, rows: pd.DataFrame, memory: str) -> None:
    capacity = int(rows["available_bits"].max())
    unit, size = next(u for u in _UNITS if capacity >= u[1])
    x, bottom = np.arange(len(rows)), np.zeros(len(rows))
    for part in PARTS:
        bits = rows[f"{part.replace(' ', '_')}_bits"].to_numpy() / size
        if bits.any():
            ax.bar(x, bits, 0.85, bottom, label=part, color=_COLOURS[part], hatch=_HATCHES[part],
                   edgecolor="white", linewidth=0)  # fmt: skip
            bottom += bits
    top, label = bottom.max(), f"capacity, {capacity / size:g} {unit}"
    if capacity / size > FAR * top:  # the bars would be too low to read
        label += ",\nabove the axis"
    else:
        top = max(top, capacity / size)
    ax.axhline(capacity / size, color=RED, lw=1.4, ls="--", label=label)
    over = rows["required_bits"] > rows["available_bits"]
    ax.set_title(f"{memory}: {int(over.sum())} of {len(rows)} layers need more than there is",
                 fontsize=9, loc="left")  # fmt: skip
    ax.set_ylabel(f"required [{unit}]")
    ax.set_ylim(0, 1.12 * top)
    ax.grid(visible=False, axis="x")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def memory_figure(table: pd.DataFrame, title: str = "", kind: str = "svg") -> bytes:
    """The figure of `draw_memory` as SVG or PNG; the same table gives the same bytes."""
    layers = int(table["step"].max()) + 1
    used = table.groupby("memory")["required_bits"].max()
    panels = max(1, int((used > 0).sum()))
    height = 1.6 + 1.9 * panels
    width = layer_width(layers)
    return render(
        lambda figure: draw_memory(figure, table, title), width, height, kind, layer_dpi(width)
    )
