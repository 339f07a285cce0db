"""`digits`: the embedded network and its images, so that everything runs with nothing to fetch.

Images: the 1,797 handwritten digits of scikit-learn's `load_digits`, 8 x 8 pixels with values
0..16: a copy of the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin,
C. Kaynak, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0), unchanged but
for storage as bytes. Weights: trained on them by examples/train_digits.py.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from quant.images import LabelledImages, from_arrays, load_weights

NAME = "digits"
INPUT_SHAPE = (1, 8, 8)  # one image
CLASSES = 10
HELD_OUT = 500  # images that neither training nor calibration sees
SPLIT_SEED = 2022
MEAN, STD = 0.305, 0.376  # of pixel / 16, over all images
_DATA = resources.files("quant") / "data"
WEIGHTS = Path(str(_DATA / "digits.safetensors"))
IMAGES = Path(str(_DATA / "digits_images.npz"))


class Residual(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))); one ReLU module serves both places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(x + self.bn2(self.conv2(y)))


class DigitsNet(nn.Module):
    """A small residual CNN with a depthwise stage: the parts of larger networks, in 41 thousand
    parameters. Input (N, 1, 8, 8), normalised as `labelled` does; output (N, 10) logits."""

    def __init__(self, width: int = 24, wide: int = 40) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        self.block1 = Residual(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, wide, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(wide)
        self.pool = nn.MaxPool2d(2)
        self.block2 = Residual(wide)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(wide, CLASSES)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.relu(self.stem_bn(self.stem(x))))
        x = self.relu(self.depthwise_bn(self.depthwise(x)))
        x = self.relu(self.pointwise_bn(self.pointwise(x)))
        x = self.block2(self.pool(x))
        return self.classifier(torch.flatten(self.average(x), 1))


def build(pretrained: bool = True) -> DigitsNet:
    """The network in evaluation mode, with the weights of the package (or freshly initialised)."""
    net = DigitsNet()
    if pretrained:
        load_weights(net, WEIGHTS)
    return net.eval()


def labelled(pixels: np.ndarray, labels: np.ndarray) -> LabelledImages:
    """pixels (N, 8, 8) of 0..16, brought to about zero mean and unit variance when read."""
    return from_arrays(pixels[..., None], labels, mean=(MEAN,), std=(STD,), scale=16.0)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, held out): a fixed random split, the same share of every class."""
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(labels))
    # Rank of each image inside its class, in the shuffled order; the lowest ranks are held out.
    rank = np.empty(len(labels), dtype=np.int64)
    for digit in range(CLASSES):
        members = order[labels[order] == digit]
        rank[members] = np.arange(len(members)) * len(labels) // len(members)
    by_rank = np.lexsort((np.arange(len(labels)), rank))
    return np.sort(by_rank[HELD_OUT:]), np.sort(by_rank[:HELD_OUT])


def _stored() -> tuple[np.ndarray, np.ndarray]:
    with np.load(IMAGES, allow_pickle=False) as file:
        return file["images"], file["labels"]


def _part(held_out: bool) -> LabelledImages:
    pixels, labels = _stored()
    return labelled(pixels, labels).take(split(labels)[int(held_out)])


def train_images() -> LabelledImages:
    """The 1,297 images that the network was trained on."""
    return _part(held_out=False)


def calibration(count: int = 256, seed: int = 0) -> LabelledImages:
    """A class-balanced random sample of the training images."""
    return train_images().sample(count, seed)


def test() -> LabelledImages:
    """The 500 held-out images."""
    return _part(held_out=True)
