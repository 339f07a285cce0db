"""From a torch module to its exported program and its LayerGraph."""

from __future__ import annotations

import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import zip_longest
from os import PathLike
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from hwsim.files import check_archive
from hwsim.frontends.lowering import Join, layer_graph
from hwsim.graph import LayerGraph


@dataclass(frozen=True)
class Traced:
    """A network as it can be run, as it is simulated, and how the two belong together.

    program: the exported program, at the batch size that was asked for; its nodes have the same
    names at every batch size. graph: the layers of one image. joins: for every layer of the graph,
    the nodes of the program that compute it.
    """

    program: ExportedProgram
    graph: LayerGraph
    joins: Mapping[str, Join]


def export(
    module: nn.Module, input_shape: Sequence[int] | Sequence[Sequence[int]]
) -> ExportedProgram:
    """The module in eval mode as a graph of functional ATen operations.

    input_shape: (batch, ...) of the input, or one such shape for each of several inputs, in the
    dtype and on the device of the module's parameters; `meta` will do, since no value is read.
    Convolutions, linear layers, matrix products and pools stay whole; attention comes apart into
    two products and a softmax. Modules that torch.export refuses are traced by torch.fx first.
    The module is left as it was. Raises ValueError with both reasons when both ways fail.
    """
    inputs = _example_inputs(module, input_shape)
    with _eval_mode(module), quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, inputs)
        except Exception as refusal:  # whatever a user's module or torch raises: fx may do better
            program = _export_after_fx(module, inputs, refusal)
        return program.run_decompositions({_ATTENTION: _attention})


def export_any_batch(
    module: nn.Module, input_shape: Sequence[int], name: str | None = None
) -> ExportedProgram:
    """`export` for batches of every size: the first axis of the input is a symbol.

    input_shape: of one image. The nodes have the names that they have at a fixed batch size, by
    which joins know them. Raises ValueError if the module does other work for other batch sizes.
    """
    name = name or type(module).__name__
    named = export(module, (2, *input_shape))
    inputs = _example_inputs(module, (2, *input_shape))
    free = ({0: torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)},)
    try:
        with _eval_mode(module), quiet(), torch.no_grad():
            program = torch.export.export(module, inputs, dynamic_shapes=free)
            program = program.run_decompositions({_ATTENTION: _attention})
    except Exception as refusal:  # whatever a user's module or torch raises
        raise ValueError(
            f"network {name!r}: cannot be traced for batches of any size: {first_line(refusal)}; "
            f"give one batch size"
        ) from None
    pairs = list(zip_longest(_tensor_steps(program), _tensor_steps(named)))
    if any(a is None or b is None or a.target != b.target for a, b in pairs):
        raise ValueError(
            f"network {name!r}: forward does not do the same for every batch size; give one"
        )
    for step, known in pairs:
        step.name = known.name
    return program


def _tensor_steps(program: ExportedProgram) -> list[torch.fx.Node]:
    """Calls that compute tensors, and not the sizes of a batch that is a symbol."""
    return [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and not isinstance(node.meta.get("val"), _SIZES)
        and node.meta.get("val") is not None
    ]  # fmt: skip


_LARGEST_BATCH = 2**16
_SIZES = (torch.SymInt, torch.SymBool, torch.SymFloat, int, bool, float)


def read_program(path: str | PathLike[str]) -> ExportedProgram:
    """A program that `torch.export.save` wrote, with its operations as `export` leaves them.

    It must have been exported in eval mode for one image (batch 1). Pickles in the file that hold
    more than tensors, compiled code and formulas of sizes are refused: they would run. Operations
    are still found by their names, so that a file from somebody else deserves as much trust as
    what else one reads with torch. Raises ValueError otherwise.
    """
    try:
        _check_plain(path)
        with quiet(), _tensors_only():
            program = torch.export.load(path).run_decompositions({_ATTENTION: _attention})
    except UnpicklingError:  # whose message says how to run it nevertheless
        raise ValueError(
            f"{path}: it holds a pickle of more than tensors, which could run code; save the "
            f"program again with torch.export.save"
        ) from None
    except Exception as error:  # anything that is not such a file; torch has no error for that
        raise ValueError(
            f"{path}: not a program that torch.export.save wrote: {first_line(error)}"
        ) from None
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.name in inputs and isinstance(value, Tensor) and tuple(value.shape[:1]) != (1,):
            raise ValueError(
                f"{path}: input {node.name!r} has shape {tuple(value.shape)}; export the module "
                f"for one image, with a first axis of 1"
            )
    return program


# what a program of fixed shapes consists of; others are pickles of any object, compiled code, and
# the formats of earlier releases
_PLAIN_ENTRIES = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/.*|models/[^/]*\.json|extra/.*|"
    r"data/(weights|constants)/[^/]*config\.json|data/weights/weight_\d+|"
    r"data/constants/tensor_\d+|data/sample_inputs/[^/]*\.pt"
)


