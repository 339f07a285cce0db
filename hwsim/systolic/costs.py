"""What a planned layer costs beside time: DRAM traffic, accesses, storage, energy; and its row.

Counts follow from how the layer is cut and from what stays on chip; none depends on how fast
anything is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hwsim.accelerator import Operand
from hwsim.dram import Link
from hwsim.energy import Part, access_energy_pj, by_place
from hwsim.graph import Layer, Matmul, Vector
from hwsim.memory import held_bits
from hwsim.stats import LayerStats
from hwsim.systolic.planner import LayerPlan, Planner, channel_links
from hwsim.systolic.steps import StepTable
from hwsim.systolic.timing import VectorTask

_STREAMED: tuple[Operand, Operand] = ("psum", "weights")
_NO_SRAM = dict.fromkeys(("ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes"), 0)


@dataclass(frozen=True)
class Traffic:
    """DRAM bits of one layer: the weight channel's, and both directions of the other; of its reads
    those of a product's second operand."""

    weight_reads: int
    reads: int
    writes: int
    second_reads: int


def traffic_of(plan: LayerPlan, weights: Link, activations: Link) -> Traffic:
    """Bits over both DRAM channels, whole bursts."""
    fetched = reads = writes = second = 0
    for task in plan.tasks:
        if isinstance(task, VectorTask):
            moved = activations.moved_bits(task.read_bits)
            second += 0 if plan.schedule is None else moved
            reads += moved
            writes += activations.moved_bits(task.write_bits)
            continue
        table = task.steps
        assert isinstance(table, StepTable)
        if not table.from_chip:
            fetched += int(weights.bursts(table.tiles).sum()) * weights.burst_bits
        reads += int(activations.bursts(table.read_bits).sum()) * activations.burst_bits
        writes += int(activations.bursts(table.write_bits).sum()) * activations.burst_bits
    return Traffic(fetched, reads, writes, second)


def onchip_bits(planner: Planner, layer: Layer, plan: LayerPlan) -> dict[Part, int]:
    """Bits read and written in each memory, by data type.

    A row of ifmap values is read once for each slice of the weights; a psum is written and
    read once for each fold and slice; a tile enters the FIFO once a fetch and leaves it once
    a fold, or leaves the memory that keeps it.
    """
    buffer, results = planner.buffer.name, planner.accelerator.memory_for("ofmap").name
    psum, fifo = (planner.accelerator.memory_for(op).name for op in _STREAMED)
    counts: dict[Part, int] = {
        (buffer, "ifmap"): 0,
        (results, "ofmap"): 0 if layer.name in planner.live.views else planner.sizes[layer.name],
        (psum, "psum"): 0,
        (fifo, "weights"): 0,
    }
    if (store := planner.accelerator.weight_store) is not None:
        counts.setdefault((store.name, "weights"), 0)
    if layer.name in planner.live.views:
        return counts
    if plan.schedule is None:
        counts[buffer, "ifmap"] = sum(
            planner.value_bits(tensor.name, tensor.values * planner.batch)
            for tensor in layer.inputs
        )
        return counts
    first = layer.inputs[0].name
    counts[buffer, "ifmap"] = planner.value_bits(first, plan.schedule.ifmap_reads)
    counts[psum, "psum"] = 2 * plan.schedule.psum_writes * planner.array.accumulator_bits
    tiles, uses = int(plan.schedule.fetch_bits.sum()), int(plan.schedule.use_bits.sum())
    if planner.weights_stay is not None and layer.weighted:
        counts[planner.weights_stay.name, "weights"] = uses
    else:
        counts[fifo, "weights"] = tiles + uses
    if isinstance(layer.work, Matmul):  # the second operand comes from the buffer
        counts[buffer, "weights"] = counts.get((buffer, "weights"), 0) + tiles
    return counts


