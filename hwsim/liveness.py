"""Liveness: which tensors take storage, who reads them, and what may run in another order.

All of it depends on the graph alone. A concatenation is no tensor of its own where the layout
allows: its inputs are written side by side from the start, and its readers read them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwsim.graph import Layer


def concat_views(layers: Sequence[Layer], outputs: Sequence[str]) -> frozenset[str]:
    """Concatenations that are a change of address, on chip and in DRAM alike.

    Each input must be a whole tensor, only joined (nothing added or fused), and every tensor has
    one place: a concatenation that wants other neighbours beside a tensor than an earlier one, or
    a tensor twice, has to copy; so has one that leaves the network, which is written at its own
    width. The widths stored are otherwise those of the inputs.
    """
    by_name = {layer.name: layer for layer in layers}
    parts: dict[str, tuple[str, ...]] = {}
    right: dict[str, str] = {}  # the neighbour of each tensor in memory, where it has one
    left: dict[str, str] = {}
    views = set()
    for layer in layers:
        parts[layer.name] = (layer.name,)
        whole = all(t.values == by_name[t.name].output.values for t in layer.inputs)
        if layer.kind != "concat" or layer.fused or layer.name in outputs or not whole:
            continue
        if sum(tensor.values for tensor in layer.inputs) != layer.output.values:
            continue  # constants are joined in
        joined = tuple(part for tensor in layer.inputs for part in parts[tensor.name])
        pairs = list(pairwise(joined))
        if len(set(joined)) < len(joined) or any(
            right.get(a, b) != b or left.get(b, a) != a for a, b in pairs
        ):
            continue
        if _closes_a_ring(right, pairs):
            continue
        right.update(pairs)
        left.update((b, a) for a, b in pairs)
        parts[layer.name] = joined
        views.add(layer.name)
    return frozenset(views)


def _closes_a_ring(right: dict[str, str], pairs: list[tuple[str, str]]) -> bool:
    after = right | dict(pairs)
    for first, _ in pairs:
        place: str | None = after.get(first)
        while place is not None and place != first:
            place = after.get(place)
        if place == first:
            return True
    return False


@dataclass(frozen=True)
class Segment:
    """Layers that only move among themselves, whatever the order.

    first, last: positions in the order of `Liveness.nodes`, last excluded.
    """

    first: int
    last: int


class Liveness:
    """What a network's layers keep alive. Layers and tensors are numbered in the graph's order.

    views: concatenations without storage. nodes: the other layers, in order. parts[i]: the
    tensors that the output of layer i consists of. reads[i]: tensors that layer i reads.
    readers[i], needs[i]: bit masks of the layers that read tensor i, and whose tensors i reads.
    leaves[i]: whether the tensor leaves the network. last_use[i]: position of the last layer that
    needs the tensor, in the graph's order; what leaves is written out as it is produced.
    """

    def __init__(self, layers: Sequence[Layer], outputs: Sequence[str]) -> None:
        self.names = tuple(layer.name for layer in layers)
        self.index = index = {name: i for i, name in enumerate(self.names)}
        self.views = views = concat_views(layers, outputs)
        self.nodes = tuple(i for i, name in enumerate(self.names) if name not in views)
        parts: list[tuple[int, ...]] = []
        reads: list[tuple[int, ...]] = []
        for i, layer in enumerate(layers):
            read = tuple(p for tensor in layer.inputs for p in parts[index[tensor.name]])
            reads.append(tuple(dict.fromkeys(read)))
            parts.append(read if layer.name in views else (i,))
        self.parts, self.reads = tuple(parts), tuple(reads)
        readers, needs = [0] * len(layers), [0] * len(layers)
        last_use = list(range(len(layers)))
        for i in self.nodes:
            for part in reads[i]:
                readers[part] |= 1 << i
                needs[i] |= 1 << part
                last_use[part] = i
        self.readers, self.needs, self.last_use = tuple(readers), tuple(needs), tuple(last_use)
        gone = {part for name in outputs for part in parts[index[name]]}
        self.leaves = tuple(i in gone for i in range(len(layers)))
        self.replaceable = self._replaceable(layers)
        self.overwritten = sum(1 << j for j in {j for ours in self.replaceable for j in ours})
        self.segments = self._segments()

    def _replaceable(self, layers: Sequence[Layer]) -> tuple[tuple[int, ...], ...]:
        """Per layer the inputs that its output may overwrite value by value when they die at it:
        tensors of as many values, of a layer that works on single values, unless both have their
        places in concatenations."""
        placed = {part for i, name in enumerate(self.names) if name in self.views
                  for part in self.parts[i]}  # fmt: skip
        found: list[tuple[int, ...]] = []
        for i, layer in enumerate(layers):
            ours: list[int] = []
            if layer.kind in ("add", "elementwise"):
                for tensor in layer.inputs:
                    j = self.index[tensor.name]
                    same = tensor.values == layer.output.values == layers[j].output.values
                    if same and self.names[j] not in self.views and not {i, j} <= placed:
                        ours.append(j)
            found.append(tuple(dict.fromkeys(ours)))
        return tuple(found)

    def _segments(self) -> tuple[Segment, ...]:
        """Between cuts: places in the order where every layer to come needs all layers so far, or
        nothing that they wrote. In the second case nothing is alive, and layers of the two sides
        that took turns would only have more alive than one side after the other."""
        before: dict[int, int] = {}
        for i in self.nodes:
            before[i] = 0
            for part in self.reads[i]:
                before[i] |= before[part] | 1 << part
        so_far, cuts = [0], [0]
        for i in self.nodes:
            so_far.append(so_far[-1] | 1 << i)
        for first, last in pairwise(self._empty()):
            own, common, found = so_far[last] & ~so_far[first], so_far[last], [last]
            for position in reversed(range(first + 1, last)):
                common &= before[self.nodes[position]]
                if so_far[position] & own & ~common == 0:
                    found.append(position)
            cuts += reversed(found)
        return tuple(Segment(a, b) for a, b in pairwise(cuts) if b - a > 1)

    def _empty(self) -> list[int]:
        """Places in the order where no tensor is alive; the begin and the end among them."""
        place = {node: position for position, node in enumerate(self.nodes)}
        places, last = [], 0
        for position, i in enumerate(self.nodes):
            if last <= position:
                places.append(position)
            last = max(last, position + 1, place[self.last_use[i]] + 1)
        return [*places, len(self.nodes)]

    def with_views(self, nodes: Sequence[int]) -> tuple[str, ...]:
        """Names in execution order: each concatenation as soon as its parts are written."""
        waiting = [i for i, name in enumerate(self.names) if name in self.views]
        done, order = set(), []
        for node in nodes:
            order.append(self.names[node])
            done.add(node)
            for view in [v for v in waiting if done.issuperset(self.parts[v])]:
                order.append(self.names[view])
                waiting.remove(view)
        return tuple(order)
