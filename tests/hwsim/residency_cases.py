"""Small random graphs with branches and concatenations, and plain models of what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from hwsim.graph import Layer, LayerGraph, Tensor, Vector


def random_graph(seed: int, count: int, wide: bool = True) -> LayerGraph:
    """An input and `count` layers of the vector unit: additions, concatenations and others."""
    rng = np.random.default_rng(seed)
    layers = [Layer("l0", "input", Vector(0), (), _tensor("l0", int(rng.integers(1, 4))))]
    for i in range(1, count + 1):
        name, near = f"l{i}", layers[-4:] if wide else layers[-2:]
        first = near[rng.integers(len(near))].output
        second = near[rng.integers(len(near))].output
        kind = rng.choice(["add", "concat", "pool", "elementwise"])
        if kind == "add":
            same = [x.output for x in near if x.output.values == first.values]
            inputs = (first, same[rng.integers(len(same))])
            channels = first.channels
        elif kind == "concat":
            inputs = (first, second) if rng.integers(2) else (second, first, layers[0].output)
            channels = sum(t.channels for t in inputs)
        else:
            inputs = (first,)
            channels = first.channels if kind == "elementwise" else int(rng.integers(1, 5))
        values = _tensor(name, channels)
        layers.append(Layer(name, kind, Vector(values.values), inputs, values))
    read = {t.name for layer in layers for t in layer.inputs}
    ends = tuple(layer.name for layer in layers if layer.name not in read)
    return LayerGraph(f"random {seed}", tuple(layers), ends)


def _tensor(name: str, channels: int) -> Tensor:
    return Tensor(name, (1, channels, 2, 2))


def stored(graph: LayerGraph, views: frozenset[str], name: str) -> set[str]:
    """Tensors that a layer's output consists of, followed through concatenations."""
    if name not in views:
        return {name}
    return {part for tensor in graph[name].inputs for part in stored(graph, views, tensor.name)}


def orders(graph: LayerGraph, views: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Every order of the layers that are no views, producers before readers."""
    names = [layer.name for layer in graph if layer.name not in views]
    for order in permutations(names):
        place = {name: i for i, name in enumerate(order)}
        if all(
            place[part] < place[name]
            for name in order
            for tensor in graph[name].inputs
            for part in stored(graph, views, tensor.name)
        ):
            yield order


def held(
    graph: LayerGraph,
    views: frozenset[str],
    order: tuple[str, ...],
    kept: set[str],
    size: dict[str, int],
    in_place: bool = False,
) -> list[int]:
    """Bits of kept tensors while each layer runs: from the producer to the last reader."""
    reads = {
        name: {p for t in graph[name].inputs for p in stored(graph, views, t.name)}
        for name in order
    }
    place = {name: i for i, name in enumerate(order)}
    end = {t: max([place[t], *(place[n] for n in order if t in reads[n])]) for t in order}
    usage = [sum(size[t] for t in kept if place[t] <= now <= end[t]) for now in range(len(order))]
    placed = {part for view in views for part in stored(graph, views, view)}
    for now, name in enumerate(order):
        layer = graph[name]
        if not in_place or name not in kept or layer.kind not in ("add", "elementwise"):
            continue
        free = [
            size[t.name]
            for t in layer.inputs
            if t.name in kept and end[t.name] == now and not {name, t.name} <= placed
            and t.values == graph[t.name].output.values == layer.output.values
        ]  # fmt: skip
        usage[now] -= min(size[name], max(free, default=0))
    return usage
