"""Layers of an exploration's designs: of all, or of those that tell most if there are very many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.design_space import with_values
from analysis.explore import Explored, point_results
from analysis.explore_summary import best_rows
from analysis.scale import Runner
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.many import simulate_alike
from hwsim.systolic.many import LayerPoint
from quant.calibration import Progress

MOST_LAYERS = 500_000  # layers of designs in a page: a few megabytes, most of them alike


def detailed_rows(explored: Explored, layers: int, most: int = MOST_LAYERS) -> list[int]:
    """Rows of the table whose layers are kept: all, if they have at most `most` layers together;
    else the best ones, then the Pareto fronts, then others at equal distances.

    layers: of the network.
    """
    count, room = len(explored.table), max(1, most // layers)
    if count <= room:
        return list(range(count))
    best = [row for _, row in best_rows(explored.table)]
    wanted = list(dict.fromkeys([*best, *np.flatnonzero(explored.table["pareto"]).tolist()]))
    spread = np.linspace(0, count - 1, room).astype(int).tolist()
    return sorted(list(dict.fromkeys([*wanted[:room], *spread]))[:room])


def layer_results(
    graph: LayerGraph,
    explored: Explored,
    rows: list[int],
    runner: Runner,
    progress: Progress | None = None,
) -> dict[int, list[LayerPoint]]:
    """{row: its layers in execution order}; exactly those of `simulate`."""
    designs = len(explored.designs)
    chips = [
        with_values(explored.accelerator, explored.axes, explored.designs[row % designs])
        for row in rows
    ]
    widths = [explored.widths[row] for row in rows]
    batch = explored.batch
    found = point_results("layers", layer_rows, graph, chips, widths, batch, runner, progress)
    return {
        row: [LayerPoint(*layer) for layer in layers]
        for row, layers in zip(rows, found, strict=True)
    }


def layer_rows(
    graph: LayerGraph, chips: Sequence[Accelerator], bits: BitWidths, batch: int
) -> list[list[Any]]:
    """For the ledger: of each chip the fields of its `LayerPoint`s."""
    return [
        [list(layer) for layer in point.layers]
        for point in simulate_alike(graph, chips, bits, batch, per_layer=True)
    ]
