"""The sweep against the brute-force reference: change one channel, run the network."""

import numpy as np
import pytest
import torch

from quant import digits
from quant.calibration import calibrate
from quant.images import load_images
from quant.measured import measured, measured_channels, measured_tensors
from quant.sweep import sweep
from tests.quant.nets import cifar_network, digits_network


def log_correlations(network, images, per_layer, probes, seed=0):
    """(9,) correlation of log distortions, sweep against measured, over random channels."""
    recipe = calibrate(network, images)
    curves = sweep(network, images, probes=probes, recipe=recipe, activations=False)
    rng = np.random.default_rng(seed)
    chosen = {
        name: rng.choice(len(folded.weight), min(per_layer, len(folded.weight)), replace=False)
        for name, folded in network.layers.items()
    }
    truth = measured_channels(network, images, chosen, recipe=recipe)
    exact = np.concatenate([truth[name] for name in chosen])
    swept = np.concatenate([curves.weight(name).distortion[chosen[name]] for name in chosen])
    alive = (exact > 0).all(1)
    assert alive.mean() > 0.9
    return [np.corrcoef(np.log(exact[alive, b]), np.log(swept[alive, b]))[0, 1] for b in range(9)]


@pytest.fixture(scope="module")
def digits_correlation():
    return log_correlations(digits_network(), digits.calibration(96), per_layer=6, probes=20)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_sweep_agrees_with_brute_force_on_digits(digits_correlation, bits):
    assert digits_correlation[bits] >= 0.99


def test_the_sweep_still_ranks_channels_at_the_lowest_widths(digits_correlation):
    assert min(digits_correlation) >= 0.93


@pytest.mark.data
def test_the_sweep_agrees_with_brute_force_on_a_cifar_resnet(data_dir):
    images = load_images(data_dir / "cifar10" / "cifar10_calib_jpeg.npz", (32, 32))
    network = cifar_network(data_dir)
    correlation = log_correlations(network, images.sample(64, 0), per_layer=3, probes=4)
    assert min(correlation[2:]) >= 0.99


def test_activation_tensors_are_priced_like_brute_force():
    network, images = digits_network(), digits.calibration(64)
    recipe = calibrate(network, images)
    truth = measured_tensors(network, images, recipe=recipe)
    swept = sweep(network, images, probes=8, recipe=recipe)
    exact = np.array([truth[curve.name][4:] for curve in swept.activations])
    found = np.array([curve.distortion[4:] for curve in swept.activations])
    assert np.corrcoef(np.log(exact.ravel()), np.log(found.ravel()))[0, 1] >= 0.99
    assert np.abs(np.log(found / exact)).max() < np.log(1.6)


def test_measured_curves_hold_every_channel():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    from quant.network import Network

    network = Network(module, digits.INPUT_SHAPE, "linear")
    images = digits.calibration(20)
    curves = measured(network, images)
    swept = sweep(network, images, probes=1)
    # The network is linear and each logit has one channel: a single probe is already exact.
    assert np.allclose(curves.weights[0].distortion, swept.weights[0].distortion, rtol=1e-3)
    by_kl = measured(network, images, metric="kl").weights[0].distortion
    priced = sweep(network, images, metric="kl", probes=200).weights[0].distortion
    assert np.allclose(by_kl[:, 4:], priced[:, 4:], rtol=0.3)
