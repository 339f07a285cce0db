"""Calibration: the cost of every group's rate, from a few simulations at near-equal widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwsim.graph import LayerGraph
from hwsim.stats import LayerStats, NetworkStats
from quant.allocation.convex_cost import ConvexCost
from quant.allocation.problem import Problem

_QUARTERS = (0.25, 0.5, 0.75)
_BENT = 0.05  # of what can be reached: cost that bends more is also met between whole widths
_TENSOR_LEVELS = 3
_STILL = 1e-9


class Wanted(Protocol):
    """What is to be calibrated: latency or energy."""

    @property
    def quantity(self) -> str: ...

    def value(self, stats: NetworkStats) -> float: ...


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A quantity of a simulation as constant + sum over groups of their costs."""

    constant: float
    costs: dict[int, ConvexCost]

    def total(self, rates: np.ndarray) -> float:
        return self.constant + sum(c.at(float(rates[g])) for g, c in self.costs.items())


def calibrate(
    graph: LayerGraph,
    problem: Problem,
    run: Callable[[np.ndarray], NetworkStats],
    wanted: Sequence[Wanted],
    bits: np.ndarray,
) -> list[Calibrated]:
    """The cost of each wanted quantity around `bits`: (items,) widths of an allocation.

    Weights: all layers at once at every width, and between whole widths where cost bends; what a
    layer without weights takes counts for the one before it. Tensors: those that no layer reads or
    writes together at once. run: simulates (items,) widths.
    """
    is_weight = np.array([kind == "weights" for kind, _ in problem.keys])
    base = run(bits)
    levels: list[float] = [*_levels(problem, is_weight)]
    samples = [(_at_level(problem, bits, is_weight, level), level) for level in levels]
    least = run(problem.narrowest)
    spans = [w.value(base) - w.value(least) for w in wanted]
    if len(levels) > 2 and any(
        _bends(run, samples, w, span) for w, span in zip(wanted, spans, strict=True)
    ):
        between = [b + q for b in levels[:-1] for q in _QUARTERS]
        samples += [(_at_level(problem, bits, is_weight, level), level) for level in between]
    weights = [chosen for chosen, _ in samples]
    found = []
    classes = _tensor_classes(graph, problem, is_weight)
    for w in wanted:
        owner = _owners(graph, problem)
        costs = _costs(problem, run, w, weights, np.flatnonzero(is_weight), owner)
        if _tensors_matter(problem, run, w, bits, is_weight):
            for members in classes:
                mask = np.zeros(len(problem.keys), dtype=bool)
                mask[members] = True
                tensors = [
                    _at_level(problem, bits, mask, level) for level in _few(_levels(problem, mask))
                ]
                near = _touching(graph, problem, members)
                costs |= _costs(problem, run, w, tensors, members, near)
        rates = problem.rates(bits)
        constant = w.value(base) - sum(c.at(float(rates[g])) for g, c in costs.items())
        found.append(Calibrated(constant, costs))
    return found


def _costs(
    problem: Problem,
    run: Callable[[np.ndarray], NetworkStats],
    wanted: Wanted,
    samples: Sequence[np.ndarray],
    groups: np.ndarray,
    owner: dict[str, int],
) -> dict[int, ConvexCost]:
    """Costs of some groups. owner: {layer: group that its cost is counted for}."""
    rates = np.array([problem.rates(chosen) for chosen in samples])
    values = np.zeros((len(samples), len(problem.keys)))
    for i, chosen in enumerate(samples):
        stats = run(chosen)
        for layer in stats.layers:
            if layer.name in owner:
                values[i, owner[layer.name]] += _of_layer(wanted, layer, stats)
    costs = {}
    for g in groups:
        cost = ConvexCost.through(rates[:, g].tolist(), values[:, g].tolist())
        if len(cost.slopes) and cost.slopes[-1] > 0:
            costs[int(g)] = cost
    return costs


def _of_layer(wanted: Wanted, layer: LayerStats, stats: NetworkStats) -> float:
    return layer.cycles / stats.clock_hz if wanted.quantity == "latency" else layer.energy_pj


