"""Simulate a network on a systolic array, whatever stays in it.

The planner turns the layers into tasks and says what it assumes (`planner.py`), the recurrence
times them (`timing.py`), `costs.py` counts the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwsim.accelerator import Accelerator, SystolicArray
from hwsim.bits import BitWidths
from hwsim.dram import Link
from hwsim.graph import LayerGraph
from hwsim.stats import NetworkStats
from hwsim.systolic.costs import layer_rows
from hwsim.systolic.folds import ColumnOrder
from hwsim.systolic.planner import Planner, channel_links
from hwsim.systolic.timing import finish_cycles

_ORDERS: tuple[ColumnOrder, ...] = ("as_given", "widest_first", "narrowest_first")


def column_orders(
    graph: LayerGraph, array: SystolicArray, bits: BitWidths
) -> tuple[ColumnOrder, ...]:
    """Orders of columns to try: several where the array may sort them and some layer's channels
    have different widths."""
    mixed = array.sort_columns and any(np.ptp(bits.weight(x)) > 0 for x in graph.weighted)
    return _ORDERS if mixed else _ORDERS[:1]


def check(graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, batch: int) -> None:
    """Raise ValueError for what `simulate_network` does not take."""
    if not isinstance(accelerator.array, SystolicArray):
        raise ValueError(f"accelerator {accelerator.name!r} has no systolic array; as tpu_v1 has")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    bits.check(graph)


def run(
    planner: Planner, links: tuple[Link, Link] | None, later: Callable = max, **options: int
) -> list[int]:
    """Cycles at which the planner's tasks end; links None: on infinitely fast DRAM."""
    drams = [planner.accelerator.dram_for(c) for c in ("weights", "activations")]
    weights, activations = links or (Link.infinite(drams[0]), Link.infinite(drams[1]))
    shared = drams[0] is drams[1]
    return finish_cycles(
        planner.tasks, planner.array, weights, None if shared else activations, later, **options
    )


def simulate_network(
    graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, batch: int = 1
) -> NetworkStats:
    """Cycles, traffic and energy of every layer, for the whole batch.

    Rows are in execution order, which `memory.plan_residency` chooses. A layer's cycles run from
    the end of all layers before it to its own end, so they add up. Its stall cycles are the delay
    that it adds for good: the network runs again on infinitely fast DRAM, and the time by which a
    layer ends later than there is a stall as far as no later layer makes it good. Stalls are never
    negative or longer than the layer, and compute cycles add up to those of the infinitely fast
    DRAM. Where the array may sort columns, the network runs in the order that takes fewest cycles:
    folds of like widths compute faster, but uneven fetches may stall more, so that sorting alone
    could cost time. Raises ValueError for widths that are missing, a batch below 1, or another
    kind of accelerator.
    """
    check(graph, accelerator, bits, batch)
    array = accelerator.array
    assert isinstance(array, SystolicArray)
    links = channel_links(accelerator)
    planned = []
    for order in column_orders(graph, array, bits):
        planner = Planner(graph, accelerator, bits, batch, order)
        plans = planner.plan_all()
        planned.append((planner, plans, run(planner, links)))
    planner, plans, ends = min(planned, key=lambda found: max(found[2]))  # the first of equal ones
    last = [planner.ends[layer.name] for layer in planner.layers]
    over, free_over = (
        np.maximum.accumulate([max(times[i] for i in tasks) for tasks in last])
        for times in (ends, run(planner, None))
    )
    cycles = np.diff(over, prepend=0).tolist()
    # the delay behind the free run that no later layer makes good
    lasting = np.minimum.accumulate((over - free_over)[::-1])[::-1]
    stalls = np.diff(lasting, prepend=0).tolist()
    return NetworkStats(
        graph.name,
        accelerator.name,
        batch,
        accelerator.clock,
        array.pes,
        tuple(layer_rows(planner, plans, cycles, stalls)),
        planner.residency.gap_bits,
    )
