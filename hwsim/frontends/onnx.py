"""ONNX files as torch modules, and through them as layer graphs.

The module computes what the file says with the functions that torch's own modules call; exporting
it gives the same operations, and so the same layers, as exporting the network that the file was
made from. Layers are called after the modules that the exporter recorded, else after the nodes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from hwsim.frontends.onnx_file import OnnxFile, read_onnx
from hwsim.frontends.onnx_ops import HANDLERS
from hwsim.frontends.onnx_plan import OnnxValue, Plan, Planner, Step
from hwsim.frontends.torch_export import capture
from hwsim.frontends.values import UnsupportedOperation
from hwsim.graph import LayerGraph

MAX_SIZE = 2**24  # of one axis of an input


def from_onnx(path: str | os.PathLike[str], image_size: int | None = None) -> LayerGraph:
    """The layers of an ONNX file, for one image.

    image_size: height and width in pixels, for a file that leaves them open; a batch that is left
    open is 1. Weights need not be there. Raises ValueError for a file that cannot be read, and
    UnsupportedOperation, which names the node and its operator, for what has no model.
    """
    module, shapes = module_from_onnx(path, image_size)
    return capture(module, shapes, module.file.name).graph


def module_from_onnx(
    path: str | os.PathLike[str], image_size: int | None = None, weights: bool = False
) -> tuple[OnnxModule, list[tuple[int, ...]]]:
    """The file as a torch module in eval mode, and the shapes of its inputs for one image.

    weights: with its weights, on the CPU; else on the `meta` device, where no values are needed.
    With weights it can be run on a batch, if the file does not fix the batch somewhere inside.
    Raises ValueError as `from_onnx`, and for weights that are not there or cannot be read.
    """
    file = read_onnx(path)
    shapes = _shapes(file, image_size)
    return OnnxModule(file, shapes, weights).eval(), shapes


def _shapes(file: OnnxFile, image_size: int | None) -> list[tuple[int, ...]]:
    if not file.inputs:
        raise ValueError(f"{file.path}: the network has no input")
    shapes: list[tuple[int, ...]] = []
    free = False
    for name, dtype, sizes in file.inputs:
        if dtype.kind != "f":
            raise ValueError(
                f"{file.path}: input {name!r} is of type {dtype}; only networks that read numbers "
                f"with a fraction, such as images, can be modelled"
            )
        shape: list[int] = []
        for axis, size in enumerate(sizes):
            if isinstance(size, str):
                free |= axis >= 2 and len(sizes) == 4
                size = _open_size(file, name, sizes, axis, image_size)
            if not 1 <= size <= MAX_SIZE:
                raise ValueError(f"{file.path}: input {name!r}: axis {axis} has size {size}")
            shape.append(size)
        if not shape or shape[0] != 1:
            raise ValueError(
                f"{file.path}: input {name!r} has shape {tuple(shape)}; export the network for one "
                f"image, with a first axis of 1 or left open"
            )
        shapes.append(tuple(shape))
    if image_size is not None and not free:
        raise ValueError(f"{file.path}: the network reads images of one size, "
                         f"{shapes[0]}; leave out --image-size")  # fmt: skip
    return shapes


def _open_size(
    file: OnnxFile, name: str, sizes: Sequence[int | str], axis: int, image_size: int | None
) -> int:
    if axis == 0:
        return 1
    if len(sizes) == 4 and axis >= 2 and image_size is not None:
        return image_size
    shown = ", ".join(str(s) if s else "?" for s in sizes)
    plane = len(sizes) == 4 and axis >= 2
    way_out = "give --image-size" if plane else "export it with a fixed size"
    raise ValueError(
        f"{file.path}: input {name!r} has shape ({shown}): axis {axis} is left open; {way_out}"
    )


class Scope(nn.Module):
    """A place in the tree of modules: what is called here gets the place's name."""

    def forward(self, *arguments: Any) -> Any:
        """The first argument is the function, the others are what it is called with."""
        function, *tensors = arguments
        return function(*tensors)


