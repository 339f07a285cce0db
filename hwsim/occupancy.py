"""Occupancy: what each memory has to hold, layer by layer, and what stays in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.memory import Held, alive_tensors, held_bits, held_operands, network_weight_bits
from hwsim.stats import NetworkStats

PARTS = ("weights", "input", "output", "kept for later", "tiles")


@dataclass(frozen=True)
class Occupancy:
    """One memory while one layer runs.

    step: position in execution order. required_bits: what must be there at once so that nothing
    spills; parts: the same by what it is, in the order of PARTS: whole operands where the memory
    is to hold a layer, tensors that wait for later layers, and tiles (or psums) otherwise.
    resident: tensors that stay in the memory from layer to layer and are there now.
    """

    step: int
    layer: str
    memory: str
    required_bits: int
    available_bits: int
    parts: Mapping[str, int]
    resident: tuple[str, ...]

    def to_row(self) -> dict[str, object]:
        columns = {f"{part.replace(' ', '_')}_bits": bits for part, bits in self.parts.items()}
        return {
            "step": self.step,
            "layer": self.layer,
            "memory": self.memory,
            "required_bits": self.required_bits,
            "available_bits": self.available_bits,
            **columns,
            "resident": ", ".join(self.resident),
        }


def occupancy(
    graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, stats: NetworkStats
) -> list[Occupancy]:
    """Every memory at every layer of a simulation, in execution order.

    stats: of this graph on this accelerator with these widths. Raises ValueError for statistics
    of another network or accelerator.
    """
    if (stats.network, stats.accelerator) != (graph.name, accelerator.name):
        raise ValueError(
            f"occupancy: expected statistics of {graph.name!r} on {accelerator.name!r}, got those "
            f"of {stats.network!r} on {stats.accelerator!r}; simulate again"
        )
    rows = {layer.name: layer for layer in stats.layers}
    order = [*(layer.name for layer in graph if layer.name not in rows), *rows]
    alive = alive_tensors(graph, order)
    kept = {name for name, row in rows.items() if row.detail.get("ofmap_kept")}
    everything = network_weight_bits(graph, bits, accelerator.metadata.bits)
    found = []
    for memory in accelerator.memory:
        held = held_operands(graph, memory, order)
        keeps = memory.keeps_tensors and "ifmap" in memory.holds
        for step, (name, row) in enumerate(rows.items()):
            parts = _parts(graph, name, bits, stats.batch, accelerator.metadata.bits, held[name])
            if memory.fit == "tile":
                parts["weights"] = 0  # they stream, unless they all stay
            if memory.keeps_weights:
                parts["weights"] = everything
            required = row.required_bits[memory.name]
            if sum(parts.values()) > required or not (
                keeps or memory.keeps_weights or memory.fit == "layer"
            ):
                parts = dict.fromkeys(PARTS, 0)
            parts["tiles"] = required - sum(parts.values())
            found.append(
                Occupancy(
                    step=step,
                    layer=name,
                    memory=memory.name,
                    required_bits=required,
                    available_bits=row.available_bits[memory.name],
                    parts=parts,
                    resident=tuple(t for t in alive[name] if t in kept) if keeps else (),
                )
            )
    return found


def _parts(
    graph: LayerGraph,
    name: str,
    bits: BitWidths,
    batch: int,
    metadata_bits: int,
    held: tuple[Held, ...],
) -> dict[str, int]:
    """Bits of the whole operands that are held, by what they are to the layer."""
    live = graph.liveness
    node = live.index[name]
    inputs = {live.names[i] for i in live.reads[node]}
    outputs = {live.names[i] for i in live.parts[node]} - inputs
    parts = dict.fromkeys(PARTS, 0)
    for kind, tensor in held:
        if kind == "weights":
            part = "weights"
        elif tensor in inputs:
            part = "input"
        else:
            part = "output" if tensor in outputs else "kept for later"
        parts[part] += held_bits(graph, bits, batch, [(kind, tensor)], metadata_bits)
    return parts
