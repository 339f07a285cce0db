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

from analysis.budgets import average_budget, least_widths
from analysis.manifest import versions
from analysis.measuring import Choosing, find_recipe, find_rounder
from analysis.sources import load_image_sets, load_network
from hwsim.files import write_atomically
from quant.allocation.allocate import allocate, equal_widths, per_layer
from quant.allocation.allocation import Allocation
from quant.curves import RDCurves

if TYPE_CHECKING:
    from analysis.sources import ImageSets
    from hwsim.graph import LayerGraph
    from quant.apply import QuantizedNetwork
    from quant.calibration import Recipe
    from quant.images import LabelledImages
    from quant.network import Network
    from quant.sweep import Rounder

CALIBRATION, FITTING, PROBES = 96, 400, 2


@dataclass(frozen=True)
class Part:
    """One row. rounding: of weights, applied; curves are priced with feedback, unless nearest.

    widths: "equal", "per layer" or "per channel". choices: that weights may have, None for the
    default ones. activation_bits: average. relinearise: rounds of pricing again around the
    quantised network; "predicted" is then the distortion measured on the pricing images.
    quantizers: steps by "energy", or by price: "steps", "dead zones" as well, or "powers of two".
    mean_shift: whether the prices know that biases are corrected for it. clips: of activations, by
    "priced" or "squared" error, or priced with steps "per channel". equalised: evens the weights'
    ranges out between layers first.
    """

    name: str
    rounding: str = "sequential"
    widths: str = "per channel"
    choices: tuple[int, ...] | None = None
    activation_bits: float = 8
    relinearise: int = 0
    quantizers: str = "energy"
    mean_shift: bool = True
    clips: str = "priced"
    equalised: bool = False


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
    Part("ranges of activations by squared error", clips="squared"),
    Part("steps of activations per channel", clips="per channel"),
    Part("activations 4 bits on average", activation_bits=4),
    Part("weights equalised between layers first", equalised=True),
    Part("priced again around the quantised network", relinearise=1),
)


def widths_of(part: Part, curves: RDCurves, graph: LayerGraph, bits: float) -> Allocation:
    """The allocation of a part at an average of `bits` a weight."""
    if part.widths == "equal":
        return equal_widths(curves, int(bits), int(part.activation_bits))
    least = least_widths(bits, part.activation_bits)
    budget = average_budget(curves, graph, bits, part.activation_bits, least)
    if part.choices is not None:
        budget = replace(budget, weight_widths=part.choices)
    return (per_layer if part.widths == "per layer" else allocate)(curves, budget)


