"""The plainly right reference for the curves: change one thing, run the network, compare.

One run of all images for every channel and width: exact for a single channel, hours for a large
network. The sweep is tested against it; users may ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quant.calibration import Progress, Recipe, calibrate
from quant.curves import WIDTHS, LayerCurve, RDCurves, TensorCurve
from quant.images import LabelledImages
from quant.network import AtOutput, Network, Parameters
from quant.quantizer import ActivationQuantizer
from quant.sweep import NEAREST, Rounder, weight_errors

_BATCH = 64


class _Reference:
    """The float network's logits, and how far a changed network is from them."""

    def __init__(self, network: Network, images: Tensor | LabelledImages, metric: str) -> None:
        whole = images.tensor() if isinstance(images, LabelledImages) else images
        if metric not in ("logits", "kl"):
            raise ValueError(f"measured: metric must be logits or kl, got {metric!r}")
        self.network, self.metric, self.count = network, metric, len(whole)
        self.batches = whole.split(_BATCH)
        self.logits = [network(batch) for batch in self.batches]

    def distortion(self, parameters: Parameters, at_output: AtOutput | None = None) -> float:
        total = 0.0
        with torch.inference_mode():
            for batch, wanted in zip(self.batches, self.logits, strict=True):
                got = self.network.run(batch, parameters, at_output=at_output)
                if self.metric == "logits":
                    total += float((got - wanted).square().sum(dtype=torch.float64))
                else:
                    expected, found = (torch.log_softmax(t.double(), 1) for t in (wanted, got))
                    total += float((expected.exp() * (expected - found)).sum())
        return max(total, 0.0) / self.count  # rounding may leave a divergence just below zero


def measured_channels(
    network: Network,
    images: Tensor | LabelledImages,
    chosen: Mapping[str, np.ndarray],
    *,
    metric: str = "logits",
    seed: int = 0,
    recipe: Recipe | None = None,
    rounder: Rounder = NEAREST,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """{layer: (n, 9) distortion} of the output channels {layer: (n,) indices}, each on its own.

    Each channel alone is quantised at each of 0..8 bits, its bias corrected for the shift of its
    mean. metric, recipe, rounder: as for `sweep.sweep`.
    """
    reference = _Reference(network, images, metric)
    recipe = recipe or calibrate(network, images, seed=seed)
    total, done = sum(len(indices) for indices in chosen.values()), 0
    found = {}
    for name, indices in chosen.items():
        folded = network.layers[name]
        errors = weight_errors(folded, recipe, rounder)
        curve = np.zeros((len(indices), WIDTHS))
        for row, channel in enumerate(np.asarray(indices).tolist()):
            for bits in range(WIDTHS):
                error = torch.zeros_like(folded.weight)
                error[channel] = errors[channel, bits]
                shift = recipe.mean_shift(folded.layer, error)
                changed = {name: (folded.weight + error, folded.bias - shift)}
                curve[row, bits] = reference.distortion(changed)
            done += 1
            if progress:
                progress("measure", done, total)
        found[name] = curve
    return found


@dataclass(frozen=True)
class _Only:
    """Quantises one tensor and leaves the others."""

    name: str
    quantizer: ActivationQuantizer
    scale: Tensor | None  # of channels, what the quantiser's values are over

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name != self.name:
            return x
        return (
            self.quantizer(x) if self.scale is None else self.quantizer(x / self.scale) * self.scale
        )


def measured_tensors(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    metric: str = "logits",
    seed: int = 0,
    recipe: Recipe | None = None,
) -> dict[str, np.ndarray]:
    """{tensor: (9,) distortion} with that activation tensor alone at 1..8 bits; inf at 0."""
    reference = _Reference(network, images, metric)
    recipe = recipe or calibrate(network, images, seed=seed)
    found = {}
    for layer in network.graph:
        curve = np.full(WIDTHS, np.inf)
        for bits in range(1, WIDTHS):
            quantizer = recipe.activation_quantizer(layer.name, bits)
            only = _Only(layer.name, quantizer, recipe.scale_of(layer))
            curve[bits] = reference.distortion({}, only)
        found[layer.name] = curve
    return found


def measured(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    metric: str = "logits",
    seed: int = 0,
    recipe: Recipe | None = None,
    rounder: Rounder = NEAREST,
    progress: Progress | None = None,
    activations: bool = True,
) -> RDCurves:
    """Curves of all channels and activation tensors by brute force; arguments as for `sweep`."""
    recipe = recipe or calibrate(network, images, seed=seed)
    everything = {n: np.arange(len(folded.weight)) for n, folded in network.layers.items()}
    weights = measured_channels(
        network,
        images,
        everything,
        metric=metric,
        recipe=recipe,
        rounder=rounder,
        progress=progress,
    )
    tensors = measured_tensors(network, images, metric=metric, recipe=recipe) if activations else {}
    return RDCurves(
        network=network.name,
        weights=tuple(
            LayerCurve(name, curve, network.layers[name].weight.shape[1])
            for name, curve in weights.items()
        ),
        activations=tuple(
            TensorCurve(name, curve, network.graph[name].output.values)
            for name, curve in tensors.items()
        ),
        method={
            "measured": "one by one",
            "metric": metric,
            "images": len(images),
            "seed": seed,
            "mean_correction": True,
            "rounding": rounder.name,
        },
        steps=recipe.to_arrays(),
    )
