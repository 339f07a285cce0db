"""chipfit pareto: the table, the folder, and the methods beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.budgets import least_widths
from analysis.cli import main
from analysis.options import bits_range
from analysis.pareto import choose_points, pareto_table
from analysis.sources import load_graph
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate
from quant.curves import RDCurves


@pytest.fixture(scope="module")
def curves_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pareto") / "digits.npz"
    options = ["--rounding", "nearest", "--calibration", "20", "--probes", "1"]
    assert main(["curves", "digits", "-o", str(path), *options]) == 0
    return path


@pytest.fixture(scope="module")
def folder(curves_file) -> Path:
    path = curves_file.parent / "out"
    arguments = ["pareto", str(curves_file), "--bits", "2..4:1", "-o", str(path)]
    assert main([*arguments, "--rounding", "nearest"]) == 0
    return path


def test_the_folder_holds_table_figure_allocations_and_manifest(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"pareto.csv", "pareto.json", "pareto.txt", "pareto.svg", "pareto.png",
            "report.html"} <= names  # fmt: skip
    assert "allocations/per_channel_3.json" in names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["options"]["bits"] == [2.0, 3.0, 4.0]
    assert set(manifest["outputs"]) == names - {"manifest.json"}


def test_rows_say_what_their_allocations_do(folder):
    table = pd.read_csv(folder / "pareto.csv")
    assert list(table["method"].value_counts()) == [3, 3, 3]
    graph, chip = load_graph("digits"), load_accelerator("tpu_v1")
    row = table[(table["method"] == "per channel") & (table["asked_bits"] == 3)].iloc[0]
    bits = BitWidths.load(folder / "allocations" / "per_channel_3.json")
    stats = simulate(graph, chip, bits)
    assert row["tpu_v1_cycles"] == stats.cycles
    assert row["tpu_v1_energy_pj"] == pytest.approx(stats.energy_pj)
    channels = sum(layer.out_channels for layer in graph.weighted)
    # 16-bit scale, 4-bit width code and 32-bit bias beside each channel
    assert row["size_bits"] == bits.weight_bits(graph) + 52 * channels
    assert row["top1"] > 0.9


def test_finer_granularity_predicts_less_distortion_at_no_more_bits(folder):
    table = pd.read_csv(folder / "pareto.csv").set_index(["asked_bits", "method"])
    for bits in (2.0, 3.0, 4.0):
        at = table.loc[bits]
        fine, coarse, equal = (at.loc[m] for m in ("per channel", "per layer", "equal widths"))
        assert fine["weight_bits"] <= bits
        assert fine["predicted_distortion"] <= coarse["predicted_distortion"]
        assert coarse["predicted_distortion"] <= equal["predicted_distortion"]


def test_without_images_there_is_no_accuracy(curves_file):
    curves = RDCurves.load(curves_file)
    graph = load_graph("digits")
    points = choose_points(curves, graph, {b: least_widths(b, 8) for b in (2.5, 3)}, 8)
    assert [p.method for p in points].count("equal widths") == 1  # none at 2.5 bits
    table = pareto_table(graph, points, [load_accelerator("tpu_v1")])
    assert "top1" not in table
    assert len(table) == 5


def test_json_goes_to_standard_output_alone(capsys, curves_file, tmp_path):
    out = str(tmp_path / "p")
    capsys.readouterr()
    assert main(["pareto", str(curves_file), "--bits", "3", "-o", out, "--json", "-",
                 "--rounding", "nearest"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 3
    assert captured.err == ""


def test_ranges_of_widths_are_read():
    assert bits_range("2..4") == [2, 3, 4]
    assert bits_range("2..3:0.5") == [2, 2.5, 3]
    assert bits_range("3.5") == [3.5]
