"""Fit: the caps that keep each layer's operands inside the chip's memories.

As in the method's paper, a layer fits when its weights, and its input and output alive together,
stay within the on-chip memory that holds them; points beyond the cap leave the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.memory import held_operands, plan_residency, stored_bits
from quant.allocation.budget import Cap, Kind

# assumed: widths below which a layer is not worth squeezing, since without retraining accuracy goes
LEAST: dict[Kind, int] = {"weights": 2, "activations": 4}


@dataclass(frozen=True)
class Unfit:
    """Operands that no sensible width brings inside a memory; the simulator tiles them.

    mean_bits: what would be left for each value.
    """

    layer: str
    memory: str
    mean_bits: float


@dataclass(frozen=True)
class Fit:
    """caps: for a budget, so that each layer fits. unfit: operands that no sensible widths fit."""

    caps: tuple[Cap, ...]
    unfit: tuple[Unfit, ...]


def fit_caps(
    graph: LayerGraph,
    accelerator: Accelerator,
    batch: int = 1,
    fixed: Mapping[tuple[Kind, str], int | np.ndarray] | None = None,
    least: Mapping[Kind, int] = LEAST,
) -> Fit:
    """Caps of every layer in the memories that are to hold whole layers (`fit = "layer"`).

    Memories that keep tensors from layer to layer are capped with all tensors alive, in the order
    of execution that needs least room at the narrowest widths: where its caps are kept everything
    fits, so the order that the simulator takes at the chosen widths keeps everything too. A layer
    that does not fit with all its widths at `least` is left out and listed as unfit; so a budget
    that allows these widths can keep all caps. fixed: widths that the budget fixes. Raises
    ValueError for a memory that holds weights and activations of a batch above 1, which do not
    grow alike.
    """
    fixed = fixed or {}
    order = _order(graph, accelerator, fixed, least)
    caps: list[Cap] = []
    unfit: list[Unfit] = []
    for memory in accelerator.memory:
        if memory.fit != "layer":
            continue
        both = "weights" in memory.holds and "ifmap" in memory.holds
        if both and batch > 1:
            raise ValueError(
                f"accelerator {accelerator.name!r}: memory {memory.name!r} holds weights and "
                f"activations, which caps cannot weigh together at batch {batch}; use batch 1"
            )
        for name, members in held_operands(graph, memory, order).items():
            layer = graph[name]
            if not members or layer.kind == "input":
                continue
            overhead = 0
            if ("weights", layer.name) in members:
                overhead = accelerator.metadata.bits * layer.out_channels
            limit = memory.capacity if "weights" in memory.holds else memory.capacity // batch
            sizes = {member: _values(graph, member) for member in members}
            if all(member in fixed for member in members):
                continue
            smallest = sum(
                int(values * np.mean(fixed.get(member, least[member[0]])))
                for member, values in sizes.items()
            )
            if smallest > limit - overhead:
                mean = max(0, limit - overhead) / sum(sizes.values())
                unfit.append(Unfit(layer.name, memory.name, mean))
                continue
            where = f"{name} in {accelerator.name} {memory.name}"
            caps.append(Cap(where, members, limit, overhead))
    return Fit(tuple(caps), tuple(unfit))


def _order(
    graph: LayerGraph,
    accelerator: Accelerator,
    fixed: Mapping[tuple[Kind, str], int | np.ndarray],
    least: Mapping[Kind, int],
) -> tuple[str, ...]:
    """Layers in the order in which the simulator runs them where all tensors fit."""
    widths = {
        layer.name: np.asarray(fixed.get(("activations", layer.name), least["activations"]))
        for layer in graph
    }
    bits = BitWidths(least["weights"], widths)
    everything = sum(stored_bits(graph, bits, 1).values())
    in_place = accelerator.vector.in_place
    return plan_residency(graph, bits, 1, everything, in_place=in_place).order


def _values(graph: LayerGraph, member: tuple[Kind, str]) -> int:
    kind, name = member
    layer = graph[name]
    if kind == "activations":
        return layer.output.values
    return layer.out_channels * layer.weights_per_channel
