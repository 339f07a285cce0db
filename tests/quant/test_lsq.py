"""Learned steps: hand numbers of the gradients, and finite differences of what they stand for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.quantizer import ActivationQuantizer, DeadZoneQuantizer
from quant.recovery.lsq import as_stored, gradient_scale, round_with_step
from quant.scales import stored_step


def limits(bits):
    """low, high and whether there are only two levels, (C, 1), of signed weights."""
    half = torch.where(bits > 1, 2.0 ** (bits - 1), 1.0)
    return -half, torch.where(bits > 1, half - 1, 1.0), bits == 1


def test_the_gradients_of_five_weights_by_hand():
    # step 0.5, 2 bits: levels -2..1. x / step: -3 (below), -1.4, 0.2, 0.8, 2 (above)
    x = torch.tensor([[-1.5, -0.7, 0.1, 0.4, 1.0]], requires_grad=True)
    step = torch.tensor([[0.5]], requires_grad=True)
    low, high, binary = limits(torch.tensor([[2]]))
    scale = torch.tensor([[gradient_scale(4, 1.0)]])
    out = round_with_step(x, step, low, high, binary, scale)
    assert out.tolist() == [[-1.0, -0.5, 0.0, 0.5, 0.5]]
    out.backward(torch.tensor([[1.0, 10.0, 100.0, 1000.0, 10000.0]]))
    assert x.grad.tolist() == [[0.0, 10.0, 100.0, 1000.0, 0.0]]
    # outside the level (-2, 1), inside level - x / step: 0.4, -0.2, 0.2; scale 1 / sqrt(4)
    by_step = -2 * 1 + 0.4 * 10 - 0.2 * 100 + 0.2 * 1000 + 1 * 10000
    assert step.grad.item() == pytest.approx(by_step / 2, rel=1e-6)


def test_the_gradient_scale_is_that_of_the_paper():
    assert gradient_scale(100, 7.0) == 1 / math.sqrt(700)


@given(
    bits=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    sign=st.sampled_from([1.0, -1.0]),
    seed=st.integers(0, 2**31),
)
def test_gradients_are_finite_differences_with_the_rounding_held_fixed(bits, sign, seed):
    """Inside the range the surrogate is x + (what rounding added) * step, outside level * step."""
    generator = torch.Generator().manual_seed(seed)
    widths = torch.tensor(bits).unsqueeze(1)
    low, high, binary = (t.double() if t.is_floating_point() else t for t in limits(widths))
    x = torch.randn(len(bits), 7, generator=generator, dtype=torch.float64)
    step = sign * (0.1 + torch.rand(len(bits), 1, generator=generator, dtype=torch.float64))
    seen = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    one = torch.ones_like(step)
    leaf, step_leaf = x.clone().requires_grad_(), step.clone().requires_grad_()
    out = round_with_step(leaf, step_leaf, low, high, binary, one)
    (out * seen).sum().backward()

    level = out.detach() / step
    inside = (x / step > low) & (x / step < high)
    added = level - x / step

    def surrogate(moved_x, moved_step):
        value = torch.where(inside, moved_x + added * moved_step, level * moved_step)
        return (value * seen).sum()

    assert torch.allclose(surrogate(x, step), (out.detach() * seen).sum())
    small = 1e-4
    for row in range(len(bits)):
        nudge = torch.zeros_like(step)
        nudge[row] = small
        slope = (surrogate(x, step + nudge) - surrogate(x, step - nudge)) / (2 * small)
        assert step_leaf.grad[row].item() == pytest.approx(slope.item(), abs=1e-8)
        for column in range(7):
            nudge = torch.zeros_like(x)
            nudge[row, column] = small
            slope = (surrogate(x + nudge, step) - surrogate(x - nudge, step)) / (2 * small)
            assert leaf.grad[row, column].item() == pytest.approx(slope.item(), abs=1e-8)


@given(seed=st.integers(0, 2**31), sign=st.sampled_from([1.0, -1.0]))
def test_the_values_are_those_of_the_quantisers(seed, sign):
    generator = torch.Generator().manual_seed(seed)
    bits = torch.tensor([1, 2, 3, 8])
    x = torch.randn(4, 50, generator=generator)
    step = stored_step(sign * (0.05 + torch.rand(4, generator=generator)))
    low, high, binary = limits(bits.unsqueeze(1))
    one = torch.ones(4, 1)
    rounded = round_with_step(x, step.unsqueeze(1), low, high, binary, one)
    assert torch.equal(rounded, DeadZoneQuantizer(bits, step)(x))

    quantizer = ActivationQuantizer(5, float(step[0].abs()), zero_point=3)
    never = torch.tensor(False)
    ends = torch.tensor(-3.0), torch.tensor(28.0)
    rounded = round_with_step(x, torch.tensor(quantizer.step), *ends, never, torch.tensor(1.0))
    assert torch.equal(rounded, quantizer(x))


def test_stored_steps_are_half_precision_and_never_zero_or_infinite():
    steps = torch.tensor([0.1, -0.1, 1e-12, -1e-12, 1e9, 2.0**-24])
    found = stored_step(steps)
    assert torch.equal(found, found.to(torch.float16).float())
    assert found[0].item() == pytest.approx(0.1, rel=2**-11)
    assert torch.equal(found.sign(), steps.sign())
    assert found[2:].tolist() == [2.0**-24, -(2.0**-24), 65504.0, 2.0**-24]
    assert torch.equal(stored_step(found), found)


def test_the_gradient_passes_the_rounding_to_half_precision():
    step = torch.tensor([0.1, -0.3], requires_grad=True)
    (as_stored(step) * torch.tensor([2.0, 5.0])).sum().backward()
    assert step.grad.tolist() == [2.0, 5.0]
