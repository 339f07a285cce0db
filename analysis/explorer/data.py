"""The data in explore.html: columns of the table, and layers without repetitions.

Whole numbers are the simulator's own; seconds, energies and distortions keep nine digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import pandas as pd

from analysis.design_space import Axis
from analysis.explore import Explored
from analysis.explore_summary import best_rows
from hwsim.graph import LayerGraph
from hwsim.systolic.many import LayerPoint

_WHOLE = ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits", "onchip_bits")
_REAL = ("seconds", "energy_pj", "weight_bits", "predicted_distortion")
_DETAIL = ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits", "energy_pj")


def page_data(
    graph: LayerGraph,
    explored: Sequence[Explored],
    layers: Sequence[Mapping[int, Sequence[LayerPoint]]],
) -> dict[str, object]:
    """Plain data for the page: a space for each exploration, of one graph and batch.

    layers: for each exploration {row of the table: its layers}.
    """
    batch = explored[0].batch
    return {
        "network": graph.name,
        "batch": batch,
        "layers": [[layer.name, layer.kind, layer.macs * batch] for layer in graph.layers],
        "spaces": [_space(graph, e, rows) for e, rows in zip(explored, layers, strict=True)],
    }


def _space(
    graph: LayerGraph, explored: Explored, layers: Mapping[int, Sequence[LayerPoint]]
) -> dict[str, object]:
    table, axes, designs = explored.table, explored.axes, explored.designs
    sorted_values = [sorted(axis.values) for axis in axes]
    ranks = [{v: i for i, v in enumerate(values)} for values in sorted_values]
    return {
        "name": explored.accelerator.name,
        "description": explored.accelerator.description,
        "axes": [_axis(axis, v) for axis, v in zip(axes, sorted_values, strict=True)],
        # places of a design's values among the sorted ones
        "designs": [
            [rank[value] for rank, value in zip(ranks, design, strict=True)] for design in designs
        ],
        "full": len(designs) == prod(len(axis.values) for axis in axes),
        "allocations": list(dict.fromkeys(table["allocation"])),
        "columns": {
            **{name: [int(value) for value in table[name]] for name in (*_WHOLE, "pes")},
            **{name: [_real(value) for value in table[name]] for name in _REAL},
            "short_of": table["short_of"].tolist(),
        },
        "pareto": np.flatnonzero(table["pareto"]).tolist(),
        "best": best_rows(table),
        "detail": _detail(graph, explored, layers),
    }


def _axis(axis: Axis, values: Sequence[float]) -> dict[str, object]:
    field = axis.fields[0]
    return {
        "name": axis.short,
        "label": axis.label,
        "shown": [field.show(value) for value in values],
        "ticks": [f"{value / axis.unit[1]:.4g}" for value in values],
    }


def _real(value: float) -> float | None:
    return None if pd.isna(value) else float(f"{value:.9g}")


def _detail(
    graph: LayerGraph, explored: Explored, layers: Mapping[int, Sequence[LayerPoint]]
) -> dict[str, object]:
    """Equal lists of numbers are held once: many designs differ in few of them."""
    index = {layer.name: i for i, layer in enumerate(graph.layers)}
    names = ("order", *_DETAIL, "weight_bits")
    pools: dict[str, dict[tuple[object, ...], int]] = {name: {} for name in names}
    widths: dict[int, tuple[float | None, ...]] = {}
    rows: dict[str, list[int]] = {}
    for row, found in layers.items():
        bits = explored.widths[row]
        if id(bits) not in widths:
            means = [bits.weight(x).mean() if x.weighted else None for x in graph.layers]
            widths[id(bits)] = tuple(None if m is None else round(float(m), 3) for m in means)
        lists: dict[str, tuple[object, ...]] = {
            "order": tuple(index[layer.name] for layer in found),
            **{name: tuple(_plain(getattr(layer, name)) for layer in found) for name in _DETAIL},
            "weight_bits": widths[id(bits)],
        }
        rows[str(row)] = [pools[n].setdefault(lists[n], len(pools[n])) for n in names]
    return {"names": names, "rows": rows, "pools": {n: list(pool) for n, pool in pools.items()}}


def _plain(value: float) -> int | float:
    return value if isinstance(value, int) else float(f"{value:.9g}")
