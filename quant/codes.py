"""The packed network file: the bits that a chip would store, and nothing rounded twice.

A safetensors file (no pickle) of three tensors over all weighted layers in their order:

    codes   uint8    the bit stream: every channel's width code (4 bits), then every weight's
                     index at its channel's width, without gaps
    scales  float16  a channel's step, its sign included; 0 drops the channel
    biases  float32  a channel's bias; a dropped channel has one too, its mean

and a JSON header: layers, activation quantisers, what made it. A width code holds 0..15; 16 is
written as 0 beside a scale that is not 0. So the three tensors are exactly the bits of the
allocation plus METADATA for every channel, rounded up to one byte: what `tpu_v1` claims. (Eyeriss
claims 16 bits for a bias; psums' format is the chip's own, and the file keeps 32.)

What is no weight and no bias of a weighted layer (layer norms, batch norms that follow no
convolution, position embeddings) is not in the file and stays as the float network has it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwsim.accelerator import ChannelMetadata
from hwsim.bits import MAX_BITS, BitWidths
from hwsim.files import write_atomically
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean
from quant.apply import QuantizedNetwork
from quant.network import Network
from quant.packing import BitReader, BitWriter
from quant.quantizer import ActivationQuantizer, DeadZoneQuantizer
from quant.scales import stored_step

SCHEMA = 1
METADATA = ChannelMetadata(scale=16, width_code=4, bias=32)  # bits beside a channel's weights
_HEADER = "chipfit_packed_network"  # the key of the JSON header in the container's metadata
_DTYPES = {"codes": np.uint8, "scales": np.float16, "biases": np.float32}

Quantizers = ActivationQuantizer | tuple[ActivationQuantizer, ...]


@dataclass(frozen=True)
class PackedSize:
    """What a packed file's bytes are. weight_bits, metadata_bits: as claimed. payload_bytes: of
    its three tensors. header_bytes: the container's own, with activation quantisers and names."""

    weight_bits: int
    metadata_bits: int
    payload_bytes: int
    header_bytes: int

    @property
    def file_bytes(self) -> int:
        return self.payload_bytes + self.header_bytes


def claimed_bits(graph: LayerGraph, bits: BitWidths) -> tuple[int, int]:
    """Bits of all weights, and of METADATA beside every channel."""
    channels = sum(layer.out_channels for layer in graph.weighted)
    return bits.weight_bits(graph), channels * METADATA.bits


