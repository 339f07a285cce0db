"""The quantised network as a torch module, to be put wherever the float one was."""

from __future__ import annotations

from torch import Tensor, nn

from quant.apply import QuantizedNetwork


class QuantizedModule(nn.Module):
    """Images (batch, channels, height, width) -> logits (batch, classes), as `quantized` gives.

    state_dict holds `layers.<layer>.weight` (out, K), values of the quantisers at each channel's
    width, and the corrected `bias` (out,), batch norm folded in. It stays on the device of the
    float network. Rounding has no gradient; `quant.finetune` trains. The first call at a batch
    size exports the network for it, about a second.
    """

    def __init__(self, quantized: QuantizedNetwork) -> None:
        super().__init__()
        self.quantized = quantized
        self.layers = nn.Module()
        for name, (weight, bias) in quantized.parameters.items():
            place = self._place(name)
            place.register_buffer("weight", weight.clone())
            place.register_buffer("bias", bias.clone())

    def _place(self, layer: str) -> nn.Module:
        """The module inside `layers` that a layer's path leads to, made on the way."""
        place = self.layers
        for part in layer.split("."):
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        return place

    def forward(self, images: Tensor) -> Tensor:
        parameters = {}
        for name in self.quantized.parameters:
            place = self.layers.get_submodule(name)
            parameters[name] = (place.get_buffer("weight"), place.get_buffer("bias"))
        network = self.quantized.network
        return network.run(images, parameters, at_output=self.quantized.rounded)

    def extra_repr(self) -> str:
        network = self.quantized.network
        average = self.quantized.bits.average_weight_bits(network.graph)
        return f"{network.name}: {average:g} bits a weight"
