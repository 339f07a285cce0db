"""What quantisers need to know from images: mean patches, energies, ranges; and the steps chosen.

One forward pass over unlabelled calibration images. The outcome, a Recipe, is plain arrays that
travel in the curves' file, so that the quantised network is the one whose distortion was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hwsim.graph import Layer
from quant.images import LabelledImages
from quant.network import Network
from quant.patches import patch_sums, per_channel
from quant.quantizer import (
    MAX_SWEPT_BITS,
    ActivationQuantizer,
    DeadZoneQuantizer,
    choose_activation,
    choose_steps,
    weight_steps,
)
from quant.scales import is_power_of_two, power_of_two_step, stored_step

_SAMPLE = 65536  # values of a tensor, over all images, that its clipping range is chosen on
Progress = Callable[[str, int, int], None]  # what is done, done so far, of how many
_LEAST_SCALE = 0.01  # of a channel, beside the largest: what channels that are never on get
_KINDS = {  # of arrays that a recipe is stored as, in the order of its fields, and their shapes
    "step": (None, 9),
    "mean": (None, None),
    "energy": (None, None),
    "clip": (9, 2),
    "deadzone": (None, 9),
    "scale": (None,),
}


@dataclass(frozen=True)
class Recipe:
    """Quantiser parameters of a network; everything the quantised network needs but the widths.

    steps: {layer: (out, 9)} step at widths 0..8. means: {layer: (groups, K)} mean input patch.
    energies: {layer: (groups, K)} mean square of what is left of the input without its mean.
    clips: {tensor: (9, 2)} step and zero point at widths 1..8; row 0 is the range seen.
    dead_zones: {layer: (out, 9)} ratio z at widths 0..8: |x| < (1 + z) / 2 * |step| gives zero; 0
    for layers without an entry. A layer all of whose steps are powers of two keeps to them.
    scales: {tensor: (channels,)} what each channel's values are divided by before `clips` apply,
    so that a channel's step is its scale times the tensor's; 1 for tensors without an entry.
    """

    steps: Mapping[str, Tensor]
    means: Mapping[str, Tensor]
    energies: Mapping[str, Tensor]
    clips: Mapping[str, Tensor]
    dead_zones: Mapping[str, Tensor] = field(default_factory=dict)
    scales: Mapping[str, Tensor] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, np.ndarray]:
        fields = (self.steps, self.means, self.energies, self.clips, self.dead_zones, self.scales)
        return {
            f"{kind}/{name}": tensor.numpy()
            for kind, tensors in zip(_KINDS, fields, strict=True)
            for name, tensor in tensors.items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Recipe:
        """Undo `to_arrays`. Raises ValueError if there is nothing to undo, or for arrays of another
        shape or of no floats."""
        found: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
        for key, array in arrays.items():
            kind, _, name = key.partition("/")
            if kind in found:
                values = np.asarray(array)
                wanted = _KINDS[kind]
                fits = values.ndim == len(wanted) and all(
                    size in (None, got) for size, got in zip(wanted, values.shape, strict=True)
                )
                if not fits or values.dtype.kind != "f" or not np.isfinite(values).all():
                    shape = ", ".join(str(size or "any") for size in wanted)
                    raise ValueError(
                        f"curves: {key!r} must be finite floats of shape ({shape}), got "
                        f"{values.dtype} of shape {values.shape}; measure the curves again"
                    )
                found[kind][name] = torch.from_numpy(np.array(array))
        if not found["step"] or not found["clip"]:
            raise ValueError("curves: no quantiser steps in them; give calibration images instead")
        for name, zones in found["deadzone"].items():
            steps = found["step"].get(name)
            if (
                steps is None
                or steps.shape != zones.shape
                or not ((zones >= 0) & (zones < 1)).all()
            ):
                raise ValueError(
                    f"curves: 'deadzone/{name}' must hold ratios in 0..1 for each of the steps of "
                    f"{name!r}; measure the curves again"
                )
        if any(not (scale > 0).all() for scale in found["scale"].values()):
            raise ValueError("curves: scales of channels must be above 0; measure the curves again")
        return cls(*found.values())

    def powers_of_two(self, layer: str) -> bool:
        """Whether all steps of a layer are powers of two."""
        return bool(is_power_of_two(self.steps[layer]).all())

    def stored(self, layer: str, step: Tensor) -> Tensor:
        """Steps of a layer as they are stored: half precision, or powers of two if its own are."""
        return power_of_two_step(step) if self.powers_of_two(layer) else stored_step(step)

    def weight_quantizer(self, layer: Layer, weight: Tensor, bits: Tensor) -> DeadZoneQuantizer:
        """For weight (out, K) with widths bits (out,), 0..16; with steps as they are stored."""
        table = self.steps[layer.name]
        step = table.gather(1, bits.clamp(max=MAX_SWEPT_BITS).unsqueeze(1)).squeeze(1)
        importance = per_channel(layer, self.energies[layer.name])
        for wide in bits.unique().tolist():
            if wide > MAX_SWEPT_BITS:
                step = torch.where(bits == wide, choose_steps(weight, wide, importance), step)
        rounding: float | Tensor = 0.5
        if layer.name in self.dead_zones:
            zones = self.dead_zones[layer.name]
            zone = zones.gather(1, bits.clamp(max=MAX_SWEPT_BITS).unsqueeze(1)).squeeze(1)
            rounding = (1 - torch.where(bits > MAX_SWEPT_BITS, 0.0, zone)) / 2
        return DeadZoneQuantizer(bits, self.stored(layer.name, step), rounding)

    def activation_quantizer(self, tensor: str, bits: int) -> ActivationQuantizer:
        """Of a tensor; for one whose channels have scales, of its values over these."""
        table = self.clips[tensor]
        if bits <= MAX_SWEPT_BITS:
            step, zero_point = table[bits].tolist()
            return ActivationQuantizer(bits, step, int(zero_point))
        low, high = table[0].tolist()
        step = max(high - low, 1e-12) / (2**bits - 1)
        return ActivationQuantizer(bits, step, round(-low / step))

    def channel_quantizers(
        self, layer: Layer, bits: Sequence[int]
    ) -> tuple[ActivationQuantizer, ...]:
        """Of every channel of a layer's output tensor at its own width, with its own step."""
        scales = [1.0] * len(bits)
        if layer.name in self.scales:
            scales = self.scales[layer.name].tolist()
        wide = {width: self.activation_quantizer(layer.name, width) for width in set(bits)}
        return tuple(
            replace(wide[width], step=wide[width].step * scale)
            for width, scale in zip(bits, scales, strict=True)
        )

    def scale_of(self, layer: Layer) -> Tensor | None:
        """The scales of a layer's output, in the dimensions of that tensor; None if it has none."""
        scale = self.scales.get(layer.name)
        if scale is None:
            return None
        shape = [1] * len(layer.output.shape)
        shape[layer.output.channel_axis] = len(scale)
        return scale.reshape(shape)

    def mean_shift(self, layer: Layer, error: Tensor) -> Tensor:
        """(out,) shift of each output channel's mean by a weight error (out, K)."""
        return (error * per_channel(layer, self.means[layer.name])).sum(1)


