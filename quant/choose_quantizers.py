"""Quantisers chosen by the priced error: the step and dead zone of every channel and width, clips.

Least squared error weighed by input energies, as `calibrate` chooses steps, knows nothing of how
the errors of a channel's weights add up, nor of what the output makes of them. The sweep does: an
error d of a channel moves the output by (g_w - g_b m) . d, with the mean's shift corrected (see
sweep.py). Here a few candidates for every quantiser are priced by such moves over a few images. A
candidate takes the place of what the recipe has only where the prices agree on it: its difference,
image by image, must be below zero by a share of its own standard error, so that of many candidates
that are alike the luckiest does not win.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hwsim.graph import Layer
from hwsim.names import did_you_mean
from quant.calibration import Progress, Recipe, one_by_one
from quant.curves import WIDTHS
from quant.images import LabelledImages
from quant.network import FoldedLayer, Network
from quant.patches import per_channel
from quant.prices import TensorPrices
from quant.scales import power_of_two_step
from quant.sweep import METRICS, NEAREST, Rounder

STEPS = ("real", "power_of_two")
STEP_RATIOS = (1.0, 0.84, 0.92, 1.08, 1.16)  # to the recipe's step
POWER_RATIOS = (1.0, 0.5, 2.0)  # to the power of two nearest to the recipe's step
DEAD_ZONES = (0.0, 0.15, 0.3)  # see Recipe.dead_zones
CLIP_RATIOS = (1.0, 0.7, 0.84, 1.19, 1.4, 2.0)  # to the recipe's clip
CHOICE_IMAGES = 16  # do for weights; for clips, whose prices say less,
CLIP_IMAGES = 64  # gain where 16 did not (CIFAR ResNet-20, 2 to 5 bits)
STANDARD_ERRORS = 0.5  # that a candidate must be better by: for weights,
CLIP_STANDARD_ERRORS = 1.0  # and for clips
_HELD = 16  # gradients of every weight held together: 64 bytes a weight


@dataclass(frozen=True)
class Candidate:
    """A factor to the recipe's step, and a dead zone; see Recipe."""

    ratio: float = 1.0
    dead_zone: float = 0.0

    def of(self, recipe: Recipe, name: str) -> Recipe:
        """The recipe with this candidate in layer `name`, at all widths."""
        steps = recipe.steps[name] * self.ratio
        found = replace(recipe, steps={name: steps}, dead_zones={})
        if self.dead_zone:
            zones = torch.full_like(steps, self.dead_zone)
            found = replace(found, dead_zones={name: zones})
        return found


def candidates(ratios: Iterable[float], dead_zones: Iterable[float]) -> tuple[Candidate, ...]:
    """All pairs; the first changes nothing."""
    return tuple(Candidate(ratio, zone) for zone in dead_zones for ratio in ratios)


class Tally:
    """Prices of candidates (candidates, ..., 9), image by image, and which of them to take."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total = torch.zeros(shape, dtype=torch.float64)
        self.squares = torch.zeros(shape, dtype=torch.float64)  # of differences to the first
        self.images = 0

    def add(self, prices: Tensor) -> None:
        """prices: of one image."""
        self.total += prices
        self.squares += (prices - prices[0]).square()
        self.images += 1

    def best(self, standard_errors: float) -> Tensor:
        """(..., 9) number of the candidate to take: 0 unless another is surely better."""
        mean = (self.total - self.total[0]) / self.images
        variance = (self.squares / self.images - mean.square()).clamp(min=0)
        score = mean + standard_errors * (variance / max(self.images - 1, 1)).sqrt()
        return score.argmin(0)


class _Gradients:
    """Gradients g_w - g_b m of one layer's weights, (out, n, K), as backward passes bring them."""

    def __init__(self, folded: FoldedLayer, recipe: Recipe, columns: int) -> None:
        self.folded = folded
        self.mean = per_channel(folded.layer, recipe.means[folded.name])
        self.weight = folded.weight.clone().requires_grad_()
        self.bias = folded.bias.clone().requires_grad_()
        outs, size = folded.weight.shape
        self.held = folded.weight.new_zeros(outs, columns, size)
        self.filled = 0
        for leaf in (self.weight, self.bias):
            leaf.register_post_accumulate_grad_hook(self._arrived)

    def _arrived(self, leaf: Tensor) -> None:
        weight, bias = self.weight.grad, self.bias.grad
        if weight is None or bias is None:
            return
        self.weight.grad = self.bias.grad = None
        place = self.held[:, self.filled]
        torch.addcmul(weight, bias.unsqueeze(1), self.mean, value=-1, out=place)
        self.filled += 1

    def prices(self, tried: Sequence[Candidate], recipe: Recipe, rounder: Rounder, probes: int
               ) -> Tensor:  # fmt: skip
        """(images, candidates, out, 9) of the gradients held, which are then dropped."""
        outs, images = len(self.weight), self.filled // probes
        found = torch.zeros(images, len(tried), outs, WIDTHS, dtype=torch.float64)
        gradients = self.held[:, : self.filled].transpose(1, 2)
        for place, candidate in enumerate(tried):
            own = candidate.of(recipe, self.folded.name)
            for bits in range(1, WIDTHS):
                widths = torch.full((outs,), bits, dtype=torch.int64)
                error = rounder(self.folded, widths, own)[1] - self.folded.weight
                moves = torch.bmm(error.unsqueeze(1), gradients).squeeze(1)
                squares = moves.square_().to(torch.float64).unflatten(1, (images, probes))
                found[:, place, :, bits] = squares.mean(2).t()
        self.filled = 0
        return found


