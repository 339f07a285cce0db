"""Exported files, run by the runtimes that they are for, beside the project's own network."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant.apply import QuantizedNetwork
from quant.codes import claimed_bits
from quant.export.formats import Format, needs_batch, runtime_of
from quant.export.program import INPUT, OUTPUT


@dataclass(frozen=True)
class RoundTrip:
    """What a second runtime makes of an exported network.

    runtime: package and version. max_difference: of logits, absolute; 0.0 is bit for bit. largest:
    absolute logit of the project's own network. equal: share of logits that are the same number.
    agreement: share of images with the same class. weight_bits, metadata_bits: claimed.
    """

    format: str
    runtime: str
    images: int
    max_difference: float
    largest: float
    equal: float
    agreement: float
    file_bytes: int
    weight_bits: int
    metadata_bits: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_export(
    path: str | os.PathLike[str],
    format: Format,
    quantized: QuantizedNetwork,
    images: Tensor,
    integer_kernels: bool = False,
) -> RoundTrip:
    """Run a file that `save_export` wrote on images (N, channels, height, width) and compare.

    integer_kernels: let onnxruntime fuse operations into kernels that round biases and sums in
    their own way, as it does by default; without, every operation is computed as it stands. Raises
    ValueError if the runtime is not installed.
    """
    own = quantized(images).numpy()
    got = _logits(path, format, quantized, images, integer_kernels)
    if got.shape != own.shape or not np.isfinite(got).all():
        raise ValueError(
            f"{path}: {runtime_of(format)} gives logits of shape {got.shape}, some perhaps not "
            f"finite; the network gives {own.shape}"
        )
    weight_bits, metadata_bits = claimed_bits(quantized.network.graph, quantized.bits)
    return RoundTrip(
        format=format,
        runtime=_version(format) + (", integer kernels" if integer_kernels else ""),
        images=len(images),
        max_difference=float(np.abs(got - own).max()),
        largest=float(np.abs(own).max()),
        equal=float((got == own).mean()),
        agreement=float((got.argmax(1) == own.argmax(1)).mean()),
        file_bytes=Path(path).stat().st_size,
        weight_bits=weight_bits,
        metadata_bits=metadata_bits,
    )


def has_runtime(format: Format) -> bool:
    """Whether the package that runs a format is installed."""
    try:
        metadata.version(runtime_of(format))
    except metadata.PackageNotFoundError:
        return False
    return True


def _version(format: Format) -> str:
    name = runtime_of(format)
    return f"{name} {metadata.version(name)}"


def _logits(
    path: str | os.PathLike[str],
    format: Format,
    quantized: QuantizedNetwork,
    images: Tensor,
    integer_kernels: bool,
) -> np.ndarray:
    if not has_runtime(format):
        raise ValueError(
            f"checking {path} needs the package {runtime_of(format)}: pip install 'chipfit[export]'"
        )
    if format == "native":
        from quant.export.native import load_native

        return load_native(path, quantized.network)(images).numpy()
    if format == "torch":
        with torch.no_grad():
            logits: np.ndarray = torch.export.load(path).module()(images).numpy()
        return logits
    run = _in_qonnx if needs_batch(format) else _in_onnxruntime
    return run(path, images.numpy(), integer_kernels)


def _in_onnxruntime(
    path: str | os.PathLike[str], images: np.ndarray, integer_kernels: bool
) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not integer_kernels:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    fixed = session.get_inputs()[0].shape[0]
    size = fixed if isinstance(fixed, int) else 16
    batches = [images[i : i + size] for i in range(0, len(images), size)]
    return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])


def _in_qonnx(path: str | os.PathLike[str], images: np.ndarray, _: bool) -> np.ndarray:
    """qonnx runs node after node, images of the file's own batch size at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qonnx imports what onnx deprecates
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        model = ModelWrapper(os.fspath(path)).transform(InferShapes())
        size = model.get_tensor_shape(INPUT)[0]
        batches = [images[i : i + size] for i in range(0, len(images), size)]
        return np.concatenate([execute_onnx(model, {INPUT: batch})[OUTPUT] for batch in batches])
