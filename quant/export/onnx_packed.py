"""ONNX whose file is small: each layer's channels in groups of int2, int4, int8 and int16.

A channel goes to the narrowest type that holds its levels (1 and 2 bits to int2, 3 and 4 to int4,
5 to 8 to int8; dropped channels are made of zeros and take no bytes). A layer's groups are
dequantised, concatenated and put back in their order; the weight is whole before the product, so
that grouped convolutions stay one operation. Tensors are rounded as in `onnx_qdq`. int2 is of ONNX
opset 25 (onnxruntime 1.25 or newer); without such channels opset 21 serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quant.apply import QuantizedNetwork
from quant.export.levels import LayerLevels
from quant.export.onnx_model import MAX_OPSET, OPSET, Part
from quant.export.onnx_qdq import QdqStyle

CONTAINERS = (2, 4, 8, 16)  # bits


def container_of(width: int) -> int:
    """Bits of the type that holds a channel of this width; 0 for a dropped channel."""
    return next(bits for bits in (0, *CONTAINERS) if width <= bits)


class PackedStyle(QdqStyle):
    """See the module."""

    def __init__(self, quantized: QuantizedNetwork) -> None:
        graph = quantized.network.graph
        widths = np.concatenate([quantized.bits.weight(layer) for layer in graph.weighted])
        self.opset = MAX_OPSET if ((widths > 0) & (widths <= 2)).any() else OPSET

    def weight(self, part: Part, layer: LayerLevels, output: str) -> None:
        holds = np.array([container_of(int(width)) for width in layer.width])
        used = np.unique(holds)
        order = np.concatenate([np.flatnonzero(holds == bits) for bits in used])
        groups = []
        for bits in used.tolist():
            name = output if len(used) == 1 else f"{layer.name}.weight{bits}"
            groups.append(_group(part, layer, np.flatnonzero(holds == bits), bits, name))
        if len(groups) > 1:
            joined = part.node("Concat", groups, f"{layer.name}.grouped", axis=0)
            back = np.argsort(order).astype(np.int32)
            part.node(
                "Gather", [joined, part.constant(f"{layer.name}.order", back)], output, axis=0
            )


def _group(part: Part, layer: LayerLevels, channels: np.ndarray, bits: int, output: str) -> str:
    """The weights of the channels that share one type."""
    shape = (len(channels), *layer.shape[1:])
    if not bits:
        size = part.constant(f"{output}.shape", np.array(shape, np.int64))
        return part.node("ConstantOfShape", [size], output)
    name = f"{layer.name}.levels{bits}"
    part.initializers.append(_packed(layer.levels[channels], bits, shape, name))
    scale = part.constant(f"{layer.name}.scale{bits}", layer.scale[channels])
    return part.node("DequantizeLinear", [name, scale], output, axis=0)


def _packed(levels: np.ndarray, bits: int, shape: tuple[int, ...], name: str) -> Any:
    """A tensor of 2, 4, 8 or 16-bit numbers, several in a byte from its low end, without gaps."""
    from onnx import TensorProto, helper

    kind = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8, 16: TensorProto.INT16}
    if bits >= 8:
        raw = levels.astype(f"<i{bits // 8}").tobytes()
    else:
        each = 8 // bits
        flat = levels.ravel().astype(np.uint8) & (2**bits - 1)
        flat = np.pad(flat, (0, -len(flat) % each)).reshape(-1, each)
        raw = (flat << (bits * np.arange(each))).sum(1).astype(np.uint8).tobytes()
    return helper.make_tensor(name, kind[bits], shape, raw, raw=True)
