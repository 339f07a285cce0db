"""Coarser than a channel: groups of output channels that share one width.

A group's curve is the sum of its channels' curves, as the curves are additive anyway, so nothing
is measured anew; `quant.allocation.allocate.per_layer` is the coarsest case.
"""

from __future__ import annotations

import numpy as np

from quant.allocation.allocate import solve, to_allocation
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget
from quant.allocation.problem import Problem, build, check_feasible
from quant.curves import LayerCurve, RDCurves


def group_size(channels: int, most: int) -> int:
    """The largest number of channels, up to `most`, that cuts a layer in equal groups."""
    return max(size for size in range(1, min(most, channels) + 1) if channels % size == 0)


def grouped(curves: RDCurves, most: int) -> RDCurves:
    """Curves in which an item of a layer is `group_size` neighbouring channels together.

    Activations stay as they are. Raises ValueError for groups of less than one channel.
    """
    if most < 1:
        raise ValueError(f"granularity: groups have at least one channel, got {most}")
    weights = []
    for curve in curves.weights:
        size = group_size(curve.channels, most)
        together = curve.distortion.reshape(-1, size, curve.distortion.shape[1]).sum(1)
        weights.append(LayerCurve(curve.name, together, curve.values * size))
    return RDCurves(curves.network, tuple(weights), curves.activations)


def group_problem(curves: RDCurves, budget: Budget, most: int) -> Problem:
    """The problem in which an item is a group of channels."""
    coarse = grouped(curves, most)
    pairs = zip(curves.weights, coarse.weights, strict=True)
    sizes = np.array([c.channels // g.channels for c, g in pairs], dtype=np.float64)
    return build(coarse, budget, metadata_bits=budget.metadata_bits * sizes)


def per_group(curves: RDCurves, budget: Budget, most: int) -> Allocation:
    """The best with one width for every group of up to `most` output channels of a layer.

    Groups of a layer are equal: where `most` does not divide its channels, they are as large as
    the largest divisor below. Its lower bound holds for such groups. Raises as `allocate` does.
    """
    problem = group_problem(curves, budget, most)
    check_feasible(problem)
    return to_allocation(curves, problem, *solve(problem))
