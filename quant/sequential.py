"""Feedback rounding through layers that are already quantised: all of a network, widths given.

Layer by layer, in the order of computing, the float and the quantised network run side by side.
Each layer's weights are rounded under the covariance of the inputs that it will really meet (GPTQ:
Frantar et al., ICLR 2023), with the best of a few steps for every channel. Then two statistics of
its output are put right, which the fixed correction foresees to first order only: its mean, by the
bias, and half of what its slope against the float output has lost, by the step. Matched means alone
flatten the network: errors before a ReLU look like a higher mean behind it, and correcting that
takes from the activations that matter. Part of the covariance gives way to a Gauss-Newton matrix
of the output's error, which knows what is behind the layer (`quant.gauss_newton`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor

from quant.calibration import Progress, Recipe
from quant.descent import descend
from quant.gauss_newton import gauss_newton, guided
from quant.images import LabelledImages
from quant.network import AtOutput, FoldedLayer, Network, Walk
from quant.patches import patch_shape, patches
from quant.quantizer import DeadZoneQuantizer
from quant.rounding import (
    MAX_COLUMNS,
    Feedback,
    feedback_factor,
    round_with_feedback,
    samples_wanted,
)

STEP_RATIOS = (0.84, 0.92, 1.0, 1.08)  # to the recipe's steps, tried for every channel,
POWER_RATIOS = (0.5, 1.0, 2.0)  # and to steps that are powers of two
SLOPE_RESTORED = 0.5  # of the lost slope, as an exponent; 0.5 did best of 0, 0.5 and 1
_MOST_TOGETHER = 32  # images that walk together,
_VALUES_TOGETHER = 2**18  # and their input values: one at a time at 224 x 224 pixels
PASSES = 2  # of coordinate descent over the codes that feedback leaves; a third changes little
GUIDANCE = 0.5  # share of the Gauss-Newton matrix in what codes are chosen under
_LEAST_CORRELATION = 0.5  # of float and quantised output, for their slope to mean anything


@dataclass
class Statistics:
    """Sums over sampled positions of one layer: x, input patches of the quantised network, and r,
    what the float network gives at the layer's output beyond the same weights on x.

    squares: (groups, K, K) of x x', cross: (groups, out, K) of r x'; both empty for layers of more
    than MAX_COLUMNS. inputs, residuals, powers: of x, r, r**2, (groups, K or out, 1).
    """

    squares: Tensor
    cross: Tensor
    inputs: Tensor
    residuals: Tensor
    powers: Tensor
    count: int = 0

    @classmethod
    def zeros(cls, folded: FoldedLayer) -> Statistics:
        groups, size = patch_shape(folded.layer)
        outs = len(folded.weight) // groups
        kept = size if size <= MAX_COLUMNS else 0
        shapes = ((kept, kept), (outs, kept), (size, 1), (outs, 1), (outs, 1))
        zeros = [folded.weight.new_zeros(groups, *shape) for shape in shapes]
        return cls(zeros[0], zeros[1], zeros[2], zeros[3], zeros[4])

    def add(self, x: Tensor, residual: Tensor) -> None:
        """x (groups, K, n), residual (groups, out, n)."""
        if self.squares.numel():
            self.squares.baddbmm_(x, x.transpose(1, 2))
            self.cross.baddbmm_(residual, x.transpose(1, 2))
        self.inputs += x.sum(2, keepdim=True)
        self.residuals += residual.sum(2, keepdim=True)
        self.powers += residual.square().sum(2, keepdim=True)
        self.count += x.shape[2]

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Of x (groups, K, 1) and of r (groups, out, 1)."""
        return self.inputs / self.count, self.residuals / self.count

    def covariance(self) -> Tensor:
        mean, _ = self.means
        return (self.squares / self.count).baddbmm_(mean, mean.transpose(1, 2), alpha=-1)

    def slope_ratio(self, weight: Tensor, rounded: Tensor, covariance: Tensor) -> Tensor:
        """(groups, out) factor that gives the quantised output, regressed on the float one, the
        slope 1; 1 where the two are hardly correlated. weight, rounded: (groups, out, K)."""
        mean, residual = self.means
        cross = (self.cross / self.count).baddbmm_(residual, mean.transpose(1, 2), alpha=-1)
        on_inputs = torch.bmm(weight, covariance)
        noise = (self.powers / self.count - residual.square()).squeeze(2)
        exact = ((on_inputs + 2 * cross) * weight).sum(2) + noise  # variance of w.x + r
        both = ((on_inputs + cross) * rounded).sum(2)
        quantized = (torch.bmm(rounded, covariance) * rounded).sum(2)
        known = (both > 0) & (both.square() > _LEAST_CORRELATION**2 * exact * quantized)
        return torch.where(known, exact / both.clamp(min=1e-30), 1.0)


