"""What all ONNX formats share: the network's graph with marks, which a format's style replaces.

torch.onnx translates the network's operations. Where a layer reads a parameter and where a tensor
is rounded stand marks (operations of a domain of their own); a Style says what stands there in the
end. So no weight passes through the translation, and none can be folded or rounded by it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hwsim.frontends.torch_export import quiet
from quant.apply import QuantizedNetwork
from quant.export.described import DESCRIPTION, description
from quant.export.levels import LayerLevels, layer_levels
from quant.export.program import INPUT, OUTPUT, export_program
from quant.quantizer import ActivationQuantizer

if TYPE_CHECKING:
    import onnx

_DOMAIN = "chipfit.mark"
OPSET = 21  # the first whose QuantizeLinear knows 4 and 16 bits
MAX_OPSET = 25  # the first with 2-bit numbers


@dataclass
class Part:
    """Nodes and initialisers that are to stand in place of a mark."""

    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        made = helper.make_node(operation, inputs, [output], name=f"{output}.node", **attributes)
        self.nodes.append(made)
        return output


class Style(Protocol):
    """How a format writes weights and roundings. opset: of the plain operations that it uses.
    domains: versions of other sets of operations."""

    opset: int
    domains: Mapping[str, int]

    def weight(self, part: Part, layer: LayerLevels, output: str) -> None:
        """Add what computes the layer's weight under the name `output`."""

    def rounding(
        self,
        part: Part,
        quantizers: tuple[ActivationQuantizer, ...],
        axis: int | None,
        rank: int,
        source: str,
        output: str,
    ) -> None:
        """Add what rounds the tensor `source`, of `rank` axes; one quantiser, or one for each
        channel along `axis`."""


class _Marks:
    """The Dialect of a graph with marks."""

    def prepare(self, owner: nn.Module, quantized: QuantizedNetwork) -> None:
        self._layers = quantized.network.layers

    def parameters(self, owner: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
        shape = self._layers[layer].shape
        weight, bias = (
            torch.onnx.ops.symbolic(
                f"{_DOMAIN}::{kind}", (), {"layer": layer}, dtype=torch.float32, shape=size,
                version=1,
            )
            for kind, size in (("Weight", shape), ("Bias", shape[:1]))
        )  # fmt: skip
        return weight, bias

    def rounded(self, owner: nn.Module, layer: str, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::Rounding", (x,), {"layer": layer, "rank": x.ndim}, dtype=x.dtype,
            shape=x.shape, version=1,
        )  # fmt: skip


def onnx_model(
    quantized: QuantizedNetwork, style: Style, batch: int | None = None
) -> onnx.ModelProto:
    """The network in a style; input `images`, output `logits`, widths in its metadata.

    batch: images at once, None for any number. Raises ValueError if an extra is not installed, and
    as `export_program` does.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx translates with it
    except ImportError:
        raise ValueError(
            "writing ONNX needs the packages onnx and onnxscript: pip install 'chipfit[export]'"
        ) from None
    program = export_program(quantized, _Marks(), batch)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        translated = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=style.opset,
            input_names=[INPUT], output_names=[OUTPUT],
        )  # fmt: skip
    assert translated is not None
    model = translated.model_proto
    done = _replaced(model, quantized, style)
    del model.opset_import[:]
    for domain, version in {"": style.opset, **style.domains}.items():
        model.opset_import.append(onnx.helper.make_opsetid(domain, version))
    model.ir_version = 13 if style.opset > OPSET else 10
    model.producer_name = "chipfit"
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(done.nodes)
    model.graph.initializer.extend(done.initializers)
    onnx.helper.set_model_props(model, {DESCRIPTION: description(quantized)})
    return model


def _replaced(model: onnx.ModelProto, quantized: QuantizedNetwork, style: Style) -> Part:
    """The nodes of the model with every mark replaced, and the initialisers that this takes."""
    graph, done = quantized.network.graph, Part()
    for node in model.graph.node:
        if node.domain != _DOMAIN:
            for source in ("doc_string", "metadata_props"):  # lines of code that torch.onnx notes
                node.ClearField(source)
            done.nodes.append(node)
            continue
        said = {a.name: a.s.decode() if a.s else a.i for a in node.attribute}
        name, output = said["layer"], node.output[0]
        if node.op_type == "Weight":
            style.weight(done, layer_levels(quantized, name), output)
        elif node.op_type == "Bias":
            done.constant(output, quantized.parameters[name][1].to(torch.float32).numpy())
        else:
            own = quantized.activations[name]
            each = own if isinstance(own, tuple) else (own,)
            axis = graph[name].output.channel_axis if isinstance(own, tuple) else None
            style.rounding(done, each, axis, said["rank"], node.input[0], output)
    return done


def along(values: list[float], axis: int | None, rank: int, dtype: type) -> np.ndarray:
    """One number, or one a channel, in a shape that broadcasts against a tensor of `rank` axes."""
    if axis is None:
        return np.array(values[0], dtype)
    return np.array(values, dtype).reshape([-1 if i == axis else 1 for i in range(rank)])
