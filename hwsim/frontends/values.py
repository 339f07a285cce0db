"""What a node of an exported program stands for while its layers are collected."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from torch.fx import Node

from hwsim.frontends.naming import Call
from hwsim.frontends.views import Seen
from hwsim.graph import Kind, Work


class UnsupportedOperation(ValueError):
    """An operation of the network that has no model here."""


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the network's inputs.

    parameters: those it was computed from. name: the parameter that it is, when it is one, and
    axes: that parameter's axis at each place (transposed weights are still the same parameter).
    """

    shape: tuple[int, ...]
    parameters: tuple[str, ...] = ()
    name: str | None = None
    axes: tuple[int, ...] = ()


@dataclass
class Draft:
    """A layer while readers may still be fused into it."""

    kind: Kind
    work: Work
    inputs: tuple[View, ...]
    seen: Seen
    node: Node  # its value is the output tensor
    work_node: Node
    call: Call
    parameters: list[str] = field(default_factory=list)
    weight: Constant | None = None
    weight_axis: int | None = None
    bias: Constant | None = None
    batch_norm: Node | None = None
    fused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """The output of a layer, as seen after some changes of address."""

    draft: Draft
    seen: Seen

    @property
    def shape(self) -> tuple[int, ...]:
        return self.seen.shape

    @property
    def values(self) -> int:
        return prod(self.seen.shape)


Value = View | Constant | tuple["Value", ...] | None


def operation_name(node: Node) -> str:
    """'conv2d' for aten.conv2d.default; the target's own name for anything that is not ATen."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    namespace, operation = schema.name.split("::")
    return operation if namespace == "aten" else schema.name
