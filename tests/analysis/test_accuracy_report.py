"""The accuracy report: rows of other networks stay, stages add up, widths are read as written."""

import argparse

import pytest

from analysis.reports import accuracy
from analysis.reports.accuracy import POINTS, Stages, known_rows, point

ROW = "| {} | W4A8 | 77.7 (78.1) | 0.4 | 93.1 | 0.039 | 90.2 | 95.5 | 1.0e-06 |"


def test_rows_of_networks_that_are_not_named_stay(tmp_path, monkeypatch):
    made = []

    def rows(name, weights, images, curves, points):
        made.append((name, tuple(points)))
        yield ROW.format(name), [f"| {name} | sweep | 30 | 2.1 |"]

    monkeypatch.setattr(accuracy, "rows", rows)
    file = tmp_path / "accuracy.md"
    always = ["--weights", str(tmp_path), "--images", str(tmp_path), "-o", str(file)]
    for name in ("alpha", "beta", "alpha"):
        monkeypatch.setattr("sys.argv", ["accuracy", name, *always])
        accuracy.main()
    table, stages = known_rows(file)
    assert table == {"alpha": [ROW.format("alpha")], "beta": [ROW.format("beta")]}
    assert stages == {n: [f"| {n} | sweep | 30 | 2.1 |"] for n in ("alpha", "beta")}
    assert file.read_text().startswith("# Accuracy at average widths")
    monkeypatch.setattr("sys.argv", ["accuracy", "beta", *always, "--points", "W3A8", "W4A4"])
    accuracy.main()
    assert made[-1] == ("beta", ((3, 8), (4, 4)))
    assert made[0] == ("alpha", POINTS)


def test_rows_of_points_that_are_not_named_stay(tmp_path, monkeypatch):
    accuracies = iter((77.7, 71.2, 60.3, 72.0))

    def rows(name, weights, images, curves, points):
        for weight_bits, activation_bits in points:
            label = f"W{weight_bits}A{activation_bits}"
            row = ROW.replace("W4A8", label).replace("77.7", str(next(accuracies)))
            yield row.format(name), [f"| {name} | {label}: rounding | 30 | 2.1 |"]

    monkeypatch.setattr(accuracy, "rows", rows)
    file = tmp_path / "accuracy.md"
    always = ["--weights", str(tmp_path), "--images", str(tmp_path), "-o", str(file)]
    for points in (["W4A8", "W3A8"], ["W4A4"], ["W3A8"]):
        monkeypatch.setattr("sys.argv", ["accuracy", "net", *always, "--points", *points])
        accuracy.main()
    table, stages = known_rows(file)
    found = [row.split(" | ")[1:3] for row in table["net"]]
    assert found == [
        ["W4A8", "77.7 (78.1)"],
        ["W3A8", "72.0 (78.1)"],
        ["W4A4", "60.3 (78.1)"],
    ]
    assert [row.split(" | ")[1][:4] for row in stages["net"]] == ["W4A8", "W3A8", "W4A4"]


def test_stages_add_up_what_has_passed(monkeypatch):
    clock = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr(accuracy.time, "process_time", lambda: next(clock))
    stages = Stages()
    stages("calibrate", 1, 2)
    stages("calibrate", 2, 2)
    stages("refine", 1, 9)  # belongs to a stage that is ended by name
    stages.end("W4A8: rounding")
    assert stages.seconds == {"calibration": 3.0, "W4A8: rounding": 4.0}
    lines = stages.rows("net")
    assert lines[0].startswith("| net | calibration | 3 |")
    assert lines[1].startswith("| net | W4A8: rounding | 4 |")


def test_points_are_read_as_they_are_written():
    assert point("W4A8") == (4, 8)
    with pytest.raises(argparse.ArgumentTypeError, match="such as W4A8, got 'W9A8'"):
        point("W9A8")