class _Clips:
    """Candidates for one tensor's clips."""

    def __init__(self, recipe: Recipe, layer: Layer, ratios: Sequence[float]) -> None:
        table = recipe.clips[layer.name]
        self.tables = [
            torch.cat([table[:1], table[1:] * table.new_tensor([r, 1.0])]) for r in ratios
        ]
        self.prices = [
            TensorPrices.of(replace(recipe, clips={layer.name: table}), layer)
            for table in self.tables
        ]
        self.tally = Tally((len(self.tables), WIDTHS))

    def see(self, x: Tensor) -> None:
        for prices in self.prices:
            prices.see(x)

    def count(self, probes: int) -> None:
        """The image that was seen ends."""
        own = []
        for prices in self.prices:
            prices.fold(0)
            own.append(prices.block.take(1, probes)[1][0])
        self.tally.add(torch.stack(own))

    def chosen(self) -> Tensor:
        best = self.tally.best(CLIP_STANDARD_ERRORS)
        best[0] = 0  # the range seen
        return torch.stack(self.tables)[best, torch.arange(WIDTHS)]


def to_powers_of_two(recipe: Recipe) -> Recipe:
    """The recipe with every weight step at the power of two nearest to it."""
    return replace(recipe, steps={n: power_of_two_step(s) for n, s in recipe.steps.items()})


def choose_quantizers(
    network: Network,
    recipe: Recipe,
    images: Tensor | LabelledImages,
    *,
    probes: int = 2,
    metric: str = "logits",
    seed: int = 1,
    steps: str = "real",
    rounder: Rounder = NEAREST,
    dead_zones: Sequence[float] | None = None,
    standard_errors: float = STANDARD_ERRORS,
    weights: bool = True,
    activations: bool = True,
    progress: Progress | None = None,
) -> Recipe:
    """The recipe with steps, dead zones and clips of least priced error.

    images: unlabelled, others than those that the curves are priced on, or the curves look better
    than they are. metric: "logits" or "kl". steps: "real", or "power_of_two" for weights' steps.
    rounder: how weights are rounded; one that feeds errors back looks at no dead zone. dead_zones:
    those to try beside none, DEAD_ZONES by default. standard_errors: by which a candidate for
    weights must be better. weights, activations: choose theirs; otherwise they stay (but for
    steps="power_of_two"). A max pool has the clips of what it reads. Channels without an effect
    keep what they have.

    Raises ValueError for an unknown metric or kind of steps, and without images or probes. Memory:
    64 bytes a weight, and one image's activations with their gradients.
    """
    known = tuple(m for m in METRICS if m != "feature")
    for what, name, names in (("metric", metric, known), ("steps", steps, STEPS)):
        if name not in names:
            raise ValueError(f"choose quantisers: no {what} {name!r}{did_you_mean(name, names)}")
    if not len(images) or not 1 <= probes <= _HELD:
        raise ValueError(
            f"choose quantisers: needs an image and 1..{_HELD} probes, got {len(images)} and "
            f"{probes}"
        )
    if steps == "power_of_two":
        recipe = to_powers_of_two(recipe)
    wide = DEAD_ZONES if dead_zones is None else dead_zones
    zones = dict.fromkeys((0.0, *(wide if rounder is NEAREST else ())))
    tried = candidates(STEP_RATIOS if steps == "real" else POWER_RATIOS, zones)
    together = _HELD // probes
    gradients = {
        name: _Gradients(folded, recipe, together * probes)
        for name, folded in (network.layers if weights else {}).items()
    }
    tallies = {name: Tally((len(tried), len(of.weight), WIDTHS)) for name, of in gradients.items()}
    inherits = {
        layer.name: layer.inputs[0].name
        for layer in network.graph
        if layer.kind == "pool" and "max" in layer.op
    }
    clips = {
        layer.name: _Clips(recipe, layer, CLIP_RATIOS)
        for layer in (network.graph if activations else ())
        if layer.name not in inherits
    }
    generator = torch.Generator().manual_seed(seed)

    def at_output(name: str, x: Tensor) -> Tensor:
        if name in clips and x.requires_grad:
            clips[name].see(x)
        return x

    def fold() -> None:
        for name, of in gradients.items():
            if of.filled:
                for of_image in of.prices(tried, recipe, rounder, probes):
                    tallies[name].add(of_image)

    parameters = {name: (of.weight, of.bias) for name, of in gradients.items()}
    for done, image in enumerate(one_by_one(images), start=1):
        with torch.enable_grad():
            image = image.clone().requires_grad_(bool(clips))
            output = network.run(image, parameters, at_output=at_output)
            for probe in range(probes):
                vector = METRICS[metric](output.detach(), generator)
                output.backward(vector, retain_graph=probe + 1 < probes)
                image.grad = None
        with torch.no_grad():
            for clip in clips.values():
                clip.count(probes)
            if done % together == 0 or done == len(images):
                fold()
        if progress:
            progress("choose", done, len(images))
    found = {name: clip.chosen() for name, clip in clips.items()}
    for name, source in inherits.items() if activations else ():
        found[name] = found[source] if source in found else recipe.clips[name]
    return _with_weights(
        replace(recipe, clips={**recipe.clips, **found}), tallies, tried, standard_errors
    )


def _with_weights(
    recipe: Recipe, tallies: dict[str, Tally], tried: Sequence[Candidate], standard_errors: float
) -> Recipe:
    """The recipe with the candidates that the tallies choose."""
    ratios = torch.tensor([candidate.ratio for candidate in tried])
    zones = torch.tensor([candidate.dead_zone for candidate in tried])
    steps, dead_zones = dict(recipe.steps), dict(recipe.dead_zones)
    for name, tally in tallies.items():
        if tally.images:  # the outputs depend on the layer
            best = tally.best(standard_errors)
            steps[name] = steps[name] * ratios[best]
            dead_zones[name] = zones[best]
    return replace(recipe, steps=steps, dead_zones=dead_zones)
