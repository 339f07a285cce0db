"""Prices around the quantised network: equal to exact Jacobians, honest in total, never worse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from quant import digits
from quant.accuracy import evaluate
from quant.allocation.allocate import allocate, equal_widths
from quant.allocation.budget import Budget
from quant.apply import quantize
from quant.calibration import calibrate
from quant.curves import WIDTHS, LayerCurve, RDCurves
from quant.images import load_images
from quant.relinearise import (
    Repricing,
    _mixed,
    anchored,
    predicted,
    relinearise,
    repriced,
    rounds_line,
)
from quant.rounding import Feedback
from quant.sweep import sweep
from tests.quant.nets import cifar_network, digits_network

IMAGES = digits.calibration(24)
TWO_BITS = Budget(weight_bits=2, activation_bits=6, weight_widths=tuple(range(1, 9)))


@pytest.fixture(scope="module")
def curves():
    return sweep(digits_network(), IMAGES)


@pytest.fixture(scope="module")
def found(curves):
    return relinearise(digits_network(), IMAGES, curves, two_bits, rounds=2, tolerance=0)


def two_bits(curves):
    return allocate(curves, TWO_BITS)


class Untouched:
    """The float network in place of a quantised one, its widths said to be 8."""

    def __init__(self, network, curves):
        self.parameters = network.parameters
        self.bits = equal_widths(curves, 8, 8).bits

    def rounded(self, name, x):
        return x


@pytest.mark.parametrize("low_widths", [False, True])
def test_prices_around_the_float_network_are_those_of_the_sweep(low_widths):
    network, images = digits_network(), digits.calibration(5)
    curves = sweep(network, images, probes=3, seed=4, low_widths=low_widths)
    pricing = Repricing(network, images, curves, seed=4)
    if low_widths:  # at widths where no channel has an error
        for errors in pricing.errors.values():
            errors[:, 8] = 0
    weights, activations, measured = pricing.around(Untouched(network, curves))
    assert measured < 1e-9  # of float32 sums in another order
    for curve in curves.weights:
        rows = slice(0, 8)
        assert np.allclose(weights[curve.name][:, rows], curve.distortion[:, rows], rtol=1e-4)
    for curve in curves.activations:
        assert np.allclose(activations[curve.name][1:], curve.distortion[1:], rtol=1e-3)


def test_many_probes_approach_the_exact_price_around_the_quantised_network():
    network, images, name = digits_network(), digits.calibration(3), "block2.conv2"
    curves = sweep(network, images, probes=1, low_widths=False, activations=False)
    curves = replace(curves, method={**curves.method, "probes": 200})
    pricing = Repricing(network, images, curves)
    bits = equal_widths(sweep(network, images, probes=1), 2, 3).bits
    quantized = quantize(network, bits, pricing.recipe)
    weights, _, _ = pricing.around(quantized)

    def straight_through(layer, x):
        return x + (quantized.rounded(layer, x) - x).detach()

    errors = pricing.errors[name].double()
    exact = torch.zeros(errors.shape[:2], dtype=torch.float64)
    for image in images.tensor().split(1):

        def logits(weight, bias, image=image):
            parameters = {**quantized.parameters, name: (weight, bias)}
            return network.run(image, parameters, at_output=straight_through)[0]

        jacobian = torch.autograd.functional.jacobian(logits, quantized.parameters[name])
        shift = -(errors * pricing.recipe.means[name].double()).sum(2)
        moves = torch.einsum("lck,cbk->cbl", jacobian[0].double(), errors)
        moves += torch.einsum("lc,cb->cbl", jacobian[1].double(), shift)
        exact += moves.square().sum(2) / len(images)
    alive = (exact > 0).all(1).numpy()
    ratio = weights[name][alive] / exact.numpy()[alive]
    # The relative spread of the estimate is at most sqrt(2 / probes) an image, 10 %.
    assert np.abs(np.log(ratio)).max() < 4 * np.sqrt(2 / 200)


def test_a_channel_at_two_bits_is_moved_behind_its_function_from_where_it_is_float():
    """One layer's move by brute force: its output exchanged in the quantised network."""
    network, images, name = digits_network(), digits.calibration(1), "block1.conv1"
    curves = sweep(network, images, probes=1, activations=False)
    pricing = Repricing(network, images, replace(curves, method={**curves.method, "probes": 500}))
    bits = equal_widths(sweep(network, images, probes=1), 1, 8).bits
    quantized = quantize(network, bits, pricing.recipe)
    weights, _, _ = pricing.around(quantized)
    errors, folded = pricing.errors[name], network.layers[name]
    weight, bias = quantized.parameters[name]
    channel = 3

    def output(error):
        moved_weight, moved_bias = weight.clone(), bias.clone()
        moved_weight[channel] += error - errors[channel, 1]
        moved_bias[channel] -= pricing.recipe.mean_shift(
            folded.layer, (error - errors[channel, 1]).expand_as(weight)
        )[channel]
        seen = {}
        network.run(
            images.tensor(),
            {**quantized.parameters, name: (moved_weight, moved_bias)},
            at_output=lambda layer, x: (
                seen.setdefault(layer, x) if layer == name else quantized.rounded(layer, x)
            ),
        )
        return seen[name]

    move = output(errors[channel, 2]) - output(torch.zeros_like(errors[channel, 2]))

    def logits(added):
        return network.run(
            images.tensor(),
            quantized.parameters,
            at_output=lambda layer, x: (
                x + (quantized.rounded(layer, x) - x).detach() + (added if layer == name else 0)
            ),
        )

    zero = torch.zeros_like(move)
    _, moved = torch.autograd.functional.jvp(logits, zero, move)
    exact = float(moved.square().sum())
    assert np.isclose(weights[name][channel, 2], exact, rtol=4 * np.sqrt(2 / 500))


