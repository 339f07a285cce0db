"""The committed tables are what a fresh run of a small part of them gives."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.reports import eyeriss_validation, torchvision_models, width_rules
from analysis.reports.eyeriss_validation import ALEXNET_CHIP
from analysis.reports.measured_accuracy import measured
from analysis.sources import load_graph
from analysis.speedup import SpeedupRow, speedup_table, to_frame
from analysis.speedup_widths import Request
from hwsim.accelerator import load_accelerator
from hwsim.frontends.paper_networks import alexnet_paper
from hwsim.row_stationary import load_mappings
from quant.compact import load_shipped, shipped

REPORTS = Path(__file__).parents[2] / "reports"
COUNTS = [name for name, kind in SpeedupRow.__annotations__.items() if kind == "int"]


def committed(**where: object) -> pd.DataFrame:
    table = pd.read_csv(REPORTS / "speedup.csv")
    for column, value in where.items():
        table = table[table[column] == value]
    return table.reset_index(drop=True)


@pytest.mark.parametrize(
    ("model", "chip", "batch"), [("mobilenet_v2", "tpu_v1", 1), ("resnet50", "tpu_v1", 16)]
)
def test_speedups_are_those_of_a_fresh_run(model, chip, batch):
    curves = {model: load_shipped(model)} if model in shipped() else {}
    averages = (4.0, 3.0, 2.0) if curves else ()
    request = Request((batch,), ("4", "2"), averages=averages, fit=bool(curves))
    rows = speedup_table({model: load_graph(model)}, [load_accelerator(chip)], request, curves)
    fresh = to_frame(rows).set_index("widths")
    kept = committed(model=model, accelerator=chip, batch=batch, baseline="W8A8")
    kept = kept.set_index("widths").loc[fresh.index]
    for column in COUNTS:
        assert kept[column].tolist() == fresh[column].tolist()
    for column in ("speedup", "ceiling", "energy_ratio", "dram_ratio", "weight_bits"):
        assert kept[column].tolist() == pytest.approx(fresh[column].tolist(), rel=1e-9)


def test_the_page_says_what_its_table_says():
    text = (REPORTS / "speedup.md").read_text()
    for row in committed(accelerator="tpu_v1", baseline="W8A8").itertuples():
        if row.widths != "W8A8":
            cell = f"**{row.speedup:.2f}** / {row.energy_ratio:.2f} / {row.dram_ratio:.2f}"
            assert cell in text.split("### tpu_v1, over W8A8")[1].split("###")[0]


def lines_of(report: str) -> list[str]:
    return (REPORTS / report).read_text(encoding="utf-8").splitlines()


def test_the_validation_of_eyeriss_is_that_of_a_fresh_run():
    mappings = load_mappings("alexnet_chip")
    stats = eyeriss_validation.chip_run(alexnet_paper(), ALEXNET_CHIP, 4, mappings)
    fresh = eyeriss_validation.comparison(stats, ALEXNET_CHIP).splitlines()
    assert len(fresh) > len(ALEXNET_CHIP)
    assert set(fresh) <= set(lines_of("eyeriss_validation.md"))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_table_of_torchvision_models_is_that_of_a_fresh_run(name):
    row = torchvision_models.model_row(name)
    fresh = torchvision_models.models_table([row], "", "").splitlines()[-1]
    assert fresh.startswith(f"| {name} | 224 |")
    assert fresh in lines_of("torchvision_models.md")


def test_width_rules_are_those_of_a_fresh_run():
    graph, chip = load_graph("mobilenet_v2"), load_accelerator("tpu_v1")
    rows = width_rules.study(graph, width_rules.mixed_widths(graph, width_rules.SEED), chip, [1])
    fresh = [line for line in width_rules.report(rows, chip, "").splitlines() if "mobil" in line]
    assert len(fresh) == len(width_rules.RULES)
    assert set(fresh) <= set(lines_of("width_rules.md"))


def test_measured_accuracies_are_read_from_the_reports_that_state_them(tmp_path):
    (tmp_path / "accuracy.md").write_text(
        "# A\n\n| network | bits | top-1 % (float) | agree % |\n| --- | --- | --- | ---: |\n"
        "| net | W4A8 | 70.1 (71.5) | 93.0 |\n| net | W4A4 | 60.1 (71.5) | 80.0 |\n"
    )
    (tmp_path / "real_networks.md").write_text(
        "## net\n\n| variant | top-1 % | agree % |\n|---|---|---|\n| W8A8 | 71.0 | 99 |\n"
        "| per channel, 4 bits | 1.0 | 1 |\n| per channel, 4 bits, fits tpu_v1 | 69.0 | 92 |\n"
    )
    found = {
        (m.widths, m.accelerator): (m.top1, m.float_top1, m.report) for m in measured(tmp_path)
    }
    assert found == {
        ("average 4", ""): (70.1, 71.5, "accuracy.md"),
        ("W8A8", ""): (71.0, None, "real_networks.md"),
        ("average 4, fits", "tpu_v1"): (69.0, None, "real_networks.md"),
    }
