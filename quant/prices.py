"""Prices: sums of squared first-order moves of a layer's channels, or of one tensor, by width.

Gradients are collected and multiplied by the quantisation errors a few at a time, because reading
the nine errors of every weight is what pricing costs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hwsim.graph import Layer
from quant.calibration import Recipe
from quant.curves import WIDTHS
from quant.low_widths import LOW_WIDTHS, BentMoves
from quant.network import FoldedLayer
from quant.patches import patch_shape
from quant.quantizer import ActivationQuantizer

COLUMNS = 8  # gradients that are multiplied by the errors together
_CHUNK = 32784  # values rounded together; no power of two: rows would share cache sets


class Block:
    """Squared moves of some items, by width, for each image of a block of images."""

    def __init__(self, items: int) -> None:
        self.items = items
        self._squares: dict[int, Tensor] = {}

    def fold(self, image: int, squares: Tensor) -> None:
        """squares: (items, 9), summed over some probes of one image of the block; float64."""
        known = self._squares.get(image)
        self._squares[image] = squares if known is None else known + squares

    def take(self, images: int, probes: int) -> tuple[Tensor, Tensor]:
        """Sum and sum of squares of the images' prices (2, items, 9), and each image's own price
        of all items (images, 9); the block begins anew. Zeros where no gradient has arrived."""
        sums = torch.zeros(2, self.items, WIDTHS, dtype=torch.float64)
        own = torch.zeros(images, WIDTHS, dtype=torch.float64)
        for image in sorted(self._squares):
            price = self._squares[image] / probes
            sums[0] += price
            sums[1] += price.square()
            own[image] = price.sum(0)
        self._squares.clear()
        return sums, own


class WeightPrices:
    """Prices of one layer's channels, fed by gradients of its weight and bias.

    errors: (out, 9, K) moves of the weights at widths 0..8. by_input: price input channels rather
    than output channels: all weights that read the channel are moved. bent: better moves at the
    lowest widths of output channels. Memory: the errors (36 bytes
    a weight) and up to COLUMNS gradients (4 bytes each).
    """

    def __init__(
        self,
        folded: FoldedLayer,
        errors: Tensor,
        recipe: Recipe,
        columns: int,
        by_input: bool,
        bent: BentMoves | None = None,
    ) -> None:
        self.layer, self.by_input, self.bent = folded.layer, by_input, bent
        groups, size = patch_shape(folded.layer)
        # g_w . d + g_b * (-d . m) = (g_w - g_b m) . d, with m the mean input patch
        self.mean = recipe.means[folded.name].reshape(groups, 1, size)
        self.inputs = groups * (folded.shape[1] if len(folded.shape) > 1 else 1)
        self.errors = self._arranged(errors.transpose(0, 1)).transpose(0, 1).contiguous()
        self.values = self.errors.shape[2]
        self.weight = folded.weight.clone().requires_grad_()
        self.bias = folded.bias.clone().requires_grad_()
        self.block = Block(len(self.errors))
        self.held = self.errors.new_empty(len(self.errors), columns, self.values)
        self.filled = 0
        for leaf in (self.weight, self.bias):
            leaf.register_post_accumulate_grad_hook(self._arrived)

    def _arranged(self, by_output: Tensor) -> Tensor:
        """(..., out, K) as it is, or as (..., in, outputs that read it * kernel positions)."""
        if not self.by_input:
            return by_output
        groups, before = len(self.mean), by_output.shape[:-2]
        split = by_output.reshape(*before, groups, -1, self.inputs // groups, self._positions)
        return split.transpose(-3, -2).reshape(*before, self.inputs, -1)

    @property
    def _positions(self) -> int:
        return self.mean.shape[2] * len(self.mean) // self.inputs

    def _arrived(self, leaf: Tensor) -> None:
        weight, bias = self.weight.grad, self.bias.grad
        if weight is None or bias is None:
            return
        self.weight.grad = self.bias.grad = None
        groups, _, size = self.mean.shape
        by_group, shift = weight.reshape(groups, -1, size), bias.reshape(groups, -1, 1)
        if self.by_input:
            by_group.addcmul_(shift, self.mean, value=-1)
            self.held[:, self.filled] = self._arranged(by_group.reshape(weight.shape))
        else:
            place = self.held[:, self.filled].unflatten(0, by_group.shape[:2])
            torch.addcmul(by_group, shift, self.mean, value=-1, out=place)
        self.filled += 1

    def fold(self, images: list[int]) -> None:
        """Price the gradients held; images: of the block, the one that each belongs to."""
        if not self.filled:  # the outputs do not depend on this layer
            return
        moves = torch.bmm(self.errors, self.held[:, : self.filled].transpose(1, 2))
        if self.bent is not None:
            moves[:, LOW_WIDTHS] = self.bent.take()
        squares = moves.square_().to(torch.float64)
        first = 0
        while first < self.filled:
            last = first
            while last < self.filled and images[last] == images[first]:
                last += 1
            self.block.fold(images[first], squares[:, :, first:last].sum(2))
            first = last
        self.filled = 0


class TensorPrices:
    """Prices of one activation tensor, fed by its values and their gradients for one image.

    quantizers: at widths 1..8. scale: what the values are divided by before those apply, in the
    tensor's own dimensions; one by default. Memory: the values and the gradients of one image's
    probes, and scratch.
    """

    def __init__(self, quantizers: list[ActivationQuantizer], scale: Tensor | None = None) -> None:
        def column(numbers: list[float]) -> Tensor:
            return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)

        self.step = column([q.step for q in quantizers])
        self.least = column([q.least for q in quantizers])
        self.most = column([q.most for q in quantizers])
        self.signed = bool((self.least < 0).any())
        self.scale = scale
        self.block = Block(1)
        self.held: list[Tensor] = []
        self.values: Tensor | None = None
        self.seen = False

    @classmethod
    def of(cls, recipe: Recipe, layer: Layer) -> TensorPrices:
        """Of a layer's output tensor, with the quantisers of a recipe."""
        quantizers = [recipe.activation_quantizer(layer.name, bits) for bits in range(1, WIDTHS)]
        return cls(quantizers, recipe.scale_of(layer))

    def see(self, x: Tensor) -> None:
        """The tensor: its values, and from now on its gradients."""
        self.keep(x)
        self.seen = True
        x.register_hook(self._arrived)

    def keep(self, x: Tensor) -> None:
        """Values to price the errors of."""
        x = x.detach()
        self.values = (x if self.scale is None else x / self.scale).reshape(-1)

    def _arrived(self, gradient: Tensor) -> None:
        gradient = gradient.detach()
        self.held.append((gradient if self.scale is None else gradient * self.scale).reshape(-1))

    def fold(self, image: int) -> None:
        """Price the gradients held, of one image of the block."""
        if not self.held:
            return
        assert self.values is not None
        moves = torch.zeros(len(self.step), len(self.held), dtype=torch.float64)
        steps = len(self.step)
        scratch = self.values.new_empty(2, steps * min(_CHUNK, len(self.values)))
        for start in range(0, len(self.values), _CHUNK):
            x = self.values[start : start + _CHUNK]
            scaled, level = scratch[:, : steps * len(x)].view(2, steps, len(x))
            torch.div(x, self.step, out=scaled)
            torch.round(scaled, out=level)
            torch.minimum(level, self.most, out=level)
            if self.signed:
                torch.maximum(level, self.least, out=level)
            level.sub_(scaled)
            gradients = torch.stack([g[start : start + _CHUNK] for g in self.held])
            moves += level @ gradients.t()
        squares = (moves * self.step).square().sum(1)
        self.block.fold(image, torch.cat([squares.new_zeros(1), squares]).unsqueeze(0))
        self.held.clear()
