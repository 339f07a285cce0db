"""The recipe: means and energies of patches, shared clipping ranges, and the progress bar."""

import torch

from quant import digits
from quant.calibration import calibrate
from quant.patches import patches
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
