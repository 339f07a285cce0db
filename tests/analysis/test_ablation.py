"""The table of what each part of the recipe is worth."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.reports import ablation
from analysis.reports.ablation import Part, main, widths_of
from analysis.sources import load_graph
from quant.curves import LayerCurve, RDCurves, TensorCurve


@pytest.fixture(scope="module")
def curves() -> RDCurves:
    graph, rng = load_graph("digits"), np.random.default_rng(0)
    falling = 4.0 ** -np.arange(9)
    return RDCurves(
        "digits",
        tuple(
            LayerCurve(
                layer.name,
                rng.lognormal(0, 2, (layer.out_channels, 1)) * falling,
                layer.weights_per_channel,
            )
            for layer in graph.weighted
        ),
        tuple(
            TensorCurve(layer.name, np.where(falling < 1, falling, np.inf), layer.output.values)
            for layer in graph
        ),
    )


def test_parts_differ_in_what_their_names_say(curves):
    graph = load_graph("digits")
    found = {
        part.name: widths_of(part, curves, graph, 3.0).bits
        for part in (
            Part("whole"),
            Part("layers", widths="per layer"),
            Part("equal", widths="equal"),
            Part("three", choices=(2, 4, 8)),
            Part("narrow", activation_bits=4),
        )
    }
    widths = {
        name: [set(bits.weight(layer).tolist()) for layer in graph.weighted]
        for name, bits in found.items()
    }
    assert any(len(of_layer) > 1 for of_layer in widths["whole"])
    assert all(len(of_layer) == 1 for of_layer in widths["layers"])
    assert widths["equal"] == [{3}] * len(graph.weighted)
    assert set().union(*widths["three"]) <= {2, 4, 8}
    for name, bits in found.items():
        assert bits.average_weight_bits(graph) <= 3.0
        of_first = set(bits.activation("stem", 24).tolist())
        assert (8 in of_first) == (name != "narrow")


def test_the_report_has_a_row_for_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "CALIBRATION", 8)
    monkeypatch.setattr(ablation, "FITTING", 12)
    parts = (
        Part("a"),
        Part("equalised", equalised=True),
        Part("scaled", clips="per channel"),
        Part("squared", clips="squared", quantizers="steps"),
        Part("b", rounding="nearest"),
    )
    monkeypatch.setattr(ablation, "PARTS", parts)
    main(["digits", "--bits", "4", "--every", "50", "-o", str(tmp_path / "a.md")])
    lines = (tmp_path / "a.md").read_text().splitlines()
    names = ["float", *(part.name for part in parts)]
    assert [line.split(" | ")[0] for line in lines[-6:]] == [f"| {name}" for name in names]
    assert len({line.split(" | ")[5] for line in lines[-6:]}) == 6  # each measures another network
    assert any(line.startswith("10 evaluation images") for line in lines)
    cells = lines[-1].split(" | ")
    assert 0 <= float(cells[2]) <= 100
    assert float(cells[4]) > 0
    assert float(cells[5]) > 0
