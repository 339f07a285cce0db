"""Coarser than a channel: groups of output channels that share one width.

A group's curve is the sum of its channels' curves, as the curves are additive anyway, so nothing
is measured anew. One channel and one layer are the two ends.
"""

from __future__ import annotations

from quant.allocation.budget import Budget
from quant.allocation.problem import Problem, build
from quant.curves import LayerCurve, RDCurves

CHANNEL, LAYER = 1, 10**9  # channels that share a width, at most


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


def group_problem(curves: RDCurves, budget: Budget, most: int = CHANNEL) -> Problem:
    """The problem in which an item is a group of up to `most` channels. Raises as `build`."""
    coarse = curves if most == CHANNEL else grouped(curves, most)
    return build(coarse, budget, curves.channels)


def unit_name(most: int) -> str:
    """What shares a width, in words."""
    return {CHANNEL: "channel", LAYER: "layer"}.get(most, f"group of {most}")
