"""Quantisers keep to their codes, are idempotent, and their steps are near the best."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.packing import pack, packed_bits, unpack
from quant.quantizer import (
    ActivationQuantizer,
    DeadZoneQuantizer,
    choose_activation,
    choose_steps,
    squared_error,
    weight_steps,
)

seeds = st.integers(0, 2**32 - 1)
all_widths = st.integers(0, 8)


def random_weight(seed, channels=5, values=27, tails=True):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, values, generator=generator)
    return weight * weight.abs() if tails else weight


def quantizer_for(weight, widths, rounding=0.5):
    bits = torch.tensor(widths)
    step = weight_steps(weight).gather(1, bits.unsqueeze(1)).squeeze(1)
    return DeadZoneQuantizer(bits, step, rounding)


@given(
    seed=seeds,
    widths=st.lists(all_widths, min_size=5, max_size=5),
    rounding=st.sampled_from([0.5, 0.4, 0.2]),
)
def test_quantising_twice_is_quantising_once(seed, widths, rounding):
    quantizer = quantizer_for(random_weight(seed), widths, rounding)
    once = quantizer(random_weight(seed))
    assert torch.equal(quantizer(once), once)


@given(seed=seeds, widths=st.lists(all_widths, min_size=5, max_size=5))
def test_b_bits_hold_at_most_two_to_the_b_codes_that_pack_and_give_the_values_back(seed, widths):
    weight = random_weight(seed)
    quantizer = quantizer_for(weight, widths)
    index = quantizer.index(weight)
    for row, width in zip(index, widths, strict=True):
        assert row.min() >= 0
        assert row.max() < 2**width
    stream = pack(index.numpy(), quantizer.bits.numpy())
    assert len(stream) == -(-packed_bits(quantizer.bits.numpy(), 27) // 8)
    back = torch.from_numpy(unpack(stream, quantizer.bits.numpy(), 27))
    assert torch.equal(quantizer.value(back), quantizer(weight))


def test_no_bits_drop_the_channel_and_one_bit_keeps_two_values():
    weight = random_weight(0)
    assert torch.equal(quantizer_for(weight, [0] * 5)(weight), torch.zeros_like(weight))
    binary = quantizer_for(weight, [1] * 5)(weight)
    magnitude = weight.abs().mean(1, keepdim=True)  # the best +-step for least squares
    assert torch.allclose(binary, torch.where(weight < 0, -magnitude, magnitude))


def test_the_dead_zone_sends_small_values_to_zero():
    quantizer = DeadZoneQuantizer(torch.tensor([4]), torch.tensor([1.0]), rounding=0.2)
    values = torch.tensor([[0.79, 0.81, -0.79, -0.81, 1.79, 1.81]])
    assert quantizer(values).tolist() == [[0, 1, 0, -1, 1, 2]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_chosen_step_is_within_ten_percent_of_a_fine_search(bits):
    weight = random_weight(bits, channels=8, values=400)
    chosen = squared_error(weight, choose_steps(weight, bits), bits, None)
    best = torch.full((8,), torch.inf)
    for i in range(1, 1000):
        for sign in (1.0, -1.0):
            step = sign * weight.abs().amax(1) * 1.2 / 2 ** (bits - 1) * i / 1000
            best = torch.minimum(best, squared_error(weight, step, bits, None))
    assert (chosen <= best * 1.1).all()


@given(seed=seeds)
def test_more_bits_never_lose_more(seed):
    weight = random_weight(seed, tails=False)
    steps = weight_steps(weight)
    errors = [squared_error(weight, steps[:, bits], bits, None) for bits in range(9)]
    for fewer, more in pairwise(errors):
        assert (more <= fewer * 1.001).all()


def test_importance_moves_the_step_towards_what_counts():
    weight = random_weight(3)
    importance = torch.zeros(1, 27)
    importance[0, :3] = 1.0
    plain = squared_error(weight, choose_steps(weight, 3), 3, importance)
    weighed = squared_error(weight, choose_steps(weight, 3, importance), 3, importance)
    assert weighed.sum() < 0.5 * plain.sum()


def test_a_channel_of_zeros_stays_zero():
    weight = torch.zeros(2, 6)
    for bits in (2, 5, 8):
        assert torch.equal(quantizer_for(weight, [bits] * 2)(weight), weight)


@given(seed=seeds, bits=st.integers(1, 8), shift=st.sampled_from([0.0, 0.7, -3.0]))
def test_activations_keep_zero_and_their_codes_and_are_idempotent(seed, bits, shift):
    values = torch.randn(500, generator=torch.Generator().manual_seed(seed)) + shift
    quantizer = choose_activation(values, float(values.min()), float(values.max()), bits)
    index = quantizer.index(values)
    assert index.min() >= 0
    assert index.max() < 2**bits
    assert torch.equal(quantizer.value(index), quantizer(values))
    assert torch.equal(quantizer(quantizer(values)), quantizer(values))
    assert float(quantizer(torch.zeros(1))) == 0.0


def test_values_after_relu_use_every_code_above_zero():
    values = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    quantizer = choose_activation(values, 0.0, float(values.max()), 4)
    assert quantizer.zero_point == 0
    assert quantizer.index(values).unique().tolist() == list(range(16))


def test_clipping_is_chosen_when_few_values_are_large():
    values = torch.randn(20000, generator=torch.Generator().manual_seed(0)).abs()
    values[0] = 100.0
    quantizer = choose_activation(values, 0.0, 100.0, 4)
    assert quantizer == ActivationQuantizer(4, quantizer.step, 0)
    assert quantizer.step * 15 < 60
    values[0] = 1.0
    inner = quantizer(values[1:])
    assert float((inner - values[1:]).square().mean()) < float(values[1:].square().mean())


def test_misshapen_steps_are_refused():
    with pytest.raises(ValueError, match="both be \\(channels,\\)"):
        DeadZoneQuantizer(torch.tensor([1, 2]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="rounding must lie in"):
        DeadZoneQuantizer(torch.tensor([1]), torch.tensor([1.0]), rounding=0.7)
