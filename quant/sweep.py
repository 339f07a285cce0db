"""Rate-distortion curves of every channel and activation tensor, in one backward sweep.

Quantising moves a channel's weights by d and, with the bias corrected for the shift of the mean,
its bias by -d . m, where m is the mean input patch. To first order the logits move by J u, with u
both moves together. For a random sign vector v, E[(v' J u)^2] = |J u|^2, and v' J is the gradient
of v . logits: so one backward pass prices every channel at every width, by inner products of the
gradient with each u. (Hutchinson's estimator of the diagonal of a Gauss-Newton matrix, in the few
directions that are asked for: Commun. Stat. Simul. 19(2), 1990.) Activation tensors alike, with
the error of each image's own values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hwsim.names import did_you_mean
from quant.calibration import Progress, Recipe, calibrate, one_by_one
from quant.curves import WIDTHS, LayerCurve, RDCurves, TensorCurve
from quant.images import LabelledImages
from quant.network import AtOutput, FoldedLayer, Network
from quant.patches import per_channel
from quant.quantizer import ActivationQuantizer, DeadZoneQuantizer


class Rounder(Protocol):
    """Rounds a layer's weights: (layer, widths (out,), recipe) -> its quantiser and the rounded
    weights (out, K), which are values of that quantiser."""

    name: str

    def __call__(
        self, folded: FoldedLayer, bits: Tensor, recipe: Recipe
    ) -> tuple[DeadZoneQuantizer, Tensor]: ...


@runtime_checkable
class NetworkRounder(Rounder, Protocol):
    """A rounder that also rounds all layers together, once every width is known."""

    def whole(
        self, bits: Mapping[str, Tensor], recipe: Recipe, rounded: AtOutput
    ) -> Mapping[str, tuple[DeadZoneQuantizer, Tensor, Tensor]]:
        """{layer: (quantiser, weight (out, K), bias (out,))} at widths {layer: (out,)}; rounded:
        rounds the activation tensors."""
        ...


class Nearest:
    """Each weight on its own to the nearest level of its channel."""

    name = "nearest"

    def __call__(
        self, folded: FoldedLayer, bits: Tensor, recipe: Recipe
    ) -> tuple[DeadZoneQuantizer, Tensor]:
        quantizer = recipe.weight_quantizer(folded.layer, folded.weight, bits)
        return quantizer, quantizer(folded.weight)


NEAREST = Nearest()


def sign_probe(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs: E[(v . e)^2] = |e|^2, the squared error of the logits."""
    return torch.randint(0, 2, logits.shape, generator=generator).to(logits.dtype) * 2 - 1


def kl_probe(logits: Tensor, generator: torch.Generator) -> Tensor:
    """(one-hot of a class drawn from the prediction - prediction) / sqrt(2).

    E[(v . e)^2] = e' F e / 2 with F the Fisher information of the prediction: the second-order
    Kullback-Leibler divergence, in nats, of the prediction from that of logits moved by e.
    """
    prediction = torch.softmax(logits, -1)
    drawn = torch.multinomial(prediction, 1, generator=generator)
    return (torch.zeros_like(prediction).scatter_(-1, drawn, 1.0) - prediction) / math.sqrt(2)


METRICS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "logits": sign_probe,
    "kl": kl_probe,
}


def weight_errors(folded: FoldedLayer, recipe: Recipe, rounder: Rounder = NEAREST) -> Tensor:
    """(out, 9, K) moves d of each channel's weights at widths 0..8."""
    channels = len(folded.weight)
    errors = folded.weight.new_empty(channels, WIDTHS, folded.weight.shape[1])
    for bits in range(WIDTHS):
        widths = torch.full((channels,), bits, dtype=torch.int64)
        errors[:, bits] = rounder(folded, widths, recipe)[1] - folded.weight
    return errors


class _WeightPrices:
    """Sums of squared first-order moves of one layer's channels, fed by gradients."""

    def __init__(self, folded: FoldedLayer, recipe: Recipe, rounder: Rounder, probes: int) -> None:
        self.errors = weight_errors(folded, recipe, rounder)
        self.mean = per_channel(folded.layer, recipe.means[folded.name])
        self.weight = folded.weight.clone().requires_grad_()
        self.bias = folded.bias.clone().requires_grad_()
        self.probes = probes
        self.total = torch.zeros(self.errors.shape[:2], dtype=torch.float64)
        self.held: list[Tensor] = []
        for leaf in (self.weight, self.bias):
            leaf.register_post_accumulate_grad_hook(self._arrived)

    def _arrived(self, leaf: Tensor) -> None:
        weight, bias = self.weight.grad, self.bias.grad
        if weight is None or bias is None:
            return
        self.weight.grad = self.bias.grad = None
        # g_w . d + g_b * (-d . m) = (g_w - g_b m) . d
        self.held.append(weight.addcmul_(bias.unsqueeze(1), self.mean, value=-1))
        if len(self.held) == self.probes:  # read the errors once for all probes of an image
            moves = torch.bmm(self.errors, torch.stack(self.held, 2))
            self.total += moves.square().sum(2, dtype=torch.float64)
            self.held.clear()


