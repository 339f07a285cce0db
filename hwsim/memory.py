"""What is on chip: tensors that stay from producer to last reader, and what each layer needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hwsim.accelerator import Memory
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph

Held = tuple[Literal["weights", "activations"], str]  # a layer's weights, or the tensor it writes


def alive_tensors(graph: LayerGraph) -> dict[str, tuple[str, ...]]:
    """Tensors that are needed while each layer runs: its inputs, its output, and those that a
    later layer still reads (a residual branch)."""
    alive: list[str] = []
    found = {}
    for position, layer in enumerate(graph):
        alive.append(layer.name)
        found[layer.name] = tuple(alive)
        alive = [name for name in alive if graph.last_reader[name] > position]
    return found


def held_operands(graph: LayerGraph, memory: Memory) -> dict[str, tuple[Held, ...]]:
    """{layer: whole operands that a memory holds while it runs}, as the method's paper counts
    them: its weights; its input and output together, and all tensors alive where they are kept."""
    alive = alive_tensors(graph)
    found: dict[str, tuple[Held, ...]] = {}
    for layer in graph:
        held: list[Held] = []
        if "weights" in memory.holds and layer.weighted:
            held.append(("weights", layer.name))
        if "ifmap" in memory.holds:
            own = dict.fromkeys([*(tensor.name for tensor in layer.inputs), layer.name])
            tensors = alive[layer.name] if memory.keeps_tensors else tuple(own)
            held += [("activations", name) for name in tensors]
        found[layer.name] = tuple(held)
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


@dataclass(frozen=True)
class Residency:
    """tensor_bits: size of each layer's output for the whole batch. resident: those that stay on
    chip."""

    tensor_bits: dict[str, int]
    resident: frozenset[str]


def plan_residency(graph: LayerGraph, bits: BitWidths, batch: int, capacity_bits: int) -> Residency:
    """Keep each tensor on chip if it fits beside those that are there already, else spill it.

    First come, first kept: in execution order, without looking ahead. A spilled tensor is
    written to DRAM by its producer and read back by every reader.
    """
    tensor_bits = {layer.name: bits.activation_bits(layer) * batch for layer in graph}
    resident: set[str] = set()
    on_chip: set[str] = set()
    for position, layer in enumerate(graph):
        if sum(tensor_bits[name] for name in on_chip) + tensor_bits[layer.name] <= capacity_bits:
            resident.add(layer.name)
            on_chip.add(layer.name)
        on_chip = {name for name in on_chip if graph.last_reader[name] > position}
    return Residency(tensor_bits, frozenset(resident))