class OnnxModule(Scope):
    """The network of an ONNX file, computed step by step with torch functions."""

    def __init__(self, file: OnnxFile, shapes: Sequence[tuple[int, ...]], weights: bool) -> None:
        super().__init__()
        self.file, self.shapes, self.weights = file, shapes, weights
        self.plan = Planner(file, shapes).run(HANDLERS)
        self._plans = {1: self.plan}
        self._held: dict[str, tuple[Scope, str]] = {}
        self._constants: dict[str, np.ndarray] = {}
        if weights and self.plan.approximate:
            raise ValueError(
                f"{file.path}: node {self.plan.approximate[0]!r} resizes in a way that torch does "
                f"not compute exactly; the network can be simulated but not run"
            )
        # tells `export` the device of a network without weights
        self.register_parameter(
            "device_", nn.Parameter(torch.empty(0, device=None if weights else "meta"))
        )
        for value in _constants(self.plan):
            if value.name not in self._held:
                self._hold(value)
        paths = _paths(self.plan.steps)
        self._places = {
            step.node.outputs[0]: self._scope(paths[id(step)]) for step in self.plan.steps
        }
        self._elsewhere = Scope()  # for steps that do nothing for one image, such as an expand

    def forward(self, *inputs: Any) -> Any:
        plan = self.plan_for(len(inputs[0]))
        found: dict[int, Any] = {
            id(value): tensor for value, tensor in zip(plan.inputs, inputs, strict=True)
        }
        for step in plan.steps:
            tensors = [None if v is None else self._tensor(v, found) for v in step.operands]
            place = self._places.get(step.node.outputs[0], self._elsewhere)
            made = place(step.function, *tensors)
            results = made if isinstance(made, list | tuple) else (made,)
            found |= {id(value): t for value, t in zip(step.outputs, results, strict=True)}
        outputs = tuple(self._tensor(value, found) for value in plan.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def plan_for(self, batch: int) -> Plan:
        """The plan for a batch, on which the shapes that the file computes depend.

        Raises ValueError if the file is made for one image at a time.
        """
        if batch not in self._plans:
            shapes = [(batch, *shape[1:]) for shape in self.shapes]
            try:
                with _disable_current_modes():  # nothing of this belongs to a trace of forward
                    plan = Planner(self.file, shapes).run(HANDLERS)
            except ValueError as error:
                raise ValueError(
                    f"{error}; the file is made for one image at a time: to run it, export it with "
                    f"the batch left open"
                ) from None
            for value in _constants(plan):
                known = self._constants.get(value.name)
                if value.stored is None and (
                    known is None or value.array is None or not np.array_equal(known, value.array)
                ):
                    raise ValueError(
                        f"{self.file.path}: constant {value.name!r} depends on the batch; such a "
                        f"network can be simulated but not run"
                    )
            self._plans[batch] = plan
        return self._plans[batch]

    def _tensor(self, value: OnnxValue, found: Mapping[int, Any]) -> Tensor:
        if id(value) in found:
            return found[id(value)]
        owner, name = self._held[value.name]
        return getattr(owner, name)

    def _hold(self, value: OnnxValue) -> None:
        """Keep a constant as a parameter, or as a buffer if it is none."""
        path, _, last = _clean(value.name).rpartition(".")
        owner, last = self._scope(path), last or "constant"
        while hasattr(owner, last):
            last += "_"
        learned = (
            value.stored is not None
            and value.dtype.is_floating_point
            and len(value.shape) > 0
            and value.stored.name not in self.plan.statistics
        )
        tensor = self._values(value) if self.weights else value.meta()
        if learned:
            owner.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
        else:
            owner.register_buffer(last, tensor)
        self._held[value.name] = owner, last
        if value.stored is None and value.array is not None:
            self._constants[value.name] = value.array

    def _values(self, value: OnnxValue) -> Tensor:
        array = value.array
        if array is None and value.stored is not None:
            try:
                array = value.stored.values()
            except ValueError as error:
                raise ValueError(f"{self.file.path}: {error}") from None
        if array is None or array.shape != value.shape:
            raise ValueError(
                f"{self.file.path}: the values of tensor {value.name!r} are not there; put the "
                f"data file that was written with it beside it"
            )
        return torch.from_numpy(np.ascontiguousarray(array)).to(value.dtype)

    def _scope(self, path: str) -> Scope:
        scope: Scope = self
        for part in path.split(".") if path else ():
            while part not in scope._modules and hasattr(scope, part):
                part += "_"  # taken by a tensor, or by torch's own attributes
            if part not in scope._modules:
                scope.add_module(part, Scope())
            child = scope._modules[part]
            assert isinstance(child, Scope)
            scope = child
        return scope


def _constants(plan: Plan) -> Iterator[OnnxValue]:
    """The constants that steps and outputs read."""
    for step in plan.steps:
        yield from (v for v in step.operands if v is not None and v.constant)
    yield from (v for v in plan.outputs if v.constant)


def _clean(name: str) -> str:
    """A name that torch takes for a path of modules."""
    parts = re.sub(r"[^\w.-]", "_", name).split(".")
    return ".".join(part for part in parts if part)


def _owner(value: OnnxValue | None) -> str:
    """'fc' for the tensor 'fc.weight', 'attention.in_proj' for 'attention.in_proj_bias'."""
    name = value.stored.name if value is not None and value.stored is not None else ""
    for suffix in ("weight", "bias"):
        if name.endswith(suffix):
            return _clean(name.removesuffix(suffix).rstrip("._"))
    return ""


VIEWS = frozenset(
    ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Slice", "Split",
     "SplitToSequence", "Gather", "Cast", "CastLike")
)  # fmt: skip
CALLED = {
    "Concat": "cat",
    "ReduceMean": "mean",
    "GlobalAveragePool": "adaptive_avg_pool2d",
    "MaxPool": "max_pool2d",
    "AveragePool": "avg_pool2d",
    "LayerNormalization": "layer_norm",
    "BatchNormalization": "batch_norm",
}  # as torch's own functions, for names such as "layer1.0.add"; others in lower case


def _paths(steps: Sequence[Step]) -> dict[int, str]:
    """Where each step is called, which names its layer.

    At the module that has its weight; else at the module that it was exported from, or below that
    at a place called after the operator, if the module holds others or has several such steps.
    """
    scopes = {_clean(step.node.scope or "") for step in steps}
    inner = {path.rsplit(".", n)[0] for path in scopes for n in range(1, path.count(".") + 1)}
    owners = {id(s): _owner(s.info.get("weight")) or _owner(s.info.get("bias")) for s in steps}
    count = Counter(
        _clean(step.node.scope or "")
        for step in steps
        if step.node.op not in VIEWS and not owners[id(step)]
    )
    paths: dict[int, str] = {}
    for step in steps:
        scope, op = _clean(step.node.scope or ""), step.node.op
        called = step.info.get("called") or CALLED.get(op, op.lower())
        if owners[id(step)]:
            path = owners[id(step)]
        elif step.node.scope is None:
            path = _clean(step.node.name) or called
        elif scope and scope not in inner and count[scope] == 1:
            path = scope
        else:
            path = f"{scope}.{called}" if scope else called
        paths[id(step)] = path
    return paths


__all__ = ["OnnxModule", "UnsupportedOperation", "from_onnx", "module_from_onnx"]
