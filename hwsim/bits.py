"""BitWidths: one width per output channel of every weighted layer, one per activation tensor."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwsim.files import read_json, write_atomically
from hwsim.graph import Layer, LayerGraph
from hwsim.names import did_you_mean, shown

MAX_BITS = 16  # widest operand of the accelerators modelled here
MAX_FILE_BYTES = 2**26  # of a file of widths; a hundred thousand channels take half a megabyte

Widths = int | Mapping[str, np.ndarray]


def _checked(where: str, widths: object, lowest: int = 0) -> np.ndarray:
    try:
        array = np.asarray(widths)
    except ValueError:  # lists of unequal length
        raise ValueError(f"{where}: widths must be an integer or a list of integers") from None
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size == 0:
        raise ValueError(
            f"{where}: widths must be an integer or a list of integers, got {shown(widths)}"
        )
    if array.min() < lowest or array.max() > MAX_BITS:
        raise ValueError(
            f"{where}: widths must lie in {lowest}..{MAX_BITS}, got "
            f"{int(array.min())}..{int(array.max())}"
        )
    return array.astype(np.int64)


@dataclass(frozen=True, eq=False)
class BitWidths:
    """Bit widths of a network's weights and activations.

    weights: {layer: (out_channels,) integers}, 0 drops the channel; or one int for everything.
    activations: {tensor: integer or (channels,) integers}, keyed by the layer that writes the
    tensor; or one int. A layer that a mapping leaves out is an error when it is asked for.
    Raises ValueError for widths outside 0..16 (1..16 for activations) or that are no integers.
    """

    weights: Widths
    activations: Widths

    def __post_init__(self) -> None:
        for kind, lowest in (("weights", 0), ("activations", 1)):
            widths = getattr(self, kind)
            if isinstance(widths, Mapping):
                checked = {n: _checked(f"{kind} of {n!r}", w, lowest) for n, w in widths.items()}
                object.__setattr__(self, kind, checked)
            else:
                array = _checked(kind, widths, lowest)
                if array.ndim:
                    raise ValueError(f"{kind}: expected an int or a mapping by layer, got a list")
                object.__setattr__(self, kind, int(array))

    def __eq__(self, other: object) -> bool:
        """The same widths, written the same way."""
        return isinstance(other, BitWidths) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def weight(self, layer: Layer) -> np.ndarray:
        """(out_channels,) widths of a weighted layer. Raises ValueError if absent or misshapen."""
        return self._look_up("weights", layer.name, layer.out_channels)

    def activation(self, name: str, channels: int) -> np.ndarray:
        """(channels,) widths of the tensor that layer `name` writes."""
        return self._look_up("activations", name, channels)

    def activation_bits(self, layer: Layer) -> int:
        """Bits that hold the layer's whole output tensor for one image."""
        channels = layer.output.channels
        widths = self.activation(layer.name, channels)
        return int(widths.sum()) * (layer.output.values // channels)

    def _look_up(self, kind: str, name: str, channels: int) -> np.ndarray:
        widths = getattr(self, kind)
        if isinstance(widths, int):
            return np.full(channels, widths, dtype=np.int64)
        if name not in widths:
            raise ValueError(
                f"bit widths: no {kind} given for layer {name!r}{did_you_mean(name, widths)}"
            )
        array = widths[name]
        if array.ndim == 0 or array.shape == (1,):
            return np.full(channels, int(array.ravel()[0]), dtype=np.int64)
        if array.shape != (channels,):
            raise ValueError(
                f"bit widths: {kind} of layer {name!r} must have {channels} entries, one per "
                f"channel, got {array.size}"
            )
        return array

    def check(self, graph: LayerGraph) -> None:
        """Raise ValueError unless every layer of `graph` has its widths, and no other layer."""
        for kind, layers in (("weights", graph.weighted), ("activations", graph.layers)):
            widths = getattr(self, kind)
            if isinstance(widths, Mapping):
                known = [layer.name for layer in layers]
                for name in widths:
                    if name not in known and any(layer.name == name for layer in graph):
                        raise ValueError(
                            f"bit widths: {kind} given for layer {name!r}, which has none; leave "
                            f"it out: `chipfit models` lists the weights of each layer"
                        )
                    if name not in known:
                        raise ValueError(
                            f"bit widths: {kind} given for {name!r}, which network "
                            f"{graph.name!r} does not have{did_you_mean(name, known)}"
                        )
        for layer in graph.weighted:
            self.weight(layer)
        for layer in graph:
            self.activation(layer.name, layer.output.channels)

    def average_weight_bits(self, graph: LayerGraph) -> float:
        """Bits per weight over the network, metadata not counted."""
        sizes = [layer.out_channels * layer.weights_per_channel for layer in graph.weighted]
        return self.weight_bits(graph) / sum(sizes)

    def weight_bits(self, graph: LayerGraph) -> int:
        """Bits of all weights, metadata not counted."""
        return sum(
            int(self.weight(layer).sum()) * layer.weights_per_channel for layer in graph.weighted
        )

    def to_json(self) -> dict[str, object]:
        def plain(widths: Widths) -> object:
            if isinstance(widths, int):
                return widths
            return {name: array.tolist() for name, array in widths.items()}

        return {"weights": plain(self.weights), "activations": plain(self.activations)}

    @classmethod
    def from_json(cls, data: object, where: str = "bit widths") -> BitWidths:
        """Read what `to_json` wrote. Raises ValueError naming `where` for anything else."""
        if not isinstance(data, Mapping) or not {"weights", "activations"} <= set(data):
            raise ValueError(
                f"{where}: expected an object with 'weights' and 'activations', each an integer "
                f"or an object from layer name to a width or a list of widths"
            )
        try:
            return cls(weights=data["weights"], activations=data["activations"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        write_atomically(path, json.dumps({"schema": 1, **self.to_json()}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BitWidths:
        """Read a JSON file: bit widths alone, an allocation that holds them under 'bits', or a
        table {layer: width or widths}; or a table in a .csv file (see `bit_tables`)."""
        from hwsim.bit_tables import from_plain_table, read_bit_table

        if Path(path).suffix == ".csv":
            return read_bit_table(path)
        data = read_json(path, MAX_FILE_BYTES, "bit widths")
        if isinstance(data, dict) and "bits" in data:
            data = data["bits"]
        if isinstance(data, dict) and data and not {"weights", "activations", "schema"} & set(data):
            return from_plain_table(data, str(path))
        return cls.from_json(data, where=str(path))

    @classmethod
    def parse(cls, text: str) -> BitWidths:
        """'8' (weights and activations), 'W4A8', or the path of a file that `load` reads.

        Raises ValueError, saying these three forms, for anything else.
        """
        if re.fullmatch(r"[0-9]{1,3}", text):
            return cls(int(text), int(text))
        if match := re.fullmatch(r"[Ww]([0-9]{1,3})[Aa]([0-9]{1,3})", text):
            return cls(int(match[1]), int(match[2]))
        if Path(text).suffix in (".json", ".csv") or os.path.exists(text):
            return cls.load(text)
        raise ValueError(
            f"bits {text!r}: expected an integer such as 8, a pair such as W4A8, or the path of "
            f"an allocation file (.json) or a table of widths (.csv)"
        )
