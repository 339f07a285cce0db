"""A network of one's own: any torch module and any images, to widths, accuracy and cycles.

    python -m examples.own_network

Trains a small module on handwritten digits for a few seconds; then everything is what a trained
module needs: curves, an allocation, the quantised network, and a simulation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import quant
from analysis import divide_images, measure_curves
from hwsim import load_accelerator, simulate
from quant import digits

BITS = 3.0


class OwnNet(nn.Module):
    """Two convolutions with batch norm, a mean over the plane, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(self.norm2(self.conv2(x)))
        return self.classifier(x.mean((2, 3)))


def loader(images: quant.LabelledImages, shuffle: bool = False) -> DataLoader:
    """One's own images: anything that gives (images, class numbers), as the network reads them."""
    labels = torch.as_tensor(images.labels, dtype=torch.int64)
    return DataLoader(TensorDataset(images.tensor(), labels), batch_size=64, shuffle=shuffle)


def trained(images: DataLoader, epochs: int = 12) -> nn.Module:
    module = OwnNet()
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    for _ in range(epochs):
        for pixels, labels in images:
            optimiser.zero_grad()
            functional.cross_entropy(module(pixels), labels).backward()
            optimiser.step()
    return module


def main() -> None:
    torch.manual_seed(0)
    training = loader(digits.train_images(), shuffle=True)
    held_out = loader(digits.test())
    module = trained(training)

    network = quant.Network(module, input_shape=(1, 8, 8))
    # 96 images price the channels; 400 others are what the rounding is fitted on
    images = divide_images(quant.from_loader(training, 500), calibration=96, fitting=400)
    curves, rounder = measure_curves(network, images, rounding="sequential", probes=2)
    budget = quant.Budget(weight_bits=BITS, activation_bits=8, weight_widths=tuple(range(2, 9)))
    allocation = quant.allocate(curves, budget)

    print(f"{network.name}: {curves.channels} channels, average {BITS:g} bits a weight")
    for layer in network.graph.weighted:
        print(f"  {layer.name}: {''.join(map(str, allocation.bits.weight(layer)))}")
    floating = quant.evaluate(network, None, held_out)
    print(f"float: top-1 {100 * floating.top1:.1f} % on {floating.images} images")
    equal = quant.equal_widths(curves, int(BITS), 8)
    accelerator = load_accelerator("eyeriss_v1")
    baseline = simulate(network.graph, accelerator, quant.equal_widths(curves, 8, 8).bits)
    for name, chosen in (("equal widths", equal), ("allocated", allocation)):
        quantized = quant.quantize(network, chosen.bits, curves, rounder=rounder)
        found = quant.evaluate(network, quantized, held_out)
        stats = simulate(network.graph, accelerator, chosen.bits)
        print(
            f"{name}: top-1 {100 * found.top1:.1f} %, distortion {found.distortion:.3g} (predicted "
            f"{chosen.predicted_distortion:.3g}), {baseline.cycles / stats.cycles:.2f}x over W8A8 "
            f"on {accelerator.name}"
        )


if __name__ == "__main__":
    main()
