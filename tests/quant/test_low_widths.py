"""Moves at 1 and 2 bits, exact as far as the layer's own activation function."""

import numpy as np
import pytest
import torch
from torch import nn

from quant import digits
from quant.low_widths import LOW_WIDTHS
from quant.measured import measured
from quant.network import Network
from quant.sweep import sweep
from tests.quant.nets import digits_network


def two_layers(function):
    """One logit, linear in what comes out of the function: only the function bends moves."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), function,
                           nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1))  # fmt: skip
    module[1].running_mean.uniform_(-0.3, 0.3)
    return Network(module.eval(), digits.INPUT_SHAPE, "two_layers")


@pytest.mark.parametrize("function", [nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.GELU()])
def test_moves_that_only_the_function_bends_are_priced_exactly(function):
    network, images = two_layers(function), digits.calibration(24)
    truth = measured(network, images, activations=False).weights[0].distortion
    priced = sweep(network, images, probes=1, activations=False).weights[0].distortion
    first = sweep(network, images, probes=1, activations=False, low_widths=False)
    assert np.allclose(priced[:, LOW_WIDTHS], truth[:, LOW_WIDTHS], rtol=1e-3)
    assert np.abs(np.log(first.weights[0].distortion / truth)[:, LOW_WIDTHS]).max() > 0.05
    others = np.delete(priced, [1, 2], axis=1)
    assert np.array_equal(others, np.delete(first.weights[0].distortion, [1, 2], axis=1))


def test_a_layers_own_output_is_what_the_network_gives_there():
    network, image = digits_network(), digits.calibration(1).tensor()
    inputs, outputs = {}, {}

    def at_output(name, x):
        outputs[name] = x
        return x

    network.run(image, at_input=inputs.__setitem__, at_output=at_output)
    bent = [name for name in network.layers if network.is_bent(name)]
    assert bent == ["stem", "block1.conv1", "depthwise", "pointwise", "block2.conv1"]
    for name in bent:
        found = network.layer_output(name, inputs[name], network.parameters[name])
        assert torch.equal(found, outputs[name])


def test_a_sum_on_the_way_is_no_function_of_the_layer():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 3)

        def forward(self, x):
            return self.head(torch.flatten(torch.relu(self.conv(x) + x), 1))

    network = Network(Residual().eval(), digits.INPUT_SHAPE, "residual")
    assert not network.is_bent("conv")
    assert not network.is_bent("head")
