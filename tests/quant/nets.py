"""Networks that the tests of quant share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import digits
from quant.images import load_weights
from quant.network import Network


@cache
def digits_network() -> Network:
    return Network(digits.build(), digits.INPUT_SHAPE, digits.NAME)


def torchvision_network(name: str, data_dir: Path | None = None) -> Network:
    from hwsim.frontends.torchvision_shim import import_torchvision

    torch.manual_seed(0)
    module = getattr(import_torchvision().models, name)().eval()
    if data_dir is not None:
        load_weights(module, data_dir / "weights" / f"{name}.safetensors")
    return Network(module, (3, 224, 224), name)


class _Block(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.grow = outs - ins

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.grow:  # parameter-free shortcut: every second pixel, zero channels around
            half = self.grow // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return functional.relu(x + y)


class CifarResNet(nn.Module):
    """The CIFAR ResNets of He et al. (2016), Sec. 4.2, with option-A shortcuts; 6 n + 2 layers."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        ins = 16
        for stage, outs in enumerate((16, 32, 64), start=1):
            layers = []
            for i in range(blocks):
                layers.append(_Block(ins, outs, 2 if stage > 1 and i == 0 else 1))
                ins = outs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def cifar_network(data_dir: Path) -> Network:
    module = CifarResNet().eval()
    load_weights(module, data_dir / "cifar10" / "cifar_resnet20.safetensors")
    return Network(module, (3, 32, 32), "cifar_resnet20")
