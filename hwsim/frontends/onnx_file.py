"""Reading an ONNX file: its nodes, its tensors, its inputs; checked, and nothing computed yet."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

import numpy as np

MAX_FILE_BYTES = 2 * 1024**3  # what protobuf can read; larger networks keep weights beside the file
MAX_TENSOR_VALUES = 2**36  # of one declared tensor: 64 G values, beyond any network
OPSETS = range(7, 28)  # of ai.onnx: what the table in onnx_ops was written from
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One node. name: as the file says, or made from its output. scope: path of the module that
    it was exported from, None where the exporter did not say. inputs: '' for one left out."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    scope: str | None
    proto: Any = field(repr=False)

    def input(self, position: int) -> str:
        return self.inputs[position] if position < len(self.inputs) else ""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor of the file. `values` is None when they lie in a file that is not there."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    proto: Any = field(repr=False)
    folder: Path = field(repr=False)

    def values(self) -> np.ndarray | None:
        """Raises ValueError if the bytes that are there do not make the declared tensor."""
        import onnx
        from onnx import numpy_helper

        place = external_place(self.proto)
        if place is not None and not (self.folder / place).is_file():
            return None
        try:
            if place is not None:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(self.proto)
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(self.folder))
            else:
                tensor = self.proto
            return np.array(numpy_helper.to_array(tensor))
        except Exception as error:  # protobuf, onnx and numpy each have their own
            raise ValueError(
                f"tensor {self.name!r}: its values cannot be read: {_first(error)}"
            ) from None


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """What the file says. inputs: (name, element type, sizes), a size being a number or the name of
    a symbol ('' for one without a name). opset: version of ai.onnx."""

    path: str
    name: str
    nodes: tuple[OnnxNode, ...]
    tensors: Mapping[str, StoredTensor]
    inputs: tuple[tuple[str, np.dtype, tuple[int | str, ...]], ...]
    outputs: tuple[str, ...]
    opset: int


def import_onnx() -> ModuleType:
    """The onnx package; a ValueError that names the extra where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise ValueError(
            "reading ONNX files needs the package onnx: pip install 'chipfit[interop]'"
        ) from None
    return onnx


