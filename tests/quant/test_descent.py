"""Coordinate descent never loses, and ends where no single weight can be chosen better."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.descent import descend
from quant.quantizer import DeadZoneQuantizer, weight_steps
from quant.rounding import level_range
from tests.quant.test_rounding import correlated


def case(seed, size, widths):
    weight = torch.randn(len(widths), size, generator=torch.Generator().manual_seed(seed)).double()
    bits = torch.tensor(widths)
    step = weight_steps(weight).gather(1, bits.unsqueeze(1)).squeeze(1)
    return weight, bits, step, DeadZoneQuantizer(bits, step), correlated(size, seed)


def losses(weight, levels, step, covariance):
    error = weight - levels * step.unsqueeze(1)
    return ((error @ covariance) * error).sum(1)


def descended(weight, levels, step, bits, covariance, passes):
    batch = (t.unsqueeze(0) for t in (weight, levels, step, bits, covariance))
    return descend(*batch, passes)[0]


@given(
    seed=st.integers(0, 2**20),
    size=st.integers(1, 9),
    widths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
def test_no_single_weight_has_a_better_level_in_the_end(seed, size, widths):
    weight, bits, step, quantizer, covariance = case(seed, size, widths)
    found = descended(weight, quantizer.level(weight), step, bits, covariance, 50)
    least = losses(weight, found, step, covariance)
    low, high = level_range(bits, weight.dtype)
    for i in range(size):
        for move in (-1.0, 1.0):
            other = found.clone()
            other[:, i] += move
            allowed = (bits > 1) & (other[:, i] >= low) & (other[:, i] <= high)
            worse = losses(weight, other, step, covariance) >= least * (1 - 1e-9)
            assert (worse | ~allowed).all()


def test_every_pass_lowers_the_error_across_blocks():
    weight, bits, step, quantizer, covariance = case(3, 300, [2, 3, 4, 8])
    at, loss = quantizer.level(weight), []
    for _ in range(4):
        loss.append(losses(weight, at, step, covariance))
        at = descended(weight, at, step, bits, covariance, 1)
    assert (loss[1] < 0.9 * loss[0]).all()
    assert all((after <= before).all() for before, after in pairwise(loss))
    together = descended(weight, quantizer.level(weight), step, bits, covariance, 4)
    assert torch.equal(together, at)


def test_levels_stay_within_the_width_and_narrow_channels_as_they_are():
    weight, bits, step, quantizer, covariance = case(5, 12, [0, 1, 2, 3])
    start = quantizer.level(4 * weight)
    found = descended(4 * weight, start, step, bits, covariance, 5)
    assert torch.equal(found[:2], start[:2])
    low, high = level_range(bits, weight.dtype)
    assert ((found >= low.unsqueeze(1)) & (found <= high.unsqueeze(1))).all()