def one_by_one(images: Tensor | LabelledImages) -> Iterator[Tensor]:
    """Images as batches of one."""
    if isinstance(images, LabelledImages):
        for image, _ in images.batches(1):
            yield image
    else:
        yield from images.split(1)


@dataclass
class _Range:
    """Running range and random sample of one tensor's values."""

    per_image: int
    generator: torch.Generator
    low: float = float("inf")
    high: float = float("-inf")

    def __post_init__(self) -> None:
        self.sample: list[Tensor] = []

    def see(self, x: Tensor) -> None:
        flat = x.reshape(-1)
        low, high = flat.aminmax()
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        if flat.numel() > self.per_image:
            chosen = torch.randint(flat.numel(), (self.per_image,), generator=self.generator)
            flat = flat[chosen]
        self.sample.append(flat.clone())

    def clips(self) -> Tensor:
        return _clips(torch.cat(self.sample), self.low, self.high)


def _clips(values: Tensor, low: float, high: float) -> Tensor:
    """(9, 2) range, and step and zero point at 1..8 bits, from a sample of values."""
    rows = [(min(low, 0.0), max(high, 0.0))]
    for bits in range(1, MAX_SWEPT_BITS + 1):
        chosen = choose_activation(values, low, high, bits)
        rows.append((chosen.step, float(chosen.zero_point)))
    return torch.tensor(rows, dtype=torch.float64)


