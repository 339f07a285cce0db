"""The recipe: means and energies of patches, shared clipping ranges, and the progress bar."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from hwsim.bits import BitWidths
from quant import digits
from quant.apply import quantize
from quant.calibration import Recipe, calibrate
from quant.measured import measured_tensors
from quant.network import Network
from quant.patches import patches
from quant.sweep import sweep
from tests.quant.nets import digits_network


def test_means_and_energies_are_the_patches_mean_and_variance():
    network, images = digits_network(), digits.calibration(20)
    recipe = calibrate(network, images)
    inputs = {}
    network.run(images.tensor(), at_input=lambda name, x: inputs.__setitem__(name, x))
    for name in network.layers:
        columns = patches(network.graph[name], inputs[name]).double()
        assert torch.allclose(recipe.means[name].double(), columns.mean(2), atol=1e-5)
        variance = columns.var(2, correction=0)
        assert torch.allclose(recipe.energies[name].double(), variance, rtol=1e-4, atol=1e-5)


def test_a_max_pool_has_the_levels_of_what_it_reads():
    network = digits_network()
    recipe = calibrate(network, digits.calibration(8))
    for bits in range(1, 17):
        of_pool, of_source = (recipe.activation_quantizer(n, bits) for n in ("pool", "pointwise"))
        assert of_pool == of_source
    assert recipe.activation_quantizer("average", 8) != recipe.activation_quantizer("pool", 8)


def test_tensors_after_relu_are_unsigned_and_others_have_a_zero_point():
    network = digits_network()
    recipe = calibrate(network, digits.calibration(32))
    for layer in network.graph:
        zero_point = recipe.activation_quantizer(layer.name, 8).zero_point
        signed = layer.name in ("input", "block1.conv2", "block2.conv2", "classifier")
        assert (zero_point > 0) == signed, layer.name


def test_wide_activations_cover_all_that_was_seen():
    network, images = digits_network(), digits.calibration(32)
    recipe = calibrate(network, images)
    quantizer = recipe.activation_quantizer("classifier", 12)
    logits = network(images.tensor())
    assert float((quantizer(logits) - logits).abs().max()) <= quantizer.step * 1.01


class Uneven(nn.Module):
    """Three channels that differ a hundredfold, a max pool, and a channel that is never on."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)
        self.conv.weight.data = torch.tensor([1.0, 0.1, 0.01, -1.0]).reshape(4, 1, 1, 1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.pool(torch.relu(self.conv(x))).mean((2, 3)))


def test_channels_with_scales_have_steps_in_the_proportion_of_their_values():
    network = Network(Uneven().eval(), (1, 8, 8), "uneven")
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    recipe = calibrate(network, images, channel_scales=True)
    ratio = recipe.scales["conv"] / recipe.scales["conv"][0]
    assert torch.allclose(ratio, torch.tensor([1.0, 0.1, 0.01, 0.01]))
    assert torch.equal(recipe.scales["pool"], recipe.scales["conv"])
    assert set(recipe.scales) == {"conv", "pool"}  # not of the image's one channel, nor of vectors
    coarse, fine = (
        quantize(network, BitWidths(8, {**{n.name: 8 for n in network.graph}, "conv": 5}), of)
        for of in (calibrate(network, images), recipe)
    )
    x = torch.relu(network.module.conv(images)).detach()
    lost = [(q.rounded("conv", x) - x).square().mean((0, 2, 3)) for q in (coarse, fine)]
    assert (lost[1][1:3] < 0.05 * lost[0][1:3]).all()
    assert lost[1][3] == 0
    again = Recipe.from_arrays(recipe.to_arrays())
    assert again.scales.keys() == recipe.scales.keys()
    same = quantize(network, fine.bits, again)
    assert torch.equal(same(images), fine(images))


class Straight(nn.Module):
    """Linear from its one feature map on: first-order prices are the whole truth."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 3, 3)
        self.last = nn.Linear(3, 1)

    def forward(self, x):
        return self.last(torch.relu(self.conv(x)).mean((2, 3)))


def test_prices_of_scaled_channels_are_what_is_measured():
    network = Network(Straight().eval(), (1, 8, 8), "straight")
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = calibrate(network, images, channel_scales=True)
    assert set(recipe.scales) == {"conv"}
    found = {c.name: c.distortion for c in sweep(network, images, recipe=recipe).activations}
    slow = measured_tensors(network, images, recipe=recipe)
    assert np.allclose(found["conv"][1:], slow["conv"][1:], rtol=1e-3)


def test_the_sweep_prices_scaled_channels_as_their_values_over_the_scales():
    network = Network(Uneven().eval(), (1, 8, 8), "uneven")
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = calibrate(network, images, channel_scales=True)
    found = sweep(network, images, recipe=recipe, probes=1)
    scaled = replace(recipe, scales={n: 4 * s for n, s in recipe.scales.items()})
    clips = {n: c / torch.tensor([4.0, 1.0]) for n, c in recipe.clips.items() if n in recipe.scales}
    same = sweep(network, images, recipe=replace(scaled, clips={**recipe.clips, **clips}), probes=1)
    for one, other in zip(found.activations, same.activations, strict=True):
        assert np.allclose(one.distortion[1:], other.distortion[1:], rtol=1e-4)
