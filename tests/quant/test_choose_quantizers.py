"""Quantisers chosen by the priced error: the prices are the sweep's, the choice holds elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwsim.bits import BitWidths
from quant import digits
from quant.accuracy import evaluate
from quant.apply import quantize
from quant.calibration import Recipe, calibrate
from quant.choose_quantizers import (
    CLIP_RATIOS,
    DEAD_ZONES,
    POWER_RATIOS,
    STEP_RATIOS,
    Candidate,
    Tally,
    choose_quantizers,
    to_powers_of_two,
)
from quant.codes import load_packed, save_packed
from quant.curves import RDCurves
from quant.packing import pack, unpack
from quant.quantizer import DeadZoneQuantizer
from quant.rounding import Feedback
from quant.scales import HALF_MAX, is_power_of_two, power_of_two_step
from quant.sequential import Sequential
from quant.sweep import sweep
from tests.quant.nets import cifar_network, digits_network


@pytest.fixture(scope="module")
def every():
    return digits.train_images()


@pytest.fixture(scope="module")
def recipe(every):
    return calibrate(digits_network(), every.take(np.arange(96)))


@pytest.fixture(scope="module")
def priced(every, recipe):
    return choose_quantizers(digits_network(), recipe, every.take(np.arange(200, 216)))


def total(curves, bits, kind="weights"):
    return sum(float(curve.distortion[..., bits].sum()) for curve in getattr(curves, kind))


def test_no_step_is_kept_that_a_sweep_over_the_same_images_prices_above_a_candidate(every, recipe):
    network, images = digits_network(), every.take(np.arange(200, 205))
    prices = {}
    for name, tried in {"own": Candidate(), "other": Candidate(0.84, 0.3)}.items():
        changed = [tried.of(recipe, layer) for layer in network.layers]
        steps = {layer: of.steps[layer] for layer, of in zip(network.layers, changed, strict=True)}
        zones = {k: v for of in changed for k, v in of.dead_zones.items()}
        other = replace(recipe, steps=steps, dead_zones=zones)
        prices[name] = sweep(network, images, recipe=other, seed=3, activations=False)
    # The sweep's own choice between the two, where they differ enough to be no matter of rounding.
    found = choose_quantizers(
        network, recipe, images, seed=3, activations=False, dead_zones=(0.3,), standard_errors=0.0
    )
    decided = 0
    for own, other in zip(prices["own"].weights, prices["other"].weights, strict=True):
        chosen = found.steps[own.name] / recipe.steps[own.name]
        never = own.distortion > other.distortion * 1.001
        # whatever was chosen is no worse than the other, so it is not what the other beats
        same = (chosen == 1.0).numpy() & (found.dead_zones[own.name] == 0).numpy()
        assert not (never & same).any()
        decided += int(never.sum())
    assert decided > 100


def test_the_choice_is_better_on_images_that_it_has_not_seen(every, recipe, priced):
    network, others = digits_network(), every.take(np.arange(300, 364))
    before, after = (sweep(network, others, recipe=of) for of in (recipe, priced))
    for bits in (2, 3, 4, 5):
        assert total(after, bits) < 0.9 * total(before, bits)


def test_two_bits_with_nearest_rounding_keep_more_of_the_classes(recipe, priced):
    network, bits = digits_network(), BitWidths(2, 8)
    before, after = (
        evaluate(network, quantize(network, bits, replace(of, clips=recipe.clips)), digits.test())
        for of in (recipe, priced)
    )
    assert after.distortion < 0.75 * before.distortion
    assert after.agreement > before.agreement + 0.1


def test_every_step_zone_and_clip_is_a_candidate(recipe, priced):
    for name, steps in priced.steps.items():
        ratios = (steps / recipe.steps[name]).unsqueeze(2) / torch.tensor(STEP_RATIOS)
        assert ((ratios - 1).abs().amin(2) < 1e-5).all()
        assert torch.isin(priced.dead_zones[name], torch.tensor(DEAD_ZONES)).all()
        assert (priced.dead_zones[name][:, :1] == 0).all()
    for name, table in priced.clips.items():
        assert torch.equal(table[0], recipe.clips[name][0])
        assert torch.equal(table[1:, 1], recipe.clips[name][1:, 1])
        ratios = (table[1:, 0] / recipe.clips[name][1:, 0]).unsqueeze(1) / torch.tensor(CLIP_RATIOS)
        assert ((ratios - 1).abs().amin(1) < 1e-6).all()
    assert torch.equal(priced.clips["pool"], priced.clips["pointwise"])  # a max pool's levels
    assert any((zones > 0).any() for zones in priced.dead_zones.values())


def test_the_same_arguments_give_the_same_choice(every, recipe, priced):
    again = choose_quantizers(digits_network(), recipe, every.take(np.arange(200, 216)))
    for key, array in priced.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[key]), key


def test_weights_and_activations_can_be_chosen_alone(every, recipe):
    network, images = digits_network(), every.take(np.arange(200, 204))
    only = choose_quantizers(network, recipe, images, activations=False)
    assert all(torch.equal(only.clips[name], table) for name, table in recipe.clips.items())
    only = choose_quantizers(network, recipe, images, weights=False)
    assert all(torch.equal(only.steps[name], table) for name, table in recipe.steps.items())
    assert not only.dead_zones


def test_rounding_with_feedback_is_offered_no_dead_zone_and_gains_from_its_own_prices(
    every, recipe
):
    network = digits_network()
    feedback = Feedback(network, every.take(np.arange(400, 800)))
    images, others = every.take(np.arange(200, 216)), every.take(np.arange(300, 364))
    found = choose_quantizers(network, recipe, images, rounder=feedback, activations=False)
    assert all((zones == 0).all() for zones in found.dead_zones.values())
    before, after = (
        total(sweep(network, others, recipe=of, rounder=feedback, activations=False), 3)
        for of in (recipe, found)
    )
    assert after < 0.9 * before


def test_a_candidate_must_be_better_by_its_standard_error():
    tally = Tally((3, 1))
    for noise in (1.0, -1.0, 1.0, -1.0):
        tally.add(torch.tensor([[10.0], [9.9 + noise], [9.8]], dtype=torch.float64))
    assert tally.best(0.0).tolist() == [2]
    assert tally.best(1.0).tolist() == [2]
    one = Tally((2, 1))
    for noise in (1.0, -1.0, 1.0, -1.0):  # better by 0.1, with a standard error of 0.58
        one.add(torch.tensor([[10.0], [9.9 + noise]], dtype=torch.float64))
    assert (one.best(0.0).tolist(), one.best(0.5).tolist()) == ([1], [0])


@pytest.mark.parametrize("rounding", ["nearest", "feedback", "sequential"])
def test_powers_of_two_stay_powers_of_two_through_every_rounding_and_the_file(
    every, recipe, rounding, tmp_path
):
    network, images = digits_network(), every.take(np.arange(200, 208))
    found = choose_quantizers(network, recipe, images, steps="power_of_two")
    for name, steps in found.steps.items():
        assert is_power_of_two(steps).all()
        ratios = steps / power_of_two_step(recipe.steps[name])
        assert torch.isin(ratios, torch.tensor(POWER_RATIOS)).all()
    fitted = {"feedback": Feedback, "sequential": Sequential}.get(rounding)
    own = {"rounder": fitted(network, every.take(np.arange(400, 464)))} if fitted else {}
    rng = np.random.default_rng(0)
    bits = BitWidths(
        {layer.name: rng.integers(1, 13, layer.out_channels) for layer in network.graph.weighted}, 8
    )
    quantized = quantize(network, bits, found, **own)
    for name, quantizer in quantized.weights.items():
        assert is_power_of_two(quantizer.step).all(), name
    save_packed(tmp_path / "net", quantized)
    back = load_packed(tmp_path / "net", network)
    for name, (weight, _) in quantized.parameters.items():
        assert torch.equal(weight, back.parameters[name][0])


def test_sequential_rounding_with_powers_of_two_loses_less_than_nearest(every, recipe):
    network = digits_network()
    found = to_powers_of_two(recipe)
    rounder = Sequential(network, every.take(np.arange(400, 800)))
    near, far = (
        evaluate(network, quantize(network, BitWidths(3, 8), found, **own), digits.test())
        for own in ({"rounder": rounder}, {})
    )
    assert near.distortion < 0.5 * far.distortion


@given(step=st.floats(2.0**-24, HALF_MAX), sign=st.sampled_from([1.0, -1.0]))
def test_the_power_of_two_is_the_nearest_by_ratio_and_half_precision_holds_it(step, sign):
    found = power_of_two_step(torch.tensor([sign * step]))
    assert is_power_of_two(found).all()
    assert float(found.half().float()) == float(found)
    assert float(found) * sign > 0
    ratio = step / abs(float(found))
    assert 2**-0.51 < ratio < 2**0.51 or float(found) == sign * 2.0**15


def test_a_dead_zone_of_one_channel_is_its_own():
    x = torch.tensor([[0.6, -0.6, 1.6, -1.6]]).expand(3, -1)
    bits, step = torch.full((3,), 4), torch.ones(3)
    found = DeadZoneQuantizer(bits, step, torch.tensor([0.5, 0.35, 0.45]))(x)
    assert found.tolist() == [[1, -1, 2, -2], [0, 0, 1, -1], [1, -1, 2, -2]]
    for channel, rounding in enumerate((0.5, 0.35, 0.45)):
        alone = DeadZoneQuantizer(bits[:1], step[:1], rounding)(x[:1])
        assert torch.equal(alone[0], found[channel])


@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 8))
def test_dead_zones_keep_at_most_two_to_the_b_codes_that_pack(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 19, generator=generator) * 3
    rounding = 0.5 - 0.4 * torch.rand(4, generator=generator)
    quantizer = DeadZoneQuantizer(torch.full((4,), bits), torch.rand(4) + 0.1, rounding)
    index = quantizer.index(weight)
    assert index.min() >= 0
    assert index.max() < 2**bits
    stream = pack(index.numpy(), quantizer.bits.numpy())
    back = torch.from_numpy(unpack(stream, quantizer.bits.numpy(), 19))
    assert torch.equal(quantizer.value(back), quantizer(weight))
    assert torch.equal(quantizer(quantizer(weight)), quantizer(weight))


def test_curves_carry_the_dead_zones_and_older_ones_have_none(every, recipe, priced, tmp_path):
    network, images = digits_network(), every.take(np.arange(300, 302))
    for name, of in {"old": recipe, "new": priced}.items():
        sweep(network, images, recipe=of, activations=False).save(tmp_path / f"{name}.npz")
    old, new = (
        Recipe.from_arrays(RDCurves.load(tmp_path / f"{name}.npz").steps) for name in ("old", "new")
    )
    assert not old.dead_zones
    for name, zones in priced.dead_zones.items():
        assert torch.equal(new.dead_zones[name], zones)
    ours, theirs = (quantize(network, BitWidths(3, 8), of) for of in (priced, new))
    x = digits.test().tensor(0, 8)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    "wrong", [np.full((8, 9), 1.5, np.float32), np.full((3, 9), 0.1, np.float32)]
)
def test_dead_zones_that_fit_no_steps_are_refused(recipe, wrong):
    arrays = recipe.to_arrays() | {"deadzone/classifier": wrong}
    with pytest.raises(ValueError, match=r"'deadzone/classifier' must hold ratios in 0\.\.1"):
        Recipe.from_arrays(arrays)


def test_wrong_arguments_are_refused(recipe):
    network, images = digits_network(), digits.calibration(2)
    with pytest.raises(ValueError, match="no steps 'powers'"):
        choose_quantizers(network, recipe, images, steps="powers")
    with pytest.raises(ValueError, match="no metric 'feature'"):
        choose_quantizers(network, recipe, images, metric="feature")
    with pytest.raises(ValueError, match=r"needs an image and 1\.\.16 probes, got 2 and 17"):
        choose_quantizers(network, recipe, images, probes=17)
    with pytest.raises(ValueError, match=r"rounding must be one number or \(channels,\)"):
        DeadZoneQuantizer(torch.tensor([1]), torch.tensor([1.0]), torch.tensor([0.5, 0.4]))


@pytest.mark.data
def test_cifar_resnet20_at_3_bits_and_nearest_rounding_gains(data_dir):
    from quant.images import load_images

    network = cifar_network(data_dir)
    images, test = (
        load_images(data_dir / "cifar10" / f"cifar10_{kind}_jpeg.npz", (32, 32), classes=10)
        for kind in ("calib", "test")
    )
    recipe = calibrate(network, images.take(np.arange(96)))
    found = choose_quantizers(network, recipe, images.take(np.arange(200, 216)), activations=False)
    judged = test.take(np.arange(0, len(test), 10))
    before, after = (
        evaluate(network, quantize(network, BitWidths(3, 8), of), judged) for of in (recipe, found)
    )
    assert after.distortion < 0.85 * before.distortion
    assert after.agreement > before.agreement
