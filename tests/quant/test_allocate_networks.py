"""The certificate on networks of real shape: for every kind of budget the gap is at most 1e-4."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from analysis.fuzz.allocation import network_curves
from hwsim.accelerator import load_accelerator
from hwsim.frontends.models import from_name
from hwsim.graph import LayerGraph
from quant.allocation.allocate import allocate, per_layer
from quant.allocation.budget import Budget, Cap
from quant.allocation.fit import fit_caps
from quant.allocation.large_steps import FEW_ITEMS
from quant.curves import LayerCurve, RDCurves

MOST = 1e-4
NETWORKS = ("resnet18", "resnet34", "resnet50", "mobilenet_v2")
GIVEN = {"weight_widths": tuple(range(2, 9)), "activation_widths": tuple(range(4, 9))}

graph_of = cache(from_name)


@cache
def curves_of(network: str) -> RDCurves:
    return network_curves(graph_of(network), np.random.default_rng(0))


def fits(graph: LayerGraph, accelerator: str, **limits: float) -> Budget:
    least = {"weights": 2, "activations": 4}
    caps = fit_caps(graph, load_accelerator(accelerator), 1, None, least).caps
    return Budget(caps=caps, **GIVEN, **limits)  # type: ignore[arg-type]


BUDGETS: dict[str, Callable[[RDCurves, LayerGraph], Budget]] = {
    "weights": lambda c, g: Budget(weight_bits=4),
    "activations": lambda c, g: Budget(activation_bits=5),
    "both": lambda c, g: Budget(weight_bits=3, activation_bits=6),
    "2, 4 and 8 bits": lambda c, g: Budget(
        weight_bits=3.5, activation_bits=4.5, weight_widths=(2, 4, 8), activation_widths=(2, 4, 8)
    ),
    "size with metadata": lambda c, g: Budget(
        weight_total_bits=4 * c.weight_values, metadata_bits=52
    ),
    "joint": lambda c, g: Budget(total_bits=4 * c.weight_values + 6 * c.activation_values),
    "joint, cheap activations": lambda c, g: Budget(
        total_bits=4 * c.weight_values + 0.05 * 6 * c.activation_values, activation_rate=0.05
    ),
    "fits tpu_v1": lambda c, g: fits(g, "tpu_v1", weight_bits=4, activation_bits=6),
    "fits eyeriss_v1": lambda c, g: fits(g, "eyeriss_v1", weight_bits=4, activation_bits=6),
    "fits eyeriss_v1, caps alone": lambda c, g: fits(g, "eyeriss_v1"),
    "fits eyeriss_v1, joint": lambda c, g: fits(
        g, "eyeriss_v1", total_bits=4 * c.weight_values + 6 * c.activation_values
    ),
}


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_gap_is_small_for_every_budget(network: str, name: str) -> None:
    curves = curves_of(network)
    answer = allocate(curves, BUDGETS[name](curves, graph_of(network)))
    assert answer.lower_bound > 0
    assert -1e-12 <= answer.relative_gap <= MOST
    for limit in answer.constraints:
        assert limit.used_bits <= limit.limit_bits


@pytest.mark.parametrize("network", NETWORKS)
def test_the_gap_is_small_for_one_width_a_layer(network: str) -> None:
    answer = per_layer(curves_of(network), Budget(weight_bits=4, activation_bits=6))
    assert 0 <= answer.relative_gap <= MOST


@pytest.mark.data
@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_the_gap_is_small_on_curves_of_trained_networks(data_dir: Path, network: str) -> None:
    from analysis.sources import load_image_sets, load_network
    from quant.sweep import sweep

    weights = str(data_dir / "weights" / f"{network}.safetensors")
    loaded = load_network(network, weights)
    images = load_image_sets(network, loaded, str(data_dir / "images"), 4, 0, 0).calibration
    curves = sweep(loaded, images, probes=1)
    for name, budget in BUDGETS.items():
        assert allocate(curves, budget(curves, loaded.graph)).relative_gap <= MOST, name


def test_caps_on_layers_of_few_channels_leave_next_to_no_gap() -> None:
    rng = np.random.default_rng(0)
    sizes = [(45, 4608)] * 10 + [(2000, 64)]
    layers = [
        LayerCurve(
            f"layer{i}",
            rng.lognormal(0, 1, (count, 1))
            * 4.0 ** -np.arange(9)
            * rng.lognormal(0, 0.1, (count, 9)),
            values,
        )
        for i, (count, values) in enumerate(sizes)
    ]
    curves = RDCurves("capped", tuple(layers), ())
    assert curves.channels > FEW_ITEMS
    caps = tuple(
        Cap(c.name, (("weights", c.name),), int(2.63 * c.values * c.channels)) for c in layers[:10]
    )
    budget = Budget(weight_bits=2.7, caps=caps)
    answer = allocate(curves, budget)
    assert len(answer.binding) > 1
    assert 0 <= answer.relative_gap <= MOST
