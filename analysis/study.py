"""The main job: allocations of one network beside equal widths, each with its accuracy and its
time, traffic and energy on every accelerator."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis.budgets import average_budget, input_widths
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats
from quant.allocation.allocate import allocate, equal_widths, per_layer
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget, Cap, InfeasibleBudget, Kind
from quant.allocation.fit import Unfit, fit_caps
from quant.curves import RDCurves
from quant.granularity import CHANNEL, unit_name

if TYPE_CHECKING:
    from analysis.measuring import Choosing
    from analysis.sources import ImageSets
    from quant.accuracy import Accuracy
    from quant.calibration import Progress
    from quant.network import Network

BASELINE = "W8A8"


@dataclass(frozen=True)
class Request:
    """What is asked of a study: average bits of the weights and of the activations, accelerators,
    images at once, the narrowest widths that may be used, and how many output channels share one.
    """

    weight_bits: float
    activation_bits: float
    accelerators: tuple[Accelerator, ...]
    batch: int
    least: Mapping[Kind, int]
    group: int = CHANNEL


@dataclass(frozen=True)
class Variant:
    """One way to choose the widths, and what comes of it. stats: by accelerator."""

    name: str
    allocation: Allocation
    accuracy: Accuracy
    stats: dict[str, NetworkStats]

    @property
    def bits(self) -> BitWidths:
        return self.allocation.bits


@dataclass(frozen=True)
class Study:
    """Everything that a report shows. seconds: of each stage, measured."""

    network: Network
    request: Request
    curves: RDCurves
    float_accuracy: Accuracy
    variants: tuple[Variant, ...]
    unfit: dict[str, tuple[Unfit, ...]]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def baseline(self) -> Variant:
        return next(v for v in self.variants if v.name == BASELINE)

    @property
    def main(self) -> Variant:
        """The allocation that the study is about: per channel (or per group of channels, where
        that is asked for), within the caps of every accelerator."""
        return self.variants[-1]


def rounding_of(curves: RDCurves) -> str:
    """The rounding that curves were priced with: what quantises must round alike."""
    return str(curves.method.get("rounding", "nearest"))


def _label(bits: float) -> str:
    return f"{bits:g}"


def choose_allocations(
    network: Network, curves: RDCurves, request: Request
) -> tuple[list[tuple[str, Allocation]], dict[str, tuple[Unfit, ...]]]:
    """Named allocations, from W8A8 to per-channel widths that fit an accelerator; main one last."""
    weight_bits, activation_bits = request.weight_bits, request.activation_bits
    fixed = input_widths(network.graph)
    chosen = [(BASELINE, equal_widths(curves, 8, 8))]
    whole_w, whole_a = int(weight_bits), max(1, int(activation_bits))
    name = f"W{whole_w}A{whole_a}"
    if whole_w >= 1 and name != BASELINE:
        chosen.append((name, equal_widths(curves, whole_w, whole_a)))
    least = request.least
    free = average_budget(curves, network.graph, weight_bits, activation_bits, least)
    average = f"{_label(weight_bits)} bits"
    chosen.append((f"per layer, {average}", per_layer(curves, free)))
    chosen.append((f"per channel, {average}", allocate(curves, free)))
    unit = f"per {unit_name(request.group)}"
    if request.group != CHANNEL:
        chosen.append((f"{unit}, {average}", allocate(curves, free, request.group)))
    unfit: dict[str, tuple[Unfit, ...]] = {}
    every_cap: list[Cap] = []
    for accelerator in request.accelerators:
        fit = fit_caps(network.graph, accelerator, request.batch, fixed, least)
        unfit[accelerator.name] = fit.unfit
        every_cap += fit.caps
        budget = replace(free, caps=fit.caps)
        name = f"{unit}, {average}, fits {accelerator.name}"
        chosen.append((name, allocate(curves, budget, request.group)))
    if len(request.accelerators) > 1:
        budget = replace(free, caps=tuple(every_cap))
        name = f"{unit}, {average}, fits all"
        chosen.append((name, allocate(curves, budget, request.group)))
    return chosen, unfit


def run_study(
    network: Network,
    images: ImageSets,
    request: Request,
    *,
    curves: RDCurves | None = None,
    rounding: str = "sequential",
    probes: int = 2,
    seed: int = 0,
    relinearise: int = 0,
    progress: Progress | None = None,
    choosing: Choosing | None = None,
) -> Study:
    """Curves (unless given, with their own rounding), allocations, accuracies and simulations.

    relinearise: rounds in which the curves are priced again around the quantised network, at the
    widths per channel without caps; see `quant.relinearise`.
    Raises InfeasibleBudget for a budget that no widths keep, and ValueError for images or
    accelerators that do not suit the network.
    """
    from analysis.measuring import find_rounder, measure_curves
    from quant.accuracy import evaluate
    from quant.apply import quantize

    seconds: dict[str, float] = {}

    def timed(stage: str, began: float) -> None:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began

    began = time.perf_counter()
    if curves is None:
        curves, rounder = measure_curves(
            network,
            images,
            rounding=rounding,
            probes=probes,
            seed=seed,
            progress=progress,
            choosing=choosing,
        )
    else:
        rounder = find_rounder(rounding_of(curves), network, images, seed, progress)
    timed("curves", began)
    if relinearise:
        from quant.relinearise import relinearise as price_again

        began = time.perf_counter()
        budget = average_budget(
            curves, network.graph, request.weight_bits, request.activation_bits, request.least
        )
        curves = price_again(
            network,
            images.calibration,
            curves,
            lambda priced: allocate(priced, budget),
            rounder=rounder,
            rounds=relinearise,
            seed=seed,
            progress=progress,
        ).curves
        timed("prices around the quantised network", began)
    began = time.perf_counter()
    chosen, unfit = choose_allocations(network, curves, request)
    timed("allocations", began)
    began = time.perf_counter()
    float_accuracy = evaluate(network, None, images.evaluation, progress=progress)
    timed("evaluations", began)
    variants = []
    evaluated: list[tuple[Allocation, Accuracy]] = []
    for name, allocation in chosen:
        began = time.perf_counter()
        # caps that do not bind give the same widths again: no need to run the images twice
        accuracy = next((a for other, a in evaluated if _same(other, allocation)), None)
        if accuracy is None:
            quantized = quantize(network, allocation.bits, curves, rounder=rounder)
            accuracy = evaluate(network, quantized, images.evaluation, progress=progress)
            evaluated.append((allocation, accuracy))
        timed("evaluations", began)
        began = time.perf_counter()
        stats = simulate_on(network, request, allocation.bits)
        timed("simulations", began)
        variants.append(Variant(name, allocation, accuracy, stats))
    return Study(network, request, curves, float_accuracy, tuple(variants), unfit, seconds)


def _same(a: Allocation, b: Allocation) -> bool:
    return a.bits.to_json() == b.bits.to_json()


def simulate_on(network: Network, request: Request, bits: BitWidths) -> dict[str, NetworkStats]:
    return {
        accelerator.name: simulate(network.graph, accelerator, bits, request.batch)
        for accelerator in request.accelerators
    }


def rate_distortion(
    curves: RDCurves, network: Network, request: Request, points: Sequence[float]
) -> list[dict[str, float | str]]:
    """Predicted distortion of weights at average widths: per channel, per layer and equal widths.

    One row a point that can be reached: method, bits (a weight), distortion.
    """
    fixed = input_widths(network.graph)
    rows: list[dict[str, float | str]] = []
    for bits in points:
        budget = Budget(weight_bits=bits, activation_bits=request.activation_bits, fixed=fixed)
        for method, choose in (("per channel", allocate), ("per layer", per_layer)):
            try:
                found = choose(curves, budget)
            except InfeasibleBudget:
                continue
            rows.append(
                {
                    "method": method,
                    "bits": found.average_weight_bits,
                    "distortion": found.weight_distortion,
                }
            )
    for width in range(1, 9):
        found = equal_widths(curves, width, 8)
        rows.append(
            {"method": "equal widths", "bits": width, "distortion": found.weight_distortion}
        )
    return rows
