"""The sweep's prices equal the slow form of the same estimate; their errors are what they say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from quant import digits
from quant.calibration import calibrate
from quant.network import Network
from quant.patches import per_channel
from quant.sweep import METRICS, MIN_IMAGES, STATED_WIDTH, sweep, weight_errors
from tests.quant.nets import digits_network


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, signed tensors and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, groups=12, bias=False)
        self.last = nn.Linear(12, 5)

    def forward(self, x):
        x = self.grouped(torch.relu(self.first(x)))
        return self.last(self.depthwise(x).mean((2, 3)))


@pytest.fixture(scope="module")
def grouped():
    return Network(Grouped().eval(), (3, 8, 8), "grouped")


def slow_prices(network, images, recipe, probes, seed, by_input=False):
    """Each image, probe, layer and width on its own, in float64, from plain gradients.

    {layer: (images, channels, 9)}, {tensor: (images, 9)}; the probes are those of the sweep.
    """
    generator = torch.Generator().manual_seed(seed)
    errors = {n: weight_errors(f, recipe).double() for n, f in network.layers.items()}
    weights = {n: [] for n in network.layers}
    tensors = {layer.name: [] for layer in network.graph}
    for image in images.split(1):
        values = {}
        leaves = {
            n: (f.weight.clone().requires_grad_(), f.bias.clone().requires_grad_())
            for n, f in network.layers.items()
        }

        def keep(name, x, values=values):
            x.retain_grad()
            values[name] = x
            return x

        logits = network.run(image.clone().requires_grad_(), leaves, at_output=keep)
        sums = dict.fromkeys(weights, 0), dict.fromkeys(tensors, 0)
        for _ in range(probes):
            vector = METRICS["logits"](logits.detach(), generator)
            every = [t for pair in leaves.values() for t in pair] + list(values.values())
            found = torch.autograd.grad(logits, every, vector, retain_graph=True, allow_unused=True)
            gradients = dict(zip(map(id, every), found, strict=True))
            for n, (weight, bias) in leaves.items():
                layer = network.layers[n].layer
                mean = per_channel(layer, recipe.means[n].double())
                g = gradients[id(weight)].double() - gradients[id(bias)].double()[:, None] * mean
                products = errors[n] * g[:, None]  # (out, 9, K)
                if by_input:
                    out, groups = len(mean), len(recipe.means[n])
                    inputs = network.layers[n].shape[1]
                    split = products.reshape(groups, out // groups, 9, inputs, -1)
                    moved = split.sum((1, 4)).permute(0, 2, 1).reshape(-1, 9)
                else:
                    moved = products.sum(2)
                sums[0][n] = sums[0][n] + moved.square() / probes
            for n, x in values.items():
                x, g = x.detach(), gradients[id(values[n])]
                row = [0.0]
                for bits in range(1, 9):
                    error = recipe.activation_quantizer(n, bits)(x).double() - x
                    row.append(float((error * g.double()).sum().square()))
                sums[1][n] = sums[1][n] + torch.tensor(row, dtype=torch.float64) / probes
        for kind, found in zip((weights, tensors), sums, strict=True):
            for n, price in found.items():
                kind[n].append(price)
    return (
        {n: torch.stack(p).numpy() for n, p in weights.items()},
        {n: torch.stack(p).numpy() for n, p in tensors.items()},
    )


@pytest.mark.parametrize(("probes", "count"), [(1, 3), (2, 5), (3, 4), (9, 2)])
def test_the_sweep_equals_its_slow_form(grouped, probes, count):
    images = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = calibrate(grouped, images)
    weights, tensors = slow_prices(grouped, images, recipe, probes, seed=4)
    curves = sweep(grouped, images, probes=probes, recipe=recipe, seed=4, low_widths=False)
    for name, price in weights.items():
        found, error = curves.weight(name), price.std(0, ddof=1) / math.sqrt(count)
        assert np.allclose(found.distortion, price.mean(0), rtol=1e-4, atol=1e-12)
        assert np.allclose(found.standard_error, error, rtol=1e-3, atol=1e-9)
    for name, price in tensors.items():
        found, error = curves.activation(name), price.std(0, ddof=1) / math.sqrt(count)
        assert np.allclose(found.distortion[1:], price.mean(0)[1:], rtol=1e-4, atol=1e-12)
        assert np.allclose(found.standard_error[1:], error[1:], rtol=1e-3, atol=1e-9)
    whole = np.concatenate(list(weights.values()), 1).sum(1)  # (images, 9)
    relative = whole.std(0, ddof=1) / math.sqrt(count) / whole.mean(0)
    stated = curves.method["standard_error"]["weights"]
    assert np.allclose(stated, relative, rtol=1e-3, atol=1e-6)


def test_curves_of_input_channels_equal_their_slow_form(grouped):
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = calibrate(grouped, images)
    weights, _ = slow_prices(grouped, images, recipe, 2, seed=0, by_input=True)
    curves = sweep(grouped, images, recipe=recipe, granularity="input")
    assert curves.method["granularity"] == "input"
    assert [c.channels for c in curves.weights] == [3, 8, 12, 12]
    for name, price in weights.items():
        found, folded = curves.weight(name), grouped.layers[name]
        assert np.allclose(found.distortion, price.mean(0), rtol=1e-4, atol=1e-12)
        assert found.channels * found.values == folded.weight.numel()


def test_features_are_what_the_last_weighted_layer_reads(grouped):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = calibrate(grouped, images)

    class Features(Grouped):
        def forward(self, x):
            x = self.grouped(torch.relu(self.first(x)))
            return self.depthwise(x).mean((2, 3))

    alone = sweep(
        Network(Features().eval(), (3, 8, 8), "features"), images, recipe=recipe, activations=False
    )
    found = sweep(grouped, images, recipe=recipe, metric="feature")
    for curve in alone.weights:
        assert np.allclose(found.weight(curve.name).distortion, curve.distortion, rtol=1e-5)
    only_8 = [np.inf] * 8 + [0.0]
    assert (found.weight("last").distortion == only_8).all()
    assert (found.activation("last").distortion == only_8).all()
    assert np.isfinite(found.activation("depthwise").distortion[1:]).all()


def test_the_stated_error_covers_the_scatter_of_other_images():
    network = digits_network()
    recipe = calibrate(network, digits.calibration(32))
    images = digits.calibration(320).tensor()
    totals, stated = [], []
    for part in images.split(32):
        curves = sweep(network, part, recipe=recipe, activations=False)
        totals.append(sum(c.distortion[:, STATED_WIDTH].sum() for c in curves.weights))
        stated.append(curves.method["standard_error"]["weights"][STATED_WIDTH])
    scatter = np.std(totals, ddof=1) / np.mean(totals)
    # ten samples know a standard deviation to 24 %; three of that on either side
    assert 0.4 < np.mean(stated) / scatter < 2.5


def test_a_sweep_stops_as_soon_as_its_error_is_small_enough():
    network, images = digits_network(), digits.calibration(64)
    recipe = calibrate(network, images)
    loose = sweep(network, images, recipe=recipe, relative_error=0.2).method
    tight = sweep(network, images, recipe=recipe, relative_error=1e-6).method
    assert loose["standard_error"]["weights"][STATED_WIDTH] <= 0.2
    assert MIN_IMAGES <= loose["images"] < tight["images"] == 64
    prefix = sweep(network, images.take(slice(loose["images"])), recipe=recipe).method
    assert prefix["standard_error"] == loose["standard_error"]


def test_one_image_has_no_standard_error(grouped):
    curves = sweep(grouped, torch.randn(1, 3, 8, 8))
    assert curves.weights[0].standard_error is None
    assert curves.method["standard_error"]["weights"] == [None] * 9


def test_shares_outside_0_to_1_and_networks_without_features_are_refused(grouped):
    images = torch.randn(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 5; 0\.05 is 5 %"):
        sweep(grouped, images, relative_error=5)
    with pytest.raises(ValueError, match="no granularity 'inputs'; did you mean 'input'"):
        sweep(grouped, images, granularity="inputs")
    flat = Network(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), (3, 2, 2), "flat")
    with pytest.raises(ValueError, match="has one weighted layer"):
        sweep(flat, torch.randn(1, 3, 2, 2), metric="feature")
