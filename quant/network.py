"""Network: a trained module as its exported graph, batch norm folded, open to be tapped."""

from __future__ import annotations

import copy
import logging
from collections import ChainMap
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg
from torch.nn import functional

from hwsim.frontends.torch_export import capture, export, export_any_batch
from hwsim.graph import Layer, LayerGraph

AtInput = Callable[[str, Tensor], None]
AtOutput = Callable[[str, Tensor], Tensor]
Parameters = Mapping[str, tuple[Tensor, Tensor]]
Walk = Generator[tuple[str, Tensor], tuple[Tensor, Tensor], Tensor]  # see Network.walk

_log = logging.getLogger(__name__)

_CONVOLUTIONS = ("conv2d", "convolution", "_convolution")
_PRODUCTS = {"linear": 0, "mm": 0, "matmul": 0, "addmm": 1}  # operation -> position of its input


@dataclass(frozen=True)
class FoldedLayer:
    """A weighted layer of the network with batch norm folded in.

    layer: its shapes. weight: (out, K), one row an output channel. bias: (out,), zeros where the
    module has none. shape: of the weight as the operation takes it.
    """

    layer: Layer
    weight: Tensor
    bias: Tensor
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.layer.name


def _operation(node: Node) -> str:
    """'conv2d' for the node of aten.conv2d.default."""
    return getattr(node.target, "_opname", None) or str(node.target).split(".")[-2]


def _node(argument: Any) -> Node:
    assert isinstance(argument, Node)
    return argument


