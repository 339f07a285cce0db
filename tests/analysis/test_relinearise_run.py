"""Re-linearisation from the command line and as a row of the ablation."""

from __future__ import annotations

import json

import pytest

from analysis.cli import main
from analysis.reports import ablation
from analysis.reports.ablation import Part
from quant.allocation.allocation import Allocation
from quant.curves import RDCurves


def test_a_run_that_prices_again_says_so_and_keeps_curves_that_predict_what_was_measured(
    tmp_path, capsys
):
    folder = tmp_path / "again"
    command = ["run", "--bits", "2", "--relinearise", "1", "--probes", "1"]
    command += ["--rounding", "feedback", "--rounding-images", "24", "--calibration", "12"]
    assert main([*command, "--on", "tpu_v1", "-o", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "re-linearised: predicted / measured" in printed
    record = RDCurves.load(folder / "curves.npz").method["relinearised"]
    assert len(record["rounds"]) == 2
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["options"]["relinearise"] == 1
    kept = Allocation.load(folder / "allocations" / "per_channel_2_bits.json")
    measured = record["rounds"][record["best"]]["measured"]
    assert kept.predicted_distortion == pytest.approx(measured, rel=1e-6)
    assert measured == min(r["measured"] for r in record["rounds"])


def test_the_ablation_prices_again_where_a_part_asks_for_it(tmp_path, monkeypatch):
    parts = (
        Part("once", rounding="nearest"),
        Part("again", rounding="nearest", relinearise=1),
    )
    monkeypatch.setattr(ablation, "PARTS", parts)
    monkeypatch.setattr(ablation, "CALIBRATION", 24)
    monkeypatch.setattr(ablation, "FITTING", 32)
    target = tmp_path / "a.md"
    ablation.main(["digits", "--bits", "2", "--every", "5", "-o", str(target)])
    rows = {
        cells[1].strip(): [float(cells[5]), float(cells[6])]
        for cells in (line.split("|") for line in target.read_text().splitlines())
        if len(cells) > 6 and cells[1].strip() in ("once", "again")
    }
    missed = {name: abs(predicted / measured - 1) for name, (predicted, measured) in rows.items()}
    assert missed["again"] < missed["once"]