def payload_bytes(graph: LayerGraph, bits: BitWidths) -> int:
    """Bytes of a packed file without its header: the claim, rounded up to one byte."""
    return -(-sum(claimed_bits(graph, bits)) // 8)


def save_packed(
    path: str | os.PathLike[str],
    quantized: QuantizedNetwork,
    made_by: Mapping[str, Any] | None = None,
) -> PackedSize:
    """Write a quantised network, whole or not at all; the same network gives the same bytes.

    made_by: JSON values, kept in the header. Raises ValueError for weights that are no values of
    their quantiser and steps that half precision does not hold.
    """
    from safetensors.numpy import save

    network = quantized.network
    network.check_unscaled("packing")
    tensors = _tensors(quantized)
    layers = [[name, *folded.weight.shape] for name, folded in network.layers.items()]
    header = {
        "schema": SCHEMA,
        "network": network.name,
        "layers": layers,
        "activations": {name: plain_quantizers(q) for name, q in quantized.activations.items()},
        "made_by": dict(made_by or {}),
    }
    content = save(tensors, {_HEADER: json.dumps(header, sort_keys=True, allow_nan=False)})
    write_atomically(path, content)
    weight_bits, metadata_bits = claimed_bits(network.graph, quantized.bits)
    payload = sum(array.nbytes for array in tensors.values())
    return PackedSize(weight_bits, metadata_bits, payload, len(content) - payload)


def _tensors(quantized: QuantizedNetwork) -> dict[str, np.ndarray]:
    """codes, scales and biases of a quantised network."""
    network, graph = quantized.network, quantized.network.graph
    widths = {layer.name: quantized.bits.weight(layer) for layer in graph.weighted}
    every = np.concatenate(list(widths.values()))
    writer = BitWriter()
    writer.write((every % 16)[:, None], np.full(len(every), METADATA.width_code))
    scales, biases = [], []
    for name in network.layers:
        weight, bias = quantized.parameters[name]
        quantizer = quantized.weights[name]
        kept = torch.from_numpy(widths[name]) > 0
        where = f"packing {network.name!r}: layer {name!r}"
        if not bias.isfinite().all():
            raise ValueError(f"{where}: biases must be finite")
        if not torch.equal(stored_step(quantizer.step)[kept], quantizer.step[kept]):
            raise ValueError(
                f"{where}: its steps are no half-precision numbers; make the quantiser with "
                f"stored_step(step)"
            )
        index = quantizer.index(weight)
        if not torch.equal(quantizer.value(index), weight):
            raise ValueError(f"{where}: its weights are no values of its quantiser")
        writer.write(index.numpy(), widths[name])
        scales.append(torch.where(kept, quantizer.step, 0.0).to(torch.float16))
        biases.append(bias.to(torch.float32))
    return {
        "codes": np.frombuffer(writer.finish(), dtype=np.uint8),
        "scales": torch.cat(scales).numpy(),
        "biases": torch.cat(biases).numpy(),
    }


def plain_quantizers(quantizers: Quantizers) -> list[Any]:
    """[bits, step, zero point] of a tensor, or one such list a channel."""
    if isinstance(quantizers, tuple):
        return [plain_quantizers(quantizer) for quantizer in quantizers]
    return [quantizers.bits, quantizers.step, quantizers.zero_point]


@dataclass(frozen=True)
class PackedFile:
    """A packed network file that is read and checked as far as that needs no network.

    layers: (name, output channels, weights a channel). codes, scales, biases: the tensors.
    activations: plain values by layer. made_by: what the writer said of itself.
    """

    path: str
    network: str
    layers: tuple[tuple[str, int, int], ...]
    codes: np.ndarray
    scales: np.ndarray
    biases: np.ndarray
    activations: Mapping[str, Any]
    made_by: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PackedFile:
        """Raises ValueError, in one line with the path, for anything but a whole packed file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(Path(path), framework="numpy") as file:
                text = (file.metadata() or {}).get(_HEADER)
                if text is None or set(file.keys()) != set(_DTYPES):
                    raise ValueError(f"{path}: a safetensors file, but not of a packed network")
                arrays = {name: file.get_tensor(name) for name in _DTYPES}
        except OSError as error:
            raise ValueError(f"{path}: cannot read: {error.strerror or error}") from None
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole packed network: {error}") from None
        except (TypeError, AttributeError):  # a type of number that numpy does not have
            raise ValueError(f"{path}: {', '.join(_DTYPES)} are of other types") from None
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: its header is not JSON") from None
        return cls(path=str(path), **_fields(str(path), header), **arrays)

    def __post_init__(self) -> None:
        channels = sum(outs for _, outs, _ in self.layers)
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            wanted = (channels,) if name != "codes" else (array.size,)
            if array.dtype != dtype or array.shape != wanted:
                raise ValueError(
                    f"{self.path}: {name} must be {np.dtype(dtype)} of shape {wanted}, got "
                    f"{array.dtype} of shape {array.shape}"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{self.path}: {name} hold NaN or infinity")

    def weights(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{layer: (widths (out,), indices (out, K))}. Raises ValueError for a broken stream."""
        ends = np.cumsum([outs for _, outs, _ in self.layers])
        channels = int(ends[-1])
        reader = BitReader(self.codes)
        try:
            code = reader.read(np.full(channels, METADATA.width_code), 1)[:, 0]
            widths = np.where((code == 0) & (self.scales != 0), MAX_BITS, code)
            if (self.scales[widths > 0] == 0).any():
                raise ValueError("a channel has bits but the scale 0")
            found = {}
            for (name, outs, values), end in zip(self.layers, ends.tolist(), strict=True):
                own = widths[end - outs : end]
                found[name] = own, reader.read(own, values)
            reader.finish()
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        return found


def _fields(path: str, header: Any) -> dict[str, Any]:
    """What a header says: network, layers, activations, made_by. Raises ValueError for another."""
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        schema = header.get("schema") if isinstance(header, dict) else None
        raise ValueError(f"{path}: packed network of schema {schema!r}; this reads {SCHEMA}")
    wanted = {"network": str, "layers": list, "activations": dict, "made_by": dict}
    for name, kind in wanted.items():
        if not isinstance(header.get(name), kind):
            raise ValueError(f"{path}: its header gives no {name}")
    for layer in header["layers"]:
        if not (
            isinstance(layer, list)
            and len(layer) == 3
            and isinstance(layer[0], str)
            and all(_whole(number, 1, 10**9) for number in layer[1:])
        ):
            raise ValueError(
                f"{path}: expected [name, channels, weights a channel] of a layer, got "
                f"{str(layer)[:60]}"
            )
    if not header["layers"]:
        raise ValueError(f"{path}: its header gives no layers")
    return {name: header[name] for name in wanted} | {
        "layers": tuple((name, outs, values) for name, outs, values in header["layers"])
    }


def _whole(number: object, lowest: int, highest: int) -> bool:
    return type(number) is int and lowest <= number <= highest


def _quantizer(where: str, plain: object) -> ActivationQuantizer:
    if (
        isinstance(plain, list)
        and len(plain) == 3
        and _whole(plain[0], 1, MAX_BITS)
        and type(plain[1]) in (int, float)
        and math.isfinite(plain[1])
        and plain[1] > 0
        and _whole(plain[2], 0, 2 ** plain[0] - 1)
    ):
        return ActivationQuantizer(plain[0], float(plain[1]), plain[2])
    raise ValueError(
        f"{where}: expected [bits, step, zero point], with bits in 1..{MAX_BITS}, a finite step "
        f"above 0 and a zero point below 2**bits, got {str(plain)[:60]}"
    )


def load_packed(path: str | os.PathLike[str] | PackedFile, network: Network) -> QuantizedNetwork:
    """The quantised network that `save_packed` wrote, bit for bit.

    network: the float network with the same layers. Raises ValueError, in one line with the path,
    for a broken file and for the file of another network.
    """
    file = path if isinstance(path, PackedFile) else PackedFile.read(path)
    own = tuple((name, *folded.weight.shape) for name, folded in network.layers.items())
    if file.layers != own:
        theirs = dict.fromkeys(file.layers)
        first = next((layer for layer in own if layer not in theirs), None)
        what = "has its layers in another order" if first is None else (
            f"has no layer {first[0]!r} of {first[1]} x {first[2]} weights"
        )  # fmt: skip
        raise ValueError(
            f"{file.path}: the packed network {file.network!r} does not fit {network.name!r}: the "
            f"file {what}"
        )
    activations = read_quantizers(file.path, file.activations, network)
    parameters, quantizers, widths = {}, {}, {}
    end = 0
    for name, (bits, index) in file.weights().items():
        start, end = end, end + len(bits)
        scale = torch.from_numpy(file.scales[start:end].astype(np.float32))
        step = torch.where(torch.from_numpy(bits > 0), scale, 1.0)
        widths[name] = bits
        quantizers[name] = DeadZoneQuantizer(torch.from_numpy(bits), step)
        weight: Tensor = quantizers[name].value(torch.from_numpy(index))
        parameters[name] = weight, torch.from_numpy(file.biases[start:end].copy())
    bits_of = BitWidths(widths, activation_widths(activations))
    return QuantizedNetwork(network, bits_of, parameters, quantizers, activations)


def activation_widths(quantizers: Mapping[str, Quantizers]) -> dict[str, np.ndarray]:
    """{tensor: its width, or (channels,) one a channel}."""
    return {
        name: np.array([q.bits for q in own]) if isinstance(own, tuple) else np.array(own.bits)
        for name, own in quantizers.items()
    }


def read_quantizers(
    path: str, activations: Mapping[str, Any], network: Network
) -> dict[str, Quantizers]:
    """Undo `plain_quantizers` for every tensor of a network.

    Raises ValueError, in one line with the path, for anything else.
    """
    known = [layer.name for layer in network.graph]
    for name in activations:
        if name not in known:
            raise ValueError(
                f"{path}: activations of {name!r}, which network {network.name!r} does not "
                f"have{did_you_mean(name, known)}"
            )
    found: dict[str, Quantizers] = {}
    for layer in network.graph:
        where = f"{path}: activations of {layer.name!r}"
        plain = activations.get(layer.name)
        if isinstance(plain, list) and plain and isinstance(plain[0], list):
            if len(plain) != layer.output.channels:
                raise ValueError(
                    f"{where}: expected one quantiser for each of {layer.output.channels} "
                    f"channels, got {len(plain)}"
                )
            found[layer.name] = tuple(_quantizer(where, item) for item in plain)
        else:
            found[layer.name] = _quantizer(where, plain)
    return found
