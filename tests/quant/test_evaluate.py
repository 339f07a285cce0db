"""Accuracy figures by hand, whole sets only, and the quality of the digits network at few bits."""

import numpy as np
import pytest
import torch

from hwsim.bits import BitWidths
from quant import digits
from quant.accuracy import evaluate, float_logits
from quant.apply import quantize
from quant.calibration import calibrate
from tests.quant.nets import digits_network


def test_the_float_network_agrees_with_itself_and_has_the_modules_accuracy():
    network, held_out = digits_network(), digits.test()
    found = evaluate(network, None, held_out)
    with torch.inference_mode():
        right = network.module(held_out.tensor()).argmax(1).numpy() == held_out.labels
    assert found.images == 500
    assert found.top1 == pytest.approx(right.mean())
    assert (found.agreement, found.distortion, found.divergence) == (1.0, 0.0, 0.0)
    assert found.top5 >= found.top1


class Fixed:
    """Stands for a quantised network: adds a given move to the float logits."""

    def __init__(self, network, move):
        self.network, self.move = network, move

    def __call__(self, images):
        return self.network(images) + self.move


def test_distortion_and_agreement_by_hand():
    network, held_out = digits_network(), digits.test()
    move = torch.zeros(10)
    move[4] = 100.0
    found = evaluate(network, Fixed(network, move), held_out)
    logits = network(held_out.tensor())
    assert found.distortion == pytest.approx(10000.0, rel=1e-5)
    assert found.agreement == pytest.approx((logits.argmax(1) == 4).float().mean().item())
    assert found.top1 == pytest.approx((held_out.labels == 4).mean())


def test_known_float_logits_give_the_same_figures():
    network, held_out = digits_network(), digits.test().take(slice(0, 45))
    quantized = quantize(network, BitWidths(3, 8), calibrate(network, digits.calibration(16)))
    exact = float_logits(network, held_out)
    assert torch.allclose(exact[40:], network(held_out.tensor(40, 45)), atol=1e-4)
    known = evaluate(network, quantized, held_out, exact=exact)
    assert known == evaluate(network, quantized, held_out)
    assert evaluate(network, quantized, held_out, exact=exact + 1).distortion > known.distortion


def test_tensors_with_labels_and_odd_batch_sizes_count_every_image_once():
    network, held_out = digits_network(), digits.test().take(slice(0, 45))
    from_set = evaluate(network, None, held_out)
    from_tensor = evaluate(network, None, held_out.tensor(), held_out.labels)
    assert from_set == from_tensor
    assert from_set.images == 45


def test_four_bit_weights_and_eight_bit_activations_keep_the_digits():
    network = digits_network()
    recipe = calibrate(network, digits.calibration(128))
    fine, coarse = (
        evaluate(network, quantize(network, BitWidths(*widths), recipe), digits.test())
        for widths in ((4, 8), (2, 8))
    )
    assert fine.agreement >= 0.98
    assert fine.distortion < coarse.distortion


def test_labels_that_do_not_fit_are_refused():
    network, images = digits_network(), digits.test().tensor(0, 4)
    with pytest.raises(ValueError, match="labels are needed"):
        evaluate(network, None, images)
    with pytest.raises(ValueError, match="expected 4 labels, one per image, got"):
        evaluate(network, None, images, np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match=r"labels 0\.\.12 do not fit network 'digits'"):
        evaluate(network, None, images, np.array([0, 1, 2, 12]))
    with pytest.raises(ValueError, match="there are no images"):
        evaluate(network, None, images[:0], np.zeros(0, dtype=np.int64))
