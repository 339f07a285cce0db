"""Which figures a study has, and from which tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis import plots
from analysis.roofline import draw_roofline, roofline_size, roofline_table
from analysis.study import BASELINE, Study, rate_distortion
from analysis.tables import occupancy_table, speedup_table, width_shares
from hwsim.accelerator import Accelerator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StudyFigure:
    """name: of the file. caption: what it shows, in a sentence or two. table: what is drawn."""

    name: str
    title: str
    caption: str
    table: pd.DataFrame
    svg: bytes
    png: bytes


def study_figures(study: Study) -> list[StudyFigure]:
    """All figures of a study, in reading order."""
    figures = [_rate_distortion(study), _channel_curves(study), _widths(study), _speedup(study)]
    for accelerator in study.request.accelerators:
        figures += [
            _cycles(study, accelerator),
            _roofline(study, accelerator),
            _occupancy(study, accelerator),
        ]
    return figures


def _figure(name: str, title: str, caption: str, table: pd.DataFrame, draw: partial[None],
            width: float, height: float) -> StudyFigure:  # fmt: skip
    svg, png = (plots.render(draw, width, height, kind) for kind in ("svg", "png"))
    return StudyFigure(name, title, caption, table, svg, png)


def _rate_distortion(study: Study) -> StudyFigure:
    import pandas as pd

    widths = np.unique([*np.arange(1, 8.25, 0.5), study.request.weight_bits]).tolist()
    points = pd.DataFrame(rate_distortion(study.curves, study.network, study.request, widths))
    chosen = study.main.allocation
    draw = partial(
        plots.draw_rate_distortion,
        points=points,
        chosen=(chosen.average_weight_bits, chosen.weight_distortion),
        slope_per_bit=chosen.weight_slope * chosen.weight_values,
    )
    caption = (
        "Predicted distortion that the weights cause, over their average width. At the chosen "
        "point every channel gives up its last bit at the same slope, drawn in red."
    )
    return _figure("rate_distortion", "Rate and distortion", caption, points, draw, 7, 4.2)


def _channel_curves(study: Study) -> StudyFigure:
    """Channels spread over the sensitivities, each with its curve and its choice."""
    import pandas as pd

    chosen = study.main.allocation
    items = [
        (curve.name, c, curve.values, curve.distortion[c])
        for curve in study.curves.weights
        for c in range(curve.channels)
    ]
    order = sorted(range(len(items)), key=lambda i: float(items[i][3][2]))
    picked = [items[order[int(q * (len(order) - 1))]] for q in (0.2, 0.5, 0.8, 0.95, 1.0)]
    graph = study.network.graph
    curves = []
    for name, channel, values, distortion in picked:
        width = int(chosen.bits.weight(graph[name])[channel])
        curves.append((f"{name}[{channel}]", values, distortion, width))
    draw = partial(plots.draw_channel_curves, curves=curves, slope=chosen.weight_slope)
    table = pd.DataFrame(
        {
            "channel": label,
            "width_bits": bits,
            "rate_bits": bits * values,
            "distortion": float(error),
            "chosen": bits == width,
        }
        for label, values, distortion, width in curves
        for bits, error in enumerate(distortion)
    )
    caption = (
        "Channels at five ranks of sensitivity. Each takes the point of its curve where the common "
        "slope touches, so sensitive channels get more bits."
    )
    return _figure("channel_curves", "Curves of single channels", caption, table, draw, 7, 4.2)


def _widths(study: Study) -> StudyFigure:
    shares = width_shares(study, study.main)
    means = [float(study.main.bits.weight(layer).mean()) for layer in study.network.graph.weighted]
    draw = partial(plots.draw_width_map, shares=shares, mean_bits=means)
    caption = f"Widths of all channels, layer by layer, for '{study.main.name}'."
    width = plots.layer_width(len(shares))
    table = shares.add_prefix("share_of_width_").assign(mean_bits=means)
    table = table.rename_axis("layer").reset_index()
    return _figure("widths", "Bits per layer and channel", caption, table, draw, width, 4.4)


def _speedup(study: Study) -> StudyFigure:
    table = speedup_table(study)
    draw = partial(plots.draw_speedup, table=table, baseline=BASELINE)
    caption = (
        f"Speedup over {BASELINE} at batch {study.request.batch}, on the same accelerator and "
        f"layers."
    )
    height = 1.2 + 0.22 * len(table) * max(2, len(table.columns))
    return _figure("speedup", "Speedup", caption, table.reset_index(), draw, 8, height)


def _cycles(study: Study, accelerator: Accelerator) -> StudyFigure:
    import pandas as pd

    frames = {
        variant.name: variant.stats[accelerator.name].to_frame()
        for variant in (study.baseline, study.main)
    }
    frames = {name: frame[frame["cycles"] > 0] for name, frame in frames.items()}
    shown = set.intersection(*(set(frame["name"]) for frame in frames.values()))
    frames = {name: frame[frame["name"].isin(shown)] for name, frame in frames.items()}
    layers = len(next(iter(frames.values())))
    draw = partial(plots.draw_layer_cycles, frames=frames, clock_mhz=accelerator.clock / 1e6)
    caption = (
        f"Cycles of each layer on {accelerator.name}: what the array computes, and what it waits "
        f"for DRAM."
    )
    name = f"cycles_{accelerator.name}"
    width = plots.layer_width(layers)
    drawn = ["name", "kind", "cycles", "compute_cycles", "stall_cycles"]
    table = pd.concat({variant: frame[drawn] for variant, frame in frames.items()})
    table = table.rename_axis(["variant", None]).reset_index("variant")
    title = f"Cycles per layer, {accelerator.name}"
    return _figure(name, title, caption, table, draw, width, 5.2)


def _roofline(study: Study, accelerator: Accelerator) -> StudyFigure:
    shown = {v.name: v.stats[accelerator.name] for v in (study.baseline, study.main)}
    table = roofline_table(shown, accelerator)
    draw = partial(draw_roofline, table=table)
    caption = (
        f"What the layers attain on {accelerator.name}, under what its array and its DRAM allow: "
        f"narrower widths move layers to the right. Weights that were fetched while earlier layers "
        f"computed lift a layer above the slope, but no network."
    )
    title = f"Roofline, {accelerator.name}"
    name = f"roofline_{accelerator.name}"
    return _figure(name, title, caption, table, draw, *roofline_size(table))


def _occupancy(study: Study, accelerator: Accelerator) -> StudyFigure:
    table = occupancy_table(study.main)
    table = table[table["accelerator"] == accelerator.name]
    draw = partial(plots.draw_occupancy, table=table)
    caption = (
        f"On-chip bits that each layer needs on {accelerator.name} with '{study.main.name}', over "
        f"what there is; what is above the line is tiled or spilled."
    )
    name = f"onchip_{accelerator.name}"
    memories = table["memory"].nunique()
    width = plots.layer_width(int(table.groupby("memory").size().max()))
    title = f"On-chip bits, {accelerator.name}"
    return _figure(name, title, caption, table, draw, width, 0.6 + 2.6 * memories)
