"""The quantised network holds what was allocated: codes, widths, means, taps by node."""

import numpy as np
import pytest
import torch

from hwsim.bits import BitWidths
from quant import digits
from quant.apply import quantize
from quant.calibration import Recipe, calibrate
from quant.curves import RDCurves
from quant.network import Network
from quant.packing import pack, packed_bits, unpack
from quant.patches import patches
from quant.sweep import sweep
from tests.quant.nets import digits_network


@pytest.fixture(scope="module")
def recipe():
    return calibrate(digits_network(), digits.calibration(64))


def mixed_widths(network, seed=0):
    rng = np.random.default_rng(seed)
    return BitWidths(
        {name: rng.integers(0, 9, len(f.weight)) for name, f in network.layers.items()},
        {layer.name: int(rng.integers(2, 9)) for layer in network.graph},
    )


def test_the_packed_weights_are_the_allocations_bits_and_give_the_weights_back(recipe):
    network = digits_network()
    bits = mixed_widths(network)
    quantized = quantize(network, bits, recipe)
    total = 0
    for layer in network.graph.weighted:
        widths, index = bits.weight(layer), quantized.index(layer.name)
        assert (index < (1 << widths)[:, None]).all()
        stream = pack(index, widths)
        total += packed_bits(widths, layer.weights_per_channel)
        back = torch.from_numpy(unpack(stream, widths, layer.weights_per_channel))
        weight = network.layers[layer.name].weight
        quantizer = recipe.weight_quantizer(layer, weight, torch.from_numpy(widths))
        assert torch.equal(quantizer.value(back), quantized.parameters[layer.name][0])
    assert total == bits.weight_bits(network.graph)


def test_each_layers_mean_output_stays_what_it_was(recipe):
    """With float inputs: the bias takes up the mean of weight error times input."""
    network, images = digits_network(), digits.calibration(64).tensor()
    quantized = quantize(network, mixed_widths(network), recipe)
    inputs = {}
    network.run(images, at_input=lambda name, x: inputs.__setitem__(name, x))

    def mean_output(name, weight, bias):
        columns = patches(network.graph[name], inputs[name])
        rows = torch.bmm(weight.reshape(len(columns), -1, columns.shape[1]), columns)
        return rows.reshape(len(weight), -1).mean(1) + bias

    for name in ("stem", "depthwise", "block2.conv1", "classifier"):
        before = mean_output(name, *network.parameters[name])
        after = mean_output(name, *quantized.parameters[name])
        assert torch.allclose(before, after, atol=1e-4)
        assert not torch.equal(network.parameters[name][0], quantized.parameters[name][0])


def test_a_dropped_channel_is_replaced_by_its_mean(recipe):
    network, images = digits_network(), digits.calibration(64).tensor()
    widths = {name: np.full(len(f.weight), 8) for name, f in network.layers.items()}
    widths["classifier"][3] = 0
    quantized = quantize(network, BitWidths(widths, 16), recipe)
    logits = quantized(images)[:, 3]
    assert float(logits.std()) < 1e-5
    assert float(logits.mean()) == pytest.approx(float(network(images)[:, 3].mean()), abs=1e-3)


def test_every_activation_tensor_has_at_most_the_values_of_its_width(recipe):
    network, images = digits_network(), digits.test().tensor(0, 16)
    bits = mixed_widths(network, seed=1)
    quantized = quantize(network, bits, recipe)
    seen = {}

    def at_output(name, x):
        seen[name] = quantized.rounded(name, x)
        return seen[name]

    network.run(images, quantized.parameters, at_output=at_output)
    for layer in network.graph:
        width = int(bits.activation(layer.name, 1)[0])
        assert 1 < len(seen[layer.name].unique()) <= 2**width


def test_one_relu_module_at_two_nodes_gets_two_quantisers(recipe):
    network = digits_network()
    narrow = {layer.name: 16 for layer in network.graph}
    narrow["block1.conv1"] = 1  # the first of two places that block1.relu serves
    quantized = quantize(network, BitWidths(16, narrow), recipe)
    counts = {}

    def at_output(name, x):
        counts[name] = len(quantized.rounded(name, x).unique())
        return quantized.rounded(name, x)

    network.run(digits.test().tensor(0, 8), quantized.parameters, at_output=at_output)
    assert counts["block1.conv1"] == 2
    assert counts["block1.add"] > 100


def test_channels_of_one_tensor_may_differ_in_width(recipe):
    network, images = digits_network(), digits.test().tensor(0, 8)
    widths = {layer.name: np.array([8]) for layer in network.graph}
    widths["stem"] = np.array([8] * 23 + [1])
    quantized = quantize(network, BitWidths(16, widths), recipe)
    x = torch.rand(8, 24, 8, 8)
    rounded = quantized.rounded("stem", x)
    assert len(rounded[:, 23].unique()) == 2
    assert torch.equal(rounded[:, :23], recipe.activation_quantizer("stem", 8)(x[:, :23]))
    assert quantized(images).shape == (8, 10)


def test_sixteen_bits_are_as_good_as_float(recipe):
    network, images = digits_network(), digits.test().tensor()
    quantized = quantize(network, BitWidths(16, 16), recipe)
    inside = [network(images), quantized(images)]
    assert (inside[0].argmax(1) == inside[1].argmax(1)).float().mean() > 0.99


def test_curves_and_their_images_make_the_same_network():
    network, images = digits_network(), digits.calibration(16)
    curves = sweep(network, images)
    bits = mixed_widths(network, seed=2)
    held_out = digits.test().tensor(0, 8)
    from_curves, from_images = (quantize(network, bits, s)(held_out) for s in (curves, images))
    assert torch.equal(from_curves, from_images)


def test_curves_and_widths_of_another_network_are_refused(recipe):
    network = digits_network()
    with pytest.raises(ValueError, match="weights given for 'head'"):
        quantize(network, BitWidths({"head": np.array([8])}, 8), recipe)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    other = Network(module, digits.INPUT_SHAPE, "linear")
    with pytest.raises(ValueError, match="curves of 'linear' do not fit network 'digits'"):
        quantize(network, BitWidths(8, 8), sweep(other, digits.calibration(2)))


@pytest.mark.parametrize(
    ("key", "wrong", "said"),
    [
        ("step/stem", np.ones((16, 8)), r"shape \(any, 9\), got float64 of shape \(16, 8\)"),
        ("clip/stem", np.ones(9), r"shape \(9, 2\), got float64 of shape \(9,\)"),
        ("mean/stem", np.ones((1, 9), dtype=np.int64), "finite floats .* got int64"),
        ("energy/stem", np.full((1, 9), np.inf), "finite floats"),
    ],
)
def test_steps_of_another_kind_are_refused_by_name(recipe, key, wrong, said):
    with pytest.raises(ValueError, match=f"{key}' must be .*{said}"):
        Recipe.from_arrays({**recipe.to_arrays(), key: wrong})


def test_means_of_another_layer_are_refused(recipe):
    network = digits_network()
    curves = sweep(network, digits.calibration(2), recipe=recipe)
    name = next(iter(network.layers))
    steps = {**curves.steps, f"mean/{name}": np.ones((1, 7), dtype=np.float32)}
    changed = RDCurves(curves.network, curves.weights, curves.activations, steps=steps)
    with pytest.raises(ValueError, match=rf"means of layer '{name}' must have shape .*\(1, 7\)"):
        quantize(network, BitWidths(8, 8), changed)
