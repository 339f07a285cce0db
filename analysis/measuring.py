"""How curves are measured and quantisers made: rounding, calibration and pricing, in one place."""

from __future__ import annotations

import sys
import time
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


def find_recipe(
    network: Network, images: ImageSets, seed: int, progress: Progress | None = None
) -> Recipe:
    """Quantiser parameters from all images that are not for the evaluation."""
    from quant.calibration import calibrate

    return calibrate(network, images.training, seed=seed, progress=progress)


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
) -> tuple[RDCurves, Rounder]:
    """Curves of a network under a rounder, and the rounder, for the quantised network to use.

    granularity, relative_error, partial: see `quant.sweep.sweep`.
    """
    from quant.sweep import sweep

    recipe = find_recipe(network, images, seed, progress)
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
