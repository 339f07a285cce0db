"""The formats by name, and one function that writes any of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, get_args

from hwsim.files import write_atomically
from quant.apply import QuantizedNetwork

Format = Literal["native", "torch", "qdq", "packed-onnx", "qonnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {
    "native": ".safetensors", "torch": ".pt2", "qdq": ".onnx", "packed-onnx": ".onnx",
    "qonnx": ".onnx",
}  # fmt: skip


def runtime_of(format: Format) -> str:
    """The package that runs it; native arrays are read back by this project."""
    return {"native": "chipfit", "torch": "torch", "qonnx": "qonnx"}.get(format, "onnxruntime")


def needs_batch(format: Format) -> bool:
    """Whether its runtime wants one batch size, known beforehand."""
    return format == "qonnx"


def save_export(
    path: str | os.PathLike[str],
    quantized: QuantizedNetwork,
    format: Format,
    batch: int | None = None,
) -> None:
    """Write a quantised network, whole or not at all.

    batch: images at once of a program; None for any number (one for qonnx, whose runtime wants to
    know). Raises ValueError for an unknown format, an extra that is not installed and a network
    that can only be traced for a given batch size.
    """
    if format == "native":
        from quant.export.native import save_native

        save_native(path, quantized)
    elif format == "torch":
        from quant.export.torch_program import save_torch

        save_torch(path, quantized, batch)
    elif format in FORMATS:
        from quant.export.onnx_model import Style, onnx_model
        from quant.export.onnx_packed import PackedStyle
        from quant.export.onnx_qdq import QdqStyle
        from quant.export.qonnx import QonnxStyle

        styles: dict[str, Callable[[], Style]] = {
            "qdq": QdqStyle,
            "qonnx": QonnxStyle,
            "packed-onnx": lambda: PackedStyle(quantized),
        }
        size = batch or (1 if needs_batch(format) else None)
        write_atomically(path, onnx_model(quantized, styles[format](), size).SerializeToString())
    else:
        raise ValueError(f"export: there is no format {format!r}; there is {', '.join(FORMATS)}")
