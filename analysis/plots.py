"""Figures of a study: drawn from tables, nothing computed here but positions.

Colours are Okabe and Ito's, told apart by the colour-blind and in print; hatches repeat what
colour says. The same table gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "chipfit",  # the same identifiers, so the same bytes, in every run
    "svg.fonttype": "path",
}


def render(
    draw: Callable[[Figure], None], width: float, height: float, kind: str = "svg", dpi: int = 150
) -> bytes:
    """A figure of width x height inches, as SVG or PNG; the same input gives the same bytes.

    dpi: of the PNG.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        file = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, metadata=metadata, dpi=dpi)
    return file.getvalue()


def layer_width(layers: int) -> float:
    """Width in inches of a figure with one column a layer."""
    return float(np.clip(2.5 + 0.17 * layers, 7.0, 20.0))


def layer_dpi(width: float) -> int:
    """Dots per inch of a figure that may be very wide: 1,450 dots a row are enough to read."""
    return int(min(150, max(95, 1450 / width)))


def _name_layers(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7 if len(names) > 30 else 8)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.grid(visible=False, axis="x")


def draw_rate_distortion(
    figure: Figure, points: pd.DataFrame, chosen: tuple[float, float], slope_per_bit: float
) -> None:
    """Distortion of all weights over average width, by method, with the slope at the choice.

    points: columns method, bits, distortion. chosen: (average width, distortion). slope_per_bit:
    distortion that one bit more on every weight would save, to first order.
    """
    ax = figure.subplots()
    marks = {"per channel": "o-", "per layer": "s--", "equal widths": "^:"}
    for (method, mark), colour in zip(marks.items(), CYCLE, strict=False):
        rows = points[points["method"] == method].sort_values("bits")
        ax.plot(rows["bits"], rows["distortion"], mark, color=colour, label=method, markersize=4)
    bits, distortion = chosen
    if slope_per_bit > 0:  # a straight line on linear axes, so a curve on a logarithmic one
        reach = min(0.8, 0.95 * distortion / slope_per_bit)
        x = np.linspace(bits - 0.8, bits + reach, 40)
        ax.plot(x, distortion - slope_per_bit * (x - bits), "-", color=RED, lw=1.2,
                label="slope at the choice")  # fmt: skip
    ax.plot([bits], [distortion], "D", color=RED, markersize=7, label="chosen")
    ax.set_yscale("log")
    ax.set_xlabel("average weight width [bits]")
    ax.set_ylabel("predicted distortion of the logits\n[squared error, summed over classes]")
    ax.legend()


def draw_channel_curves(
    figure: Figure,
    curves: Sequence[tuple[str, int, np.ndarray, int]],
    slope: float,
) -> None:
    """R-D curves of a few channels, with the common slope touching each at its choice.

    curves: (name, weights of the channel, distortion (9,), chosen width). slope: distortion per
    bit; a width more costs as many bits as the channel has weights.
    """
    ax = figure.subplots()
    for (name, values, distortion, width), colour in zip(curves, CYCLE, strict=False):
        label = f"{name}, {values:,} weights"
        shown = np.flatnonzero(distortion > 0)
        ax.plot(shown, distortion[shown], "o-", color=colour, markersize=3, lw=1, label=label)
        chosen, fall = distortion[width], slope * values
        if fall > 0 and chosen > 0:
            x = np.linspace(-0.8, min(0.8, 0.9 * chosen / fall), 30)
            ax.plot(width + x, chosen - fall * x, color=BLACK, lw=0.9)
            ax.plot([width], [chosen], "D", color=colour, markeredgecolor=BLACK, markersize=6)
    ax.set_yscale("log")
    ax.set_xlabel("width of the channel [bits]")
    ax.set_ylabel("predicted distortion\n[squared error of the logits]")
    ax.legend(title="diamond: chosen width; black: the common slope", fontsize=8,
              title_fontsize=8)  # fmt: skip


