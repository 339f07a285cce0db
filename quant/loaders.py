"""Images from torch: what a DataLoader or a Dataset gives, as the images that are used here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from quant.images import LabelledImages

Batches = Iterable[Sequence[Tensor]]  # (images, labels) batches, as a DataLoader gives them


class Dataset(Protocol):
    """What torch calls a map-style dataset: (image, label) by position."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __len__(self) -> int: ...


def checked(batch: object) -> tuple[Tensor, Tensor]:
    """A batch as (images (n, channels, height, width), labels (n,)). Raises ValueError if it is not
    one; further entries are left out."""
    if isinstance(batch, Sequence) and len(batch) >= 2 and isinstance(batch[0], Tensor):
        images, labels = batch[0], torch.as_tensor(batch[1])
        whole = not (labels.is_floating_point() or labels.is_complex())
        if images.ndim == 4 and labels.shape == images.shape[:1] and whole:
            return images.to("cpu", torch.float32), labels.to("cpu", torch.int64)
    parts = batch if isinstance(batch, Sequence) else [batch]
    got = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in parts]
    raise ValueError(
        f"images: expected batches (images (n, channels, height, width), class numbers (n,)), as a "
        f"DataLoader gives them, got {got}"
    )


def regrouped(batches: Batches, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images in batches of `size`; the last may be smaller."""
    held: list[tuple[Tensor, Tensor]] = []
    waiting = 0
    for batch in batches:
        held.append(checked(batch))
        waiting += len(held[-1][1])
        if waiting >= size:
            images, labels = (torch.cat(parts) for parts in zip(*held, strict=True))
            whole = waiting - waiting % size
            yield from zip(images[:whole].split(size), labels[:whole].split(size), strict=True)
            held, waiting = [(images[whole:], labels[whole:])], waiting - whole
    if waiting:
        images, labels = (torch.cat(parts) for parts in zip(*held, strict=True))
        yield images, labels


def from_loader(batches: Batches, count: int | None = None) -> LabelledImages:
    """The first `count` images of a DataLoader, or all, kept in memory as the loader gives them.

    batches: (images, labels), the images already normalised as the network reads them. For a
    calibration the loader should shuffle: a data set is usually sorted by class. Raises ValueError
    for other batches, images of several sizes, and fewer than `count` (or no) images.
    """
    images: list[Tensor] = []
    labels: list[Tensor] = []
    wanted = float("inf") if count is None else count
    for batch in batches:
        if sum(map(len, labels)) >= wanted:
            break
        some, theirs = checked(batch)
        if images and some.shape[1:] != images[0].shape[1:]:
            raise ValueError(
                f"images: one batch has images of {tuple(images[0].shape[1:])}, another of "
                f"{tuple(some.shape[1:])}; resize them alike"
            )
        images.append(some)
        labels.append(theirs)
    found = sum(map(len, labels))
    if not found or (count is not None and found < count):
        raise ValueError(f"images: {count or 'some'} were asked for, the loader gives {found}")
    pixels = torch.cat(images)[:count].permute(0, 2, 3, 1).contiguous().numpy()
    return _as_they_are(torch.cat(labels)[:count].numpy(), pixels.__getitem__, pixels.shape[-1])


def from_dataset(dataset: Dataset, labels: Sequence[int] | None = None) -> LabelledImages:
    """A map-style dataset of (image, label), whose images are read when they are needed.

    dataset: gives image tensors (channels, height, width), normalised as the network reads them.
    labels: class of every image; by default its attribute `targets` or `labels`, as torchvision's
    datasets have, and otherwise every image is read once for its label. Raises ValueError for an
    empty dataset and for items of another kind.
    """
    if not len(dataset):
        raise ValueError("images: the dataset is empty")
    first = checked([part.unsqueeze(0) for part in map(torch.as_tensor, dataset[0][:2])])[0]
    if labels is None:
        for name in ("targets", "labels"):
            labels = getattr(dataset, name, labels)
    if labels is None:
        labels = [int(dataset[i][1]) for i in range(len(dataset))]
    classes = np.asarray(labels, dtype=np.int64)
    if classes.shape != (len(dataset),):
        raise ValueError(
            f"images: expected {len(dataset)} labels, one per image, got {classes.shape}"
        )

    def pixels(index: int) -> np.ndarray:
        image: Tensor = dataset[index][0]
        return image.to("cpu", torch.float32).permute(1, 2, 0).numpy()

    return _as_they_are(classes, pixels, first.shape[1])


def _as_they_are(labels: np.ndarray, pixels: Any, channels: int) -> LabelledImages:
    unchanged = ((0.0,) * channels, (1.0,) * channels, 1.0)
    return LabelledImages(labels, pixels, np.arange(len(labels)), *unchanged)
