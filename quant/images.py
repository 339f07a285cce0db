"""Labelled images and weights from files: what a network is calibrated and judged on.

Images are decoded when asked for, so a folder of any size fits in memory; weights come from
safetensors files alone, because unpickling runs code.
"""

from __future__ import annotations

import csv
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwsim.files import BROKEN_ARCHIVE, check_archive
from hwsim.names import did_you_mean

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # torchvision's presets for ImageNet classifiers
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_CLASSES = 10**9  # a label at or above it is a mistake
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# whatever the file is called; others, such as EPS, are programs that Pillow hands to an interpreter
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size with their class numbers.

    labels: (N,) int64. pixels: gives image i of the source as (height, width, channels) numbers
    0..scale. index: (N,) positions in the source. A channel is normalised as
    (value / scale - mean) / std.
    """

    labels: np.ndarray
    pixels: Callable[[int], np.ndarray]
    index: np.ndarray
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 255.0

    def __len__(self) -> int:
        return len(self.labels)

    def tensor(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Images start..stop, normalised: (n, channels, height, width) float32."""
        stack = np.stack([self.pixels(int(i)) for i in self.index[start:stop]])
        values = torch.from_numpy(stack).to(torch.float32).div_(self.scale)
        values.sub_(torch.tensor(self.mean)).div_(torch.tensor(self.std))
        return values.permute(0, 3, 1, 2).contiguous()

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            labels = torch.from_numpy(self.labels[start : start + size])
            yield self.tensor(start, start + size), labels

    def take(self, chosen: np.ndarray | slice) -> LabelledImages:
        """A part of the images, by position."""
        return replace(self, labels=self.labels[chosen], index=self.index[chosen])

    def sample(self, count: int, seed: int) -> LabelledImages:
        """`count` random images, every class as often as any other as far as they reach.

        A folder is usually sorted by class, so its first images would all be of one kind.
        Raises ValueError if there are fewer than `count` images.
        """
        if not 1 <= count <= len(self):
            raise ValueError(
                f"images: a sample of {count} was asked for, there are {len(self)}; "
                f"ask for 1..{len(self)}"
            )
        return self.take(balanced_order(self.labels, seed)[:count])


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A random order of the images in which every class comes once before any comes twice."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    turn = np.empty(len(labels), dtype=np.int64)  # how many of the same class come before
    turn[by_class] = np.arange(len(labels)) - np.repeat(first, counts)
    return shuffled[np.argsort(turn[shuffled], kind="stable")]


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    scale: float = 255.0,
    where: str = "images",
) -> LabelledImages:
    """images (N, height, width, channels), labels (N,) whole numbers >= 0.

    Raises ValueError, naming `where`, for other shapes.
    """
    if images.ndim != 4 or images.shape[-1] != len(mean) or not len(images):
        raise ValueError(
            f"{where}: images must have shape (N, height, width, {len(mean)}), got {images.shape}"
        )
    if (
        labels.shape != (len(images),)
        or labels.dtype.kind not in "iu"
        or (labels.min() < 0 or labels.max() >= MAX_CLASSES)
    ):
        raise ValueError(
            f"{where}: labels must be {len(images)} whole numbers of 0..{MAX_CLASSES - 1}, one per "
            f"image, got {labels.dtype} of shape {labels.shape}"
        )
    index = np.arange(len(images))
    return LabelledImages(labels.astype(np.int64), images.__getitem__, index, mean, std, scale)


def from_npz(path: str | os.PathLike[str]) -> LabelledImages:
    """A .npz file with arrays `images` (N, height, width, 3) uint8 and `labels` (N,)."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            check_archive(path, file.zip)
            images, labels = file["images"], file["labels"]
    except (OSError, ValueError, KeyError, TypeError, *BROKEN_ARCHIVE) as error:
        raise ValueError(
            f"{path}: expected a .npz file with the arrays images and labels: {error}"
        ) from None
    if images.dtype != np.uint8:  # another scale would be read as almost black, unnoticed
        raise ValueError(
            f"{path}: images must be uint8, 0..255, got {images.dtype}; images of 0..1 become so "
            f"by (255 * images).round().astype('uint8')"
        )
    return from_arrays(images, labels, where=str(path))


def read_labels(path: Path) -> list[dict[str, str]]:
    """Rows of a labels.csv, by column. Raises ValueError, naming it, for what is no CSV file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: cannot read as CSV in UTF-8: {error}") from None


def _listed(folder: Path, split: str | None) -> tuple[list[Path], list[int]]:
    path = folder / "labels.csv"
    rows = read_labels(path)
    columns = list(rows[0]) if rows else []
    for column in ("file", "class") + (("split",) if split else ()):
        if column not in columns:
            raise ValueError(
                f"{path}: no column {column!r}{did_you_mean(column, [str(c) for c in columns])}"
            )
    if split:
        known = sorted({row["split"] for row in rows})
        if split not in known:
            raise ValueError(f"{path}: no split {split!r}{did_you_mean(split, known)}")
        rows = [row for row in rows if row["split"] == split]
    labels = []
    for number, row in enumerate(rows, start=2):
        if not re.fullmatch("[0-9]{1,9}", row["class"]):
            raise ValueError(
                f"{path}: line {number}: class {row['class'][:40]!r} is not a whole number "
                f"below {MAX_CLASSES}"
            )
        labels.append(int(row["class"]))
    return [folder / row["file"] for row in rows], labels