def draw_width_map(figure: Figure, shares: pd.DataFrame, mean_bits: Sequence[float]) -> None:
    """Share of each layer's channels at each width, stacked; the mean width as a line.

    shares: one row a layer, one column a width. mean_bits: by layer.
    """
    from matplotlib import colormaps

    ax = figure.subplots()
    widths = [w for w in shares.columns if shares[w].any()]
    colours = colormaps["cividis"](np.linspace(0.05, 0.98, max(9, int(shares.columns.max()) + 1)))
    bottom = np.zeros(len(shares))
    x = np.arange(len(shares))
    for width in widths:
        ax.bar(x, shares[width], 0.86, bottom, color=colours[width], label=f"{width}",
               edgecolor="white", linewidth=0.3)  # fmt: skip
        bottom += shares[width].to_numpy()
    _name_layers(ax, list(shares.index))
    ax.set_ylim(0, 1)
    ax.set_ylabel("share of channels")
    ax.grid(visible=False)
    right = ax.twinx()
    right.plot(x, mean_bits, "o-", color=RED, markersize=4, lw=1, label="mean")
    right.set_ylim(0, 8.2)
    right.set_ylabel("mean width of the layer [bits]", color=RED)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    figure.legend(*ax.get_legend_handles_labels(), title="width\n[bits]", loc="outside right upper")


def draw_layer_cycles(figure: Figure, frames: dict[str, pd.DataFrame], clock_mhz: float) -> None:
    """Cycles of every layer, split into compute and stall: one panel a variant.

    frames: {variant: rows of one accelerator with name, compute_cycles, stall_cycles}.
    """
    panels = figure.subplots(len(frames), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, (variant, frame) in zip(panels, frames.items(), strict=True):
        x = np.arange(len(frame))
        compute, stall = frame["compute_cycles"] / 1e3, frame["stall_cycles"] / 1e3
        ax.bar(x, compute, 0.8, color=BLUE, label="compute (with shift, fill and drain)")
        ax.bar(x, stall, 0.8, compute, color=ORANGE, hatch="////", edgecolor="white", lw=0,
               label="stall (waiting for DRAM)")  # fmt: skip
        total = frame["compute_cycles"].sum() + frame["stall_cycles"].sum()
        ax.set_title(f"{variant}: {total:,.0f} cycles", loc="left", fontsize=9)
        ax.set_ylabel(f"k cycles ({clock_mhz:g} MHz)")
    _name_layers(panels[-1], list(frame["name"]))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)


def draw_speedup(figure: Figure, table: pd.DataFrame, baseline: str) -> None:
    """Speedup over the baseline: one group a variant, one bar an accelerator."""
    ax = figure.subplots()
    y = np.arange(len(table))[::-1]
    height = 0.8 / max(1, len(table.columns))
    for i, (name, colour) in enumerate(zip(table.columns, CYCLE, strict=False)):
        bars = ax.barh(
            y - i * height + 0.4 - height / 2,
            table[name],
            height * 0.92,
            color=colour,
            hatch=("", "///", "...")[i % 3],
            edgecolor="white",
            lw=0,
            label=name,
        )
        ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    ax.axvline(1.0, color=BLACK, lw=0.8)
    ax.set_yticks(y, table.index)
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1.12 * max(1.0, float(table.to_numpy().max())))
    ax.set_xlabel(f"speedup over {baseline} (baseline cycles / cycles)")
    if len(table.columns) > 1:
        figure.legend(loc="outside upper right", ncols=len(table.columns))


def draw_occupancy(figure: Figure, table: pd.DataFrame) -> None:
    """Required over available bits, one panel a memory; a bar above the line does not fit.

    table: columns memory, layer, required_bits, available_bits.
    """
    memories = list(dict.fromkeys(table["memory"]))
    panels = figure.subplots(len(memories), 1, squeeze=False)[:, 0]
    for ax, memory in zip(panels, memories, strict=True):
        rows = table[table["memory"] == memory]
        share = rows["required_bits"] / rows["available_bits"]
        fits = share <= 1
        x = np.arange(len(rows))
        ax.bar(x[fits], share[fits], 0.8, color=BLUE, label="fits")
        ax.bar(x[~fits], share[~fits], 0.8, color=RED, hatch="xxx", edgecolor="white", lw=0,
               label="does not fit")  # fmt: skip
        ax.axhline(1.0, color=BLACK, lw=1)
        ax.set_yscale("log")
        ax.set_ylim(min(0.5, float(share.min()) / 2), max(2.0, float(share.max()) * 2))
        capacity = rows["available_bits"].iloc[0] / 8 / 1024
        ax.set_title(f"{memory}: {capacity:,.0f} KiB", loc="left", fontsize=9)
        ax.set_ylabel("required / available")
        _name_layers(ax, list(rows["layer"]))
