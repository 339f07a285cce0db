"""The folded, interpreted network is the module; its taps see and replace what they should."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from quant import digits
from quant.network import Network
from quant.patches import patch_sums, patches
from tests.quant.nets import digits_network, torchvision_network


def random_images(network, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *network.input_shape, generator=generator)


def randomise_norms(module):
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
            norm.bias.data = torch.randn(norm.bias.shape, generator=generator) * 0.1
            norm.running_mean = torch.randn(norm.bias.shape, generator=generator) * 0.1
            norm.running_var = 0.5 + torch.rand(norm.bias.shape, generator=generator)


@pytest.mark.parametrize("name", ["digits", "resnet18", "mobilenet_v2"])
def test_the_folded_network_gives_the_modules_logits(name):
    network = digits_network() if name == "digits" else torchvision_network(name)
    if name != "digits":
        randomise_norms(network.module)
        network = Network(network.module, network.input_shape, name)
    images = random_images(network, 1)
    with torch.inference_mode():
        wanted = network.module(images)
    assert torch.allclose(network(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_a_batch_gives_what_its_images_give_one_by_one():
    network = digits_network()
    images = digits.test().tensor(0, 5)
    one_by_one = torch.cat([network(image) for image in images.split(1)])
    assert torch.allclose(network(images), one_by_one, atol=1e-5)


def test_every_weighted_layer_has_a_weight_row_and_a_bias_for_each_channel():
    network = digits_network()
    assert [layer.name for layer in network.graph.weighted] == list(network.layers)
    for layer in network.graph.weighted:
        folded = network.layers[layer.name]
        assert folded.weight.shape == (layer.out_channels, layer.weights_per_channel)
        assert folded.bias.shape == (layer.out_channels,)


def test_inputs_times_weights_plus_bias_are_the_layers_output():
    network = digits_network()
    seen, outputs = {}, {}
    network.run(
        digits.test().tensor(0, 1),
        at_input=lambda name, x: seen.__setitem__(name, x.clone()),
        at_output=lambda name, x: outputs.setdefault(name, x.clone()),
    )
    for name in ("block1.conv2", "depthwise", "classifier"):
        folded = network.layers[name]
        columns = patches(folded.layer, seen[name])
        groups, size, positions = columns.shape
        made = torch.bmm(folded.weight.reshape(groups, -1, size), columns).reshape(-1, positions)
        made = made + folded.bias.unsqueeze(1)
        if name == "depthwise":
            made = functional.relu(made)
        assert torch.allclose(made.reshape(outputs[name].shape), outputs[name], atol=1e-4)


def test_patch_sums_are_the_sums_of_all_patches():
    network = digits_network()

    def compare(name, x):
        layer = network.graph[name]
        all_patches = patches(layer, x)
        total, count = patch_sums(layer, x)
        assert count == all_patches.shape[2]
        assert torch.allclose(total, all_patches.sum(2, dtype=torch.float64), rtol=1e-5, atol=1e-4)

    network.run(digits.test().tensor(0, 3), at_input=compare)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 2), (3, (2, 1), 2, 4), ((1, 2), 3, (2, 1), 1)],
)
def test_patches_are_right_for_every_geometry(stride, padding, dilation, groups):
    conv = nn.Conv2d(4, 8, (3, 2), stride, padding, dilation, groups)
    module = nn.Sequential(
        conv, nn.Flatten(), nn.Linear(int(conv(torch.zeros(1, 4, 11, 9)).numel()), 3)
    )
    network = Network(module, (4, 11, 9), "geometry")
    images = random_images(network, 2)
    layer = network.graph["0"]
    columns = patches(layer, images)
    product = torch.bmm(network.layers["0"].weight.reshape(groups, -1, columns.shape[1]), columns)
    # (groups, out a group, images * positions) -> (images, out, ...)
    outs = product.reshape(8, 2, -1).transpose(0, 1)
    with torch.no_grad():
        wanted = conv(images).flatten(2) - conv.bias.reshape(1, -1, 1)
    assert torch.allclose(outs, wanted, atol=1e-5)
    total, count = patch_sums(layer, images)
    assert count == columns.shape[2]
    assert torch.allclose(total, columns.sum(2, dtype=torch.float64), atol=1e-4)


def test_each_layers_output_is_tapped_once_and_replaced():
    network = digits_network()
    seen = []

    def at_output(name, x):
        seen.append(name)
        return torch.zeros_like(x) if name == "average" else x

    images = digits.test().tensor(0, 2)
    logits = network.run(images, at_output=at_output)
    assert seen == [layer.name for layer in network.graph]
    assert torch.equal(logits, network.layers["classifier"].bias.expand(2, 10))


def test_exchanged_parameters_are_used_and_the_network_stays_as_it_was():
    network = digits_network()
    images = digits.test().tensor(0, 2)
    before = network(images)
    folded = network.layers["classifier"]
    changed = network.run(images, {"classifier": (folded.weight * 2, folded.bias * 2)})
    assert torch.allclose(changed, before * 2, atol=1e-5)
    assert torch.equal(network(images), before)


def test_the_classes_are_counted_where_a_pool_ends_the_network():
    module = nn.Sequential(nn.Conv2d(1, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert Network(module, (1, 4, 4), "pooled").classes == 7


class AddMM(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return torch.addmm(self.bias, x.flatten(1), self.weight)


def test_products_written_with_a_transposed_weight_fold_too():
    network = Network(AddMM(), (1, 2, 3), "addmm")
    images = random_images(network, 2)
    (folded,) = network.layers.values()
    assert folded.weight.shape == (3, 6)
    with torch.inference_mode():
        assert torch.allclose(network(images), network.module(images), atol=1e-6)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"images must be \(batch, 1, 8, 8\), got \(2, 1, 9, 8\)"):
        digits_network().run(torch.zeros(2, 1, 9, 8))