class Workshop:
    """Rounders, recipes and prices of one network, each made when it is first asked for."""

    def __init__(self, network: Network, images: ImageSets, seed: int) -> None:
        self.network, self.images, self.seed = network, images, seed
        self._rounders: dict[str, Rounder] = {}
        self._recipes: dict[tuple[str, str], Recipe] = {}
        self._prices: dict[tuple[str, str, str, bool], RDCurves] = {}

    def rounder(self, name: str) -> Rounder:
        if name not in self._rounders:
            self._rounders[name] = find_rounder(name, self.network, self.images, self.seed)
        return self._rounders[name]

    def recipe(self, quantizers: str, clips: str) -> Recipe:
        key = quantizers, clips
        if key not in self._recipes:
            made = self._activations(clips) if quantizers == "energy" else self._weights(*key)
            self._recipes[key] = made
        return self._recipes[key]

    def _activations(self, clips: str) -> Recipe:
        """Weights' steps by energy, and the ranges of activations."""
        from quant.calibration import calibrate
        from quant.choose_quantizers import CLIP_IMAGES, choose_quantizers

        if clips != "per channel":
            choosing = Choosing(weights="energy", clips=clips)
            return find_recipe(self.network, self.images, self.seed, choosing=choosing)
        recipe = calibrate(self.network, self.images.training, seed=self.seed, channel_scales=True)
        some = self.beside.take(slice(0, CLIP_IMAGES))
        return choose_quantizers(self.network, recipe, some, seed=self.seed + 1, weights=False)

    def _weights(self, quantizers: str, clips: str) -> Recipe:
        """The same with weights' quantisers by price."""
        from quant.choose_quantizers import CHOICE_IMAGES, choose_quantizers

        return choose_quantizers(
            self.network,
            self.recipe("energy", clips),
            self.beside.take(slice(0, CHOICE_IMAGES)),
            seed=self.seed + 1,
            steps="power_of_two" if quantizers == "powers of two" else "real",
            dead_zones=() if quantizers == "steps" else None,
            activations=False,
        )

    @property
    def beside(self) -> LabelledImages:
        assert self.images.fitting is not None
        return self.images.fitting

    def prices(self, part: Part) -> RDCurves:
        """Curves with the recipe of a part, and with its rounding (feedback for sequential)."""
        import torch

        from quant.sweep import sweep

        pricing = "nearest" if part.rounding == "nearest" else "feedback"
        key = pricing, part.quantizers, part.clips, part.mean_shift
        if key not in self._prices:
            recipe = self.recipe(part.quantizers, part.clips)
            bare = {name: torch.zeros_like(mean) for name, mean in recipe.means.items()}
            self._prices[key] = sweep(
                self.network,
                self.images.calibration,
                probes=PROBES,
                seed=self.seed,
                recipe=recipe if part.mean_shift else replace(recipe, means=bare),
                rounder=self.rounder(pricing),
            )
        return self._prices[key]

    def quantized(self, part: Part, bits: float) -> tuple[Allocation, QuantizedNetwork]:
        """Widths of a part at an average of `bits` a weight, and the network at these."""
        from quant.apply import quantize
        from quant.relinearise import relinearise

        curves, rounder = self.prices(part), self.rounder(part.rounding)
        if part.relinearise:
            curves = relinearise(
                self.network,
                self.images.calibration,
                curves,
                lambda found: widths_of(part, found, self.network.graph, bits),
                rounder=rounder,
                rounds=part.relinearise,
                seed=self.seed,
            ).curves
        allocation = widths_of(part, curves, self.network.graph, bits)
        recipe = self.recipe(part.quantizers, part.clips)
        return allocation, quantize(self.network, allocation.bits, recipe, rounder=rounder)


def rows(
    model: str, weights: str | None, folder: str | None, bits: float, every: int, seed: int
) -> Iterator[str]:
    """Lines of the table: the float network first, then each part."""
    from quant.accuracy import evaluate, float_logits
    from quant.choose_quantizers import CHOICE_IMAGES, CLIP_IMAGES
    from quant.equalise import equalise

    network = load_network(model, weights)
    images = load_image_sets(model, network, folder, CALIBRATION, FITTING, seed)
    evaluation = images.evaluation.take(np.arange(0, len(images.evaluation), every))
    yield (
        f"{len(evaluation)} evaluation images; curves from {CALIBRATION} images x {PROBES} probes, "
        f"rounding fitted on up to {FITTING} others, of which the first {CLIP_IMAGES} choose "
        f"ranges of activations and {CHOICE_IMAGES} weights' quantisers where that is by price, "
        f"seed {seed}. Seconds of the processor: for all that the row adds to those above it. "
        f"torch {versions()['torch']}.\n"
    )
    yield "| part | top-1 % | agree % | divergence | predicted | measured | seconds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    exact = float_logits(network, evaluation)
    found = evaluate(network, None, evaluation, exact=exact)
    yield f"| float | {100 * found.top1:.1f} | 100.0 | 0 | 0 | 0 | |"
    plain = Workshop(network, images, seed)
    for part in PARTS:
        began = time.process_time()
        shop = Workshop(equalise(network), images, seed) if part.equalised else plain
        allocation, quantized = shop.quantized(part, bits)
        found = evaluate(network, quantized, evaluation, exact=exact)
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
