"""Timeloop: one problem (.yaml) for every matrix product of a network.

Fields as in NVlabs/timeloop, problem-shapes/cnn_layer.yaml and gemm_ABZ.yaml, input version 0.4:
R, P are kernel and ofmap width, S, Q height, C input and K output channels of a group, N images;
G counts groups. Timeloop keeps word widths in its architectures; here they stand in a comment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import Conv, Gemm, Layer, LayerGraph

_CONV = {
    "Weights": ["[[C]]", "[[K]]", "[[R]]", "[[S]]"],
    "Inputs": [
        "[[N]]",
        "[[C]]",
        "[[R, Wdilation], [P, Wstride]]",
        "[[S, Hdilation], [Q, Hstride]]",
    ],
    "Outputs": ["[[N]]", "[[K]]", "[[Q]]", "[[P]]"],
}
_GEMM = {
    "A": ["[[M]]", "[[K]]"],
    "B": ["[[N]]", "[[K]]"],
    "Z": ["[[M]]", "[[N]]"],
}
_COEFFICIENTS = ("Wstride", "Hstride", "Wdilation", "Hdilation")


def timeloop_problem(layer: Layer, batch: int = 1, comment: str = "") -> str:
    """The text of a problem file of a layer with matrix work; padding is part of the ifmap.

    batch: images at once. Raises ValueError for layers of the vector unit.
    """
    gemm = layer.gemm
    if gemm is None:
        raise ValueError(f"layer {layer.name!r}: Timeloop has problems for matrix work only")
    conv = layer.work if isinstance(layer.work, Conv) else None
    spaces = _CONV if conv else _GEMM
    sizes = _conv_sizes(conv, gemm, batch) if conv else _gemm_sizes(layer, gemm, batch)
    grouped = "G" in sizes
    dimensions = [name for name in sizes if name not in _COEFFICIENTS]
    lines = [f"# {layer.name}{comment}", "problem:", "  version: 0.4", "  shape:",
             f"    name: {'Grouped_' if grouped else ''}{'CNN_Layer' if conv else 'GEMM'}",
             f"    dimensions: [{', '.join(dimensions)}]"]  # fmt: skip
    if conv:
        lines.append("    coefficients:")
        for name in _COEFFICIENTS:
            lines += [f"      - name: {name}", "        default: 1"]
    lines.append("    data_spaces:")
    for name, projection in spaces.items():
        lines += [f"      - name: {name}", "        projection:"]
        lines += [f"          - {axis}" for axis in [*(["[[G]]"] if grouped else []), *projection]]
        if name in ("Outputs", "Z"):
            lines.append("        read_write: True")
    lines += ["  instance:", *(f"    {name}: {size}" for name, size in sizes.items())]
    return "\n".join(lines) + "\n"


def _conv_sizes(conv: Conv, gemm: Gemm, batch: int) -> dict[str, int]:
    return {
        **({"G": conv.groups} if conv.groups > 1 else {}),
        "C": conv.in_channels // conv.groups, "K": gemm.columns, "N": batch,
        "R": conv.kernel[1], "S": conv.kernel[0],
        "P": conv.ofmap_size[1], "Q": conv.ofmap_size[0],
        "Wstride": conv.stride[1], "Hstride": conv.stride[0],
        "Wdilation": conv.dilation[1], "Hdilation": conv.dilation[0],
    }  # fmt: skip


def _gemm_sizes(layer: Layer, gemm: Gemm, batch: int) -> dict[str, int]:
    """Images share weights and so lengthen M; a product of two activations is one a group."""
    groups = gemm.groups if layer.weighted else gemm.groups * batch
    pixels = gemm.pixels * batch if layer.weighted else gemm.pixels
    sizes = {"M": pixels, "N": gemm.columns, "K": gemm.reduction}
    return {"G": groups, **sizes} if groups > 1 else sizes


def write_timeloop(
    graph: LayerGraph,
    folder: str | os.PathLike[str],
    bits: BitWidths | None = None,
    batch: int = 1,
) -> tuple[list[str], tuple[str, ...]]:
    """Write 000_LAYER.yaml and so on to a folder: their paths, and the layers left out.

    Raises ValueError for a graph without matrix work, and for widths of another network.
    """
    products = [layer for layer in graph if layer.gemm is not None]
    if not products:
        raise ValueError(f"graph {graph.name!r}: no convolution or matrix product to write")
    if bits is not None:
        bits.check(graph)
    paths = []
    for number, layer in enumerate(products):
        comment = ""
        if bits is not None and layer.weighted:
            comment = f": {bits.weight(layer).mean():.3f} bits a weight"
        path = Path(folder) / f"{number:03d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', layer.name)}.yaml"
        write_atomically(path, timeloop_problem(layer, batch, comment))
        paths.append(str(path))
    return paths, tuple(la.name for la in graph if la.gemm is None and la.kind != "input")
