"""SCALE-Sim topology files: a table of convolutions or of matrix products, one a row.

Convolutions: layer name, ifmap height and width (padding included: there is no column for it),
filter height and width, channels, number of filters, stride; then perhaps a sparsity ratio N:M,
which must be 1:1. Matrix products: layer, M, N, K for (M x K) times (K x N). A row of
convolutions whose name contains "DP" is depthwise, as in SCALE-Sim: each channel on its own, and
every channel has the given number of filters. Format: SCALE-Sim v3, topology_utils.py.

A table has no edges, so no layer reads what another writes, even where shapes agree: every layer
reads an input of its own, and every layer's result is an output. Nothing stays on chip from one
layer to the next, which is also what SCALE-Sim assumes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hwsim.files import read_bounded, write_atomically
from hwsim.graph import Conv, Layer, LayerGraph, Linear, Tensor, Vector

MAX_FILE_BYTES = 2**24  # a row is some fifty bytes
MAX_SIZE = 2**31  # of one number

CONV_COLUMNS = (
    "IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "num filter",
    "strides",
)  # fmt: skip
GEMM_COLUMNS = ("M", "N", "K")
CONV_HEADER = "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,"  # noqa: E501  # fmt: skip
GEMM_HEADER = "Layer,M,N,K,"


@dataclass(frozen=True)
class _Row:
    """One row of a file. fields: without the layer's name."""

    place: str
    name: str
    fields: tuple[str, ...]

    def numbers(self, columns: Sequence[str]) -> list[int]:
        if len(self.fields) < len(columns):
            raise ValueError(
                f"{self.place}: layer {self.name!r} has {len(self.fields)} numbers; expected "
                f"{len(columns)}: {', '.join(columns)}"
            )
        pairs = enumerate(zip(columns, self.fields, strict=False), 2)
        return [self.number(position, column, text) for position, (column, text) in pairs]

    def number(self, position: int, column: str, text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= 10
        if not digits or not 1 <= int(text) <= MAX_SIZE:
            raise ValueError(
                f"{self.place}, column {position} ({column}): expected a whole number of at least "
                f"1 and at most {MAX_SIZE}, got {text[:40]!r}"
            )
        return int(text)


def read_topology(path: str | os.PathLike[str]) -> LayerGraph:
    """The layers of a topology file of convolutions or of matrix products, told by its header.

    Spaces, blank lines, missing or repeated commas at the end of a line and upper or lower case do
    not matter. Raises ValueError that names the file, the line and the column.
    """
    rows, gemm = _rows(path)
    layers: list[Layer] = []
    taken: set[str] = set()
    for row in rows:
        name, number = row.name, 1
        while name in taken:
            number += 1
            name = f"{row.name}#{number}"
        taken.add(name)
        work, shape, written = _product(row) if gemm else _convolution(row)
        source = f"{name}.input"
        axis = len(shape) - 1 if gemm else 1
        read = Tensor(source, shape, axis)
        layers.append(Layer(source, "input", Vector(0), (), read, op="input", source=row.place))
        layers.append(
            Layer(
                name=name,
                kind="linear" if gemm else "conv",
                work=work,
                inputs=(read,),
                output=Tensor(name, written, axis),
                weight=f"{name}.weight",
                params=work.gemm.groups * work.gemm.reduction * work.gemm.columns,
                op="gemm" if gemm else "conv",
                source=row.place,
            )
        )
    outputs = tuple(layer.name for layer in layers if layer.kind != "input")
    return LayerGraph(Path(path).stem, tuple(layers), outputs)


def _product(row: _Row) -> tuple[Linear, tuple[int, ...], tuple[int, ...]]:
    m, n, k = row.numbers(GEMM_COLUMNS)
    _dense(row, row.fields[len(GEMM_COLUMNS) :], len(GEMM_COLUMNS) + 2)
    return Linear(m, k, n), (1, m, k), (1, m, n)


def _convolution(row: _Row) -> tuple[Conv, tuple[int, ...], tuple[int, ...]]:
    height, width, r, s, channels, filters, stride = row.numbers(CONV_COLUMNS)
    rest, across, position = row.fields[len(CONV_COLUMNS) :], stride, len(CONV_COLUMNS) + 2
    if rest and rest[0] and ":" not in rest[0]:  # SCALE-Sim's own writer gives the second stride
        across, rest = row.number(position, "stride width", rest[0]), rest[1:]
        position += 1
    _dense(row, rest, position)
    for column, ifmap, kernel in (("height", height, r), ("width", width, s)):
        if kernel > ifmap:
            raise ValueError(
                f"{row.place}: layer {row.name!r}: filter {column} {kernel} is more than IFMAP "
                f"{column} {ifmap}, which includes padding"
            )
    depthwise = "DP" in row.name
    # SCALE-Sim rounds the ofmap up: a last window that overhangs the ifmap is computed
    size = (-(-(height - r) // stride) + 1, -(-(width - s) // across) + 1)
    covered = ((size[0] - 1) * stride + r, (size[1] - 1) * across + s)
    if covered[0] > height or covered[1] > width:
        height, width = max(covered[0], height), max(covered[1], width)
    written = channels * filters if depthwise else filters
    work = Conv(
        in_channels=channels,
        out_channels=written,
        kernel=(r, s),
        stride=(stride, across),
        padding=(0, 0),
        dilation=(1, 1),
        groups=channels if depthwise else 1,
        ifmap_size=(height, width),
        ofmap_size=size,
    )
    return work, (1, channels, height, width), (1, written, *size)


def _dense(row: _Row, rest: Sequence[str], position: int) -> None:
    """What follows the numbers: nothing, a sparsity of 1:1, or empty fields."""
    for i, text in enumerate(rest):
        if text.replace(" ", "") not in ("", "1:1"):
            raise ValueError(
                f"{row.place}, column {position + i}: got {text[:40]!r} after the last number; "
                f"only dense layers have a model: leave it out, or give the sparsity 1:1"
            )


def _rows(path: str | os.PathLike[str]) -> tuple[list[_Row], bool]:
    """The rows below the header, and whether they are matrix products."""
    text = _text(path)
    header: list[str] | None = None
    rows: list[_Row] = []
    reader = csv.reader(StringIO(text), skipinitialspace=True)
    try:
        for fields in reader:
            cells = [cell.strip() for cell in fields]
            while cells and not cells[-1]:
                cells.pop()
            if not cells:
                continue
            if header is None:
                header = [" ".join(cell.lower().split()) for cell in cells]
                continue
            place = f"{os.fspath(path)}: line {reader.line_num}"
            if not cells[0]:
                raise ValueError(f"{place}, column 1: the layer has no name")
            rows.append(_Row(place, cells[0], tuple(cells[1:])))
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: cannot read as CSV: {error}") from None
    gemm = header is not None and header[1:4] == ["m", "n", "k"]
    if header is None or not (gemm or len(header) > 7 or "ifmap" in " ".join(header)):
        raise ValueError(
            f"{path}: expected the header of a SCALE-Sim topology, {CONV_HEADER!r} or "
            f"{GEMM_HEADER!r}, got {','.join(header or [])[:80]!r}"
        )
    if header[1:] and all(cell.isdigit() for cell in header[1:]):
        raise ValueError(f"{path}: the first line is the header, not a layer; add {CONV_HEADER!r}")
    if not rows:
        raise ValueError(f"{path}: there is no layer below the header")
    return rows, gemm


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return read_bounded(path, MAX_FILE_BYTES, "topology").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8: {error.reason}") from None


def write_topology(graph: LayerGraph, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write the matrix work of a graph for SCALE-Sim; returns the names of the layers left out.

    Convolutions if the graph has any: padded sizes, a linear layer as a 1 x 1 convolution over its
    rows, matrix products the same. Without convolutions a table of M, N, K. Grouped layers become
    one row a group, called "name/0", "name/1" and so on; an ofmap has the size that it has in the
    graph. Vector layers (pools, additions) do not exist in SCALE-Sim and are left out. Raises
    ValueError for a dilation and for strides that differ, which a table cannot say, and for a graph
    without matrix work.
    """
    products = [layer for layer in graph if layer.gemm is not None]
    if not products:
        raise ValueError(f"graph {graph.name!r}: no convolution or matrix product to write")
    convolutions = any(isinstance(layer.work, Conv) for layer in products)
    lines = [CONV_HEADER if convolutions else GEMM_HEADER]
    for layer in products:
        gemm = layer.gemm
        assert gemm is not None
        if isinstance(layer.work, Conv):
            numbers = _conv_numbers(layer, layer.work)
        elif convolutions:
            numbers = (gemm.pixels, 1, 1, 1, gemm.reduction, gemm.columns, 1)
        else:
            numbers = (gemm.pixels, gemm.columns, gemm.reduction)
        # commas end a field, and "DP" in a name would make it depthwise for SCALE-Sim
        name = layer.name.replace(",", "_").replace("DP", "dp")
        for group in range(gemm.groups):
            row = f"{name}/{group}" if gemm.groups > 1 else name
            lines.append(",".join([row, *map(str, numbers)]) + ",")
    write_atomically(path, "\n".join(lines) + "\n")
    return tuple(layer.name for layer in graph if layer.gemm is None and layer.kind != "input")


def _conv_numbers(layer: Layer, conv: Conv) -> tuple[int, ...]:
    """Columns of a convolution, one group of it; padded to what its windows cover."""
    if conv.dilation != (1, 1) and conv.kernel != (1, 1):
        raise ValueError(f"layer {layer.name!r}: a topology has no column for dilation, "
                         f"got {conv.dilation}")  # fmt: skip
    if conv.stride[0] != conv.stride[1] and 1 not in conv.ofmap_size:
        raise ValueError(f"layer {layer.name!r}: a topology has one stride for both axes, "
                         f"got {conv.stride}")  # fmt: skip
    stride = conv.stride[0] if conv.ofmap_size[0] > 1 else conv.stride[1]
    height, width = (
        (size - 1) * step + kernel
        for size, step, kernel in zip(conv.ofmap_size, conv.stride, conv.kernel, strict=True)
    )
    return (
        height, width, *conv.kernel, conv.in_channels // conv.groups,
        conv.out_channels // conv.groups, stride,
    )  # fmt: skip
