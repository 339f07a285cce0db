"""The chipfit command: what it prints and writes, and one line for every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.cli import main
from analysis.commands import SUMMARIES

HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "networkx", "numpy", "scipy", "tqdm")


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\nfrom analysis.cli import main\n"
        f"code = main({arguments!r})\n"
        f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("heavy: [] 0")


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_has_help(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"usage: chipfit {command}")


def test_simulate_writes_the_documented_json_and_nothing_else(capsys):
    code, out, err = run(
        capsys, "simulate", "digits", "--bits", "W4A8", "--batch", "2", "--json", "-"
    )
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert {
        "model", "accelerator", "batch", "bits", "frequency_hz", "cycles", "seconds", "macs",
        "dram_read_bits", "dram_write_bits", "energy_pj", "layers",
    } <= set(data)  # fmt: skip
    assert (data["model"], data["accelerator"], data["batch"]) == ("digits", "tpu_v1", 2)
    assert data["bits"] == "W4A8"
    for key in ("cycles", "macs", "dram_read_bits", "dram_write_bits"):
        assert data[key] == sum(layer[key] for layer in data["layers"])
    assert data["seconds"] == pytest.approx(data["cycles"] / data["frequency_hz"])
    assert {"name", "kind", "compute_cycles", "stall_cycles", "fits_on_chip"} <= set(
        data["layers"][0]
    )


def test_simulate_prints_a_table_and_totals(capsys):
    code, out, _ = run(capsys, "simulate", "digits", "--bits", "4")
    assert code == 0
    assert "classifier" in out
    assert "digits on tpu_v1, bits 4, batch 1:" in out.splitlines()[-1]


def test_curves_allocate_simulate_and_evaluate_share_their_files(capsys, tmp_path):
    curves, allocation = str(tmp_path / "c.npz"), str(tmp_path / "a.json")
    result = str(tmp_path / "r.json")
    assert run(capsys, "curves", "digits", "-o", curves, "--calibration", "20")[0] == 0
    code, out, _ = run(capsys, "allocate", curves, "--bits", "3", "-o", allocation)
    assert code == 0
    assert "bits a weight" in out
    widths = json.loads(Path(allocation).read_text())["bits"]["weights"]
    assert len({int(b) for w in widths.values() for b in np.ravel(w)}) > 2
    assert run(capsys, "simulate", "digits", "--bits", allocation, "--json", result)[0] == 0
    code, out, _ = run(capsys, "evaluate", "digits", "--bits", allocation, "--json", "-")
    assert code == 0
    data = json.loads(out)
    assert data["average_weight_bits"] <= 3
    assert data["quantized"]["images"] == 500
    assert data["quantized"]["agreement"] > 0.9
    # the same command, the same bytes
    again = str(tmp_path / "again.npz")
    assert run(capsys, "curves", "digits", "-o", again, "--calibration", "20")[0] == 0
    assert Path(again).read_bytes() == Path(curves).read_bytes()


def test_an_infeasible_budget_says_what_can_be_reached(capsys, tmp_path):
    code, _, err = run(capsys, "allocate", "digits", "--joint-bits", "1 kbit")
    assert code == 2
    # no weight, the narrowest activations, and 52 bits of metadata for each of 226 channels
    assert re.search(r"62,664 too many; 63,664 to [0-9,]+ bits", err)
    assert "can be reached" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulat", "digits"], "there is no command 'simulat'; did you mean simulate?"),
        (["simulate", "digits", "--bit", "4", "--onn", "x"], "unrecognized arguments"),
        (["simulate", "resnet_18"], "model 'resnet_18' is not known; did you mean"),
        (["simulate", "digits", "--on", "tpu"], "accelerator 'tpu' is not a preset"),
        (["simulate", "digits", "--bits", "W4"], "expected an integer such as 8, a pair such as"),
        (["simulate", "digits", "--bits", "40"], "widths must lie in 0..16"),
        (["simulate", "digits", "--batch", "0"], "expected a whole number of at least 1"),
        (["simulate", "digits", "--mapping", "alexnet_chip"], "takes no mappings"),
        (["simulate", "no.such:thing"], "cannot import"),
        (["simulate", "missing.pt2"], "missing.pt2"),
        (["curves", "resnet18", "-o", "c.npz"], "give --weights"),
        (
            ["curves", "digits", "-o", "c.npz", "--calibration", "5000"],
            "5000 for calibration and some",
        ),
        (["allocate", "missing.npz", "--bits", "3"], "missing.npz"),
        (["allocate", "digits"], "give a budget"),
        (["allocate", "digits", "--size", "4 MiBi"], "unknown unit"),
        (["evaluate", "digits", "--bits", "missing.json"], "missing.json"),
        (["evaluate", "resnet18", "--bits", "4", "--weights", "w.pth"], ".safetensors"),
        (["models", "resnet1"], "did you mean"),
        (["accelerators", "missing.toml"], "cannot read accelerator"),
        (["run", "digits", "--bits", "nan"], "expected a number"),
        (["run", "digits", "--on", "tpu_v1", "--on", "tpu_v1"], "same accelerator twice"),
        (["run", "resnet18", "--weights", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("chipfit: error: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_models_and_accelerators_are_listed(capsys):
    assert "resnet18" in run(capsys, "models")[1].splitlines()
    assert "classifier" in run(capsys, "models", "digits")[1]
    assert "tpu_v1" in run(capsys, "accelerators")[1]
    assert "array.rows = 256" in run(capsys, "accelerators", "tpu_v1")[1]
