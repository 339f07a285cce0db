"""From an ONNX file to a plan: the same computation as steps of torch functions.

Every name of the file gets a value: known (small constants and all that is computed from them, such
as the arithmetic on shapes), stored (weights: their shape is enough), or made by a step. Steps run
once on the `meta` device, which gives every shape without a weight being there; a file needs to
state the shapes of its inputs only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwsim.frontends.onnx_file import OnnxFile, OnnxNode, StoredTensor, import_onnx, readers
from hwsim.frontends.values import UnsupportedOperation

MAX_KNOWN_VALUES = 2**22  # of a constant that is computed here: masks and index tables of networks
MAX_STEPS = 200_000
FREE_SIZE = ("NonZero", "Compress", "Unique")  # results no larger than what they read


@dataclass(eq=False)
class OnnxValue:
    """What a name stands for. array: its values where they are known. stored: the file's tensor
    behind it. step, position: who makes it, and which of its results it is. parts: of a sequence,
    which is no tensor itself."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    array: np.ndarray | None = None
    stored: StoredTensor | None = None
    step: Step | None = None
    position: int = 0
    parts: tuple[OnnxValue, ...] = ()

    @property
    def constant(self) -> bool:
        return self.stored is not None or self.array is not None

    @property
    def number(self) -> float | int | None:
        """The one value that is known, or None."""
        if self.array is None or self.array.size != 1:
            return None
        return self.array.reshape(()).item()

    def meta(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


@dataclass(eq=False)
class Step:
    """One call of a torch function. operands: what it is called with. inputs: what the node reads
    (numbers, too). info: what later nodes ask of it."""

    node: OnnxNode
    function: Callable[..., Any]
    operands: tuple[OnnxValue | None, ...]
    inputs: tuple[OnnxValue | None, ...]
    info: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[OnnxValue, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order, without those that nobody needs."""

    file: OnnxFile
    inputs: tuple[OnnxValue, ...]
    steps: tuple[Step, ...]
    outputs: tuple[OnnxValue, ...]
    statistics: frozenset[str]  # stored tensors that are no parameters: means and variances
    approximate: tuple[str, ...]  # nodes of the right shape whose values differ a little


Inputs = Sequence[OnnxValue | None]
Handler = Callable[["Planner", OnnxNode, Inputs], object]


class Planner:
    """The state while a plan is made."""

    def __init__(self, file: OnnxFile, shapes: Sequence[tuple[int, ...]]) -> None:
        self.file = file
        self.steps: list[Step] = []
        self.values: dict[str, OnnxValue] = {}
        self.reads = Counter(readers(file))
        self.statistics: set[str] = set()
        self.approximate: list[str] = []
        self.inputs = tuple(
            OnnxValue(name, shape, torch_dtype(dtype))
            for (name, dtype, _), shape in zip(file.inputs, shapes, strict=True)
        )
        self.values |= {value.name: value for value in self.inputs}

    def run(self, handlers: Mapping[str, Handler]) -> Plan:
        for node in self.file.nodes:
            inputs = [self._value(node, name) if name else None for name in node.inputs]
            if node.op not in handlers or _foldable(inputs):
                if not all(value is None or value.array is not None for value in inputs):
                    raise self.unsupported(node)
                self._fold(node, inputs)
                continue
            self._check_schema(node)
            self._bind(node, handlers[node.op](self, node, inputs))
            if len(self.steps) > MAX_STEPS:
                raise ValueError(f"{self.file.path}: more than {MAX_STEPS:,} operations")
        missing = [name for name in self.file.outputs if name not in self.values]
        if missing or not self.file.outputs:
            raise ValueError(
                f"{self.file.path}: nothing writes {f'output {missing[0]!r}' if missing else 'an output'}"  # noqa: E501
            )
        outputs = tuple(self.values[name] for name in self.file.outputs)
        return Plan(
            self.file,
            self.inputs,
            tuple(_needed(self.steps, outputs)),
            outputs,
            frozenset(self.statistics),
            tuple(self.approximate),
        )

    def _check_schema(self, node: OnnxNode) -> None:
        """Raise ValueError where inputs or attributes are not those of the operator."""
        onnx = import_onnx()
        try:
            schema = onnx.defs.get_schema(node.op, self.file.opset, "")
        except onnx.defs.SchemaError:  # an operator of a later opset; its handler reads it as such
            return
        low, high = schema.min_input, schema.max_input
        if not low <= len(node.inputs) <= high:
            raise ValueError(
                f"{self.place(node)}: it reads {len(node.inputs)} tensors, expected {low} to {high}"
            )
        for attribute in node.proto.attribute:
            known = schema.attributes.get(attribute.name)
            if known is not None and known.type.value != attribute.type:
                raise ValueError(
                    f"{self.place(node)}: its attribute {attribute.name!r} is of another type than "
                    f"{known.type.name}"
                )

    # -- what the handlers use ---------------------------------------------------------------

    def step(
        self,
        node: OnnxNode,
        function: Callable[..., Any],
        operands: Sequence[OnnxValue | None],
        inputs: Sequence[OnnxValue | None] | None = None,
        **info: Any,
    ) -> OnnxValue:
        """Call a function that returns one tensor."""
        return self.split_step(node, function, operands, inputs, **info)[0]

    def split_step(
        self,
        node: OnnxNode,
        function: Callable[..., Any],
        operands: Sequence[OnnxValue | None],
        inputs: Sequence[OnnxValue | None] | None = None,
        **info: Any,
    ) -> tuple[OnnxValue, ...]:
        """Call a function that returns a tensor or several. Raises ValueError if torch refuses."""
        if any(value is not None and value.parts for value in operands):
            raise self.unsupported(node, "it reads a sequence of tensors")
        try:
            made = function(*(None if v is None else v.meta() for v in operands))
        except Exception as error:  # sizes that do not fit together: torch has many words for it
            lines = str(error).strip().splitlines() or [type(error).__name__]
            shapes = ", ".join(str(v.shape) for v in operands if v is not None)
            raise ValueError(
                f"{self.place(node)}: cannot be computed from tensors of shape {shapes}: {lines[0]}"
            ) from None
        results = made if isinstance(made, list | tuple) else (made,)
        step = Step(node, function, tuple(operands), tuple(operands if inputs is None else inputs), info)  # noqa: E501  # fmt: skip
        step.outputs = tuple(
            OnnxValue(name, tuple(t.shape), t.dtype, step=step, position=i)
            for i, (t, name) in enumerate(zip(results, (*node.outputs, *[""] * len(results))))  # noqa: B905
        )
        self.steps.append(step)
        return step.outputs

    def given(self, node: OnnxNode, inputs: Inputs, position: int = 0) -> OnnxValue:
        value = optional(inputs, position)
        if value is None:
            raise self.unsupported(node, f"its input {position} is missing")
        return value

    def axis(self, node: OnnxNode, axis: int, rank: int) -> int:
        """Counted from the front. Raises UnsupportedOperation for one that is not there."""
        if not -rank <= axis < max(rank, 1):
            raise self.unsupported(node, f"axis {axis} of a tensor with {rank} axes")
        return axis % max(rank, 1)

    def axes(self, node: OnnxNode, inputs: Inputs, position: int, rank: int) -> list[int] | None:
        """Axes from the attribute (older opsets) or from an input; None if neither is given."""
        axes = node.attributes.get("axes")
        if axes is None:
            axes = self.ints(node, optional(inputs, position), "axes")
        return None if axes is None else [self.axis(node, int(axis), rank) for axis in axes]

    def array(self, node: OnnxNode, value: OnnxValue | None, what: str) -> np.ndarray | None:
        """The values of an operand that shapes depend on; None if it is left out."""
        if value is None:
            return None
        if value.array is None and value.stored is not None:
            value.array = self._stored_values(value.stored)
        if value.array is None:
            why = (
                "depends on the input" if value.stored is None else "lies in a file that is missing"
            )
            raise self.unsupported(node, f"its {what} {why}")
        return value.array

    def ints(self, node: OnnxNode, value: OnnxValue | None, what: str) -> list[int] | None:
        array = self.array(node, value, what)
        if array is not None and array.dtype.kind not in "iub":
            raise self.unsupported(node, f"its {what} is of type {array.dtype}")
        return None if array is None else [int(item) for item in array.reshape(-1)]

    def known(self, node: OnnxNode, array: np.ndarray) -> OnnxValue:
        return _known(node.outputs[0], array)

    def made_by(self, value: OnnxValue | None, *ops: str) -> Step | None:
        """The step of one of these operators that made the value for its one reader alone."""
        if value is None or value.step is None or self.reads[value.name] != 1:
            return None
        return value.step if value.step.node.op in ops else None

    def place(self, node: OnnxNode) -> str:
        scope = f" of module {node.scope!r}" if node.scope else ""
        return f"{self.file.path}: node {node.name!r} ({node.op}){scope}"

    def unsupported(self, node: OnnxNode, why: str = "it has no model") -> UnsupportedOperation:
        return UnsupportedOperation(
            f"{self.place(node)}: cannot be modelled: {why}; export the network without it, or "
            f"with operations that have a model"
        )

    # -- values ------------------------------------------------------------------------------

    def _value(self, node: OnnxNode, name: str) -> OnnxValue:
        if name not in self.values:
            stored = self.file.tensors.get(name)
            if stored is None:
                raise ValueError(f"{self.place(node)}: reads {name!r}, which nothing writes before")
            self.values[name] = self.stored_value(stored)
        return self.values[name]

    def stored_value(self, stored: StoredTensor) -> OnnxValue:
        """A tensor of the file: weights stay where they are, anything else is read if it is small.

        A single number is known, too: it may be a factor or a bound.
        """
        dtype = torch_dtype(stored.dtype)
        value = OnnxValue(stored.name, stored.shape, dtype, stored=stored)
        size = prod(stored.shape)
        if size == 1 or (not dtype.is_floating_point and size <= MAX_KNOWN_VALUES):
            value.array = self._stored_values(stored)
        return value

    def _stored_values(self, stored: StoredTensor) -> np.ndarray | None:
        if prod(stored.shape) > MAX_KNOWN_VALUES:
            raise ValueError(f"{self.file.path}: tensor {stored.name!r} is too large for a shape")
        try:
            array = stored.values()
        except ValueError as error:
            raise ValueError(f"{self.file.path}: {error}") from None
        if array is not None and array.shape != stored.shape:
            raise ValueError(f"{self.file.path}: tensor {stored.name!r}: {array.shape} values")
        return array

    def _bind(self, node: OnnxNode, made: object) -> None:
        results = made if isinstance(made, tuple) else (made,)
        for name, value in zip(node.outputs, results, strict=False):
            assert isinstance(value, OnnxValue)
            if name and value.name and value.name != name:  # a second name for the same value
                self.reads[value.name] += self.reads[name] - 1
            elif name:
                value.name = name
            self.values[name] = value
        for name in node.outputs[len(results) :]:
            if name and self.reads[name]:
                raise self.unsupported(node, f"its output {name!r} has no model")

    def _fold(self, node: OnnxNode, inputs: Sequence[OnnxValue | None]) -> None:
        """Compute a node whose inputs are all known, unless its result is too large."""
        onnx = import_onnx()
        from onnx.reference import ReferenceEvaluator

        given = zip(node.inputs, inputs, strict=True)
        arrays = {name: value.array for name, value in given if value is not None}
        self._check_size(node, arrays)
        try:
            with np.errstate(all="ignore"):
                graph = onnx.helper.make_graph(
                    [node.proto], "constant", [_info(n, a) for n, a in arrays.items()],
                    [onnx.helper.make_empty_tensor_value_info(n) for n in node.outputs if n],
                )  # fmt: skip
                opsets = [onnx.helper.make_opsetid("", self.file.opset)]
                model = onnx.helper.make_model(graph, opset_imports=opsets)
                results = ReferenceEvaluator(model).run(None, arrays)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self.unsupported(node, f"its result cannot be computed: {lines[0]}") from None
        for name, result in zip([n for n in node.outputs if n], results, strict=True):
            if not isinstance(result, np.ndarray | np.generic):
                raise self.unsupported(node, f"its result is a {type(result).__name__}")
            self.values[name] = _known(name, np.asarray(result))

    def _check_size(self, node: OnnxNode, arrays: Mapping[str, np.ndarray | None]) -> None:
        """Ask for the result's shape before it is computed: a few bytes may ask for terabytes."""
        onnx = import_onnx()
        from onnx.shape_inference import infer_node_outputs

        try:
            schema = onnx.defs.get_schema(node.op, self.file.opset, "")
        except Exception:
            raise self.unsupported(node, "there is no such operator in its opset") from None
        try:
            inferred = infer_node_outputs(
                schema,
                node.proto,
                {name: _info(name, array).type for name, array in arrays.items()},
                {name: onnx.numpy_helper.from_array(array) for name, array in arrays.items()},
                opset_imports=[onnx.helper.make_opsetid("", self.file.opset)],
            )
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self.unsupported(node, f"its inputs do not fit together: {lines[0]}") from None
        for kind in inferred.values():
            dims = kind.tensor_type.shape.dim
            if all(dim.HasField("dim_value") for dim in dims):
                if prod(dim.dim_value for dim in dims) > MAX_KNOWN_VALUES:
                    raise self.unsupported(node, "its result, a constant, is too large")
            elif node.op not in FREE_SIZE:
                raise self.unsupported(node, "the shape of its result is not known")


def optional(inputs: Inputs, position: int) -> OnnxValue | None:
    return inputs[position] if position < len(inputs) else None


def torch_dtype(dtype: np.dtype) -> torch.dtype:
    """float32 for every float, since widths are chosen elsewhere; int64 for every integer."""
    if dtype == np.bool_:
        return torch.bool
    return torch.int64 if np.issubdtype(dtype, np.integer) else torch.float32


def _known(name: str, array: np.ndarray) -> OnnxValue:
    return OnnxValue(name, array.shape, torch_dtype(array.dtype), array=array)


def _foldable(inputs: Sequence[OnnxValue | None]) -> bool:
    """Whether a node is computed now; weights are left to the network even if they are known."""
    given = [value for value in inputs if value is not None]
    return bool(given) and all(
        value.array is not None
        and not (value.stored and value.dtype.is_floating_point and value.shape)
        for value in given
    )


def _info(name: str, array: np.ndarray | None) -> Any:
    helper = import_onnx().helper
    assert array is not None
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, array.shape)


def _needed(steps: Sequence[Step], outputs: Sequence[OnnxValue]) -> list[Step]:
    """The steps that an output depends on, in order."""
    wanted = {id(value.step) for value in outputs if value.step is not None}
    kept: list[Step] = []
    for step in reversed(steps):
        if id(step) in wanted:
            kept.append(step)
            wanted |= {id(v.step) for v in step.operands if v is not None and v.step is not None}
    return kept[::-1]
