"""Simulate layers and networks on a row-stationary array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import BitWidths
from hwsim.dram import Link
from hwsim.graph import Layer, LayerGraph, Vector
from hwsim.names import did_you_mean
from hwsim.row_stationary.limits import Limits, limits_for, words_packed
from hwsim.row_stationary.mapping import RsMapping, banks_used, problems
from hwsim.row_stationary.operands import FeatureMap, FeatureMaps, feature_maps, weight_widths
from hwsim.row_stationary.search import Found, search_mappings
from hwsim.row_stationary.shape import ConvShape, shape_of
from hwsim.row_stationary.timing import Timing, layer_timing
from hwsim.row_stationary.traffic import Accesses, accesses, energy_pj
from hwsim.row_stationary.work import LayerWork, make_work
from hwsim.stats import LayerStats, NetworkStats


@dataclass(frozen=True)
class LayerTask:
    """All that the time and energy of a layer depend on; equal tasks are searched once.

    widths: (groups, filters) int64 weight widths as bytes, so that a task can be a key.
    """

    shape: ConvShape  # its filters are those of the group that keeps most
    accelerator: Accelerator
    widths: bytes
    ifmap: FeatureMap
    ofmap: FeatureMap
    metadata_bits: int

    @property
    def array(self) -> RowStationaryArray:
        array = self.accelerator.array
        assert isinstance(array, RowStationaryArray)
        return array

    @property
    def weight_bits(self) -> np.ndarray:
        return np.frombuffer(self.widths, dtype=np.int64).reshape(self.shape.groups, -1)

    def work(self) -> LayerWork:
        return make_work(
            self.weight_bits,
            self.ifmap.dram_bits,
            self.ofmap.dram_bits,
            self.metadata_bits,
            self.array.filter_port,
            self.array.word_bits,
            self.array.pack_words,
            self.array.group_channels,
        )

    def limits(self) -> Limits:
        widest = max(1, int(self.weight_bits.max()))
        return limits_for(self.shape, self.accelerator, widest, self.ifmap.bits)

    def link(self) -> Link:
        return Link.of(self.accelerator.dram_for("activations"), self.accelerator.clock)

    def accesses(self, limits: Limits, mapping: RsMapping, work: LayerWork) -> Accesses:
        psum = self.array.word_bits
        return accesses(self.shape, limits, mapping, work, self.ifmap.mean_bits, psum)

    def simulate(self, mapping: RsMapping) -> Found:
        """One mapping, which must be legal."""
        limits, work = self.limits(), self.work()
        timing = layer_timing(self.shape, limits, mapping, work, self.link())
        return Found(mapping, timing, self._energy(limits, mapping, work, timing))

    def search(
        self, count: int = 1, q_times_r: int | None = None, set_pes: int | None = None
    ) -> list[Found]:
        """The `count` best legal mappings, best first."""
        limits, work = self.limits(), self.work()
        return search_mappings(
            self.shape,
            limits,
            work,
            self.link(),
            lambda mapping, timing: self._energy(limits, mapping, work, timing),
            count,
            q_times_r,
            set_pes,
        )

    def _energy(self, limits: Limits, mapping: RsMapping, work: LayerWork, timing: Timing) -> float:
        moved = self.accesses(limits, mapping, work)
        return energy_pj(self.accelerator, moved, timing, self.ifmap.zeros)


@lru_cache(maxsize=4096)
def _searched(task: LayerTask, count: int) -> tuple[Found, ...]:
    return tuple(task.search(count))


def layer_task(
    layer: Layer,
    accelerator: Accelerator,
    bits: BitWidths,
    batch: int,
    maps: Mapping[str, FeatureMap],
) -> LayerTask:
    """The task of one conv, linear or matmul layer of a network."""
    widths = weight_widths(layer, bits, maps)
    shape = shape_of(layer, batch)
    if not layer.weighted:
        widths = np.tile(widths, (batch, 1))  # each image brings its own second operand
    channels = layer.out_channels if layer.weighted else 0
    kept = max(1, int((widths > 0).sum(axis=1).max()))
    return LayerTask(
        replace(shape, filters=kept),
        accelerator,
        np.ascontiguousarray(widths, dtype=np.int64).tobytes(),
        maps[layer.inputs[0].name],
        maps[layer.name],
        channels * accelerator.metadata.bits,
    )


def best_mappings(
    layer: Layer,
    accelerator: Accelerator,
    weight_bits: int | np.ndarray,
    activation_bits: int,
    batch: int,
    count: int = 10,
) -> list[Found]:
    """The `count` best legal mappings of one layer, best first, with their time and energy.

    weight_bits: one width, or one for each output channel. Feature maps are taken as plain
    values: a layer alone does not know its zeros. Raises ValueError for a layer without
    multiply-accumulates, and when no mapping is legal.
    """
    _array(accelerator)
    plain = FeatureMap(activation_bits, Fraction(activation_bits), Fraction(activation_bits), 0.0)
    names = {tensor.name for tensor in layer.inputs} | {layer.name}
    weights: Mapping[str, np.ndarray] | int = (
        weight_bits if isinstance(weight_bits, int) else {layer.name: weight_bits}
    )
    bits = BitWidths(weights, activation_bits)
    shape_of(layer, batch)
    task = layer_task(layer, accelerator, bits, batch, dict.fromkeys(names, plain))
    return list(_searched(task, count))


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

    Assumes that the chip keeps no tensor from one layer to the next: ifmaps come from DRAM and
    ofmaps go there. Layers without multiply-accumulates run on the vector unit. All DRAM
    channels must be one link.
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
    maps = feature_maps(graph, accelerator, bits, known_maps)
    rows = []
    for layer in graph:
        if layer.kind == "input":
            continue
        if isinstance(layer.work, Vector):
            rows.append(_vector_layer(layer, accelerator, batch, maps))
            continue
        task = layer_task(layer, accelerator, bits, batch, maps)
        if layer.name in mappings:
            wrong = problems(mappings[layer.name], task.shape, task.limits())
            if wrong:
                raise ValueError(
                    f"mapping of layer {layer.name!r} ({mappings[layer.name]}) is not legal on "
                    f"{accelerator.name}: {'; '.join(wrong)}"
                )
            rows.append(_array_layer(layer, task, [task.simulate(mappings[layer.name])]))
            continue
        rows.append(_best_layer(layer, task))
    return NetworkStats(
        graph.name, accelerator.name, batch, accelerator.clock, array.pes, tuple(rows)
    )


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
    return accelerator.array


def _best_layer(layer: Layer, task: LayerTask) -> LayerStats:
    """The layer as a whole, or its filters of like width apart when that takes fewer cycles."""
    if not task.weight_bits.any():
        return _array_layer(layer, task, [])
    whole = _array_layer(layer, task, [_searched(task, 1)[0]])
    parts = width_classes(task)
    if len(parts) < 2:
        return whole
    apart = _array_layer(layer, task, [_searched(part, 1)[0] for part in parts], parts)
    return min(whole, apart, key=lambda stats: stats.cycles)


def width_classes(task: LayerTask) -> list[LayerTask]:
    """The filters of an ungrouped layer apart, by how many of them share a packed word.

    Each class is a layer of its own, with its own mapping: p and q are bounded by its widest
    filter only, and the ifmap is read once more. Empty unless words are packed and grouped.
    """
    array, widths = task.array, task.weight_bits
    if not (array.pack_words and array.group_channels) or task.shape.groups > 1:
        return []
    kept = np.sort(widths[widths > 0])[::-1]
    packed = np.array([words_packed(array, int(b)) for b in kept], dtype=np.int64)
    return [
        replace(
            task,
            shape=replace(task.shape, filters=int((packed == factor).sum())),
            widths=np.ascontiguousarray(kept[packed == factor]).tobytes(),
            metadata_bits=int((packed == factor).sum()) * task.accelerator.metadata.bits,
        )
        for factor in np.unique(packed)
    ]


def _array_layer(
    layer: Layer, task: LayerTask, found: list[Found], parts: list[LayerTask] | None = None
) -> LayerStats:
    """Statistics of one layer from its mapping, or from the mappings of its parts."""
    parts = parts or [task] * len(found)
    accelerator, array, shape = task.accelerator, task.array, task.shape
    gbuf, filters = accelerator.memory_for("ifmap"), accelerator.memory_for("weights")
    moved, limits, works = [], [], []
    for part, item in zip(parts, found, strict=True):
        works.append(part.work())
        limits.append(part.limits())
        moved.append(part.accesses(limits[-1], item.mapping, works[-1]))
    timings = [item.timing for item in found]
    dropped = int((task.weight_bits == 0).sum())
    written = task.ofmap.dram_bits * dropped * shape.batch * shape.ofmap[0] * shape.ofmap[1]
    link = task.link()
    apart = 0 if len(found) == 1 else link.moved_bits(-(-written.numerator // written.denominator))
    dump = link.cycle(link.ticks(apart))
    processing = sum(t.processing_cycles for t in timings)
    stall = sum(t.stall_cycles for t in timings) + dump
    ofmap_bits = sum(t.dram_ofmap_bits for t in timings) + apart
    filter_bits = sum(t.dram_filter_bits for t in timings)
    ifmap_bits = sum(t.dram_ifmap_bits for t in timings)
    energy = sum(item.energy_pj for item in found)
    energy += apart * accelerator.dram_for("activations").energy
    pes = [
        item.mapping.r * item.mapping.t * item.mapping.e * limit.fold_rows[0]
        for item, limit in zip(found, limits, strict=True)
    ]
    return LayerStats(
        name=layer.name,
        kind=layer.kind,
        macs=layer.macs * shape.batch if layer.weighted else shape.macs,
        cycles=processing + stall,
        stall_cycles=stall,
        dram_read_bits=filter_bits + ifmap_bits,
        dram_write_bits=ofmap_bits,
        onchip_bits={
            gbuf.name: sum(a.buffer + a.buffer_fill for a in moved),
            filters.name: sum(a.filter_buffer for a in moved),
        },
        required_bits={
            gbuf.name: max(
                (
                    limit.tiles * banks_used(item.mapping, part.shape, limit) * array.bank_bits
                    for part, limit, item in zip(parts, limits, found, strict=True)
                ),
                default=0,
            ),
            filters.name: max(
                (
                    _filter_tile_bits(part, limit, item.mapping, work)
                    for part, limit, item, work in zip(parts, limits, found, works, strict=True)
                ),
                default=0,
            ),
        },
        available_bits={gbuf.name: gbuf.capacity, filters.name: filters.capacity},
        energy_pj=energy,
        detail={
            "processing_cycles": processing,
            "mapping": "; ".join(str(item.mapping) for item in found) or "nothing to compute",
            "bound_by": _bound_by(parts, limits, found, works),
            "active_pes": max(pes, default=0),
            "passes": sum(t.passes for t in timings),
            "filter_load_cycles": sum(t.filter_load_cycles for t in timings),
            "filter_stall_cycles": sum(t.filter_stall_cycles for t in timings),
            "ifmap_stall_cycles": sum(t.ifmap_stall_cycles for t in timings),
            "ofmap_stall_cycles": sum(t.ofmap_stall_cycles for t in timings) + dump,
            "dram_filter_bits": filter_bits,
            "dram_ifmap_bits": ifmap_bits,
            "dram_ofmap_bits": ofmap_bits,
            "buffer_ifmap_bits": sum(a.buffer_ifmap for a in moved),
            "buffer_psum_bits": sum(a.buffer_psum for a in moved),
            "network_ifmap_bits": sum(a.network_ifmap for a in moved),
            "network_filter_bits": sum(a.network_filter for a in moved),
            "network_psum_bits": sum(a.network_psum for a in moved),
            "spad_ifmap_bits": sum(a.spad_ifmap for a in moved),
            "spad_filter_bits": sum(a.spad_filter for a in moved),
            "spad_psum_bits": sum(a.spad_psum for a in moved),
        },
    )


def _filter_tile_bits(task: LayerTask, limits: Limits, mapping: RsMapping, work: LayerWork) -> int:
    size = limits.fold_rows[0] * limits.fold_cols[0]
    filters = min(mapping.pass_filters, work.filters)
    values = filters * min(mapping.pass_channels, task.shape.channels) * size
    return -(-values // words_packed(task.array, work.widest)) * task.array.word_bits


def _bound_by(
    parts: list[LayerTask], limits: list[Limits], found: list[Found], works: list[LayerWork]
) -> str:
    """What sets the time: DRAM if the array mostly waits, else what a full pass is bounded by."""
    if not found:
        return "dram"
    cycles = {"macs": 0, "ifmap port": 0, "psum port": 0, "filter port": 0, "dram": 0}
    for task, limit, item, work in zip(parts, limits, found, works, strict=True):
        shape, mapping, timing = task.shape, item.mapping, item.timing
        taps = max(limit.fold_cols)
        span = shape.span(taps)
        channels = min(mapping.pass_channels, shape.channels)
        filters = min(mapping.pass_filters, work.filters)
        rows = shape.rows_read(mapping.e, limit.fold_rows[0])
        images, columns = mapping.n, shape.ofmap[1]
        read = span + (columns - 1) * min(shape.stride[1], span)
        psum_port = min(limit.psum_in_port, limit.psum_out_port)
        one = {
            "macs": images * columns * min(mapping.p, work.filters) * taps
            * min(mapping.q, shape.channels),
            "ifmap port": images * read * -(-channels * rows // limit.ifmap_port),
            "psum port": images * columns * -(-filters * mapping.e // psum_port),
        }  # fmt: skip
        cycles[max(one, key=lambda name: one[name])] += (
            timing.processing_cycles - timing.filter_load_cycles
        )
        cycles["filter port"] += timing.filter_load_cycles
        cycles["dram"] += timing.stall_cycles
    return max(cycles, key=lambda name: cycles[name])


def _vector_layer(
    layer: Layer, accelerator: Accelerator, batch: int, maps: Mapping[str, FeatureMap]
) -> LayerStats:
    """A layer on the vector unit: tensors stream from DRAM through the buffer and back."""
    assert isinstance(layer.work, Vector)
    array = _array(accelerator)
    dram = accelerator.dram_for("activations")
    link = Link.of(dram, accelerator.clock)
    gbuf = accelerator.memory_for("ifmap")
    operations = layer.work.operations * batch
    reads = [_whole_bits(tensor.values * batch, maps[tensor.name]) for tensor in layer.inputs]
    write = _whole_bits(layer.output.values * batch, maps[layer.name])
    read_bits = sum(link.moved_bits(bits) for bits in reads)
    write_bits = link.moved_bits(write)
    compute = -(-operations // accelerator.vector.lanes)
    waiting = link.cycle(sum(link.ticks(bits) for bits in [*reads, write]))
    stall = max(0, waiting - compute) if array.overlap else waiting
    onchip = 2 * sum(int(t.values * batch * maps[t.name].mean_bits) for t in layer.inputs)
    onchip += 2 * int(layer.output.values * batch * maps[layer.name].mean_bits)
    return LayerStats(
        name=layer.name,
        kind=layer.kind,
        macs=0,
        cycles=compute + stall,
        stall_cycles=stall,
        dram_read_bits=read_bits,
        dram_write_bits=write_bits,
        onchip_bits={gbuf.name: onchip, accelerator.memory_for("weights").name: 0},
        required_bits={gbuf.name: 0, accelerator.memory_for("weights").name: 0},
        available_bits={
            gbuf.name: gbuf.capacity,
            accelerator.memory_for("weights").name: accelerator.memory_for("weights").capacity,
        },
        energy_pj=operations * accelerator.vector.energy
        + dram.energy * (read_bits + write_bits)
        + gbuf.energy * onchip,
        detail={
            "processing_cycles": compute,
            "mapping": "vector unit",
            "bound_by": "dram" if stall > compute else "vector unit",
            "dram_ifmap_bits": read_bits,
            "dram_ofmap_bits": write_bits,
        },
    )


def _whole_bits(values: int, tensor: FeatureMap) -> int:
    bits = values * tensor.dram_bits
    return -(-bits.numerator // bits.denominator)
