"""allocate: never better than the best of all, never below its bound, feasible, repeatable."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fuzz.allocation import (
    AllocationCase,
    cases,
    check,
    convex_curves,
    small_budget,
    small_curves,
)
from quant.allocation.allocate import allocate, equal_widths, per_layer
from quant.allocation.budget import Budget, Cap, InfeasibleBudget
from quant.curves import LayerCurve, RDCurves, TensorCurve

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=300)
@given(case=cases)
def test_few_items_are_allocated_as_well_as_by_trying_everything(case: AllocationCase) -> None:
    check(case)


@given(seed=seeds, slope=st.floats(1e-6, 1e3))
def test_a_rate_that_a_slope_reaches_is_allocated_without_a_gap(seed: int, slope: float) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=4, channels=20, tensors=3)
    rate = sum(
        float((c.values * np.argmin(c.distortion + slope * c.values * np.arange(9), axis=1)).sum())
        for c in curves.weights
    )
    answer = allocate(curves, Budget(weight_total_bits=rate))
    assert answer.weight_rate_bits == rate
    assert abs(answer.relative_gap) < 1e-9


@settings(max_examples=30)
@given(seed=seeds)
def test_more_bits_never_cost_distortion_beyond_the_gap(seed: int) -> None:
    curves = convex_curves(np.random.default_rng(seed), layers=5, channels=10, tensors=4)
    answers = [allocate(curves, Budget(weight_bits=b, activation_bits=b)) for b in (2, 2.3, 5, 8)]
    bounds = [answer.lower_bound for answer in answers]
    assert bounds == sorted(bounds, reverse=True)
    for less, more in pairwise(answers):
        assert more.lower_bound <= less.predicted_distortion
    assert answers[-1].relative_gap < 1e-12


def test_the_bound_is_near_on_a_network_of_18000_channels() -> None:
    curves = convex_curves(np.random.default_rng(0))
    assert 17_000 < curves.channels < 19_000
    for bits in (2.0, 3.0, 4.5):
        answer = allocate(curves, Budget(weight_bits=bits))
        assert 0 <= answer.relative_gap < 1e-5
        assert answer.average_weight_bits <= bits
        assert answer.average_weight_bits > bits - 1e-4


def test_channels_beat_layers_and_layers_beat_equal_widths() -> None:
    curves = convex_curves(np.random.default_rng(1), layers=10, channels=50, tensors=5)
    budget = Budget(weight_bits=4, activation_bits=6)
    fine, coarse, equal = (
        allocate(curves, budget), per_layer(curves, budget), equal_widths(curves, 4, 6)
    )  # fmt: skip
    assert fine.predicted_distortion < coarse.predicted_distortion < equal.predicted_distortion
    assert coarse.lower_bound >= fine.lower_bound
    assert equal.lower_bound == pytest.approx(fine.lower_bound, rel=1e-12)
    assert equal.weight_rate_bits == 4 * curves.weight_values
    assert equal.activation_rate_bits == 6 * curves.activation_values
    assert isinstance(coarse.bits.weights, dict)
    for curve in curves.weights:
        widths = coarse.bits.weights[curve.name]
        assert widths.shape == (curve.channels,)
        assert len(set(widths.tolist())) == 1
    expected = sum(c.distortion[:, 4].sum() for c in curves.weights)
    assert equal.weight_distortion == pytest.approx(expected)


def test_per_layer_counts_metadata_for_every_channel() -> None:
    curves = RDCurves("n", (LayerCurve("a", np.tile(2.0 ** -np.arange(9), (5, 1)), 10),), ())
    # 5 channels of 10 weights at 2 bits and 7 bits of metadata: 135 bits
    answer = per_layer(curves, Budget(weight_total_bits=184, metadata_bits=7))
    assert answer.weight_rate_bits == 135
    answer = per_layer(curves, Budget(weight_total_bits=185, metadata_bits=7))
    assert answer.weight_rate_bits == 185


def test_a_dropped_channel_still_has_its_metadata() -> None:
    # its width code says that it is dropped, and its bias is its output
    curves = RDCurves("n", (LayerCurve("a", np.tile(2.0 ** -np.arange(9), (5, 1)), 10),), ())
    for limits in ({"weight_total_bits": 35}, {"total_bits": 35}):
        answer = allocate(curves, Budget(**limits, metadata_bits=7))
        assert answer.bits.weights["a"].tolist() == [0] * 5
        assert (answer.weight_rate_bits, answer.metadata_bits) == (35, 35)
        assert answer.average_weight_bits == 0
        assert [(c.limit_bits, c.used_bits) for c in answer.constraints] == [(35, 35)]
        fewer = {name: limit - 1 for name, limit in limits.items()}
        with pytest.raises(InfeasibleBudget, match=r"limit on .* of 34 bits"):
            allocate(curves, Budget(**fewer, metadata_bits=7))


def test_an_average_is_of_the_weights_alone() -> None:
    curves = RDCurves("n", (LayerCurve("a", np.tile(2.0 ** -np.arange(9), (5, 1)), 10),), ())
    answer = allocate(curves, Budget(weight_bits=2, weight_total_bits=200, metadata_bits=7))
    assert (answer.average_weight_bits, answer.weight_rate_bits) == (2, 135)


@given(seed=seeds)
def test_the_same_budget_gives_the_same_answer_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = small_curves(rng)
    budget = small_budget(rng, curves)
    try:
        first = allocate(curves, budget)
    except InfeasibleBudget:
        return
    assert json.dumps(first.to_json()) == json.dumps(allocate(curves, budget).to_json())


def test_equal_channels_get_their_bits_in_order() -> None:
    curve = np.array([9.0, 4, 1, 1, 1, 1, 1, 1, 1])
    curves = RDCurves("n", (LayerCurve("a", np.tile(curve, (6, 1)), 10),), ())
    # gains 0.5 and 0.3 a bit; 6 channels at 1 bit take 60, four more bits of weights fit in 100
    answer = allocate(curves, Budget(weight_total_bits=109))
    assert isinstance(answer.bits.weights, dict)
    assert answer.bits.weights["a"].tolist() == [2, 2, 2, 2, 1, 1]
    assert answer.weight_slope == pytest.approx(0.3)


def test_many_equal_channels_are_filled_at_once() -> None:
    curve = 4.0 ** -np.arange(9)
    curves = RDCurves("n", (LayerCurve("a", np.tile(curve, (200_000, 1)), 9),), ())
    answer = allocate(curves, Budget(weight_bits=2.5))
    assert answer.weight_rate_bits == 200_000 * 9 * 2.5
    assert abs(answer.relative_gap) < 1e-12


def test_a_budget_above_the_largest_rate_gives_the_least_distortion() -> None:
    curve = np.array([9.0, 4, 1, 0.5, 0.5, 2, 2, 2, 2])  # 3 bits: 4 are no better
    curves = RDCurves("n", (LayerCurve("a", curve[None], 10),), ())
    answer = allocate(curves, Budget(weight_bits=7))
    assert answer.predicted_distortion == answer.lower_bound == 0.5
    assert answer.weight_rate_bits == 30
    assert answer.constraints[0].limit_bits == 70
    assert answer.binding == ()


def test_without_limits_the_least_distortion_is_taken() -> None:
    curves = convex_curves(np.random.default_rng(2), layers=3, channels=10, tensors=2)
    answer = allocate(curves, Budget())
    least = sum(c.distortion.min(axis=-1).sum() for c in (*curves.weights, *curves.activations))
    assert answer.predicted_distortion == pytest.approx(least)


def test_an_infeasible_budget_says_by_how_much_and_what_can_be_reached() -> None:
    curves = convex_curves(np.random.default_rng(3), layers=3, channels=10, tensors=2)
    values = curves.weight_values
    with pytest.raises(InfeasibleBudget) as caught:
        allocate(curves, Budget(weight_bits=1.5, weight_widths=(2, 4)))
    error = caught.value
    assert error.constraint == "weights"
    assert error.limit_bits == values * 3 // 2
    assert (error.smallest_bits, error.largest_bits) == (2 * values, 4 * values)
    assert "'weights'" in str(error)
    assert f"{2 * values - values * 3 // 2:,} too many" in str(error)
    assert "(2 to 4 a value)" in str(error)
    # the nearest feasible budget that it names is feasible
    nearest = Budget(weight_total_bits=error.smallest_bits, weight_widths=(2, 4))
    assert allocate(curves, nearest).average_weight_bits == 2


def test_an_infeasible_cap_is_named() -> None:
    curves = convex_curves(np.random.default_rng(3), layers=3, channels=10, tensors=2)
    cap = Cap("ofmap of layer1", (("activations", "layer1"),), 1000, overhead_bits=10)
    with pytest.raises(InfeasibleBudget, match="'ofmap of layer1' of 1,000 bits"):
        allocate(curves, Budget(weight_bits=3, caps=(cap,)))


def test_widths_are_those_allowed_and_fixed_layers_keep_theirs() -> None:
    curves = convex_curves(np.random.default_rng(4), layers=4, channels=10, tensors=4)
    first = curves.weights[0]
    own = np.arange(first.channels) % 9
    budget = Budget(
        weight_bits=5,
        activation_bits=6,
        weight_widths=(2, 4, 8),
        activation_widths=(4, 6, 8),
        fixed={("weights", "layer0"): own, ("activations", "layer2"): 7},
    )
    answer = allocate(curves, budget)
    assert isinstance(answer.bits.weights, dict)
    assert isinstance(answer.bits.activations, dict)
    assert answer.bits.weights["layer0"].tolist() == own.tolist()
    assert int(answer.bits.activations["layer2"]) == 7
    rest = np.concatenate([answer.bits.weights[f"layer{i}"] for i in (1, 2, 3)])
    assert set(rest.tolist()) <= {2, 4, 8}
    assert {int(answer.bits.activations[f"layer{i}"]) for i in (0, 1, 3)} <= {4, 6, 8}
    assert answer.average_weight_bits <= 5


def test_an_average_is_taken_at_its_decimal_value() -> None:
    # 2.9 * 1000 is 2899.9999999999995 in floating point; 2900 bits are 2.9 bits a value
    assert Budget(weight_bits=2.9).limit_bits("weights", 1000) == 2900
    assert Budget(weight_bits=1.1).limit_bits("weights", 10) == 11
    assert Budget(weight_bits=3, weight_total_bits=25).limit_bits("weights", 10) == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": -1}, "weight_bits must be a number of at least 0, got -1"),
        ({"weight_bits": float("nan")}, "weight_bits must be a number"),
        ({"total_bits": "4MB"}, "total_bits must be a number of at least 0, got '4MB'"),
        ({"activation_rate": 0}, "activation_rate must be above 0"),
        ({"weight_widths": (2, 9)}, r"weight_widths must be integers in 0..8"),
        ({"weight_widths": ()}, "at least one"),
        ({"activation_widths": (0, 8)}, r"activation_widths must be integers in 1..8"),
        ({"metadata_bits": 0.5}, "metadata_bits must be an integer"),
    ],
)
def test_wrong_budgets_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**options)  # type: ignore[arg-type]


def test_budgets_that_do_not_fit_the_curves_are_refused() -> None:
    weights = convex_curves(np.random.default_rng(5), layers=2, channels=5, tensors=0)
    with pytest.raises(ValueError, match="limit on activations, but the curves of 'random' have"):
        allocate(weights, Budget(activation_bits=8))
    with pytest.raises(ValueError, match="no weights of 'layer7'"):
        allocate(weights, Budget(fixed={("weights", "layer7"): 8}))
    with pytest.raises(ValueError, match="cap 'c': no activations of 'layer1'"):
        allocate(weights, Budget(caps=(Cap("c", (("activations", "layer1"),), 8),)))
    with pytest.raises(ValueError, match=r"fixed width of weights of 'layer1': must lie in 0\.\.8"):
        allocate(weights, Budget(fixed={("weights", "layer1"): 12}))
    with pytest.raises(ValueError, match="needs a name of its own, got 'total'"):
        Budget(caps=(Cap("total", (("weights", "layer1"),), 8),))
    with pytest.raises(ValueError, match="there is no layer"):
        allocate(RDCurves("n", (), ()), Budget())


def test_widths_without_a_finite_point_are_refused() -> None:
    d = np.array([np.inf, np.inf, 3, 2, 1, 1, 1, 1, 1])
    curves = RDCurves("n", (LayerCurve("a", d[None], 2),), (TensorCurve("a", d, 2),))
    with pytest.raises(ValueError, match="weights of 'a': none of the allowed widths"):
        allocate(curves, Budget(weight_widths=(0, 1)))
    assert allocate(curves, Budget(weight_bits=2)).weight_distortion == 3
