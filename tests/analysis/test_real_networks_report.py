"""A table over runs holds what the runs hold."""

from __future__ import annotations

import pytest

from analysis.cli import main
from analysis.reports.real_networks import collect


def test_a_row_for_every_variant_and_an_error_for_what_is_no_run(tmp_path):
    run = tmp_path / "run"
    arguments = ["--rounding", "nearest", "--calibration", "16", "--probes", "1"]
    assert main(["run", "--on", "tpu_v1", "-o", str(run), *arguments]) == 0
    text = collect([run])
    assert "## digits" in text
    for variant in ("W8A8", "W3A8", "per layer, 3 bits", "per channel, 3 bits, fits tpu_v1"):
        assert text.count(f"| {variant} |") == 1
    assert "500 evaluation images; curves from 16 images x 1 probes, nearest rounding" in text
    with pytest.raises(ValueError, match="not a run of chipfit"):
        collect([tmp_path])
