"""What each part of the recipe is worth: one network, one part left out or exchanged at a time.

    python -m analysis.ablation MODEL --weights F --images DIR [--bits 3] [--every 3] -o FILE.md

The file is written anew after every row, so an interrupted run leaves what it has measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.manifest import versions
from analysis.measuring import find_recipe, find_rounder
from analysis.sources import load_image_sets, load_network
from analysis.study import input_widths, least_widths, width_range
from hwsim.files import write_atomically
from quant.allocate import allocate, equal_widths, per_layer
from quant.allocation import Allocation
from quant.budget import Budget
from quant.curves import RDCurves

if TYPE_CHECKING:
    from hwsim.graph import LayerGraph

CALIBRATION, FITTING, PROBES = 96, 400, 2


@dataclass(frozen=True)
class Part:
    """One row. rounding: of weights, applied; curves are priced with feedback, unless nearest.

    widths: "equal", "per layer" or "per channel". choices: that weights may have, None for the
    default ones. activation_bits: average.
    """

    name: str
    rounding: str = "sequential"
    widths: str = "per channel"
    choices: tuple[int, ...] | None = None
    activation_bits: float = 8


PARTS = (
    Part("the recipe"),
    Part("each layer rounded on its own (feedback)", rounding="feedback"),
    Part("nearest rounding, priced as nearest", rounding="nearest"),
    Part("one width per layer", widths="per layer"),
    Part("equal widths", widths="equal"),
    Part("equal widths, nearest rounding", rounding="nearest", widths="equal"),
    Part("weights of 0..8 bits", choices=tuple(range(9))),
    Part("weights of 2, 4 or 8 bits", choices=(2, 4, 8)),
    Part("activations 4 bits on average", activation_bits=4),
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
    from quant.apply import quantize
    from quant.evaluate import evaluate
    from quant.sweep import sweep

    network = load_network(model, weights)
    images = load_image_sets(model, network, folder, CALIBRATION, FITTING, seed)
    evaluation = images.evaluation.take(np.arange(0, len(images.evaluation), every))
    yield (
        f"{len(evaluation)} evaluation images; curves from {CALIBRATION} images x {PROBES} probes, "
        f"rounding fitted on up to {FITTING} others, seed {seed}. Seconds of the processor, on one "
        f"core: rounding and evaluation. torch {versions()['torch']}.\n"
    )
    yield "| part | top-1 % | agree % | divergence | predicted | measured | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    found = evaluate(network, None, evaluation)
    yield f"| float | {100 * found.top1:.1f} | 100.0 | 0 | 0 | 0 | |"
    recipe = find_recipe(network, images, seed)
    rounders = {
        name: find_rounder(name, network, images, seed)
        for name in ("feedback", "nearest", "sequential")
    }
    priced: dict[str, RDCurves] = {}
    for part in PARTS:
        pricing = "nearest" if part.rounding == "nearest" else "feedback"
        if pricing not in priced:
            priced[pricing] = sweep(
                network,
                images.calibration,
                probes=PROBES,
                seed=seed,
                recipe=recipe,
                rounder=rounders[pricing],
            )
        allocation = widths_of(part, priced[pricing], network.graph, bits)
        began = time.process_time()
        rounder = rounders[part.rounding]
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
        f"Made by `python -m analysis.ablation {options.model} --bits {options.bits:g} --every "
        f"{options.every} --seed {options.seed}`. Activations have 8 bits unless said; agree: "
        f"images that keep the float network's class; divergence: Kullback-Leibler, nats; "
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
