"""Networks as the Eyeriss papers measured them, made by hand from the published shapes.

Convolutions and the pooling between them only: the papers measure no fully connected layers.
The shapes are those of Chen, Krishna, Emer, Sze, JSSC 52(1), 2017, Table III (AlexNet, 227 x 227,
CONV2, 4 and 5 in two groups) and of Simonyan and Zisserman, ICLR 2015, configuration D (VGG-16).
"""

from __future__ import annotations

from hwsim.graph import Conv, Layer, LayerGraph, Tensor, Vector


class _Chain:
    """Layers one after another."""

    def __init__(self, name: str, channels: int, size: int) -> None:
        self.name = name
        self.tensor = Tensor("input", (1, channels, size, size))
        self.layers = [Layer("input", "input", Vector(0), (), self.tensor)]

    def conv(
        self, name: str, filters: int, kernel: int, stride: int, padding: int, groups: int = 1
    ) -> None:
        _, channels, height, width = self.tensor.shape
        size = ((height + 2 * padding - kernel) // stride + 1,) * 2
        work = Conv(
            in_channels=channels,
            out_channels=filters,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(padding, padding),
            dilation=(1, 1),
            groups=groups,
            ifmap_size=(height, width),
            ofmap_size=(size[0], size[1]),
        )
        output = Tensor(name, (1, filters, *size))
        params = filters * (channels // groups * kernel**2 + 1)
        self.layers.append(
            Layer(
                name,
                "conv",
                work,
                (self.tensor,),
                output,
                weight=f"{name}.weight",
                bias=f"{name}.bias",
                params=params,
                fused=("relu",),
            )
        )
        self.tensor = output

    def pool(self, name: str, kernel: int) -> None:
        """Maximum over kernel x kernel values, stride 2."""
        _, channels, height, _ = self.tensor.shape
        size = (height - kernel) // 2 + 1
        output = Tensor(name, (1, channels, size, size))
        work = Vector(output.values * kernel**2)
        self.layers.append(Layer(name, "pool", work, (self.tensor,), output))
        self.tensor = output

    def graph(self) -> LayerGraph:
        return LayerGraph(self.name, tuple(self.layers), (self.tensor.name,))


def alexnet_paper() -> LayerGraph:
    """AlexNet's five convolutions as measured on Eyeriss: 227 x 227, grouped."""
    chain = _Chain("alexnet_paper", 3, 227)
    chain.conv("conv1", 96, 11, 4, 0)
    chain.pool("pool1", 3)
    chain.conv("conv2", 256, 5, 1, 2, groups=2)
    chain.pool("pool2", 3)
    chain.conv("conv3", 384, 3, 1, 1)
    chain.conv("conv4", 384, 3, 1, 1, groups=2)
    chain.conv("conv5", 256, 3, 1, 1, groups=2)
    return chain.graph()


def vgg16_paper() -> LayerGraph:
    """VGG-16's thirteen convolutions as measured on Eyeriss: 224 x 224."""
    chain = _Chain("vgg16_paper", 3, 224)
    for block, (convs, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for index in range(1, convs + 1):
            chain.conv(f"conv{block}_{index}", filters, 3, 1, 1)
        if block < 5:
            chain.pool(f"pool{block}", 2)
    return chain.graph()


PAPER_NETWORKS = {"alexnet_paper": alexnet_paper, "vgg16_paper": vgg16_paper}
