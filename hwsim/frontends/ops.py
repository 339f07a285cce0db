"""What each operation becomes: the table from ATen names to layers."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from hwsim.frontends import products
from hwsim.frontends.values import Constant, Value, View
from hwsim.frontends.views import Seen, removed_axis
from hwsim.graph import Kind, Vector

if TYPE_CHECKING:
    from hwsim.frontends.lowering import Lowering

Arguments = dict[str, Any]
Handler = Callable[["Lowering", Node, Arguments], Value]

# Vector operations on each value, counted from the textbook definitions.
SOFTMAX_OPERATIONS = 5  # running maximum, difference, exponential, sum, quotient
NORM_OPERATIONS = 5  # sum, difference, square, sum of squares, scale
AFFINE_OPERATIONS = 2  # scale and shift: a batch norm whose statistics are known
REDUCTION_OPERATIONS = {
    "linalg_vector_norm": 2,  # square, sum
    "var": 4,  # sum, difference, square, sum of squares
    "std": 4,
}  # others: 1


# -- one value in, one value out -----------------------------------------------------------------


def activation(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Fused into the layer it reads if it is the only reader, else a layer of its own."""
    source = node.all_input_nodes[0]
    view = lowering.value(source)
    others = [lowering.value(other) for other in node.all_input_nodes[1:]]
    constants = [value for value in others if isinstance(value, Constant)]
    if not isinstance(view, View) or len(constants) < len(others):
        return elementwise(lowering, node, arguments)
    draft = lowering.fusible(source)
    if draft is not None and draft.seen.shape == lowering.shape(node):
        return lowering.fuse(draft, node, _activation_name(node, arguments), constants)
    return elementwise(lowering, node, arguments)


def _activation_name(node: Node, arguments: Arguments) -> str:
    name = _name(node)
    if name == "hardtanh" and (arguments["min_val"], arguments["max_val"]) == (0, 6):
        return "relu6"
    return name


def _name(node: Node) -> str:
    return node.target._schema.name.split("::")[-1].strip("_")  # type: ignore[union-attr]


# -- several values in, one out ------------------------------------------------------------------


def _views(lowering: Lowering, node: Node) -> tuple[list[View], list[Constant]]:
    """Activations and constants that a node reads, in the order of its operands."""
    views: list[View] = []
    constants: list[Constant] = []

    def sort(argument: Any) -> None:
        value = lowering.value(argument)
        if isinstance(value, View):
            views.append(value)
        elif isinstance(value, Constant):
            constants.append(value)
        elif isinstance(argument, list | tuple):
            for item in argument:
                sort(item)
        elif isinstance(value, tuple):
            raise lowering.unsupported(node, "it reads several tensors as one")

    for argument in (*node.args, *node.kwargs.values()):
        sort(argument)
    return views, constants


def _channel_axis(views: list[View], shape: tuple[int, ...]) -> int:
    """The axis of the first operand that has the shape of the result, aligned at the right."""
    view = next((v for v in views if v.shape == shape), views[0])
    return view.seen.channel_axis - len(view.shape)


def _pointwise(lowering: Lowering, node: Node, kind: Kind, each: int = 1) -> Value:
    views, constants = _views(lowering, node)
    shape = lowering.shape(node)
    axis = _channel_axis(views, shape)
    axis = axis if -axis <= len(shape) else -1
    work = Vector(each * prod(shape))
    return lowering.emit(node, kind, work, views, axis, constants=constants)


