"""How curves are measured and quantisers made: rounding, calibration and pricing, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.sources import ImageSets

if TYPE_CHECKING:
    from quant.calibration import Progress, Recipe
    from quant.curves import RDCurves
    from quant.network import Network
    from quant.sweep import Rounder


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
) -> tuple[RDCurves, Rounder]:
    """Curves of a network under a rounder, and the rounder, for the quantised network to use."""
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
    )
    return curves, rounder
