"""At which DRAM bandwidth a speedup is reached: a sweep, its table and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from analysis.plots import BLACK, CYCLE, render
from analysis.speedup_widths import native_widths
from hwsim.accelerator import Accelerator, SystolicArray
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.many import simulate_many

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# times the chip's own bandwidth; many design points of a systolic array cost little
FINE = tuple(2.0 ** (k / 4) for k in range(8, -21, -1))
COARSE = (4.0, 1.0, 1 / 8, 1 / 32)
TRIED = (BitWidths(4, 8), BitWidths(4, 4), BitWidths(2, 8), BitWidths(2, 2))


@dataclass(frozen=True)
class BandwidthPoint:
    """A speedup with the bandwidth of all DRAM channels multiplied by `factor`.

    bandwidth_gb: that of the channel that carries weights, 10^9 bytes a second.
    """

    model: str
    accelerator: str
    batch: int
    baseline: str
    widths: str
    factor: float
    bandwidth_gb: float
    speedup: float


def label(bits: BitWidths) -> str:
    return f"W{bits.weights}A{bits.activations}"


def scaled(accelerator: Accelerator, factor: float) -> Accelerator:
    """The same chip with `factor` times the bandwidth on every DRAM channel."""
    channels = (replace(d, bandwidth=max(1, round(d.bandwidth * factor))) for d in accelerator.dram)
    return replace(accelerator, dram=tuple(channels))


def bandwidth_points(
    graph: LayerGraph, accelerator: Accelerator, batch: int
) -> list[BandwidthPoint]:
    """TRIED over W8A8 and, where it is another, over the native width, at falling bandwidths."""
    systolic = isinstance(accelerator.array, SystolicArray)
    factors = FINE if systolic else COARSE
    chips = [scaled(accelerator, factor) for factor in factors]
    bases = list({label(bits): bits for bits in (BitWidths(8, 8), native_widths(accelerator))})
    cycles = {
        label(bits): simulate_many(graph, chips, bits, batch).cycles
        for bits in (BitWidths(8, 8), native_widths(accelerator), *TRIED)
    }
    own = accelerator.dram_for("weights").bandwidth / 8e9
    return [
        BandwidthPoint(graph.name, accelerator.name, batch, base, widths, factor, factor * own, s)
        for base in bases
        for widths in map(label, TRIED)
        for factor, s in zip(factors, (cycles[base] / cycles[widths]).tolist(), strict=True)
    ]


def reached(points: Sequence[BandwidthPoint], target: float) -> BandwidthPoint | None:
    """The point of the highest bandwidth whose speedup is target or more."""
    found = [point for point in points if point.speedup >= target]
    return max(found, key=lambda point: point.bandwidth_gb, default=None)


def bandwidth_lines(
    points: Sequence[BandwidthPoint], targets: Mapping[tuple[str, str], float]
) -> list[str]:
    """A row for each network, chip, batch, baseline and widths: the speedup with the chip's own
    bandwidth, the largest, and where the target is met. targets: {(model, accelerator): speedup}.
    """
    lines = [
        "| network | accelerator | batch | widths | over | at the chip's bandwidth | at most "
        "| headline | met from (weight DRAM) downwards |",
        "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | --- |",
    ]
    curves: dict[tuple[object, ...], list[BandwidthPoint]] = {}
    for p in points:
        curves.setdefault((p.model, p.accelerator, p.batch, p.widths, p.baseline), []).append(p)
    for key, curve in curves.items():
        target = targets[curve[0].model, curve[0].accelerator]
        own = next(p for p in curve if p.factor == 1)
        best = max(curve, key=lambda p: p.speedup)
        met = reached(curve, target)
        where = "nowhere"
        if met is not None:
            where = f"{met.bandwidth_gb:.3g} GB/s, {met.factor:.3g} of the chip's"
        lines.append(
            f"| {' | '.join(map(str, key))} | {own.speedup:.2f}x | {best.speedup:.2f}x "
            f"({best.bandwidth_gb:.3g} GB/s) | {target:g}x | {where} |"
        )
    return lines


def draw_bandwidths(
    figure: Figure,
    points: Sequence[BandwidthPoint],
    targets: Mapping[tuple[str, str], float],
) -> None:
    """Speedup over bandwidth: networks down, chips and batches across; the headline dashed, the
    chip's own bandwidth dotted."""
    models = list(dict.fromkeys(p.model for p in points))
    places = list(dict.fromkeys((p.accelerator, p.batch, p.baseline) for p in points))
    panels = figure.subplots(len(models), len(places), squeeze=False, sharey="row", sharex="col")
    for line, model in zip(panels, models, strict=True):
        for ax, place in zip(line, places, strict=True):
            found = [
                p
                for p in points
                if (p.model, p.accelerator, p.batch, p.baseline) == (model, *place)
            ]
            _draw_panel(ax, found, targets.get((model, place[0])))
            ax.set_visible(bool(found))
            if model == models[0]:
                chip, batch, baseline = place
                ax.set_title(f"{chip}, batch {batch},\nover {baseline}", fontsize=9)
            below = models[models.index(model) + 1 :]
            if not any((p.accelerator, p.batch, p.baseline) == place and p.model in below
                       for p in points):  # fmt: skip
                ax.set_xlabel("bandwidth of weights [GB/s]")
                ax.tick_params(labelbottom=True)
        line[0].set_ylabel(f"{model}\nspeedup")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _draw_panel(ax: Axes, points: Sequence[BandwidthPoint], target: float | None) -> None:
    for (widths, mark), colour in zip(
        zip(map(label, TRIED), "os^D", strict=True), CYCLE, strict=False
    ):
        curve = [p for p in points if p.widths == widths]
        ax.plot([p.bandwidth_gb for p in curve], [p.speedup for p in curve], f"{mark}-",
                color=colour, markersize=3, lw=1.2, label=widths)  # fmt: skip
    if target is not None:
        ax.axhline(target, color=BLACK, lw=0.9, linestyle="--", label="published headline")
    if own := next((p.bandwidth_gb for p in points if p.factor == 1), None):
        ax.axvline(own, color=BLACK, lw=0.9, linestyle=":", label="the chip's bandwidth")
    ax.set_xscale("log")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")


def bandwidth_figure(
    points: Sequence[BandwidthPoint],
    targets: Mapping[tuple[str, str], float],
    kind: str,
) -> bytes:
    """As 'svg' or 'png'; the same points give the same bytes."""
    models = len({p.model for p in points})
    places = len({(p.accelerator, p.batch, p.baseline) for p in points})
    draw = partial(draw_bandwidths, points=points, targets=targets)
    return render(draw, 1.0 + 2.3 * places, 1.0 + 2.3 * models, kind)
