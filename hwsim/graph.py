"""LayerGraph: what a network computes, layer by layer, as shapes and edges; no weights.

One node is one piece of work for the hardware. Batch norm is folded into the layer before it and
activations are fused into their producer, so an edge is a tensor that really moves. Reshapes,
slices and transposes are changes of address: they stand in the shape that a reader sees, not in
a node. All shapes are those of one image (batch 1); a simulator multiplies by its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import networkx as nx

from hwsim.liveness import Liveness

Kind = Literal[
    "input", "conv", "linear", "matmul", "pool", "add", "concat", "softmax", "normalisation",
    "elementwise",
]  # fmt: skip

# Of one layer and one image: beyond any network, and small enough that counts over the largest
# batch (2**16 images) stay within 64 bits.
MAX_CHANNELS = 2**24
MAX_VALUES = 2**36
MAX_MACS = 2**46


@dataclass(frozen=True)
class Tensor:
    """A tensor that crosses an edge, as its reader sees it.

    name: the layer that writes it. shape: with a leading batch dimension of 1, for one image.
    channel_axis: the axis that holds channels (1 for NCHW, last for token layouts).
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int = 1

    @property
    def values(self) -> int:
        """Number of values for one image."""
        return prod(self.shape)

    @property
    def channels(self) -> int:
        return self.shape[self.channel_axis] if self.shape else 1


@dataclass(frozen=True)
class Gemm:
    """`groups` independent products (pixels x reduction) @ (reduction x columns), one image."""

    groups: int
    pixels: int  # T: rows streamed, ofmap pixels or tokens
    reduction: int  # K: values of one filter
    columns: int  # N: filters of one group

    @property
    def macs(self) -> int:
        return self.groups * self.pixels * self.reduction * self.columns


@dataclass(frozen=True)
class Conv:
    """Geometry of a 2-D convolution; pairs are (height, width)."""

    in_channels: int  # C
    out_channels: int  # M
    kernel: tuple[int, int]  # R, S
    stride: tuple[int, int]  # U
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    ifmap_size: tuple[int, int]  # H, W without padding
    ofmap_size: tuple[int, int]  # E, F

    def __post_init__(self) -> None:
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"conv: groups must divide the {self.in_channels} input and "
                f"{self.out_channels} output channels, got {self.groups}"
            )
        for axis in (0, 1):
            span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            want = (self.ifmap_size[axis] + 2 * self.padding[axis] - span) // self.stride[axis] + 1
            if want != self.ofmap_size[axis] or want < 1:
                raise ValueError(
                    f"conv: ofmap size {self.ofmap_size} does not follow from ifmap "
                    f"{self.ifmap_size}, kernel {self.kernel}, stride {self.stride}, padding "
                    f"{self.padding}, dilation {self.dilation}; axis {axis} would be {want}"
                )

    @property
    def gemm(self) -> Gemm:
        return Gemm(
            groups=self.groups,
            pixels=prod(self.ofmap_size),
            reduction=self.in_channels // self.groups * prod(self.kernel),
            columns=self.out_channels // self.groups,
        )


@dataclass(frozen=True)
class Linear:
    """`pixels` rows of in_features times a matrix of in_features x out_features."""

    pixels: int
    in_features: int
    out_features: int

    @property
    def gemm(self) -> Gemm:
        return Gemm(1, self.pixels, self.in_features, self.out_features)


@dataclass(frozen=True)
class Matmul:
    """Product of two activation tensors: per group (pixels x reduction) @ (reduction x columns).

    The second input of the layer plays the stationary operand.
    """

    groups: int
    pixels: int
    reduction: int
    columns: int

    @property
    def gemm(self) -> Gemm:
        return Gemm(self.groups, self.pixels, self.reduction, self.columns)


@dataclass(frozen=True)
class Vector:
    """Work of the vector unit: `operations` on single values (a 2 x 2 pool: 4 a value written)."""

    operations: int

    @property
    def gemm(self) -> None:
        return None


Work = Conv | Linear | Matmul | Vector


