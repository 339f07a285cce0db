"""Names of layers: the path of the module that was called, made unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.fx import Node

if TYPE_CHECKING:
    from hwsim.frontends.values import Constant, Draft


@dataclass(frozen=True)
class Call:
    """One call of one module. key: unique to the call. path: the module's. kind: its class."""

    key: str
    path: str
    kind: str

    @property
    def described(self) -> str:
        return f"{self.path}: {self.kind}" if self.path else ""


def innermost_call(node: Node) -> Call:
    """The call of a module that the node belongs to; the network itself for a placeholder."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return Call("", "", "")
    key, (path, kind) = list(stack.items())[-1]
    return Call(key, path, kind if isinstance(kind, str) else kind.__qualname__)


def layer_names(drafts: Sequence[Draft], nodes: Iterable[Node]) -> list[str]:
    """One unique name for each layer.

    A layer with a weight of its own module is called after it ("layer1.0.conv1", from
    "layer1.0.conv1.weight"; "attention.in_proj", from "attention.in_proj_weight"). A module that
    calls no other and gives one layer lends it its path. Anything else is the path of its module
    and its operation ("layer1.0.add"). From the second on, the same name gets "#2", "#3" and so on.
    """
    outer = {key for node in nodes for key in list(node.meta.get("nn_module_stack") or {})[:-1]}
    layers_in_call = Counter(draft.call.key for draft in drafts)
    inputs = sum(draft.kind == "input" for draft in drafts)
    names: list[str] = []
    for draft in drafts:
        alone = draft.call.key not in outer and layers_in_call[draft.call.key] == 1
        names.append(_unique(_name(draft, alone, inputs), names))
    return names


def _unique(name: str, taken: Sequence[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}#{number}"
    return unique


def _name(draft: Draft, alone: bool, inputs: int) -> str:
    if draft.kind == "input":
        return "input" if inputs == 1 else draft.node.name
    path = draft.call.path
    owner = _owner(draft.weight.name if draft.weight else None)
    if owner and (not path or owner == path or owner.startswith(f"{path}.")):
        return owner
    if alone and path:
        return path
    operation = draft.work_node.target.__name__.split(".")[0].strip("_")  # type: ignore[union-attr]
    return f"{path}.{operation}" if path else operation


def _owner(parameter: str | None) -> str:
    """'fc' for 'fc.weight', 'attention.in_proj' for 'attention.in_proj_weight'."""
    if parameter is None or parameter == "weight":
        return ""
    return parameter.removesuffix("weight").rstrip("._")


def owned_parameter(
    constant: Constant | None, call: Call, original: Mapping[str, str]
) -> str | None:
    """The name of a parameter, as the calling module knows it where several modules share it."""
    if constant is None or constant.name is None:
        return None
    name = constant.name
    own = f"{call.path}.{name.rsplit('.', 1)[-1]}"
    if original.get(own, own) == original.get(name, name) and own in original:
        return own
    return name
