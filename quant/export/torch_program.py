"""A torch.export program (.pt2): whole-number weights and scales, corrected biases, roundings.

`torch.export.load(path).module()(images)` runs it; nothing of this project is needed. Weights are
8-bit containers (16-bit where a channel is wider) that the program multiplies by their scales.
"""

from __future__ import annotations

import io
import os

import torch
from torch import Tensor, nn

from hwsim.files import write_atomically
from quant.apply import QuantizedNetwork
from quant.export.described import DESCRIPTION, description
from quant.export.levels import layer_levels
from quant.export.program import buffer_name, export_program


class TorchDialect:
    """Levels, scales and biases as buffers; tensors rounded by ATen operations."""

    def prepare(self, owner: nn.Module, quantized: QuantizedNetwork) -> None:
        self._quantized = quantized
        for name in quantized.network.layers:
            layer = layer_levels(quantized, name)
            scale = layer.scale.reshape(-1, *(1 for _ in layer.shape[1:]))
            kinds = {"levels": layer.shaped(), "scale": scale, "bias": layer.bias}
            for kind, array in kinds.items():
                owner.register_buffer(buffer_name(name, kind), torch.from_numpy(array.copy()))

    def parameters(self, owner: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
        levels, scale, bias = (
            owner.get_buffer(buffer_name(layer, kind)) for kind in ("levels", "scale", "bias")
        )
        return levels.to(torch.float32) * scale, bias

    def rounded(self, owner: nn.Module, layer: str, x: Tensor) -> Tensor:
        return self._quantized.rounded(layer, x)


def save_torch(
    path: str | os.PathLike[str], quantized: QuantizedNetwork, batch: int | None = None
) -> None:
    """Write the network as a .pt2 file; widths and quantisers are in its extra file chipfit.json.

    batch: images at once, None for any number. Raises ValueError as `export_program` does.
    """
    program = export_program(quantized, TorchDialect(), batch)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={DESCRIPTION: description(quantized)})
    write_atomically(path, content.getvalue())
