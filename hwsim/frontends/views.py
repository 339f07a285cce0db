"""Where the channels are after a change of address: reshape, permute, slice and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A tensor as an operation sees it: shape, and the axis that holds its channels."""

    shape: Shape
    channel_axis: int


def reshaped_axis(shape: Shape, axis: int, new_shape: Shape) -> int:
    """The axis of `new_shape` that holds the channels after a row-major reshape.

    It is the innermost axis along which the channel changes: channels merged with other axes are
    on the merged axis, channels split over several axes are on the innermost of them. An axis of
    size 1 keeps its place as far as there is one.
    """
    if shape[axis] > 1:
        inner = prod(shape[axis + 1 :])
        stride = 1
        for new_axis in reversed(range(len(new_shape))):
            stride *= new_shape[new_axis]
            if inner % stride:  # the axis and those inside it do not fit within one channel
                return new_axis
    return min(axis, len(new_shape) - 1)


def _same(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return seen.channel_axis


def _reshape(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return reshaped_axis(seen.shape, seen.channel_axis, shape)


def _permute(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return permutation("permute", arguments, len(shape)).index(seen.channel_axis)


def _transpose(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return permutation("transpose", arguments, len(shape)).index(seen.channel_axis)


def _t(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return permutation("t", arguments, len(shape)).index(seen.channel_axis)


def _unsqueeze(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return seen.channel_axis + (arguments["dim"] % len(shape) <= seen.channel_axis)


def _squeeze(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    dims = arguments.get("dim", range(len(seen.shape)))
    dims = [dims] if isinstance(dims, int) else dims
    return removed_axis(seen, [d for d in dims if seen.shape[d] == 1])


def _select(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return removed_axis(seen, [arguments["dim"]])


def _expand(seen: Seen, arguments: dict[str, Any], shape: Shape) -> int:
    return seen.channel_axis + len(shape) - len(seen.shape)


def permutation(op: str, arguments: dict[str, Any], rank: int) -> list[int]:
    """Old axis at each new place, for permute, transpose and t."""
    if op == "permute":
        return [d % rank for d in arguments["dims"]]
    order = list(range(rank))
    first, second = (0, rank - 1) if op == "t" else (arguments["dim0"], arguments["dim1"])
    order[first], order[second] = order[second], order[first]
    return order


def removed_axis(seen: Seen, dims: Sequence[int]) -> int:
    """The channel axis once `dims` are gone; the last axis if it was among them."""
    gone = {d % len(seen.shape) for d in dims}
    left = [axis for axis in range(len(seen.shape)) if axis not in gone]
    if seen.channel_axis in left:
        return left.index(seen.channel_axis)
    return max(len(left) - 1, 0)


# Operations that only change where values are looked for (or copy them for that purpose).
# The dropout of an evaluated network arrives here as a clone.
VIEWS = {
    **dict.fromkeys(
        ("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "positive", "slice",
         "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "pixel_shuffle",
         "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
        _same,
    ),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten"), _reshape),
    "permute": _permute,
    "transpose": _transpose,
    "t": _t,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "select": _select,
    "unbind": _select,
    "expand": _expand,
}  # fmt: skip
