"""Gauss-Newton matrices: against gradients taken one by one, and what they are worth."""

import pytest
import torch
from torch import nn

from hwsim.bits import BitWidths
from quant import digits, gauss_newton
from quant.accuracy import evaluate
from quant.apply import quantize
from quant.calibration import calibrate
from quant.gauss_newton import guided
from quant.network import Network
from quant.rounding import make_rounder
from quant.sequential import GUIDANCE, Sequential
from tests.quant.nets import digits_network


def small(classes):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, classes),
    )
    return Network(module.eval(), (2, 5, 5), "small")


def reference(network, images):
    """{layer: (groups, K + 1, K + 1)} from the gradient of every logit, filter by filter."""
    found = {}
    for name, folded in network.layers.items():
        groups = folded.layer.gemm.groups
        size = folded.weight.shape[1]
        sums = torch.zeros(groups, size + 1, size + 1)
        for image in images:
            weight, bias = folded.weight.clone(), folded.bias.clone()
            weight.requires_grad_()
            bias.requires_grad_()
            for logit in network.run(image.unsqueeze(0), {name: (weight, bias)})[0]:
                of_weight, of_bias = torch.autograd.grad(logit, (weight, bias), retain_graph=True)
                for out in range(len(weight)):
                    row = torch.cat([of_weight[out], of_bias[out : out + 1]])
                    sums[out * groups // len(weight)] += torch.outer(row, row)
        found[name] = sums / len(images)
    return found


def images_of(count):
    return torch.randn(count, 2, 5, 5, generator=torch.Generator().manual_seed(2)) + 0.3


def test_with_one_logit_the_matrices_are_exact():
    network, images = small(1), images_of(5)
    found = gauss_newton.gauss_newton(network, images, max_columns=100)
    exact = reference(network, images)
    assert found.keys() == exact.keys()
    for name in exact:
        assert torch.allclose(found[name], exact[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("rows", [32, 2])
def test_signs_of_logits_and_filters_give_the_matrices_in_the_mean(rows, monkeypatch):
    monkeypatch.setattr(gauss_newton, "_ROWS", rows)
    network, image = small(3), images_of(1)
    found = gauss_newton.gauss_newton(network, image.expand(2000, -1, -1, -1), max_columns=100)
    for name, exact in reference(network, image).items():
        assert (found[name] - exact).norm() < 0.08 * exact.norm(), name


def test_it_does_not_matter_whether_the_caller_wants_gradients():
    network = small(3)
    found = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            matrices = gauss_newton.gauss_newton(network, images_of(2), max_columns=100)
            found.append(matrices["2"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not found[0].requires_grad


def test_layers_that_are_too_wide_are_left_out():
    found = gauss_newton.gauss_newton(small(1), images_of(1), max_columns=20)
    assert list(found) == ["0", "2"]


def test_the_bias_makes_up_for_the_mean_of_every_move():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 50, 6, generator=generator)
    mean = torch.randn(2, 5, 1, generator=generator)
    found = guided(torch.eye(5).expand(2, 5, 5), rows.transpose(1, 2) @ rows, mean, 1.0)
    for group in range(2):
        move = torch.randn(5, generator=generator)
        with_bias = torch.cat([move, -(move @ mean[group])])
        felt = (rows[group] @ with_bias).square().sum()
        moves = torch.cat([torch.eye(5), -mean[group].t()])  # of every weight alone
        level = (rows[group] @ moves).square().sum() / 5
        assert float(move @ found[group] @ move) == pytest.approx(float(felt / level), rel=1e-4)


def test_the_share_is_of_matrices_of_the_same_mean_variance():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 50, 6, generator=generator)
    matrix, mean = 1000 * rows.transpose(1, 2) @ rows, torch.zeros(3, 5, 1)
    covariance = torch.diag_embed(torch.rand(3, 5, generator=generator))
    ends = [guided(covariance, matrix, mean, share) for share in (0.0, 0.25, 1.0)]
    assert torch.allclose(ends[0], covariance)
    assert torch.allclose(ends[1], 0.75 * covariance + 0.25 * ends[2])
    for part in ends:
        assert torch.allclose(
            part.diagonal(dim1=1, dim2=2).mean(1), covariance.diagonal(dim1=1, dim2=2).mean(1)
        )
    matrix[1] = 0  # a group whose filters nothing reads
    assert torch.allclose(guided(covariance, matrix, mean, 0.5)[1], covariance[1])


def test_guided_rounding_lowers_the_distortion_of_images_it_has_not_seen():
    network = digits_network()
    recipe, fitting = calibrate(network, digits.calibration(128)), digits.calibration(256)
    found = [
        evaluate(
            network,
            quantize(
                network,
                BitWidths(2, 8),
                recipe,
                rounder=Sequential(network, fitting, guidance=share),
            ),
            digits.test(),
        ).distortion
        for share in (0.0, 0.5)
    ]
    assert found[1] < 0.93 * found[0]


def test_the_share_is_an_option_of_the_rounder():
    network, images = digits_network(), digits.calibration(2)
    shares = [
        make_rounder("sequential", network, images, **asked).guidance
        for asked in ({}, {"guidance": 0.0}, {"guidance": 0.2})
    ]
    assert shares == [GUIDANCE, 0.0, 0.2]


def test_a_share_above_one_is_no_share():
    with pytest.raises(ValueError, match=r"guidance must be a share, 0 to 1, got 1\.5"):
        Sequential(digits_network(), digits.calibration(2), guidance=1.5)
