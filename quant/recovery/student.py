"""Student: a quantised network whose weights, steps and biases can be trained; widths stay.

Everything is trained in units of its own channel: weights in steps, steps as a ratio to where they
began, biases in the length of the channel's filter. So one learning rate suits layers whose folded
batch norms have left weights of very different sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hwsim.graph import Layer
from quant.apply import QuantizedNetwork
from quant.network import FoldedLayer, Network, Parameters
from quant.quantizer import ActivationQuantizer, DeadZoneQuantizer
from quant.recovery.lsq import as_stored, gradient_scale, round_with_step

_LEAST_RATIO = 0.05  # of a step to where it began: it must keep its sign
_ROOM = 0.2  # of a step, at most, from a weight's start to its level: nearer to the next one, codes
# that error-feedback rounding has chosen together would move one by one at the first updates


class _Weights:
    """The trainable filters of one layer."""

    def __init__(self, folded: FoldedLayer, weight: Tensor, bias: Tensor, q: DeadZoneQuantizer):
        bits = q.bits.unsqueeze(1)
        self.bits, self.kept, self.binary = q.bits, bits > 0, bits == 1
        half = torch.where(bits > 1, 2.0 ** (bits - 1), 1.0)
        self.low, self.high = -half, torch.where(bits > 1, half - 1, 1.0)
        self.start = torch.where(self.kept, q.step.unsqueeze(1), 1.0)
        self.scale = torch.tensor(
            [[gradient_scale(weight.shape[1], high)] for high in self.high.ravel().tolist()],
            device=weight.device,
        )
        # On the side of its level where the float weight lies, and as near to it.
        level = weight / self.start
        away = (folded.weight / self.start - level).clamp(-_ROOM, _ROOM)
        self.weight = (level + away).masked_fill(~self.kept, 0.0).requires_grad_()
        self.ratio = torch.ones_like(self.start).requires_grad_()
        length = folded.weight.norm(dim=1)
        self.unit = torch.where(length > 0, length, length.mean().clamp(min=1e-6))
        self.first_bias = bias.clone()
        self.bias = torch.zeros_like(bias).requires_grad_()

    def leaves(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "step": self.ratio, "bias": self.bias}

    def step(self) -> Tensor:
        return as_stored(self.start * self.ratio)

    def parameters(self) -> tuple[Tensor, Tensor]:
        step = self.step()
        rounded = round_with_step(
            self.weight * self.start, step, self.low, self.high, self.binary, self.scale
        )
        return rounded.masked_fill(~self.kept, 0.0), self.first_bias + self.bias * self.unit

    def quantizer(self) -> DeadZoneQuantizer:
        return DeadZoneQuantizer(self.bits.cpu(), self.step().detach().squeeze(1).cpu())


class _Activation:
    """The trainable steps of one tensor: one, or one a channel."""

    def __init__(
        self,
        layer: Layer,
        quantizers: ActivationQuantizer | tuple[ActivationQuantizer, ...],
        device: torch.device,
    ) -> None:
        self.quantizers = quantizers
        every = quantizers if isinstance(quantizers, tuple) else (quantizers,)
        dimensions = len(layer.output.shape)
        axis = layer.output.channel_axis
        shape = [1] * dimensions
        if len(every) > 1:
            shape[axis] = len(every)

        def along(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).reshape(shape)

        self.start = along([q.step for q in every])
        self.low = along([float(-q.zero_point) for q in every])
        self.high = along([float(2**q.bits - 1 - q.zero_point) for q in every])
        self.never = torch.zeros_like(self.low, dtype=torch.bool)
        values = layer.output.values // len(every)
        self.scale = along([gradient_scale(values, 2.0**q.bits - 1) for q in every])
        self.ratio = torch.ones_like(self.start).requires_grad_()

    def step(self) -> Tensor:
        return self.start * self.ratio

    def __call__(self, x: Tensor) -> Tensor:
        return round_with_step(x, self.step(), self.low, self.high, self.never, self.scale)

    def trained(self) -> ActivationQuantizer | tuple[ActivationQuantizer, ...]:
        steps = self.step().detach().ravel().tolist()
        if isinstance(self.quantizers, tuple):
            pairs = zip(self.quantizers, steps, strict=True)
            return tuple(replace(q, step=step) for q, step in pairs)
        return replace(self.quantizers, step=steps[0])


class Student:
    """A trainable copy of a quantised network; call it on images for logits with gradients.

    start: where training begins, whose logits the student's are before the first step. network:
    the float network on the device to train on (start's own by default).
    """

    def __init__(self, start: QuantizedNetwork, network: Network | None = None) -> None:
        self.start = start
        self.network = network or start.network
        self.weights: dict[str, _Weights] = {}
        device = torch.device("cpu")
        for name, folded in self.network.layers.items():
            device = folded.weight.device
            weight, bias = (part.to(device) for part in start.parameters[name])
            quantizer = start.weights[name]
            moved = replace(
                quantizer, bits=quantizer.bits.to(device), step=quantizer.step.to(device)
            )
            self.weights[name] = _Weights(folded, weight, bias, moved)
        self.activations: dict[str, _Activation] = {}
        for layer in self.network.graph:
            quantizers = start.activations[layer.name]
            # A max pool hands on levels that it reads: with the same quantiser, the same step.
            inherits = layer.kind == "pool" and "max" in layer.op
            source = layer.inputs[0].name if inherits else layer.name
            if inherits and start.activations[source] == quantizers:
                self.activations[layer.name] = self.activations[source]
            else:
                self.activations[layer.name] = _Activation(layer, quantizers, device)

    def leaves(self) -> dict[str, Tensor]:
        """{what it is: tensor} of all that is trained; names end in /weight, /step or /bias."""
        found: dict[str, Tensor] = {}
        for name, weights in self.weights.items():
            found |= {f"weights/{name}/{kind}": leaf for kind, leaf in weights.leaves().items()}
        for name, activation in self.activations.items():
            if not any(activation.ratio is leaf for leaf in found.values()):
                found[f"activations/{name}/step"] = activation.ratio
        return found

    def __call__(self, images: Tensor) -> Tensor:
        """images (batch, channels, height, width) -> logits (batch, classes)."""
        parameters: Parameters = {n: weights.parameters() for n, weights in self.weights.items()}
        return self.network.run(
            images, parameters, at_output=lambda name, x: self.activations[name](x)
        )

    def keep_signs(self) -> None:
        """After a step of the optimiser: no step may reach zero, where all levels would meet."""
        with torch.no_grad():
            for weights in self.weights.values():
                weights.ratio.clamp_(min=_LEAST_RATIO)
            for activation in self.activations.values():
                activation.ratio.clamp_(min=_LEAST_RATIO)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over the leaves of another student of the same network."""
        with torch.no_grad():
            for name, leaf in self.leaves().items():
                leaf.copy_(state[name])

    def quantized(self) -> QuantizedNetwork:
        """The network as it stands: the same widths, with the trained codes, steps and biases."""
        parameters, quantizers = {}, {}
        with torch.no_grad():
            for name, weights in self.weights.items():
                weight, bias = weights.parameters()
                parameters[name] = weight.cpu(), bias.cpu()
                quantizers[name] = weights.quantizer()
        activations = {name: a.trained() for name, a in self.activations.items()}
        start = self.start
        return QuantizedNetwork(start.network, start.bits, parameters, quantizers, activations)

    def codes_moved(self) -> int:
        """Weights whose stored index is another than at the start."""
        now = self.quantized()
        return sum(
            int(np.count_nonzero(now.index(name) != self.start.index(name)))
            for name in self.weights
        )
