"""Residency: which tensors stay on chip from their producer to their last reader."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph


@dataclass(frozen=True)
class Residency:
    """tensor_bits: size of each layer's output for the whole batch. resident: those that stay on
    chip. alive_bits: by position in the graph, bits of all tensors alive while a layer runs: its
    inputs, its output, and what a later layer still needs (a residual branch)."""

    tensor_bits: dict[str, int]
    resident: frozenset[str]
    alive_bits: tuple[int, ...]


def plan_residency(graph: LayerGraph, bits: BitWidths, batch: int, capacity_bits: int) -> Residency:
    """Keep each tensor on chip if it fits beside those that are there already, else spill it.

    First come, first kept: in execution order, without looking ahead. A spilled tensor is
    written to DRAM by its producer and read back by every reader.
    """
    tensor_bits = {layer.name: bits.activation_bits(layer) * batch for layer in graph}
    resident: set[str] = set()
    on_chip: set[str] = set()
    alive: set[str] = set()
    alive_bits = []
    for position, layer in enumerate(graph):
        alive.add(layer.name)
        alive_bits.append(sum(tensor_bits[name] for name in alive))
        held_bits = sum(tensor_bits[name] for name in on_chip)
        if held_bits + tensor_bits[layer.name] <= capacity_bits:
            resident.add(layer.name)
            on_chip.add(layer.name)
        done = {name for name in alive if graph.last_reader[name] <= position}
        alive -= done
        on_chip -= done
    return Residency(tensor_bits, frozenset(resident), tuple(alive_bits))
