"""The quantised network as one exported program, its parameters and roundings as a format wants.

The network runs node by node under torch.export, which records every operation. Where a layer's
parameters are read and where a tensor is rounded, a Dialect decides what is recorded.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from quant.apply import QuantizedNetwork

LARGEST_BATCH = 2**16
INPUT, OUTPUT = "images", "logits"  # what the programs call them


class Dialect(Protocol):
    """How a format stores parameters and rounds tensors; what it keeps is a buffer of `owner`."""

    def prepare(self, owner: nn.Module, quantized: QuantizedNetwork) -> None:
        """Give `owner` the buffers that the other two read."""

    def parameters(self, owner: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
        """Weight (in the operation's shape) and bias (out,) of a layer."""

    def rounded(self, owner: nn.Module, layer: str, x: Tensor) -> Tensor:
        """The output tensor of a layer, rounded."""


class DialectModule(nn.Module):
    """A quantised network in a dialect: images (batch, channels, height, width) to logits."""

    def __init__(self, quantized: QuantizedNetwork, dialect: Dialect) -> None:
        super().__init__()
        self._network, self._dialect = quantized.network, dialect
        dialect.prepare(self, quantized)

    def forward(self, images: Tensor) -> Tensor:
        own = {name: self._dialect.parameters(self, name) for name in self._network.layers}

        def rounded(layer: str, x: Tensor) -> Tensor:
            return self._dialect.rounded(self, layer, x)

        return self._network.run(images, own, at_output=rounded)


def export_program(
    quantized: QuantizedNetwork, dialect: Dialect, batch: int | None = None
) -> ExportedProgram:
    """The network as a program of functional ATen operations.

    batch: images at once; None for any number. Raises ValueError for a network that can only be
    traced for a given number.
    """
    network = quantized.network
    network.plan(batch)  # traced now: tracing inside tracing fails
    example = torch.zeros(2 if batch is None else batch, *network.input_shape)
    free = None if batch else ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)
    module = DialectModule(quantized, dialect).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own internals
        program = torch.export.export(module, (example,), dynamic_shapes=free, strict=False)
        return program.run_decompositions({})


def buffer_name(layer: str, kind: str) -> str:
    """A name that a module's buffer may have."""
    return f"{layer.replace('.', '__')}__{kind}"
