"""`chipfit export`, and tables of widths wherever a command takes them."""

from __future__ import annotations

import json

import pytest

from analysis.cli import main
from analysis.commands.export import NETWORKS
from analysis.sources import load_graph
from quant.export.formats import FORMATS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table that `allocate` wrote."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    assert main(["allocate", "digits", "--bits", "3", "-o", str(path)]) == 0
    return path


def _fast(*words):
    return [*words, "--rounding", "nearest", "--choose", "energy", "--calibration", "32"]


def test_a_table_that_allocate_wrote_holds_for_simulate_and_export(table, tmp_path, capsys):
    assert table.read_text().startswith("layer,channel,bits,activation_bits\n")
    assert main(["simulate", "digits", "--bits", str(table), "--json", "-"]) == 0
    cycles = json.loads(capsys.readouterr().out)["cycles"]
    assert cycles > 0
    out = tmp_path / "network.onnx"
    command = _fast("export", "digits", "--format", "packed-onnx", "--bits", str(table))
    assert main([*command, "-o", str(out), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file_bytes"] == out.stat().st_size
    assert said["check"]["agreement"] == 1.0
    assert said["check"]["images"] == 8


def test_a_packed_file_is_exported_as_it_is(tmp_path, capsys):
    packed, out = tmp_path / "packed.safetensors", tmp_path / "native.safetensors"
    assert main(_fast("pack", "digits", "--bits", "W4A8", "-o", str(packed))) == 0
    command = ["export", "digits", "--packed", str(packed), "--format", "native", "-o", str(out)]
    assert main([*command, "--check", "4", "--json", "-"]) == 0
    text = capsys.readouterr().out
    said = json.loads(text[text.index("{") :])
    assert said["check"]["max_difference"] == 0.0
    assert said["check"]["images"] == 4


@pytest.mark.parametrize("format", ["scalesim", "timeloop"])
def test_workloads_of_several_files_go_to_a_folder(tmp_path, capsys, format):
    folder = tmp_path / "out"
    assert main(["export", "digits", "--format", format, "-o", str(folder)]) == 0
    suffixes = {path.suffix for path in folder.iterdir()}
    assert suffixes == ({".csv", ".cfg"} if format == "scalesim" else {".yaml"})
    assert "left out, work of the vector unit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "qdq"], "--bits or --packed"),
        (["--format", "qdq", "--bits", "nowhere.csv"], "nowhere.csv: cannot read"),
        (["--format", "qdq", "--bits", "4", "--on", "tpu_v1"], "--on is for --format scalesim"),
        (["--format", "scalesim", "--bits", "4"], "no bit widths"),
        (["--format", "scalesim", "--on", "eyeriss_v1"], "systolic arrays only"),
        (["--format", "zigzag", "--packed", "x"], "give --bits"),
        (["--format", "onnx"], "invalid choice"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, words, said):
    assert main(["export", "digits", *words, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_network_is_refused_by_the_layer(table, capsys):
    assert main(["simulate", "resnet18", "--bits", str(table)]) == 2
    assert "'stem', which network 'resnet18' does not have" in capsys.readouterr().err


def test_the_command_knows_the_formats_that_there_are():
    assert set(NETWORKS) == set(FORMATS)


def test_others_decisions_are_judged_in_accuracy(tmp_path, capsys):
    first_and_last = {"stem": 8, "classifier": 8}
    layers = [layer.name for layer in load_graph("digits").weighted]
    rows = [f"{name},{first_and_last.get(name, 4)}" for name in layers]
    path = tmp_path / "others.csv"
    path.write_text("layer,bits\n" + "\n".join(rows) + "\n")
    assert main([*_fast("evaluate", "digits", "--bits", str(path)), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 4 < said["average_weight_bits"] < 5
    assert said["quantized"]["top1"] > 0.9