@dataclass(frozen=True)
class Layer:
    """One node of the graph.

    name: unique; the module's path where there is one ("layer1.0.conv1"; a module called twice
    gives "conv" and "conv#2"), else the exported node's name.
    inputs: tensors as this layer reads them, in the order of its operands. Constants and
    parameters are not inputs. output: the tensor written, after everything that is fused.
    weight, bias: names of the module's parameters (conv and linear only).
    params: parameters that this layer is the first to use (weights, bias, folded batch norm).
    node: exported node whose value is the output; op, source: where the layer came from.
    fused: names of the operations folded into this layer ("batch_norm", "relu").
    """

    name: str
    kind: Kind
    work: Work
    inputs: tuple[Tensor, ...]
    output: Tensor
    weight: str | None = None
    bias: str | None = None
    params: int = 0
    fused: tuple[str, ...] = ()
    node: str = ""
    op: str = ""
    source: str = ""

    @property
    def gemm(self) -> Gemm | None:
        """The layer as a matrix product; None for the vector unit's layers."""
        return self.work.gemm

    @property
    def macs(self) -> int:
        gemm = self.gemm
        return gemm.macs if gemm else 0

    @property
    def weighted(self) -> bool:
        """Whether the layer has weights whose bit width is chosen per output channel."""
        return self.kind in ("conv", "linear")

    @property
    def out_channels(self) -> int:
        """Output channels of a weighted layer: the number of bit widths that it needs."""
        gemm = self.gemm
        if gemm is None or not self.weighted:
            raise ValueError(f"layer {self.name!r}: a {self.kind} layer has no weights")
        return gemm.groups * gemm.columns

    @property
    def weights_per_channel(self) -> int:
        """Weights behind one output channel of a weighted layer."""
        gemm = self.gemm
        if gemm is None or not self.weighted:
            raise ValueError(f"layer {self.name!r}: a {self.kind} layer has no weights")
        return gemm.reduction


@dataclass(frozen=True)
class LayerGraph:
    """Layers in execution order. Raises ValueError for a name used twice or read before written,
    and for a layer too large for the models.

    outputs: layers whose tensors leave the network. params: all parameters of the network.
    """

    name: str
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    _by_name: dict[str, Layer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ready: dict[str, Layer] = {}
        for layer in self.layers:
            self._check_size(layer)
            if layer.name in ready:
                raise ValueError(f"graph {self.name!r}: two layers are called {layer.name!r}")
            if (layer.kind == "input") != (not layer.inputs):
                raise ValueError(
                    f"graph {self.name!r}: layer {layer.name!r} of kind {layer.kind} reads "
                    f"{len(layer.inputs)} tensors; only input layers, and they alone, read none"
                )
            for tensor in layer.inputs:
                if tensor.name not in ready:
                    raise ValueError(
                        f"graph {self.name!r}: layer {layer.name!r} reads {tensor.name!r}, which "
                        f"does not come before it; layers so far: {', '.join(ready) or 'none'}"
                    )
            ready[layer.name] = layer
        for name in self.outputs:
            if name not in ready:
                raise ValueError(f"graph {self.name!r}: output {name!r} is not a layer")
        object.__setattr__(self, "_by_name", ready)

    def _check_size(self, layer: Layer) -> None:
        counts = {
            "channels": (max(layer.output.channels, _columns(layer)), MAX_CHANNELS),
            "values": (max(t.values for t in (layer.output, *layer.inputs)), MAX_VALUES),
            "multiplications": (layer.macs, MAX_MACS),
        }
        for what, (count, most) in counts.items():
            if count > most:
                raise ValueError(
                    f"graph {self.name!r}: layer {layer.name!r} has {count:,} {what}, and at most "
                    f"{most:,} can be modelled; check its shape"
                )

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str) -> Layer:
        if name not in self._by_name:
            from hwsim.names import did_you_mean

            raise KeyError(
                f"graph {self.name!r} has no layer {name!r}{did_you_mean(name, self._by_name)}"
            )
        return self._by_name[name]

    @property
    def weighted(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.weighted)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @cached_property
    def liveness(self) -> Liveness:
        """Which tensors take storage, who reads them, and what may run in another order."""
        return Liveness(self.layers, self.outputs)

    def digraph(self) -> nx.DiGraph:
        """The same graph for networkx: node attribute `layer`, edge attribute `tensor`."""
        graph = nx.DiGraph(name=self.name)
        for layer in self.layers:
            graph.add_node(layer.name, layer=layer)
            for tensor in layer.inputs:
                graph.add_edge(tensor.name, layer.name, tensor=tensor)
        return graph


def _columns(layer: Layer) -> int:
    return layer.out_channels if layer.weighted else 0
