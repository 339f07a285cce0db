"""ONNX operators with multiply-accumulates, as torch functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hwsim.frontends.onnx_file import OnnxNode

if TYPE_CHECKING:
    from hwsim.frontends.onnx_plan import OnnxValue, Planner

    Inputs = Sequence[OnnxValue | None]


def paddings(
    plan: Planner,
    node: OnnxNode,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis of space, from `pads` or `auto_pad`."""
    way = node.attributes.get("auto_pad", "NOTSET")
    if way == "NOTSET":
        pads = [int(p) for p in node.attributes.get("pads", [0] * 2 * len(kernel))]
        if len(pads) != 2 * len(kernel) or min(pads) < 0:
            raise plan.unsupported(node, f"its pads {pads} are not two amounts for each axis")
        return pads[: len(kernel)], pads[len(kernel) :]
    if way == "VALID":
        return [0] * len(kernel), [0] * len(kernel)
    if way not in ("SAME_UPPER", "SAME_LOWER"):
        raise plan.unsupported(node, f"auto_pad {way!r}")
    totals = [
        max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if way == "SAME_UPPER" else (large, small)


def convolution(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Convolution over one or two axes; padding that differs between the sides is a pad before."""
    x, weight = inputs[0], inputs[1] if len(inputs) > 1 else None
    bias = inputs[2] if len(inputs) > 2 else None
    space = len(x.shape) - 2 if x is not None else 0
    if x is None or weight is None or space not in (1, 2) or len(weight.shape) != space + 2:
        raise plan.unsupported(node, "only convolutions over one or two axes of space have a model")
    kernel = list(weight.shape[2:])
    if list(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise plan.unsupported(node, f"its kernel_shape is not that of its weight, {kernel}")
    stride, dilation = (
        [int(i) for i in node.attributes.get(name, [1] * space)]
        for name in ("strides", "dilations")
    )
    before, after = paddings(plan, node, x.shape[2:], kernel, stride, dilation)
    groups = int(node.attributes.get("group", 1))
    apart = [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair]
    convolve = F.conv1d if space == 1 else F.conv2d

    def function(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if before != after:
            return convolve(F.pad(x, apart), weight, bias, stride, 0, dilation, groups)
        return convolve(x, weight, bias, stride, before, dilation, groups)

    return plan.step(node, function, [x, weight, bias], weight=weight, bias=bias)


def gemm(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """alpha A B + beta C with either matrix transposed; with constant B and C a linear layer."""
    a, b = inputs[0], inputs[1] if len(inputs) > 1 else None
    c = inputs[2] if len(inputs) > 2 else None
    if a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2:
        raise plan.unsupported(node, "it needs two matrices")
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    flip_a, flip_b = (bool(node.attributes.get(name, 0)) for name in ("transA", "transB"))
    columns = b.shape[0 if flip_b else 1]
    bias = c is not None and c.shape in ((columns,), (1, columns)) and alpha == beta == 1

    def function(a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
        a, b = a.t() if flip_a else a, b if flip_b else b.t()
        if c is None or bias:
            product = F.linear(a, b, c if c is None or c.dim() == 1 else c.reshape(-1))
            return product if alpha == 1 else product * alpha
        product = F.linear(a, b)
        return (product if alpha == 1 else product * alpha) + (c if beta == 1 else c * beta)

    return plan.step(node, function, [a, b, c], weight=b, bias=c if bias else None)


def matmul(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """With a matrix of weights second a linear layer, else a product as torch.matmul has it."""
    a, b = inputs[0], inputs[1] if len(inputs) > 1 else None
    if a is None or b is None:
        raise plan.unsupported(node, "it needs two tensors")
    if constant(b) and not constant(a) and len(b.shape) == 2 and len(a.shape) >= 2:
        return plan.step(node, lambda x, w: F.linear(x, w.t()), [a, b], weight=b, linear=True)
    scale = 1.0
    scaled = [plan.made_by(value, "Mul", "Div") for value in (a, b)]
    if all(step is not None and "number" in step.info for step in scaled):
        # attention's scale, shared out to both operands by exporters: one factor of the product
        for step in scaled:
            assert step is not None
            number = step.info["number"]
            scale *= 1 / number if step.node.op == "Div" else number
        a, b = (step.operands[0] for step in scaled if step is not None)

    def function(a: Tensor, b: Tensor) -> Tensor:
        product = torch.matmul(a, b)
        return product if scale == 1 else product * scale

    return plan.step(node, function, [a, b])


def constant(value: OnnxValue | None) -> bool:
    """Whether no input of the network reaches a value."""
    if value is None or value.constant:
        return True
    return value.step is not None and all(constant(v) for v in value.step.operands)


def linear_with_bias(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue | None:
    """MatMul and Add of one value a column, as exporters write a linear layer; None otherwise."""
    for value, bias in ((inputs[0], inputs[1]), (inputs[1], inputs[0])):
        step = plan.made_by(value, "MatMul")
        if step is None or bias is None or not step.info.get("linear") or not constant(bias):
            continue
        x, weight = step.operands
        assert weight is not None
        if bias.shape != weight.shape[1:]:
            continue
        return plan.step(
            node, lambda x, w, b: F.linear(x, w.t(), b), [x, weight, bias], weight=weight, bias=bias
        )
    return None


def einsum(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    equation = node.attributes.get("equation", "")
    return plan.step(node, lambda *tensors: torch.einsum(equation, list(tensors)), inputs)


def attention(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Opset 23: queries, keys and values with an axis of heads each, and perhaps a mask."""
    query, key, value = inputs[:3]
    mask = inputs[3] if len(inputs) > 3 else None
    heads_apart = all(v is not None and len(v.shape) == 4 for v in (query, key, value))
    refused = ("softcap", "qk_matmul_output_mode", "softmax_precision")
    if not heads_apart or any(v is not None for v in inputs[4:]) or any(
        node.attributes.get(name, 0) for name in refused
    ):  # fmt: skip
        raise plan.unsupported(node, "only attention on four axes without a cache has a model")
    causal, scale = bool(node.attributes.get("is_causal", 0)), node.attributes.get("scale")

    def function(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        attend: Callable[..., Tensor] = F.scaled_dot_product_attention
        return attend(
            query, key, value, mask, is_causal=causal, scale=scale,
            enable_gqa=key.shape[1] != query.shape[1],
        )  # fmt: skip

    return plan.step(node, function, [query, key, value, mask])
