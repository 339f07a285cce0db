"""Simulate networks on a row-stationary array, and find the best mappings of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph
from hwsim.memory import held_bits, held_operands
from hwsim.names import did_you_mean
from hwsim.row_stationary.layer_stats import array_layer
from hwsim.row_stationary.mapping import RsMapping, problems
from hwsim.row_stationary.operands import FeatureMap, FeatureMaps, feature_maps
from hwsim.row_stationary.residency import Run, joined_maps, placed_rows
from hwsim.row_stationary.search import Found
from hwsim.row_stationary.shape import shape_of
from hwsim.row_stationary.task import LayerTask, layer_task, searched, width_classes
from hwsim.stats import LayerStats, NetworkStats


def best_mappings(
    layer: Layer,
    accelerator: Accelerator,
    weight_bits: int | np.ndarray,
    activation_bits: int,
    batch: int,
    count: int = 10,
) -> list[Found]:
    """The `count` best legal mappings of one layer, best first, with their time and energy.

    weight_bits: one width, or one for each output channel; of a product of two feature maps, that
    of its second operand. Feature maps are taken as plain values: a layer alone does not know its
    zeros. Raises ValueError for a layer without multiply-accumulates, and when no mapping is legal.
    """
    _array(accelerator)
    weights: Mapping[str, np.ndarray] | int = (
        weight_bits if isinstance(weight_bits, int) else {layer.name: weight_bits}
    )
    bits = BitWidths(weights, activation_bits)
    shape_of(layer, batch)
    # the first operand last: where one tensor is both, it is what flows through the array
    stationary = {tensor.name: _plain(int(np.max(weight_bits))) for tensor in layer.inputs[1:]}
    flowing = dict.fromkeys([layer.name, layer.inputs[0].name], _plain(activation_bits))
    task = layer_task(layer, accelerator, bits, batch, stationary | flowing)
    return list(searched(task, count))


def _plain(bits: int) -> FeatureMap:
    return FeatureMap(bits, Fraction(bits), Fraction(bits), 0.0)


def simulate_network(
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    batch: int = 1,
    mappings: Mapping[str, RsMapping] | None = None,
    known_maps: FeatureMaps | None = None,
) -> NetworkStats:
    """Cycles, traffic and energy of every layer of a network on a row-stationary array.

    mappings: given mappings by layer; the other layers take their best one. known_maps: for
    some tensors the fraction of zeros or the real integer codes, for run-length coding and zero
    gating (see `feature_maps`). Raises ValueError for illegal mappings, unknown layers, widths
    that are missing, a batch below 1, and an accelerator with another array.

    Ifmaps come from DRAM and ofmaps go there, unless the buffer keeps tensors (see
    `row_stationary.residency`). Layers without multiply-accumulates run on the vector unit;
    concatenations whose parts need not move (`hwsim.liveness`) are only addresses. Rows are in
    execution order. All DRAM channels must be one link, and filters always stream.
    """
    array = _array(accelerator)
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    bits.check(graph)
    mappings = mappings or {}
    mapped = [layer.name for layer in graph if layer.gemm is not None]
    for name in mappings:
        if name not in mapped:
            raise ValueError(
                f"mappings: network {graph.name!r} has no layer {name!r} on the array"
                f"{did_you_mean(name, mapped)}"
            )
    maps = joined_maps(graph, feature_maps(graph, accelerator, bits, known_maps), known_maps or {})
    runs: dict[str, Run] = {}
    for layer in graph:
        if layer.kind == "input":
            continue
        if layer.gemm is None:
            runs[layer.name] = Run(layer, accelerator, batch)
            continue
        task = layer_task(layer, accelerator, bits, batch, maps)
        if layer.name in mappings:
            wrong = problems(mappings[layer.name], task.shape, task.limits())
            if wrong:
                raise ValueError(
                    f"mapping of layer {layer.name!r} ({mappings[layer.name]}) is not legal on "
                    f"{accelerator.name}: {'; '.join(wrong)}"
                )
            found = [task.simulate(mappings[layer.name])]
            runs[layer.name] = Run(layer, accelerator, batch, task, found)
            continue
        runs[layer.name] = _best_layer(layer, task, batch)
    rows, gap_bits = placed_rows(graph, accelerator, bits, batch, maps, runs)
    rows = _whole_operands(rows, graph, accelerator, bits, batch)
    return NetworkStats(
        graph.name, accelerator.name, batch, accelerator.clock, array.pes, tuple(rows), gap_bits
    )


def _whole_operands(
    rows: list[LayerStats], graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, batch: int
) -> list[LayerStats]:
    """Where a memory is to hold whole layers, what is required is the layer's whole operands, by
    which widths are capped; the mapping's tile, which always fits, becomes a detail."""
    inputs = [layer.name for layer in graph if layer.kind == "input"]
    order = [*inputs, *(row.name for row in rows)]
    for memory in accelerator.memory:
        if memory.fit != "layer":
            continue
        held = held_operands(graph, memory, order)
        rows = [
            replace(
                row,
                required_bits={
                    **row.required_bits,
                    memory.name: held_bits(
                        graph, bits, batch, held[row.name], accelerator.metadata.bits
                    ),
                },
                detail={**row.detail, f"{memory.name}_tile_bits": row.required_bits[memory.name]},
            )
            for row in rows
        ]
    return rows


def _array(accelerator: Accelerator) -> RowStationaryArray:
    if not isinstance(accelerator.array, RowStationaryArray):
        raise ValueError(
            f"accelerator {accelerator.name!r} has no row-stationary array; such as eyeriss_v1 has"
        )
    if len(accelerator.dram) != 1:
        raise ValueError(
            f"accelerator {accelerator.name!r}: a row-stationary array has one DRAM channel, got "
            f"{len(accelerator.dram)}"
        )
    if accelerator.weight_store is not None:
        raise ValueError(
            f"accelerator {accelerator.name!r}: memory {accelerator.weight_store.name!r} has "
            f"keeps_weights; on a row-stationary array filters stream in every pass: leave it out"
        )
    return accelerator.array


def _best_layer(layer: Layer, task: LayerTask, batch: int) -> Run:
    """The layer as a whole, or its filters of like width apart when that takes fewer cycles."""
    if not task.weight_bits.any():
        return Run(layer, task.accelerator, batch, task)
    whole = [searched(task, 1)[0]]
    parts = width_classes(task)
    if len(parts) < 2:
        return Run(layer, task.accelerator, batch, task, whole)
    apart = [searched(part, 1)[0] for part in parts]
    cycles = [array_layer(layer, task, whole).cycles, array_layer(layer, task, apart, parts).cycles]
    if cycles[1] < cycles[0]:
        return Run(layer, task.accelerator, batch, task, apart, parts)
    return Run(layer, task.accelerator, batch, task, whole)
