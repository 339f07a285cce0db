"""Workloads for other simulators: what they read is the work of the network."""

from __future__ import annotations

import configparser
import re
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from graphs import attention, residual

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.exports.scalesim import scalesim_config, write_scalesim
from hwsim.exports.timeloop import write_timeloop
from hwsim.exports.zigzag import write_zigzag, zigzag_workload
from hwsim.frontends.models import from_name
from hwsim.frontends.topology_csv import read_topology

# zigzag/parser/workload_validator.py of KULeuven-MICAS/zigzag
ZIGZAG_FIELDS = {
    "id", "name", "operator_type", "equation", "dimension_relations", "loop_dims", "loop_sizes",
    "operand_precision", "operand_source", "pr_loop_dims", "pr_loop_sizes", "padding",
}  # fmt: skip
ZIGZAG_OPERATORS = {"Conv", "Add", "Gemm"}
ZIGZAG_EQUATION = r"^O(\[\w+\])+\+?=\w(\[\w+\])+[*+]\w(\[(?:\w+)?\])+$"
ZIGZAG_RELATION = r"^(\w+)\s*=\s*(?:(\w+)\s*\*\s*)?(\w+)\s*\+\s*(?:(\w+)\s*\*\s*)?(\w+)$"


@pytest.fixture(scope="module", params=["mobilenet_v2", "resnet18", "residual", "attention"])
def graph(request):
    made = {"residual": lambda: residual(4, 6), "attention": lambda: attention(5, 8)}
    return made.get(request.param, lambda: from_name(request.param))()


def test_scalesim_files_give_the_cycles_of_the_network_itself(tmp_path):
    graph, bits = from_name("resnet18", image_size=64), BitWidths(8, 8)
    chip = load_accelerator("scalesim_google")
    (topology, config), left_out = write_scalesim(graph, chip, tmp_path)
    said = configparser.ConfigParser()
    said.read(config)
    assert said["general"]["run_name"] == "scalesim_google"
    read, own = (
        {la.name: la.compute_cycles for la in simulate(g, chip, bits).layers if la.macs}
        for g in (read_topology(topology), graph)
    )
    assert read == own
    assert len(own) == 21
    assert "layer1.0.add" in left_out


def test_the_configuration_of_scalesims_own_preset_has_its_numbers():
    said = configparser.ConfigParser()
    said.read_string(scalesim_config(load_accelerator("scalesim_google")))
    preset = said["architecture_presets"]
    # configs/google.cfg of scale-sim-v2
    wanted = {"ArrayHeight": 256, "ArrayWidth": 256, "IfmapSramSzkB": 6144, "FilterSramSzkB": 6144,
              "OfmapSramSzkB": 2048, "Bandwidth": 10}  # fmt: skip
    assert {name: int(preset[name]) for name in wanted} == wanted
    assert preset["Dataflow"] == "ws"


def test_a_chip_that_scalesim_cannot_describe_is_refused(tmp_path):
    with pytest.raises(ValueError, match="systolic arrays only"):
        write_scalesim(residual(4, 6), load_accelerator("eyeriss_v1"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [1, 3])
def test_timeloop_problems_hold_the_work_of_the_network(tmp_path, graph, batch):
    paths, left_out = write_timeloop(graph, tmp_path, BitWidths(4, 8), batch)
    macs = 0
    for path in paths:
        problem = yaml.safe_load(Path(path).read_text())["problem"]
        shape, sizes = problem["shape"], problem["instance"]
        assert set(shape["dimensions"]) <= set(sizes)
        macs += prod(sizes[name] for name in shape["dimensions"])
        free = set(shape["dimensions"]) | {c["name"] for c in shape.get("coefficients", [])}
        assert set(sizes) == free
        for space in shape["data_spaces"]:
            used = {name for axis in space["projection"] for term in axis for name in term}
            assert used <= free
        assert [s.get("read_write", False) for s in shape["data_spaces"]] == [False, False, True]
    assert macs == batch * graph.macs
    assert len(paths) + len(left_out) + 1 == len(graph)


def test_timeloop_ifmaps_have_the_size_of_the_padded_layer(tmp_path):
    graph = from_name("resnet18")
    path = write_timeloop(graph, tmp_path)[0][0]
    sizes = yaml.safe_load(Path(path).read_text())["problem"]["instance"]
    width = (sizes["P"] - 1) * sizes["Wstride"] + (sizes["R"] - 1) * sizes["Wdilation"] + 1
    # 224 pixels and 3 of padding on both sides, of which the last window leaves one
    assert (width, sizes["C"], sizes["K"], sizes["P"]) == (229, 3, 64, 112)


@pytest.mark.parametrize("batch", [1, 3])
def test_zigzag_workloads_hold_the_work_and_the_edges_of_the_network(graph, batch):
    layers = yaml.safe_load(zigzag_workload(graph, BitWidths(4, 8), batch))
    assert [layer["id"] for layer in layers] == list(range(len(layers)))
    macs = 0
    for layer in layers:
        assert set(layer) <= ZIGZAG_FIELDS
        assert layer["operator_type"] in ZIGZAG_OPERATORS
        assert re.match(ZIGZAG_EQUATION, layer["equation"])
        assert all(re.match(ZIGZAG_RELATION, r) for r in layer.get("dimension_relations", []))
        assert len(layer["loop_dims"]) == len(layer["loop_sizes"])
        used = set(re.findall(r"\[(\w+)\]", layer["equation"].upper()))
        assert used - {"IX", "IY"} | {"OX", "OY"} >= set(layer["loop_dims"]) - {"FX", "FY"}
        assert all(0 <= source <= layer["id"] for source in layer["operand_source"].values())
        if layer["operator_type"] != "Add":
            macs += prod(layer["loop_sizes"])
    assert macs == batch * graph.macs


def test_zigzag_additions_read_both_branches():
    made = yaml.safe_load(zigzag_workload(residual(4, 6), BitWidths(4, 8)))
    layers = {layer["name"]: layer for layer in made}
    assert layers["sum"]["operand_source"] == {"I": layers["a"]["id"], "W": layers["b"]["id"]}
    assert layers["b"]["operand_source"]["I"] == layers["a"]["id"]
    assert layers["a"]["operand_source"] == {"I": 0, "W": 0}


def test_zigzag_operands_have_the_widths_of_their_layers(tmp_path):
    graph = residual(4, 6)
    weights = {"a": np.array([2, 2, 3, 3]), "b": np.array([8, 8, 8, 8])}
    tensors = {"image": 8, "a": 6, "b": 7, "sum": 5}
    left_out = write_zigzag(graph, tmp_path / "w.yaml", BitWidths(weights, tensors))
    a, b, total = yaml.safe_load((tmp_path / "w.yaml").read_text())
    assert a["operand_precision"] == {"W": 3, "I": 8, "O": 32, "O_final": 6}
    assert b["operand_precision"] == {"W": 8, "I": 6, "O": 32, "O_final": 7}
    assert total["operand_precision"] == {"W": 7, "I": 6, "O": 32, "O_final": 5}
    assert left_out == ()


@pytest.mark.parametrize("write", [write_timeloop, write_zigzag])
def test_widths_of_another_network_are_refused(tmp_path, write):
    path = tmp_path / "out"
    with pytest.raises(ValueError, match="'elsewhere', which network 'residual' does not have"):
        write(residual(4, 6), path, BitWidths({"elsewhere": 4}, 8))
    assert not path.exists()
