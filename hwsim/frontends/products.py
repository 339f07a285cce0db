"""Convolutions, linear layers and matrix products: everything with multiply-accumulates."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from hwsim.frontends.values import Constant, Value, View
from hwsim.graph import Conv, Linear, Matmul

if TYPE_CHECKING:
    from hwsim.frontends.lowering import Lowering

Arguments = dict[str, Any]


def convolution(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """conv1d and conv2d; a one-dimensional one is a convolution of height 1."""
    view = lowering.view(node, arguments, "input")
    weight = lowering.constant(node, arguments, "weight")
    bias = lowering.constant(node, arguments, "bias")
    output = lowering.shape(node)
    assert weight is not None
    if arguments.get("transposed"):
        raise lowering.unsupported(node, "a transposed convolution has no model")
    dimensions = len(weight.shape) - 2
    if dimensions not in (1, 2) or len(view.shape) != dimensions + 2:
        raise lowering.unsupported(
            node, "a convolution needs a batch, channels, and one or two axes of space"
        )
    kernel, stride, dilation = (
        _pair(values, dimensions)
        for values in (weight.shape[2:], arguments["stride"], arguments["dilation"])
    )
    work = Conv(
        in_channels=view.shape[1],
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=stride,
        padding=_padding(lowering, node, arguments["padding"], kernel, dilation, dimensions),
        dilation=dilation,
        groups=arguments["groups"],
        ifmap_size=_plane(view.shape[2:]),
        ofmap_size=_plane(output[2:]),
    )
    return lowering.emit(
        node, "conv", work, [view], 1,
        constants=(weight, bias), weight=weight, weight_axis=0, bias=bias,
    )  # fmt: skip


def _plane(size: tuple[int, ...]) -> tuple[int, int]:
    return (1, size[0]) if len(size) == 1 else (size[0], size[1])


def _pair(values: Any, dimensions: int, alone: int = 1) -> tuple[int, int]:
    """(height, width) from one value per dimension, or one for all; height `alone` in 1-D."""
    values = [values] if isinstance(values, int) else list(values)
    values = values * dimensions if len(values) == 1 else values
    return (alone, values[0]) if dimensions == 1 else (values[0], values[1])


def _padding(
    lowering: Lowering,
    node: Node,
    padding: Any,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    dimensions: int,
) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding == "same":
        both_sides = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if any(total % 2 for total in both_sides):
            raise lowering.unsupported(
                node, "padding 'same' of an even kernel is not the same on both sides; pad first"
            )
        return both_sides[0] // 2, both_sides[1] // 2
    return _pair(padding, dimensions, alone=0)


def linear(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """input (..., K) times weight (N, K) transposed, plus bias."""
    rank = len(lowering.shape(node))
    rows = tuple(f"row{i}" for i in range(rank - 1))
    return _product(
        lowering, node, arguments["input"], arguments["weight"],
        (*rows, "k"), ("n", "k"), (*rows, "n"), arguments.get("bias"),
    )  # fmt: skip


def addmm(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """bias + mat1 @ mat2, and the same for a batch of them."""
    if arguments["beta"] != 1 or arguments["alpha"] != 1:
        raise lowering.unsupported(node, "only beta = 1 and alpha = 1 have a model")
    first, second = ("batch1", "batch2") if "batch1" in arguments else ("mat1", "mat2")
    return _matmul(lowering, node, arguments[first], arguments[second], arguments.get("self"))


def matmul(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """matmul, mm and bmm."""
    second = "other" if "other" in arguments else "mat2"
    return _matmul(lowering, node, arguments["self"], arguments[second], None)


def _matmul(lowering: Lowering, node: Node, first: Node, second: Node, bias: Any) -> Value:
    first_shape, second_shape = (lowering.shape(n) for n in (first, second))
    rank = len(lowering.shape(node))
    batch = max(len(first_shape), len(second_shape)) - 2
    lead = [f"b{i}" for i in range(max(batch, 0))]
    row, column = ["m"] * (len(first_shape) > 1), ["n"] * (len(second_shape) > 1)
    a = [*lead[max(batch, 0) - max(len(first_shape) - 2, 0) :], *row, "k"]
    b = [*lead[max(batch, 0) - max(len(second_shape) - 2, 0) :], "k", *column]
    out = [*lead, *row, *column]
    assert len(out) == rank
    return _product(lowering, node, first, second, tuple(a), tuple(b), tuple(out), bias)


def einsum(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """A product of two tensors; sums over one tensor alone have no model."""
    equation, tensors = arguments["equation"].replace(" ", ""), arguments["tensors"]
    if len(tensors) != 2 or "." in equation or "->" not in equation:
        raise lowering.unsupported(
            node, f"einsum {equation!r} is not of the form 'ab,bc->ac' with two tensors"
        )
    terms, out = equation.split("->")
    a, b = terms.split(",")
    if any(len(set(term)) != len(term) for term in (a, b)):
        raise lowering.unsupported(node, f"einsum {equation!r} takes a diagonal")
    first, second = tensors
    return _product(lowering, node, first, second, tuple(a), tuple(b), tuple(out), None)


def _product(
    lowering: Lowering,
    node: Node,
    first: Node,
    second: Node,
    a: tuple[str, ...],
    b: tuple[str, ...],
    out: tuple[str, ...],
    bias_argument: Any,
) -> Value:
    """A sum of products over labelled axes, as in einsum.

    With a constant operand it is a linear layer, whose output channels are the constant's own
    axis; with two activations it is a matmul, and axes that both have and that stay are its groups.
    """
    left, right = lowering.values[first], lowering.values[second]
    bias = lowering.constant(node, {"bias": bias_argument}, "bias")
    if not isinstance(left, View | Constant) or not isinstance(right, View | Constant):
        raise lowering.unsupported(node, "a product needs two tensors")
    if isinstance(left, Constant):  # the constant second: its axes are the columns
        left, right, a, b = right, left, b, a
    assert isinstance(left, View)
    size = {label: n for labels, shape in ((a, left.shape), (b, right.shape))
            for label, n in zip(labels, shape, strict=True) if n > 1}  # fmt: skip
    wide_a = {label for label, n in zip(a, left.shape, strict=True) if n > 1}
    wide_b = {label for label, n in zip(b, right.shape, strict=True) if n > 1}
    if any(label not in out for label in wide_a ^ wide_b):
        raise lowering.unsupported(node, "it sums over an axis that only one operand has")

    def total(labels: set[str]) -> int:
        return prod(size[label] for label in labels)

    groups = total(wide_a & wide_b & set(out))
    reduction = total((wide_a & wide_b) - set(out))
    pixels, columns = total(wide_a - wide_b), total(wide_b - wide_a)
    if isinstance(right, View):
        return lowering.emit(
            node, "matmul", Matmul(groups, pixels, reduction, columns), [left, right], -1,
            constants=[bias],
        )  # fmt: skip
    if groups > 1:
        raise lowering.unsupported(
            node, "a product with a stack of constant matrices has no model; use a grouped conv"
        )
    channels = [label for label in b if label in out and label not in wide_a]
    channel = next((label for label in channels if label in wide_b), channels[-1:] and channels[-1])
    if len([label for label in channels if label in wide_b]) > 1 or not channel:
        raise lowering.unsupported(node, "its constant operand needs one axis of output channels")
    axis = b.index(channel)
    return lowering.emit(
        node, "linear", Linear(pixels, reduction, columns), [left], out.index(channel),
        constants=(right, bias), weight=right, bias=bias,
        weight_axis=right.axes[axis] if right.name else None,
    )  # fmt: skip
