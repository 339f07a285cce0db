"""ONNX operators that change where values are: shapes, parts, copies."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwsim.frontends import onnx_patterns as patterns
from hwsim.frontends.onnx_file import OnnxNode
from hwsim.frontends.onnx_plan import Handler, Inputs, OnnxValue, Planner, optional

Function = Callable[..., Tensor]


def reshape(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    sizes = node.attributes.get("shape") or plan.ints(node, optional(inputs, 1), "shape")
    if sizes is None:
        raise plan.unsupported(node, "its shape is missing")
    if not node.attributes.get("allowzero", 0):
        sizes = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(sizes)]
    sizes = list(sizes)
    batch = plan.inputs[0].shape[0]
    if batch > 1 and x.shape[0] == batch and sizes[0] == 1:
        sizes[0] = batch  # a file made for one image, run on several
    return plan.step(node, lambda x: x.reshape(sizes), [x])


def flatten(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    axis = node.attributes.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    rows = prod(x.shape[:axis])
    return plan.step(node, lambda x: x.reshape(rows, -1), [x])


def transpose(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    order = [int(axis) for axis in node.attributes.get("perm", range(len(x.shape))[::-1])]
    return plan.step(node, lambda x: x.permute(order), [x])


def squeeze(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    axes = plan.axes(node, inputs, 1, len(x.shape))
    gone = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes
    if any(x.shape[i] != 1 for i in gone):
        raise plan.unsupported(node, f"axes {gone} of shape {x.shape} are not all of size 1")
    return plan.step(node, lambda x: x.squeeze(gone), [x])


def unsqueeze(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    given = node.attributes.get("axes") or plan.ints(node, optional(inputs, 1), "axes") or []
    axes = plan.axes(node, inputs, 1, len(x.shape) + len(given)) or []

    def function(x: Tensor) -> Tensor:
        for axis in sorted(axes):
            x = x.unsqueeze(axis)
        return x

    return plan.step(node, function, [x])


def expand(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    wanted = plan.ints(node, optional(inputs, 1), "shape") or []
    rank = max(len(wanted), len(x.shape))
    wanted = [1] * (rank - len(wanted)) + wanted
    have = [1] * (rank - len(x.shape)) + list(x.shape)
    sizes = [h if w == 1 else w for h, w in zip(have, wanted, strict=True)]
    return x if tuple(sizes) == x.shape else plan.step(node, lambda x: x.expand(sizes), [x])


def tile(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    times = plan.ints(node, optional(inputs, 1), "repeats") or []
    return x if set(times) <= {1} else plan.step(node, lambda x: x.repeat(times), [x])


def concat(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    each = [v for v in inputs if v is not None]
    axis = plan.axis(node, node.attributes.get("axis", 0), len(each[0].shape))
    rolled = patterns.roll(plan, node, each, axis)
    return rolled or plan.step(node, lambda *tensors: torch.cat(tensors, axis), each)


def split(plan: Planner, node: OnnxNode, inputs: Inputs) -> tuple[OnnxValue, ...]:
    x = plan.given(node, inputs)
    axis = plan.axis(node, node.attributes.get("axis", 0), len(x.shape))
    sizes = node.attributes.get("split") or plan.ints(node, optional(inputs, 1), "sizes")
    if sizes is None:
        each = -(-x.shape[axis] // len(node.outputs))
        starts = range(0, x.shape[axis], each)
        sizes = [min(each, x.shape[axis] - start) for start in starts]
    sizes = list(sizes)
    return plan.split_step(node, lambda x: x.split(sizes, axis), [x])


def split_to_sequence(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Parts of one axis, which SequenceAt takes out again."""
    x = plan.given(node, inputs)
    axis = plan.axis(node, node.attributes.get("axis", 0), len(x.shape))
    sizes = plan.ints(node, optional(inputs, 1), "sizes")
    if sizes is None or min(sizes, default=0) < 1:
        raise plan.unsupported(node, "the sizes of its parts are missing")
    if optional(inputs, 1).shape == ():  # type: ignore[union-attr]  # one size for all
        whole, left = divmod(x.shape[axis], sizes[0])
        sizes = [sizes[0]] * whole + [left] * (left > 0)
    parts = plan.split_step(node, lambda x: x.split(sizes, axis), [x])
    for part in parts:
        part.name = ""
    return OnnxValue(node.outputs[0], (), x.dtype, parts=parts)


