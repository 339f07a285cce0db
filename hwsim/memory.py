"""What is on chip: tensors that stay from producer to last reader, and what each layer needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol

from hwsim.accelerator import Memory
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph, Tensor
from hwsim.residency import Problem, place, usage_bits

Held = tuple[Literal["weights", "activations"], str]  # a layer's weights, or the tensor it writes


def alive_tensors(
    graph: LayerGraph, order: Sequence[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Tensors that take storage while each layer runs: its inputs, its output, and those that a
    later layer still reads (a residual branch).

    order: of execution, the graph's own by default. A concatenation that is only an address
    (`liveness.views`) stands for the tensors it consists of.
    """
    live = graph.liveness
    alive: list[str] = []
    done, found = 0, {}
    for name in order or live.names:
        node = live.index[name]
        if name in live.views:
            found[name] = tuple(
                dict.fromkeys([*alive, *(live.names[part] for part in live.parts[node])])
            )
            continue
        alive.append(name)
        found[name] = tuple(alive)
        done |= 1 << node
        alive = [other for other in alive if live.readers[live.index[other]] & ~done]
    return found


def held_operands(
    graph: LayerGraph, memory: Memory, order: Sequence[str] | None = None
) -> dict[str, tuple[Held, ...]]:
    """{layer: whole operands that a memory holds while it runs}, as the method's paper counts
    them: its weights; its input and output together, and all tensors alive where they are kept."""
    live = graph.liveness
    alive = alive_tensors(graph, order)
    found: dict[str, tuple[Held, ...]] = {}
    for name in order or live.names:
        held: list[Held] = []
        if "weights" in memory.holds and graph[name].weighted:
            held.append(("weights", name))
        if "ifmap" in memory.holds:
            node = live.index[name]
            own = dict.fromkeys([*live.reads[node], *live.parts[node]])
            tensors = alive[name] if memory.keeps_tensors else [live.names[i] for i in own]
            held += [("activations", tensor) for tensor in tensors]
        found[name] = tuple(held)
    return found


def held_bits(
    graph: LayerGraph, bits: BitWidths, batch: int, held: Iterable[Held], metadata_bits: int
) -> int:
    """Bits of operands held together; metadata_bits are beside each channel of weights."""
    total = 0
    for kind, name in held:
        layer = graph[name]
        if kind == "activations":
            total += bits.activation_bits(layer) * batch
        else:
            total += int(bits.weight(layer).sum()) * layer.weights_per_channel
            total += metadata_bits * layer.out_channels
    return total


def network_weight_bits(graph: LayerGraph, bits: BitWidths, metadata_bits: int) -> int:
    """Bits of all weights, with the metadata of each output channel."""
    channels = sum(layer.out_channels for layer in graph.weighted)
    return bits.weight_bits(graph) + metadata_bits * channels


def stored_bits(graph: LayerGraph, bits: BitWidths, batch: int) -> dict[str, int]:
    """Bits of each layer's output for the whole batch; a concatenation that is only an address has
    the bits of the tensors it consists of."""
    live = graph.liveness
    sizes = {layer.name: bits.activation_bits(layer) * batch for layer in graph}
    for view in live.views:
        parts = live.parts[live.index[view]]
        sizes[view] = sum(sizes[live.names[part]] for part in parts)
    return sizes


