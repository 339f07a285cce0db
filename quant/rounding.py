"""Error-feedback rounding: the error of each weight is made up for by those not yet rounded.

Second-order, one layer at a time, every output channel on its own at its own width: the products'
squared error (w - q)' H (w - q) over the inputs' covariance H is lowered column by column (GPTQ:
Frantar et al., ICLR 2023; optimal brain surgeon: Hassibi and Stork, NIPS 1992). The covariance,
not the second moment, because the mean is the bias correction's business. Price the outcome on
other images than those it was fitted on: on the same ones it looks several times better than it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hwsim.names import did_you_mean
from quant.calibration import Progress, Recipe, one_by_one
from quant.images import LabelledImages
from quant.network import FoldedLayer, Network
from quant.patches import patch_shape, patches
from quant.quantizer import DeadZoneQuantizer
from quant.sweep import NEAREST, Rounder

_SAMPLES_PER_COLUMN = 8  # patches for every entry of a patch, at least; more changes little
_SAMPLES = 16384  # patches of a layer, at least, as far as the images have them
_BLOCK = 128  # columns that are finished before the rest hears of their errors
ROUNDINGS = ("sequential", "feedback", "nearest")
MAX_COLUMNS = 8192  # beyond, the covariance would take gigabytes: nearest rounding


def samples_wanted(size: int) -> int:
    """Patches that the statistics of a layer of `size` columns are taken from, if there are."""
    return max(_SAMPLES_PER_COLUMN * size, _SAMPLES)


def input_covariances(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """{layer: (groups, K, K)} covariance of each weighted layer's input patches, float32.

    A random sample of positions of every image; layers of more than MAX_COLUMNS are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    counts: dict[str, int] = {}

    def at_input(name: str, x: Tensor) -> None:
        layer = network.graph[name]
        groups, size = patch_shape(layer)
        if size > MAX_COLUMNS:
            return
        wanted = -(-samples_wanted(size) // len(images))
        columns = patches(layer, x)
        if columns.shape[2] > wanted:
            chosen = torch.randperm(columns.shape[2], generator=generator)[:wanted]
            columns = columns[:, :, chosen]
        if name not in sums:
            sums[name] = (x.new_zeros(groups, size, size), x.new_zeros(groups, size, 1))
            counts[name] = 0
        squares, totals = sums[name]
        squares.baddbmm_(columns, columns.transpose(1, 2))
        totals += columns.sum(2, keepdim=True)
        counts[name] += columns.shape[2]

    with torch.inference_mode():
        for done, image in enumerate(one_by_one(images), start=1):
            network.run(image, at_input=at_input)
            if progress:
                progress("round", done, len(images))
        for name, (squares, totals) in sums.items():
            means = totals.div_(counts[name])
            squares.div_(counts[name]).baddbmm_(means, means.transpose(1, 2), alpha=-1)
    return {name: squares.clone() for name, (squares, _) in sums.items()}


def feedback_factor(covariance: Tensor, damping: float) -> Tensor:
    """Strictly upper-triangular U (groups, K, K) with (U + 1) D (U + 1)' the damped covariance.

    Column i of U says how much of the error of each earlier column column i makes up for: what
    the inverse of the covariance says too, for a quarter of the work (QuIP: Chee et al., NeurIPS
    2023, Theorem 6). damping: of the mean variance, added to every variance. Inputs that never
    vary are free of cost and need no more than the damping to keep the matrix regular.
    """
    variances = covariance.diagonal(dim1=1, dim2=2)
    damped = covariance.double()
    level = damping * variances.mean(1, keepdim=True).double() + 1e-12
    damped.diagonal(dim1=1, dim2=2).add_(level)
    lower = torch.linalg.cholesky(damped.flip(1, 2))  # of the columns from last to first
    factor = lower.div_(lower.diagonal(dim1=1, dim2=2).clone().unsqueeze(1)).flip(1, 2)
    factor.diagonal(dim1=1, dim2=2).zero_()
    return factor.to(covariance.dtype)


def round_with_feedback(weight: Tensor, factor: Tensor, quantizer: DeadZoneQuantizer) -> Tensor:
    """(groups, out, K) weights rounded to the quantiser's levels, columns from first to last.

    factor: from `feedback_factor`. quantizer: of all groups * out channels, in their order.
    """
    groups, channels, size = weight.shape
    bits = quantizer.bits.reshape(groups, channels)
    step = quantizer.step.reshape(groups, channels)
    low, high = level_range(bits, weight.dtype)
    binary = bits == 1
    any_binary = bool(binary.any())
    errors, rounded = torch.zeros_like(weight), torch.empty_like(weight)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        exact, inner = weight[:, :, start:stop], factor[:, start:stop, start:stop]
        block = torch.baddbmm(exact, errors[:, :, :start], factor[:, :start, start:stop])
        for i in range(stop - start):
            scaled = block[:, :, i] / step
            level = torch.clamp(scaled.round(), low, high)
            if any_binary:
                level = torch.where(binary, torch.where(scaled < 0, -1.0, 1.0), level)
            rounded[:, :, start + i] = level * step
            error = exact[:, :, i] - rounded[:, :, start + i]
            errors[:, :, start + i] = error
            if start + i + 1 < stop:
                block[:, :, i + 1 :].baddbmm_(error.unsqueeze(2), inner[:, i : i + 1, i + 1 :])
    return rounded


def level_range(bits: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Lowest and highest level at each width; one bit holds -1 and +1 alone."""
    high = torch.where(bits > 1, 2.0 ** (bits - 1) - 1, (bits == 1).double()).to(dtype)
    low = torch.where(bits > 1, -(2.0 ** (bits - 1)), -(bits == 1).double()).to(dtype)
    return low, high


class Feedback:
    """Rounder that feeds errors back, fitted on images; exchangeable with nearest rounding.

    images: unlabelled, others than those that the curves are priced on (400 or more are better
    than few). Columns are taken in the order of falling variance, so that the costly ones have
    most others left to make up for their error.
    """

    name = "feedback"

    def __init__(
        self,
        network: Network,
        images: Tensor | LabelledImages,
        *,
        damping: float = 0.01,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        found = input_covariances(network, images, seed=seed, progress=progress)
        for name in list(found):
            covariance = found.pop(name)  # each is freed once its factor is made
            order = covariance.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
            size = order.shape[1]
            sorted_rows = covariance.gather(1, order.unsqueeze(2).expand(-1, -1, size))
            both = sorted_rows.gather(2, order.unsqueeze(1).expand(-1, size, -1))
            self._factors[name] = (order, feedback_factor(both, damping))

    def __call__(
        self, folded: FoldedLayer, bits: Tensor, recipe: Recipe
    ) -> tuple[DeadZoneQuantizer, Tensor]:
        if folded.name not in self._factors:
            return NEAREST(folded, bits, recipe)
        quantizer = recipe.weight_quantizer(folded.layer, folded.weight, bits)
        order, factor = self._factors[folded.name]
        groups, size = order.shape
        weight = folded.weight.reshape(groups, -1, size)
        places = order.unsqueeze(1).expand_as(weight)
        rounded = round_with_feedback(weight.gather(2, places), factor, quantizer)
        back = torch.empty_like(weight).scatter_(2, places, rounded)
        return quantizer, back.reshape(folded.weight.shape)


def make_rounder(
    rounding: str,
    network: Network,
    images: Tensor | LabelledImages | None = None,
    *,
    seed: int = 0,
    guidance: float | None = None,
    progress: Progress | None = None,
) -> Rounder:
    """The rounder called "nearest", "feedback" or "sequential" (both fitted on `images`).

    guidance: of sequential rounding, see there; by default its own.
    Raises ValueError for another name, or if images are needed and there are none.
    """
    if rounding == "nearest":
        return NEAREST
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding: no {rounding!r}{did_you_mean(rounding, ROUNDINGS)}")
    if images is None:
        raise ValueError(f"rounding: {rounding} needs images to be fitted on")
    if rounding == "sequential":
        from quant.sequential import GUIDANCE, Sequential  # which are built on this file

        share = GUIDANCE if guidance is None else guidance
        return Sequential(network, images, guidance=share, seed=seed, progress=progress)
    return Feedback(network, images, seed=seed, progress=progress)