class _TensorPrices:
    """The same for one activation tensor."""

    def __init__(self, quantizers: list[ActivationQuantizer], probes: int) -> None:
        self.quantizers, self.probes = quantizers, probes
        self.total = torch.zeros(WIDTHS, dtype=torch.float64)
        self.total[0] = torch.inf
        self.held: list[Tensor] = []
        self.values: Tensor | None = None

    def see(self, x: Tensor) -> None:
        self.values = x.detach().reshape(-1)
        x.register_hook(self._arrived)

    def _arrived(self, gradient: Tensor) -> None:
        assert self.values is not None
        self.held.append(gradient.reshape(-1).clone())
        if len(self.held) == self.probes:
            gradients = torch.stack(self.held)
            for bits, quantizer in enumerate(self.quantizers, start=1):
                error = quantizer(self.values).sub_(self.values)
                self.total[bits] += (gradients @ error).square().sum(dtype=torch.float64)
            self.held.clear()
            self.values = None


def sweep(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    probes: int = 2,
    metric: str = "logits",
    seed: int = 0,
    progress: Progress | None = None,
    activations: bool = True,
    recipe: Recipe | None = None,
    rounder: Rounder = NEAREST,
) -> RDCurves:
    """RDCurves of a network: first-order distortion of its output, mean-corrected.

    images: unlabelled calibration images, a random class-balanced sample. probes: random vectors
    an image. metric: "logits" (squared error, summed over classes) or "kl" (Kullback-Leibler
    divergence of the prediction, nats); both are means over images. seed: of probes and of the
    calibration. activations: price the activation tensors too; otherwise theirs are left out.
    recipe: quantiser parameters, from `calibrate(network, images)` by default. rounder: how weights
    are rounded. The same arguments give the same curves, to the bit, on the same machine.
    Raises ValueError for an unknown metric or less than one probe or image.

    Memory: nine errors for every weight (36 bytes), one image's activations, and the gradients of
    all probes but the last.
    """
    if metric not in METRICS:
        raise ValueError(f"sweep: no metric {metric!r}{did_you_mean(metric, METRICS)}")
    if probes < 1 or len(images) < 1:
        raise ValueError(f"sweep: needs a probe and an image, got {probes} and {len(images)}")
    recipe = recipe or calibrate(network, images, seed=seed, progress=progress)
    weights = {
        name: _WeightPrices(folded, recipe, rounder, probes)
        for name, folded in network.layers.items()
    }
    tensors = {}
    if activations:
        for layer in network.graph:
            quantizers = [recipe.activation_quantizer(layer.name, b) for b in range(1, WIDTHS)]
            tensors[layer.name] = _TensorPrices(quantizers, probes)

    def at_output(name: str, x: Tensor) -> Tensor:
        if name in tensors:
            tensors[name].see(x)
        return x

    generator = torch.Generator().manual_seed(seed)
    leaves = {name: (prices.weight, prices.bias) for name, prices in weights.items()}
    for done, image in enumerate(one_by_one(images), start=1):
        with torch.enable_grad():
            image = image.clone().requires_grad_(activations)
            logits = network.run(image, leaves, at_output=at_output)
            for probe in range(probes):
                vector = METRICS[metric](logits.detach(), generator)
                logits.backward(vector, retain_graph=probe + 1 < probes)
                image.grad = None
        if progress:
            progress("sweep", done, len(images))
    passes = len(images) * probes
    return RDCurves(
        network=network.name,
        weights=tuple(
            LayerCurve(name, (prices.total / passes).numpy(), prices.errors.shape[2])
            for name, prices in weights.items()
        ),
        activations=tuple(
            TensorCurve(
                name,
                np.where(np.arange(WIDTHS) > 0, (prices.total / passes).numpy(), np.inf),
                network.graph[name].output.values,
            )
            for name, prices in tensors.items()
        ),
        method={
            "measured": "sweep",
            "metric": metric,
            "images": len(images),
            "probes": probes,
            "seed": seed,
            "mean_correction": True,
            "rounding": rounder.name,
        },
        steps=recipe.to_arrays(),
    )
