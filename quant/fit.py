"""Fit: the caps that keep each layer's operands inside the chip's memories.

As in the method's paper, a layer fits when its weights, and its input and output alive together,
stay within the on-chip memory that holds them; points beyond the cap leave the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwsim.accelerator import Accelerator
from hwsim.graph import LayerGraph
from hwsim.memory import held_operands
from quant.budget import Cap, Kind

# assumed: means below which a layer is not worth squeezing, since without retraining accuracy goes
MIN_MEAN_WEIGHT_BITS = 2.0
MIN_MEAN_ACTIVATION_BITS = 4.0


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
    caps: tuple[Cap, ...]
    unfit: tuple[Unfit, ...]


def fit_caps(
    graph: LayerGraph,
    accelerator: Accelerator,
    batch: int = 1,
    fixed: Mapping[tuple[Kind, str], int | np.ndarray] | None = None,
) -> Fit:
    """Caps of every layer in the memories that are to hold whole layers (`fit = "layer"`).

    Memories that keep tensors from layer to layer are capped with all tensors alive. A layer that
    would fit only below 2 bits a weight or 4 bits an activation is left out and listed as unfit.
    fixed: widths that the budget fixes, which take their room first. Raises ValueError for a
    memory that holds weights and activations of a batch above 1: their bits do not grow alike.
    """
    fixed = fixed or {}
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
        for layer, members in ((graph[n], m) for n, m in held_operands(graph, memory).items()):
            if not members or layer.kind == "input":
                continue
            overhead = 0
            if ("weights", layer.name) in members:
                overhead = accelerator.metadata.bits * layer.out_channels
            limit = memory.capacity if "weights" in memory.holds else memory.capacity // batch
            sizes = {member: _values(graph, member) for member in members}
            free = {m: values for m, values in sizes.items() if m not in fixed}
            room = (
                limit
                - overhead
                - sum(int(sizes[m] * np.mean(fixed[m])) for m in members if m in fixed)
            )
            if not free:
                continue
            mean = room / sum(free.values())
            kinds = {kind for kind, _ in free}
            least = MIN_MEAN_ACTIVATION_BITS if "activations" in kinds else MIN_MEAN_WEIGHT_BITS
            if mean < least:
                unfit.append(Unfit(layer.name, memory.name, max(0.0, mean)))
                continue
            name = f"{layer.name} in {accelerator.name} {memory.name}"
            caps.append(Cap(name, members, limit, overhead))
    return Fit(tuple(caps), tuple(unfit))


def _values(graph: LayerGraph, member: tuple[Kind, str]) -> int:
    kind, name = member
    layer = graph[name]
    if kind == "activations":
        return layer.output.values
    return layer.out_channels * layer.weights_per_channel
