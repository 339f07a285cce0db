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

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hwsim.names import did_you_mean
from quant.calibration import Progress, Recipe, calibrate, one_by_one
from quant.curves import WIDTHS, LayerCurve, RDCurves, TensorCurve
from quant.images import LabelledImages
from quant.low_widths import BentMoves
from quant.network import AtOutput, FoldedLayer, Network
from quant.prices import COLUMNS, TensorPrices, WeightPrices
from quant.quantizer import DeadZoneQuantizer
from quant.sweep_state import SweepState, fingerprint, standard_error

_log = logging.getLogger(__name__)

GRANULARITIES = ("output", "input")
STATED_WIDTH = 4  # the middle of 0..8: where the error of the predicted total is asked for
MIN_IMAGES = 8  # before an estimate of its own error is believed
SECONDS_BETWEEN_FILES = 20.0
KINDS = ("weights", "activations")


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
    "feature": sign_probe,
}


def weight_errors(folded: FoldedLayer, recipe: Recipe, rounder: Rounder = NEAREST) -> Tensor:
    """(out, 9, K) moves d of each channel's weights at widths 0..8."""
    channels = len(folded.weight)
    errors = folded.weight.new_empty(channels, WIDTHS, folded.weight.shape[1])
    for bits in range(WIDTHS):
        widths = torch.full((channels,), bits, dtype=torch.int64)
        errors[:, bits] = rounder(folded, widths, recipe)[1] - folded.weight
    return errors


