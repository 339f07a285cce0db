"""Files made to run code or to fill the memory."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwsim import files
from quant.curves import LayerCurve, RDCurves
from quant.images import from_npz, read_pixels

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


class Evil:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path("run"),)


@pytest.fixture
def program(tmp_path, monkeypatch) -> dict[str, bytes]:
    """The entries of a saved program, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), "right.pt2")
    with zipfile.ZipFile("right.pt2") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def torch_pickle() -> bytes:
    content = io.BytesIO()
    torch.save((Evil(),), content)
    return content.getvalue()


def with_pickled_weight(entries: dict[str, bytes]) -> None:
    name = next(n for n in entries if n.endswith("weights_config.json"))
    config = json.loads(entries[name])
    config["config"]["0.weight"]["use_pickle"] = True
    entries[name] = json.dumps(config).encode()
    entries["right/data/weights/weight_0"] = torch_pickle()


def with_pickled_inputs(entries: dict[str, bytes]) -> None:
    entries["right/data/sample_inputs/model.pt"] = torch_pickle()


def with_pickled_object(entries: dict[str, bytes]) -> None:
    entries["right/data/constants/opaque_obj_0"] = pickle.dumps(Evil())


def with_compiled_code(entries: dict[str, bytes]) -> None:
    entries["right/data/aotinductor/model/model.so"] = b"\x7fELF"


def with_formula(entries: dict[str, bytes]) -> None:
    formula = b'{"as_expr": {"expr_str": "__import__(\'os\').abort()", "hint": {"as_int": 8}}}'
    name = "right/models/model.json"
    assert b'{"as_int": 8}' in entries[name]
    entries[name] = entries[name].replace(b'{"as_int": 8}', formula)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_pickled_weight, "a pickle of more than tensors"),
        (with_pickled_inputs, "a pickle of more than tensors"),
        (with_pickled_object, "which may be code"),
        (with_compiled_code, "which may be code"),
        (with_formula, "sizes that are formulas"),
    ],
)
def test_a_program_that_would_run_code_when_it_is_read_is_refused(program, refused, change, said):
    change(program)
    with zipfile.ZipFile("evil.pt2", "w") as archive:
        for name, content in program.items():
            archive.writestr(name, content)
    refused(["models", "evil.pt2"], said)
    assert not Path("run").exists()


@pytest.mark.parametrize("network", ["os:abort", "evil.pt2", "evil.onnx", "evil.csv"])
@pytest.mark.parametrize("command", [["allocate", "c.npz", "--bits", "4"], ["pareto", "c.npz"]])
def test_curves_do_not_say_which_code_runs(tmp_path, monkeypatch, refused, command, network):
    monkeypatch.chdir(tmp_path)
    RDCurves(network, (LayerCurve("a", np.ones((1, 9)), 1),), ()).save("c.npz")
    refused(command, "no network has that name; give --model")


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FREE_BYTES", 10_000)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((99, 99, 99, 3), np.uint8), labels=np.zeros(99, int))
    with pytest.raises(ValueError, match=r"bomb\.npz: unpacks to 2,9[0-9,]+ bytes"):
        from_npz(path)
    with pytest.raises(ValueError, match=r"bomb\.npz: .*unpacks to 2,9[0-9,]+ bytes"):
        RDCurves.load(path)
    np.savez(path, images=np.zeros((99, 9, 9, 3), np.uint8), labels=np.zeros(99, int))
    assert len(from_npz(path)) == 99


def test_a_program_called_a_picture_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(ValueError, match=r"a\.png: cannot read image: cannot identify"):
        read_pixels(tmp_path / "a.png", (8, 8), 8)


def test_a_pipe_that_never_ends_is_read_up_to_the_limit():
    with pytest.raises(ValueError, match="/dev/zero: more than 1,000 bytes are no accelerator"):
        files.read_bounded("/dev/zero", 1000, "accelerator")
