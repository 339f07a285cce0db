"""Files that describe: accelerators, mappings, topologies, widths, earlier runs."""

from __future__ import annotations

import json
import os
from importlib import resources

import pytest

from hwsim.frontends.topology_csv import CONV_HEADER

TPU = (resources.files("hwsim") / "accelerators" / "tpu_v1.toml").read_text()
DEEP = "[" * 5000
ENDLESS = "9" * 5000


def tpu(old: str, new: str) -> str:
    """The preset with its first `old` exchanged."""
    assert old in TPU
    return TPU.replace(old, new, 1)


def conv(row: str) -> str:
    return f"{CONV_HEADER}\n{row}\n"


def gemm(row: str) -> str:
    return f"Layer,M,N,K,\n{row}\n"


def mapping(values: str) -> str:
    return f"schema = 1\n[layers]\nconv1 = {values}\n"


def run(**changes: object) -> str:
    made = {
        "schema": 1, "command": ["chipfit", "simulate", "digits"], "directory": ".",
        "inputs": {}, "outputs": {}, **changes,
    }  # fmt: skip
    return json.dumps(made)


ALL = "{ m = 1, n = 1, e = 1, p = 1, q = 1, r = 1, t = 1 }"
Cases = list[tuple[str, str | bytes, str]]  # (what is wrong, content of the file, said)

