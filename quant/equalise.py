"""Cross-layer equalisation: the same network, its weights' ranges evened out between layers.

Where nothing but a function of single channels lies between two weighted layers, channel i may be
divided by s_i in the first and multiplied by s_i in the second. With s_i = sqrt(r1 r2) / r2, of the
ranges r1 and r2 of the channel's weights in both, these become alike (Nagel et al., ICCV 2019,
Sec. 4.1). Widths and steps here belong to output channels, which dividing does not change; what
changes is how the weights that read the channel stand beside others of their filter, and how the
channel stands beside others in the feature map, whose step they share.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hwsim.graph import Conv, Layer
from quant.network import FoldedLayer, Network

_POSITIVELY_HOMOGENEOUS = ("relu", "leaky_relu")  # f(s x) = s f(x) for s > 0
_CLIPPED = ("hardtanh", "relu6", "clamp")  # the same if their bounds are scaled as well
_ROUNDS = 20  # over all pairs: chains share layers; Nagel et al. iterate until nothing moves


def equalisable_pairs(network: Network) -> list[tuple[str, str]]:
    """(writer, reader) of feature maps with one reader that is a convolution or linear layer, and
    nothing but a ReLU or a clip between the two products."""
    readers: dict[str, list[Layer]] = {}
    for layer in network.graph:
        for tensor in layer.inputs:
            readers.setdefault(tensor.name, []).append(layer)
    found = []
    for name in network.layers:
        writer, reads = network.graph[name], readers.get(name, [])
        functions = network.functions_of(name)
        if (
            functions is not None
            and set(functions) <= {*_POSITIVELY_HOMOGENEOUS, *_CLIPPED}
            and name not in network.graph.outputs
            and len(reads) == 1
            and reads[0].name in network.layers
            and reads[0].inputs[0].shape == writer.output.shape
        ):
            found.append((name, reads[0].name))
    return found


def by_input(folded: FoldedLayer, weight: Tensor) -> Tensor:
    """A view of weight (out, K) as (groups, out a group, in a group, kernel positions)."""
    gemm, work = folded.layer.gemm, folded.layer.work
    assert gemm is not None
    inputs = work.in_channels // gemm.groups if isinstance(work, Conv) else gemm.reduction
    return weight.reshape(gemm.groups, -1, inputs, gemm.reduction // inputs)


def equalising_factors(network: Network, rounds: int = _ROUNDS) -> dict[str, Tensor]:
    """{writer: (channels,) factor that its output is divided by} for every pair.

    Channels without a weight on one of the sides keep the factor 1.
    """
    pairs = equalisable_pairs(network)
    factors = {name: torch.ones(len(network.layers[name].weight)) for name, _ in pairs}
    feeds = {reader: writer for writer, reader in pairs}
    for _ in range(rounds):
        moved = 0.0
        for writer, reader in pairs:
            first, second = network.layers[writer], network.layers[reader]
            own = _scaled(first, factors.get(feeds.get(writer, "")), factors[writer])
            read = _scaled(second, factors[writer], factors.get(reader))
            ranges = own.abs().amax(1), by_input(second, read).abs().amax((1, 3)).reshape(-1)
            step = torch.where(
                (ranges[0] > 0) & (ranges[1] > 0),
                (ranges[0] / ranges[1].clamp(min=1e-30)).sqrt(),
                1.0,
            )
            factors[writer] = factors[writer] * step
            moved = max(moved, float(step.log().abs().max()))
        if moved < 1e-4:
            break
    return factors


def _scaled(folded: FoldedLayer, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Weight (out, K) of a layer whose inputs are divided by `before`, its outputs by `after`."""
    weight = folded.weight
    if before is not None:
        split = by_input(folded, weight)
        shape = (split.shape[0], 1, split.shape[2], 1)
        weight = (split * before.reshape(shape)).reshape(weight.shape)
    return weight if after is None else weight / after.unsqueeze(1)


def equalise(network: Network, factors: Mapping[str, Tensor] | None = None) -> Network:
    """The network that computes the same with equalised weights; the given one stays.

    factors: {writer: (channels,)}, `equalising_factors(network)` by default. Hardware: behind a
    clip such as ReLU6 each channel has its own upper bound, 6 / factor; a ReLU needs nothing.
    Raises ValueError for factors of a layer that no pair begins with, or not above 0.
    """
    if factors is None:
        factors = equalising_factors(network)
    pairs = equalisable_pairs(network)
    for name, factor in factors.items():
        if name not in dict(pairs) or not (factor > 0).all():
            raise ValueError(
                f"equalise: {name!r} of network {network.name!r} is followed by more than one "
                f"layer or another function than ReLU, or its factors are not above 0; it goes for "
                f"{', '.join(dict(pairs)) or 'no layer'}"
            )
    feeds = {reader: factors[writer] for writer, reader in pairs if writer in factors}
    parameters = {}
    for name, folded in network.layers.items():
        after = factors.get(name)
        bias = folded.bias if after is None else folded.bias / after
        parameters[name] = _scaled(folded, feeds.get(name), after), bias
    clipped = {
        name: factor
        for name, factor in factors.items()
        if set(network.functions_of(name) or ()) & set(_CLIPPED)
    }
    return network.with_parameters(parameters, clipped)