def part_bits(
    graph: LayerGraph, sizes: dict[str, int], batch: int, tensor: str, part: str, values: int
) -> int:
    """Bits that `values` values of a tensor take in one of the parts that it consists of, at the
    mean width of the part; sizes are those of `stored_bits`."""
    return -(-values * sizes[part] // (graph[tensor].output.values * batch))


@dataclass(frozen=True)
class Residency:
    """What stays on chip, and in which order the layers run.

    tensor_bits: size of each layer's output for the whole batch. resident: tensors that stay; a
    concatenation that is only an address is there when all its parts are. extra_bits: DRAM
    traffic that spilling costs; bound_bits: no choice has less; peak_bits: most kept at once;
    kept_bits: what is kept while each layer runs.
    """

    order: tuple[str, ...]
    tensor_bits: dict[str, int]
    resident: frozenset[str]
    extra_bits: int = 0
    bound_bits: int = 0
    peak_bits: int = 0
    kept_bits: dict[str, int] = field(default_factory=dict)

    @property
    def gap_bits(self) -> int:
        """How far the choice may be from the best, 0 where that is proven (see `residency`)."""
        return self.extra_bits - self.bound_bits


class SpillTraffic(Protocol):
    """DRAM bits, whole bursts, of tensors that are not kept."""

    def read_bits(self, reader: Layer, part: str) -> int:
        """What a layer reads of a spilled tensor, however often."""

    def write_bits(self, layer: Layer) -> int:
        """What writing the layer's output costs."""

    def load_bits(self, layer: Layer) -> int:
        """What bringing a network input on chip once, to be kept, costs."""


def plan_residency(
    graph: LayerGraph,
    bits: BitWidths,
    batch: int,
    capacity_bits: int | Sequence[int],
    traffic: SpillTraffic | None = None,
    in_place: bool = False,
    sizes: dict[str, int] | None = None,
    barred: Iterable[str] = (),
) -> Residency:
    """The order of layers and the tensors to keep that need least DRAM traffic, then least peak.

    A tensor stays from its producer to its last reader, or is spilled: written to DRAM by its
    producer and read back by every reader. What leaves the network is written in any case.
    capacity_bits: of the memory, or what it has left for tensors at each layer, in the graph's
    order. traffic: what spilling costs; by default every reader reads just what it uses. sizes: of
    the tensors in this memory, where they are not `stored_bits`. barred: tensors that are never
    kept. A memory that keeps nothing has capacity 0.
    """
    live = graph.liveness
    sizes = stored_bits(graph, bits, batch) if sizes is None else sizes
    room = capacity_bits
    if isinstance(room, int):
        room = [room] * len(graph)
    spill = traffic or PlainTraffic(graph, sizes, batch)

    @cache
    def gain(tensor: int) -> int:
        layer, name = graph.layers[tensor], live.names[tensor]
        reads = sum(
            spill.read_bits(graph.layers[reader], name)
            for reader in live.nodes
            if live.readers[tensor] >> reader & 1
        )
        if layer.kind == "input":
            return reads - spill.load_bits(layer)
        return reads + (0 if live.leaves[tensor] else spill.write_bits(layer))

    size = [0 if name in live.views else sizes[name] for name in live.names]
    never = frozenset(live.index[name] for name in barred)
    problem = Problem(live, size, room, gain, in_place, never)
    found = place(problem)
    kept = [all(part in found.kept for part in parts) for parts in live.parts]
    order = live.with_views(found.order)
    usage = dict(zip(found.order, usage_bits(problem, found.order, found.kept), strict=True))
    kept_bits, before = {}, 0
    for name in order:  # an address changes nothing
        before = kept_bits[name] = usage.get(live.index[name], before)
    return Residency(
        order=order,
        tensor_bits=sizes,
        resident=frozenset(name for name, here in zip(live.names, kept, strict=True) if here),
        extra_bits=found.extra_bits,
        bound_bits=found.bound_bits,
        peak_bits=found.peak_bits,
        kept_bits=kept_bits,
    )


def read_tensors(graph: LayerGraph, reader: Layer, part: str) -> list[Tensor]:
    """The tensors that a layer reads, as it reads them, of which `part` is a part."""
    live = graph.liveness
    return [t for t in reader.inputs if live.index[part] in live.parts[live.index[t.name]]]


@dataclass(frozen=True)
class PlainTraffic:
    """Every operand read once as its reader sees it, every tensor written once; no bursts."""

    graph: LayerGraph
    sizes: dict[str, int]
    batch: int

    def read_bits(self, reader: Layer, part: str) -> int:
        return sum(
            part_bits(self.graph, self.sizes, self.batch, t.name, part, t.values * self.batch)
            for t in read_tensors(self.graph, reader, part)
        )

    def write_bits(self, layer: Layer) -> int:
        return self.sizes[layer.name]

    def load_bits(self, layer: Layer) -> int:
        return self.sizes[layer.name]
