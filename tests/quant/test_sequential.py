"""Rounding through layers already quantised: its statistics against brute force, and what it is
worth beside rounding every layer on its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsim.bits import BitWidths
from quant import digits, sequential
from quant.accuracy import evaluate
from quant.apply import quantize
from quant.calibration import calibrate
from quant.packing import pack, unpack
from quant.patches import patches
from quant.quantizer import DeadZoneQuantizer, weight_steps
from quant.rounding import Feedback, feedback_factor, make_rounder, round_with_feedback
from quant.sequential import Sequential, Statistics, round_best
from tests.quant.nets import digits_network

FEW = 24  # images: all their positions are taken as samples


@pytest.fixture(scope="module")
def recipe():
    return calibrate(digits_network(), digits.calibration(128))


@pytest.fixture(scope="module")
def quantized(recipe):
    rounder = Sequential(digits_network(), digits.calibration(FEW))
    return quantize(digits_network(), BitWidths(3, 8), recipe, rounder=rounder)


def inputs_of(network, images, parameters=None, at_output=None):
    """{layer: (groups, K, n)} patches that every layer reads."""
    found = {}
    network.run(
        images,
        parameters,
        at_input=lambda name, x: found.__setitem__(name, patches(network.graph[name], x)),
        at_output=at_output,
    )
    return found


def test_every_layer_has_the_float_mean_on_the_images_it_was_fitted_on(quantized):
    network, images = digits_network(), digits.calibration(FEW).tensor()
    exact = inputs_of(network, images)
    found = inputs_of(network, images, quantized.parameters, quantized.rounded)
    for name, folded in network.layers.items():
        groups, size = exact[name].shape[:2]
        means = []
        for weight, bias, x in (
            (folded.weight, folded.bias, exact[name]),
            (*quantized.parameters[name], found[name]),
        ):
            product = torch.bmm(weight.reshape(groups, -1, size), x).mean(2).reshape(-1)
            means.append(product + bias)
        assert torch.allclose(means[0], means[1], atol=2e-4)


def test_slopes_are_those_of_the_outputs_own_regression():
    network = digits_network()
    folded = network.layers["block2.conv1"]
    generator = torch.Generator().manual_seed(0)
    size = folded.weight.shape[1]
    x = torch.randn(1, size, 2000, generator=generator) + 0.5
    lost = 0.3 * torch.randn(1, size, 2000, generator=generator) + 0.1 * x
    weight = folded.weight.unsqueeze(0)
    rounded = 0.7 * weight + 0.01 * torch.randn(weight.shape, generator=generator)
    statistics = Statistics.zeros(folded)
    for part in (slice(0, 900), slice(900, 2000)):
        statistics.add(x[:, :, part], torch.bmm(weight, lost[:, :, part]))
    found = statistics.slope_ratio(weight, rounded, statistics.covariance())[0]
    exact = torch.bmm(weight, x + lost)[0].double().numpy()
    got = torch.bmm(rounded, x)[0].double().numpy()
    for channel in range(len(exact)):
        slope = np.polyfit(exact[channel], got[channel], 1)[0]  # of the quantised on the float
        assert float(found[channel]) == pytest.approx(1 / slope, rel=1e-3)


def test_outputs_without_correlation_keep_their_slope():
    folded = digits_network().layers["classifier"]
    statistics = Statistics.zeros(folded)
    x = torch.randn(1, folded.weight.shape[1], 500, generator=torch.Generator().manual_seed(0))
    weight = folded.weight.unsqueeze(0)
    statistics.add(x, torch.zeros(1, weight.shape[1], 500))
    covariance = statistics.covariance()
    for rounded in (torch.zeros_like(weight), -weight):  # dropped channels, turned ones
        assert (statistics.slope_ratio(weight, rounded, covariance) == 1).all()


def correlated(size, seed):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, size, size, generator=generator)
    return mixing @ mixing.transpose(1, 2) / size + 0.1 * torch.eye(size)


@given(seed=st.integers(0, 2**20), size=st.integers(1, 12), width=st.integers(0, 8))
def test_the_best_of_several_steps_is_no_worse_than_the_given_one(seed, size, width):
    weight = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(seed)).double()
    covariance, bits = correlated(size, seed).double(), torch.full((6,), width)
    step = weight_steps(weight.reshape(6, size))[:, width]
    found, steps = round_best(weight, covariance, bits, step, 0.0)

    def loss(rounded):
        error = weight - rounded
        return (torch.bmm(error, covariance) * error).sum(2)

    order = covariance.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
    plain = torch.empty_like(weight)
    for group in range(2):  # the given step alone, columns in the same order
        places = order[group]
        factor = feedback_factor(covariance[group][places][:, places].unsqueeze(0), 0.0)
        rows = slice(3 * group, 3 * group + 3)
        one = DeadZoneQuantizer(bits[rows], step[rows])
        plain[group][:, places] = round_with_feedback(
            weight[group][:, places].unsqueeze(0), factor, one
        )[0]
    unit = 1e-30 * loss(torch.zeros_like(weight))  # of rounding: a single weight can be exact
    assert (loss(found) <= loss(plain) * (1 + 1e-9) + unit).all()
    quantizer, flat = DeadZoneQuantizer(bits, steps), found.reshape(6, size)
    assert torch.allclose(quantizer(flat), flat)
    assert int(quantizer.index(flat).max()) < 2**width


def test_the_network_is_closer_to_float_than_layers_rounded_on_their_own(recipe):
    network, test = digits_network(), digits.test()
    bits = BitWidths(3, 8)
    found = [
        evaluate(
            network, quantize(network, bits, recipe, rounder=kind(network, images)), test
        ).divergence
        for kind in (Feedback, Sequential)
        for images in [digits.calibration(256)]
    ]
    assert found[1] < 0.85 * found[0]


def test_weights_pack_at_mixed_widths_and_dropped_channels_keep_their_mean(recipe):
    network = digits_network()
    rng = np.random.default_rng(0)
    widths = {name: rng.integers(0, 9, len(f.weight)) for name, f in network.layers.items()}
    bits = BitWidths(widths, 8)
    rounder = Sequential(network, digits.calibration(FEW))
    quantized = quantize(network, bits, recipe, rounder=rounder)
    for name, width in widths.items():
        index = quantized.index(name)
        again = unpack(pack(index, width), width, index.shape[1])
        values = quantized.weights[name].value(torch.from_numpy(again))
        assert torch.allclose(values, quantized.parameters[name][0], atol=1e-6)
        assert not values[width == 0].any()


def test_the_same_seed_gives_the_same_network(recipe, quantized):
    rounder = Sequential(digits_network(), digits.calibration(FEW))
    again = quantize(digits_network(), BitWidths(3, 8), recipe, rounder=rounder)
    for name, (weight, bias) in quantized.parameters.items():
        assert torch.equal(weight, again.parameters[name][0])
        assert torch.equal(bias, again.parameters[name][1])


def test_layers_too_wide_for_a_covariance_are_rounded_to_nearest_with_the_true_mean(
    recipe, monkeypatch
):
    network = digits_network()
    monkeypatch.setattr(sequential, "MAX_COLUMNS", 8)  # the stem and depthwise layers have 9
    rounder = Sequential(network, digits.calibration(FEW))
    found = quantize(network, BitWidths(3, 8), recipe, rounder=rounder)
    plain = quantize(network, BitWidths(3, 8), recipe)
    assert torch.equal(found.parameters["stem"][0], plain.parameters["stem"][0])
    assert not torch.equal(found.parameters["classifier"][1], plain.parameters["classifier"][1])


def test_as_a_rounder_of_single_layers_it_is_feedback(recipe):
    network, images = digits_network(), digits.calibration(FEW)
    folded, bits = network.layers["block1.conv1"], torch.full((24,), 4)
    made = make_rounder("sequential", network, images)
    assert made.name == "sequential"
    one, other = (rounder(folded, bits, recipe)[1] for rounder in (made, Feedback(network, images)))
    assert torch.equal(one, other)


def test_progress_is_told_layer_by_layer(recipe):
    told = []
    network = digits_network()
    rounder = Sequential(network, digits.calibration(2), progress=lambda *step: told.append(step))
    quantize(network, BitWidths(4, 8), recipe, rounder=rounder)
    count = len(network.layers)
    assert told[:2] == [("guide", 1, 2), ("guide", 2, 2)]
    assert told[2:] == [("refine", i, count) for i in range(1, count + 1)]
