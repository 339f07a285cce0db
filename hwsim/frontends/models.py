"""Networks by name: torchvision's classifiers, and functions of the user's own."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwsim.frontends.lowering import layer_graph
from hwsim.frontends.torch_export import capture, first_line, read_program
from hwsim.frontends.torchvision_shim import import_torchvision
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean

logger = logging.getLogger(__name__)

DEFAULT_IMAGE_SIZE = 224  # for a module that does not say: what most classifiers are trained on


@cache
def model_names() -> tuple[str, ...]:
    """Names of torchvision's classifiers."""
    models = import_torchvision().models
    return tuple(models.list_models(module=models))


def published(name: str) -> Any:
    """torchvision's default weights entry of a model: its `meta` and `transforms`, no download."""
    _check_name(name)
    return import_torchvision().models.get_model_weights(name).DEFAULT


def image_size_of(name: str) -> int:
    """Height and width in pixels of the images that the model's default weights were made for."""
    return int(published(name).transforms.keywords["crop_size"])


def module_from_name(
    name: str, num_classes: int = 1000, image_size: int | None = None
) -> nn.Module:
    """A torchvision classifier on the CPU with fresh weights, ready for `load_state_dict`.

    GoogLeNet and Inception come without the auxiliary heads that only training uses, and with the
    change of input scale that torchvision's weights for them expect. image_size matters to the
    networks that are built for one (ViT, MaxViT). Raises ValueError for an unknown name.
    """
    _check_name(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    size = image_size or image_size_of(name)
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False, "transform_input": True}
    elif name.startswith("vit_"):
        options["image_size"] = size
    elif name.startswith("maxvit_"):
        options["input_size"] = (size, size)
    try:
        return import_torchvision().models.get_model(name, weights=None, **options)
    except (AssertionError, ValueError) as error:  # torchvision asserts what sizes it can take
        raise ValueError(
            f"model {name!r} cannot be built for images of {size} pixels: {first_line(error)}"
        ) from error


def build(name: str, num_classes: int = 1000, image_size: int | None = None) -> nn.Module:
    """The same module without weights: shapes alone, on the `meta` device."""
    with _weightless():
        module = module_from_name(name, num_classes, image_size)
    return module.to("meta").eval()


@cache
def from_name(name: str, image_size: int | None = None) -> LayerGraph:
    """The layers of a torchvision classifier for square images of `image_size` pixels.

    image_size: by default that of the model's default weights. Raises ValueError for an unknown
    name and for a size that the network cannot take.
    """
    size = image_size_of(name) if image_size is None else image_size
    return from_module(build(name, image_size=size), (1, 3, size, size), name)


def from_module(
    module: nn.Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    name: str | None = None,
) -> LayerGraph:
    """The layers of any module; input_shape is (batch, ...), and the graph is of one image."""
    return capture(module, input_shape, name).graph


def from_spec(spec: str, image_size: int | None = None) -> LayerGraph:
    """The layers of a torchvision classifier, of a file, or of what a function returns.

    spec: 'resnet18', a path ending in .pt2 (torch.export.save), in .onnx, or in .csv (a SCALE-Sim
    topology), or 'package.module:function'. The function takes no arguments and returns a
    LayerGraph, a module, or a pair of a module and its input shape: see `module_and_shape`.
    Raises ValueError for anything else.
    """
    if spec.endswith(".pt2"):
        return layer_graph(read_program(spec), Path(spec).stem)[0]
    if spec.endswith(".onnx"):
        from hwsim.frontends.onnx import from_onnx

        return from_onnx(spec, image_size)
    if spec.endswith(".csv"):
        from hwsim.frontends.topology_csv import read_topology

        return read_topology(spec)
    if ":" not in spec:
        return from_name(spec, image_size)
    made = call_spec(spec)
    if isinstance(made, LayerGraph):
        return made
    return from_module(*module_and_shape(spec, made, image_size), spec_name(spec))


def spec_name(spec: str) -> str:
    """'package.module:function' as a name: 'module.function', which may also name a folder."""
    module, _, function = spec.partition(":")
    return f"{module.rpartition('.')[2]}.{function}"


def module_and_shape(
    spec: str, made: object, image_size: int | None = None
) -> tuple[nn.Module, tuple[int, ...]]:
    """The module and the input shape (1, ...) in what the function `spec` returned.

    A module alone reads one 3-channel image of `image_size`; where that is not given either, 224 is
    taken, and logged as a warning. Raises ValueError for anything but a module or a pair of it and
    its shape, and for a shape and an image size at once.
    """
    if isinstance(made, nn.Module):
        if image_size is None:
            logger.warning(
                "model %r does not say what it reads: images of 3 x %d x %d are assumed; "
                "give --image-size, or return (module, (1, channels, height, width))",
                *(spec, DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE),
            )
        size = image_size or DEFAULT_IMAGE_SIZE
        return made, (1, 3, size, size)
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        if isinstance(made[1], str) or not isinstance(made[1], Sequence):
            raise ValueError(
                f"model {spec!r}: input shape: expected sizes such as (1, 3, 224, 224), got "
                f"{made[1]!r}"
            )
        shape = tuple(made[1])
        if image_size is not None and shape[2:] != (image_size, image_size):
            raise ValueError(f"model {spec!r} says that it reads {shape}; leave out --image-size")
        return made[0], shape
    raise ValueError(
        f"model {spec!r}: expected a torch module, or a pair of a module and its input shape, "
        f"got {type(made).__name__}"
    )


def call_spec(spec: str) -> object:
    """What 'package.module:function' returns; the current folder is looked through too, last.

    Raises ValueError if it is not there or raises.
    """
    module_name, _, function_name = spec.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # a script's path lacks it; last, so that it hides nothing
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module may raise whatever it likes
        raise ValueError(
            f"model {spec!r}: cannot import {module_name!r}: {first_line(error)}; the part before "
            f"the colon is a module that Python can import from here"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ValueError(
            f"model {spec!r}: {module_name} has no function {function_name!r}"
            f"{did_you_mean(function_name, known)}"
        )
    try:
        return function()
    except (Exception, SystemExit) as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"model {spec!r}: calling {function_name} without arguments raised "
            f"{first_line(error)} ({line.filename}, line {line.lineno})"
        ) from error


def _check_name(name: str) -> None:
    if name not in model_names():
        raise ValueError(
            f"no model is called {name!r}{did_you_mean(name, model_names())}"
            f"; it may be a torchvision classifier, a .pt2, .onnx or .csv file, or "
            f"'package.module:function'"
        )


@contextmanager
def _weightless() -> Iterator[None]:
    """Parameters go to the `meta` device as modules register them, so no memory is filled.

    Building inside `torch.device("meta")` would do for most networks, but RegNet computes its
    widths with tensors whose values it needs.
    """

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        if parameter is None:
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = nn.modules.module.register_module_parameter_registration_hook(to_meta)
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()
