"""The quantised network: weights at each channel's width, biases corrected, activations rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hwsim.bits import BitWidths
from hwsim.graph import Layer
from quant.calibration import Recipe, calibrate
from quant.curves import RDCurves
from quant.images import LabelledImages
from quant.network import FoldedLayer, Network, Parameters
from quant.patches import patch_shape
from quant.quantizer import ActivationQuantizer, DeadZoneQuantizer
from quant.sweep import NEAREST, NetworkRounder, Rounder

Found = Mapping[str, tuple[DeadZoneQuantizer, Tensor, Tensor]]  # quantiser, weight, bias


@dataclass(frozen=True)
class QuantizedNetwork:
    """A network that computes with quantised weights and activations; call it on images.

    parameters: {layer: (quantised weight (out, K), corrected bias (out,))}. weights: the quantiser
    of each layer's weights, with their widths and steps. activations: for every
    layer, the quantiser of its output tensor, or one a channel where their widths differ.
    """

    network: Network
    bits: BitWidths
    parameters: Parameters
    weights: dict[str, DeadZoneQuantizer]
    activations: dict[str, ActivationQuantizer | tuple[ActivationQuantizer, ...]]

    def __call__(self, images: Tensor) -> Tensor:
        """images (batch, channels, height, width) -> logits (batch, classes)."""
        with torch.inference_mode():
            return self.network.run(images, self.parameters, at_output=self.rounded)

    def rounded(self, name: str, x: Tensor) -> Tensor:
        """A layer's output tensor, rounded."""
        quantizer = self.activations[name]
        if isinstance(quantizer, ActivationQuantizer):
            return quantizer(x)
        step, least, most = (
            x.new_tensor(numbers).reshape(self._along_channels(name, len(quantizer)))
            for numbers in zip(*((q.step, q.least, q.most) for q in quantizer), strict=True)
        )
        return torch.minimum(torch.maximum((x / step).round_(), least), most).mul_(step)

    def _along_channels(self, name: str, channels: int) -> list[int]:
        """Shape in which one number a channel stands beside the layer's output tensor."""
        output = self.network.graph[name].output
        return [channels if i == output.channel_axis else 1 for i in range(len(output.shape))]

    def index(self, layer: str) -> np.ndarray:
        """(out, K) stored indices of a layer's weights, for `packing.pack` with its widths."""
        return self.weights[layer].index(self.parameters[layer][0]).numpy()


def quantize(
    network: Network,
    bits: BitWidths,
    source: RDCurves | Recipe | Tensor | LabelledImages,
    *,
    rounder: Rounder = NEAREST,
    seed: int = 0,
) -> QuantizedNetwork:
    """The network at the given widths.

    source: where the quantisers' parameters come from: the curves (which carry them), or
    unlabelled calibration images, from which the same images and seed make the same parameters.
    A dropped channel keeps its mean, through its bias. Raises ValueError if the widths or curves
    are of another network.
    """
    bits.check(network.graph)
    if isinstance(source, Recipe):
        recipe = source
    elif isinstance(source, RDCurves):
        recipe = Recipe.from_arrays(source.steps)
        _check_same(network, recipe, source.network)
    else:
        recipe = calibrate(network, source, seed=seed)
    activations = {layer.name: _quantizers(layer, bits, recipe) for layer in network.graph}
    widths = {
        name: torch.from_numpy(bits.weight(folded.layer)) for name, folded in network.layers.items()
    }
    bare = QuantizedNetwork(network, bits, {}, {}, activations)
    if isinstance(rounder, NetworkRounder):
        found: Found = rounder.whole(widths, recipe, bare.rounded)
    else:
        found = {
            name: _on_its_own(folded, widths[name], recipe, rounder)
            for name, folded in network.layers.items()
        }
    return replace(
        bare,
        parameters={name: (weight, bias) for name, (_, weight, bias) in found.items()},
        weights={name: quantizer for name, (quantizer, _, _) in found.items()},
    )


def _on_its_own(
    folded: FoldedLayer, bits: Tensor, recipe: Recipe, rounder: Rounder
) -> tuple[DeadZoneQuantizer, Tensor, Tensor]:
    """Quantiser, weight and bias of a layer, its mean corrected for its own error."""
    quantizer, weight = rounder(folded, bits, recipe)
    return quantizer, weight, folded.bias - recipe.mean_shift(folded.layer, weight - folded.weight)


def _quantizers(
    layer: Layer, bits: BitWidths, recipe: Recipe
) -> ActivationQuantizer | tuple[ActivationQuantizer, ...]:
    widths = bits.activation(layer.name, layer.output.channels).tolist()
    if len(set(widths)) == 1 and layer.name not in recipe.scales:
        return recipe.activation_quantizer(layer.name, widths[0])
    return recipe.channel_quantizers(layer, widths)


def _check_same(network: Network, recipe: Recipe, name: str) -> None:
    for layer, folded in network.layers.items():
        if layer not in recipe.steps or len(recipe.steps[layer]) != len(folded.weight):
            raise ValueError(
                f"curves of {name!r} do not fit network {network.name!r}: layer {layer!r} with "
                f"{len(folded.weight)} channels is not in them"
            )
        for kind, known in (("means", recipe.means), ("energies", recipe.energies)):
            got = tuple(known[layer].shape) if layer in known else None
            if got != patch_shape(folded.layer):
                raise ValueError(
                    f"curves of {name!r} do not fit network {network.name!r}: {kind} of layer "
                    f"{layer!r} must have shape {patch_shape(folded.layer)}, got {got}"
                )
    missing = [layer.name for layer in network.graph if layer.name not in recipe.clips]
    if missing:
        raise ValueError(
            f"curves of {name!r} do not fit network {network.name!r}: tensor {missing[0]!r} is "
            f"not in them"
        )