def _levels(problem: Problem, groups: np.ndarray) -> list[int]:
    """Widths that some item of the groups may have, where it may have another as well."""
    allowed = np.isfinite(problem.points[:, groups[problem.group]])
    several = allowed[:, allowed.sum(axis=0) > 1]
    return [int(b) for b in np.flatnonzero(several.any(axis=1))]


def _few(levels: list[int]) -> list[int]:
    places = np.linspace(0, len(levels) - 1, min(len(levels), _TENSOR_LEVELS)).round()
    return [levels[int(i)] for i in places]


def _at_level(problem: Problem, bits: np.ndarray, groups: np.ndarray, level: float) -> np.ndarray:
    """Widths with the groups' items near one level, a share of them, evenly, a bit wider."""
    chosen = groups[problem.group]
    position = np.arange(problem.items) - problem.start[problem.group]
    share = level % 1
    wider = np.floor((position + 1) * share) - np.floor(position * share)
    wanted = (int(level) + wider).astype(np.int64)
    new = bits.copy()
    allowed = np.isfinite(problem.points)
    below = allowed & (np.arange(len(allowed))[:, None] <= wanted)
    widest = len(allowed) - 1 - np.argmax(below[::-1], axis=0)
    near = np.where(below.any(axis=0), widest, problem.narrowest)
    new[chosen] = near[chosen]
    return new


def _bends(
    run: Callable[[np.ndarray], NetworkStats],
    samples: Sequence[tuple[np.ndarray, float]],
    wanted: Wanted,
    span: float,
) -> bool:
    """Whether cost at the samples' levels is far from a straight line, beside the span."""
    values = np.array([wanted.value(run(chosen)) for chosen, _ in samples])
    levels = np.array([level for _, level in samples], dtype=np.float64)
    line = np.interp(levels, levels[[0, -1]], values[[0, -1]])
    return bool(np.abs(values - line).max() > _BENT * span)


def _owners(graph: LayerGraph, problem: Problem) -> dict[str, int]:
    """{layer: the weights of it, or of the last layer before it that has any}."""
    groups = {name: g for g, (kind, name) in enumerate(problem.keys) if kind == "weights"}
    owner, last = {}, next(iter(groups.values()), -1)
    for layer in graph:
        last = groups.get(layer.name, last)
        if last >= 0:
            owner[layer.name] = last
    return owner


def _tensors_matter(
    problem: Problem,
    run: Callable[[np.ndarray], NetworkStats],
    wanted: Wanted,
    bits: np.ndarray,
    is_weight: np.ndarray,
) -> bool:
    levels = _levels(problem, ~is_weight)
    if not levels:
        return False
    ends = [
        wanted.value(run(_at_level(problem, bits, ~is_weight, level)))
        for level in (levels[0], levels[-1])
    ]
    return abs(ends[1] - ends[0]) > _STILL * abs(ends[0])


def _touches(graph: LayerGraph) -> dict[str, list[str]]:
    """{tensor: layers that write or read it}."""
    found: dict[str, list[str]] = {layer.name: [layer.name] for layer in graph}
    for layer in graph:
        for tensor in layer.inputs:
            found[tensor.name].append(layer.name)
    return found


def _tensor_classes(graph: LayerGraph, problem: Problem, is_weight: np.ndarray) -> list[np.ndarray]:
    """Groups of tensors such that no layer touches two of a class: greedy colouring."""
    touches = _touches(graph)
    taken: list[set[str]] = []
    classes: list[list[int]] = []
    for g in np.flatnonzero(~is_weight):
        layers = set(touches[problem.keys[g][1]])
        for used, members in zip(taken, classes, strict=True):
            if not used & layers:
                used |= layers
                members.append(int(g))
                break
        else:
            taken.append(set(layers))
            classes.append([int(g)])
    return [np.array(members) for members in classes]


def _touching(graph: LayerGraph, problem: Problem, members: np.ndarray) -> dict[str, int]:
    touches = _touches(graph)
    return {layer: int(g) for g in members for layer in touches[problem.keys[g][1]]}
