"""Energy: published constants, parts that add up, and what narrower operands save where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import chain, perceptron, residual, square_conv
from hypothesis import given
from hypothesis import strategies as st

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import OperandWidth
from hwsim.energy import add_pj, energy_table, mac_pj, mac_shares, multiply_pj
from hwsim.graph import Vector

TPU = load_accelerator("tpu_v1")
EYERISS = load_accelerator("eyeriss_v1")
BOTH = pytest.mark.parametrize("accelerator", [TPU, EYERISS], ids=["tpu_v1", "eyeriss_v1"])
RULES = [
    OperandWidth("fixed", 8, 8),
    OperandWidth("fixed", 8, 8, gates_narrow_operands=True),
    *map(OperandWidth, ("bit_fusion", "stripes", "unpu", "loom")),
]


def test_multiplies_and_adds_are_within_4_percent_of_the_published_ones():
    # Horowitz, ISSCC 2014: 8-bit multiply 0.2 pJ, 32-bit 3.1 pJ; 8-bit add 0.03 pJ, 32-bit 0.1 pJ
    assert multiply_pj(8, 8) == pytest.approx(0.2)
    assert multiply_pj(32, 32) == pytest.approx(3.1, rel=0.04)
    assert add_pj(8) == pytest.approx(0.03)
    assert add_pj(32) == pytest.approx(0.1)


def test_the_presets_give_a_mac_its_published_energy():
    assert TPU.array.mac_energy == pytest.approx(multiply_pj(8, 8) + add_pj(32))
    assert EYERISS.array.mac_energy == pytest.approx(multiply_pj(16, 16))


@pytest.mark.parametrize(
    ("rule", "weight", "activation", "share"),
    [
        (OperandWidth("fixed", 8, 8), 8, 8, 1),
        (OperandWidth("fixed", 8, 8), 2, 2, 1),  # the multiplier is as wide as ever
        (OperandWidth("fixed", 8, 8), 16, 16, 4),
        # gated: 0.2 pJ * 4/64 for the multiply, and the 0.1 pJ of the add, of 0.3 pJ
        (OperandWidth("fixed", 8, 8, True), 2, 2, (0.2 * 4 / 64 + 0.1) / 0.3),
        (OperandWidth("bit_fusion"), 4, 8, (0.2 / 2 + 0.1) / 0.3),
        (OperandWidth("bit_fusion"), 3, 8, (0.2 / 2 + 0.1) / 0.3),
        # 16 x 16: 0.8 pJ of multiply; an add of 0.1 pJ
        (OperandWidth("stripes"), 2, 8, (0.8 / 2 + 0.1) / 0.9),
        (OperandWidth("unpu"), 4, 8, (0.8 / 4 + 0.1) / 0.9),
        (OperandWidth("loom"), 4, 8, (0.8 / 8 + 0.1) / 0.9),
    ],
)
def test_a_mac_costs_its_share_by_hand(rule, weight, activation, share):
    assert float(mac_shares(rule, weight, activation, psum_bits=32)) == pytest.approx(share)


@given(rule=st.sampled_from(RULES), w=st.integers(2, 16), a=st.integers(2, 16), fc=st.booleans())
def test_narrower_operands_never_cost_more(rule, w, a, fc):
    whole = mac_shares(rule, w, a, 32, fc)
    assert mac_shares(rule, w - 1, a, 32, fc) <= whole
    assert mac_shares(rule, w, a - 1, 32, fc) <= whole


def test_every_channel_pays_for_its_own_width_and_dropped_ones_nothing():
    machine = replace(TPU, operand_width=OperandWidth("unpu"))
    widths = np.array([[0, 4, 16, 4]])
    one = [mac_pj(machine, np.array([w]), 8, 100, False) for w in (4, 16)]
    assert mac_pj(machine, widths, 8, 100, False) == pytest.approx(2 * one[0] + one[1])
    assert mac_pj(machine, np.zeros((1, 4), dtype=int), 8, 100, False) == 0


def networks():
    grouped, out = square_conv(6, 6, 3, 7, pad=1, groups=3)
    pool = ("pool", Vector(4 * 6 * 49), out)
    return [
        residual(5, 6),
        chain("pooled", (1, 6, 7, 7), [("conv", grouped, out), pool]),
        perceptron("p", [40, 70, 9]),
    ]


@BOTH
@pytest.mark.parametrize("graph", networks(), ids=lambda graph: graph.name)
@pytest.mark.parametrize("bits", [BitWidths(8, 8), BitWidths(3, 5)])
def test_parts_are_the_energy_of_layer_network_and_table(accelerator, graph, bits):
    stats = simulate(graph, accelerator, bits, 2)
    frame = stats.to_frame()
    columns = [name for name in frame if name.startswith("energy_") and name != "energy_pj"]
    for layer, (_, row) in zip(stats.layers, frame.iterrows(), strict=True):
        assert all(pj >= 0 for pj in layer.energy_parts.values())
        assert layer.energy_pj == sum(layer.energy_parts.values())
        assert row["energy_pj"] == layer.energy_pj
        assert row[columns].sum() == pytest.approx(layer.energy_pj, rel=1e-12)
        for (place, what), pj in layer.energy_parts.items():
            assert row[f"energy_{place}_{what}_pj"] == pj
    assert sum(stats.energy_parts.values()) == pytest.approx(stats.energy_pj, rel=1e-12)


@BOTH
@pytest.mark.parametrize("graph", networks(), ids=lambda graph: graph.name)
def test_energy_is_the_counted_bits_times_the_table(accelerator, graph):
    stats = simulate(graph, accelerator, BitWidths(4, 6), 2)
    table = energy_table(accelerator)
    drams = [dram.name for dram in accelerator.dram]
    for layer in stats.layers:
        for place, bits in layer.onchip_bits.items():
            parts = [pj for (name, _), pj in layer.energy_parts.items() if name == place]
            assert sum(parts) == pytest.approx(bits * table[place], rel=1e-12)
        moved = dict.fromkeys(drams, 0.0)
        for (place, _), pj in layer.energy_parts.items():
            if place in moved:
                moved[place] += pj / table[place]
        assert sum(moved.values()) == pytest.approx(layer.dram_bits, rel=1e-12)
        if isinstance(graph[layer.name].work, Vector):
            operations = graph[layer.name].work.operations * 2
            assert layer.energy_parts["vector", "operation"] == pytest.approx(
                operations * accelerator.vector.energy
            )
            assert layer.energy_parts.get(("array", "mac"), 0) == 0


def test_narrow_weights_save_weight_traffic_alone_on_fixed_width_arrays():
    graph = perceptron("p", [64, 64])
    wide, narrow = (simulate(graph, TPU, BitWidths(w, 8)).energy_parts for w in (8, 4))
    for part, pj in wide.items():
        if part[1] == "weights":
            assert 0 < narrow[part] < pj
        else:
            assert narrow[part] == pj


def test_zeros_are_not_multiplied_on_a_gating_array():
    graph = residual(5, 6)
    plain = simulate(graph, EYERISS, BitWidths(8, 8))
    half = simulate(graph, EYERISS, BitWidths(8, 8), known_maps={"image": 0.5})
    mac = ("array", "mac")
    assert half.layers[0].energy_parts[mac] == pytest.approx(plain.layers[0].energy_parts[mac] / 2)


def test_gating_narrow_operands_is_for_fixed_arrays():
    with pytest.raises(ValueError, match="for rule 'fixed' only; 'unpu' saves by itself"):
        OperandWidth("unpu", gates_narrow_operands=True)
