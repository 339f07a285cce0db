"""Bit widths as a table, so that what another tool decided can be judged, and the reverse.

CSV with a header, one row a layer or one row an output channel, in any order:

    layer,bits                      layer,channel,bits
    features.0.0,8                  features.0.0,0,8
    features.1.conv.0.0,4           features.0.0,1,3

Channels count from 0; a row without a channel is of its whole layer. A column activation_bits gives
the width of the tensor that the layer writes, for every layer of the network (rows of pools and
additions then leave bits empty), or the same number everywhere; without it tensors have 8 bits.
As JSON the same is an object {layer: width, or list of one width a channel}. Weights take 0 (the
channel is dropped) to 8 bits, tensors 1 to 16.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from hwsim.bits import MAX_BITS, MAX_FILE_BYTES, BitWidths, Widths
from hwsim.files import read_bounded, write_atomically
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean

MAX_WEIGHT_BITS = 8  # of a table: what curves and quantisers are made for
DEFAULT_ACTIVATION_BITS = 8
COLUMNS = ("layer", "channel", "bits", "activation_bits")
_HEADERS = "'layer,bits' or 'layer,channel,bits', and perhaps activation_bits"


@dataclass
class _Rows:
    """What the rows of a table say so far."""

    layers: dict[str, int] = field(default_factory=dict)
    channels: dict[str, dict[int, int]] = field(default_factory=dict)
    activations: dict[str, int] = field(default_factory=dict)

    def add(self, place: str, row: Mapping[str, str]) -> None:
        name = row["layer"]
        if not name:
            raise ValueError(f"{place}: the row names no layer")
        channel, bits, tensor = (row.get(column, "") for column in COLUMNS[1:])
        if tensor:
            width = _whole(place, "activation_bits", tensor, 1, MAX_BITS)
            if self.activations.setdefault(name, width) != width:
                raise ValueError(
                    f"{place}: activation_bits of {name!r} are {width} here and "
                    f"{self.activations[name]} before; a tensor has one width"
                )
        if not bits:
            if channel or not tensor:
                raise ValueError(f"{place}: bits of {name!r} are missing")
            return
        width = _whole(place, "bits", bits, 0, MAX_WEIGHT_BITS)
        own = self.channels.get(name, {})
        number = _whole(place, "channel", channel, 0, 2**31) if channel else None
        if name in self.layers or number in own or (own and number is None):
            what = f"channel {number} of layer" if number in own else "layer"
            raise ValueError(f"{place}: {what} {name!r} has its bits already")
        if number is None:
            self.layers[name] = width
        else:
            self.channels.setdefault(name, {})[number] = width

    def widths(self, path: str) -> BitWidths:
        weights: dict[str, np.ndarray] = {n: np.array(w) for n, w in self.layers.items()}
        for name, own in self.channels.items():
            if len(own) == 1:
                raise ValueError(
                    f"{path}: layer {name!r} has one row, of channel {next(iter(own))}; leave the "
                    f"channel empty for the whole layer, or give all channels"
                )
            missing = next((c for c in range(len(own)) if c not in own), None)
            if missing is not None:
                raise ValueError(
                    f"{path}: layer {name!r} has {len(own)} channels up to {max(own)}, and channel "
                    f"{missing} is not among them; they count from 0"
                )
            weights[name] = np.array([own[channel] for channel in range(len(own))])
        return BitWidths(weights, self._activations())

    def _activations(self) -> Widths:
        found = set(self.activations.values())
        if len(found) > 1:
            return {name: np.array(width) for name, width in self.activations.items()}
        return found.pop() if found else DEFAULT_ACTIVATION_BITS


def _whole(place: str, column: str, text: str, lowest: int, highest: int) -> int:
    if text.isascii() and text.isdigit() and len(text) < 12 and lowest <= int(text) <= highest:
        return int(text)
    raise ValueError(
        f"{place}: {column} must be a whole number in {lowest}..{highest}, got {text[:40]!r}"
    )


def read_bit_table(path: str | os.PathLike[str]) -> BitWidths:
    """Widths from a CSV table. Raises ValueError that names the file and the line.

    Whether the layers are those of a network, and have as many channels, `BitWidths.check` says.
    """
    try:
        text = read_bounded(path, MAX_FILE_BYTES, "bit widths").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8: {error.reason}") from None
    reader = csv.reader(StringIO(text), skipinitialspace=True)
    rows, header = _Rows(), None
    try:
        for fields in reader:
            cells = [cell.strip() for cell in fields]
            if not any(cells):
                continue
            place = f"{path}: line {reader.line_num}"
            if header is None:
                header = _header(place, cells)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{place}: {len(cells)} fields under {len(header)} columns "
                    f"({', '.join(header)})"
                )
            rows.add(place, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: cannot read as CSV: {error}") from None
    if not rows.layers and not rows.channels:
        raise ValueError(f"{path}: a table of bit widths without rows; its header is {_HEADERS}")
    return rows.widths(str(path))


def _header(place: str, cells: list[str]) -> list[str]:
    header = [cell.lower().replace(" ", "_") for cell in cells]
    for name in header:
        if name not in COLUMNS:
            raise ValueError(
                f"{place}: unknown column {name!r}{did_you_mean(name, COLUMNS)}; expected "
                f"{_HEADERS}"
            )
    if len(set(header)) < len(header) or not {"layer", "bits"} <= set(header):
        raise ValueError(f"{place}: expected the header {_HEADERS}, got {','.join(cells)!r}")
    return header


def from_plain_table(data: Mapping[str, object], path: str) -> BitWidths:
    """Widths from {layer: width, or list of one width a channel}. Raises ValueError."""
    for name, widths in data.items():
        every = widths if isinstance(widths, list) else [widths]
        bad = [w for w in every if type(w) is not int or not 0 <= w <= MAX_WEIGHT_BITS]
        if bad or not every:
            raise ValueError(
                f"{path}: bits of layer {name!r} must be a whole number in 0..{MAX_WEIGHT_BITS} or "
                f"a list of them, one a channel, got {str(bad[0] if bad else widths)[:40]}"
            )
    return BitWidths({n: np.array(w) for n, w in data.items()}, DEFAULT_ACTIVATION_BITS)


def write_bit_table(bits: BitWidths, graph: LayerGraph, path: str | os.PathLike[str]) -> None:
    """Write widths for other tools: CSV, or a JSON object where the path ends in .json.

    One row a layer if every layer has one width, else one a channel. Raises ValueError for widths
    that a table cannot say: above 8 bits, or activation channels that differ.
    """
    bits.check(graph)
    weights = {layer.name: bits.weight(layer) for layer in graph.weighted}
    for name, widths in weights.items():
        if widths.max() > MAX_WEIGHT_BITS:
            raise ValueError(
                f"{path}: a table holds 0..{MAX_WEIGHT_BITS} bits a weight, layer {name!r} has "
                f"{widths.max()}; save as an allocation (.json)"
            )
    whole = all(len(set(widths.tolist())) == 1 for widths in weights.values())
    if Path(path).suffix == ".json":
        table = {n: int(w[0]) if whole else w.tolist() for n, w in weights.items()}
        write_atomically(path, json.dumps(table, indent=1) + "\n")
        return
    tensors: dict[str, int] = {}
    for layer in graph:
        every = set(bits.activation(layer.name, layer.output.channels).tolist())
        if len(every) > 1:
            raise ValueError(
                f"{path}: a table has one width a tensor, the channels of {layer.name!r} have "
                f"{', '.join(map(str, sorted(every)))}; save as an allocation (.json)"
            )
        tensors[layer.name] = every.pop()
    lines: list[list[object]] = [["layer", *([] if whole else ["channel"]), "bits", COLUMNS[3]]]
    for name, tensor in tensors.items():
        if name not in weights:
            lines.append([name, *([] if whole else [""]), "", tensor])
        elif whole:
            lines.append([name, int(weights[name][0]), tensor])
        elif len(weights[name]) == 1:
            lines.append([name, "", int(weights[name][0]), tensor])
        else:
            lines += [[name, c, w, tensor] for c, w in enumerate(weights[name].tolist())]
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomically(path, text.getvalue())