def round_best(
    weight: Tensor,
    covariance: Tensor,
    bits: Tensor,
    step: Tensor,
    damping: float,
    powers_of_two: bool = False,
) -> tuple[Tensor, Tensor]:
    """Weights (groups, out, K) rounded with feedback, and their steps (groups * out,).

    The best ratio to `step` (groups * out,) is chosen for every channel, and the step fitted to
    the codes: the least squared error on inputs of that covariance. bits: (groups * out,) widths.
    powers_of_two: half, the same or double the step, and no fit: steps stay powers of two.
    """
    groups, outs, size = weight.shape
    tried = POWER_RATIOS if powers_of_two else STEP_RATIOS
    tries = len(tried)
    variances = covariance.diagonal(dim1=1, dim2=2)
    order = variances.argsort(1, descending=True)
    sorted_rows = covariance.gather(1, order.unsqueeze(2).expand(-1, -1, size))
    both = sorted_rows.gather(2, order.unsqueeze(1).expand(-1, size, -1))
    places = order.unsqueeze(1).expand_as(weight)
    wanted = weight.gather(2, places).repeat(1, tries, 1)
    ratios = step.new_tensor(tried).reshape(1, tries, 1)
    steps = (step.reshape(groups, 1, outs) * ratios).reshape(groups, -1)
    widths = bits.reshape(groups, 1, outs).expand(-1, tries, -1)
    quantizer = DeadZoneQuantizer(widths.reshape(-1), steps.reshape(-1))
    rounded = round_with_feedback(wanted, feedback_factor(both, damping), quantizer)
    levels = (rounded / steps.unsqueeze(2)).round_()
    fitted, gain = _fitted(wanted, levels, both, steps)
    if powers_of_two:
        fitted = steps
    best = gain.unflatten(1, (tries, outs)).argmax(1, keepdim=True)
    chosen = fitted.unflatten(1, (tries, outs)).gather(1, best).squeeze(1)
    index = best.unsqueeze(3).expand(-1, -1, -1, size)
    sorted_codes = levels.unflatten(1, (tries, outs)).gather(1, index).squeeze(1)
    codes = torch.empty_like(weight).scatter_(2, places, sorted_codes)
    damped = covariance.clone()
    damped.diagonal(dim1=1, dim2=2).add_(damping * variances.mean(1, keepdim=True) + 1e-12)
    codes = descend(weight, codes, chosen, bits.reshape(groups, outs), damped, PASSES)
    if not powers_of_two:
        chosen, _ = _fitted(weight, codes, covariance, chosen)
    return codes * chosen.unsqueeze(2), chosen.reshape(-1)