def test_the_measured_distortion_is_that_of_an_evaluation(curves):
    network = digits_network()
    quantized = quantize(network, two_bits(curves).bits, curves)
    _, _, measured = Repricing(network, IMAGES, curves).around(quantized)
    assert np.isclose(measured, evaluate(network, quantized, IMAGES).distortion, rtol=1e-3)


def test_the_measured_divergence_is_that_of_an_evaluation():
    network = digits_network()
    curves = sweep(network, IMAGES, metric="kl")
    quantized = quantize(network, two_bits(curves).bits, curves)
    _, _, measured = Repricing(network, IMAGES, curves).around(quantized)
    assert np.isclose(measured, evaluate(network, quantized, IMAGES).divergence, rtol=1e-3)


def test_new_curves_predict_what_was_measured(curves):
    network = digits_network()
    quantized = quantize(network, two_bits(curves).bits, curves)
    new, measured = repriced(curves, Repricing(network, IMAGES, curves), quantized)
    assert np.isclose(predicted(new, quantized.bits), measured, rtol=1e-9)
    assert not np.isclose(predicted(curves, quantized.bits), measured, rtol=0.01)


def test_behind_layers_already_rounded_a_tensor_is_not_free(curves):
    network = digits_network()
    bits = equal_widths(curves, 8, 4).bits
    _, activations, _ = Repricing(network, IMAGES, curves).around(quantize(network, bits, curves))
    old = curves.activation("pool").distortion[4]
    assert 0.3 * old < activations["pool"][4] < 3 * old


def test_the_best_measured_widths_are_kept_and_their_curves_give_them_again(found):
    measured = [r.measured for r in found.rounds]
    assert len(measured) == 3
    assert found.best == int(np.argmin(measured))
    again = two_bits(found.curves)
    assert again.bits.to_json() == found.allocation.bits.to_json()
    assert np.isclose(again.predicted_distortion, min(measured), rtol=1e-9)
    own = evaluate(digits_network(), found.quantized, IMAGES)
    assert np.isclose(own.distortion, min(measured), rtol=1e-3)


def test_later_rounds_foresee_what_they_measure_better_than_the_first(found):
    missed = [abs(np.log(r.predicted / r.measured)) for r in found.rounds]
    assert max(missed[1:]) < missed[0]


def test_the_same_arguments_give_the_same_rounds(curves, found):
    again = relinearise(digits_network(), IMAGES, curves, two_bits, rounds=2, tolerance=0)
    assert [r.measured for r in again.rounds] == [r.measured for r in found.rounds]
    for one, two in zip(again.curves.weights, found.curves.weights, strict=True):
        assert np.array_equal(one.distortion, two.distortion)


def test_a_round_that_foresaw_its_distortion_is_the_last(curves):
    stopped = relinearise(digits_network(), IMAGES, curves, two_bits, rounds=5, tolerance=1)
    assert len(stopped.rounds) == 2


def test_widths_that_come_back_end_the_rounds(curves):
    fixed = two_bits(curves)
    found = relinearise(digits_network(), IMAGES, curves, lambda _: fixed, rounds=5)
    assert len(found.rounds) == 1
    assert found.best == 0


def test_curves_tell_their_rounds_and_survive_their_file(found, tmp_path):
    found.curves.save(tmp_path / "c.npz")
    told = RDCurves.load(tmp_path / "c.npz").method["relinearised"]
    assert told["best"] == found.best
    assert told["rounds"][0] == {
        "predicted": found.rounds[0].predicted,
        "measured": found.rounds[0].measured,
    }


