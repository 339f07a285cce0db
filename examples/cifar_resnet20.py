"""A network of one's own, for the command line: `examples.cifar_resnet20:build`.

The CIFAR-10 ResNet-20 of He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR
2016, Sec. 4.2, with parameter-free shortcuts. Weights come from a file of these names:

    chipfit evaluate examples.cifar_resnet20:build --weights W.safetensors --images I.npz --bits 4
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x)))))); x keeps every second pixel where the stride is 2."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.stride, self.more = stride, (outs - ins) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))
        return functional.relu(x + y)


class CifarResNet(nn.Module):
    """6 n + 2 layers: stages of 16, 32 and 64 channels with n blocks each."""

    def __init__(self, n: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (ins, outs) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            first = Block(ins, outs, 1 if stage == 1 else 2)
            rest = [Block(outs, outs, 1) for _ in range(n - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def build() -> tuple[nn.Module, tuple[int, ...]]:
    """The network and its input shape, as --weights and --images then fill and feed it."""
    return CifarResNet(), (1, 3, 32, 32)
