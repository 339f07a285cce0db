"""What quantisation costs: accuracy, agreement with the float network, measured distortion."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from quant.apply import QuantizedNetwork
from quant.calibration import Progress
from quant.images import LabelledImages
from quant.loaders import Batches, regrouped
from quant.network import Network

BATCH = 32


@dataclass(frozen=True)
class Accuracy:
    """top1, top5, agreement: shares of the images, 0..1.

    agreement: that have the float network's class. distortion: squared logit error, summed over
    classes, mean over images. divergence: Kullback-Leibler divergence of the prediction from the
    float network's, nats, mean over images.
    """

    top1: float
    top5: float
    agreement: float
    distortion: float
    divergence: float
    images: int

    def to_json(self) -> dict[str, float | int]:
        return asdict(self)


def _batches(
    images: Tensor | LabelledImages | Batches, labels: Tensor | np.ndarray | None
) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(images, LabelledImages):
        yield from images.batches(BATCH)
        return
    if not isinstance(images, Tensor):
        yield from regrouped(images, BATCH)
        return
    if labels is None:
        raise ValueError("evaluate: labels are needed beside a tensor of images")
    labels = torch.as_tensor(labels)
    if labels.shape != (len(images),):
        raise ValueError(
            f"evaluate: expected {len(images)} labels, one per image, got {tuple(labels.shape)}"
        )
    if len(images):  # split would make one empty batch of none
        yield from zip(images.split(BATCH), labels.split(BATCH), strict=True)


def _number(images: Tensor | LabelledImages | Batches) -> int:
    """How many images there are; 0 where only reading them all would tell."""
    if isinstance(images, Tensor | LabelledImages):
        return len(images)
    dataset = getattr(images, "dataset", None)  # of a DataLoader
    return len(dataset) if isinstance(dataset, Sized) else 0


def _filled(images: Tensor) -> Tensor:
    """The batch made up to BATCH by repeating its last image: one exported program serves all."""
    missing = BATCH - len(images)
    return torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])


def float_logits(float_network: Network, images: LabelledImages) -> Tensor:
    """(N, classes) logits of the float network, for several evaluations on the same images."""
    return torch.cat(
        [float_network(_filled(batch))[: len(batch)] for batch, _ in images.batches(BATCH)]
    )


def evaluate(
    float_network: Network,
    quantized: QuantizedNetwork | None,
    images: Tensor | LabelledImages | Batches,
    labels: Tensor | np.ndarray | None = None,
    *,
    exact: Tensor | None = None,
    progress: Progress | None = None,
) -> Accuracy:
    """Accuracy of `quantized` (of the float network itself if None) on all images given.

    images: LabelledImages; a DataLoader of (images, labels), read once; or a tensor (N, channels,
    height, width) with labels (N,). The latter two are normalised as the network reads them.
    exact: the float network's logits (N, classes) where they are known already (`float_logits`).
    Raises ValueError for missing or misshapen labels, for no images, and for a class that the
    network does not know.
    """
    hits1 = hits5 = agreed = count = 0
    distortion = divergence = 0.0
    total = _number(images)
    for batch, wanted in _batches(images, labels):
        if int(wanted.max()) >= float_network.classes or int(wanted.min()) < 0:
            raise ValueError(
                f"evaluate: labels {int(wanted.min())}..{int(wanted.max())} do not fit network "
                f"{float_network.name!r} with classes 0..{float_network.classes - 1}"
            )
        size = len(batch)
        if exact is None:
            reference = float_network(_filled(batch))[:size]
        else:
            reference = exact[count : count + size]
        if not reference.isfinite().all():
            raise ValueError(
                f"evaluate: network {float_network.name!r} gives NaN or infinity on image {count} "
                f"or one of the {size} from it; check its weights and the images"
            )
        logits = reference if quantized is None else quantized(_filled(batch))[:size]
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        right = top == wanted.unsqueeze(1)
        hits1 += int(right[:, 0].sum())
        hits5 += int(right.any(1).sum())
        agreed += int((top[:, 0] == reference.argmax(1)).sum())
        distortion += float((logits - reference).square().sum(dtype=torch.float64))
        expected, got = (torch.log_softmax(t.double(), 1) for t in (reference, logits))
        divergence += float((expected.exp() * (expected - got)).sum())
        count += size
        if progress:
            progress("evaluate", count, max(count, total))
    if not count:
        raise ValueError("evaluate: there are no images")
    return Accuracy(
        top1=hits1 / count,
        top5=hits5 / count,
        agreement=agreed / count,
        distortion=distortion / count,
        divergence=divergence / count,
        images=count,
    )