def read_onnx(path: str | os.PathLike[str]) -> OnnxFile:
    """Parse and check a file. Weights kept in files beside it are not opened here.

    Raises ValueError for a file that is not ONNX, is cut, is too large, has control flow or
    operators of another domain, or keeps tensors outside its own folder.
    """
    onnx = import_onnx()
    text = os.fspath(path)
    try:
        size = Path(path).stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(
                f"{text}: {size:,} bytes; an ONNX file has at most {MAX_FILE_BYTES:,}; "
                f"save it with its weights in a file of their own (external data)"
            )
        model = onnx.ModelProto.FromString(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{text}: cannot read: {error.strerror or error}") from None
    except ValueError:
        raise
    except Exception as error:  # protobuf's DecodeError; it has no public name
        raise ValueError(
            f"{text}: not an ONNX file, or cut: {_first(error)}; write it again with "
            f"torch.onnx.export"
        ) from None
    if not model.graph.node or not model.opset_import:
        raise ValueError(f"{text}: not an ONNX file: it has no nodes; write it with "
                         f"torch.onnx.export")  # fmt: skip
    if model.functions:
        model = _inlined(model, text)
    return _checked(model, text)


def _inlined(model: Any, path: str) -> Any:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        raise ValueError(f"{path}: its functions cannot be inlined: {_first(error)}") from None


def _checked(model: Any, path: str) -> OnnxFile:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None or opset not in OPSETS:
        raise ValueError(
            f"{path}: opset {opset}; versions {OPSETS[0]} to {OPSETS[-1]} of ai.onnx can be read"
        )
    graph = model.graph
    if graph.sparse_initializer:
        raise ValueError(f"{path}: sparse tensors have no model; store them dense")
    folder = Path(path).parent
    tensors = {proto.name: _tensor(proto, folder, path) for proto in graph.initializer}
    nodes = tuple(_node(proto, i, folder, path) for i, proto in enumerate(graph.node))
    return OnnxFile(
        path=path,
        name=Path(path).stem,
        nodes=nodes,
        tensors=tensors,
        inputs=tuple(_input(proto, path) for proto in graph.input if proto.name not in tensors),
        outputs=tuple(proto.name for proto in graph.output),
        opset=opset,
    )


def _node(proto: Any, position: int, folder: Path, path: str) -> OnnxNode:
    from onnx import helper

    name = proto.name or f"{proto.op_type}_{position}"
    if proto.domain not in ("", "ai.onnx"):
        raise ValueError(
            f"{path}: node {name!r}: operator {proto.domain}::{proto.op_type} is not of ai.onnx; "
            f"export the network with the operators of the standard"
        )
    if proto.op_type in CONTROL_FLOW:
        raise ValueError(
            f"{path}: node {name!r} ({proto.op_type}): control flow has no model; export the "
            f"network with its branches resolved, for one image of a fixed size"
        )
    attributes = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == attribute.TENSOR:
            value = _tensor(value, folder, path, f"{name}.{attribute.name}")
        attributes[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value  # noqa: E501  # fmt: skip
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    return OnnxNode(name, proto.op_type, inputs, outputs, attributes, _scope(proto), proto)


def _scope(proto: Any) -> str | None:
    """Path of the module that a node came from, as torch's two exporters record it."""
    for entry in proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return None
            if isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str):
                return scopes[-2]
            return None
    if proto.name.startswith("/"):  # "/layer1/layer1.0/conv1/Conv"
        whole = before = ""
        for part in proto.name.split("/")[1:-1]:
            if before and part.startswith(f"{before}."):  # a part of a container repeats its path
                whole = whole.removesuffix(before) + part
            else:
                whole = f"{whole}.{part}" if whole else part
            before = part
        return whole
    return None


def _tensor(proto: Any, folder: Path, path: str, name: str | None = None) -> StoredTensor:
    from onnx import helper

    name = name or proto.name
    shape = tuple(proto.dims)
    try:
        place = external_place(proto)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type))
    except Exception as error:
        raise ValueError(f"{path}: tensor {name!r}: {_first(error)}") from None
    if any(size < 0 for size in shape) or _values(shape) > MAX_TENSOR_VALUES:
        raise ValueError(
            f"{path}: tensor {name!r}: shape {shape} is not that of a tensor of at most "
            f"{MAX_TENSOR_VALUES:,} values"
        )
    if place is not None and (folder / place).is_symlink():
        raise ValueError(f"{path}: tensor {name!r}: its data file {place!r} is a link; copy it")
    return StoredTensor(name, shape, dtype, proto, folder)


def _values(shape: tuple[int, ...]) -> int:
    values = 1
    for size in shape:
        values *= size
    return values


def external_place(proto: Any) -> str | None:
    """Where a tensor's bytes lie, relative to the ONNX file; None if they are in the file.

    Raises ValueError for a place that is not below the file's own folder.
    """
    if proto.data_location != proto.EXTERNAL:
        return None
    place = next((e.value for e in proto.external_data if e.key == "location"), "")
    parts = (*PurePosixPath(place).parts, *PureWindowsPath(place).parts)
    absolute = PurePosixPath(place).is_absolute() or PureWindowsPath(place).anchor
    if not place or absolute or ".." in parts or "\0" in place:
        raise ValueError(
            f"its data are said to lie in {place!r}; expected a file below the ONNX file's folder"
        )
    return place


def _input(proto: Any, path: str) -> tuple[str, np.dtype, tuple[int | str, ...]]:
    from onnx import helper

    kind = proto.type.WhichOneof("value")
    if kind != "tensor_type" or not proto.type.tensor_type.HasField("shape"):
        raise ValueError(
            f"{path}: input {proto.name!r} is {'a tensor without a shape' if kind == 'tensor_type' else f'of type {kind}'}; "  # noqa: E501
            f"expected a tensor with a shape; export it for one image"
        )
    tensor = proto.type.tensor_type
    sizes = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
    )
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except Exception as error:
        raise ValueError(f"{path}: input {proto.name!r}: element type {_first(error)}") from None
    return proto.name, dtype, sizes


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def readers(file: OnnxFile) -> Iterator[str]:
    """Every name whose values something reads, once for each time; the network's outputs too."""
    for node in file.nodes:
        if node.op == "CastLike":
            yield node.inputs[0]
        elif node.op not in ("Shape", "Size"):
            yield from node.inputs
    yield from file.outputs
