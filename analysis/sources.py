"""What a command names: networks, weights, images. Everything heavy is imported when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from quant.images import LabelledImages
    from quant.network import Network

EMBEDDED = "digits"  # the network whose weights and images come with the package


def _alexnet() -> LayerGraph:
    from hwsim.frontends.paper_networks import alexnet_paper

    return alexnet_paper()


def _vgg16() -> LayerGraph:
    from hwsim.frontends.paper_networks import vgg16_paper

    return vgg16_paper()


def _digits() -> LayerGraph:
    from hwsim.frontends.models import from_module
    from quant.digits import build

    return from_module(build(pretrained=False).eval(), (1, 1, 8, 8), EMBEDDED)


BUILT_IN: dict[str, Callable[[], LayerGraph]] = {
    EMBEDDED: _digits,
    "alexnet_paper": _alexnet,
    "vgg16_paper": _vgg16,
}


def load_graph(model: str, image_size: int | None = None) -> LayerGraph:
    """The layer graph that MODEL names; no weights are needed. Raises ValueError if there is none.

    MODEL is `digits`, a network of a paper, a torchvision classifier, a saved torch.export
    program (.pt2) or package.module:function.
    """
    if model in BUILT_IN:
        return BUILT_IN[model]()
    from hwsim.frontends import models

    if ":" not in model and not model.endswith(".pt2"):
        known = (*BUILT_IN, *models.model_names())
        if model not in known:
            raise ValueError(
                f"model {model!r} is not known{did_you_mean(model, known)}; `chipfit models` lists "
                f"all, and package.module:function names your own"
            )
    return models.from_spec(model, image_size)


def load_network(model: str, weights: str | None, image_size: int | None = None) -> Network:
    """The trained network that MODEL and a weights file name, ready to run. Raises ValueError."""
    from quant.network import Network

    if model == EMBEDDED:
        from quant.digits import build

        return Network(build(), (1, 8, 8), EMBEDDED)
    from hwsim.frontends import models

    if model in BUILT_IN or model.endswith(".pt2"):
        raise ValueError(f"model {model!r} is a layer graph without trained weights; simulate it")
    if ":" in model:
        module, shape, name = _own_module(model, image_size)
    else:
        if model not in models.model_names():
            load_graph(model)  # says what there is
        module = models.module_from_name(model, image_size=image_size)
        size = image_size or models.image_size_of(model)
        shape, name = (3, size, size), model
    if weights is None and ":" not in model:
        raise ValueError(f"model {model!r} needs trained weights: give --weights FILE.safetensors")
    if weights is not None:
        from quant.images import load_weights

        load_weights(module, weights)
    return Network(module.eval(), shape, name)


def _own_module(spec: str, image_size: int | None) -> tuple[nn.Module, tuple[int, ...], str]:
    from torch import nn

    from hwsim.frontends.models import DEFAULT_IMAGE_SIZE, call_spec

    made = call_spec(spec)
    shape: tuple[int, ...] = (1, 3, *(image_size or DEFAULT_IMAGE_SIZE,) * 2)
    if isinstance(made, tuple) and len(made) == 2:
        made, shape = made[0], tuple(made[1])
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"model {spec!r}: expected a torch module, or a pair of a module and its input shape, "
            f"got {type(made).__name__}"
        )
    return made, shape[1:], spec.split(":")[1]


@dataclass(frozen=True)
class ImageSets:
    """Disjoint images: those the curves are measured on, and those the accuracy is measured on."""

    calibration: LabelledImages
    evaluation: LabelledImages
    source: str


def load_image_sets(
    model: str, network: Network, images: str | None, calibration: int, seed: int
) -> ImageSets:
    """Calibration and evaluation images for a network.

    The embedded network brings its own. A folder whose labels.csv has a column `split` with calib
    and eval is taken at its word; any other source gives a random class-balanced sample to the
    calibration and keeps the rest for the evaluation. Raises ValueError if there are too few.
    """
    if model == EMBEDDED and images is None:
        from quant import digits

        return ImageSets(digits.calibration(calibration, seed), digits.test(), "embedded digits")
    if images is None:
        raise ValueError(f"model {model!r} needs images: give --images FOLDER or FILE.npz")
    import numpy as np

    from quant.images import balanced_order, load_images

    crop = (network.input_shape[1], network.input_shape[2])
    if has_splits(images):
        sets = [
            load_images(images, crop, split=split, classes=network.classes)
            for split in ("calib", "eval")
        ]
        return ImageSets(sets[0].sample(calibration, seed), sets[1], images)
    both = load_images(images, crop, classes=network.classes)
    if calibration >= len(both):
        raise ValueError(
            f"{images}: {len(both)} images cannot give {calibration} for calibration and some for "
            f"evaluation; lower --calibration"
        )
    order = balanced_order(both.labels, seed)
    rest = np.sort(order[calibration:])
    return ImageSets(both.take(order[:calibration]), both.take(rest), images)


def has_splits(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder's labels.csv has a column `split` that tells calib from eval."""
    import csv

    path = Path(folder) / "labels.csv"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", newline="") as file:
        found = {row.get("split") for row in csv.DictReader(file)}
    return {"calib", "eval"} <= found
