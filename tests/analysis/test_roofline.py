"""The roofline: what layers attain lies under what array and DRAM allow."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.roofline import NETWORK, channel_bits, roofline_figure, roofline_table
from analysis.sources import load_graph
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate

CHIPS = ("tpu_v1", "eyeriss_v1", "scalesim_google", "scalesim_eyeriss")


def table_of(chip: str, model: str = "mobilenet_v2"):
    graph, accelerator = load_graph(model), load_accelerator(chip)
    stats = {f"W{b}A8": simulate(graph, accelerator, BitWidths(b, 8)) for b in (8, 3)}
    return roofline_table(stats, accelerator), stats, accelerator


@pytest.mark.parametrize("chip", CHIPS)
def test_no_layer_exceeds_the_peak_and_no_network_the_roof(chip):
    table, _, _ = table_of(chip)
    assert (table["attained_gmac"] <= table["peak_gmac"] * (1 + 1e-12)).all()
    whole = table[table["name"] == NETWORK]
    assert (whole["attained_gmac"] <= whole["roof_gmac"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("chip", CHIPS)
def test_channels_carry_all_the_traffic_of_every_layer(chip):
    _, simulations, accelerator = table_of(chip)
    for stats in simulations.values():
        for layer in stats.layers:
            parts = [channel_bits(layer, dram, accelerator) for dram in accelerator.dram]
            assert sum(parts) == layer.dram_bits


def test_the_ridge_of_the_tpu_is_the_published_one():
    table, simulations, _ = table_of("tpu_v1", "digits")
    row = table[table["dram"] == "weight_dram"].iloc[0]
    # Jouppi et al., ISCA 2017, Sec. 4: about 1350 MACs a byte of weight memory
    assert row["peak_gmac"] / row["bandwidth_gb"] == pytest.approx(1350, rel=0.001)
    assert row["peak_gmac"] == pytest.approx(256 * 256 * 0.7)
    stats = simulations["W8A8"]
    whole = table[(table["name"] == NETWORK) & (table["variant"] == "W8A8")].iloc[0]
    assert whole["attained_gmac"] == pytest.approx(stats.macs / stats.seconds / 1e9)
    assert whole["macs_per_byte"] == pytest.approx(stats.macs / (whole["dram_bits"] / 8))


def test_narrower_weights_move_every_layer_to_the_right():
    table, _, _ = table_of("tpu_v1")
    rows = table[(table["dram"] == "weight_dram") & np.isfinite(table["macs_per_byte"])]
    wide, narrow = (
        rows[rows["variant"] == v].set_index("name")["macs_per_byte"] for v in ("W8A8", "W3A8")
    )
    assert (narrow > wide).all()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_table_draws_the_same_bytes(kind):
    table, _, _ = table_of("tpu_v1", "digits")
    drawn = roofline_figure(table, kind)
    assert drawn == roofline_figure(table.copy(), kind)
    other = table.assign(attained_gmac=table["attained_gmac"] / 2)
    assert drawn != roofline_figure(other, kind)