def _fold(weight: Tensor, bias: Tensor, norm: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """weight (out, K) and bias of the convolution that equals convolution and batch norm.

    norm: scale, shift, mean, variance, epsilon; scale and shift may be None.
    """
    scale, shift, mean, variance, epsilon = norm
    factor = (variance + epsilon).rsqrt()
    if scale is not None:
        factor = factor * scale
    bias = (bias - mean) * factor
    return weight * factor.unsqueeze(1), bias if shift is None else bias + shift


class _Plan:
    """An exported program, ready to run: constants evaluated, last uses known."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        stored = {**program.state_dict, **program.constants}
        held = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.constants: dict[Node, Any] = {}
        self.inputs: list[Node] = []
        self.steps: list[Node] = []
        self.result: Any = None
        with torch.no_grad():
            for node in program.graph.nodes:
                if node.op == "placeholder":
                    if node.name in held:
                        value = stored[held[node.name]].detach()
                        floating = value.is_floating_point()  # of 16 or 64 bits, perhaps
                        self.constants[node] = value.to(torch.float32) if floating else value
                    else:
                        self.inputs.append(node)
                elif node.op == "output":
                    self.result = node.args[0]
                elif node.all_input_nodes and all(
                    source in self.constants for source in node.all_input_nodes
                ):
                    self.constants[node] = self.call(node, self.constants)
                else:
                    self.steps.append(node)
        self.by_name = {node.name: node for node in program.graph.nodes}
        last: dict[Node, Node] = {}
        for node in self.steps:
            last.update(dict.fromkeys(node.all_input_nodes, node))
        kept = set(self.constants)
        map_arg(self.result, lambda node: kept.add(node))
        self.dead_after: dict[Node, list[Node]] = {}
        for node, reader in last.items():
            if node not in kept:
                self.dead_after.setdefault(reader, []).append(node)

    @staticmethod
    def call(node: Node, values: Mapping[Node, Any]) -> Any:
        args = map_arg(node.args, values.__getitem__)
        kwargs = map_arg(node.kwargs, values.__getitem__)
        assert callable(node.target)
        return node.target(*args, **kwargs)


class Network:
    """A module as in eval mode, run node by node, with its weighted layers' folded parameters.

    module: a trained classifier, one image tensor in and logits (batch, classes) out; it stays in
    the mode that it is in, and shares its parameters: after more training make the Network anew.
    Everything computes in float32. input_shape: of one image, (channels, height, width). name:
    what files and messages call it, by default the module's class.
    graph: its LayerGraph. classes: number of logits. layers: {name: FoldedLayer} of every weighted
    layer, in order. scales: {layer: (out,)} of layers whose functions are computed on the product
    times these, and divided by them again; see `with_parameters`.
    Raises ValueError (UnsupportedOperation) for operations that the graph has no model of, and for
    a network with other than one input and one output.
    """

    def __init__(
        self, module: nn.Module, input_shape: Sequence[int], name: str | None = None
    ) -> None:
        name = name or type(module).__name__
        self.module, self.input_shape, self.name = module, tuple(input_shape), name
        traced = capture(module, (1, *self.input_shape), name)
        self.graph: LayerGraph = traced.graph
        self._joins = traced.joins
        self._plans: dict[int | None, _Plan] = {1: _Plan(traced.program)}
        plan = self._plans[1]
        outputs: list[Node] = []
        map_arg(plan.result, outputs.append)
        if len(plan.inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"network {name!r}: expected one input and one output tensor, got "
                f"{len(plan.inputs)} and {len(outputs)}"
            )
        self._result = outputs[0].name
        self.classes = int(outputs[0].meta["val"].shape[-1])
        self._layer_at = {join.work: layer for layer, join in self._joins.items() if join.work}
        self._writes = {join.output: layer for layer, join in self._joins.items()}
        self._norms = {join.batch_norm for join in self._joins.values() if join.batch_norm}
        self.layers = {layer.name: self._folded(plan, layer) for layer in self.graph.weighted}
        self.scales: Mapping[str, Tensor] = {}
        weights = sum(folded.weight.numel() for folded in self.layers.values())
        _log.info(
            "%s: %d layers, %d with %d weights", name, len(self._joins), len(self.layers), weights
        )

    @cached_property
    def parameters(self) -> Parameters:
        """{layer: (weight (out, K), bias (out,))} of the float network."""
        return {name: (folded.weight, folded.bias) for name, folded in self.layers.items()}

    def with_parameters(
        self, parameters: Parameters, scales: Mapping[str, Tensor] | None = None
    ) -> Network:
        """The same network with other folded parameters, which become its float ones.

        scales: {layer: (out,)}; that layer's output is f(scale x product) / scale for its functions
        f. Files and exports of such a network would lack the scales: they refuse it.
        """
        other = copy.copy(self)
        other.__dict__.pop("parameters", None)  # kept by cached_property
        other.layers = {
            name: replace(folded, weight=parameters[name][0], bias=parameters[name][1])
            for name, folded in self.layers.items()
        }
        other.scales = dict(scales or {})
        return other

    def check_unscaled(self, what: str) -> None:
        """Raises ValueError for a network with `scales`, which a file or an export would lack."""
        if self.scales:
            raise ValueError(
                f"{what} network {self.name!r}: the functions behind {', '.join(self.scales)} are "
                f"scaled channel by channel (see quant.equalise), which it cannot say; equalise "
                f"only layers in front of a ReLU"
            )

    def _scale(self, name: str, x: Tensor) -> Tensor:
        """The scales of a layer, to stand beside x, its output tensor."""
        shape = [1] * x.ndim
        shape[self.graph[name].output.channel_axis] = -1
        return self.scales[name].reshape(shape)

    def _folded(self, plan: _Plan, layer: Layer) -> FoldedLayer:
        join = self._joins[layer.name]
        assert join.work is not None
        node = plan.by_name[join.work]
        operation = _operation(node)
        if operation in _CONVOLUTIONS or operation == "linear":
            weight_node, bias_node = node.args[1], node.args[2] if len(node.args) > 2 else None
        elif operation == "addmm":
            weight_node, bias_node = node.args[2], node.args[0]
        elif operation in _PRODUCTS:
            weight_node, bias_node = node.args[1], None
        else:
            raise ValueError(
                f"network {self.name!r}: layer {layer.name!r} is computed by {operation}, whose "
                f"weights cannot be exchanged; there is {', '.join((*_CONVOLUTIONS, *_PRODUCTS))}"
            )
        if weight_node not in plan.constants:
            raise ValueError(
                f"network {self.name!r}: the weights of layer {layer.name!r} depend on the input"
            )
        stored = plan.constants[weight_node]
        if operation in _PRODUCTS and operation != "linear":
            stored = stored.t()
        weight = stored.reshape(stored.shape[0], -1).to(torch.float32)
        if isinstance(bias_node, Node):
            bias = plan.constants[bias_node].to(torch.float32)
        else:
            bias = weight.new_zeros(len(weight))
        if join.batch_norm is not None:
            weight, bias = _fold(weight, bias, self._norm(plan, plan.by_name[join.batch_norm]))
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ValueError(
                f"network {self.name!r}: layer {layer.name!r} has NaN or infinite weights (with "
                f"batch norm folded in); give weights that are all finite"
            )
        return FoldedLayer(layer, weight.contiguous(), bias.clone(), tuple(stored.shape))

    def _norm(self, plan: _Plan, node: Node) -> list[Any]:
        """Scale, shift, mean, variance and epsilon of a batch norm node."""
        args = [plan.constants[a] if isinstance(a, Node) else a for a in node.args[1:]]
        flags = 1  # "momentum" or "training, momentum" lie between the variance and epsilon
        if _operation(node) in ("batch_norm", "native_batch_norm"):
            flags = 2
        return [*args[:4], args[4 + flags]]

    def plan(self, batch: int | None) -> _Plan:
        """The program at a batch size, None for any; exported when first asked for.

        Raises ValueError for a module that cannot be exported for any batch size."""
        if batch not in self._plans:
            if batch is None:
                program = export_any_batch(self.module, self.input_shape, self.name)
            else:
                program = export(self.module, (batch, *self.input_shape))
            self._plans[batch] = _Plan(program)
        return self._plans[batch]

    def run(
        self,
        images: Tensor,
        parameters: Parameters | None = None,
        at_input: AtInput | None = None,
        at_output: AtOutput | None = None,
    ) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width).

        parameters: {layer: (weight (out, K), bias (out,))}, the folded float ones by default; those
        that a mapping leaves out too. at_input(layer, x) is called with the tensor that each
        weighted layer's product reads, at_output(layer, x) with each layer's output tensor, after
        all that is fused; what it returns takes the tensor's place. Gradients flow if enabled.
        """
        walk = self.walk(images, at_output)
        own = self.parameters if parameters is None else {**self.parameters, **parameters}
        try:
            name, x = next(walk)
            while True:
                if at_input is not None:
                    at_input(name, x)
                name, x = walk.send(own[name])
        except StopIteration as end:
            logits: Tensor = end.value
            return logits

    def walk(self, images: Tensor, at_output: AtOutput | None = None) -> Walk:
        """The same, pausing before every weighted layer: yields its name and the tensor that its
        product reads, wants its (weight (out, K), bias (out,)) sent, and returns the logits.

        What is still needed stays in memory while the walk pauses.
        """
        if images.shape[1:] != self.input_shape:
            raise ValueError(
                f"network {self.name!r}: images must be (batch, "
                f"{', '.join(map(str, self.input_shape))}), got {tuple(images.shape)}"
            )
        batch = images.shape[0]
        plan = self.plan(batch if isinstance(batch, int) else None)  # a symbol while it is traced
        values: dict[Node, Any] = dict(plan.constants)
        for node in [*plan.inputs, *plan.steps]:
            name = self._layer_at.get(node.name)
            if node.op == "placeholder":
                value: Any = images
            elif name in self.layers:
                x = values[self._source(node)]
                parameters = yield name, x
                value = self._product(node, self.layers[name].shape, x, parameters, values)
                if name in self.scales:
                    value = value * self._scale(name, value)
            elif node.name in self._norms:
                value = values[_node(node.args[0])]
                if "native" in _operation(node):
                    value = (value, None, None)
            else:
                value = plan.call(node, values)
            if (written := self._writes.get(node.name)) is not None:
                if written in self.scales:
                    value = value / self._scale(written, value)
                if at_output is not None:
                    value = at_output(written, value)
            values[node] = value
            for dead in plan.dead_after.get(node, ()):
                del values[dead]
        result: Tensor = values[plan.by_name[self._result]]
        return result

    def functions_behind(self, name: str) -> tuple[Node, ...]:
        """What a weighted layer's product goes through on its way to the layer's output: norms,
        which are folded, and functions. Empty if another tensor takes part on the way."""
        plan, join = self._plans[1], self._joins[name]
        node, work = plan.by_name[join.output], plan.by_name[join.work]
        found = []
        while node is not work:
            sources = [n for n in node.all_input_nodes if n not in plan.constants]
            if len(sources) != 1 or node.name in self._layer_at:
                return ()
            found.append(node)
            node = sources[0]
        return tuple(reversed(found))

    def functions_of(self, name: str) -> tuple[str, ...] | None:
        """Operations that a weighted layer's product goes through on its way to the layer's output,
        norms left out ("relu", "hardtanh"). None if another tensor takes part on the way."""
        join, nodes = self._joins[name], self.functions_behind(name)
        if not nodes and join.output != join.work:
            return None
        return tuple(
            _operation(node)
            for node in nodes
            if node.name not in self._norms and node.target is not getitem
        )

    def is_bent(self, name: str) -> bool:
        """Whether a weighted layer's output is a function of its product, other than linear."""
        return bool(self.functions_of(name))

    def layer_output(self, name: str, x: Tensor, parameters: tuple[Tensor, Tensor]) -> Tensor:
        """Output of a layer for `x` (one image), which its product reads, after all that is fused.

        parameters: (weight (out, K), bias (out,)). For layers with `functions_behind` only.
        """
        plan = self._plans[1]
        node = plan.by_name[self._joins[name].work]
        value: Any = self._product(node, self.layers[name].shape, x, parameters, plan.constants)
        if name in self.scales:
            value = value * self._scale(name, value)
        for function in self.functions_behind(name):
            if function.name in self._norms:
                value = (value, None, None) if "native" in _operation(function) else value
            else:
                value = plan.call(function, ChainMap({node: value}, plan.constants))
            node = function
        output: Tensor = value
        return output / self._scale(name, output) if name in self.scales else output

    @staticmethod
    def _source(node: Node) -> Node:
        """The input of a weighted layer's product."""
        return _node(node.args[_PRODUCTS.get(_operation(node), 0)])

    @staticmethod
    def _product(
        node: Node,
        shape: tuple[int, ...],
        x: Tensor,
        parameters: tuple[Tensor, Tensor],
        values: Mapping[Node, Any],
    ) -> Tensor:
        weight, bias = parameters
        if weight.shape != shape:  # a view of the same shape would be a step of exported programs
            weight = weight.view(shape)
        if _operation(node) in _PRODUCTS:
            return functional.linear(x, weight, bias)
        rest = map_arg(node.args[3:], values.__getitem__)
        assert callable(node.target)
        product: Tensor = node.target(x, weight, bias, *rest, **node.kwargs)
        return product

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.run(images)
