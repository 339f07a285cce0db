"""Random curves and budgets: the allocation against the plain exhaustive search."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.model import same
from hwsim.graph import LayerGraph
from quant.allocation.allocate import allocate
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget, Cap, InfeasibleBudget
from quant.allocation.problem import Problem, build
from quant.curves import LayerCurve, RDCurves, TensorCurve


def convex_curves(
    rng: np.random.Generator,
    layers: int = 53,
    channels: int = 340,
    tensors: int = 50,
) -> RDCurves:
    """Curves like those of real networks: about 6 dB a bit, scales over decades, some noise."""
    sizes = [9, 16, 27, 32, 96, 144, 192, 320, 384, 576, 960, 1280]  # as in MobileNet-v2
    weights, activations = [], []
    for i in range(layers):
        count, values = int(rng.integers(channels // 20 + 1, 2 * channels)), int(rng.choice(sizes))
        scale = rng.lognormal(0, 2) * rng.lognormal(0, 1, (count, 1)) * values
        d = scale * 4.0 ** -np.arange(9) * rng.lognormal(0, 0.15, (count, 9))
        d[:, 0] *= rng.uniform(0.3, 1.5)
        weights.append(LayerCurve(f"layer{i}", d, values))
    for i in range(tensors):
        d = rng.lognormal(3, 2) * 4.0 ** -np.arange(9) * rng.lognormal(0, 0.1, 9)
        d[0] = np.inf
        activations.append(TensorCurve(f"layer{i}", d, int(rng.integers(10, 1200)) * 1000))
    return RDCurves("random", tuple(weights), tuple(activations))


def small_curves(rng: np.random.Generator) -> RDCurves:
    """Up to four channels and two tensors with whole, tied, not monotone distortions."""
    top = int(rng.choice([3, 20, 1000]))
    weights, activations = [], []
    for i in range(int(rng.integers(1, 3))):
        d = rng.integers(0, top, (int(rng.integers(1, 3)), 9)).astype(float)
        if rng.random() < 0.7:
            d = -np.sort(-d, axis=1)
        weights.append(LayerCurve(f"w{i}", d, int(rng.integers(1, 8))))
    for i in range(int(rng.integers(0, 3))):
        d = -np.sort(-rng.integers(0, top, 9).astype(float))
        d[0] = np.inf
        activations.append(TensorCurve(f"a{i}", d, int(rng.integers(1, 12))))
    return RDCurves("small", tuple(weights), tuple(activations))


def small_budget(rng: np.random.Generator, curves: RDCurves) -> Budget:
    """Any mix of limits and caps, widths few enough to try them all."""
    has = bool(curves.activations)
    keys = [("weights", c.name) for c in curves.weights]
    keys += [("activations", c.name) for c in curves.activations]
    widest = 6 * (curves.weight_values + curves.activation_values)
    caps = []
    for i in range(int(rng.integers(0, 3))):
        members = [keys[k] for k in rng.permutation(len(keys))[: int(rng.integers(1, 4))]]
        caps.append(Cap(f"cap{i}", tuple(members), int(rng.integers(0, widest)), 1))
    return Budget(
        weight_bits=float(rng.choice([0.5, 1.7, 3, 5])) if rng.random() < 0.6 else None,
        activation_bits=float(rng.choice([1, 2.9, 4])) if has and rng.random() < 0.4 else None,
        total_bits=int(rng.integers(0, widest)) if rng.random() < 0.5 else None,
        activation_rate=float(rng.choice([1, 2, 0.3])),
        caps=tuple(caps),
        weight_widths=tuple(sorted(rng.permutation(9)[:3].tolist())),
        activation_widths=tuple(sorted((1 + rng.permutation(8)[:3]).tolist())),
        metadata_bits=int(rng.choice([0, 0, 3])),
    )


def best_of_all(curves: RDCurves, budget: Budget) -> float | None:
    """Least distortion over every combination of widths; None if none keeps the budget."""
    problem = build(curves, budget)
    choices = [np.flatnonzero(np.isfinite(column)) for column in problem.points.T]
    best = None
    for combination in itertools.product(*choices):
        bits = np.array(combination)
        if (problem.rows @ problem.rates(bits) <= problem.asked).all():
            distortion = float(problem.points[bits, np.arange(len(bits))].sum())
            best = distortion if best is None else min(best, distortion)
    return best


def widths_of(allocation: Allocation, problem: Problem) -> np.ndarray:
    """(items,) the widths that an allocation gives, in the order of the problem's items."""
    bits = allocation.bits
    assert not isinstance(bits.weights, int)
    assert not isinstance(bits.activations, int)
    of_kind = {"weights": bits.weights, "activations": bits.activations}
    return np.concatenate([np.atleast_1d(of_kind[kind][name]) for kind, name in problem.keys])


def network_curves(graph: LayerGraph, rng: np.random.Generator) -> RDCurves:
    """Curves of a real network's shape; at 6 bits its tensors lose half of what its weights do at
    4, which is how measured ones lie."""
    weights, activations = [], []
    for layer in graph.weighted:
        values, count = layer.weights_per_channel, layer.out_channels
        scale = rng.lognormal(0, 1.5) * rng.lognormal(0, 1, (count, 1)) * values
        d = scale * 4.0 ** -np.arange(9) * rng.lognormal(0, 0.15, (count, 9))
        weights.append(LayerCurve(layer.name, d, values))
    scale = 0.5 * sum(c.distortion[:, 4].sum() for c in weights) * 4.0**6 / len(graph)
    for layer in graph:
        d = scale * rng.lognormal(0, 1.5) * 4.0 ** -np.arange(9) * rng.lognormal(0, 0.1, 9)
        d[0] = np.inf
        activations.append(TensorCurve(layer.name, d, layer.output.values))
    return RDCurves(graph.name, tuple(weights), tuple(activations))


@dataclass(frozen=True)
class AllocationCase:
    """`small_curves` under `small_budget`, both drawn with one seed."""

    seed: int


cases = st.builds(AllocationCase, seed=st.integers(0, 2**32 - 1))


def check(case: AllocationCase) -> None:
    """Nothing is better than the answer, which is feasible, above its bound, and what it says."""
    rng = np.random.default_rng(case.seed)
    curves = small_curves(rng)
    budget = small_budget(rng, curves)
    best = best_of_all(curves, budget)
    try:
        answer = allocate(curves, budget)
    except InfeasibleBudget:
        same("feasible widths", None, best)
        return
    assert best is not None, "the answer is not feasible: nothing is"
    assert answer.lower_bound <= best * (1 + 1e-9) + 1e-9, "the bound is above the best of all"
    np.testing.assert_allclose(answer.predicted_distortion, best, rtol=1e-12)
    for constraint in answer.constraints:
        assert constraint.used_bits <= constraint.limit_bits, f"{constraint.name} is not kept"
    problem = build(curves, budget)
    bits = widths_of(answer, problem)
    distortion = problem.points[bits, np.arange(len(bits))].sum()
    np.testing.assert_allclose(answer.predicted_distortion, distortion, rtol=1e-12)
    in_all = problem.rows @ problem.rates(bits) + problem.overhead
    used = [constraint.used_bits for constraint in answer.constraints]
    np.testing.assert_allclose(used, in_all / problem.scale)
