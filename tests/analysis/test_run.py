"""The main job on the embedded network: the folder it leaves, and what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.cli import main
from analysis.run import write_folder
from hwsim.bits import BitWidths
from quant.allocation.allocation import Allocation

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def printed_run(tmp_path_factory):
    target = tmp_path_factory.mktemp("runs") / "with space é"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["run", "-o", str(target)]) == 0
    return target, printed.getvalue()


@pytest.fixture(scope="module")
def folder(printed_run):
    return printed_run[0]


def test_the_readme_shows_what_make_demo_prints(printed_run):
    folder, printed = printed_run
    shown = README.read_text().split("<!-- demo -->\n```\n")[1].split("```\n<!-- /demo -->")[0]
    printed = printed.replace(str(folder), "runs/digits")
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "#", shown).split() == re.sub(number, "#", printed).split()
    # processors differ in the last bits of a sum, which the third digit may show
    wanted, got = ([float(n) for n in re.findall(number, text)] for text in (shown, printed))
    assert got == pytest.approx(wanted, rel=0.05)


def test_the_folder_is_complete_and_the_manifest_vouches_for_it(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"][:2] == ["chipfit", "run"]
    assert manifest["options"]["seed"] == 0
    assert {"python", "torch", "chipfit"} <= set(manifest["versions"])
    for name in ("allocation.json", "layers.csv", "figures/speedup.svg", "curves.npz"):
        assert name in manifest["outputs"]
    for name, digest in manifest["outputs"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert on_disk == {*manifest["outputs"], "report.html", "manifest.json"}


def test_the_allocation_keeps_its_budget_and_states_its_gap(folder):
    allocation = Allocation.load(folder / "allocation.json")
    assert allocation.average_weight_bits <= 3
    assert 0 <= allocation.relative_gap < 0.01
    assert (
        BitWidths.load(folder / "allocation.json").weights.keys() == allocation.bits.weights.keys()
    )


def test_tables_agree_with_each_other(folder):
    layers, summary = pd.read_csv(folder / "layers.csv"), pd.read_csv(folder / "summary.csv")
    for row in summary.to_dict("records"):
        rows = layers[(layers["variant"] == row["variant"]) & (layers["accelerator"] == "tpu_v1")]
        assert rows["cycles"].sum() == row["tpu_v1_cycles"]
    assert summary["variant"][0] == "W8A8"
    assert summary["tpu_v1_speedup"][0] == 1
    channel = summary[summary["variant"] == "per channel, 3 bits"].iloc[0]
    equal = summary[summary["variant"] == "W3A8"].iloc[0]
    assert channel["measured_distortion"] < equal["measured_distortion"]
    assert channel["top1"] >= 0.97


def test_the_report_needs_nothing_from_outside(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<img") == len(list((folder / "figures").glob("*.svg")))
    assert not re.search(r"(src|href)='(?!data:)", page)
    assert "url(" not in page
    assert "@import" not in page


def test_the_same_command_gives_the_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    assert main(["run", "-o", str(again)]) == 0
    first, second = (json.loads((f / "manifest.json").read_text()) for f in (folder, again))
    pages = [manifest["outputs"].pop("report.html") for manifest in (first, second)]
    assert all(pages)  # the page alone tells the date, the seconds and the folder
    assert first["outputs"] == second["outputs"]


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["run", "-o", str(tmp_path)]) == 2
    assert "not empty and not an earlier run" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_earlier_run_is_replaced_whole(tmp_path):
    target = tmp_path / "run"
    write_folder(target, {"manifest.json": b"{}", "old.txt": b"old"})
    write_folder(target, {"manifest.json": b"{}", "deep/new.txt": b"new"})
    assert not (target / "old.txt").exists()
    assert (target / "deep" / "new.txt").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
