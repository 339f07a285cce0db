"""ZigZag: the workload (.yaml) of a network, with the bit widths of its operands.

Fields as in KULeuven-MICAS/zigzag, zigzag/parser/workload_validator.py and inputs/workload/. Linear
layers are 1 x 1 convolutions over their rows and products of two activations Gemm; additions of two
feature maps stay, all other work of the vector unit is left out and its readers read what it reads.
A layer has one width there: the mean over its channels, rounded up.
"""

from __future__ import annotations

import json
import os
from math import ceil

from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import Conv, Gemm, Layer, LayerGraph, Tensor

PSUM_BITS = 32
_CONV = "O[b][{g}k][oy][ox]+=W[{g}k][c][fy][fx]*I[b][{g}c][iy][ix]"
_PRODUCT = "O[g][d][k]+=I[g][d][c]*W[g][c][k]"
_ADD = "O[b][g][oy][ox]=W[b][g][oy][ox]+I[b][g][oy][ox]"


def zigzag_workload(graph: LayerGraph, bits: BitWidths, batch: int = 1) -> str:
    """The text of a workload file. bits: of this graph. batch: images at once.

    Raises ValueError for widths of another network and for a graph without matrix work.
    """
    bits.check(graph)
    if not any(layer.gemm for layer in graph):
        raise ValueError(f"graph {graph.name!r}: no convolution or matrix product to write")
    ids: dict[str, int] = {}
    came_from: dict[str, str] = {}  # a layer left out -> the written layer that it reads, or ""
    lines: list[str] = []
    for layer in graph:
        fields = _fields(layer, batch)
        if fields is None:
            first = layer.inputs[0].name if layer.inputs else ""
            came_from[layer.name] = first if first in ids else came_from.get(first, "")
            continue
        number = ids[layer.name] = len(ids)
        read = [t.name if t.name in ids else came_from[t.name] for t in layer.inputs]
        sources = [ids.get(name, number) for name in read]  # its own number: no layer
        weights = bits.weight(layer) if layer.weighted else None
        second = layer.inputs[-1]
        entry = {
            "name": layer.name,
            **fields,
            "operand_precision": {
                "W": _width(bits, second) if weights is None else max(1, ceil(weights.mean())),
                "I": _width(bits, layer.inputs[0]),
                "O": PSUM_BITS,
                "O_final": _width(bits, layer.output),
            },
            "operand_source": {"I": sources[0], "W": number if layer.weighted else sources[-1]},
        }
        lines.append(f"- id: {number}")
        lines += [f"  {key}: {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"


def _width(bits: BitWidths, tensor: Tensor) -> int:
    return ceil(bits.activation(tensor.name, _channels(bits, tensor)).mean())


def _channels(bits: BitWidths, tensor: Tensor) -> int:
    """A reader may see the channels of a tensor in another shape; widths are of the writer's."""
    widths = bits.activations
    own = widths[tensor.name] if not isinstance(widths, int) else None
    return tensor.channels if own is None or own.size == 1 else own.size


def _fields(layer: Layer, batch: int) -> dict[str, object] | None:
    """What a layer computes, or None if it is left out."""
    work, gemm = layer.work, layer.gemm
    if isinstance(work, Conv):
        return _convolution(work, batch)
    if gemm is not None and layer.weighted:
        line = (1, gemm.pixels)
        flat = Conv(gemm.reduction, gemm.columns, (1, 1), (1, 1), (0, 0), (1, 1), 1, line, line)
        return _convolution(flat, batch)
    if gemm is not None:
        return _product(gemm, batch)
    shape = layer.output.shape
    if layer.kind == "add" and len(layer.inputs) == 2 and len(shape) == 4:
        return {"operator_type": "Add", "equation": _ADD, "loop_dims": ["B", "G", "OY", "OX"],
                "loop_sizes": [batch, *shape[1:]]}  # fmt: skip
    return None


def _product(gemm: Gemm, batch: int) -> dict[str, object]:
    sizes = [gemm.groups * batch, gemm.pixels, gemm.columns, gemm.reduction]
    return {"operator_type": "Gemm", "equation": _PRODUCT, "dimension_relations": [],
            "loop_dims": ["G", "D", "K", "C"], "loop_sizes": sizes}  # fmt: skip


def _convolution(conv: Conv, batch: int) -> dict[str, object]:
    grouped = conv.groups > 1
    groups = [conv.groups] if grouped else []
    (sy, sx), (dy, dx) = conv.stride, conv.dilation
    channels, filters = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    return {
        "operator_type": "Conv",
        "equation": _CONV.format(g="g][" if grouped else ""),
        "dimension_relations": [f"ix={sx}*ox+{dx}*fx", f"iy={sy}*oy+{dy}*fy"],
        "loop_dims": ["B", *(["G"] if grouped else []), "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [batch, *groups, filters, channels, *conv.ofmap_size, *conv.kernel],
        "pr_loop_dims": ["IY", "IX"],
        "pr_loop_sizes": list(conv.ifmap_size),
        "padding": [[pad, pad] for pad in conv.padding],
    }


def write_zigzag(
    graph: LayerGraph, path: str | os.PathLike[str], bits: BitWidths, batch: int = 1
) -> tuple[str, ...]:
    """Write a workload; returns the names of the layers left out. Raises as `zigzag_workload`."""
    write_atomically(path, zigzag_workload(graph, bits, batch))
    return tuple(
        layer.name for layer in graph if layer.kind != "input" and _fields(layer, batch) is None
    )
