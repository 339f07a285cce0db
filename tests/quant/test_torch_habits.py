"""Any torch module with any DataLoader: from curves to the quantised module and the chip."""

import logging

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import quant
from analysis import divide_images, measure_curves
from hwsim import load_accelerator, simulate
from hwsim.frontends.torchvision_shim import import_torchvision


class Gate(nn.Module):
    """A residual block with a batch norm, a parameter outside of any layer, and buffers in a
    dict."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.tables = {"shift": torch.linspace(0, 1, channels)}
        for name, table in self.tables.items():
            self.register_buffer(name, table.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        buffers = {name: self.get_buffer(name) for name in self.tables}
        return x + self.scale * functional.relu(self.norm(self.conv(x))) - buffers["shift"]


class OwnNet(nn.Module):
    """Written by hand: normalises its input itself, drops out, loops over a list of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Gate(8) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x - self.mean))
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x.mean((2, 3))))


def vision_transformer() -> nn.Module:
    """torchvision's, small. A trained one has tokens of about unit size, a fresh one has not."""
    vit = import_torchvision().models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=4,
    )  # fmt: skip
    for parameter in (vit.class_token, vit.encoder.pos_embedding, vit.heads.head.weight):
        nn.init.normal_(parameter, std=0.5)
    return vit


MODULES = {"own": OwnNet, "transformer": vision_transformer}


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODULES[name]()


def loader(count: int = 60, batch: int = 16, seed: int = 0) -> DataLoader:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 16, 16, generator=generator)
    labels = torch.randint(4, (count,), generator=generator)
    return DataLoader(TensorDataset(images, labels), batch_size=batch)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_a_loader_go_all_the_way(name):
    seen = []
    network = quant.Network(seeded(name), (3, 16, 16))
    images = divide_images(quant.from_loader(loader()), calibration=12, fitting=18)
    curves, rounder = measure_curves(
        network,
        images,
        rounding="sequential",
        probes=4,
        progress=lambda task, done, total: seen.append((task, done, total)),
    )
    allocation = quant.allocate(
        curves, quant.Budget(weight_bits=4, activation_bits=8, weight_widths=(3, 4, 5, 6, 7, 8))
    )
    assert allocation.average_weight_bits <= 4
    quantized = quant.quantize(network, allocation.bits, curves, rounder=rounder)
    found = quant.evaluate(network, quantized, loader(seed=1))
    # measured on other images than it was predicted on
    assert 0.3 < found.distortion / allocation.predicted_distortion < 3
    assert found.images == 60
    assert {"calibrate", "round", "sweep"} <= {task for task, _, _ in seen}
    assert [(done, total) for task, done, total in seen if task == "sweep"][-1] == (12, 12)
    for chip in ("tpu_v1", "eyeriss_v1"):
        accelerator = load_accelerator(chip)
        narrow = simulate(network.graph, accelerator, allocation.bits)
        wide = simulate(network.graph, accelerator, quant.equal_widths(curves, 8, 8).bits)
        assert narrow.macs == wide.macs > 0
        assert narrow.dram_bits < wide.dram_bits


def test_accuracy_is_the_same_from_a_loader_a_tensor_and_images():
    network = quant.Network(seeded("own"), (3, 16, 16))
    images = quant.from_loader(loader())
    seen = []
    found = [
        quant.evaluate(network, None, loader(batch=7), progress=lambda *now: seen.append(now)),
        quant.evaluate(network, None, iter(loader(batch=60))),
        quant.evaluate(network, None, images.tensor(), images.labels),
        quant.evaluate(network, None, images),
    ]
    assert found[0] == found[1] == found[2] == found[3]
    assert 0 < found[0].top1 < 1
    assert seen == [("evaluate", 32, 60), ("evaluate", 60, 60)]
    with pytest.raises(ValueError, match="there are no images"):
        quant.evaluate(network, None, [])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("own", torch.float16),
        ("own", torch.float32),
        ("own", torch.float64),
        ("transformer", torch.float32),
    ],
)
def test_the_network_computes_what_its_module_computes(name, dtype):
    module = seeded(name).to(dtype)
    network = quant.Network(module, (3, 16, 16))
    images = next(iter(loader()))[0]
    with torch.inference_mode():
        wanted = module.eval().to(torch.float32)(images)
    assert torch.allclose(network(images), wanted, atol=1e-4)
    assert network.name == type(module).__name__


def test_the_module_stays_in_the_mode_that_it_was_in():
    module = seeded("own").train()
    module.blocks[0].eval()
    network = quant.Network(module, (3, 16, 16))
    network(torch.zeros(2, 3, 16, 16))  # exports for two images
    assert module.training
    assert module.head.training
    assert not module.blocks[0].norm.training


def test_the_quantized_module_is_a_module():
    network = quant.Network(seeded("own"), (3, 16, 16))
    images = quant.from_loader(loader())
    bits = quant.equal_widths(
        measure_curves(network, divide_images(images, 8, 0), rounding="nearest", probes=1)[0], 4, 8
    ).bits
    quantized = quant.quantize(network, bits, images)
    module = quant.QuantizedModule(quantized)
    x = images.tensor(0, 5)
    assert torch.equal(nn.Sequential(module, nn.Identity())(x), quantized(x))
    state = module.state_dict()
    assert state["layers.blocks.1.conv.weight"].shape == (8, 72)
    assert all(len(row.unique()) <= 16 for row in state["layers.blocks.1.conv.weight"])
    assert "OwnNet: 4 bits a weight" in repr(module)
    changed = {name: torch.zeros_like(value) for name, value in state.items()}
    module.load_state_dict(changed)
    assert not module(x).any()
    assert quantized(x).any()


def test_what_is_done_is_logged_and_not_printed(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="quant"):
        network = quant.Network(seeded("own"), (3, 16, 16), "mine")
        measure_curves(
            network, divide_images(quant.from_loader(loader()), 8, 0), rounding="nearest", probes=1
        )
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("mine: ")
    assert "with 1400 weights" in said[0]  # 8 * 27 + 2 * 8 * 72 + 4 * 8
    assert said[1].startswith("mine: 8 images priced, nearest rounding")
    assert capsys.readouterr() == ("", "")