class _Passes:
    """The forward and backward passes of a sweep, and the prices that they feed."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        rounder: Rounder,
        probes: int,
        metric: str,
        activations: bool,
        by_input: bool,
        low_widths: bool,
        progress: Progress | None,
    ) -> None:
        self.network, self.probes, self.metric = network, probes, metric
        self.last = list(network.layers)[-1] if metric == "feature" else None
        self.block = max(1, COLUMNS // probes)  # images whose gradients are priced together
        columns = min(COLUMNS, self.block * probes)
        self.weights: dict[str, WeightPrices] = {}
        for done, (name, folded) in enumerate(network.layers.items(), start=1):
            errors = weight_errors(folded, recipe, rounder)
            bent = None
            if low_widths and not by_input and network.is_bent(name):
                bent = BentMoves(network, folded, errors, recipe)
            self.weights[name] = WeightPrices(folded, errors, recipe, columns, by_input, bent)
            if progress:
                progress("errors", done, len(network.layers))
        self.tensors = {
            layer.name: TensorPrices.of(recipe, layer)
            for layer in (network.graph if activations else ())
        }
        self.parameters = {name: (p.weight, p.bias) for name, p in self.weights.items()}
        self.columns: list[int] = []  # image of the block that each gradient held belongs to

    def _at_input(self, name: str, x: Tensor) -> None:
        bent = self.weights[name].bent
        if bent is not None:
            bent.input = x.detach()

    def _at_output(self, name: str, x: Tensor) -> Tensor:
        if name in self.tensors and x.requires_grad:
            self.tensors[name].see(x)
        if name in self.weights and (bent := self.weights[name].bent) is not None:
            bent.see(x)
        return x

    def _output(self, image: Tensor) -> Tensor:
        """The logits, or what the last weighted layer reads."""
        if self.last is None:
            return self.network.run(image, self.parameters, self._at_input, self._at_output)
        walk = self.network.walk(image, self._at_output)
        name, x = next(walk)
        while name != self.last:
            self._at_input(name, x)
            name, x = walk.send(self.parameters[name])
        walk.close()
        return x

    def price(self, image: Tensor, place: int, generator: torch.Generator) -> None:
        """All probes of one image (1, ...), the place-th of its block."""
        with torch.enable_grad():
            image = image.clone().requires_grad_(bool(self.tensors))
            output = self._output(image)
            for probe in range(self.probes):
                vector = METRICS[self.metric](output.detach(), generator)
                output.backward(vector, retain_graph=probe + 1 < self.probes)
                image.grad = None
                self.columns.append(place)
                if len(self.columns) == COLUMNS:
                    self._fold(place)
        self._fold_tensors(place)

    def _fold(self, place: int) -> None:
        for layer in self.weights.values():
            layer.fold(self.columns)
        self.columns.clear()
        self._fold_tensors(place)

    def _fold_tensors(self, place: int) -> None:
        for tensor in self.tensors.values():
            tensor.fold(place)

    def take_block(self, images: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each kind, what the block of images that has ended adds to a SweepState."""
        if self.columns:
            self._fold(self.columns[-1])
        found = {}
        weights = [prices.block for prices in self.weights.values()]
        tensors = [prices.block for prices in self.tensors.values()]
        for kind, blocks in zip(KINDS, (weights, tensors), strict=True):
            taken = [block.take(images, self.probes) for block in blocks]
            items = torch.cat([torch.zeros(2, 0, WIDTHS), *(sums for sums, _ in taken)], 1)
            own = torch.stack([torch.zeros(images, WIDTHS), *(own for _, own in taken)]).sum(0)
            found[kind] = (items.numpy(), torch.stack([own.sum(0), own.square().sum(0)]).numpy())
        return found

    def empty(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Sums of a SweepState before the first image."""
        counts = (sum(p.block.items for p in self.weights.values()), len(self.tensors))
        items = {kind: np.zeros((2, n, WIDTHS)) for kind, n in zip(KINDS, counts, strict=True)}
        return items, {kind: np.zeros((2, WIDTHS)) for kind in KINDS}

    def curves(self, state: SweepState, method: Mapping[str, Any], recipe: Recipe) -> RDCurves:
        pinned = np.where(np.arange(WIDTHS) == WIDTHS - 1, 0.0, np.inf)
        weights, activations, first = [], [], 0
        for name, layer in self.weights.items():
            rows = state.items["weights"][:, first : first + layer.block.items]
            first += layer.block.items
            price, error = rows[0] / state.done, standard_error(rows, state.done)
            if name == self.last:
                price, error = np.tile(pinned, (len(price), 1)), np.zeros_like(price)
            weights.append(LayerCurve(name, price, layer.values, error))
        for name, rows in zip(self.tensors, state.items["activations"].swapaxes(0, 1), strict=True):
            price, error = rows[0] / state.done, standard_error(rows, state.done)
            price[0] = np.inf
            if self.last is not None and not rows.any():  # behind the features
                price = pinned
            values = self.network.graph[name].output.values
            activations.append(TensorCurve(name, price, values, error))
        relative = {kind: state.relative_error(kind) for kind in KINDS}
        return RDCurves(
            network=self.network.name,
            weights=tuple(weights),
            activations=tuple(activations),
            method={
                **method,
                "images": state.done,
                "standard_error": {  # of the sum over all items at 0..8 bits, as a share of it
                    kind: [round(float(e), 6) if math.isfinite(e) else None for e in errors]
                    for kind, errors in relative.items()
                },
            },
            steps=recipe.to_arrays(),
        )


def _check(
    network: Network,
    images: int,
    probes: int,
    metric: str,
    granularity: str,
    relative_error: float | None,
) -> None:
    for what, name, known in (
        ("metric", metric, METRICS), ("granularity", granularity, GRANULARITIES)
    ):  # fmt: skip
        if name not in known:
            raise ValueError(f"sweep: no {what} {name!r}{did_you_mean(name, known)}")
    if probes < 1 or images < 1:
        raise ValueError(f"sweep: needs a probe and an image, got {probes} and {images}")
    if metric == "feature" and len(network.layers) < 2:
        raise ValueError(
            f"sweep: the features of {network.name!r} are its input, because it has one weighted "
            f"layer; use another metric"
        )
    if relative_error is not None and not 0 < relative_error < 1:
        raise ValueError(
            f"sweep: relative_error must lie between 0 and 1, got {relative_error!r}; 0.05 is 5 %"
        )


def _enough(state: SweepState, relative_error: float | None) -> bool:
    if relative_error is None or state.done < MIN_IMAGES:
        return False
    return bool(state.relative_error("weights")[STATED_WIDTH] <= relative_error)


def _fingerprints(
    network: Network, images: Tensor | LabelledImages, recipe: Recipe
) -> dict[str, str]:
    """Of all else that decides the numbers: network, images (by order), quantisers' steps."""
    weights = [a for f in network.layers.values() for a in (f.weight, f.bias)]
    chosen = [images] if isinstance(images, Tensor) else [images.index, images.labels]
    return {
        "network_fingerprint": fingerprint(*weights),
        "images_fingerprint": fingerprint(*chosen),
        "steps_fingerprint": fingerprint(*recipe.to_arrays().values()),
    }


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
    granularity: str = "output",
    relative_error: float | None = None,
    partial: str | os.PathLike[str] | None = None,
    low_widths: bool = True,
) -> RDCurves:
    """RDCurves of a network: first-order distortion of its output, mean-corrected.

    images: unlabelled calibration images, a random class-balanced sample. probes: random vectors
    an image. metric: "logits" (squared error, summed over classes), "kl" (Kullback-Leibler
    divergence of the prediction, nats) or "feature" (squared error, summed, of what the last
    weighted layer reads; that layer and the tensors behind it are then held at 8 bits); all are
    means over images. seed: of probes and of the calibration. activations: price the activation
    tensors too; otherwise theirs are left out. recipe: quantiser parameters, from
    `calibrate(network, images)` by default. rounder: how weights are rounded. granularity:
    "output" prices output channels; "input" prices input channels, to look at: no quantiser here
    has a width for each. relative_error: stop as soon as the predicted distortion of all weights
    at STATED_WIDTH bits is known to this share (one standard error, over images; MIN_IMAGES at
    least), or when the images are used up. partial: file that holds what is done, now and then
    and when interrupted (KeyboardInterrupt says so); if it exists, the sweep goes on from it, to
    the same bytes as without the interruption. It is left there at the end. low_widths: move the
    output channels at 1 and 2 bits behind the layer's own function, see `quant.low_widths`.

    The same arguments give the same curves, to the bit, on the same machine. Raises ValueError for
    an unknown metric or granularity, less than one probe or image, and a partial file of other
    settings.

    Memory: for every weight nine errors (36 bytes) and COLUMNS gradients (32 bytes), and one
    image's activations with their gradients for up to COLUMNS probes.
    """
    _check(network, len(images), probes, metric, granularity, relative_error)
    recipe = recipe or calibrate(network, images, seed=seed, progress=progress)
    method: dict[str, Any] = {
        "measured": "sweep",
        "metric": metric,
        "probes": probes,
        "seed": seed,
        "mean_correction": True,
        "low_widths": low_widths,
        "rounding": rounder.name,
    }
    if granularity != "output":
        method["granularity"] = granularity
    settings = {**method, "activations": activations, "images": len(images)} if partial else {}
    if partial:
        settings |= _fingerprints(network, images, recipe)
    state = None
    if partial and os.path.exists(partial):
        state = SweepState.load(partial, settings)
    by_input = granularity == "input"
    passes = _Passes(
        network, recipe, rounder, probes, metric, activations, by_input, low_widths, progress
    )
    generator = torch.Generator().manual_seed(seed)
    if state is None:
        state = SweepState(0, generator.get_state(), *passes.empty())
    generator.set_state(state.generator)
    rest: Tensor | LabelledImages
    if isinstance(images, LabelledImages):
        rest = images.take(slice(state.done, None))
    else:
        rest = images[state.done :]
    kept = time.monotonic()
    waiting = 0
    try:
        for image in one_by_one(rest) if len(rest) and not _enough(state, relative_error) else ():
            passes.price(image, waiting, generator)
            waiting += 1
            if progress:
                progress("sweep", state.done + waiting, len(images))
            if waiting < passes.block and state.done + waiting < len(images):
                continue
            state = state.added(waiting, generator.get_state(), passes.take_block(waiting))
            waiting = 0
            if _enough(state, relative_error):
                break
            if partial and time.monotonic() - kept > SECONDS_BETWEEN_FILES:
                state.save(partial, settings)
                kept = time.monotonic()
    except KeyboardInterrupt:
        if not partial or not state.done:
            raise
        state.save(partial, settings)
        raise KeyboardInterrupt(
            f"{state.done} of {len(images)} images are kept in {partial}: the same command goes "
            f"on from there"
        ) from None
    _log.info(
        "%s: %d images priced, %s rounding, the total at %d bits known to %.1f %%",
        network.name, state.done, rounder.name, STATED_WIDTH,
        100 * state.relative_error("weights")[STATED_WIDTH],
    )  # fmt: skip
    return passes.curves(state, method, recipe)
