"""Figures of an exploration: curves over one field, maps with iso-lines over two or three, and the
Pareto front. One row an allocation, where there are several to a figure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import BLACK, CYCLE, RED, render

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.design_space import Axis
    from analysis.explore import Explored

_MARKERS = "os^Dv<>"
_LINES = ("-", "--", ":", "-.")
MOST_SLICES = 4  # values of a third field that get a map
MOST_ALLOCATIONS = 6  # that get a row of maps


def explore_figures(explored: Explored) -> dict[str, bytes]:
    """{file name: content}: pareto always, curves for one varied field, maps for two and three."""
    drawn = {"pareto": (partial(draw_pareto, explored=explored), 10.0, 4.2)}
    moving = [axis for axis in explored.axes if len(axis.values) > 1]
    full = len(explored.table) == len(_labels(explored.table)) * int(
        np.prod([len(axis.values) for axis in explored.axes])
    )
    if full and len(moving) == 1:
        drawn["curves"] = (partial(draw_curves, explored=explored, axis=moving[0]), 10.0, 3.8)
    if full and len(moving) in (2, 3):
        rows = min(MOST_ALLOCATIONS, len(_labels(explored.table)))
        slices = _slices(moving[2]) if len(moving) == 3 else [None]
        across = 3 if slices == [None] else len(slices)
        if slices == [None]:
            drawn["maps"] = (
                partial(draw_maps, explored=explored, axes=moving), 4.2 * across, 3.4 * rows + 0.3,
            )  # fmt: skip
        else:
            for column in ("seconds", "energy_pj"):
                draw = partial(draw_slices, explored=explored, axes=moving, column=column)
                name = "maps_seconds" if column == "seconds" else "maps_energy"
                drawn[name] = (draw, 4.2 * across, 3.4 * rows + 0.3)
    return {
        f"{name}.{kind}": render(draw, width, height, kind)
        for name, (draw, width, height) in drawn.items()
        for kind in ("svg", "png")
    }


def _labels(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["allocation"]))


def _slices(axis: Axis) -> list[float]:
    values = sorted(axis.values)
    places = np.linspace(0, len(values) - 1, min(MOST_SLICES, len(values)))
    return [values[round(place)] for place in places]


def _quantity(table: pd.DataFrame, column: str) -> tuple[str, float]:
    """Label with unit, and the size of that unit."""
    most = float(table[column].max())
    if column == "seconds":
        return ("time [ms]", 1e-3) if most >= 1e-4 else ("time [µs]", 1e-6)
    if column == "energy_pj":
        return ("energy [mJ]", 1e9) if most >= 1e8 else ("energy [µJ]", 1e6)
    return "waiting for DRAM [%]", 0.01


def _spread(axis: Axis) -> bool:
    """Whether values are better told apart on a logarithmic axis."""
    values = sorted(axis.values)
    if len(values) < 3 or values[0] <= 0:
        return False
    steps = np.diff(values)
    return bool(steps.max() > 1.5 * steps.min() and values[-1] >= 4 * values[0])


def draw_curves(figure: Figure, explored: Explored, axis: Axis) -> None:
    """Time, energy and share of stalls over one field; knees of a bandwidth marked on the time."""
    table = explored.table
    panels = figure.subplots(1, 3)
    unit = axis.unit[1]
    for ax, column in zip(panels, ("seconds", "energy_pj", "stall_share"), strict=True):
        label, size = _quantity(table, column)
        for i, name in enumerate(_labels(table)):
            rows = table[table["allocation"] == name].sort_values(axis.name)
            ax.plot(rows[axis.name] / unit, rows[column] / size, color=CYCLE[i % len(CYCLE)],
                    linestyle=_LINES[i % len(_LINES)], marker=_MARKERS[i % len(_MARKERS)],
                    markersize=4, label=name)  # fmt: skip
        ax.set_ylim(0, 1.06 * max(float(table[column].max()) / size, 1e-9))
        ax.set_ylabel(label)
        _set_axis(ax, axis)
    _mark_knees(panels[0], explored, axis)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5))


def _set_axis(ax: Axes, axis: Axis) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    values = sorted(axis.scaled())
    if _spread(axis):
        ax.set_xscale("log", base=2)
        shown = values if len(values) <= 8 else values[:: -(-len(values) // 8)]
        ax.xaxis.set_major_locator(FixedLocator(shown))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_xlabel(axis.label)


def _mark_knees(ax: Axes, explored: Explored, axis: Axis) -> None:
    table, count = explored.table, 0
    _, size = _quantity(table, "seconds")
    for knee in explored.knees:
        if knee.field != axis.name or knee.bandwidth is None:
            continue
        rows = table[(table["allocation"] == knee.allocation)
                     & (table[axis.name] == knee.bandwidth)]  # fmt: skip
        ax.plot(knee.bandwidth / axis.unit[1], rows["seconds"].iloc[0] / size, linestyle="none",
                marker="o", markersize=12, markerfacecolor="none", markeredgecolor=RED,
                markeredgewidth=1.6, label=None if count else "knee")  # fmt: skip
        count += 1


def draw_maps(figure: Figure, explored: Explored, axes: Sequence[Axis]) -> None:
    """Time, energy and share of stalls over two fields: one row an allocation."""
    names = _labels(explored.table)[:MOST_ALLOCATIONS]
    panels = figure.subplots(len(names), 3, squeeze=False)
    for row, name in zip(panels, names, strict=True):
        rows = explored.table[explored.table["allocation"] == name]
        for ax, column in zip(row, ("seconds", "energy_pj", "stall_share"), strict=True):
            label, size = _quantity(explored.table, column)
            span = _span(explored.table[column] / size)
            _map(figure, ax, rows, axes, column, size, label, span)
            ax.set_title(name)


def draw_slices(figure: Figure, explored: Explored, axes: Sequence[Axis], column: str) -> None:
    """One quantity over two fields, a map for several values of the third."""
    names, third = _labels(explored.table)[:MOST_ALLOCATIONS], axes[2]
    slices = _slices(third)
    label, size = _quantity(explored.table, column)
    span = _span(explored.table[column] / size)
    panels = figure.subplots(len(names), len(slices), squeeze=False)
    for row, name in zip(panels, names, strict=True):
        for ax, value in zip(row, slices, strict=True):
            rows = explored.table[
                (explored.table["allocation"] == name) & (explored.table[third.name] == value)
            ]
            _map(figure, ax, rows, axes[:2], column, size, label, span)
            ax.set_title(f"{name}, {third.short} = {third.fields[0].show(value)}", fontsize=8)


def _span(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-3)


def _map(
    figure: Figure,
    ax: Axes,
    rows: pd.DataFrame,
    axes: Sequence[Axis],
    column: str,
    size: float,
    label: str,
    span: tuple[float, float],
) -> None:
    """Cells at equal distances, whatever their values; colours alike over all maps of a column."""
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    across, down = sorted(axes, key=lambda axis: -len(axis.values))
    z = rows.pivot_table(index=down.name, columns=across.name, values=column).to_numpy() / size
    ax.grid(visible=False)
    low, high = span
    image = ax.pcolormesh(np.arange(z.shape[1]), np.arange(z.shape[0]), z, shading="nearest",
                          cmap="cividis", vmin=low, vmax=high)  # fmt: skip
    if min(z.shape) > 1 and z.max() - z.min() > 1e-6 * max(abs(high), 1e-300):
        distinct = np.unique(np.round(z, 12))  # levels where values lie, not where none do
        between = (distinct[1:] + distinct[:-1]) / 2
        levels = np.unique(np.quantile(between, (0.05, 0.3, 0.6, 0.95), method="nearest"))
        lines = ax.contour(z, levels=levels, colors="white", linewidths=0.9)
        outline: list[AbstractPathEffect] = [withStroke(linewidth=1.8, foreground=BLACK)]
        lines.set_path_effects(outline)
        for text in ax.clabel(lines, fontsize=7, fmt="%.3g"):
            text.set_path_effects(outline)
    for place, axis in (("x", across), ("y", down)):
        values = sorted(axis.scaled())
        step = -(-len(values) // 8)
        ticks = list(range(0, len(values), step))
        texts = [f"{values[i]:.4g}" for i in ticks]
        if place == "x":
            ax.set_xticks(ticks, texts)
            ax.set_xlabel(axis.label)
        else:
            ax.set_yticks(ticks, texts)
            ax.set_ylabel(axis.label)
    figure.colorbar(image, ax=ax, label=label)


def draw_pareto(figure: Figure, explored: Explored) -> None:
    """Every design: energy and on-chip bits over time; those on the front in full colour."""
    table = explored.table
    time_label, time_size = _quantity(table, "seconds")
    energy_label, energy_size = _quantity(table, "energy_pj")
    panels = figure.subplots(1, 2)
    down = (("energy_pj", energy_label, energy_size), ("onchip_bits", "on chip [MiB]", 2.0**23))
    for ax, (column, label, size) in zip(panels, down, strict=True):
        for i, name in enumerate(_labels(table)):
            rows = table[table["allocation"] == name]
            front = rows["pareto"]
            colour, marker = CYCLE[i % len(CYCLE)], _MARKERS[i % len(_MARKERS)]
            ax.scatter(rows["seconds"][~front] / time_size, rows[column][~front] / size, s=12,
                       marker=marker, color=colour, alpha=0.25, linewidths=0)  # fmt: skip
            ax.scatter(rows["seconds"][front] / time_size, rows[column][front] / size,
                       s=64 / (1 + i) + 12, marker=marker, color=colour, edgecolors=BLACK,
                       linewidths=0.7, label=f"{name}, Pareto front")  # fmt: skip
        ax.set_xlabel(time_label)
        ax.set_ylabel(label)
        if table["seconds"].max() > 8 * table["seconds"].min() > 0:
            ax.set_xscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
