"""Small random graphs with branches and concatenations, and plain models of what they hold: the
placement of tensors against every choice of order and kept tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.model import same
from hwsim.graph import Layer, LayerGraph, Tensor, Vector
from hwsim.liveness import Liveness
from hwsim.residency import Placement, Problem, place, usage_bits


def random_graph(seed: int, count: int, wide: bool = True) -> LayerGraph:
    """An input and `count` layers of the vector unit: additions, concatenations and others."""
    rng = np.random.default_rng(seed)
    layers = [Layer("l0", "input", Vector(0), (), _tensor("l0", int(rng.integers(1, 4))))]
    for i in range(1, count + 1):
        name, near = f"l{i}", layers[-4:] if wide else layers[-2:]
        first = near[rng.integers(len(near))].output
        inputs: tuple[Tensor, ...]
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


def problem_of(graph: LayerGraph, seed: int, percent: int, in_place: bool = False) -> Problem:
    """Random sizes and gains, and rooms near a percentage of what all tensors would take; some
    inputs are dearer to keep than not."""
    rng = np.random.default_rng(seed)
    live = Liveness(graph.layers, graph.outputs)
    size = [int(layer.output.values * rng.integers(0, 4)) for layer in graph]
    gain = [int(rng.integers(0, 30)) if live.needs[i] else int(rng.integers(-9, 20))
            for i in range(len(size))]  # fmt: skip
    full = Problem(live, size, [0] * len(size), gain.__getitem__)
    capacity = max(usage_bits(full, live.nodes, live.nodes)) * percent // 100
    room = [max(0, capacity - int(rng.integers(0, 5))) for _ in size]
    return Problem(live, size, room, gain.__getitem__, in_place)


def best_by_enumeration(graph: LayerGraph, problem: Problem) -> tuple[int, int]:
    """Least extra traffic over all orders and all sets of kept tensors, then least peak."""
    live = problem.liveness
    size = dict(zip(live.names, problem.size, strict=True))
    gain = {name: problem.gain(i) for i, name in enumerate(live.names)}
    room = dict(zip(live.names, problem.room, strict=True))
    names = [name for name in live.names if name not in live.views]
    worth = [name for name in names if gain[name] > 0]
    best = None
    for order in orders(graph, live.views):
        for count in range(len(worth) + 1):
            for kept in combinations(worth, count):
                usage = held(graph, live.views, order, set(kept), size, problem.in_place)
                if all(bits <= room[n] for bits, n in zip(usage, order, strict=True)):
                    extra = sum(gain[name] for name in worth if name not in kept)
                    best = min(best or (extra, max(usage)), (extra, max(usage)))
    assert best is not None
    return best


def check_placement(graph: LayerGraph, problem: Problem, found: Placement) -> None:
    """Legal order, never over capacity, and the traffic that it claims."""
    live = problem.liveness
    names = tuple(live.names[i] for i in found.order)
    assert sorted(found.order) == sorted(live.nodes)
    done: set[str] = set()
    for name in names:
        for tensor in graph[name].inputs:
            assert stored(graph, live.views, tensor.name) <= done
        done.add(name)
    size = dict(zip(live.names, problem.size, strict=True))
    kept = {live.names[i] for i in found.kept}
    usage = held(graph, live.views, names, kept, size, problem.in_place)
    assert usage == usage_bits(problem, found.order, found.kept)
    assert all(bits <= problem.room[i] for bits, i in zip(usage, found.order, strict=True))
    assert found.peak_bits == max(usage)
    spilled = set(live.nodes) - found.kept
    assert found.extra_bits == sum(max(0, problem.gain(i)) for i in spilled)
    assert all(problem.gain(i) >= 0 for i in found.kept)


@dataclass(frozen=True)
class ResidencyCase:
    """A random graph of `count` layers, with room for about `percent` of its tensors."""

    seed: int
    count: int
    percent: int
    in_place: bool


def cases(layers: int = 5) -> st.SearchStrategy[ResidencyCase]:
    """layers: at most so many; all their orders are tried."""
    return st.builds(
        ResidencyCase,
        seed=st.integers(0, 2**32 - 1),
        count=st.integers(1, layers),
        percent=st.integers(0, 110),
        in_place=st.booleans(),
    )


def check(case: ResidencyCase) -> None:
    """Least traffic of all choices, then the least peak; and the placement itself is legal."""
    graph = random_graph(case.seed, case.count)
    problem = problem_of(graph, case.seed, case.percent, case.in_place)
    found = place(problem)
    extra, peak = best_by_enumeration(graph, problem)
    same("extra traffic and proof", (found.extra_bits, found.exact), (extra, True))
    worth = {i for i in found.kept if problem.gain(i) > 0}
    if extra:  # where all is kept, what gains nothing counts in the peak
        same("peak", max(usage_bits(problem, found.order, worth)), peak)
    check_placement(graph, problem, found)
