"""The widths that a speedup table compares: equal ones, the accelerator's own operands, files, and
those that rate-distortion curves choose under an average or a share of the baseline's time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean
from hwsim.simulator import simulate

if TYPE_CHECKING:
    from hwsim.stats import NetworkStats
    from quant.curves import RDCurves

NATIVE = "native"


@dataclass(frozen=True)
class Widths:
    """Widths of one network. source: where they come from, in words."""

    label: str
    bits: BitWidths
    source: str


@dataclass(frozen=True)
class Request:
    """What to compare. widths, baselines: `native`, an int, a pair such as W4A8, FILE.json or
    MODEL=FILE.json. averages: mean bits of a weight, allocated by curves; fit: also such that
    every layer keeps to its memories; activation_bits: their mean bits of an activation.
    time_shares: of the first baseline's time, that the least distorted widths may take."""

    batches: tuple[int, ...]
    widths: tuple[str, ...]
    baselines: tuple[str, ...] = ("W8A8",)
    averages: tuple[float, ...] = ()
    fit: bool = False
    activation_bits: float = 8.0
    time_shares: tuple[float, ...] = ()

    @property
    def needs_curves(self) -> bool:
        return bool(self.averages or self.time_shares)


def native_widths(accelerator: Accelerator) -> BitWidths:
    """The operands of the accelerator at full width: the array's own, or a PE's whole words."""
    width = accelerator.operand_width
    return BitWidths(width.weight_bits, width.activation_bits)


def parse_widths(spec: str, model: str, graph: LayerGraph, chip: Accelerator) -> Widths | None:
    """The widths that a specification means for a network; None if it is for another one.

    Raises ValueError as `BitWidths.parse` and `BitWidths.check` do.
    """
    if spec == NATIVE:
        bits = native_widths(chip)
        return Widths(f"native {_equal(bits)}", bits, f"operands of {chip.name}")
    owner, found, rest = spec.partition("=")
    if found and not os.path.exists(spec):
        if owner != model:
            return None
        spec = rest
    bits = BitWidths.parse(spec)
    if label := _equal(bits):
        return Widths(label, bits, "equal widths, no allocation")
    try:
        bits.check(graph)
    except ValueError as error:
        raise ValueError(
            f"{spec}, for {model}: {error}; a file for one of several networks is MODEL=FILE"
        ) from None
    return Widths(Path(spec).stem, bits, f"file {Path(spec).name}")


def _equal(bits: BitWidths) -> str:
    if isinstance(bits.weights, int) and isinstance(bits.activations, int):
        return f"W{bits.weights}A{bits.activations}"
    return ""


def check_request(request: Request, models: Sequence[str], curves: Mapping[str, object]) -> None:
    """Raise ValueError for what no table can be made of, before anything is simulated."""
    for name, items in (("model", models), ("batch", request.batches)):
        twice = [item for item, count in Counter(items).items() if count > 1]
        if twice:
            raise ValueError(f"speedup: the same {name} twice: {twice[0]}")
    for spec in (*request.widths, *request.baselines):
        owner, found, rest = spec.partition("=")
        if found and not os.path.exists(spec):
            if owner not in models:
                near = did_you_mean(owner, models)
                raise ValueError(f"speedup: bits {spec!r}: {owner!r} is not among the models{near}")
            BitWidths.parse(rest)
        elif spec != NATIVE:
            BitWidths.parse(spec)
    if request.needs_curves and not curves:
        asked = "--average" if request.averages else "--latency-share"
        raise ValueError(
            f"speedup: {asked} needs rate-distortion curves, and there are none of "
            f"{', '.join(models)}: measure them with chipfit curves and give --curves FILE.npz"
        )
    if request.fit and not request.averages:
        raise ValueError("speedup: --fit goes with --average")
    if not request.widths and not request.needs_curves:
        raise ValueError("speedup: give --bits, --average or --latency-share")


def allocated(
    request: Request, graph: LayerGraph, curves: RDCurves, accelerator: Accelerator, batch: int
) -> Iterator[Widths]:
    """The averages that were asked for: free ones, and with `fit` those that keep the layers'
    operands in the memories that are to hold them, where the accelerator has such memories."""
    from analysis.budgets import average_budget, input_widths, least_widths
    from quant.allocation.allocate import allocate
    from quant.allocation.fit import fit_caps

    fixed = input_widths(graph)
    source = f"allocated by curves of {curves.network}"
    for average in request.averages:
        least = least_widths(average, request.activation_bits)
        caps = fit_caps(graph, accelerator, batch, fixed, least).caps if request.fit else ()
        for kept in ((), caps) if caps else ((),):
            budget = average_budget(curves, graph, average, request.activation_bits, least, kept)
            label = f"average {average:g}" + (", fits" if kept else "")
            bits = allocate(curves, budget).bits
            bits.check(graph)
            yield Widths(label, bits, source)


def within_time(
    request: Request,
    graph: LayerGraph,
    curves: RDCurves,
    accelerator: Accelerator,
    batch: int,
    baseline: str,
    seconds: float,
) -> Iterator[tuple[Widths, NetworkStats]]:
    """For each share of `seconds`, the time of `baseline`: the widths of least distortion that take
    no longer, as simulated; or the narrowest allowed ones, named so, where none are fast enough.

    No narrower than 2 bits a weight and 4 an activation (`quant.allocation.fit.LEAST`): dropping
    channels would meet any target, and no image would be told from another.
    """
    from analysis.budgets import average_budget
    from quant.allocation.allocate import allocate
    from quant.allocation.budget import Budget
    from quant.allocation.fit import LEAST
    from quant.allocation.target import InfeasibleTarget, Target, allocate_within

    budget = average_budget(curves, graph, 8.0, request.activation_bits, LEAST)
    for share in request.time_shares:
        target = Target("latency", share * seconds)
        asked = f"{100 * share:g} % of the time of {baseline}"
        by = f"by curves of {curves.network}"
        try:
            found = allocate_within(curves, budget, graph, accelerator, (target,), batch)
        except InfeasibleTarget:
            least = Budget(
                fixed=budget.fixed,
                weight_widths=(LEAST["weights"],),
                activation_widths=(LEAST["activations"],),
            )
            bits = allocate(curves, least).bits
            label, source = "narrowest", f"the narrowest allowed: none take {asked}"
            yield Widths(label, bits, source), simulate(graph, accelerator, bits, batch)
        else:
            label = f"time {100 * share:g} %"
            yield (
                Widths(label, found.allocation.bits, f"least distortion in {asked}, {by}"),
                found.stats,
            )


def predicted_distortion(curves: RDCurves, bits: BitWidths, graph: LayerGraph) -> float | None:
    """What the curves predict, squared error of the logits; None for widths they do not price."""
    total = 0.0
    for layer in curves.weights:
        widths = bits.weight(graph[layer.name])
        if widths.max() >= layer.distortion.shape[1]:
            return None
        total += float(layer.distortion[np.arange(len(widths)), widths].sum())
    for tensor in curves.activations:
        width = np.unique(bits.activation(tensor.name, graph[tensor.name].output.channels))
        if len(width) > 1 or width[0] >= len(tensor.distortion):
            return None
        total += float(tensor.distortion[width[0]])
    return total if isfinite(total) else None
