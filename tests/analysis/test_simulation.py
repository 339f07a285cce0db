"""`chipfit simulate --plots` and the report of several simulations: files whole or untouched."""

from __future__ import annotations

import csv
import json
import re

import pytest

from analysis.cli import main
from analysis.reports.memory_and_energy import main as report_main
from analysis.sources import load_graph
from hwsim import BitWidths, load_accelerator, simulate

NAMES = {
    "layers.csv", "memory.csv", "roofline.csv", "manifest.json",
    *(f"{name}.{kind}" for name in ("cycles", "energy", "memory", "roofline")
      for kind in ("svg", "png")),
}  # fmt: skip


@pytest.mark.parametrize("chip", ["tpu_v1", "eyeriss_v1"])
def test_simulate_leaves_figures_and_tables_in_a_folder(chip, tmp_path, capsys):
    folder = tmp_path / "made" / "plots"
    arguments = ["simulate", "digits", "--on", chip, "--bits", "W4A8", "--plots", str(folder)]
    assert main(arguments) == 0
    assert str(folder) in capsys.readouterr().out.splitlines()[-1]
    assert {path.name for path in folder.iterdir()} == NAMES
    stats = simulate(load_graph("digits"), load_accelerator(chip), BitWidths(4, 8))
    layers = list(csv.DictReader((folder / "layers.csv").read_text().splitlines()))
    assert [row["name"] for row in layers] == [layer.name for layer in stats.layers]
    assert sum(int(row["cycles"]) for row in layers) == stats.cycles
    for row in csv.DictReader((folder / "memory.csv").read_text().splitlines()):
        found = next(layer for layer in stats.layers if layer.name == row["layer"])
        assert int(row["required_bits"]) == found.required_bits[row["memory"]]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"] == ["chipfit", *arguments]
    assert set(manifest["outputs"]) == NAMES - {"manifest.json"}
    if chip == "eyeriss_v1":
        return
    # the same command, the same bytes, over the folder of the first
    before = {name: (folder / name).read_bytes() for name in NAMES - {"manifest.json"}}
    assert main(arguments) == 0
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_a_folder_of_others_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["simulate", "no_such_model", "--plots", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not empty and not an earlier run" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_allocation_is_named_in_the_manifest_with_its_hash(tmp_path):
    widths = tmp_path / "narrow.json"
    BitWidths(3, 8).save(widths)
    assert main(["simulate", "digits", "--bits", str(widths), "--plots", str(tmp_path / "p")]) == 0
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert list(manifest["inputs"]) == [str(widths)]


def test_json_to_standard_output_stays_alone_beside_plots(tmp_path, capsys):
    assert main(["simulate", "digits", "--plots", str(tmp_path / "p"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "digits"


def test_the_report_of_several_simulations_says_what_they_are(tmp_path):
    widths = tmp_path / "narrow.json"
    BitWidths(3, 8).save(widths)
    target = tmp_path / "report.md"
    report_main(["digits", "--bits", "W8A8", f"narrow={widths}", "-o", str(target)])
    text = target.read_text()
    assert str(tmp_path) not in text
    graph = load_graph("digits")
    for chip in ("tpu_v1", "eyeriss_v1"):
        for label, bits in (("W8A8", BitWidths(8, 8)), ("narrow", BitWidths(3, 8))):
            stats = simulate(graph, load_accelerator(chip), bits)
            row = f"| {chip} | {label} | {bits.weights:.2f} | {stats.cycles:,} | "
            assert row in text
            for name, capacity in stats.layers[0].available_bits.items():
                most = max(layer.required_bits[name] for layer in stats.layers) / 8192
                start = f"| {chip} | {name} | {capacity / 8192:,.0f} | {label} | {most:,.1f} | "
                assert start in text
    figures = re.findall(r"\]\((.+?)\)", text)
    assert len(figures) == 9
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in figures)


def test_a_preset_is_printed_as_a_file_that_works_again(tmp_path, capsys):
    assert main(["accelerators", "tpu_v1", "--toml"]) == 0
    own = tmp_path / "own.toml"
    own.write_text(capsys.readouterr().out.replace('name = "tpu_v1"', 'name = "own"'))
    assert main(["simulate", "digits", "--on", str(own)]) == 0
    assert "digits on own, bits 8" in capsys.readouterr().out
    assert main(["accelerators", "--fields"]) == 0
    assert "keeps_weights: the weights of the whole network" in capsys.readouterr().out
    for wrong in (["--toml"], ["tpu_v1", "--fields"], ["--fields", "--toml"]):
        assert main(["accelerators", *wrong]) == 2
        assert capsys.readouterr().err.startswith("chipfit: error: accelerators: --")
