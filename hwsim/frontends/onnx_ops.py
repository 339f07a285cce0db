"""What each ONNX operator is in torch: constants, work on single values, and the whole table.

The functions are those that torch's own modules call, so that both ways into a LayerGraph meet in
one set of rules (ops.py, views.py, products.py). Operators: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwsim.frontends import onnx_patterns as patterns
from hwsim.frontends import onnx_products as products
from hwsim.frontends.onnx_file import OnnxNode, StoredTensor
from hwsim.frontends.onnx_places import PLACES
from hwsim.frontends.onnx_plan import Handler, Inputs, OnnxValue, Planner, optional, torch_dtype
from hwsim.frontends.onnx_pools import POOLS

Function = Callable[..., Tensor]


# -- constants and shapes --------------------------------------------------------------------------


def constant(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    for name, value in node.attributes.items():
        if isinstance(value, StoredTensor):
            found = plan.stored_value(value)
            if found.array is not None:
                found.stored = None
            return found
        if name in ("value_float", "value_int", "value_floats", "value_ints"):
            kind = np.float32 if "float" in name else np.int64
            return plan.known(node, np.array(value, dtype=kind))
    raise plan.unsupported(node, "it holds no numbers")


def shape(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    sizes = plan.given(node, inputs).shape
    part = sizes[node.attributes.get("start", 0) : node.attributes.get("end", len(sizes))]
    return plan.known(node, np.array(part, dtype=np.int64))


def size(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    return plan.known(node, np.array(prod(plan.given(node, inputs).shape), dtype=np.int64))


def same(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Identity, and the dropout of an evaluated network."""
    if plan.reads[node.outputs[1]] if len(node.outputs) > 1 and node.outputs[1] else 0:
        raise plan.unsupported(node, "its mask is used")
    return plan.given(node, inputs)


