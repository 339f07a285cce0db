"""QONNX: one Quant node for each width of a layer's channels, and one for every tensor.

Weights stay float32 numbers that are values of their quantiser already; Quant (BipolarQuant for one
bit) says which. Groups of channels of one width are concatenated and put back in their order, as
in `onnx_packed`: one node with a width for each channel is more than qonnx 1.0 runs. Format:
Pappalardo et al., "QONNX: Representing Arbitrary-Precision Quantized Neural Networks", AccML 2022;
operations as the package qonnx documents them.

Quant adds the zero point before it rounds, where this project (and ONNX) add it after: a tensor
with an odd zero point rounds a value that lies exactly between two levels to the other one. A zero
point in the middle is written as signed numbers, which has no such difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from quant.export.levels import LayerLevels
from quant.export.onnx_model import Part, along
from quant.quantizer import ActivationQuantizer

DOMAIN = "qonnx.custom_op.general"


class QonnxStyle:
    """See the module."""

    opset = 18
    domains: Mapping[str, int] = MappingProxyType({DOMAIN: 1})

    def weight(self, part: Part, layer: LayerLevels, output: str) -> None:
        groups = layer.by_width()
        names = []
        for width, channels in groups.items():
            name = output if len(groups) == 1 else f"{layer.name}.weight{width}"
            names.append(_group(part, layer, channels, width, name))
        if len(names) > 1:
            joined = part.node("Concat", names, f"{layer.name}.grouped", axis=0)
            back = np.argsort(np.concatenate(list(groups.values()))).astype(np.int64)
            part.node(
                "Gather", [joined, part.constant(f"{layer.name}.order", back)], output, axis=0
            )

    def rounding(
        self,
        part: Part,
        quantizers: tuple[ActivationQuantizer, ...],
        axis: int | None,
        rank: int,
        source: str,
        output: str,
    ) -> None:
        widths = {q.bits for q in quantizers}
        if len(widths) > 1:
            raise ValueError(
                f"qonnx: a tensor has channels of {', '.join(map(str, sorted(widths)))} bits; give "
                f"every activation tensor one width, or export as qdq"
            )
        bits = widths.pop()
        signed = all(q.zero_point == 2 ** (bits - 1) for q in quantizers)
        steps = [q.step for q in quantizers]
        zeros = [0.0 if signed else float(q.zero_point) for q in quantizers]
        inputs = [
            part.constant(f"{output}.scale", along(steps, axis, rank, np.float32)),
            part.constant(f"{output}.zero", along(zeros, axis, rank, np.float32)),
            part.constant(f"{output}.bits", np.array(bits, np.float32)),
        ]
        _quant(part, [source, *inputs], output, signed)


def _group(part: Part, layer: LayerLevels, channels: np.ndarray, width: int, output: str) -> str:
    """Weights of the channels of one width. A dropped channel is zeros."""
    shape = (len(channels), *layer.shape[1:])
    if not width:
        return part.constant(output, np.zeros(shape, np.float32))
    scale = layer.scale[channels].reshape(-1, *(1 for _ in layer.shape[1:]))
    values = layer.levels[channels].astype(np.float32).reshape(shape) * scale
    name = f"{layer.name}.values{width}"
    inputs = [part.constant(name, values)]
    if width == 1:
        inputs.append(part.constant(f"{name}.scale", np.abs(scale)))
        return part.node("BipolarQuant", inputs, output, domain=DOMAIN)
    inputs += [
        part.constant(f"{name}.scale", scale),
        part.constant(f"{name}.zero", np.zeros((), np.float32)),
        part.constant(f"{name}.bits", np.array(width, np.float32)),
    ]
    return _quant(part, inputs, output, signed=True)


def _quant(part: Part, inputs: list[str], output: str, signed: bool) -> str:
    return part.node(
        "Quant", inputs, output, domain=DOMAIN, signed=int(signed), narrow=0, rounding_mode="ROUND"
    )
