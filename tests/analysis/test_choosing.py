"""How the commands choose quantisers: by price where it helps, and only with images for it."""

import pytest
import torch

from analysis.measuring import Choosing, find_recipe
from analysis.sources import load_image_sets
from analysis.tuning import check_steps
from hwsim.bits import BitWidths
from quant.apply import quantize
from tests.quant.nets import digits_network


def image_sets(beside):
    return load_image_sets("digits", digits_network(), None, 16, beside, 0)


@pytest.mark.parametrize(
    ("rounding", "asked", "priced"),
    [
        ("nearest", None, True),
        ("feedback", None, True),
        ("sequential", None, False),
        ("nearest", "energy", False),
        ("sequential", "priced", True),
    ],
)
def test_steps_are_priced_where_it_is_asked_for_or_helps(rounding, asked, priced):
    network, images = digits_network(), image_sets(16)
    plain = find_recipe(network, images, 0, choosing=Choosing("energy"))
    found = find_recipe(network, images, 0, rounding=rounding, choosing=Choosing(asked))
    same = all(torch.equal(found.steps[name], steps) for name, steps in plain.steps.items())
    assert same != priced
    zones = any(bool((zone > 0).any()) for zone in found.dead_zones.values())
    assert zones == (rounding == "nearest" and priced)


def test_without_images_beside_the_calibration_a_choice_that_is_asked_for_is_refused():
    network, images = digits_network(), image_sets(0)
    assert not find_recipe(network, images, 0, rounding="nearest").dead_zones
    for choosing in (Choosing("priced"), Choosing(clips="priced")):
        with pytest.raises(ValueError, match="needs images beside those of the calibration"):
            find_recipe(network, images, 0, rounding="nearest", choosing=choosing)


def test_training_does_not_start_from_powers_of_two():
    network, images = digits_network(), image_sets(16)
    choosing = Choosing("energy", steps="power_of_two")
    start = quantize(network, BitWidths(3, 8), find_recipe(network, images, 0, choosing=choosing))
    with pytest.raises(ValueError, match="steps of 'digits' are powers of two"):
        check_steps(start)
