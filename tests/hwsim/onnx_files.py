"""ONNX files for tests: exported from torch, or put together by hand."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

Sizes = Sequence[int | str | None]


def distinct(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with no two parameters alike: exporters store equal tensors once."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.1, 0.1)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def export(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    """Write an ONNX file with torch's exporter, which has much to say."""
    quiet = warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO())
    logging.disable(logging.WARNING)
    try:
        with quiet[0], quiet[1], quiet[2], torch.no_grad():
            warnings.simplefilter("ignore")
            options = {"dynamo": True, "verbose": False, **options}
            torch.onnx.export(module, (torch.zeros(shape),), str(path), **options)
    finally:
        logging.disable(logging.NOTSET)
    return path


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, np.ndarray] | None = None,
    inputs: Mapping[str, Sizes] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 20,
) -> onnx.ModelProto:
    """A model of these nodes; the input is x of shape (1, 4, 6, 6) unless said otherwise."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sizes))
         for name, sizes in (inputs or {"x": (1, 4, 6, 6)}).items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name)
         for name, array in (tensors or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def saved(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path
