"""chipfit verify: what a run left is checked, computed anew, and compared to the last digit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.cli import main
from analysis.verify import compare, default_tolerance

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 18, 18, 3, 3, 16, 32, 1,
FC, 1, 1, 1, 1, 64, 100, 1,
"""  # noqa: E501


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a network and a run of explore on it, by relative paths."""
    folder = tmp_path_factory.mktemp("Läufe mit Leerzeichen")
    (folder / "net.csv").write_text(TOPOLOGY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = ["explore", "net.csv", "--vary", "weight_dram.bandwidth=1GB/s,34GB/s", "-o", "a"]
        assert main(command) == 0
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A copy of the run, to spoil; its manifest still says where it ran."""
    return Path(shutil.copytree(made / "a", tmp_path / "a"))


def verify(capsys, *arguments: object) -> tuple[int, dict[str, object], str]:
    code = main(["verify", *map(str, arguments), "--json", "-"])
    out, errors = capsys.readouterr()
    return code, json.loads(out) if out else {}, errors


def test_a_run_is_the_same_when_computed_anew_from_anywhere(capsys, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, found, errors = verify(capsys, run)
    assert (code, errors, found["differences"]) == (0, "", [])
    assert found["same"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a"]  # and nothing else is left


def test_the_manifest_names_every_file(run):
    outputs = json.loads((run / "manifest.json").read_text())["outputs"]
    present = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert set(outputs) == present - {"manifest.json"}


def test_changed_missing_and_foreign_files_are_named(capsys, run):
    (run / "summary.txt").write_text("all is well")
    (run / "pareto.png").unlink()
    (run / "notes.txt").write_text("mine")
    code, found, errors = verify(capsys, run, "--fast")
    assert code == 2
    assert set(found["differences"]) == {
        "summary.txt: changed since the run",
        "pareto.png: missing",
        "notes.txt: not of this run",
    }
    assert "3 difference(s)" in errors
    assert errors.count("\n") == 1


def test_a_forged_table_with_a_forged_hash_is_found_by_computing_it(capsys, run):
    from analysis.manifest import file_sha256

    manifest = json.loads((run / "manifest.json").read_text())
    table = json.loads((run / "table.json").read_text())
    true, table[1]["cycles"] = table[1]["cycles"], 7
    (run / "table.json").write_text(json.dumps(table))
    manifest["outputs"]["table.json"] = file_sha256(run / "table.json")
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert verify(capsys, run, "--fast")[0] == 0
    code, found, _ = verify(capsys, run)
    assert code == 2
    assert found["differences"] == [f"table.json entry 2, cycles: 7 then, {true} now"]


def test_a_changed_input_is_named(capsys, made, run):
    network = made / "net.csv"
    network.write_text(TOPOLOGY.replace("100", "101"))
    try:
        code, found, _ = verify(capsys, run)
    finally:
        network.write_text(TOPOLOGY)
    assert code == 2
    assert found["differences"][0] == f"input {network} (net.csv): changed since the run"
    assert any(line.startswith("table.csv entry 1, cycles:") for line in found["differences"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ["chipfit", "simulate", "os:getcwd", "--plots", "x"]}, "give --run-code"),
        ({"command": ["chipfit", "speedup", "digits", "os:getcwd"]}, "give --run-code"),
        ({"command": ["chipfit", "models"]}, "leaves no folder"),
        ({"command": ["chipfit", "explode"]}, "does not know the command"),
        ({"command": []}, "not a manifest"),
        ({"command": "chipfit run"}, "not a manifest"),
        ({"schema": 2}, "not a manifest"),
        ({"inputs": {"x": "y"}}, "not a manifest"),
    ],
)
def test_a_manifest_that_asks_for_something_else_is_one_line(capsys, run, change, message):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, **change}))
    code, _, errors = verify(capsys, run)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_a_manifest_cannot_make_verify_write_or_vouch_for_what_is_outside(capsys, run, tmp_path):
    manifest = json.loads((run / "manifest.json").read_text())
    loot = tmp_path / "loot.json"
    manifest["command"] += ["--json", str(loot), "--ledger", str(tmp_path / "l")]
    manifest["outputs"]["../../etc/passwd"] = "0"
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, found, _ = verify(capsys, run)
    assert code == 2
    assert "../../etc/passwd: missing" in found["differences"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 10**5])
def test_a_broken_manifest_is_one_line(capsys, run, content):
    (run / "manifest.json").write_bytes(content)
    code, _, errors = verify(capsys, run)
    assert (code, errors.count("\n")) == (2, 1)
    shutil.rmtree(run)
    assert "not a run of chipfit" in verify(capsys, run)[2]


@given(
    value=st.floats(1e-3, 1e12) | st.integers(1, 10**15), share=st.floats(-3e-6, 3e-6),
)  # fmt: skip
def test_tables_differ_where_a_real_number_moves_by_more_than_the_tolerance(
    tmp_path_factory, value, share
):
    folder = tmp_path_factory.mktemp("t")
    other = value * (1 + share)
    for name, number in (("old", value), ("new", other)):
        (folder / f"{name}.csv").write_text(f"a,b\n{number!r},text\n")
    found = compare(folder / "old.csv", folder / "new.csv", "t.csv", 1e-6)
    whole = float(value).is_integer() and float(other).is_integer()
    moved = abs(other - value) > 1e-6 * max(value, other)
    assert bool(found) == (value != other and (whole or moved))


def test_only_commands_that_run_a_network_may_differ_at_all():
    assert default_tolerance({"command": ["chipfit", "explore", "digits"]}) == 0
    assert default_tolerance({"command": ["chipfit", "run"]}) == 1e-6
