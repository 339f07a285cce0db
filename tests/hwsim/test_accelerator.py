"""Accelerator files: presets load, quantities are exact, all problems come together."""

from __future__ import annotations

from fractions import Fraction
from importlib import resources

import pytest

from hwsim.accelerator import load_accelerator, parse_accelerator, preset_names
from hwsim.schema import parse_quantity

TEXT = (resources.files("hwsim") / "accelerators" / "tpu_v1.toml").read_text()


def problems(*changes: tuple[str, str]) -> str:
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    with pytest.raises(ValueError) as caught:
        parse_accelerator(text.encode(), "mine.toml")
    return str(caught.value)


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_bear_their_own_name(name):
    accelerator = load_accelerator(name)
    assert accelerator.name == name
    assert accelerator.source


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("256 KiB", "bit", 256 * 1024 * 8),
        ("256 kB", "bit", 256 * 1000 * 8),
        ("34 GB/s", "bit/s", 34 * 10**9 * 8),
        ("0.7 GHz", "Hz", 7 * 10**8),
        ("1.3nJ", "pJ", 1300),
        ("2 pJ/B", "pJ/bit", Fraction(1, 4)),
    ],
)
def test_quantities_are_exact(text, dimension, value):
    assert parse_quantity(text, dimension) == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rows = 256", 'rows = "256"'), "array.rows: expected an integer, got '256'"),
        (("rows = 256", "rows = true"), "array.rows: expected an integer, got True"),
        (("rows = 256", "rows = 256.0"), "array.rows: expected an integer, got 256.0"),
        (("rows = 256", "rows = 0"), "array: rows must be at least 1, got 0"),
        (("rows = 256", "row = 256"), "array.row: unknown key; did you mean 'rows'?"),
        (('"700 MHz"', '"700 Mhz"'), "clock: unknown unit 'Mhz' in '700 Mhz'; did you mean 'MHz'?"),
        (('"700 MHz"', "700"), 'clock: expected a quantity in quotes, such as "700 MHz", got 700'),
        (('"700 MHz"', '"nan MHz"'), "clock: expected a quantity in quotes"),
        (('"64 B"', '"0.5 bit"'), "dram[0].burst: expected a whole number of bit, got '0.5 bit'"),
        (('"pipelined"', '"fast"'), "array.schedule: expected one of pipelined, serial"),
        (('carries = ["weights"]', 'carries = ["activations"]'), "one DRAM channel must carry"),
        (('"accumulators"', '"unified_buffer"'), "two memories or DRAM channels are called"),
        (("schema = 1", "schema = 2"), "schema: expected schema = 1"),
        (('kind = "systolic"', 'kind = "spatial"'), "kind: expected one of systolic"),
        (('kind = "systolic"', 'kind = ["systolic"]'), "kind: expected one of systolic"),
        (("schema = 1", "schema = true"), "schema: expected schema = 1"),
        (('name = "tpu_v1"', 'name = " "'), "need a name"),
        (('"weight_fifo"', '""'), "need a name"),
        (('"weight_fifo"', '"vector"'), "can be called 'vector'"),
        (("[vector]", "[vectors]"), "vectors: unknown key; did you mean 'vector'?"),
        (("[vector]", "[vector"), "not a TOML file"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_was_expected(change, said):
    message = problems(change)
    assert message.startswith("mine.toml: ")
    assert said in message


def test_all_problems_of_a_file_are_reported_together():
    message = problems(("rows = 256", "rows = -1.5"), ('"700 MHz"', "700"), ("scale =", "scal ="))
    assert message.startswith("mine.toml: 4 problems:")
    for path in ("array.rows", "clock", "metadata.scal:", "metadata.scale: missing"):
        assert path in message


def test_an_unknown_preset_names_the_nearest_and_a_missing_file_its_path(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'tpu_v2' is not a preset; did you mean 'tpu_v1'"):
        load_accelerator("tpu_v2")
    with pytest.raises(ValueError, match=r"nowhere.toml: cannot read accelerator"):
        load_accelerator(tmp_path / "nowhere.toml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text("")
    with pytest.raises(ValueError, match=r"'small' is not a preset; did you mean 'small\.toml'"):
        load_accelerator("small")


def test_a_users_own_file_works_where_a_preset_does(tmp_path):
    own = tmp_path / "räume und ecken.toml"
    own.write_text(TEXT.replace('name = "tpu_v1"', 'name = "mine"'), encoding="utf-8")
    assert load_accelerator(own).name == "mine"