def test_the_rounds_are_told_in_one_line_with_the_best_marked(found, curves):
    line = rounds_line(found.curves)
    best = found.rounds[found.best]
    assert f"*{best.predicted:.3g} / {best.measured:.3g}" in line
    assert line.count(" / ") == 1 + len(found.rounds)
    with pytest.raises(ValueError, match="have not been re-linearised"):
        rounds_line(curves)


prices = arrays.arrays(
    np.float64, (4, WIDTHS), elements=st.one_of(st.just(0.0), st.floats(1e-12, 1e12))
)


@given(old=prices, new=prices, damping=st.floats(0, 1))
def test_mixed_prices_lie_between_the_two(old, new, damping):
    old = np.where(np.arange(WIDTHS) == 0, np.inf, old)
    mixed = _mixed(old, new, damping)
    assert np.isinf(mixed[:, 0]).all()
    low, high = np.minimum(old, new)[:, 1:], np.maximum(old, new)[:, 1:]
    assert (mixed[:, 1:] >= low * (1 - 1e-9)).all()
    assert (mixed[:, 1:] <= high * (1 + 1e-9)).all()


def test_damping_of_zero_keeps_the_old_prices_but_for_their_scale(curves):
    network = digits_network()
    quantized = quantize(network, two_bits(curves).bits, curves)
    same, measured = repriced(curves, Repricing(network, IMAGES, curves), quantized, damping=0)
    factor = measured / predicted(curves, quantized.bits)
    for one, two in zip(same.weights, curves.weights, strict=True):
        assert np.allclose(one.distortion, two.distortion * factor, rtol=1e-9)


def test_standard_errors_are_anchored_with_their_distortions(curves):
    bits = two_bits(curves).bits
    twice = anchored(curves, bits, 2 * predicted(curves, bits))
    for one, two in zip(twice.weights, curves.weights, strict=True):
        assert np.allclose(one.standard_error, 2 * two.standard_error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"damping": 1.5}, "damping must lie in 0..1, got 1.5"),
        ({"tolerance": -0.1}, "tolerance must lie in 0..1, got -0.1"),
    ],
)
def test_senseless_rounds_are_refused(curves, changes, message):
    with pytest.raises(ValueError, match=message):
        relinearise(digits_network(), IMAGES, curves, two_bits, **changes)


def test_curves_that_do_not_fit_are_refused(curves):
    network = digits_network()
    for key, value, message in (
        ("metric", "feature", "metric 'feature', whose total is not measured"),
        ("granularity", "input", "are of input channels"),
    ):
        other = replace(curves, method={**curves.method, key: value})
        with pytest.raises(ValueError, match=message):
            Repricing(network, IMAGES, other)
    stem = curves.weights[0]
    fewer = LayerCurve(stem.name, stem.distortion[1:], stem.values)
    with pytest.raises(ValueError, match=f"layer 'stem' has {stem.channels - 1} channels"):
        Repricing(network, IMAGES, replace(curves, weights=(fewer, *curves.weights[1:])))
    with pytest.raises(ValueError, match="no images"):
        Repricing(network, IMAGES.tensor()[:0], curves)


@pytest.mark.data
def test_a_cifar_resnet_at_two_bits_is_foreseen_on_images_never_seen(data_dir):
    """With feedback rounding; the first prices flatter by two fifths or more."""
    network = cifar_network(data_dir)
    images = load_images(data_dir / "cifar10" / "cifar10_calib_jpeg.npz", (32, 32))
    order = np.random.default_rng(0).permutation(len(images))
    pricing, fitting = images.take(order[:48]), images.take(order[48:248])
    unseen = load_images(data_dir / "cifar10" / "cifar10_test_jpeg.npz", (32, 32))
    unseen = unseen.take(np.arange(0, len(unseen), len(unseen) // 320))
    rounder = Feedback(network, fitting)
    curves = sweep(network, pricing, recipe=calibrate(network, fitting), rounder=rounder)
    found = relinearise(network, pricing, curves, two_bits, rounder=rounder, rounds=2)
    first = quantize(network, found.rounds[0].allocation.bits, curves, rounder=rounder)
    before = evaluate(network, first, unseen).distortion / found.rounds[0].predicted
    after = evaluate(network, found.quantized, unseen).distortion
    after /= found.rounds[found.best].measured
    assert abs(np.log(after)) < 0.15
    assert abs(np.log(after)) < abs(np.log(before))
