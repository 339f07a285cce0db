"""Turn the layers of a network into tasks for the recurrence, with widths and residency applied.

Assumes: layers run in the order, and activations stay in the buffer, as `memory.plan_residency`
says; what does not stay is streamed chunk by chunk over its channel, two chunks staged; weights
cross their DRAM channel once per use of a fold and are prefetched across layers as far as the FIFO
reaches, unless a memory keeps those of the whole network, from which they are shifted straight
into the shadow plane, one row a cycle; the buffer delivers one row of the array's inputs a cycle;
pools, additions and the like are layers of the vector unit, which works beside the array where the
graph allows it; a concatenation costs nothing where its parts need not move (`hwsim.liveness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwsim.accelerator import Accelerator, Memory, SystolicArray
from hwsim.bits import BitWidths
from hwsim.dram import Link
from hwsim.energy import mac_pj
from hwsim.graph import Gemm, Layer, LayerGraph, Matmul, Vector
from hwsim.memory import (
    Held,
    Residency,
    held_operands,
    network_weight_bits,
    part_bits,
    plan_residency,
    stored_bits,
)
from hwsim.systolic.folds import ColumnOrder
from hwsim.systolic.schedule import LayerSchedule, schedule_layer
from hwsim.systolic.spill import chunk_read_values, chunk_write_values
from hwsim.systolic.timing import ArrayTask, Task, VectorTask


@dataclass(frozen=True)
class _Cut:
    """How a layer is cut for the array.

    gemm, widths: as the array sees them, each image of a matmul bringing its own stationary
    operand. pixels: that stream through the weights of a block.
    """

    gemm: Gemm
    widths: np.ndarray
    pixels: int
    schedule: LayerSchedule


@dataclass(frozen=True)
class LayerPlan:
    """A layer's tasks for the recurrence, how it was cut (None on the vector unit), and the energy
    of its multiply-accumulates."""

    tasks: tuple[Task, ...]
    schedule: LayerSchedule | None
    mac_pj: float = 0.0


class Planner:
    """Turns the layers of one network into tasks, widths and residency applied."""

    def __init__(
        self,
        graph: LayerGraph,
        accelerator: Accelerator,
        bits: BitWidths,
        batch: int,
        order: ColumnOrder,
    ) -> None:
        array = accelerator.array
        assert isinstance(array, SystolicArray)
        self.order: ColumnOrder = order
        self.graph, self.accelerator, self.bits, self.batch = graph, accelerator, bits, batch
        self.array = array
        self.live = graph.liveness
        self.sizes = stored_bits(graph, bits, batch)
        self.cuts = {layer.name: self._cut(layer) for layer in graph if layer.gemm is not None}
        self._place(accelerator)

    def on(self, accelerator: Accelerator) -> Planner:
        """A planner for an accelerator that cuts the layers alike, with the cuts of this one."""
        other = copy(self)
        for found in ("layers", "held"):
            vars(other).pop(found, None)
        assert isinstance(accelerator.array, SystolicArray)
        other.accelerator, other.array = accelerator, accelerator.array
        other._place(accelerator)
        return other

    def _place(self, accelerator: Accelerator) -> None:
        """Decide what stays on chip, and begin an empty program."""
        self.activations = Link.of(accelerator.dram_for("activations"), accelerator.clock)
        self.weights_stay = self._weights_stay()
        self.buffer = accelerator.memory_for("ifmap")
        capacity = self.buffer.capacity if self.buffer.keeps_tensors else 0
        self.residency: Residency = plan_residency(
            self.graph,
            self.bits,
            self.batch,
            capacity,
            self,
            accelerator.vector.in_place,
            self.sizes,
        )
        self.tasks: list[Task] = []  # of all layers so far
        self.ends: dict[str, tuple[int, ...]] = {}  # tasks that complete each layer's output

    @cached_property
    def layers(self) -> list[Layer]:
        """In execution order."""
        return [self.graph[name] for name in self.residency.order]

    @cached_property
    def held(self) -> dict[str, dict[str, tuple[Held, ...]]]:
        order = self.residency.order
        return {m.name: held_operands(self.graph, m, order) for m in self.accelerator.memory}

    def _weights_stay(self) -> Memory | None:
        """The memory that keeps the weights of the whole network, if there is one and they fit."""
        store = self.accelerator.weight_store
        return store if store is not None and self.all_weight_bits <= store.capacity else None

    @cached_property
    def all_weight_bits(self) -> int:
        return network_weight_bits(self.graph, self.bits, self.accelerator.metadata.bits)

    def value_bits(self, name: str, values: int) -> int:
        """Bits of some values of a tensor, at the mean width of its channels."""
        return part_bits(self.graph, self.sizes, self.batch, name, name, values)

    def moved_bits(self, name: str, parts: Sequence[str], values: int) -> int:
        """DRAM bits of some values of a tensor in some of its parts, each in bursts of its own."""
        return sum(
            self.activations.moved_bits(
                part_bits(self.graph, self.sizes, self.batch, name, part, values)
            )
            for part in parts
        )

    def parts(self, name: str) -> list[str]:
        """The tensors that a layer's output consists of."""
        return [self.live.names[part] for part in self.live.parts[self.live.index[name]]]

    def spilled(self, name: str) -> list[str]:
        """The parts of a tensor that are not kept."""
        return [part for part in self.parts(name) if part not in self.residency.resident]

    def leaves(self, layer: Layer) -> bool:
        """Whether the layer's output must cross to DRAM."""
        outgoing = self.live.leaves[self.live.index[layer.name]]
        return outgoing or layer.name not in self.residency.resident

    def read_bits(self, reader: Layer, part: str) -> int:
        """DRAM bits that a layer reads of a spilled tensor (see `memory.SpillTraffic`)."""
        bits = 0
        for position, tensor in enumerate(reader.inputs):
            if part not in self.parts(tensor.name):
                continue
            streams = reader.gemm is not None and position == 0
            values = self._read_values(reader) if streams else [tensor.values * self.batch]
            bits += sum(self.moved_bits(tensor.name, [part], v) for v in values)
        return bits

    def write_bits(self, layer: Layer) -> int:
        values = [layer.output.values * self.batch]
        if layer.gemm is not None:
            values = self._write_values(layer)
        return sum(self.moved_bits(layer.name, [layer.name], v) for v in values)

    def load_bits(self, layer: Layer) -> int:
        return self.activations.moved_bits(self.sizes[layer.name])

    def _read_values(self, layer: Layer) -> list[int]:
        """Values of its first operand that a layer on the array wants at each block and chunk."""
        cut = self.cuts[layer.name]
        if not len(cut.schedule.steps):
            return []
        values = chunk_read_values(layer, cut.schedule.blocks, cut.pixels, cut.schedule.chunk_rows)
        reads = cut.schedule.turns_that_read(self._holds_ifmap(layer))
        return [v if read else 0 for v, read in zip(values, reads, strict=True)]

    def _holds_ifmap(self, layer: Layer) -> bool:
        """Whether a memory that keeps no tensors holds a layer's whole ifmap while it runs."""
        buffer = self.accelerator.memory_for("ifmap")
        return not buffer.keeps_tensors and self.sizes[layer.inputs[0].name] <= buffer.capacity

    def _write_values(self, layer: Layer) -> list[int]:
        cut = self.cuts[layer.name]
        channels = cut.gemm.groups * cut.gemm.columns
        if not len(cut.schedule.steps):  # all channels dropped: constants, but they are read
            return [layer.output.values * self.batch]
        return chunk_write_values(
            cut.schedule.blocks, channels, cut.pixels, cut.schedule.chunk_rows
        )

    def plan(self, layer: Layer) -> LayerPlan:
        """Add the layer's tasks to the program. Layers come in execution order."""
        after = tuple(i for tensor in layer.inputs for i in self.ends[tensor.name])
        after = tuple(dict.fromkeys(after))
        if layer.name in self.live.views:  # readers find the parts where they are
            self.ends[layer.name] = after
            return LayerPlan((), None)
        plan = (
            self._plan_vector(layer, after) if layer.gemm is None else self._plan_gemm(layer, after)
        )
        self.tasks += plan.tasks
        self.ends[layer.name] = (len(self.tasks) - 1,)
        return plan

    def plan_all(self) -> list[LayerPlan]:
        """Plans of all layers, in execution order; their tasks are the planner's program."""
        return [self.plan(layer) for layer in self.layers]

    def _plan_vector(self, layer: Layer, after: tuple[int, ...]) -> LayerPlan:
        assert isinstance(layer.work, Vector)
        if layer.kind == "input":
            loads = 0 if self.spilled(layer.name) else self.load_bits(layer)
            return LayerPlan((VectorTask(after, 0, read_bits=loads),), None)
        reads = sum(
            self.moved_bits(tensor.name, self.spilled(tensor.name), tensor.values * self.batch)
            for tensor in layer.inputs
        )
        writes = self.write_bits(layer) if self.leaves(layer) else 0
        cycles = -(-layer.work.operations * self.batch // self.accelerator.vector.lanes)
        return LayerPlan((VectorTask(after, cycles, reads, writes),), None)

    def widest(self, name: str) -> int:
        layer = self.graph[name]
        return int(self.bits.activation(name, layer.output.channels).max())

    def _cut(self, layer: Layer) -> _Cut:
        gemm, images = layer.gemm, self.batch
        assert gemm is not None
        if isinstance(layer.work, Matmul):  # each image has its own second operand
            gemm, images = Gemm(gemm.groups * images, gemm.pixels, gemm.reduction, gemm.columns), 1
            widths = np.full((gemm.groups, gemm.columns), self.widest(layer.inputs[-1].name))
            metadata_bits = 0
        else:
            widths = self.bits.weight(layer).reshape(gemm.groups, gemm.columns)
            metadata_bits = self.accelerator.metadata.bits
        pixels = gemm.pixels * images
        schedule = schedule_layer(
            gemm,
            widths,
            self.widest(layer.inputs[0].name),
            pixels,
            self.array,
            self.accelerator.operand_width,
            metadata_bits,
            self.order,
        )
        return _Cut(gemm, widths, pixels, schedule)

    def _plan_gemm(self, layer: Layer, after: tuple[int, ...]) -> LayerPlan:
        cut = self.cuts[layer.name]
        schedule, first = cut.schedule, layer.inputs[0].name
        staged: tuple[Task, ...] = ()
        if not len(schedule.steps):
            writes_all = self.write_bits(layer) if self.leaves(layer) else 0
            return LayerPlan((VectorTask(after, 0, write_bits=writes_all),), schedule)
        if isinstance(layer.work, Matmul) and (spilled := self.spilled(layer.inputs[-1].name)):
            second = layer.inputs[-1]  # brought back whole before the product begins
            bits = self.moved_bits(second.name, spilled, second.values * self.batch)
            staged = (VectorTask(after, 0, read_bits=bits),)
            after = (len(self.tasks),)
        reads = writes = None
        if spilled := self.spilled(first):
            reads = [self.moved_bits(first, spilled, v) for v in self._read_values(layer)]
        if self.leaves(layer):
            name = [layer.name]
            writes = [self.moved_bits(layer.name, name, v) for v in self._write_values(layer)]
        # a second operand comes from the buffer, never over the weights' channel
        from_chip = isinstance(layer.work, Matmul)
        streamed = schedule
        if self.weights_stay is not None and not from_chip:
            streamed = replace(schedule, fetch_bits=np.zeros_like(schedule.fetch_bits))
        steps = streamed.timing_steps(from_chip, reads, writes)
        energy = mac_pj(
            self.accelerator,
            cut.widths,
            self.widest(first),
            cut.pixels * cut.gemm.reduction,
            fully_connected=cut.gemm.pixels == 1,
        )
        return LayerPlan((*staged, ArrayTask(after, steps)), schedule, energy)


def channel_links(accelerator: Accelerator) -> tuple[Link, Link]:
    """Links of weights and activations; where one channel carries both they are alike."""
    drams = accelerator.dram_for("weights"), accelerator.dram_for("activations")
    weights, activations = (Link.of(dram, accelerator.clock) for dram in drams)
    return weights, activations