def required_bits(planner: Planner, layer: Layer, plan: LayerPlan) -> dict[str, int]:
    """Bits that must be there at once in each memory, summed over what it holds.

    Tensors alive and, in a memory that is to hold whole layers, the layer's weights; two
    chunks of psums in whole rows; as many tiles as the FIFO is deep.
    """
    need = dict.fromkeys((memory.name for memory in planner.accelerator.memory), 0)
    psum, fifo = (planner.accelerator.memory_for(op) for op in _STREAMED)
    metadata_bits = planner.accelerator.metadata.bits
    for memory in planner.accelerator.memory:
        held = planner.held[memory.name][layer.name]
        if memory.keeps_weights:
            held = tuple(h for h in held if h[0] == "activations")
            need[memory.name] += planner.all_weight_bits
        if memory.fit == "tile":  # weights stream; tensors that are kept are there whole
            held = tuple(h for h in held if h[0] == "activations")
        tensors = [name for operand, name in held if operand == "activations"]
        weights = [h for h in held if h[0] == "weights"]
        need[memory.name] += sum(planner.sizes[name] for name in tensors)
        need[memory.name] += held_bits(planner.graph, planner.bits, 1, weights, metadata_bits)
    if plan.schedule is not None and len(plan.schedule.steps):
        steps = plan.schedule.steps
        turns = int((steps.fold == 0).sum())
        rows = min(2, turns) * plan.schedule.psum_rows
        need[psum.name] += rows * planner.array.cols * planner.array.accumulator_bits
        stays = planner.weights_stay is not None and layer.weighted
        if fifo.fit == "tile" and not stays:
            tiles = min(planner.array.weight_fifo_tiles, int(steps.new_tile.sum()))
            need[fifo.name] += tiles * int(plan.schedule.tile_bits.max())
    return need


def energy_parts(
    planner: Planner, layer: Layer, plan: LayerPlan, onchip: dict[Part, int], traffic: Traffic
) -> dict[Part, float]:
    """Multiply-accumulates, memories, both DRAM channels and vector operations.

    Off the block diagonal PEs multiply by zero, which is taken to cost nothing.
    """
    accelerator = planner.accelerator
    weights, activations = (accelerator.dram_for(c).name for c in ("weights", "activations"))
    moved = {
        **onchip,
        (weights, "weights"): traffic.weight_reads,
        (activations, "ifmap"): traffic.reads - traffic.second_reads,
        (activations, "ofmap"): traffic.writes,
    }
    if traffic.second_reads:
        stationary = (activations, "weights")
        moved[stationary] = moved.get(stationary, 0) + traffic.second_reads
    operations = layer.work.operations * planner.batch if isinstance(layer.work, Vector) else 0
    if layer.name in planner.live.views:
        operations = 0
    return {
        ("array", "mac"): plan.mac_pj,
        ("vector", "operation"): accelerator.vector.energy * operations,
        **access_energy_pj(accelerator, moved),
    }


def layer_rows(
    planner: Planner, plans: Sequence[LayerPlan], cycles: Iterable[int], stalls: Iterable[int]
) -> Iterator[LayerStats]:
    """What each layer costs, in execution order, given its cycles and stall cycles."""
    weights, activations = channel_links(planner.accelerator)
    for layer, plan, taken, stalled in zip(planner.layers, plans, cycles, stalls, strict=True):
        traffic = traffic_of(plan, weights, activations)
        onchip, required = onchip_bits(planner, layer, plan), required_bits(planner, layer, plan)
        yield LayerStats(
            name=layer.name,
            kind=layer.kind,
            macs=layer.macs * planner.batch,
            cycles=taken,
            stall_cycles=stalled,
            dram_read_bits=traffic.weight_reads + traffic.reads,
            dram_write_bits=traffic.writes,
            onchip_bits=by_place(onchip),
            required_bits=required,
            available_bits={m.name: m.capacity for m in planner.accelerator.memory},
            energy_parts=energy_parts(planner, layer, plan, onchip, traffic),
            detail={
                "steps": 0 if plan.schedule is None else len(plan.schedule.steps),
                **(_NO_SRAM if plan.schedule is None else plan.schedule.sram_counts),
                "weight_dram_bits": traffic.weight_reads,
                "activation_dram_bits": traffic.reads + traffic.writes,
                "ofmap_kept": int(layer.name in planner.residency.resident),
            },
        )
