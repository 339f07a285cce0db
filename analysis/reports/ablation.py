"""What each part of the recipe is worth: one network, one part left out or exchanged at a time.

    python -m analysis.reports.ablation MODEL --weights F --images DIR [--bits 3] -o FILE.md

The file is written anew after every row, so an interrupted run leaves what it has measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.manifest import versions
from analysis.measuring import Choosing, find_recipe, find_rounder
from analysis.sources import load_image_sets, load_network
from analysis.study import input_widths, least_widths, width_range
from hwsim.files import write_atomically
from quant.allocation.allocate import allocate, equal_widths, per_layer
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget
from quant.curves import RDCurves

if TYPE_CHECKING:
    from hwsim.graph import LayerGraph

CALIBRATION, FITTING, PROBES = 96, 400, 2


@dataclass(frozen=True)
class Part:
    """One row. rounding: of weights, applied; curves are priced with feedback, unless nearest.

    widths: "equal", "per layer" or "per channel". choices: that weights may have, None for the
    default ones. activation_bits: average. relinearise: rounds of pricing again around the
    quantised network; "predicted" is then the distortion measured on the pricing images.
    quantizers: steps by "energy", or by price: "steps", "dead zones" as well, or "powers of two".
    mean_shift: whether the prices know that biases are corrected for it.
    """

    name: str
    rounding: str = "sequential"
    widths: str = "per channel"
    choices: tuple[int, ...] | None = None
    activation_bits: float = 8
    relinearise: int = 0
    quantizers: str = "energy"
    mean_shift: bool = True


PARTS = (
    Part("the recipe"),
    Part("each layer rounded on its own (feedback)", rounding="feedback"),
    Part("nearest rounding, priced as nearest", rounding="nearest"),
    Part("nearest, steps by price", rounding="nearest", quantizers="steps"),
    Part("nearest, steps and dead zones by price", rounding="nearest", quantizers="dead zones"),
    Part("nearest, powers of two by price", rounding="nearest", quantizers="powers of two"),
    Part("nearest, prices without the mean's shift", rounding="nearest", mean_shift=False),
    Part("steps by price", quantizers="steps"),
    Part("prices without the mean's shift", mean_shift=False),
    Part("one width per layer", widths="per layer"),
    Part("equal widths", widths="equal"),
    Part("equal widths, nearest rounding", rounding="nearest", widths="equal"),
    Part("weights of 0..8 bits", choices=tuple(range(9))),
    Part("weights of 2, 4 or 8 bits", choices=(2, 4, 8)),
    Part("activations 4 bits on average", activation_bits=4),
    Part("priced again around the quantised network", relinearise=1),
)


def widths_of(part: Part, curves: RDCurves, graph: LayerGraph, bits: float) -> Allocation:
    """The allocation of a part at an average of `bits` a weight."""
    if part.widths == "equal":
        return equal_widths(curves, int(bits), int(part.activation_bits))
    least = least_widths(bits, part.activation_bits)
    budget = Budget(
        weight_bits=bits,
        activation_bits=part.activation_bits,
        fixed=input_widths(graph),
        weight_widths=part.choices or width_range(least["weights"]),
        activation_widths=width_range(least["activations"]),
    )
    return (per_layer if part.widths == "per layer" else allocate)(curves, budget)


def rows(
    model: str, weights: str | None, folder: str | None, bits: float, every: int, seed: int
) -> Iterator[str]:
    """Lines of the table: the float network first, then each part."""
    import torch

    from quant.accuracy import evaluate
    from quant.apply import quantize
    from quant.choose_quantizers import CHOICE_IMAGES, choose_quantizers
    from quant.relinearise import relinearise
    from quant.sweep import sweep

    network = load_network(model, weights)
    images = load_image_sets(model, network, folder, CALIBRATION, FITTING, seed)
    evaluation = images.evaluation.take(np.arange(0, len(images.evaluation), every))
    yield (
        f"{len(evaluation)} evaluation images; curves from {CALIBRATION} images x {PROBES} probes, "
        f"rounding fitted on up to {FITTING} others, of which the first {CHOICE_IMAGES} choose "
        f"quantisers where that is by price, seed {seed}. Seconds of the processor, on one "
        f"core: rounding and evaluation. torch {versions()['torch']}.\n"
    )
    yield "| part | top-1 % | agree % | divergence | predicted | measured | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    found = evaluate(network, None, evaluation)
    yield f"| float | {100 * found.top1:.1f} | 100.0 | 0 | 0 | 0 | |"
    energy = Choosing(weights="energy")
    recipes = {"energy": find_recipe(network, images, seed, choosing=energy)}
    rounders = {
        name: find_rounder(name, network, images, seed)
        for name in ("feedback", "nearest", "sequential")
    }
    assert images.fitting is not None
    few = images.fitting.take(slice(0, CHOICE_IMAGES))
    priced: dict[tuple[str, str, bool], RDCurves] = {}
    for part in PARTS:
        if part.quantizers not in recipes:
            recipes[part.quantizers] = choose_quantizers(
                network,
                recipes["energy"],
                few,
                seed=seed + 1,
                steps="power_of_two" if part.quantizers == "powers of two" else "real",
                dead_zones=() if part.quantizers == "steps" else None,
                activations=False,
            )
        recipe = recipes[part.quantizers]
        pricing = "nearest" if part.rounding == "nearest" else "feedback"
        key = pricing, part.quantizers, part.mean_shift
        if key not in priced:
            bare = {name: torch.zeros_like(mean) for name, mean in recipe.means.items()}
            priced[key] = sweep(
                network,
                images.calibration,
                probes=PROBES,
                seed=seed,
                recipe=recipe if part.mean_shift else replace(recipe, means=bare),
                rounder=rounders[pricing],
            )
        began, rounder = time.process_time(), rounders[part.rounding]
        curves = priced[key]
        if part.relinearise:

            def choose(found: RDCurves, part: Part = part) -> Allocation:
                return widths_of(part, found, network.graph, bits)

            curves = relinearise(
                network,
                images.calibration,
                curves,
                choose,
                rounder=rounder,
                rounds=part.relinearise,
                seed=seed,
            ).curves
        allocation = widths_of(part, curves, network.graph, bits)
        quantized = quantize(network, allocation.bits, recipe, rounder=rounder)
        found = evaluate(network, quantized, evaluation)
        yield (
            f"| {part.name} | {100 * found.top1:.1f} | {100 * found.agreement:.1f} | "
            f"{found.divergence:.2g} | {allocation.predicted_distortion:.3g} | "
            f"{found.distortion:.3g} | {time.process_time() - began:.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--weights")
    parser.add_argument("--images")
    parser.add_argument("--bits", type=float, default=3.0)
    parser.add_argument("--every", type=int, default=1, help="take every N-th evaluation image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args(arguments)
    lines = [
        f"# {options.model} at {options.bits:g} bits a weight, one part changed at a time\n",
        f"Made by `python -m analysis.reports.ablation {options.model} --bits {options.bits:g} "
        f"--every {options.every} --seed {options.seed}`. Activations have 8 bits unless said; "
        f"agree: images that keep the float network's class; divergence: Kullback-Leibler, nats; "
        f"predicted, measured: squared error of the logits.\n",
    ]
    for line in rows(
        options.model,
        options.weights,
        options.images,
        options.bits,
        options.every,
        options.seed,
    ):
        lines.append(line)
        write_atomically(options.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
