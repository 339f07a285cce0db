"""Roofline: what each layer attains, under what the array and each DRAM channel allow.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52(4), 2009; for the TPU in MACs per weight byte, Jouppi
et al., ISCA 2017, Fig. 5. One panel for each DRAM channel, as a chip waits for the slower one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import BLACK, BLUE, ORANGE, RED, SKY, render
from hwsim.accelerator import Accelerator, Dram
from hwsim.stats import LayerStats, NetworkStats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NETWORK = "whole network"
NAMED = 4  # layers with the most cycles get their names
APART = 0.3  # decades between points that are named
_MARKS = (("o", BLUE), ("s", ORANGE), ("^", SKY), ("v", RED))


def channel_bits(layer: LayerStats, dram: Dram, accelerator: Accelerator) -> int:
    """Bits of a layer that cross one DRAM channel, for the whole batch."""
    if len(accelerator.dram) == 1:
        return layer.dram_bits
    columns = {"weights": "weight_dram_bits", "activations": "activation_dram_bits"}
    return sum(int(layer.detail[columns[carried]]) for carried in dram.carries)


def roofline_table(
    simulations: Mapping[str, NetworkStats], accelerator: Accelerator
) -> pd.DataFrame:
    """A row for every variant, DRAM channel and layer with MACs, and one for the whole network.

    simulations: {variant: statistics on this accelerator}. Columns: variant, dram, name, macs,
    cycles, dram_bits over that channel, macs_per_byte (inf where nothing crosses it), attained_gmac
    and peak_gmac (10^9 MACs a second; the peak is the array's at its full operand width),
    bandwidth_gb (10^9 bytes a second), roof_gmac, the lower of peak and bandwidth. A single layer
    may lie above the slope, as its weights may have been fetched while others computed; a network
    does not.
    """
    import pandas as pd

    rows = []
    for variant, stats in simulations.items():
        peak = stats.pes * stats.clock_hz / 1e9
        for dram in accelerator.dram:
            bandwidth = dram.bandwidth / 8e9
            layers = [
                (layer.name, layer.macs, layer.cycles, channel_bits(layer, dram, accelerator))
                for layer in stats.layers
            ]
            whole = (NETWORK, stats.macs, stats.cycles, sum(bits for *_, bits in layers))
            for name, macs, cycles, bits in (*(row for row in layers if row[1]), whole):
                intensity = 8 * macs / bits if bits else np.inf
                rows.append(
                    {
                        "variant": variant,
                        "dram": dram.name,
                        "name": name,
                        "macs": macs,
                        "cycles": cycles,
                        "dram_bits": bits,
                        "macs_per_byte": intensity,
                        "attained_gmac": macs / cycles * stats.clock_hz / 1e9 if cycles else 0.0,
                        "peak_gmac": peak,
                        "bandwidth_gb": bandwidth,
                        "roof_gmac": min(peak, intensity * bandwidth),
                    }
                )
    return pd.DataFrame(rows)


def draw_roofline(figure: Figure, table: pd.DataFrame) -> None:
    """One panel a DRAM channel: the roof, layers as points whose area is their share of the
    cycles, and the whole network as a star."""
    channels = [name for name, rows in table.groupby("dram", sort=False) if rows["dram_bits"].any()]
    panels = figure.subplots(1, len(channels), sharey=True, squeeze=False)[0]
    for ax, name in zip(panels, channels, strict=True):
        _draw_channel(ax, table[table["dram"] == name])
    panels[0].set_ylabel("performance [GMAC/s]")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5,
                  title="area: share of the cycles; star: whole network", title_fontsize=8,
                  markerscale=0.8)  # fmt: skip


def _draw_channel(ax: Axes, rows: pd.DataFrame) -> None:
    peak, bandwidth = rows["peak_gmac"].iloc[0], rows["bandwidth_gb"].iloc[0]
    ridge = peak / bandwidth
    shown = rows[np.isfinite(rows["macs_per_byte"]) & (rows["attained_gmac"] > 0)]
    low = min(shown["macs_per_byte"].min(), ridge) / 2
    high = max(shown["macs_per_byte"].max(), ridge) * 2
    ax.plot([low, ridge, high], [low * bandwidth, peak, peak], color=BLACK, lw=1.2, label="roof")
    ax.set_xscale("log")
    ax.set_yscale("log")
    named: list[np.ndarray] = []
    for (variant, every), (mark, colour) in zip(
        rows.groupby("variant", sort=False), _MARKS, strict=False
    ):
        whole = every[every["name"] == NETWORK]
        points = shown[(shown["variant"] == variant) & (shown["name"] != NETWORK)]
        area = 14 + 400 * points["cycles"] / whole["cycles"].iloc[0]
        ax.scatter(points["macs_per_byte"], points["attained_gmac"], area, marker=mark,
                   color=colour, alpha=0.7, edgecolors="white", linewidths=0.5,
                   label=variant)  # fmt: skip
        ax.scatter(whole["macs_per_byte"], whole["attained_gmac"], 130, marker="*", color=colour,
                   edgecolors=BLACK, linewidths=0.8, zorder=3)  # fmt: skip
        _name_largest(ax, points, named)
    ax.set_xlabel(f"intensity [MAC per byte over {rows['dram'].iloc[0]}]")
    ax.set_title(f"peak {_short(peak)} GMAC/s, {bandwidth:.3g} GB/s, ridge at {_short(ridge)} "
                 "MAC/byte", fontsize=8, loc="left")  # fmt: skip


def _name_largest(ax: Axes, points: pd.DataFrame, named: list[np.ndarray]) -> None:
    """Names of the layers with the most cycles, but of one only among those that lie together.

    named: where names stand already; added to.
    """
    largest = points.nlargest(NAMED, "cycles")
    places = largest[["macs_per_byte", "attained_gmac"]].to_numpy(float)
    for name, place in zip(largest["name"], places, strict=True):
        at = np.log10(place)
        if all(np.abs(at - other).max() > APART for other in named):
            named.append(at)
            ax.annotate(str(name), (place[0], place[1]), xytext=(6, -9),
                        textcoords="offset points", fontsize=6.5)  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def roofline_size(table: pd.DataFrame) -> tuple[float, float]:
    """Inches."""
    return (5.2 * max(1, table.loc[table["dram_bits"] > 0, "dram"].nunique()) + 0.6, 4.4)


def roofline_figure(table: pd.DataFrame, kind: str = "svg") -> bytes:
    """As SVG or PNG; the same table gives the same bytes."""
    from functools import partial

    return render(partial(draw_roofline, table=table), *roofline_size(table), kind)
