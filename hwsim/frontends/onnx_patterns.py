"""Operations that exporters write as several nodes, put together again.

Each pattern is looked for backwards from its last node; what only the pattern reads drops out of
the plan. Nothing changes in what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, sqrt
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hwsim.frontends.onnx_file import OnnxNode
from hwsim.frontends.onnx_products import constant, linear_with_bias

if TYPE_CHECKING:
    from hwsim.frontends.onnx_plan import OnnxValue, Planner, Step


def match(plan: Planner, node: OnnxNode, inputs: Sequence[OnnxValue | None]) -> OnnxValue | None:
    """The pattern that ends in this node of two inputs, or None."""
    if len(inputs) != 2 or None in inputs:
        return None
    if node.op == "Mul":
        return _silu(plan, node, inputs) or _gelu(plan, node, inputs) or _hardswish(plan, node, inputs)  # noqa: E501  # fmt: skip
    if node.op == "Div":
        return _hardswish(plan, node, inputs)
    if node.op == "Add":
        return linear_with_bias(plan, node, inputs) or _layer_norm(plan, node, inputs)
    return None


def _both_ways(
    inputs: Sequence[OnnxValue | None],
) -> list[tuple[OnnxValue | None, OnnxValue | None]]:
    return [(inputs[0], inputs[1]), (inputs[1], inputs[0])]


def _near(value: OnnxValue | None, number: float) -> bool:
    known = value.number if value is not None else None
    return known is not None and isclose(known, number, rel_tol=1e-4)


def _silu(plan: Planner, node: OnnxNode, inputs: Sequence[OnnxValue | None]) -> OnnxValue | None:
    """x sigmoid(x)."""
    for x, gate in _both_ways(inputs):
        step = plan.made_by(gate, "Sigmoid")
        if step is not None and x is not None and step.operands[0] is x:
            return plan.step(node, F.silu, [x])
    return None


def _hardswish(
    plan: Planner, node: OnnxNode, inputs: Sequence[OnnxValue | None]
) -> OnnxValue | None:
    """x hardsigmoid(x), or x clip(x + 3, 0, 6) / 6 with its factors in any order."""
    if node.op == "Div":
        x = _x_relu6(plan, inputs[0]) if _near(inputs[1], 6) else None
        return plan.step(node, F.hardswish, [x]) if x is not None else None
    for x, gate in _both_ways(inputs):
        if _near(gate, 1 / 6):
            source = _x_relu6(plan, x)
            if source is not None:
                return plan.step(node, F.hardswish, [source])
        step = plan.made_by(gate, "HardSigmoid", "Div", "Mul")
        if step is None or x is None:
            continue
        sixth = step.node.op != "HardSigmoid"
        if sixth:
            by = step.info.get("number")
            wanted = 6 if step.node.op == "Div" else 1 / 6
            if by is None or not isclose(by, wanted, rel_tol=1e-4):
                continue
            found = _relu6_of(plan, step.operands[0]) is x
        else:
            alpha, beta = (step.node.attributes.get(n, d) for n, d in (("alpha", 0.2), ("beta", 0.5)))  # noqa: E501  # fmt: skip
            found = step.operands[0] is x and isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5
        if found:
            return plan.step(node, F.hardswish, [x])
    return None


def _relu6_of(plan: Planner, value: OnnxValue | None) -> OnnxValue | None:
    """x, where value is clip(x + 3, 0, 6)."""
    bounded = plan.made_by(value, "Clip")
    if bounded is None or bounded.info.get("clip") != (0, 6):
        return None
    moved = plan.made_by(bounded.operands[0], "Add")
    if moved is None or moved.info.get("number") != 3:
        return None
    return moved.operands[0]


def _x_relu6(plan: Planner, value: OnnxValue | None) -> OnnxValue | None:
    """x, where value is x clip(x + 3, 0, 6)."""
    product = plan.made_by(value, "Mul")
    if product is None or len(product.operands) != 2:
        return None
    for x, gate in _both_ways(product.operands):
        if x is not None and _relu6_of(plan, gate) is x:
            return x
    return None


def _gelu(plan: Planner, node: OnnxNode, inputs: Sequence[OnnxValue | None]) -> OnnxValue | None:
    """x (1 + erf(x / sqrt 2)) / 2, with the half at either of its places."""
    for first, second in _both_ways(inputs):
        if _near(first, 0.5):  # (x (1 + erf)) 0.5
            product = plan.made_by(second, "Mul")
            if product is not None and len(product.operands) == 2:
                for x, gate in _both_ways(product.operands):
                    if x is not None and _erf_of(plan, gate) is x:
                        return plan.step(node, F.gelu, [x])
        halved = plan.made_by(first, "Mul")  # (0.5 x) (1 + erf)
        if halved is not None and isclose(halved.info.get("number", 0), 0.5):
            x = halved.operands[0]
            if x is not None and _erf_of(plan, second) is x:
                return plan.step(node, F.gelu, [x])
        halved = plan.made_by(second, "Mul")  # x (0.5 (1 + erf))
        half = halved is not None and isclose(halved.info.get("number", 0), 0.5)
        source = _erf_of(plan, halved.operands[0]) if halved is not None and half else None
        if source is not None and source is first:
            return plan.step(node, F.gelu, [source])
    return None


def _erf_of(plan: Planner, value: OnnxValue | None) -> OnnxValue | None:
    """x, where value is 1 + erf(x / sqrt 2)."""
    more = plan.made_by(value, "Add")
    if more is None or more.info.get("number") != 1:
        return None
    erf = plan.made_by(more.operands[0], "Erf")
    inner = plan.made_by(erf.operands[0], "Div", "Mul") if erf is not None else None
    if inner is None or "number" not in inner.info:
        return None
    wanted = sqrt(2) if inner.node.op == "Div" else sqrt(0.5)
    return inner.operands[0] if isclose(inner.info["number"], wanted, rel_tol=1e-4) else None


def _layer_norm(
    plan: Planner, node: OnnxNode, inputs: Sequence[OnnxValue | None]
) -> OnnxValue | None:
    """(x - mean) / sqrt(mean of (x - mean)^2 + epsilon) * scale + shift, over the last axes."""
    for value, shift in _both_ways(inputs):
        scaled = plan.made_by(value, "Mul")
        if scaled is None or len(scaled.operands) != 2 or not constant(shift):
            continue
        for normal, scale in _both_ways(scaled.operands):
            found = _standardised(plan, normal)
            if found is None or scale is None or shift is None or not constant(scale):
                continue
            x, rank, epsilon = found
            over = list(x.shape[-rank:])
            if list(scale.shape) != over or list(shift.shape) != over:
                continue

            def function(
                x: Tensor,
                scale: Tensor,
                shift: Tensor,
                over: list[int] = over,
                eps: float = epsilon,
            ) -> Tensor:
                return F.layer_norm(x, over, scale, shift, eps)

            return plan.step(node, function, [x, scale, shift])
    return None


def _standardised(plan: Planner, value: OnnxValue | None) -> tuple[OnnxValue, int, float] | None:
    """x, the number of axes and epsilon, where value is x without mean and variance."""
    quotient = plan.made_by(value, "Div")
    if quotient is None or len(quotient.operands) != 2:
        return None
    centred, root = quotient.operands[0], plan.made_by(quotient.operands[1], "Sqrt")
    difference = _step(centred, "Sub")
    added = plan.made_by(root.operands[0], "Add") if root is not None else None
    if difference is None or added is None or "number" not in added.info:
        return None
    x, mean = difference.inputs
    variance = plan.made_by(added.operands[0], "ReduceMean")
    square = plan.made_by(variance.operands[0], "Pow", "Mul") if variance is not None else None
    first = plan.made_by(mean, "ReduceMean")
    if x is None or variance is None or square is None or first is None:
        return None
    squared = square.inputs[0] is centred and (
        square.inputs[1] is centred if square.node.op == "Mul" else _near(square.inputs[1], 2)
    )
    axes = variance.info["axes"]
    last = sorted(axes) == list(range(len(x.shape) - len(axes), len(x.shape)))
    if not squared or not last or first.operands[0] is not x or first.info["axes"] != axes:
        return None
    return x, len(axes), float(added.info["number"])


def _step(value: OnnxValue | None, op: str) -> Step | None:
    step = value.step if value is not None else None
    return step if step is not None and step.node.op == op else None


def roll(plan: Planner, node: OnnxNode, parts: Sequence[OnnxValue], axis: int) -> OnnxValue | None:
    """The end of a tensor and then its beginning: torch.roll, over several axes if repeated."""
    if len(parts) != 2:
        return None
    ends = [plan.made_by(part, "Slice") for part in parts]
    if any(step is None or step.info.get("part") is None for step in ends):
        return None
    tail, head = ends
    assert tail is not None
    assert head is not None
    x = tail.operands[0]
    if x is None or head.operands[0] is not x:
        return None
    size, cut = x.shape[axis], tail.info["part"][1]
    if tail.info["part"] != (axis, cut, size, 1) or head.info["part"] != (axis, 0, cut, 1):
        return None
    shifts, axes = [size - cut], [axis]
    inner = x.step
    # the two slices are the inner roll's only readers
    if inner is not None and "roll" in inner.info and plan.reads[x.name] == 2:
        more_shifts, more_axes = inner.info["roll"]
        if axis not in more_axes:
            shifts, axes, x = [*more_shifts, *shifts], [*more_axes, *axes], inner.operands[0]
    return plan.step(
        node, lambda x: torch.roll(x, shifts, axes), [x], roll=(shifts, axes), called="roll"
    )
