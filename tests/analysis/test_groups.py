"""--group and curves that come along: in pareto, run and allocate alike."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.cli import main
from analysis.study import Request, choose_allocations
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from quant.compact import load_shipped
from quant.granularity import group_size


class Shipped:
    """What `choose_allocations` asks of a network."""

    def __init__(self) -> None:
        from analysis.sources import load_graph

        self.graph = load_graph("mobilenet_v2")


@pytest.fixture(scope="module")
def mobilenet() -> Shipped:
    return Shipped()


def in_groups(bits: BitWidths, group: int) -> bool:
    assert not isinstance(bits.weights, int)
    rows = [w.reshape(-1, group_size(len(w), group)) for w in bits.weights.values()]
    return all((row == row[:, :1]).all() for row in rows)


def test_pareto_needs_no_weights_where_curves_come_along(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["pareto", "mobilenet_v2", "--bits", "4", "--group", "8", "--on", "tpu_v1"]
    assert main([*arguments, "-o", str(out), "--json", "-"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["per channel", "per group of 8", "per layer", "equal widths"]
    predicted = [row["predicted_distortion"] for row in rows.values()]
    assert predicted == sorted(predicted)
    assert "top1" not in rows["per channel"]
    assert all(row["tpu_v1_cycles"] > 0 and row["tpu_v1_energy_pj"] > 0 for row in rows.values())
    assert in_groups(BitWidths.load(out / "allocations" / "per_group_of_8_4.json"), 8)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["options"]["group"], manifest["options"]["evaluated"]) == (8, False)


def test_a_run_in_groups_fits_in_groups(mobilenet):
    chips = (load_accelerator("tpu_v1"), load_accelerator("eyeriss_v1"))
    request = Request(4, 8, chips, 1, {"weights": 3, "activations": 4}, group=16)
    chosen, _ = choose_allocations(mobilenet, load_shipped("mobilenet_v2"), request)
    names = [name for name, _ in chosen]
    assert names[-4:] == [f"per group of 16, 4 bits{fits}" for fits in
                          ("", ", fits tpu_v1", ", fits eyeriss_v1", ", fits all")]  # fmt: skip
    assert "per channel, 4 bits" in names
    for name, allocation in chosen:
        assert in_groups(allocation.bits, 16) == (name != "per channel, 4 bits")


def test_a_group_meets_a_target_too(tmp_path):
    out = tmp_path / "a.json"
    target = ["--on", "tpu_v1", "--latency", "0.34ms", "--min-bits", "2"]
    arguments = ["allocate", "mobilenet_v2", "--group", "16", *target]
    assert main([*arguments, "-o", str(out), "--json", str(tmp_path / "s.json")]) == 0
    met = json.loads((tmp_path / "s.json").read_text())["targets"][0]
    assert met["binds"]
    assert met["simulated"] <= 0.34e-3
    bits = BitWidths.load(out)
    assert in_groups(bits, 16)
    assert not isinstance(bits.weights, int)
    assert len(np.unique(np.concatenate(list(bits.weights.values())))) > 2


def test_the_same_chip_under_two_names_is_refused(tmp_path, capsys):
    from hwsim.accelerator import read_description

    own = tmp_path / "own.toml"
    own.write_bytes(read_description("tpu_v1")[0])
    for command in (["pareto"], ["speedup"], ["explore", "--vary", "clock=1GHz,2GHz"]):
        chips = ["--on", "tpu_v1", "--on", str(own)]
        assert main([command[0], "mobilenet_v2", *command[1:], *chips]) == 2
        assert f"{command[0]}: the same accelerator twice in --on" in capsys.readouterr().err


def test_groups_and_layers_exclude_each_other(capsys):
    assert main(["allocate", "mobilenet_v2", "--bits", "4", "--group", "4", "--per-layer"]) == 2
    assert "not allowed with" in capsys.readouterr().err
