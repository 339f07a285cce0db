"""What an exported file says of its numbers, as JSON: widths, activation quantisers, claims."""

from __future__ import annotations

import json

from quant.apply import QuantizedNetwork
from quant.codes import claimed_bits, plain_quantizers

DESCRIPTION = "chipfit.json"  # name of the entry


def description(quantized: QuantizedNetwork) -> str:
    """JSON: network, weight_bits and metadata_bits claimed, {layer: widths of its channels} and
    {tensor: [bits, step, zero point], or one such list a channel}."""
    network = quantized.network
    network.check_unscaled("exporting")
    weight_bits, metadata_bits = claimed_bits(network.graph, quantized.bits)
    return json.dumps(
        {
            "network": network.name,
            "weight_bits": weight_bits,
            "metadata_bits": metadata_bits,
            "widths": {
                layer.name: quantized.bits.weight(layer).tolist()
                for layer in network.graph.weighted
            },
            "activations": {name: plain_quantizers(q) for name, q in quantized.activations.items()},
        },
        sort_keys=True,
        allow_nan=False,
    )