def elementwise(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    return _pointwise(lowering, node, "elementwise")


def arithmetic(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """+, -, * and /: with a number, a step of the layer before it; else a layer of its own."""
    if len(node.all_input_nodes) == 1 and not isinstance(arguments["other"], Node):
        return activation(lowering, node, arguments)
    return _pointwise(lowering, node, "add" if _name(node) == "add" else "elementwise")


def concat(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    views, constants = _views(lowering, node)
    axis = views[0].seen.channel_axis
    shape = lowering.shape(node)
    if len(views) == 1 and not constants and views[0].shape == shape:
        return views[0]  # one tensor alone stays where it is
    if _name(node) == "stack":
        axis += arguments["dim"] % len(shape) <= axis
    return lowering.emit(node, "concat", Vector(prod(shape)), views, axis, constants=constants)


# -- reductions ----------------------------------------------------------------------------------


def pool(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Maximum or average over a window: one operation for each value of each window."""
    view = lowering.view(node, arguments, "self")
    kernel = arguments["kernel_size"]
    window = [kernel] if isinstance(kernel, int) else list(kernel)
    space = _space(node)
    window = window * space if len(window) == 1 else window
    output = _first_result(node)
    shape = tuple(output.meta["val"].shape) if output is not node else lowering.shape(node)
    work = Vector(prod(window) * prod(shape))
    result = lowering.emit(node, "pool", work, [view], view.seen.channel_axis, output=output)
    return result if output is node else (result, None)


def adaptive_pool(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Pooling to a given size; to the size that is already there it changes nothing."""
    view = lowering.view(node, arguments, "self")
    space = _space(node)
    output = _first_result(node)
    shape = tuple(output.meta["val"].shape) if output is not node else lowering.shape(node)
    if shape == view.shape:
        result = view
    else:
        read = prod(map(_values_in_windows, view.shape[-space:], shape[-space:]))
        work = Vector(prod(shape[:-space]) * read)
        result = lowering.emit(node, "pool", work, [view], view.seen.channel_axis, output=output)
    return result if output is node else (result, None)


def _space(node: Node) -> int:
    """Axes of space, from the name: 2 for avg_pool2d."""
    return int(next(c for c in _name(node) if c.isdigit()))


def _values_in_windows(size: int, windows: int) -> int:
    """Values read along one axis: window i is floor(i n / w) to ceil((i+1) n / w), as in torch."""
    return sum(ceil((i + 1) * size / windows) - i * size // windows for i in range(windows))


def _first_result(node: Node) -> Node:
    """The node itself, or its first result where it returns several and only that one is read."""
    if isinstance(node.meta["val"], torch.Tensor):
        return node
    users = [user for user in node.users if user.args[1] == 0]
    if len(users) != 1 or len(node.users) != 1:
        return node  # its shape is asked for next, which is an error that names it
    return users[0]


def reduction(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Mean, sum, maximum, norm and variance over some axes."""
    view = lowering.view(node, arguments, "self")
    dims = arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else dims or list(range(len(view.shape)))
    shape = lowering.shape(node)
    axis = view.seen.channel_axis
    if len(shape) < len(view.shape):
        axis = removed_axis(view.seen, dims)
    kind: Kind = "pool" if _name(node) in ("mean", "amax") else "elementwise"
    each = REDUCTION_OPERATIONS.get(_name(node), 1)
    return lowering.emit(node, kind, Vector(each * view.values), [view], axis)


def softmax(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    return _pointwise(lowering, node, "softmax", SOFTMAX_OPERATIONS)


# -- normalisation -------------------------------------------------------------------------------


def batch_norm(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Folded into the convolution or linear layer before it, or a layer that scales and shifts."""
    source = node.all_input_nodes[0]
    view = lowering.view(node, arguments, "input")
    weight, bias = (lowering.constant(node, arguments, key) for key in ("weight", "bias"))
    if arguments.get("training"):
        raise lowering.unsupported(node, "batch norm with statistics of the batch has no model")
    output = _first_result(node)
    draft = lowering.fusible(source)
    foldable = (
        draft is not None
        and draft.kind in ("conv", "linear")
        and not draft.fused
        and draft.seen.channel_axis == 1  # the axis that batch norm works along
    )
    if draft is not None and foldable:
        draft.batch_norm = node
        result = lowering.fuse(draft, output, "batch_norm", (weight, bias))
    else:
        work = Vector(AFFINE_OPERATIONS * view.values)
        result = lowering.emit(
            node, "normalisation", work, [view], view.seen.channel_axis,
            constants=(weight, bias), output=output,
        )  # fmt: skip
    return result if output is node else (result, None, None)


def normalisation(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Layer, group, instance and RMS norm: statistics of the image itself."""
    view = lowering.view(node, arguments, "input")
    weight, bias = (
        lowering.constant(node, arguments, key) if key in arguments else None
        for key in ("weight", "bias")
    )
    each = NORM_OPERATIONS + (weight is not None) + (bias is not None)
    return lowering.emit(
        node, "normalisation", Vector(each * view.values), [view], view.seen.channel_axis,
        constants=(weight, bias),
    )  # fmt: skip


# -- copies --------------------------------------------------------------------------------------


def pad(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """Values really move to make room; a padding by nothing does not."""
    amounts = arguments["pad"] if "pad" in arguments else arguments["padding"]
    if not any(amounts):
        view = lowering.view(node, arguments, "self" if "self" in arguments else "input")
        return View(view.draft, Seen(view.shape, view.seen.channel_axis))
    return elementwise(lowering, node, arguments)


def convert(lowering: Lowering, node: Node, arguments: Arguments) -> Value:
    """A change of number format: nothing between floats, since widths are chosen elsewhere."""
    source = node.all_input_nodes[0]
    both = (source.meta["val"].dtype, node.meta["val"].dtype)
    if both[0] == both[1] or all(dtype.is_floating_point for dtype in both):
        return lowering.value(source)
    return elementwise(lowering, node, arguments)


def _table(handler: Handler, *names: str) -> dict[str, Handler]:
    return dict.fromkeys(names, handler)


# Results that take an activation's shape and type but none of its values.
LIKE = frozenset(
    ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like",
     "empty_like")
)  # fmt: skip

HANDLERS: dict[str, Handler] = {
    **_table(products.convolution, "conv1d", "conv2d", "convolution"),
    **_table(products.linear, "linear"),
    **_table(products.addmm, "addmm", "baddbmm"),
    **_table(products.matmul, "matmul", "mm", "bmm"),
    **_table(products.einsum, "einsum"),
    **_table(
        activation, "relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max", "hardswish",
        "hardsigmoid", "silu", "gelu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "celu",
        "mish", "softplus", "softsign", "hardshrink", "softshrink", "threshold", "prelu",
        "_prelu_kernel", "log_sigmoid", "rrelu",
    ),
    **_table(arithmetic, "add", "sub", "mul", "div"),
    **_table(
        elementwise, "rsub", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "pow", "square", "erf",
        "sin", "cos", "reciprocal", "sign", "floor", "round", "maximum", "minimum", "where",
        "masked_fill", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and",
        "logical_or", "lerp", "addcmul", "glu",
    ),
    **_table(
        elementwise, "roll", "flip", "repeat", "repeat_interleave", "index", "index_select",
        "gather", "embedding", "tril", "triu", "slice_scatter", "select_scatter", "copy",
        "masked_scatter", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    ),
    **_table(pad, "pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"),
    **_table(convert, "_to_copy", "to"),
    **_table(concat, "cat", "stack"),
    **_table(pool, "max_pool1d", "max_pool2d", "max_pool2d_with_indices", "avg_pool1d",
             "avg_pool2d"),
    **_table(adaptive_pool, "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d",
             "adaptive_max_pool2d", "_adaptive_avg_pool2d"),
    **_table(reduction, "mean", "sum", "amax", "amin", "linalg_vector_norm", "var", "std"),
    **_table(softmax, "softmax", "_softmax", "log_softmax", "_log_softmax"),
    **_table(batch_norm, "_native_batch_norm_legit_no_training", "batch_norm"),
    **_table(normalisation, "layer_norm", "group_norm", "instance_norm", "rms_norm"),
}  # fmt: skip
