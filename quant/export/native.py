"""Plain safetensors: every layer's levels, scales, widths and biases as arrays that anyone reads.

For a layer called L: L.levels (int8, or int16 where a channel is wider than 8 bits, in the shape
of the layer's weight), L.scale (float16, one an output channel), L.width (uint8, the same) and
L.bias (float32, the same). A weight is level * scale. The header's entry chipfit.json holds the
activation quantisers and the bits claimed (see `described`). `chipfit pack` writes the same network
as one stream of exactly those bits.
"""

from __future__ import annotations

import json
import os

import numpy as np
import torch

from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from quant.apply import QuantizedNetwork
from quant.codes import activation_widths, read_quantizers
from quant.export.described import DESCRIPTION, description
from quant.export.levels import layer_levels
from quant.network import Network
from quant.quantizer import DeadZoneQuantizer

_KINDS = ("levels", "scale", "width", "bias")


def save_native(path: str | os.PathLike[str], quantized: QuantizedNetwork) -> None:
    """Write the network; the same network gives the same bytes. Raises ValueError if it cannot."""
    from safetensors.numpy import save

    tensors: dict[str, np.ndarray] = {}
    for name in quantized.network.layers:
        layer = layer_levels(quantized, name)
        tensors |= {
            f"{name}.levels": layer.shaped(),
            f"{name}.scale": layer.scale.astype(np.float16),
            f"{name}.width": layer.width.astype(np.uint8),
            f"{name}.bias": layer.bias,
        }
    write_atomically(path, save(tensors, {DESCRIPTION: description(quantized)}))


def load_native(path: str | os.PathLike[str], network: Network) -> QuantizedNetwork:
    """The network that `save_native` wrote, bit for bit.

    network: the float network with the same layers. Raises ValueError, in one line with the path,
    for a broken file and for the file of another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(DESCRIPTION)
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if text is None:
            raise ValueError(f"{path}: a safetensors file, but not of an exported network")
        said = json.loads(text)
    except OSError as error:
        raise ValueError(f"{path}: cannot read: {error.strerror or error}") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a whole exported network: {error}") from None
    parameters, quantizers, widths = {}, {}, {}
    for name, folded in network.layers.items():
        own = [arrays.get(f"{name}.{kind}") for kind in _KINDS]
        outs = len(folded.weight)
        shapes = [folded.shape, (outs,), (outs,), (outs,)]
        if any(a is None or a.shape != s for a, s in zip(own, shapes, strict=True)):
            raise ValueError(
                f"{path}: does not fit network {network.name!r}: expected {', '.join(_KINDS)} of "
                f"layer {name!r} with weights of shape {folded.shape}"
            )
        levels, scale, width, bias = (np.asarray(a) for a in own)
        widths[name] = width.astype(np.int64)
        step = torch.from_numpy(scale.astype(np.float32))
        quantizers[name] = DeadZoneQuantizer(torch.from_numpy(widths[name]), step)
        level = torch.from_numpy(levels.astype(np.float32)).reshape(folded.weight.shape)
        parameters[name] = level * step.unsqueeze(1), torch.from_numpy(bias.astype(np.float32))
    activations = read_quantizers(str(path), said.get("activations", {}), network)
    bits = BitWidths(widths, activation_widths(activations))
    return QuantizedNetwork(network, bits, parameters, quantizers, activations)
