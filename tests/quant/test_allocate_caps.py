"""Slopes and multipliers: selection, nested limits, limits that overlap."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fuzz.allocation import convex_curves, small_budget, small_curves
from quant.allocation import slopes
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget, Cap
from quant.allocation.exchange import exchange
from quant.allocation.fill import take_ties
from quant.allocation.multipliers import components, find_prices, is_nested
from quant.allocation.problem import build
from quant.allocation.slopes import critical_slope, critical_slope_by_sorting
from quant.curves import LayerCurve, RDCurves, TensorCurve

seeds = st.integers(0, 2**32 - 1)


@given(
    seed=seeds,
    share=st.floats(0, 1.1),
    parts=st.integers(1, 4),
    few=st.sampled_from([0, 3, 2048]),
    many=st.sampled_from([0, 1 << 19]),
)
def test_selection_by_digits_equals_sorting(
    seed: int, share: float, parts: int, few: int, many: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slopes, "_FEW", few)
        patch.setattr(slopes, "_MANY", many)
        check_selection(seed, share, parts)


def check_selection(seed: int, share: float, parts: int) -> None:
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(parts):
        size = int(rng.integers(0, 40))
        gain = rng.lognormal(0, rng.choice([0.001, 1, 30]), size)
        gain = rng.choice([gain, np.round(gain), np.zeros(size), -gain, -0.0 * gain])
        steps.append((gain, rng.integers(1, 100, size).astype(float)))
    gains, rates = (np.concatenate(arrays) for arrays in zip(*steps, strict=True))
    limit = float(int(share * rates[gains > 0].sum()))
    assert critical_slope(steps, limit) == critical_slope_by_sorting(gains, rates, limit)


def test_steps_that_must_be_taken_and_do_not_fit_are_an_error() -> None:
    steps = [(np.array([np.inf, 2.0]), np.array([5.0, 1.0]))]
    assert critical_slope(steps, 5) == 2.0
    with pytest.raises(ValueError, match="do not fit in 4 bits"):
        critical_slope(steps, 4)
    with pytest.raises(ValueError, match="do not fit in 4 bits"):
        critical_slope_by_sorting(*steps[0], 4)


def test_rows_fall_into_components_that_share_groups() -> None:
    rows = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
    found = [(members.tolist(), groups.tolist()) for members, groups in components(rows)]
    assert found == [([0, 2], [0, 1, 2]), ([1], [3, 4])]


def test_nested_rows_are_told_from_overlapping_ones() -> None:
    whole, left, right = [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]
    assert is_nested(np.array([whole, left, right]))
    assert is_nested(np.array([[1, 1, 2, 2], left, right]))
    assert not is_nested(np.array([[1, 2, 1, 1], left]))  # not a multiple of the inner row
    assert not is_nested(np.array([left, [0, 1, 1, 0]]))


@given(seed=seeds)
def test_a_cap_on_one_layer_is_a_second_slope_for_it_alone(seed: int) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=4, channels=20, tensors=0)
    layer = curves.weights[1]
    rate = layer.values * layer.channels
    cap = Cap("c", (("weights", layer.name),), int(1.5 * rate))
    capped = build(curves, Budget(weight_bits=3, caps=(cap,)))
    alone = RDCurves("one", (layer,), ())
    own = find_prices(build(alone, Budget(weight_total_bits=cap.limit_bits)))
    found = find_prices(capped)
    outer = found.multipliers[0]
    assert found.prices[1] == max(outer, own.prices[0])
    assert found.multipliers[1] == max(0.0, own.prices[0] - outer)
    others = np.delete(found.prices, 1)
    assert (others == outer).all()


@given(seed=seeds)
def test_bringing_a_limit_down_to_whole_steps_loses_no_rate_that_keeps_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = small_curves(rng)
    problem = build(curves, small_budget(rng, curves))
    choices = [np.flatnonzero(np.isfinite(column)) for column in problem.points.T]
    bits = np.array(list(itertools.product(*choices)))
    rates = np.array([problem.rows @ problem.rates(b) for b in bits]).T
    for rate, asked, limit in zip(rates, problem.asked, problem.limits, strict=True):
        kept = rate[rate <= asked]
        assert limit <= asked
        if len(kept):
            assert kept.max() <= limit * (1 + 1e-9)


def test_a_limit_that_no_width_meets_comes_down_to_one_that_does() -> None:
    tensor = np.array([np.inf, 9, 8, 7, 6, 5, 4, 3, 2.0])
    curves = RDCurves("n", (), (TensorCurve("a", tensor, 10), TensorCurve("b", tensor, 15)))
    caps = (Cap("a alone", (("activations", "a"),), 49),)
    budget = Budget(activation_total_bits=118, caps=caps, activation_widths=(1, 3, 7))
    problem = build(curves, budget)
    # the narrowest take 25; steps are multiples of 20 for a and of 30 for b, so of 10 together
    assert problem.limits.tolist() == [115, 30]
    answer = allocate(curves, budget)
    assert [c.limit_bits for c in answer.constraints] == [118, 49]
    assert answer.predicted_distortion == 12  # a has 1 bit and b has 7


def chained(curves: RDCurves, share: float) -> Budget:
    """Each tensor and the next together in a memory: caps that overlap all along."""
    tensors = curves.activations
    caps = [
        Cap(
            f"{a.name} and {b.name}",
            (("activations", a.name), ("activations", b.name)),
            int(share * (a.values + b.values)),
        )
        for a, b in pairwise(tensors)
    ]
    return Budget(weight_bits=3, activation_bits=5, caps=tuple(caps))


@settings(max_examples=30)
@given(seed=seeds, share=st.floats(1, 7))
def test_overlapping_caps_are_always_kept(seed: int, share: float) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=3, channels=10, tensors=9)
    answer = allocate(curves, chained(curves, share))
    for constraint in answer.constraints:
        assert constraint.used_bits <= constraint.limit_bits
    assert answer.lower_bound <= answer.predicted_distortion
    assert {c.name for c in answer.binding} <= {c.name for c in answer.constraints}


def test_a_cap_that_nothing_reaches_changes_nothing() -> None:
    curves = convex_curves(np.random.default_rng(0), layers=5, channels=20, tensors=8)
    budget = chained(curves, 8)
    loose = allocate(curves, budget)
    free = allocate(curves, Budget(weight_bits=3, activation_bits=5))
    assert loose.predicted_distortion == free.predicted_distortion
    assert [c.name for c in loose.binding] == ["weights", "activations"]


@pytest.mark.parametrize("share", [1.0, 8.0])
def test_caps_without_room_leave_the_narrowest_widths(share: float) -> None:
    curves = convex_curves(np.random.default_rng(0), layers=2, channels=5, tensors=6)
    answer = allocate(curves, chained(curves, share))
    assert isinstance(answer.bits.activations, dict)
    widths = {int(b) for b in answer.bits.activations.values()}
    assert (widths == {1}) == (share == 1.0)


def test_weights_and_tensors_of_a_layer_share_a_memory() -> None:
    curves = convex_curves(np.random.default_rng(6), layers=12, channels=40, tensors=12)
    caps = []
    for i in range(11):
        weights, into, out = curves.weights[i + 1], *curves.activations[i : i + 2]
        size = weights.values * weights.channels + into.values + out.values
        members = (
            ("weights", weights.name), ("activations", into.name), ("activations", out.name),
        )  # fmt: skip
        caps.append(Cap(f"memory of {weights.name}", members, 4 * size))
    answer = allocate(curves, Budget(weight_bits=4, caps=tuple(caps)))
    assert all(c.used_bits <= c.limit_bits for c in answer.constraints)
    assert answer.relative_gap < 0.05
    assert len(answer.binding) > 3


def test_joint_budgets_trade_weights_against_activations() -> None:
    curves = convex_curves(np.random.default_rng(7), layers=12, channels=40, tensors=12)
    total = 3 * curves.weight_values + 5 * curves.activation_values
    joint = allocate(curves, Budget(total_bits=total))
    apart = allocate(curves, Budget(weight_bits=3, activation_bits=5))
    assert joint.predicted_distortion <= apart.predicted_distortion
    assert joint.weight_slope == joint.activation_slope
    assert joint.weight_rate_bits + joint.activation_rate_bits <= total
    cheap = allocate(curves, Budget(total_bits=total, activation_rate=0.25))
    used = cheap.weight_rate_bits + 0.25 * cheap.activation_rate_bits
    assert used <= total
    assert cheap.activation_slope == pytest.approx(0.25 * cheap.weight_slope)


def test_ties_at_the_slope_are_taken_together() -> None:
    curve = 4.0 ** -np.arange(9)
    curves = RDCurves("n", (LayerCurve("a", np.tile(curve, (100_000, 1)), 9),), ())
    problem = build(curves, Budget(weight_bits=2.5))
    prices = find_prices(problem).prices
    bits = problem.choose(prices)
    assert problem.rates(bits)[0] == 2 * 9 * 100_000
    take_ties(problem, bits, prices)
    assert problem.rates(bits)[0] == 2.5 * 9 * 100_000
    assert bits[:50_000].min() == 3


def test_a_pair_of_changes_gets_where_no_single_change_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # one memory of 5 bits a value for two tensors: (4, 1) costs 1 + 9, (1, 4) costs 20 + 2
    one = np.array([np.inf, 20, 20, 20, 1, 1, 1, 1, 1.0])
    two = np.array([np.inf, 9, 9, 9, 2, 2, 2, 2, 2.0])
    curves = RDCurves("n", (), (TensorCurve("one", one, 10), TensorCurve("two", two, 10)))
    problem = build(curves, Budget(activation_total_bits=50))
    monkeypatch.setattr("quant.allocation.exchange._KICKS", 0)
    bits = np.array([1, 4], dtype=np.int8)
    exchange(problem, bits, np.zeros(2), np.arange(2), gap=30)
    assert bits.tolist() == [4, 1]


def test_from_where_no_pair_helps_a_change_is_forced() -> None:
    # three tensors in one memory of 9 bits a value: (7, 1, 1) costs 0 + 10 + 10 and is left by
    # changing all three, to (3, 3, 3), which costs 9
    first = np.array([np.inf, 30, 30, 9, 9, 9, 9, 0, 0.0])
    other = np.array([np.inf, 10, 10, 0, 0, 0, 0, 0, 0.0])
    tensors = (first, other, other)
    curves = RDCurves("n", (), tuple(TensorCurve(f"t{i}", d, 4) for i, d in enumerate(tensors)))
    problem = build(curves, Budget(activation_total_bits=36))
    bits = np.array([7, 1, 1], dtype=np.int8)
    exchange(problem, bits, np.zeros(3), np.arange(3), gap=30)
    assert bits.tolist() == [3, 3, 3]
