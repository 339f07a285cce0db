"""Error-feedback rounding: equal to the slow textbook form, and better than nearest rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsim.bits import BitWidths
from quant import digits
from quant.accuracy import evaluate
from quant.apply import quantize
from quant.calibration import calibrate
from quant.packing import pack, unpack
from quant.patches import patches
from quant.quantizer import DeadZoneQuantizer, weight_steps
from quant.rounding import (
    Feedback,
    feedback_factor,
    input_covariances,
    make_rounder,
    round_with_feedback,
)
from quant.sweep import NEAREST
from tests.quant.nets import digits_network


def textbook(weight, covariance, quantizer):
    """One row at a time: round a weight, move those left by the least-squares answer to its error,
    and strike its column from the inverse (optimal brain surgeon)."""
    rows = []
    for row in range(len(weight)):
        one = DeadZoneQuantizer(quantizer.bits[row : row + 1], quantizer.step[row : row + 1])
        left, inverse = weight[row].clone(), torch.linalg.inv(covariance)
        for i in range(len(left)):
            value = one(left[i].reshape(1, 1)).item()
            error = (left[i] - value) / inverse[i, i]
            left[i + 1 :] -= error * inverse[i, i + 1 :]
            left[i] = value
            inverse = inverse - torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
        rows.append(left)
    return torch.stack(rows)


def correlated(size, seed):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return mixing @ mixing.t() / size + 0.1 * torch.eye(size, dtype=torch.float64)


@given(
    seed=st.integers(0, 2**20),
    size=st.integers(1, 12),
    widths=st.lists(st.integers(0, 8), min_size=2, max_size=2),
)
def test_the_blocked_form_equals_the_textbook_form(seed, size, widths):
    weight = torch.randn(2, size, generator=torch.Generator().manual_seed(seed)).double()
    bits = torch.tensor(widths)
    step = weight_steps(weight).gather(1, bits.unsqueeze(1)).squeeze(1)
    quantizer = DeadZoneQuantizer(bits, step)
    covariance = correlated(size, seed)
    factor = feedback_factor(covariance.unsqueeze(0), damping=0.0)
    found = round_with_feedback(weight.unsqueeze(0), factor, quantizer)[0]
    wanted = textbook(weight, covariance, quantizer)
    assert torch.allclose(found, wanted)
    assert torch.equal(quantizer(found), found)


def test_blocks_hand_their_errors_on():
    size = 300  # three blocks
    weight = torch.randn(3, size, generator=torch.Generator().manual_seed(0)).double()
    quantizer = DeadZoneQuantizer(torch.full((3,), 4), weight_steps(weight)[:, 4])
    covariance = correlated(size, 1)
    factor = feedback_factor(covariance.unsqueeze(0), damping=0.0)
    found = round_with_feedback(weight.unsqueeze(0), factor, quantizer)[0]
    assert torch.allclose(found, textbook(weight, covariance, quantizer))

    def loss(rounded):
        error = weight - rounded
        return float(((error @ covariance) * error).sum())

    assert loss(found) < 0.75 * loss(quantizer(weight))


def test_uncorrelated_inputs_make_it_nearest_rounding():
    weight = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    quantizer = DeadZoneQuantizer(torch.tensor([1, 3, 5, 8]), torch.full((4,), 0.11))
    factor = feedback_factor(torch.eye(20).unsqueeze(0), damping=0.01)
    rounded = round_with_feedback(weight.unsqueeze(0), factor, quantizer)[0]
    assert torch.equal(rounded, quantizer(weight))


def test_covariances_are_those_of_the_patches_without_their_mean():
    network, images = digits_network(), digits.calibration(40).tensor()
    found = input_covariances(network, images)  # few enough positions that all are taken
    inputs = {}
    network.run(images, at_input=lambda name, x: inputs.__setitem__(name, x))
    for name in ("stem", "depthwise", "classifier"):
        columns = patches(network.graph[name], inputs[name]).double()
        for group, columns_of in enumerate(columns[:3]):
            wanted = torch.from_numpy(np.atleast_2d(np.cov(columns_of.numpy(), bias=True)))
            assert torch.allclose(found[name][group].double(), wanted, atol=1e-4)


@pytest.fixture(scope="module")
def feedback():
    return Feedback(digits_network(), digits.calibration(256))


def test_feedback_lowers_the_products_error_on_other_images(feedback):
    network = digits_network()
    recipe = calibrate(network, digits.calibration(64))
    inputs = {}
    network.run(digits.test().tensor(0, 100), at_input=lambda name, x: inputs.__setitem__(name, x))
    for name in ("block1.conv1", "block2.conv1", "classifier"):
        folded = network.layers[name]
        columns = patches(folded.layer, inputs[name])[0]
        columns = columns - recipe.means[name].t()
        bits = torch.full((len(folded.weight),), 4)
        errors = [
            float(((rounder(folded, bits, recipe)[1] - folded.weight) @ columns).square().sum())
            for rounder in (NEAREST, feedback)
        ]
        assert errors[1] < 0.5 * errors[0]


def test_a_channel_is_rounded_alike_whatever_the_width_of_others(feedback):
    network = digits_network()
    recipe = calibrate(network, digits.calibration(16))
    folded = network.layers["depthwise"]
    mixed = torch.arange(24) % 9
    _, together = feedback(folded, mixed, recipe)
    for width in range(9):
        _, alone = feedback(folded, torch.full((24,), width), recipe)
        assert torch.allclose(together[mixed == width], alone[mixed == width], atol=1e-6)


def test_the_quantised_network_is_closer_to_float_and_still_packs(feedback):
    network = digits_network()
    recipe = calibrate(network, digits.calibration(128))
    bits = BitWidths(3, 8)
    plain, fed = (quantize(network, bits, recipe, rounder=r) for r in (NEAREST, feedback))
    held_out = digits.test()
    assert (
        evaluate(network, fed, held_out).distortion
        < 0.7 * evaluate(network, plain, held_out).distortion
    )
    for layer in network.graph.weighted:
        widths, index = bits.weight(layer), fed.index(layer.name)
        back = unpack(pack(index, widths), widths, layer.weights_per_channel)
        values = fed.weights[layer.name].value(torch.from_numpy(back))
        assert torch.equal(values, fed.parameters[layer.name][0])


def test_rounders_are_made_by_name():
    network = digits_network()
    assert make_rounder("nearest", network) is NEAREST
    with pytest.raises(ValueError, match="no 'up'; there is sequential, feedback, nearest"):
        make_rounder("up", network)
    with pytest.raises(ValueError, match="feedback needs images"):
        make_rounder("feedback", network)
