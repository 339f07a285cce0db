"""Tensors kept in the buffer of a row-stationary array, in what the mappings' tiles leave.

Each layer takes the mapping that is best from DRAM; beside its tiles, which it always has for
itself, whole tensors stay from producer to last reader where the buffer keeps them. A kept ifmap
is moved into its tile, and a kept ofmap out of its psums, inside the buffer and at no time; what is
kept does not cross DRAM. Kept values are plain words: run-length coding is for DRAM. Network
inputs and second operands of products, which come in as filters, are always in DRAM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph
from hwsim.memory import plan_residency
from hwsim.row_stationary.layer_stats import array_layer, vector_layer, view_layer
from hwsim.row_stationary.limits import words_packed
from hwsim.row_stationary.operands import FeatureMap, FeatureMaps
from hwsim.row_stationary.search import Found
from hwsim.row_stationary.task import LayerTask
from hwsim.stats import LayerStats


@dataclass(frozen=True)
class Run:
    """How a layer runs: its task and mappings (of its parts, where it is cut), or on the vector
    unit, which has no task."""

    layer: Layer
    accelerator: Accelerator
    batch: int
    task: LayerTask | None = None
    found: list[Found] = field(default_factory=list)
    parts: list[LayerTask] | None = None

    def stats(self, maps: Mapping[str, FeatureMap]) -> LayerStats:
        """Statistics with these feature maps, of which only the bits in DRAM may be others than
        those that the mappings were chosen with."""
        layer = self.layer
        if self.task is None:
            return vector_layer(layer, self.accelerator, self.batch, maps)
        ifmap, ofmap = maps[layer.inputs[0].name], maps[layer.name]
        if (self.task.ifmap, self.task.ofmap) == (ifmap, ofmap):
            return array_layer(layer, self.task, self.found, self.parts)
        task = replace(self.task, ifmap=ifmap, ofmap=ofmap)
        parts = self.parts and [replace(part, ifmap=ifmap, ofmap=ofmap) for part in self.parts]
        tasks = parts or [task] * len(self.found)
        found = [t.simulate(item.mapping) for t, item in zip(tasks, self.found, strict=True)]
        return array_layer(layer, task, found, parts)


def joined_maps(
    graph: LayerGraph, maps: dict[str, FeatureMap], known: FeatureMaps
) -> dict[str, FeatureMap]:
    """Feature maps in which a concatenation that is only an address is as its parts are stored,
    unless the caller knows better."""
    live, found = graph.liveness, dict(maps)
    for view in live.views - known.keys():
        parts = [live.names[part] for part in live.parts[live.index[view]]]
        values = graph[view].output.values
        shares = {part: Fraction(graph[part].output.values, values) for part in parts}
        found[view] = replace(
            maps[view],
            mean_bits=sum((s * maps[p].mean_bits for p, s in shares.items()), Fraction(0)),
            dram_bits=sum((s * maps[p].dram_bits for p, s in shares.items()), Fraction(0)),
            zeros=float(sum(s * maps[p].zeros for p, s in shares.items())),
        )
    return found


def placed_rows(
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    batch: int,
    maps: dict[str, FeatureMap],
    runs: Mapping[str, Run],
) -> tuple[list[LayerStats], int]:
    """Rows of all layers in execution order, and how far the choice of kept tensors may be from
    the best (see `memory.Residency`)."""
    live = graph.liveness
    plain = {name: run.stats(maps) for name, run in runs.items() if name not in live.views}
    views = {name: view_layer(graph[name], accelerator) for name in live.views}
    gbuf = accelerator.memory_for("ifmap")
    if not gbuf.keeps_tensors:
        every = plain | views
        return [every[name] for name in live.names if name in every], 0
    tiles = [plain[n].required_bits[gbuf.name] if n in plain else 0 for n in live.names]
    words = _word_bits(graph, accelerator, maps, batch)
    residency = plan_residency(
        graph,
        bits,
        batch,
        [max(0, gbuf.capacity - tile) for tile in tiles],
        _Spill(graph, maps, plain),
        accelerator.vector.in_place,
        words,
        _barred(graph),
    )
    rows = []
    for name in residency.order:
        if graph[name].kind == "input":
            continue
        if name in views:
            row = views[name]
        else:
            row = runs[name].stats(_crossing(graph, maps, residency.resident, name))
        kept = residency.kept_bits[name]
        need = {**row.required_bits, gbuf.name: row.required_bits[gbuf.name] + kept}
        detail = {**row.detail, "ofmap_kept": int(name in residency.resident)}
        rows.append(replace(row, required_bits=need, detail=detail))
    return rows, residency.gap_bits


def _word_bits(
    graph: LayerGraph, accelerator: Accelerator, maps: Mapping[str, FeatureMap], batch: int
) -> dict[str, int]:
    """Bits of each tensor in the buffer: whole words, in which narrow values may share."""
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
    sizes = {
        layer.name: -(-layer.output.values * batch // words_packed(array, maps[layer.name].bits))
        * array.word_bits
        for layer in graph
    }
    live = graph.liveness
    for view in live.views:
        sizes[view] = sum(sizes[live.names[part]] for part in live.parts[live.index[view]])
    return sizes


def _barred(graph: LayerGraph) -> set[str]:
    live = graph.liveness
    barred = {layer.name for layer in graph if layer.kind == "input"}
    for layer in graph:
        if layer.kind == "matmul":
            second = live.index[layer.inputs[1].name]
            barred |= {live.names[part] for part in live.parts[second]}
    return barred


def _crossing(
    graph: LayerGraph, maps: Mapping[str, FeatureMap], resident: frozenset[str], name: str
) -> dict[str, FeatureMap]:
    """The feature maps of one layer's tensors, with the DRAM bits of what is not kept."""
    live = graph.liveness

    def rate(tensor: str, counted: bool) -> FeatureMap:
        parts = [live.names[part] for part in live.parts[live.index[tensor]]]
        if counted or not resident.intersection(parts):
            return maps[tensor]
        total = sum(graph[p].output.values * maps[p].dram_bits for p in parts)
        spilled = sum(graph[p].output.values * maps[p].dram_bits for p in parts
                      if p not in resident)  # fmt: skip
        share = Fraction(spilled) / total if total else Fraction(0)
        return replace(maps[tensor], dram_bits=maps[tensor].dram_bits * share)

    found = {tensor.name: rate(tensor.name, False) for tensor in graph[name].inputs}
    found[name] = rate(name, live.leaves[live.index[name]])
    return found


@dataclass(frozen=True)
class _Spill:
    """DRAM bits of spilled tensors, from rows of layers that keep nothing. A part of a
    concatenation has its share of what is read of the whole."""

    graph: LayerGraph
    maps: Mapping[str, FeatureMap]
    rows: Mapping[str, LayerStats]

    def read_bits(self, reader: Layer, part: str) -> int:
        live = self.graph.liveness
        row = self.rows[reader.name]
        operands = reader.inputs if reader.gemm is None else reader.inputs[:1]
        whole = sum(self._bits(t.name, t.values) for t in operands)
        share = sum(
            self._bits(part, self.graph[part].output.values)
            * Fraction(t.values, self.graph[t.name].output.values)
            for t in operands
            if live.index[part] in live.parts[live.index[t.name]]
        )
        return int(int(row.detail["dram_ifmap_bits"]) * Fraction(share) / whole) if whole else 0

    def _bits(self, tensor: str, values: int) -> Fraction:
        return values * self.maps[tensor].dram_bits

    def write_bits(self, layer: Layer) -> int:
        return self.rows[layer.name].dram_write_bits

    def load_bits(self, layer: Layer) -> int:
        return 0  # network inputs are never kept
