"""Statistics of single layers: on the array with their mappings, and on the vector unit."""

from __future__ import annotations

from collections.abc import Mapping

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.dram import Link
from hwsim.energy import Part, access_energy_pj
from hwsim.graph import Layer, Vector
from hwsim.row_stationary.limits import Limits, words_packed
from hwsim.row_stationary.mapping import RsMapping, banks_used
from hwsim.row_stationary.operands import FeatureMap
from hwsim.row_stationary.search import Found
from hwsim.row_stationary.task import LayerTask
from hwsim.row_stationary.work import LayerWork
from hwsim.stats import LayerStats


def array_layer(
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
    energy: dict[Part, float] = {("array", "mac"): 0.0}
    for part, limit, item, work in zip(parts, limits, found, works, strict=True):
        for key, pj in part.energy_parts(limit, item.mapping, work, item.timing).items():
            energy[key] = energy.get(key, 0.0) + pj
    channel = accelerator.dram_for("activations")
    written_pj = energy.get((channel.name, "ofmap"), 0.0) + apart * channel.energy
    energy[channel.name, "ofmap"] = written_pj
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
        energy_parts=energy,
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


def vector_layer(
    layer: Layer, accelerator: Accelerator, batch: int, maps: Mapping[str, FeatureMap]
) -> LayerStats:
    """A layer on the vector unit: tensors stream from DRAM through the buffer and back."""
    assert isinstance(layer.work, Vector)
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
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
    ifmap = 2 * sum(int(t.values * batch * maps[t.name].mean_bits) for t in layer.inputs)
    ofmap = 2 * int(layer.output.values * batch * maps[layer.name].mean_bits)
    moved = {
        (gbuf.name, "ifmap"): ifmap,
        (gbuf.name, "ofmap"): ofmap,
        (dram.name, "ifmap"): read_bits,
        (dram.name, "ofmap"): write_bits,
    }
    return LayerStats(
        name=layer.name,
        kind=layer.kind,
        macs=0,
        cycles=compute + stall,
        stall_cycles=stall,
        dram_read_bits=read_bits,
        dram_write_bits=write_bits,
        onchip_bits={gbuf.name: ifmap + ofmap, accelerator.memory_for("weights").name: 0},
        required_bits={gbuf.name: 0, accelerator.memory_for("weights").name: 0},
        available_bits={
            gbuf.name: gbuf.capacity,
            accelerator.memory_for("weights").name: accelerator.memory_for("weights").capacity,
        },
        energy_parts={
            ("vector", "operation"): operations * accelerator.vector.energy,
            **access_energy_pj(accelerator, moved),
        },
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


def view_layer(layer: Layer, accelerator: Accelerator) -> LayerStats:
    """A concatenation that is only an address: nothing moves and nothing is computed."""
    gbuf, filters = accelerator.memory_for("ifmap"), accelerator.memory_for("weights")
    nothing = {gbuf.name: 0, filters.name: 0}
    return LayerStats(
        name=layer.name,
        kind=layer.kind,
        macs=0,
        cycles=0,
        stall_cycles=0,
        dram_read_bits=0,
        dram_write_bits=0,
        onchip_bits=nothing,
        required_bits=nothing,
        available_bits={gbuf.name: gbuf.capacity, filters.name: filters.capacity},
        energy_parts={},
        detail={
            "processing_cycles": 0,
            "mapping": "address",
            "bound_by": "nothing",
            "dram_ifmap_bits": 0,
            "dram_ofmap_bits": 0,
        },
    )
