"""How curves are measured and quantisers made: rounding, calibration and pricing, in one place."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.sources import ImageSets

if TYPE_CHECKING:
    from quant.calibration import Progress, Recipe
    from quant.curves import RDCurves
    from quant.network import Network
    from quant.sweep import Rounder


WORTH_SAYING = 10.0  # seconds: a shorter sweep is not announced


class Announced:
    """Progress that says on standard error, after its first image, how long a sweep will take."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.began: float | None = None
        self.said = False

    def __call__(self, task: str, done: int, total: int) -> None:
        if task == "errors":
            self.began = time.perf_counter()  # at the last of them, the first image begins
        elif task == "sweep" and not self.said and self.began is not None:
            self.said = True
            seconds = (time.perf_counter() - self.began) * (total - done)
            if seconds >= WORTH_SAYING:
                print(
                    f"chipfit: about {seconds:,.0f} s for the {total - done} images left; Ctrl-C "
                    f"keeps what is done",
                    file=sys.stderr,
                )
        self.inner(task, done, total)


@dataclass(frozen=True)
class Choosing:
    """How quantisers are chosen; see quant/choose_quantizers.py.

    weights: their steps and dead zones by "priced" or by "energy", the squared error weighed by
    input energies. None: priced for nearest and feedback rounding, where it helps; sequential
    rounding searches its own steps. clips: of activations, by "priced" or "squared" error. None:
    priced for feedback and sequential rounding, which have images beside the calibration's anyway.
    steps: "real" or "power_of_two".
    """

    weights: str | None = None
    clips: str | None = None
    steps: str = "real"

    @classmethod
    def of(cls, options: Namespace) -> Choosing:
        return cls(options.choose, options.clips, options.steps)

    def priced(self, rounding: str) -> bool:
        """Whether the weights' quantisers are priced."""
        return self.weights == "priced" or (self.weights is None and rounding != "sequential")

    def prices_clips(self, rounding: str) -> bool:
        """Whether the activations' ranges are priced."""
        return self.clips == "priced" or (self.clips is None and rounding != "nearest")

    def images(self, rounding: str) -> int:
        """Images that the choice takes beside those that curves are priced on."""
        from quant.choose_quantizers import CHOICE_IMAGES, CLIP_IMAGES

        of_weights = CHOICE_IMAGES if self.priced(rounding) else 0
        return max(of_weights, CLIP_IMAGES if self.prices_clips(rounding) else 0)


def images_beside(options: Namespace) -> int:
    """Images that rounding is fitted on and quantisers are chosen by, beside the calibration's."""
    if options.rounding != "nearest":
        return int(options.rounding_images)
    return Choosing.of(options).images(options.rounding)


def find_recipe(
    network: Network,
    images: ImageSets,
    seed: int,
    progress: Progress | None = None,
    rounding: str = "sequential",
    choosing: Choosing | None = None,
) -> Recipe:
    """Quantiser parameters from all images that are not for the evaluation.

    Choices by price look at the first of `images.fitting`. Raises ValueError if there are none.
    """
    from quant.calibration import calibrate
    from quant.choose_quantizers import (
        CHOICE_IMAGES,
        CLIP_IMAGES,
        choose_quantizers,
        to_powers_of_two,
    )

    choosing = choosing or Choosing()
    recipe = calibrate(network, images.training, seed=seed, progress=progress)
    beside = images.fitting
    if choosing.steps == "power_of_two":
        recipe = to_powers_of_two(recipe)
    asked = choosing.weights == "priced" or choosing.clips == "priced"
    if not choosing.images(rounding) or (beside is None and not asked):
        return recipe
    if beside is None:
        raise ValueError(
            "quantisers: choosing them by price needs images beside those of the calibration; "
            "lower --calibration, or give --choose energy and --clips squared"
        )
    if choosing.priced(rounding):
        recipe = choose_quantizers(
            network,
            recipe,
            beside.take(slice(0, CHOICE_IMAGES)),
            seed=seed + 1,  # other probes than the curves'
            steps=choosing.steps,
            dead_zones=None if rounding == "nearest" else (),
            activations=False,
            progress=progress,
        )
    if choosing.prices_clips(rounding):
        some = beside.take(slice(0, CLIP_IMAGES))
        recipe = choose_quantizers(
            network, recipe, some, seed=seed + 1, weights=False, progress=progress
        )
    return recipe


def find_rounder(
    rounding: str, network: Network, images: ImageSets, seed: int, progress: Progress | None = None
) -> Rounder:
    """The rounder of that name, fitted on the images kept for it. Raises ValueError for another."""
    from quant.rounding import make_rounder

    return make_rounder(rounding, network, images.fitting, seed=seed, progress=progress)


def measure_curves(
    network: Network,
    images: ImageSets,
    *,
    rounding: str,
    probes: int,
    metric: str = "logits",
    seed: int = 0,
    progress: Progress | None = None,
    granularity: str = "output",
    relative_error: float | None = None,
    partial: Path | None = None,
    choosing: Choosing | None = None,
) -> tuple[RDCurves, Rounder]:
    """Curves of a network under a rounder, and the rounder, for the quantised network to use.

    granularity, relative_error, partial: see `quant.sweep.sweep`. choosing: of the quantisers.
    """
    from quant.sweep import sweep

    recipe = find_recipe(network, images, seed, progress, rounding, choosing)
    rounder = find_rounder(rounding, network, images, seed, progress)
    curves = sweep(
        network,
        images.calibration,
        probes=probes,
        metric=metric,
        seed=seed,
        progress=progress,
        recipe=recipe,
        rounder=rounder,
        granularity=granularity,
        relative_error=relative_error,
        partial=partial,
    )
    return curves, rounder