@dataclass
class _ChannelRanges:
    """The same of every channel of a tensor, and the scales that make channels alike."""

    per_image: int
    axis: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        self.sample: list[Tensor] = []
        self.ends: list[Tensor] = []  # (channels, 2) of each image
        self.powers: list[Tensor] = []

    def see(self, x: Tensor) -> None:
        rows = x.movedim(self.axis, 0).flatten(1)
        self.ends.append(torch.stack([rows.amin(1), rows.amax(1)], 1))
        self.powers.append(rows.square().mean(1))
        count = max(1, self.per_image // len(rows))
        chosen = torch.randint(rows.shape[1], (count,), generator=self.generator)
        self.sample.append(rows[:, chosen])

    def scales(self) -> Tensor:
        """(channels,) geometric mean of the largest value and the root of the mean square.

        The first alone gives one outlier the say, the second clips channels that are seldom on.
        """
        largest = torch.stack(self.ends).abs().amax((0, 2))
        scale = (largest * torch.stack(self.powers).mean(0).sqrt()).sqrt()
        most = scale.max()
        return scale.clamp(min=float(_LEAST_SCALE * most)) if most > 0 else torch.ones_like(scale)

    def clips(self) -> Tensor:
        scale = self.scales().unsqueeze(1)
        ends = torch.stack(self.ends) / scale
        values = torch.cat(self.sample, 1) / scale
        return _clips(values.flatten(), float(ends.min()), float(ends.max()))


def calibrate(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    seed: int = 0,
    channel_scales: bool = False,
    progress: Progress | None = None,
) -> Recipe:
    """The Recipe of a network from calibration images (N, channels, height, width).

    channel_scales: give every channel of a feature map a step of its own. The layer that writes the
    map rounds each channel with its own multiplier anyway. A layer that reads it has to undo the
    scales: a depthwise convolution in the multiplier of its output, an addition with one multiplier
    a channel for each operand, any other weighted layer with one for each input channel before its
    products are added up, which an integer array does not have (there scale the float weights
    instead, see `quant.equalise`).

    A max pool hands on the levels that it reads, so it has its producer's clipping range.
    Weight steps minimise the error weighted by the energy of the input that each weight meets.
    """
    count = len(images)
    sums: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}
    per_image = -(-_SAMPLE // count)
    ranges: dict[str, _Range | _ChannelRanges] = {}
    for layer in network.graph:
        generator, output = torch.Generator().manual_seed(seed), layer.output
        if channel_scales and output.values > output.channels > 1:
            ranges[layer.name] = _ChannelRanges(per_image, output.channel_axis, generator)
        else:
            ranges[layer.name] = _Range(per_image, generator)

    def at_input(name: str, x: Tensor) -> None:
        layer = network.graph[name]
        (first, number), (second, _) = patch_sums(layer, x), patch_sums(layer, x.square())
        if name not in sums:
            sums[name], counts[name] = [first, second], 0
        else:
            sums[name][0] += first
            sums[name][1] += second
        counts[name] += number

    def at_output(name: str, x: Tensor) -> Tensor:
        ranges[name].see(x)
        return x

    with torch.inference_mode():
        for done, image in enumerate(one_by_one(images), start=1):
            network.run(image, at_input=at_input, at_output=at_output)
            if progress:
                progress("calibrate", done, count)
    means = {name: total / counts[name] for name, (total, _) in sums.items()}
    energies = {
        name: (squares / counts[name] - means[name].square()).clamp(min=0)
        for name, (_, squares) in sums.items()
    }
    steps = {}
    for name, folded in network.layers.items():
        energy = energies[name].to(torch.float32)
        importance = per_channel(folded.layer, energy + 1e-6 * energy.mean() + 1e-30)
        steps[name] = weight_steps(folded.weight, importance)
    clips: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for layer in network.graph:
        if layer.kind == "pool" and "max" in layer.op:
            source = layer.inputs[0].name
            clips[layer.name] = clips[source]
            if source in scales:
                scales[layer.name] = scales[source]
            continue
        seen = ranges[layer.name]
        clips[layer.name] = seen.clips()
        if isinstance(seen, _ChannelRanges):
            scales[layer.name] = seen.scales()
    as_float = {
        kind: {name: tensor.to(torch.float32).clone() for name, tensor in tensors.items()}
        for kind, tensors in (("means", means), ("energies", energies))
    }
    return Recipe(steps, as_float["means"], as_float["energies"], clips, scales=scales)