def _fitted(
    weight: Tensor, levels: Tensor, covariance: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The step of least error for given levels (groups, n, K), and what it gains: (groups, n).

    |(w - s l)' C (w - s l)| is w'Cw - gain, least at s = w'Cl / l'Cl. Where that means nothing,
    the step (groups, n) stays.
    """
    power = torch.bmm(levels, covariance)
    own, shared = (power * levels).sum(2), (power * weight).sum(2)
    usable = (own > 0) & (shared * step > 0)
    fitted = torch.where(usable, shared / own.clamp(min=1e-30), step)
    return fitted, 2 * fitted * shared - fitted.square() * own


class Sequential(Feedback):
    """Feedback rounding whose network, once all widths are known, is rounded layer by layer.

    As a rounder of single layers, with which curves are priced, it is `Feedback`.
    images: unlabelled, 400 or more are better than few, none that the curves are priced on.
    guidance: share, 0 to 1, of the Gauss-Newton matrix beside the covariance; 0 spares its
    backward pass an image, which is made when a network is first rounded and kept for the next.
    Memory: the activations of all images that are alive at one layer, twice, and with guidance
    K x K numbers for every layer.
    """

    name = "sequential"

    def __init__(
        self,
        network: Network,
        images: Tensor | LabelledImages,
        *,
        damping: float = 0.01,
        guidance: float = GUIDANCE,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if not 0 <= guidance <= 1:
            raise ValueError(f"rounding: guidance must be a share, 0 to 1, got {guidance!r}")
        self.network, self.images, self.seed, self.progress = network, images, seed, progress
        self.damping, self.guidance = damping, guidance
        self._fitted: Feedback | None = None
        self._felt: dict[str, Tensor] | None = None if guidance else {}

    def __call__(
        self, folded: FoldedLayer, bits: Tensor, recipe: Recipe
    ) -> tuple[DeadZoneQuantizer, Tensor]:
        if self._fitted is None:  # a network that is only applied needs no float statistics
            self._fitted = Feedback(
                self.network,
                self.images,
                damping=self.damping,
                seed=self.seed,
                progress=self.progress,
            )
        return self._fitted(folded, bits, recipe)

    def whole(
        self, bits: Mapping[str, Tensor], recipe: Recipe, rounded: AtOutput
    ) -> dict[str, tuple[DeadZoneQuantizer, Tensor, Tensor]]:
        """{layer: (quantiser, weight (out, K), bias (out,))} at widths {layer: (out,)}.

        rounded: rounds the activation tensors, as for `Network.run`.
        """
        generator = torch.Generator().manual_seed(self.seed)
        layers = self.network.layers
        if self._felt is None:
            self._felt = gauss_newton(
                self.network,
                self.images,
                max_columns=MAX_COLUMNS,
                seed=self.seed,
                progress=self.progress,
            )
        done = {}
        with torch.inference_mode():
            exact, quantized = self._walks(rounded)
            float_at = [next(walk) for walk in exact]
            found_at = [next(walk) for walk in quantized]
            for number in range(1, len(layers) + 1):
                name = float_at[0][0]
                folded, statistics = layers[name], Statistics.zeros(layers[name])
                for (_, x), (_, found) in zip(float_at, found_at, strict=True):
                    self._see(statistics, folded, x, found, generator)
                done[name] = self._round_layer(folded, statistics, bits[name], recipe)
                _, weight, bias = done[name]
                for i in range(len(exact)):
                    float_at[i] = _advance(exact[i], (folded.weight, folded.bias))
                    found_at[i] = _advance(quantized[i], (weight, bias))
                if self.progress:
                    self.progress("refine", number, len(layers))
        return {
            name: (quantizer, weight.clone(), bias.clone())
            for name, (quantizer, weight, bias) in done.items()
        }

    def _walks(self, rounded: AtOutput) -> tuple[list[Walk], list[Walk]]:
        size = max(1, min(_MOST_TOGETHER, _VALUES_TOGETHER // prod(self.network.input_shape)))
        if isinstance(self.images, LabelledImages):
            batches = [batch for batch, _ in self.images.batches(size)]
        else:
            batches = list(self.images.split(size))
        return (
            [self.network.walk(batch) for batch in batches],
            [self.network.walk(batch, rounded) for batch in batches],
        )

    def _see(
        self,
        statistics: Statistics,
        folded: FoldedLayer,
        exact: Tensor,
        found: Tensor,
        generator: torch.Generator,
    ) -> None:
        """A sample of positions of some images: inputs of the float and of the quantised layer."""
        groups, size = patch_shape(folded.layer)
        columns, lost = patches(folded.layer, found), patches(folded.layer, exact - found)
        wanted = ceil(samples_wanted(size) * len(found) / len(self.images))
        if columns.shape[2] > wanted:
            chosen = torch.randperm(columns.shape[2], generator=generator)[:wanted]
            columns, lost = columns[:, :, chosen], lost[:, :, chosen]
        statistics.add(columns, torch.bmm(folded.weight.reshape(groups, -1, size), lost))

    def _round_layer(
        self, folded: FoldedLayer, statistics: Statistics, bits: Tensor, recipe: Recipe
    ) -> tuple[DeadZoneQuantizer, Tensor, Tensor]:
        """Quantiser, weight and bias of a layer."""
        groups, size = patch_shape(folded.layer)
        quantizer = recipe.weight_quantizer(folded.layer, folded.weight, bits)
        weight = folded.weight.reshape(groups, -1, size)
        mean, residual = statistics.means
        if size <= MAX_COLUMNS:
            covariance = statistics.covariance()
            cost = covariance
            if self._felt:
                cost = guided(covariance, self._felt[folded.name], mean, self.guidance)
            powers = recipe.powers_of_two(folded.name)
            rounded, step = round_best(weight, cost, bits, quantizer.step, self.damping, powers)
            levels = (rounded / step.reshape(groups, -1, 1)).round_()
            if not powers:  # which no factor may change: their slope stays as it is
                ratio = statistics.slope_ratio(weight, rounded, covariance) ** SLOPE_RESTORED
                step = step * ratio.reshape(-1)
            step = recipe.stored(folded.name, step)  # the codes stay, at the step that is stored
            rounded = levels * step.reshape(groups, -1, 1)
            quantizer = DeadZoneQuantizer(bits, step)
        else:
            rounded = quantizer(folded.weight).reshape(weight.shape)
        shift = torch.bmm(weight - rounded, mean) + residual
        return quantizer, rounded.reshape(folded.weight.shape), folded.bias + shift.reshape(-1)


def _advance(walk: Walk, parameters: tuple[Tensor, Tensor]) -> tuple[str, Tensor]:
    """Where the walk pauses next; at its end, no layer and the logits."""
    try:
        return walk.send(parameters)
    except StopIteration as end:
        return "", end.value
