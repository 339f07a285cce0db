"""Properties of the capture: channels through views, MACs of any product."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hwsim.frontends.models import from_module
from hwsim.frontends.views import VIEWS, Seen, removed_axis, reshaped_axis

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """A shape, a channel axis, and another shape with as many values."""
    shape = draw(shapes)
    left, new_shape = prod(shape), []
    while left > 1 and len(new_shape) < 4:
        size = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        new_shape.append(size)
        left //= size
    return shape, draw(st.integers(0, len(shape) - 1)), (*new_shape, left)


def channel_of_each_value(shape: tuple[int, ...], axis: int) -> Tensor:
    at_axis = [1] * len(shape)
    at_axis[axis] = shape[axis]
    return torch.arange(shape[axis]).reshape(at_axis).expand(shape)


def varies(channel: Tensor, axis: int) -> bool:
    """Whether the channel changes from one place to the next along the axis."""
    return bool((channel.diff(dim=axis) != 0).any())


@given(reshapes())
def test_a_reshape_leaves_the_channels_on_the_innermost_axis_along_which_they_change(
    case: tuple[tuple[int, ...], int, tuple[int, ...]],
) -> None:
    shape, axis, new_shape = case
    channel = channel_of_each_value(shape, axis).reshape(new_shape)
    found = reshaped_axis(shape, axis, new_shape)
    assert 0 <= found < len(new_shape)
    if shape[axis] > 1:
        along = [i for i in range(len(new_shape)) if varies(channel, i)]
        assert found == along[-1]


@given(shape=shapes, data=st.data())
def test_channels_follow_every_change_of_address(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    rank = len(shape)
    axis = data.draw(st.integers(0, rank - 1))
    any_axis = st.integers(-rank, rank - 1)
    channel, seen = channel_of_each_value(shape, axis), Seen(shape, axis)
    order = data.draw(st.permutations(range(rank)))
    first, second, removed = (data.draw(any_axis) for _ in range(3))
    new = data.draw(st.integers(-rank - 1, rank))
    results = {
        "permute": (channel.permute(order), {"dims": order}),
        "transpose": (channel.transpose(first, second), {"dim0": first, "dim1": second}),
        "unsqueeze": (channel.unsqueeze(new), {"dim": new}),
        "squeeze": (channel.squeeze(), {}),
        "select": (channel.select(removed, 0), {"dim": removed}),
        "expand": (channel.expand(2, *shape), {}),
        "clone": (channel.clone(), {}),
    }
    for operation, (result, arguments) in results.items():
        if result.dim() == 0:
            continue
        found = VIEWS[operation](seen, arguments, tuple(result.shape))
        assert 0 <= found < result.dim()
        if varies(result, found) or (result != 0).any():  # the channel is still there
            assert varies(result, found), operation


def test_an_axis_that_is_taken_away_with_its_channels_leaves_the_last_one() -> None:
    assert removed_axis(Seen((2, 3, 4), 1), [1]) == 1
    assert removed_axis(Seen((2, 3, 4), 2), [0, -2]) == 0


class Matmul(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x, y)


sizes = st.integers(1, 4)


@settings(max_examples=12)
@given(m=sizes, k=sizes, n=sizes, data=st.data())
def test_a_product_has_as_many_macs_as_values_times_their_reduction(
    m: int, k: int, n: int, data: st.DataObject
) -> None:
    batch = data.draw(st.lists(sizes, max_size=2))
    left = [data.draw(st.sampled_from([1, b])) for b in batch]
    right = [data.draw(st.sampled_from([1, b])) for b in batch]
    shorter = right[data.draw(st.integers(0, len(right))) :]  # broadcasts to the other's rank
    x, y = (1, *left, m, k), (1, *shorter, k, n)
    graph = from_module(Matmul(), [x, y], "product")
    (layer,) = [layer for layer in graph if layer.kind == "matmul"]
    assert layer.macs == layer.output.values * k
    assert layer.gemm is not None
    assert layer.gemm.groups * layer.gemm.pixels * layer.gemm.columns == layer.output.values


@settings(max_examples=12)
@given(
    groups=st.integers(1, 3), per_group=st.tuples(sizes, sizes), kernel=st.tuples(sizes, sizes),
    stride=st.tuples(sizes, sizes), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)), bias=st.booleans(),
    size=st.tuples(st.integers(8, 12), st.integers(8, 12)),
)  # fmt: skip
def test_a_convolution_has_the_macs_that_torch_counts(
    groups: int, per_group: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], dilation: tuple[int, int], bias: bool, size: tuple[int, int],
) -> None:  # fmt: skip
    conv = nn.Conv2d(
        groups * per_group[0], groups * per_group[1], kernel, stride, padding, dilation, groups,
        bias=bias, device="meta",
    )  # fmt: skip
    shape = (1, groups * per_group[0], *size)
    with FlopCounterMode(display=False) as counter:
        expected = conv(torch.empty(shape, device="meta"))
    (layer,) = from_module(conv, shape, "conv").weighted
    assert 2 * layer.macs == counter.get_total_flops()
    assert layer.output.shape == tuple(expected.shape)
    assert layer.params == sum(parameter.numel() for parameter in conv.parameters())
    assert layer.weights_per_channel == conv.weight[0].numel()
