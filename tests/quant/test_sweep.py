"""The sweep's curves: repeatable, in order, and equal to what exact Jacobians give."""

import numpy as np
import pytest
import torch

from quant import digits
from quant.calibration import Recipe, calibrate
from quant.curves import RDCurves
from quant.sweep import METRICS, sweep, weight_errors
from tests.quant.nets import digits_network


@pytest.fixture(scope="module")
def recipe():
    return calibrate(digits_network(), digits.calibration(32))


def exact_first_order(network, images, recipe):
    """Mean over images of |J u|^2 for every channel of one layer and width, by full Jacobians."""
    name = "block2.conv1"
    folded = network.layers[name]
    errors = weight_errors(folded, recipe).double()
    total = torch.zeros(errors.shape[:2], dtype=torch.float64)
    for image in images.split(1):

        def logits(weight, bias, image=image):
            return network.run(image, {name: (weight, bias)})[0]

        of_weight, of_bias = torch.autograd.functional.jacobian(
            logits, (folded.weight, folded.bias)
        )
        shift = -(errors * recipe.means[name].double()).sum(2)
        moves = torch.einsum("lck,cbk->cbl", of_weight.double(), errors)
        moves += torch.einsum("lc,cb->cbl", of_bias.double(), shift)
        total += moves.square().sum(2)
    return name, (total / len(images)).numpy()


def test_many_probes_approach_the_exact_first_order_distortion(recipe):
    network = digits_network()
    images = digits.calibration(4).tensor()
    name, exact = exact_first_order(network, images, recipe)
    curves = sweep(network, images, probes=400, recipe=recipe, activations=False, low_widths=False)
    found = curves.weight(name).distortion
    # Relative spread of the estimate: at most sqrt(2 / probes) an image, 7 %; four of them here.
    assert np.abs(np.log(found / exact)).max() < 4 * np.sqrt(2 / 400)
    assert np.isclose(found.sum(0), exact.sum(0), rtol=0.1).all()


def test_kl_probes_have_half_the_fisher_information_as_second_moment():
    logits = torch.tensor([[1.0, -0.5, 0.3, 2.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    probes = torch.cat([METRICS["kl"](logits, generator) for _ in range(20000)])
    moment = probes.t() @ probes / len(probes)
    prediction = torch.softmax(logits[0], 0)
    fisher = torch.diag(prediction) - torch.outer(prediction, prediction)
    assert torch.allclose(moment, fisher / 2, atol=4e-3)


def test_sign_probes_have_unit_second_moment():
    generator = torch.Generator().manual_seed(0)
    probes = torch.cat([METRICS["logits"](torch.zeros(1, 5), generator) for _ in range(20000)])
    assert torch.allclose(probes.t() @ probes / len(probes), torch.eye(5), atol=0.03)


def test_the_same_seed_gives_the_same_curves_and_another_does_not(recipe):
    network, images = digits_network(), digits.calibration(6)
    first, again, other = (sweep(network, images, seed=seed) for seed in (3, 3, 4))
    for one, two in zip(first.weights, again.weights, strict=True):
        assert np.array_equal(one.distortion, two.distortion)
    for one, two in zip(first.activations, again.activations, strict=True):
        assert np.array_equal(one.distortion, two.distortion)
    assert not np.array_equal(first.weights[0].distortion, other.weights[0].distortion)


def test_curves_cover_every_layer_and_tensor_and_survive_their_file(tmp_path, recipe):
    network = digits_network()
    curves = sweep(network, digits.calibration(4), recipe=recipe)
    assert [c.name for c in curves.weights] == list(network.layers)
    assert [c.name for c in curves.activations] == [layer.name for layer in network.graph]
    for curve in curves.weights:
        layer = network.graph[curve.name]
        assert curve.distortion.shape == (layer.out_channels, 9)
        assert curve.values == layer.weights_per_channel
    for curve in curves.activations:
        assert curve.values == network.graph[curve.name].output.values
    curves.save(tmp_path / "c.npz")
    back = Recipe.from_arrays(RDCurves.load(tmp_path / "c.npz").steps)
    for name in network.layers:
        assert torch.equal(back.steps[name], recipe.steps[name])
        assert torch.equal(back.means[name], recipe.means[name])
    for layer in network.graph:
        assert back.activation_quantizer(layer.name, 5) == recipe.activation_quantizer(
            layer.name, 5
        )


def test_weights_alone_are_priced_the_same_without_the_activations(recipe):
    network, images = digits_network(), digits.calibration(3)
    both, alone = (sweep(network, images, recipe=recipe, activations=a) for a in (True, False))
    assert alone.activations == ()
    for one, two in zip(both.weights, alone.weights, strict=True):
        assert np.allclose(one.distortion, two.distortion, rtol=1e-5)


def test_progress_is_reported_image_by_image(recipe):
    told = []
    sweep(
        digits_network(),
        digits.calibration(3),
        recipe=recipe,
        progress=lambda *step: told.append(step),
    )
    layers = len(digits_network().layers)
    rounded = [("errors", i, layers) for i in range(1, layers + 1)]
    assert told == [*rounded, ("sweep", 1, 3), ("sweep", 2, 3), ("sweep", 3, 3)]


def test_unknown_metrics_and_empty_sweeps_are_refused():
    network, images = digits_network(), digits.calibration(2)
    with pytest.raises(ValueError, match="no metric 'logit'; did you mean 'logits'"):
        sweep(network, images, metric="logit")
    with pytest.raises(ValueError, match="needs a probe and an image, got 0 and 2"):
        sweep(network, images, probes=0)
