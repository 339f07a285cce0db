"""The whole numbers behind quantised weights: value = level * scale, as other tools have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from quant.apply import QuantizedNetwork


@dataclass(frozen=True)
class LayerLevels:
    """A weighted layer as whole numbers.

    levels: (out, K) integers; b bits hold -2**(b-1) .. 2**(b-1) - 1, one bit -1 and 1, none 0.
    scale: (out,) float32, half-precision numbers, some below zero (the odd level lies on the side
    of the channel's extreme value); for dropped channels the layer's finest. width: (out,) bits.
    bias: (out,) float32, corrected. shape: of the weight as the operation takes it, output channels
    first.
    """

    name: str
    levels: np.ndarray
    scale: np.ndarray
    width: np.ndarray
    bias: np.ndarray
    shape: tuple[int, ...]

    def container(self) -> type[np.integer]:
        """The narrowest type of whole bytes that holds the levels."""
        return np.int8 if self.width.max(initial=0) <= 8 else np.int16

    def shaped(self, channels: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Levels of some output channels in the operation's shape, in `container()`."""
        chosen = self.levels[channels]
        return chosen.astype(self.container()).reshape(len(chosen), *self.shape[1:])

    def by_width(self) -> dict[int, np.ndarray]:
        """{width: output channels that have it, in their order}."""
        return {int(w): np.flatnonzero(self.width == w) for w in np.unique(self.width)}


def layer_levels(quantized: QuantizedNetwork, name: str) -> LayerLevels:
    """The levels of a layer. Raises ValueError for weights that are no values of its quantiser."""
    quantizer = quantized.weights[name]
    weight, bias = quantized.parameters[name]
    level = quantizer.level(weight)
    kept = (quantizer.bits > 0).unsqueeze(1)
    if not torch.equal(level * quantizer.step.unsqueeze(1), weight):
        raise ValueError(
            f"network {quantized.network.name!r}: the weights of layer {name!r} are no values of "
            f"their quantiser; quantise the network first"
        )
    # integer kernels round a bias to multiples of scale * input step: that of a dropped channel,
    # which is all that is left of it, must not be coarse
    kept_steps = quantizer.step[kept[:, 0]]
    finest = kept_steps.abs().min() if len(kept_steps) else torch.tensor(2.0**-10)
    return LayerLevels(
        name=name,
        levels=torch.where(kept, level, 0.0).to(torch.int32).numpy(),
        scale=torch.where(kept[:, 0], quantizer.step, finest).to(torch.float32).numpy(),
        width=quantizer.bits.to(torch.int64).numpy(),
        bias=bias.to(torch.float32).numpy(),
        shape=quantized.network.layers[name].shape,
    )
