"""ONNX with QuantizeLinear and DequantizeLinear: weights in whole-byte containers.

A weight is one DequantizeLinear of int8 levels (int16 where a channel is wider) with one scale an
output channel. A tensor goes through QuantizeLinear and DequantizeLinear in uint8 (uint16 above 8
bits); a Clip before it keeps widths that do not fill their container to their levels. The widths
themselves are in the model's metadata. Operations: ONNX opset 21.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from quant.export.levels import LayerLevels
from quant.export.onnx_model import OPSET, Part, along
from quant.quantizer import ActivationQuantizer


class QdqStyle:
    """See the module."""

    opset = OPSET
    domains: Mapping[str, int] = MappingProxyType({})

    def weight(self, part: Part, layer: LayerLevels, output: str) -> None:
        levels = part.constant(f"{layer.name}.levels", layer.shaped())
        scale = part.constant(f"{layer.name}.scale", layer.scale)
        part.node("DequantizeLinear", [levels, scale], output, axis=0)

    def rounding(
        self,
        part: Part,
        quantizers: tuple[ActivationQuantizer, ...],
        axis: int | None,
        rank: int,
        source: str,
        output: str,
    ) -> None:
        wide = any(q.bits > 8 for q in quantizers)
        container, full = (np.uint16, 16) if wide else (np.uint8, 8)
        if any(q.bits != full for q in quantizers):
            source = _clipped(part, quantizers, axis, rank, source, output)
        steps = [q.step for q in quantizers]
        zeros = [q.zero_point for q in quantizers]
        one = axis is None
        scale = np.array(steps[0] if one else steps, np.float32)
        zero = np.array(zeros[0] if one else zeros, container)
        names = [part.constant(f"{output}.scale", scale), part.constant(f"{output}.zero", zero)]
        own = {} if one else {"axis": axis}
        index = part.node("QuantizeLinear", [source, *names], f"{output}.index", **own)
        part.node("DequantizeLinear", [index, *names], output, **own)


def _clipped(
    part: Part,
    quantizers: tuple[ActivationQuantizer, ...],
    axis: int | None,
    rank: int,
    source: str,
    output: str,
) -> str:
    """Between the least and the greatest level, so that no index leaves its width."""
    low = [-q.zero_point * q.step for q in quantizers]
    high = [(2**q.bits - 1 - q.zero_point) * q.step for q in quantizers]
    ends = [
        part.constant(f"{output}.{name}", along(values, axis, rank, np.float32))
        for name, values in (("low", low), ("high", high))
    ]
    if axis is None:
        return part.node("Clip", [source, *ends], f"{output}.clipped")
    above = part.node("Max", [source, ends[0]], f"{output}.above")
    return part.node("Min", [above, ends[1]], f"{output}.clipped")