def sequence_at(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    parts = plan.given(node, inputs).parts
    where = plan.ints(node, optional(inputs, 1), "position")
    if not parts or where is None or not -len(parts) <= where[0] < len(parts):
        raise plan.unsupported(node, f"position {where} of a sequence of {len(parts)}")
    return parts[where[0]]


def slice_(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """A part along each axis; a negative step reads backwards."""
    x = plan.given(node, inputs)
    rank = len(x.shape)
    starts, ends = (
        node.attributes.get(name) or plan.ints(node, optional(inputs, i), name)
        for i, name in ((1, "starts"), (2, "ends"))
    )
    if starts is None or ends is None:
        raise plan.unsupported(node, "its starts or ends are missing")
    axes = plan.axes(node, inputs, 3, rank) or list(range(len(starts)))
    steps = plan.ints(node, optional(inputs, 4), "steps") or [1] * len(starts)
    parts: list[tuple[int, int, int, int]] = []
    backwards: list[int] = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        n = x.shape[axis]
        if step == 0:
            raise plan.unsupported(node, "a step of 0")
        first, last, stride = slice(start, end, step).indices(n)
        if step < 0:
            backwards.append(axis)
            first, last, stride = n - 1 - first, n - 1 - last, -step
        if (first, max(first, last), stride) != (0, n, 1):
            parts.append((axis, first, max(first, last), stride))
    if not parts and not backwards:
        return x

    def function(x: Tensor) -> Tensor:
        x = x.flip(backwards) if backwards else x
        for axis, first, last, stride in parts:
            x = torch.ops.aten.slice.Tensor(x, axis, first, last, stride)
        return x

    part = parts[0] if len(parts) == 1 and not backwards else None
    return plan.step(node, function, [x], part=part)


def gather(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """One place of an axis, a run of places (both changes of address), or any places."""
    x, where = plan.given(node, inputs), plan.given(node, inputs, 1)
    axis = plan.axis(node, node.attributes.get("axis", 0), len(x.shape))
    n = x.shape[axis]
    if where.array is None:
        if not where.constant and not (where.step and x.constant and axis == 0):
            raise plan.unsupported(node, "its indices depend on the input")
    elif where.array.size and not (-n <= where.array.min() and where.array.max() < n):
        raise plan.unsupported(node, f"an index beyond the {n} places of axis {axis}")
    else:
        places = where.array.reshape(-1) % n
        if where.shape == ():
            place = int(places[0])
            return plan.step(node, lambda x: x.select(axis, place), [x])
        if places.size and (np.diff(places) == 1).all():
            first, last = int(places[0]), int(places[-1]) + 1
            run = (*x.shape[:axis], *where.shape, *x.shape[axis + 1 :])

            def part(x: Tensor) -> Tensor:
                x = torch.ops.aten.slice.Tensor(x, axis, first, last, 1)
                return x.reshape(run) if x.shape != run else x

            return plan.step(node, part, [x])
        where = plan.known(node, places.reshape(where.shape).astype(np.int64))
        where.name = f"{node.name}_indices"
    sizes = (*x.shape[:axis], *where.shape, *x.shape[axis + 1 :])

    def function(x: Tensor, where: Tensor) -> Tensor:
        found = torch.index_select(x, axis, where.reshape(-1))
        return found.reshape(sizes) if len(where.shape) != 1 else found

    return plan.step(node, function, [x, where])


def scatter_nd(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x, indices, updates = (plan.given(node, inputs, i) for i in range(3))
    if node.attributes.get("reduction", "none") != "none":
        raise plan.unsupported(node, "scatter with a reduction")

    def function(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        return torch.index_put(x, indices.unbind(-1), updates)

    return plan.step(node, function, [x, indices, updates])


def gather_nd(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x, indices = (plan.given(node, inputs, i) for i in range(2))
    if node.attributes.get("batch_dims", 0):
        raise plan.unsupported(node, "gather with batch axes")
    return plan.step(node, lambda x, indices: x[tuple(indices.unbind(-1))], [x, indices])


def pad(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    amounts = node.attributes.get("pads") or plan.ints(node, optional(inputs, 1), "pads")
    rank = len(x.shape)
    axes = plan.axes(node, inputs, 3, rank) or list(range(rank))
    if amounts is None or len(amounts) != 2 * len(axes):
        raise plan.unsupported(node, f"expected two amounts for each of {len(axes)} axes")
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    way = mode.get(node.attributes.get("mode", "constant"))
    if way is None:
        raise plan.unsupported(node, f"padding mode {node.attributes.get('mode')!r}")
    each = {axis: (amounts[i], amounts[i + len(axes)]) for i, axis in enumerate(axes)}
    if not any(amounts):
        return x
    outer = min(axis for axis, pair in each.items() if any(pair))
    flat = [n for axis in range(outer, rank)[::-1] for n in each.get(axis, (0, 0))]
    fill_value = optional(inputs, 2)
    fill = node.attributes.get("value", 0.0) if fill_value is None else fill_value.number
    if fill is None:
        raise plan.unsupported(node, "its fill value is not known")
    number = float(fill)
    if way == "constant":
        return plan.step(node, lambda x: F.pad(x, flat, value=number), [x])
    return plan.step(node, lambda x: F.pad(x, flat, mode=way), [x])


def resize(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    """Nearest, linear and cubic interpolation of a plane."""
    x = plan.given(node, inputs)
    way = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}.get(
        node.attributes.get("mode", "nearest")
    )
    old = node.op == "Upsample" or plan.file.opset < 11
    scales = plan.array(node, optional(inputs, 1 if old else 2), "scales")
    if scales is None and "scales" in node.attributes:
        scales = np.array(node.attributes["scales"])
    sizes = None if old else plan.ints(node, optional(inputs, 3), "sizes")
    if sizes is None and scales is not None:
        full = [1.0] * (len(x.shape) - scales.size) + [float(s) for s in scales.reshape(-1)]
        sizes = [floor(n * s) for n, s in zip(x.shape, full, strict=True)]
    if way is None or sizes is None or len(x.shape) != 4 or node.attributes.get("antialias", 0):
        raise plan.unsupported(node, "only nearest, linear and cubic resizing of planes")
    sizes = list(x.shape[: 4 - len(sizes)]) + sizes
    if tuple(sizes[:2]) != x.shape[:2] or min(sizes) < 1:
        raise plan.unsupported(node, f"it resizes {x.shape} to {tuple(sizes)}, not a plane alone")
    plane = sizes[2:]
    coordinates = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    corners = coordinates == "align_corners"
    exact = corners or "half_pixel" in coordinates
    if way == "nearest":
        exact = coordinates == "asymmetric" and node.attributes.get("nearest_mode") == "floor"
        return _resized(plan, node, x, lambda x: F.interpolate(x, plane, mode="nearest"), exact)
    return _resized(
        plan, node, x, lambda x: F.interpolate(x, plane, mode=way, align_corners=corners), exact
    )


def _resized(plan: Planner, node: OnnxNode, x: OnnxValue, function: Function, exact: bool) -> OnnxValue:  # noqa: E501  # fmt: skip
    if not exact:
        plan.approximate.append(node.name)
    return plan.step(node, function, [x])


def depth_to_space(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    block = int(node.attributes.get("blocksize", 1))
    if len(x.shape) != 4 or block < 1 or x.shape[1] % block**2:
        raise plan.unsupported(node, f"blocks of {block} x {block} of a tensor {x.shape}")
    if node.attributes.get("mode", "DCR") == "CRD":
        return plan.step(node, lambda x: F.pixel_shuffle(x, block), [x])
    n, c, h, w = x.shape

    def function(x: Tensor) -> Tensor:
        x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // block**2, h * block, w * block)

    return plan.step(node, function, [x])


def space_to_depth(plan: Planner, node: OnnxNode, inputs: Inputs) -> OnnxValue:
    x = plan.given(node, inputs)
    block = int(node.attributes.get("blocksize", 1))
    if len(x.shape) != 4 or block < 1 or x.shape[2] % block or x.shape[3] % block:
        raise plan.unsupported(node, f"blocks of {block} x {block} of a tensor {x.shape}")
    n, c, h, w = x.shape

    def function(x: Tensor) -> Tensor:
        x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, c * block**2, h // block, w // block)

    return plan.step(node, function, [x])


PLACES: dict[str, Handler] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Split": split,
    "SplitToSequence": split_to_sequence,
    "SequenceAt": sequence_at,
    "Slice": slice_,
    "Gather": gather,
    "GatherND": gather_nd,
    "ScatterND": scatter_nd,
    "Pad": pad,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
