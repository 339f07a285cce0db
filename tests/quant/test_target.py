"""Latency and energy targets: what the simulator says of the answer is within them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.fuzz.allocation import network_curves
from hwsim.accelerator import load_accelerator
from hwsim.frontends.models import from_module, from_name
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget, InfeasibleBudget
from quant.allocation.target import InfeasibleTarget, Target, Targeted, allocate_within
from quant.curves import RDCurves
from quant.digits import build as digits
from quant.granularity import LAYER

WIDTHS = {"weight_widths": tuple(range(2, 9)), "activation_widths": tuple(range(4, 9))}
BUDGET = Budget(weight_bits=6, activation_bits=8, **WIDTHS)  # type: ignore[arg-type]


@cache
def network(name: str) -> tuple[LayerGraph, RDCurves]:
    if name == "digits":
        graph = from_module(digits(pretrained=False).eval(), (1, 1, 8, 8), name)
    else:
        graph = from_name(name)
    return graph, network_curves(graph, np.random.default_rng(0))


def within(
    name: str, accelerator: str, *targets: Target, budget: Budget = BUDGET, batch: int = 1
) -> Targeted:
    graph, curves = network(name)
    chip = load_accelerator(accelerator)
    found = allocate_within(curves, budget, graph, chip, targets, batch)
    stats = simulate(graph, chip, found.allocation.bits, batch)
    for met in found.met:
        assert met.simulated == met.target.value(stats)
        assert met.simulated <= met.target.limit
        assert met.smallest <= met.simulated
    return found


@cache
def reachable(name: str, accelerator: str, quantity: str) -> tuple[float, float]:
    with pytest.raises(InfeasibleTarget) as caught:
        within(name, accelerator, Target(quantity, 1e-12))  # type: ignore[arg-type]
    return caught.value.smallest, caught.value.largest


def between(name: str, accelerator: str, quantity: str, share: float) -> Target:
    low, high = reachable(name, accelerator, quantity)
    return Target(quantity, low + share * (high - low))  # type: ignore[arg-type]


@pytest.mark.parametrize("quantity", ["latency", "energy"])
@pytest.mark.parametrize(
    ("name", "accelerator"),
    [
        ("resnet18", "tpu_v1"),
        pytest.param("mobilenet_v2", "tpu_v1", marks=pytest.mark.slow),
        ("digits", "eyeriss_v1"),
    ],
)
def test_a_target_is_met_and_little_is_left_over(
    name: str, accelerator: str, quantity: str
) -> None:
    target = between(name, accelerator, quantity, 0.4)
    found = within(name, accelerator, target)
    met = found.met[0]
    assert met.binds
    # digits has so few channels and so short transfers that one step is much of the range
    left_over = 0.05 if name == "digits" else 2e-3
    assert target.limit - met.simulated <= left_over * (met.largest - met.smallest)
    answer = found.allocation
    assert answer.predicted_distortion > found.untargeted.predicted_distortion
    assert answer.lower_bound >= found.untargeted.lower_bound
    if name != "digits":
        assert answer.relative_gap <= 1e-4


@pytest.mark.slow
def test_knowing_where_bits_are_free_beats_a_smaller_budget_for_all() -> None:
    graph, curves = network("mobilenet_v2")
    chip = load_accelerator("tpu_v1")
    target = between("mobilenet_v2", "tpu_v1", "latency", 0.4)
    found = within("mobilenet_v2", "tpu_v1", target)
    low, high = 2.0, 6.0
    for _ in range(8):
        bits = 0.5 * (low + high)
        plain = allocate(curves, replace(BUDGET, weight_bits=bits))
        if simulate(graph, chip, plain.bits).seconds <= target.limit:
            low = bits
        else:
            high = bits
    plain = allocate(curves, replace(BUDGET, weight_bits=high))  # does not even meet the target
    assert found.allocation.predicted_distortion < 0.95 * plain.predicted_distortion
    assert found.allocation.average_weight_bits > high


def test_a_shorter_time_costs_more_distortion() -> None:
    answers = [
        within("resnet18", "tpu_v1", between("resnet18", "tpu_v1", "latency", share))
        for share in (0.2, 0.8)
    ]
    distortions = [answer.allocation.predicted_distortion for answer in answers]
    assert distortions == sorted(distortions, reverse=True)


@pytest.mark.slow
def test_a_time_that_no_sum_over_layers_tells_is_still_met_with_little_left_over() -> None:
    # its layers wait for weights of others, beside feature maps that share their time
    target = between("resnet18", "scalesim_google", "latency", 0.4)
    low, high = reachable("resnet18", "scalesim_google", "latency")
    (met,) = within("resnet18", "scalesim_google", target).met
    assert target.limit - met.simulated <= 0.05 * (high - low)


def test_both_targets_are_met_together() -> None:
    latency = between("resnet18", "tpu_v1", "latency", 0.5)
    energy = between("resnet18", "tpu_v1", "energy", 0.4)
    found = within("resnet18", "tpu_v1", latency, energy)
    alone = [within("resnet18", "tpu_v1", target) for target in (latency, energy)]
    least = max(one.allocation.predicted_distortion for one in alone)
    assert found.allocation.predicted_distortion >= least * (1 - 1e-3)


def test_a_target_that_does_not_bind_changes_nothing() -> None:
    _, high = reachable("resnet18", "tpu_v1", "latency")
    found = within("resnet18", "tpu_v1", Target("latency", high))
    assert found.allocation == found.untargeted
    assert not found.met[0].binds
    assert "it does not bind" in found.met[0].line


def test_an_infeasible_target_says_what_can_be_reached_and_that_can() -> None:
    low, high = reachable("resnet18", "tpu_v1", "latency")
    with pytest.raises(InfeasibleTarget) as caught:
        within("resnet18", "tpu_v1", Target("latency", 0.99 * low))
    assert f"{1e3 * low:.6g} ms to {1e3 * high:.6g} ms can be reached" in str(caught.value)
    found = within("resnet18", "tpu_v1", Target("latency", low))
    assert found.met[0].simulated == pytest.approx(low)


def test_other_limits_are_kept_beside_a_target() -> None:
    _, curves = network("resnet18")
    budget = replace(BUDGET, weight_bits=None, weight_total_bits=4 * curves.weight_values)
    target = between("resnet18", "tpu_v1", "energy", 0.3)
    found = within("resnet18", "tpu_v1", target, budget=budget)
    assert found.allocation.weight_rate_bits <= 4 * curves.weight_values
    tight = replace(budget, weight_total_bits=curves.weight_values)
    with pytest.raises(InfeasibleBudget):
        within("resnet18", "tpu_v1", target, budget=tight)


def test_one_width_a_layer_meets_it_with_more_distortion() -> None:
    graph, curves = network("resnet18")
    target = between("resnet18", "tpu_v1", "latency", 0.4)
    fine = within("resnet18", "tpu_v1", target).allocation
    coarse = allocate_within(
        curves, BUDGET, graph, load_accelerator("tpu_v1"), [target], group=LAYER
    )
    assert coarse.met[0].simulated <= target.limit
    assert coarse.allocation.predicted_distortion > fine.predicted_distortion


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="latency must be a number above 0, got 0"):
        Target("latency", 0)
    with pytest.raises(ValueError, match="expected latency or energy, got 'power'"):
        Target("power", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of each"):
        within("resnet18", "tpu_v1", Target("latency", 1), Target("latency", 2))