def cast(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    from onnx import helper

    value = plan.given(node, inputs)
    if node.op == "CastLike":
        dtype = plan.given(node, inputs, 1).dtype
    else:
        dtype = torch_dtype(np.dtype(helper.tensor_dtype_to_np_dtype(node.attributes["to"])))
    if dtype == value.dtype:
        return value
    if value.array is not None and not value.stored:
        kinds = {torch.bool: np.bool_, torch.int64: np.int64, torch.float32: np.float32}
        return plan.known(node, value.array.astype(kinds[dtype]))
    return plan.step(node, lambda x: x.to(dtype), [value])


# -- one value in, one value out -------------------------------------------------------------------


def _one(function: Function) -> Handler:
    def handler(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
        return plan.step(node, function, [plan.given(node, inputs)], inputs)

    return handler


def _with(function: Callable[..., Tensor], **defaults: float) -> Handler:
    """A function of one tensor and of numbers that are attributes, given in this order."""

    def handler(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
        numbers = [float(node.attributes.get(name, value)) for name, value in defaults.items()]
        return plan.step(node, lambda x: function(x, *numbers), [plan.given(node, inputs)])

    return handler


def clip(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Bounds are attributes before opset 11. From 0 to 6 it is ReLU6."""
    x = plan.given(node, inputs)
    bounds: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        bound = plan.array(node, optional(inputs, position), name)
        number = node.attributes.get(name) if bound is None else float(bound.reshape(-1)[0])
        bounds.append(None if number is None or abs(number) > 3e38 else number)
    low, high = bounds
    if low == 0 and high == 6:
        return plan.step(node, lambda x: F.hardtanh(x, 0.0, 6.0), [x], clip=(low, high))
    if low is None and high is None:
        return x
    return plan.step(node, lambda x: torch.clamp(x, low, high), [x], clip=(low, high))


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def gelu(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    way = node.attributes.get("approximate", "none")
    return plan.step(node, lambda x: F.gelu(x, approximate=way), [plan.given(node, inputs)])


def prelu(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x, slope = plan.given(node, inputs), plan.given(node, inputs, 1)
    if prod(slope.shape) not in (1, x.shape[1] if len(x.shape) > 1 else 1):
        raise plan.unsupported(node, f"its slopes {slope.shape} are not one, or one a channel")
    return plan.step(node, lambda x, a: F.prelu(x, a.reshape(-1)), [x, slope])


def softmax(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Before opset 13 it works on a matrix: all axes from `axis` on together."""
    x = plan.given(node, inputs)
    function = F.log_softmax if node.op == "LogSoftmax" else F.softmax
    old = plan.file.opset < 13
    axis = plan.axis(node, node.attributes.get("axis", 1 if old else -1), len(x.shape))
    if old and axis != len(x.shape) - 1:
        rows = prod(x.shape[:axis])
        return plan.step(node, lambda x: function(x.reshape(rows, -1), -1).reshape(x.shape), [x])
    return plan.step(node, lambda x: function(x, axis), [x])


# -- two values in ---------------------------------------------------------------------------------


def _two(function: Callable[..., Tensor]) -> Handler:
    def handler(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
        found = patterns.match(plan, node, inputs)
        if found is not None:
            return found
        a, b = plan.given(node, inputs), plan.given(node, inputs, 1)
        for value, other, number_first in ((b, a, False), (a, b, True)):
            number = value.number
            if number is None or len(value.shape) > len(other.shape):
                continue
            if number_first:
                return plan.step(node, lambda x, n=number: function(n, x), [other], inputs, number=number)  # noqa: E501  # fmt: skip
            return plan.step(node, lambda x, n=number: function(x, n), [other], inputs, number=number)  # noqa: E501  # fmt: skip
        return plan.step(node, function, [a, b], inputs)

    return handler


def _subtract(a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.rsub(b, a) if not isinstance(a, Tensor) else torch.sub(a, b)  # type: ignore[arg-type]


def _commuting(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A number comes second, so that it is a step of the layer before."""

    def ordered(a: Tensor | float, b: Tensor | float) -> Tensor:
        return function(a, b) if isinstance(a, Tensor) else function(b, a)

    return ordered


def _power(a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.pow(a, b)  # type: ignore[arg-type]


def _divide(a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.div(a, b) if isinstance(a, Tensor) else torch.mul(torch.reciprocal(b), a)  # type: ignore[arg-type]


def _compare(function: Callable[..., Tensor]) -> Handler:
    def handler(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
        return plan.step(node, function, [v for v in inputs if v is not None])

    return handler


def variadic(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Sum, Mean, Max and Min of any number of tensors, one after the other."""
    functions: dict[str, Callable[..., Tensor]] = {"Max": torch.maximum, "Min": torch.minimum}
    function = functions.get(node.op, torch.add)
    each = [v for v in inputs if v is not None]

    def chain(*tensors: Tensor) -> Tensor:
        total = tensors[0]
        for tensor in tensors[1:]:
            total = function(total, tensor)
        return total / len(tensors) if node.op == "Mean" else total

    return plan.step(node, chain, each)


HANDLERS: dict[str, Handler] = {
    "Constant": constant,
    "Shape": shape,
    "Size": size,
    **dict.fromkeys(("Identity", "Dropout"), same),
    **dict.fromkeys(("Cast", "CastLike"), cast),
    "Relu": _one(F.relu),
    "Sigmoid": _one(torch.sigmoid),
    "Tanh": _one(torch.tanh),
    "Softplus": _one(F.softplus),
    "Softsign": _one(F.softsign),
    "HardSwish": _one(F.hardswish),
    "Mish": _one(F.mish),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Log": _one(torch.log),
    "Sqrt": _one(torch.sqrt),
    "Reciprocal": _one(torch.reciprocal),
    "Neg": _one(torch.neg),
    "Abs": _one(torch.abs),
    "Sin": _one(torch.sin),
    "Cos": _one(torch.cos),
    "Sign": _one(torch.sign),
    "Floor": _one(torch.floor),
    "Round": _one(torch.round),
    "Not": _one(torch.logical_not),
    "Clip": clip,
    "HardSigmoid": _with(hard_sigmoid, alpha=0.2, beta=0.5),
    "LeakyRelu": _with(F.leaky_relu, alpha=0.01),
    "Elu": _with(F.elu, alpha=1.0),
    "Celu": _with(F.celu, alpha=1.0),
    "Selu": _one(F.selu),
    "ThresholdedRelu": _with(lambda x, alpha: F.threshold(x, alpha, 0.0), alpha=1.0),
    "Gelu": gelu,
    "PRelu": prelu,
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    "Add": _two(_commuting(torch.add)),
    "Mul": _two(_commuting(torch.mul)),
    "Sub": _two(_subtract),
    "Div": _two(_divide),
    "Pow": _two(_power),
    "Equal": _compare(torch.eq),
    "Less": _compare(torch.lt),
    "LessOrEqual": _compare(torch.le),
    "Greater": _compare(torch.gt),
    "GreaterOrEqual": _compare(torch.ge),
    "And": _compare(torch.logical_and),
    "Or": _compare(torch.logical_or),
    "Where": _compare(torch.where),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min"), variadic),
    **POOLS,
    **PLACES,
    "Conv": products.convolution,
    "Gemm": products.gemm,
    "MatMul": products.matmul,
    "Einsum": products.einsum,
    "Attention": products.attention,
}