def _check_plain(path: str | PathLike[str]) -> None:
    """Raise ValueError for a file with parts that loading would run as code."""
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive)
        for name in archive.namelist():
            if not _PLAIN_ENTRIES.fullmatch(name.partition("/")[2]):
                raise ValueError(f"it holds {name!r}, which may be code; only tensors are read")
            if name.endswith(".json") and b'"expr_str"' in archive.read(name):
                raise ValueError("it has sizes that are formulas; export it for one fixed shape")


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch.export.load unpickles anything unless the environment forbids it (torch 2.13)."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def capture(
    module: nn.Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    name: str | None = None,
) -> Traced:
    """Export the module and read its layers.

    input_shape: as for `export`; the program has that batch size, the graph is of one image.
    name: what the graph is called; the module's class by default. Raises UnsupportedOperation, a
    ValueError that names the operation and its source line, for what has no model.
    """
    name = name or type(module).__name__
    program = export(module, input_shape)
    one_image = _with_batch(input_shape, 1)
    if one_image == _with_batch(input_shape, None):
        graph, joins = layer_graph(program, name)
    else:
        graph, joins = layer_graph(export(module, one_image), name)
        _check_same_nodes(program, joins, name)
    return Traced(program, graph, joins)


_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key' * scale + mask) @ value, so that each product is a node of its own."""
    if enable_gqa:
        heads = query.shape[-3]
        key = key.repeat_interleave(heads // key.shape[-3], -3)
        value = value.repeat_interleave(heads // value.shape[-3], -3)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(query, key.transpose(-2, -1)) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(attn_mask.logical_not(), -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)


def _export_after_fx(
    module: nn.Module, inputs: tuple[Tensor, ...], refusal: Exception
) -> ExportedProgram:
    """Export what torch.fx's symbolic tracing makes of the module.

    Symbolic tracing never runs the module on tensors, so code whose result goes nowhere (an
    activation copied to numpy for a log) drops out; shapes come from the export that follows.
    """
    try:
        traced = torch.fx.symbolic_trace(module)
        traced.graph.eliminate_dead_code()
        traced.recompile()
        return torch.export.export(traced, inputs)
    except Exception as second:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        reasons = [f"torch.export says {first_line(refusal)}"]
        if first_line(second) != first_line(refusal):
            reasons.append(f"torch.fx says {first_line(second)}")
        raise ValueError(
            f"cannot trace {type(module).__name__} on an input of shape {shapes}: "
            f"{'; '.join(reasons)}; check that the module runs on such an input in eval mode, and "
            f"take control flow that depends on the values of tensors out of forward"
        ) from refusal


def first_line(error: BaseException) -> str:
    """The error's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def _shapes(input_shape: Sequence[int] | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    if isinstance(input_shape, str) or not isinstance(input_shape, Sequence):
        raise ValueError(
            f"input shape: expected sizes such as (1, 3, 224, 224), got {input_shape!r}"
        )
    several = any(isinstance(item, Sequence) for item in input_shape)
    shapes: list[tuple[Any, ...]] = (
        [tuple(item) if isinstance(item, Sequence) else (item,) for item in input_shape]
        if several
        else [tuple(input_shape)]
    )
    for shape in shapes:
        if not shape or any(not isinstance(size, int) or size < 1 for size in shape):
            raise ValueError(
                f"input shape: expected positive sizes with the batch first, such as "
                f"(1, 3, 224, 224), got {shape}"
            )
    return shapes


def _with_batch(
    input_shape: Sequence[int] | Sequence[Sequence[int]], batch: int | None
) -> list[tuple[int, ...]]:
    return [shape if batch is None else (batch, *shape[1:]) for shape in _shapes(input_shape)]


def _example_inputs(
    module: nn.Module, input_shape: Sequence[int] | Sequence[Sequence[int]]
) -> tuple[Tensor, ...]:
    parameters = list(module.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())
    shapes = _shapes(input_shape)
    try:
        return tuple(torch.zeros(s, device=device, dtype=dtype) for s in shapes)
    except (RuntimeError, TypeError):  # beyond the memory, beyond 64 bits
        raise ValueError(f"input shape: {shapes} does not fit in memory; give smaller") from None


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode for the time being; afterwards every submodule is as it was.

    Tracing runs forward, and whatever forward stores on a module would otherwise stay there as a
    fake tensor or a proxy.
    """
    before = [(m, dict(m.__dict__), dict(m._buffers)) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, attributes, buffers in before:
            submodule.__dict__.clear()
            submodule.__dict__.update(attributes)
            submodule._buffers.clear()
            submodule._buffers.update(buffers)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log, nothing on standard error.

    torch deprecates its own internals and prints the graphs that it gives up on; what matters of
    that is in the error that follows.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _check_same_nodes(program: ExportedProgram, joins: Mapping[str, Join], name: str) -> None:
    nodes = {node.name for node in program.graph.nodes}
    for layer, join in joins.items():
        for node in (join.work, join.output, join.batch_norm):
            if node is not None and node not in nodes:
                raise ValueError(
                    f"network {name!r}: layer {layer!r} is node {node!r} for one image but not for "
                    f"a batch; forward must do the same for every batch size"
                )
