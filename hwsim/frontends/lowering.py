"""From an exported program to a LayerGraph: one pass over its nodes.

Every node has a value: a constant (nothing that the network reads reaches it, so it is computed
once and for all before inference), or a view of the tensor that some layer writes, or several of
these. What a node does to its values is looked up by the name of its operation: views.py for
changes of address, ops.py for work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from hwsim.frontends.naming import innermost_call, layer_names, owned_parameter
from hwsim.frontends.ops import HANDLERS, LIKE
from hwsim.frontends.values import (
    Constant,
    Draft,
    UnsupportedOperation,
    Value,
    View,
    operation_name,
)
from hwsim.frontends.views import VIEWS, Seen, permutation
from hwsim.graph import Kind, Layer, LayerGraph, Tensor, Vector, Work


@dataclass(frozen=True)
class Join:
    """The nodes of an exported program that make up one layer.

    work: the node that does the work, for instance the convolution. batch_norm: the node folded
    into it, or None. output: the node whose value is the layer's output tensor. weight_axis: the
    axis of the weight parameter along which its output channels lie; None without a weight.
    """

    work: str
    batch_norm: str | None
    output: str
    weight_axis: int | None


def layer_graph(program: ExportedProgram, name: str) -> tuple[LayerGraph, dict[str, Join]]:
    """The layers of an exported program, and the nodes that belong to each of them.

    program: what `hwsim.frontends.torch_export.export` returns for one image. Raises
    UnsupportedOperation for an operation without a model.
    """
    return Lowering(program, name).run()


class Lowering:
    """The state of the pass: values so far, layers so far."""

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self.program = program
        self.name = name
        self.drafts: list[Draft] = []
        self.values: dict[Node, Value] = {}
        signature = program.graph_signature
        self.parameter_of = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.parameters = set(signature.parameters)
        self.user_inputs = set(signature.user_inputs)

    def run(self) -> tuple[LayerGraph, dict[str, Join]]:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                return self._finish(node)
            else:
                raise self.unsupported(node, f"a {node.op} node is not functional ATen")
        raise ValueError(f"network {self.name!r}: the exported program has no output")

    # -- what the handlers in ops.py use ------------------------------------------------------

    def view(self, node: Node, arguments: Mapping[str, Any], key: str) -> View:
        """The argument as an activation; an error when it is a constant."""
        value = self.value(arguments[key])
        if not isinstance(value, View):
            raise self.unsupported(node, f"its {key} does not come from the network's input")
        return value

    def constant(self, node: Node, arguments: Mapping[str, Any], key: str) -> Constant | None:
        """The argument as a constant, None if it is absent; an error when it is an activation."""
        value = self.value(arguments.get(key))
        if isinstance(value, View | tuple):
            raise self.unsupported(node, f"its {key} depends on the network's input")
        return value

    def value(self, argument: Any) -> Value:
        """The value behind an argument of a node; None for numbers, None, and other plain data."""
        if isinstance(argument, Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return tuple(self.value(item) for item in argument)
        return None

    def emit(
        self,
        node: Node,
        kind: Kind,
        work: Work,
        inputs: Iterable[View],
        channel_axis: int,
        *,
        constants: Sequence[Constant | None] = (),
        output: Node | None = None,
        **fields: Any,
    ) -> View:
        """Add a layer for `node` and return its output.

        constants: what it reads besides its inputs. output: the node that holds the output tensor
        when that is not `node` itself. fields: further fields of Draft.
        """
        output = output or node
        rank = len(self.shape(output))
        draft = Draft(
            kind=kind,
            work=work,
            inputs=tuple(inputs),
            seen=Seen(self.shape(output), channel_axis % rank if rank else 0),
            node=output,
            work_node=node,
            call=innermost_call(node),
            parameters=[p for c in constants if c is not None for p in c.parameters],
            **fields,
        )
        self.drafts.append(draft)
        return View(draft, draft.seen)

    def fusible(self, argument: Node) -> Draft | None:
        """The layer that a single reader of `argument` may be fused into, if there is one.

        It must have written `argument` itself or one that only copies it, and nothing else may
        read what is in between.
        """
        value = self.values[argument]
        if not isinstance(value, View) or value.draft.kind == "input":
            return None
        node = argument
        while node is not value.draft.node:
            if len(node.users) != 1 or operation_name(node) not in ("clone", "alias", "detach"):
                return None
            node = node.all_input_nodes[0]
        return value.draft if len(node.users) == 1 and value.seen == value.draft.seen else None

    def fuse(
        self, draft: Draft, node: Node, name: str, constants: Sequence[Constant | None] = ()
    ) -> View:
        """Make `node` the last step of a layer."""
        draft.node = node
        draft.fused.append(name)
        draft.parameters += [p for c in constants if c is not None for p in c.parameters]
        return View(draft, draft.seen)

    def shape(self, node: Node) -> tuple[int, ...]:
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor):
            raise self.unsupported(node, "it returns something other than one tensor")
        if not all(isinstance(size, int) for size in value.shape):
            raise self.unsupported(node, f"its shape {tuple(value.shape)} depends on values")
        return tuple(value.shape)

    def unsupported(self, node: Node, why: str = "it has no model") -> UnsupportedOperation:
        call = innermost_call(node)
        place = f" in module {call.path!r}" if call.path else ""
        frame = _last_frame(node)
        return UnsupportedOperation(
            f"network {self.name!r}: cannot model node {node.name!r} ({node.target}){place}: {why}"
            f"{f'; it comes from {frame}' if frame else ''}; rewrite it with operations that have "
            f"a model, or leave it out of the module that is exported"
        )

    # -- one node ------------------------------------------------------------------------------

    def _placeholder(self, node: Node) -> Value:
        if node.name in self.parameter_of:
            name = self.parameter_of[node.name]
            shape = self.shape(node)
            used = (name,) if name in self.parameters else ()
            return Constant(shape, used, name, tuple(range(len(shape))))
        if not isinstance(node.meta["val"], torch.Tensor):
            return None
        shape = self.shape(node)
        axis = 1 if len(shape) in (2, 4) else len(shape) - 1
        return self.emit(node, "input", Vector(0), (), axis)

    def _call(self, node: Node) -> Value:
        operation = operation_name(node)
        if operation == "getitem":
            values = self.value(node.args[0])
            assert isinstance(values, tuple)
            return values[node.args[1]]  # type: ignore[index]
        if node.meta.get("val") is None:
            return None  # an assertion about a tensor's type or shape: true once exported
        inputs = _flat(self.value(list(node.args)), self.value(list(node.kwargs.values())))
        arguments = _arguments(node)
        if operation in LIKE or not any(isinstance(v, View) for v in inputs):
            return self._constant_result(node, operation, arguments, inputs)
        if operation in VIEWS:
            return self._seen_anew(node, operation, arguments)
        if operation in HANDLERS:
            return HANDLERS[operation](self, node, arguments)
        raise self.unsupported(node)

    def _constant_result(
        self, node: Node, operation: str, arguments: dict[str, Any], values: list[Value]
    ) -> Value:
        constants = [value for value in values if isinstance(value, Constant)]
        used = tuple(dict.fromkeys(p for c in constants for p in c.parameters))
        source = constants[0] if len(constants) == 1 else None

        def result(shape: torch.Size) -> Constant:
            if source and source.name and len(shape) == len(source.shape):
                if operation in ("permute", "transpose", "t"):
                    order = permutation(operation, arguments, len(shape))
                    return replace(
                        source, shape=tuple(shape), axes=tuple(source.axes[o] for o in order)
                    )
                if operation in ("clone", "alias", "detach", "contiguous"):
                    return source
            return Constant(tuple(shape), used)

        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            return result(value.shape)
        if isinstance(value, list | tuple):
            return tuple(result(v.shape) if isinstance(v, torch.Tensor) else None for v in value)
        return None

    def _seen_anew(self, node: Node, operation: str, arguments: dict[str, Any]) -> Value:
        view = self.value(node.all_input_nodes[0])
        assert isinstance(view, View)

        def seen(value: torch.Tensor) -> View:
            shape = tuple(value.shape)
            axis = VIEWS[operation](view.seen, arguments, shape) if shape else 0
            return View(view.draft, Seen(shape, axis))

        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            return seen(value)
        return tuple(seen(part) for part in value)

    # -- drafts to layers ----------------------------------------------------------------------

    def _finish(self, output: Node) -> tuple[LayerGraph, dict[str, Join]]:
        names = layer_names(self.drafts, self.program.graph.nodes)
        name_of = {id(draft): name for draft, name in zip(self.drafts, names, strict=True)}
        original = _first_names(self.program)
        sizes = {name: tensor.numel() for name, tensor in self.program.state_dict.items()}
        counted: set[str] = set()
        layers, joins = [], {}
        for draft, name in zip(self.drafts, names, strict=True):
            new = {original[p] for p in draft.parameters} - counted
            counted |= new
            layers.append(
                Layer(
                    name=name,
                    kind=draft.kind,
                    work=draft.work,
                    inputs=tuple(_tensor(name_of[id(v.draft)], v.seen) for v in draft.inputs),
                    output=_tensor(name, draft.seen),
                    weight=owned_parameter(draft.weight, draft.call, original),
                    bias=owned_parameter(draft.bias, draft.call, original),
                    params=sum(sizes[p] for p in new),
                    fused=tuple(draft.fused),
                    node=draft.node.name,
                    op=str(draft.work_node.target) if draft.kind != "input" else "input",
                    source=draft.call.described,
                )
            )
            joins[name] = Join(
                work=draft.work_node.name,
                batch_norm=draft.batch_norm.name if draft.batch_norm else None,
                output=draft.node.name,
                weight_axis=draft.weight_axis,
            )
        read = [v for v in _flat(self.value(list(output.args))) if isinstance(v, View)]
        outputs = tuple(dict.fromkeys(name_of[id(view.draft)] for view in read))
        if not outputs:
            raise ValueError(
                f"network {self.name!r}: no output depends on the network's input; return a tensor "
                f"computed from it"
            )
        return LayerGraph(self.name, tuple(layers), outputs), joins


_TORCH_FOLDER = str(Path(torch.__file__).parent)


def _tensor(name: str, seen: Seen) -> Tensor:
    return Tensor(name, seen.shape, seen.channel_axis)


def _first_names(program: ExportedProgram) -> dict[str, str]:
    """For every parameter the first name of the same tensor: shared weights are counted once."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in program.state_dict.items()}


def _flat(*values: Value) -> list[Value]:
    flat: list[Value] = []
    for value in values:
        flat += _flat(*value) if isinstance(value, tuple) else [value]
    return flat


def _arguments(node: Node) -> dict[str, Any]:
    """Arguments by their names in the operation's schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(enumerate(node.args)) | node.kwargs  # type: ignore[return-value]
    arguments = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    arguments.update(zip((a.name for a in schema.arguments), node.args, strict=False))
    arguments.update(node.kwargs)
    return arguments


def _last_frame(node: Node) -> str:
    """'model.py, line 12: y = torch.cumsum(x, 1)', the innermost line of the user's own code."""
    lines = (node.meta.get("stack_trace") or "").splitlines()
    frames = [
        (line.strip(), lines[i + 1].strip() if i + 1 < len(lines) else "")
        for i, line in enumerate(lines)
        if line.strip().startswith("File ")
    ]
    own = [f for f in frames if _TORCH_FOLDER not in f[0]] or frames
    return f"{own[-1][0].removeprefix('File ')}: {own[-1][1]}" if own else ""
