"""ONNX pools, reductions and normalisations as torch functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from hwsim.frontends import onnx_products as products
from hwsim.frontends.onnx_file import OnnxNode
from hwsim.frontends.onnx_plan import Handler, Inputs, OnnxValue, Planner, optional


def _ints(node: OnnxNode, name: str, default: Sequence[int]) -> list[int]:
    return [int(item) for item in node.attributes.get(name, default)]


def pool(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """MaxPool and AveragePool over one or two axes of space."""
    x = plan.given(node, inputs)
    kernel = _ints(node, "kernel_shape", ())
    space = len(kernel)
    if space not in (1, 2) or len(x.shape) != space + 2:
        raise plan.unsupported(node, "only pools over one or two axes of space have a model")
    stride, dilation = (_ints(node, name, [1] * space) for name in ("strides", "dilations"))
    before, after = products.paddings(plan, node, x.shape[2:], kernel, stride, dilation)
    ceil_mode, largest = bool(node.attributes.get("ceil_mode", 0)), node.op == "MaxPool"
    counted = bool(node.attributes.get("count_include_pad", 0))
    if not largest and any(d != 1 for d in dilation):
        raise plan.unsupported(node, "an average pool with dilation has no model")
    apart: list[int] = []  # padding that the pool itself cannot do
    if before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        if not largest and not counted:
            raise plan.unsupported(node, "an average pool with uneven padding that is not counted")
        apart = [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair]
        before = [0] * space
    if set(kernel) == set(stride) == {1} and not any((*before, *after)):
        return x  # windows of one value: how exporters write an adaptive pool that changes nothing
    fill = float("-inf") if largest else 0.0
    average, maximum = ((F.avg_pool1d, F.max_pool1d), (F.avg_pool2d, F.max_pool2d))[space - 1]

    def function(x: Tensor) -> Tensor:
        x = F.pad(x, apart, value=fill) if apart else x
        if largest:
            return maximum(x, kernel, stride, before, dilation, ceil_mode)
        return average(x, kernel, stride, before, ceil_mode, counted)

    return plan.step(node, function, [x])


def global_pool(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    space = len(x.shape) - 2
    if space not in (1, 2):
        raise plan.unsupported(node, "only pools over one or two axes of space have a model")
    average = node.op == "GlobalAveragePool"
    functions = (
        (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d) if average
        else (F.adaptive_max_pool1d, F.adaptive_max_pool2d)
    )  # fmt: skip
    return plan.step(node, lambda x: functions[space - 1](x, 1), [x])


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL2": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim),
    "ReduceSumSquare": lambda x, dim, keepdim: torch.sum(x * x, dim, keepdim),
}


def reduction(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    axes = plan.axes(node, inputs, 1, len(x.shape))
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(len(x.shape)))
    keep, function = bool(node.attributes.get("keepdims", 1)), _REDUCTIONS[node.op]
    if node.op == "ReduceMean" and keep and len(x.shape) == 4 and sorted(axes) == [2, 3]:
        # how exporters write AdaptiveAvgPool2d(1)
        return plan.step(
            node, lambda x: F.adaptive_avg_pool2d(x, 1), [x],
            axes=axes, keep=keep, called="adaptive_avg_pool2d",
        )  # fmt: skip
    return plan.step(node, lambda x: function(x, axes, keep), [x], axes=axes, keep=keep)


# -- normalisation ---------------------------------------------------------------------------------


def batch_norm(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    if node.attributes.get("training_mode", 0) or len(node.inputs) < 5:
        raise plan.unsupported(node, "batch norm with statistics of the batch")
    x, scale, shift, mean, variance = (plan.given(node, inputs, i) for i in range(5))
    plan.statistics |= {v.stored.name for v in (mean, variance) if v.stored is not None}
    epsilon = float(node.attributes.get("epsilon", 1e-5))

    def function(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.1, epsilon)

    return plan.step(node, function, [x, scale, shift, mean, variance])


def layer_norm(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x, scale, shift = plan.given(node, inputs), *(optional(inputs, i) for i in (1, 2))
    axis = plan.axis(node, node.attributes.get("axis", -1), len(x.shape))
    over, epsilon = list(x.shape[axis:]), float(node.attributes.get("epsilon", 1e-5))
    if node.op == "RMSNormalization":
        return plan.step(node, lambda x, w: F.rms_norm(x, over, w, epsilon), [x, scale])

    def function(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        return F.layer_norm(x, over, scale, shift, epsilon)

    return plan.step(node, function, [x, scale, shift])


def group_norm(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x, scale, shift = (plan.given(node, inputs, i) for i in range(3))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    if node.op == "InstanceNormalization":
        return plan.step(
            node, lambda x, w, b: F.instance_norm(x, None, None, w, b, True, 0.1, epsilon),
            [x, scale, shift],
        )  # fmt: skip
    groups = int(node.attributes.get("num_groups", 1))
    each = x.shape[1] // prod(scale.shape) if scale.shape != (x.shape[1],) else 1  # opset 18

    def function(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        if each > 1:
            scale, shift = scale.repeat_interleave(each), shift.repeat_interleave(each)
        return F.group_norm(x, groups, scale, shift, epsilon)

    return plan.step(node, function, [x, scale, shift])


def local_response_norm(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """x / (bias + alpha / size * sum of the squares of neighbouring channels) ** beta."""
    x = plan.given(node, inputs)
    width = int(node.attributes.get("size", 1))
    alpha, beta, bias = (
        float(node.attributes.get(name, value))
        for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    around = [0, 0, (width - 1) // 2, width // 2]

    def function(x: Tensor) -> Tensor:
        squares = F.pad((x * x).flatten(2).unsqueeze(1), around)
        mean = F.avg_pool2d(squares, (width, 1), 1)
        return x / (mean * alpha + bias).pow(beta).reshape(x.shape)

    return plan.step(node, function, [x])


POOLS: dict[str, Handler] = {
    **dict.fromkeys(("MaxPool", "AveragePool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), global_pool),
    **dict.fromkeys(_REDUCTIONS, reduction),
    "BatchNormalization": batch_norm,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), group_norm),
    "LRN": local_response_norm,
}
