"""What a command names: networks, weights, images. Everything heavy is imported when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwsim.frontends.paper_networks import PAPER_NETWORKS
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean, shown

if TYPE_CHECKING:
    from quant.curves import RDCurves
    from quant.images import LabelledImages
    from quant.network import Network

FILES = (".pt2", ".onnx", ".csv")  # layer graphs; only ONNX files may leave the image size open
EMBEDDED = "digits"  # the network whose weights and images come with the package


def _digits() -> LayerGraph:
    from hwsim.frontends.models import from_module
    from quant.digits import build

    return from_module(build(pretrained=False).eval(), (1, 1, 8, 8), EMBEDDED)


BUILT_IN: dict[str, Callable[[], LayerGraph]] = {
    EMBEDDED: _digits,
    **PAPER_NETWORKS,
}


def load_graph(model: str, image_size: int | None = None) -> LayerGraph:
    """The layer graph that MODEL names; no weights are needed. Raises ValueError if there is none.

    MODEL is `digits`, a network of a paper, a torchvision classifier, a saved torch.export
    program (.pt2), an ONNX file (.onnx), a SCALE-Sim topology (.csv) or package.module:function.
    """
    _check_size(model, image_size)
    if model in BUILT_IN:
        return BUILT_IN[model]()
    from hwsim.frontends import models

    if ":" not in model and not model.endswith(FILES):
        known = (*BUILT_IN, *models.model_names())
        if model not in known:
            raise ValueError(
                f"model {model!r} is not known{did_you_mean(model, known)}; `chipfit models` lists "
                f"all; your own is a file ({', '.join(FILES)}) or package.module:function"
            )
    return models.from_spec(model, image_size)


def _is_known(model: str) -> bool:
    if model in BUILT_IN:
        return True
    from hwsim.frontends import models

    return model in models.model_names()


def is_program(model: str) -> bool:
    """Whether to load MODEL is to run what it names: a function, or a saved program."""
    return ":" in model or model.endswith(".pt2")


def graph_of(curves: RDCurves, model: str | None, image_size: int | None = None) -> LayerGraph:
    """The layer graph that MODEL names; by default that of the curves' own network.

    Raises ValueError where that is no name of a known network: a file of numbers, perhaps from
    somebody else, is not to say which code runs or which file is read.
    """
    if model is not None:
        return load_graph(model, image_size)
    own = ":" in curves.network or curves.network.endswith(FILES)
    if own or not _is_known(curves.network):
        raise ValueError(
            f"curves of {shown(curves.network)}: no network has that name; give --model what "
            f"the curves were measured on, a file or package.module:function"
        )
    return load_graph(curves.network, image_size)


def load_network(model: str, weights: str | None, image_size: int | None = None) -> Network:
    """The trained network that MODEL and a weights file name, ready to run. Raises ValueError."""
    from quant.images import load_weights
    from quant.network import Network

    _check_size(model, image_size)
    if model == EMBEDDED:
        from quant.digits import build

        embedded = build()
        if weights is not None:
            load_weights(embedded, weights)
        return Network(embedded, (1, 8, 8), EMBEDDED)
    from hwsim.frontends import models

    if model.endswith(".onnx"):
        return _onnx_network(model, weights, image_size)
    if model in BUILT_IN or model.endswith(FILES):
        raise ValueError(
            f"model {model!r} is a layer graph without trained weights: `simulate`, `mappings`, "
            f"`models` and `allocate --model` take it; what runs the network takes a torchvision "
            f"name with --weights, an ONNX file or package.module:function"
        )
    if ":" in model:
        module, full = models.module_and_shape(model, models.call_spec(model), image_size)
        shape, name = full[1:], models.spec_name(model)
    else:
        if model not in models.model_names():
            load_graph(model)  # says what there is
        module = models.module_from_name(model, image_size=image_size)
        size = image_size or models.image_size_of(model)
        shape, name = (3, size, size), model
    if weights is None and ":" not in model:
        raise ValueError(f"model {model!r} needs trained weights: give --weights FILE.safetensors")
    if weights is not None:
        load_weights(module, weights)
    return Network(module.eval(), shape, name)


def _onnx_network(path: str, weights: str | None, image_size: int | None) -> Network:
    """An ONNX file with the weights that it holds."""
    from hwsim.frontends.onnx import module_from_onnx
    from quant.network import Network

    if weights is not None:
        raise ValueError(f"model {path!r} holds its own weights; leave out --weights")
    module, shapes = module_from_onnx(path, image_size, weights=True)
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"model {path!r}: expected one input of images (1, C, H, W), got {shapes}")
    module.plan_for(2)  # says now, rather than after the calibration, if it takes one image alone
    return Network(module, shapes[0][1:], Path(path).stem)


def _check_size(model: str, image_size: int | None) -> None:
    if image_size is not None and (model in BUILT_IN or model.endswith((".pt2", ".csv"))):
        raise ValueError(f"model {model!r} reads images of one size; leave out --image-size")


@dataclass(frozen=True)
class ImageSets:
    """training: all that calibrate the quantisers. calibration: those of them that the curves are
    priced on. fitting: the others, which error-feedback rounding is fitted on (None where it is
    not asked for). evaluation: for the accuracy, none of the former."""

    training: LabelledImages
    calibration: LabelledImages
    fitting: LabelledImages | None
    evaluation: LabelledImages


def load_image_sets(
    model: str, network: Network, images: str | None, calibration: int, fitting: int, seed: int
) -> ImageSets:
    """Images for a network: `calibration` and up to `fitting` of them at random, class-balanced.

    The embedded network brings its own. A folder whose labels.csv has a column `split` with calib
    and eval is taken at its word; any other source keeps for the evaluation what the other two
    leave. Raises ValueError if there are too few.
    """
    if model == EMBEDDED and images is None:
        from quant import digits

        return divide_images(digits.train_images(), calibration, fitting, seed, digits.test())
    if images is None:
        raise ValueError(f"model {model!r} needs images: give --images FOLDER or FILE.npz")
    from quant.images import load_images

    crop = (network.input_shape[1], network.input_shape[2])
    if has_splits(images):
        training, evaluation = (
            load_images(images, crop, split=split, classes=network.classes)
            for split in ("calib", "eval")
        )
        return divide_images(training, calibration, fitting, seed, evaluation)
    every = load_images(images, crop, classes=network.classes)
    return divide_images(every, calibration, fitting, seed, None)


def divide_images(
    images: LabelledImages,
    calibration: int = 96,
    fitting: int = 400,
    seed: int = 0,
    evaluation: LabelledImages | None = None,
) -> ImageSets:
    """Cut a class-balanced random order; what is left is for the evaluation if that is None.

    calibration: images that curves are priced on. fitting: up to so many others for rounding. Half
    of the images at least is kept where there are none for the evaluation. Raises ValueError if
    there are too few.
    """
    import numpy as np

    from quant.images import balanced_order

    # half of a source without splits is always kept for the evaluation
    usable = len(images) if evaluation is not None else len(images) // 2
    needed = calibration + (1 if fitting else 0)
    if needed > usable:
        raise ValueError(
            f"images: {calibration} for calibration{' and some for rounding' if fitting else ''} "
            f"were asked for, and {usable} may be used of {len(images)}; lower --calibration"
        )
    order = balanced_order(images.labels, seed)
    end = min(calibration + fitting, usable)
    return ImageSets(
        images.take(order[:end]),
        images.take(order[:calibration]),
        images.take(order[calibration:end]) if fitting else None,
        images.take(np.sort(order[end:])) if evaluation is None else evaluation,
    )


def has_splits(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder's labels.csv has a column `split` that tells calib from eval."""
    path = Path(folder) / "labels.csv"
    if not os.path.isfile(path):
        return False
    from quant.images import read_labels

    found = {row.get("split") for row in read_labels(path)}
    return {"calib", "eval"} <= found