def _by_folder(folder: Path, classes: int | None) -> tuple[list[Path], list[int]]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    numbered = all(name.isdecimal() for name in names)
    if not numbered and classes is not None and len(names) != classes:
        # Sorted names stand for class numbers only if no class is missing.
        raise ValueError(
            f"{folder}: {len(names)} class folders for {classes} classes; name the folders by "
            f"class number, or say the classes in labels.csv with the columns file,class"
        )
    files, labels = [], []
    for position, name in enumerate(names):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                files.append(path)
                labels.append(int(name) if numbered else position)
    return files, labels


def read_pixels(path: Path, crop: tuple[int, int], resize: int) -> np.ndarray:
    """One image, centre-cropped: (height, width, 3) uint8.

    Larger images are first shrunk until their shorter side is `resize`; smaller ones enlarged
    until the crop fits; those in between are only cropped (bilinear, with antialiasing).
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as file:
            image = file.convert("RGB")
    except (
        OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: cannot read image: {error}") from None
    width, height = image.size
    factor = min(1.0, resize / min(width, height))
    factor = max(factor, crop[0] / height, crop[1] / width)
    if factor != 1.0:
        width, height = (max(round(width * factor), crop[1]), max(round(height * factor), crop[0]))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - crop[1]) // 2, (height - crop[0]) // 2
    return np.array(image.crop((left, top, left + crop[1], top + crop[0])))


def from_folder(
    path: str | os.PathLike[str],
    crop: tuple[int, int] = (224, 224),
    *,
    resize: int | None = None,
    split: str | None = None,
    classes: int | None = None,
) -> LabelledImages:
    """Images of a folder with labels.csv (columns file, class and perhaps split), or with one
    sub-folder a class (named by class number, or all classes in sorted order).

    crop: (height, width) that the network reads. resize: shorter side before the crop, for images
    that are larger; 8/7 of the crop (256 for 224) unless given. classes: how many the network
    tells apart, to check the labels against. Raises ValueError, saying where, if there is
    nothing to read or a label is out of range.
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        raise ValueError(f"{folder}: no such folder of images")
    listed = (folder / "labels.csv").is_file()
    if split and not listed:
        raise ValueError(f"{folder}: split {split!r} needs a labels.csv with a column split")
    files, labels = _listed(folder, split) if listed else _by_folder(folder, classes)
    if not files:
        raise ValueError(
            f"{folder}: no images; expected labels.csv, or one folder a class with files "
            f"{', '.join(SUFFIXES)}"
        )
    if classes is not None and max(labels) >= classes:
        raise ValueError(
            f"{folder}: class {max(labels)} is out of range for a network of {classes} classes"
        )
    missing = next((file for file in files if not os.path.isfile(file)), None)
    if missing is not None:
        raise ValueError(f"{folder}: labels.csv names {missing}, which is not there")
    shorter = resize or round(max(crop) * 8 / 7)
    return LabelledImages(
        np.array(labels, dtype=np.int64),
        lambda i: read_pixels(files[i], crop, shorter),
        np.arange(len(files)),
    )


def load_images(
    path: str | os.PathLike[str],
    crop: tuple[int, int] = (224, 224),
    *,
    split: str | None = None,
    classes: int | None = None,
) -> LabelledImages:
    """A folder (`from_folder`) or a .npz file (`from_npz`), whichever `path` is."""
    if Path(path).suffix == ".npz":
        images = from_npz(path)
        size = tuple(images.tensor(0, 1).shape[2:])
        if size != crop:
            raise ValueError(
                f"{path}: images are {size} pixels, the network reads {crop}; give the network "
                f"for their size (--image-size), or resized images"
            )
        if classes is not None and images.labels.max() >= classes:
            raise ValueError(
                f"{path}: class {images.labels.max()} is out of range for {classes} classes"
            )
        return images
    return from_folder(path, crop, split=split, classes=classes)


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Fill `module` from a safetensors file, 16-bit floats widened to the module's own type.

    Raises ValueError, in one line, if the file is of another kind or if names or shapes differ.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if Path(path).suffix != ".safetensors":
        raise ValueError(
            f"{path}: weights are read from .safetensors files only (unpickling others runs code)"
        )
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot read weights: {error}") from None
    own = module.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # training only
    missing = sorted(set(own) - set(stored) - counters)
    unexpected = sorted(set(stored) - set(own))
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    problems += [
        f"{name} is {stored[name].dtype} where the network has {own[name].dtype}"
        for name in own
        if name in stored and stored[name].is_floating_point() != own[name].is_floating_point()
    ][:1]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)} where the network has "
        f"{tuple(own[name].shape)}"
        for name in own
        if name in stored and stored[name].shape != own[name].shape
    ][:1]
    if problems:
        raise ValueError(f"{path}: weights do not fit the network: {'; '.join(problems)}")
    module.load_state_dict({**own, **{n: t.to(own[n].dtype) for n, t in stored.items()}})
