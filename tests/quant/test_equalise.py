"""Equalisation changes no output, evens the ranges out, and goes only where the graph allows it."""

import pytest
import torch
from torch import nn

from hwsim.bits import BitWidths
from quant import digits
from quant.apply import quantize
from quant.calibration import calibrate
from quant.codes import save_packed
from quant.equalise import by_input, equalisable_pairs, equalise, equalising_factors
from quant.network import Network
from quant.sweep import sweep
from tests.quant.nets import digits_network, torchvision_network


class Inverted(nn.Module):
    """An inverted residual block behind a stem, as in MobileNet-v2, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(6, 12, 1), nn.BatchNorm2d(12), nn.ReLU6())
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.project = nn.Conv2d(12, 6, 1)
        self.hidden, self.last = nn.Linear(6, 8), nn.Linear(8, 5)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                spread = torch.exp(1.5 * torch.randn(len(part.weight)))
                part.weight.data *= spread.reshape(-1, *[1] * (part.weight.ndim - 1))

    def forward(self, x):
        x = self.stem(3 * x)
        y = nn.functional.relu6(self.depthwise(self.expand(x)))
        x = x + self.project(torch.relu(self.grouped(y)))
        return self.last(torch.relu(self.hidden(x.mean((2, 3)))))


@pytest.fixture(scope="module")
def inverted():
    return Network(Inverted().eval(), (3, 10, 10), "inverted")


@pytest.fixture(scope="module")
def images():
    return torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def test_pairs_have_one_reader_and_nothing_but_relu_between(inverted):
    assert equalisable_pairs(inverted) == [
        ("expand.0", "depthwise"),
        ("depthwise", "grouped"),
        ("grouped", "project"),
        ("hidden", "last"),
    ]  # the stem has two readers, project is added


def test_the_float_output_stays_to_rounding(inverted, images):
    found = equalise(inverted)
    moved = [n for n in found.layers if not torch.equal(found.parameters[n][0],
                                                        inverted.parameters[n][0])]  # fmt: skip
    assert moved == [n for n in found.layers if n != "stem.0"]
    exact, got = inverted(images), found(images)
    assert torch.allclose(got, exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))
    digits_float = digits_network()
    test = digits.test().tensor(0, 50)
    assert torch.allclose(equalise(digits_float)(test), digits_float(test), atol=1e-3)


def test_relu6_clips_each_channel_at_its_own_bound(inverted, images):
    found = equalise(inverted)
    assert set(found.scales) == {"expand.0", "depthwise"}  # the others have a plain ReLU
    seen = {}

    def keep(name, x):
        seen[name] = x
        return x

    found.run(100 * images, at_output=keep)
    bound = 6 / found.scales["expand.0"]
    highest = seen["expand.0"].amax((0, 2, 3))
    assert (highest <= bound * (1 + 1e-5)).all()
    reached = highest >= bound * (1 - 1e-4)
    assert int(reached.sum()) >= 4
    assert len({round(b, 3) for b in bound[reached].tolist()}) >= 4
    one = found.layer_output("depthwise", seen["expand.0"][:1], found.parameters["depthwise"])
    assert torch.allclose(one, seen["depthwise"][:1], rtol=1e-4, atol=1e-5)


def test_ranges_of_a_pair_become_alike(inverted):
    found = equalise(inverted)
    for writer, reader in equalisable_pairs(inverted):
        first, second = found.layers[writer], found.layers[reader]
        own = first.weight.abs().amax(1)
        read = by_input(second, second.weight).abs().amax((1, 3)).reshape(-1)
        assert torch.allclose(own, read, rtol=1e-3), writer


def test_an_equalised_network_is_priced_and_quantised_like_any_other(inverted, images):
    found = equalise(inverted)
    curves = sweep(found, images, recipe=calibrate(found, images))
    quantized = quantize(found, BitWidths(8, 8), curves)
    exact = inverted(images)
    assert float((quantized(images) - exact).square().mean()) < 0.01 * float(exact.var())


def test_a_file_that_would_lack_the_clips_is_not_written(inverted, images, tmp_path):
    recipe = calibrate(inverted, images)
    quantized = quantize(equalise(inverted), BitWidths(4, 8), recipe)
    with pytest.raises(ValueError, match=r"packing network 'inverted'.* expand.0, depthwise are"):
        save_packed(tmp_path / "packed.safetensors", quantized)
    plain = equalise(inverted, {"grouped": torch.full((12,), 2.0)})
    save_packed(tmp_path / "packed.safetensors", quantize(plain, BitWidths(4, 8), recipe))


def test_channels_without_weights_keep_their_scale(inverted):
    parameters = {n: (w.clone(), b) for n, (w, b) in inverted.parameters.items()}
    parameters["grouped"][0][3] = 0.0
    factors = equalising_factors(inverted.with_parameters(parameters))
    assert factors["grouped"][3] == 1
    assert all(bool(factor.isfinite().all()) for factor in factors.values())


def test_factors_elsewhere_are_refused(inverted):
    with pytest.raises(ValueError, match=r"'stem.0' of network 'inverted' is followed by more"):
        equalise(inverted, {"stem.0": torch.ones(6)})
    with pytest.raises(ValueError, match="not above 0"):
        equalise(inverted, {"grouped": torch.zeros(12)})


def test_mobilenet_has_pairs_around_every_depthwise_layer_and_keeps_its_output():
    network = torchvision_network("mobilenet_v2")
    pairs = equalisable_pairs(network)
    # 17 depthwise layers and what they read, and two projections that are not added to anything
    assert len(pairs) == 17 + 17 + 2
    assert ("features.17.conv.2", "features.18.0") in pairs
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    exact = network(image)
    assert torch.allclose(equalise(network)(image), exact, rtol=1e-3, atol=1e-3)