# kind: (file that holds the content, command, cases)
KINDS: dict[str, tuple[str, list[str], Cases]] = {
    "accelerator": ("chip.toml", ["accelerators", "chip.toml"], [
        ("empty", "", "problems: schema: expected schema = 1"),
        ("not UTF-8", b"\xff\xfe", "chip.toml: not a TOML file: 'utf-8' codec"),
        ("a zip", b"PK\x03\x04" + bytes(64), "not a TOML file"),
        ("cut", TPU[: len(TPU) // 2], "chip.toml: "),
        ("JSON", '{"schema": 1}', "not a TOML file"),
        ("too large", "#" * (2**20 + 1), "more than 1,048,576 bytes are no accelerator"),
        ("nested deeply", tpu("rows = 256", f"rows = {DEEP}"),
         "not a TOML file: maximum recursion"),
        ("nested by dots", tpu("rows = 256", f"rows{'.a' * 4000} = 1"), "array.rows: expected an"),
        ("endless number", tpu("rows = 256", f"rows = {ENDLESS}"), "chip.toml: not a TOML file"),
        ("endless in hex", tpu("rows = 256", f"rows = 0x{'f' * 5000}"),
         "of more than 4,300 digits"),
        ("a long list", tpu("rows = 256", f"rows = [{'1,' * 99_999}]"), "[1, 1, 1, 1, 1, 1, ...]"),
        ("many keys", TPU + "".join(f"k{i} = 1\n" for i in range(9999)), "9999 problems: "),
        ("schema 2", tpu("schema = 1", "schema = 2"), "schema: expected schema = 1"),
        ("schema true", tpu("schema = 1", "schema = true"), "schema: expected schema = 1"),
        ("unknown kind", tpu('"systolic"', '"gpu"'), "kind: expected one of systolic"),
        ("kind is a list", tpu('"systolic"', "[]"), "kind: expected one of systolic"),
        ("twice", tpu("rows = 256", "rows = 256\nrows = 2"), "not a TOML file: Cannot overwrite"),
        ("misspelt", tpu("rows =", "row ="), "array.row: unknown key; did you mean 'rows'?"),
        ("negative", tpu("rows = 256", "rows = -256"), "array: rows must be at least 1"),
        ("zero", tpu("rows = 256", "rows = 0"), "array: rows must be at least 1, got 0"),
        ("a float", tpu("rows = 256", "rows = 256.0"),
         "array.rows: expected an integer, got 256.0"),
        ("a text", tpu("rows = 256", 'rows = "256"'), "array.rows: expected an integer, got '256'"),
        ("true", tpu("rows = 256", "rows = true"), "array.rows: expected an integer, got True"),
        ("NaN", tpu("rows = 256", "rows = nan"), "array.rows: expected an integer, got nan"),
        ("a date", tpu("rows = 256", "rows = 2020-01-01"), "array.rows: expected an integer"),
        ("no unit", tpu('"700 MHz"', '"700"'), "clock: expected a quantity in quotes"),
        ("a number", tpu('"700 MHz"', "700"), "clock: expected a quantity in quotes"),
        ("wrong unit", tpu('"700 MHz"', '"700 MB"'), "unknown unit 'MB' in '700 MB'"),
        ("unit in small", tpu('"24 MiB"', '"24 mib"'), "unknown unit 'mib'"),
        ("part of a bit", tpu('"24 MiB"', '"0.3 bit"'), "expected a whole number of bit"),
        ("huge", tpu('"24 MiB"', '"999999999 GiB"'), "is more than 10^15 bit; check the unit"),
        ("negative energy", tpu('"0.3 pJ"', '"-0.3 pJ"'), "mac_energy: expected a quantity"),
        ("NaN energy", tpu('"0.3 pJ"', '"nan pJ"'), "mac_energy: expected a quantity"),
        ("unknown schedule", tpu('"pipelined"', '"magic"'), "schedule: expected one of"),
        ("table is a list", tpu("[vector]", "[[vector]]"), "vector: expected a table"),
        ("list is a table", TPU.replace("[[memory]]", "[memory]", 1), "chip.toml: "),
        ("same name", tpu('"accumulators"', '"unified_buffer"'), "two memories or DRAM channels"),
        ("no name", tpu('name = "tpu_v1"', 'name = " "'), "need a name"),
        ("no DRAM for weights", tpu('carries = ["weights"]', 'carries = []'), "chip.toml: "),
        ("unknown operand", tpu('"psum"', '"weihgts"'), "chip.toml: "),
    ]),
    "mappings": ("map.toml", ["simulate", "alexnet_paper", "--on", "eyeriss_v1",
                              "--mapping", "map.toml"], [
        ("empty", "", "2 problems: schema: expected schema = 1; layers: expected one table"),
        ("not UTF-8", b"\xff", "not a TOML file"),
        ("too large", " " * (2**20 + 1), "more than 1,048,576 bytes are no mappings"),
        ("schema true", mapping(ALL).replace("1\n", "true\n", 1), "schema: expected schema = 1"),
        ("layers is a number", "schema = 1\nlayers = 3\n", "layers: expected one table a layer"),
        ("a layer is a list", mapping("[1]"), "layers.conv1: expected a table, got [1]"),
        ("missing", mapping("{ m = 1 }"), "layers.conv1.n: expected an integer of 1..1000000000"),
        ("unknown", mapping(ALL.replace("t =", "z =")), "layers.conv1.z: unknown key"),
        ("zero", mapping(ALL.replace("m = 1", "m = 0")), "layers.conv1.m: expected an integer"),
        ("true", mapping(ALL.replace("m = 1", "m = true")), "got True"),
        ("a float", mapping(ALL.replace("m = 1", "m = 1.0")), "got 1.0"),
        ("endless", mapping(ALL.replace("m = 1", f"m = {ENDLESS}")), "map.toml: not a TOML file"),
        ("nested deeply", mapping(DEEP), "map.toml: not a TOML file: maximum recursion"),
        ("another network", mapping(ALL).replace("conv1", "stem"), "stem"),
    ]),
    "topology": ("net.csv", ["simulate", "net.csv"], [
        ("empty", "", "expected the header of a SCALE-Sim topology"),
        ("spaces", " \n\t\n", "expected the header of a SCALE-Sim topology"),
        ("not UTF-8", b"Layer,M,N,K\n\xff,1,1,1\n", "net.csv: not text in UTF-8"),
        ("UTF-16", CONV_HEADER.encode("utf-16"), "net.csv: not text in UTF-8"),
        ("header alone", f"{CONV_HEADER}\n", "there is no layer below the header"),
        ("no header", "a,10,10,3,3,3,8,1\n", "net.csv: "),
        ("another table", "layer,bits\na,8\n", "expected the header of a SCALE-Sim topology"),
        ("too few", conv("a,10,10,3,3"), "net.csv: line 2: layer 'a' has 4 numbers; expected 7"),
        ("too many", conv("a,10,10,3,3,3,8,1,1,1,1"), "after the last number"),
        ("no name", conv(",10,10,3,3,3,8,1"), "column 1: the layer has no name"),
        ("zero", conv("a,0,10,3,3,3,8,1"), "column 2 (IFMAP height): expected a whole number"),
        ("negative", conv("a,10,10,-3,3,3,8,1"), "column 4 (filter height)"),
        ("a fraction", conv("a,10,10,3,3,3,8,1.5"), "column 8 (strides)"),
        ("a word", conv("a,10,10,3,3,three,8,1"), "column 6 (channels)"),
        ("not ASCII", conv("a,10,10,3,3,٣,8,1"), "column 6 (channels)"),
        ("endless", conv(f"a,{ENDLESS},10,3,3,3,8,1"), "column 2 (IFMAP height)"),
        ("filter too large", conv("a,10,10,11,3,3,8,1"), "is more than IFMAP"),
        ("sparse", conv("a,10,10,3,3,3,8,1,2:4"), "only dense layers have a model"),
        ("open quote", conv('"a,10,10'), "net.csv: line"),
        ("a long field", conv(f'"{"x" * 200_000}",1'), "cannot read as CSV"),
        ("huge channels", gemm("a,1,2147483648,1"), "2,147,483,648 channels, and at most"),
        ("huge pixels", gemm("a,2147483648,16777216,1"), "values, and at most"),
        ("huge work", gemm("a,16777216,1024,16777216"), "can be modelled"),
        ("endless steps", gemm("a,16777216,4194304,1"), "can be"),
    ]),
    "table of widths": ("w.csv", ["simulate", "alexnet_paper", "--bits", "w.csv"], [
        ("empty", "", "a table of bit widths without rows"),
        ("not UTF-8", b"layer,bits\n\xff,3\n", "w.csv: not text in UTF-8"),
        ("header alone", "layer,bits\n", "a table of bit widths without rows"),
        ("no header", "conv1,8\n", "w.csv: line 1: unknown column"),
        ("unknown column", "layer,bit\nconv1,8\n", "unknown column 'bit'; did you mean 'bits'"),
        ("column twice", "layer,bits,bits\nconv1,8,8\n", "expected the header"),
        ("short row", "layer,bits\nconv1\n", "line 2: 1 fields under 2 columns"),
        ("no layer", "layer,bits\n,8\n", "line 2: the row names no layer"),
        ("no bits", "layer,bits\nconv1,\n", "bits of 'conv1' are missing"),
        ("nine bits", "layer,bits\nconv1,9\n", "bits must be a whole number in 0..8, got '9'"),
        ("negative", "layer,bits\nconv1,-1\n", "bits must be a whole number in 0..8"),
        ("a fraction", "layer,bits\nconv1,4.0\n", "bits must be a whole number in 0..8"),
        ("NaN", "layer,bits\nconv1,nan\n", "bits must be a whole number in 0..8"),
        ("endless", f"layer,bits\nconv1,{ENDLESS}\n", "bits must be a whole number in 0..8"),
        ("twice", "layer,bits\nconv1,8\nconv1,8\n", "has its bits already"),
        ("channel missing", "layer,channel,bits\nconv1,0,8\nconv1,2,8\n", "channel 1 is not among"),
        ("huge channel", "layer,channel,bits\nconv1,99999999999,8\n", "channel must be a whole"),
        ("tensor of 0 bits", "layer,bits,activation_bits\nconv1,8,0\n", "in 1..16, got '0'"),
        ("another network", "layer,bits\nstem,8\n", "which network 'alexnet_paper' does not have"),
        ("layer missing", "layer,bits\nconv1,8\n", "no weights given for layer 'conv2'"),
    ]),
    "widths": ("w.json", ["simulate", "alexnet_paper", "--bits", "w.json"], [
        ("empty", "", "w.json: not a JSON file of bit widths"),
        ("not UTF-8", b"\xff\xfe{}", "w.json: not a JSON file of bit widths"),
        ("cut", '{"weights": 4, "activ', "w.json: not a JSON file of bit widths"),
        ("nested deeply", "[" * 100_000,
         "w.json: not a JSON file of bit widths: maximum recursion"),
        ("a list", "[8, 8]", "expected an object with 'weights' and 'activations'"),
        ("a number", "8", "expected an object with 'weights' and 'activations'"),
        ("null", "null", "expected an object with 'weights' and 'activations'"),
        ("activations missing", '{"weights": 4}', "expected an object with"),
        ("bits are null", '{"bits": null}', "expected an object with"),
        ("weights null", '{"weights": null, "activations": 8}', "weights: widths must be"),
        ("weights NaN", '{"weights": NaN, "activations": 8}', "weights: widths must be"),
        ("weights true", '{"weights": true, "activations": 8}', "weights: widths must be"),
        ("weights 4.5", '{"weights": 4.5, "activations": 8}', "weights: widths must be"),
        ("weights -1", '{"weights": -1, "activations": 8}', "must lie in 0..16"),
        ("weights 17", '{"weights": 17, "activations": 8}', "must lie in 0..16"),
        ("activations 0", '{"weights": 4, "activations": 0}', "must lie in 1..16"),
        ("2**64", '{"weights": 18446744073709551616, "activations": 8}', "weights: widths must be"),
        ("a list for all", '{"weights": [4, 4], "activations": 8}', "expected an int or a mapping"),
        ("text in a list", '{"weights": {"conv1": ["4"]}, "activations": 8}', "weights of 'conv1'"),
        ("empty list", '{"weights": {"conv1": []}, "activations": 8}', "weights of 'conv1'"),
        ("long text", json.dumps({"weights": "a" * 99_999, "activations": 8}), "weights: widths"),
        ("nested lists", '{"conv1": [[4]]}', "bits of layer 'conv1' must be a whole number"),
        ("layer of 9 bits", '{"conv1": 9}', "bits of layer 'conv1' must be a whole number in 0..8"),
        ("another network", '{"stem": 8}', "which network 'alexnet_paper' does not have"),
        ("misshapen", '{"weights": {"conv1": [4, 4]}, "activations": 8}', "'conv1'"),
    ]),
    "earlier run": ("manifest.json", ["verify", "."], [
        ("empty", "", "not a JSON file of manifest"),
        ("not UTF-8", b"\xff", "not a JSON file of manifest"),
        ("endless number", ENDLESS, "not a JSON file of manifest"),
        ("nested deeply", "[" * 100_000, "not a JSON file of manifest"),
        ("too large", " " * (2**24 + 1), "more than 16,777,216 bytes are no manifest"),
        ("a list", "[]", "not a manifest that this version of chipfit reads"),
        ("schema 2", run(schema=2), "not a manifest that this version of chipfit reads"),
        ("no command", run(command=[]), "not a manifest that this version"),
        ("command a text", run(command="chipfit run"), "not a manifest that this version"),
        ("numbers as command", run(command=[1, 2]), "not a manifest that this version"),
        ("outputs a list", run(outputs=[]), "not a manifest that this version"),
        ("inputs of texts", run(inputs={"weights": "w"}), "not a manifest that this version"),
        ("directory a number", run(directory=5), "not a manifest that this version"),
        ("unknown command", run(command=["chipfit", "destroy"]), "does not know the command"),
        ("options of today", run(command=["chipfit", "simulate", "--x"]), "does not know"),
        ("no folder", run(command=["chipfit", "models"]), "leaves no folder to compare with"),
        ("code", run(command=["chipfit", "simulate", "os:abort"]), "would run again"),
        ("code with a hyphen", run(command=["chipfit", "simulate", "a-b:c"]), "would run again"),
        ("a program", run(command=["chipfit", "simulate", "x\n.pt2"]), "would run again"),
        ("code for speedup", run(command=["chipfit", "speedup", "digits", "a:b"]),
         "would run again"),
    ]),
}  # fmt: skip
CASES = [
    pytest.param(file, content, command, said, id=f"{kind}: {wrong}")
    for kind, (file, command, cases) in KINDS.items()
    for wrong, content, said in cases
]


@pytest.mark.parametrize(("file", "content", "command", "said"), CASES)
def test_a_wrong_file_is_named_with_what_was_expected(
    tmp_path, monkeypatch, refused, file, content, command, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(command, said)


@pytest.mark.parametrize(("file", "command"), [(f, c) for f, c, _ in KINDS.values()], ids=KINDS)
def test_a_folder_in_place_of_the_file_is_named(tmp_path, monkeypatch, refused, file, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).mkdir()
    refused(command, file)


@pytest.mark.parametrize(("file", "command"), [(f, c) for f, c, _ in KINDS.values()], ids=KINDS)
def test_a_link_to_itself_is_named(tmp_path, monkeypatch, refused, file, command):
    monkeypatch.chdir(tmp_path)
    os.symlink(file, tmp_path / file)
    refused(command, file)
