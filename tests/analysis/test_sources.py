"""Every way to name a network gives the same one; commands say which files they can use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from onnx_files import distinct, export

from analysis.cli import main
from analysis.sources import graph_of, load_graph, load_network
from hwsim.frontends.models import module_from_name

SHAPE = (1, 3, 64, 64)
OWN = """
from hwsim.frontends.models import build
def net():
    return build("squeezenet1_1"), (1, 3, 64, 64)
"""
TINY = """
import torch
from torch import nn
def tiny():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return net, (1, 3, 8, 8)
"""


def test_one_network_named_in_four_ways_is_one_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    module = distinct(module_from_name("squeezenet1_1"))
    program = torch.export.export(module, (torch.zeros(SHAPE),))
    torch.export.save(program, tmp_path / "a.pt2")
    export(module, SHAPE, tmp_path / "b.onnx", optimize=False)
    by_name = load_graph("squeezenet1_1", 64)
    for model in ("sources_own:net", str(tmp_path / "a.pt2")):
        assert load_graph(model).layers == by_name.layers
    from_file = load_graph(str(tmp_path / "b.onnx"))
    for ours, theirs in zip(from_file, by_name, strict=True):
        assert (ours.name, ours.kind, ours.work) == (theirs.name, theirs.kind, theirs.work)
        assert (ours.inputs, ours.output) == (theirs.inputs, theirs.output)
        assert (ours.params, ours.fused) == (theirs.params, theirs.fused)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small network as a function, as an ONNX file, and as a saved program."""
    (tmp_path / "sources_tiny.py").write_text(TINY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import sources_tiny  # type: ignore[import-not-found]

    module, shape = sources_tiny.tiny()
    module.eval()
    export(module, shape, tmp_path / "tiny.onnx")
    torch.export.save(torch.export.export(module, (torch.zeros(shape),)), tmp_path / "tiny.pt2")
    (tmp_path / "tiny.csv").write_text("Layer,M,N,K,\nfc,1,5,4,\n")
    return tmp_path


@pytest.mark.parametrize("model", ["tiny.onnx", "tiny.pt2", "tiny.csv", "sources_tiny:tiny"])
def test_commands_that_need_no_weights_take_every_kind_of_model(
    model: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = load_graph(model).weighted[-1].name
    for command in (
        ["simulate", model, "--on", "tpu_v1", "--bits", "W4A8"],
        ["simulate", model, "--on", "eyeriss_v1", "--json", "-"],
        ["models", model],
        ["mappings", layer, "--model", model],
    ):
        assert main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""


def test_an_onnx_file_with_weights_runs_as_the_module_that_it_was_made_from(tiny: Path) -> None:
    from_file, from_module = (
        load_network("tiny.onnx", None),
        load_network("sources_tiny:tiny", None),
    )
    images = torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(from_file.run(images), from_module.run(images))
    assert [layer.work for layer in from_file.graph] == [layer.work for layer in from_module.graph]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "tiny.csv", "--images", "x"], "`simulate`, `mappings`, `models` and `allocate"),
        (["run", "tiny.pt2"], "an ONNX file or package.module:function"),
        (["run", "tiny.onnx", "--weights", "w.safetensors"], "holds its own weights; leave out"),
        (["simulate", "tiny.onnx", "--image-size", "9"], "leave out --image-size"),
        (["simulate", "tiny.csv", "--image-size", "9"], "leave out --image-size"),
        (["simulate", "missing.onnx"], "missing.onnx: cannot read: No such file"),
        (["simulate", "missing.csv"], "missing.csv: cannot read topology: No such file"),
        (["simulate", "missing.pt2"], "missing.pt2"),
        (["simulate", "tiny.onn"], "model 'tiny.onn' is not known"),
    ],
)
def test_a_file_in_the_wrong_place_says_what_works(
    arguments: list[str], said: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_weights_that_are_not_there_are_asked_for(tiny: Path) -> None:
    module = distinct(torch.nn.Sequential(torch.nn.Conv2d(3, 64, 5), torch.nn.ReLU()))
    export(module, (1, 3, 16, 16), tiny / "apart.onnx", external_data=True)
    for data in tiny.glob("apart.onnx.data"):
        data.unlink()
    assert load_graph("apart.onnx").params == 64 * 75 + 64
    with pytest.raises(ValueError, match="are not there; put the data file"):
        load_network("apart.onnx", None)


def test_curves_of_a_network_of_ones_own_ask_for_it(tiny: Path) -> None:
    network = load_network("sources_tiny:tiny", None)
    curves: Any = SimpleNamespace(network=network.name)
    embedded: Any = SimpleNamespace(network="digits")
    assert graph_of(curves, "sources_tiny:tiny").layers == network.graph.layers
    with pytest.raises(ValueError, match=r"'sources_tiny\.tiny': no network has .*give --model"):
        graph_of(curves, None)
    assert graph_of(embedded, None).name == "digits"
