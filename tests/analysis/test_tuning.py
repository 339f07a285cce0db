"""pack, finetune and evaluate --packed: files that hold what they say; mistakes in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from analysis.cli import main
from analysis.tuning import on_device, unseen
from quant.codes import PackedFile
from tests.quant.nets import digits_network

FAST = ["--rounding", "nearest", "--calibration", "20"]
TRAIN = ["--bits", "W2A8", *FAST, "--training", "200", "--epochs", "5", "--lr", "0.02"]

MODULE = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return net, (1, 3, 8, 8)
"""


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def data(capsys, *arguments: str) -> dict:
    code, out, err = run(capsys, *arguments, "--json", "-")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_packed_network_is_judged_as_the_widths_that_it_was_packed_at(capsys, tmp_path):
    path = str(tmp_path / "packed.safetensors")
    size = data(capsys, "pack", "digits", "--bits", "W3A8", *FAST, "-o", path)
    assert size["file_bytes"] == os.path.getsize(path)
    assert size["payload_bytes"] == -(-(size["weight_bits"] + size["metadata_bits"]) // 8)
    by_file = data(capsys, "evaluate", "digits", "--packed", path)
    by_bits = data(capsys, "evaluate", "digits", "--bits", "W3A8", *FAST)
    assert by_file["quantized"] == by_bits["quantized"]
    assert by_file["average_weight_bits"] == 3.0


def test_finetuning_says_what_the_file_that_it_writes_then_does(capsys, tmp_path):
    path = str(tmp_path / "tuned.safetensors")
    found = data(capsys, "finetune", "digits", *TRAIN, "-o", path)
    assert found["after"]["divergence"] < 0.7 * found["before"]["divergence"]
    assert (found["training_images"], len(found["history"])) == (200, 6)
    assert found["file_bytes"] == os.path.getsize(path)
    assert not Path(f"{path}.checkpoint").exists()
    judged = data(capsys, "evaluate", "digits", "--packed", path)
    assert judged["quantized"] == found["after"]
    assert judged["float"] == found["float"]
    before = data(capsys, "evaluate", "digits", "--bits", "W2A8", *FAST)
    assert before["quantized"] == found["before"]


def test_an_interrupted_run_goes_on_to_the_same_file(capsys, tmp_path, monkeypatch):
    whole, parts = (str(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    train = ["finetune", "digits", *TRAIN]
    assert run(capsys, *train, "-o", whole)[0] == 0

    from quant.recovery import checkpoint

    saved = checkpoint.save_checkpoint

    def stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", stop)
        code, out, err = run(capsys, *train, "-o", parts)
    assert (code, out) == (130, "")
    assert err == (
        f"chipfit: interrupted; the finished epochs are in {parts}.checkpoint; --resume goes on "
        f"with them\n"
    )
    assert not Path(parts).exists()
    code, _, err = run(capsys, *train, "-o", parts)
    assert code == 2
    assert "the checkpoint of a run that was not finished; --resume goes on" in err
    code, _, err = run(capsys, *train, "--epochs", "9", "-o", parts, "--resume")
    assert code == 2
    assert "a run with epochs 5, not 9" in err
    assert run(capsys, *train, "-o", parts, "--resume")[0] == 0
    first, second = PackedFile.read(whole), PackedFile.read(parts)
    assert np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.scales, second.scales)
    assert np.array_equal(first.biases, second.biases)
    assert first.activations == second.activations


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network and 60 images without splits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tuning_own.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    np.savez("images.npz", images=pixels, labels=np.arange(60) % 5)
    np.savez("others.npz", images=pixels[::-1], labels=np.arange(60) % 5)
    return ["tuning_own:tiny", "--bits", "4", *FAST, "--images", "images.npz"]


def test_images_that_made_a_packed_network_are_never_those_it_is_judged_on(capsys, own):
    found = data(capsys, "finetune", *own, "--batch", "8", "--epochs", "1", "-o", "t.safetensors")
    assert (found["training_images"], found["after"]["images"]) == (30, 30)
    same = ["evaluate", "tuning_own:tiny", "--packed", "t.safetensors", "--images"]
    judged = data(capsys, *same, "images.npz")
    assert judged["quantized"] == found["after"]
    assert data(capsys, *same, "others.npz")["quantized"]["images"] == 60
    network = digits_network()
    recorded = PackedFile.read("t.safetensors").made_by["images"]
    with pytest.raises(ValueError, match="counts -1 images, which makes no sense"):
        unseen("own", network, "images.npz", {"images": {**recorded, "seed": -1}})


def test_mistakes_are_one_line_and_write_nothing(capsys, own, tmp_path):
    packed = str(tmp_path / "p.safetensors")
    assert run(capsys, "pack", "digits", "--bits", "4", *FAST, "-o", packed)[0] == 0
    (tmp_path / "cut.safetensors").write_bytes(Path(packed).read_bytes()[:-9])
    before = sorted(tmp_path.iterdir())
    images = ["--images", "images.npz"]
    for arguments, message in [
        (["evaluate", "digits"], "one of the arguments --bits --packed is required"),
        (["evaluate", "digits", "--bits", "4", "--packed", packed], "not allowed with"),
        (["evaluate", "digits", "--packed", "cut.safetensors"], "not a whole packed network"),
        (["evaluate", "digits", "--packed", "none.safetensors"], "cannot read"),
        (["evaluate", "tuning_own:tiny", "--packed", packed, *images], "fit 'tuning_own.tiny'"),
        (["finetune", *own, "-o", "t", "--resume"], "no checkpoint to go on from"),
        (["finetune", *own, "-o", "t", "--batch", "25"], "30 images leave 24 to train on"),
        (["finetune", *own, "-o", "t", "--lr", "nan"], "rate must lie above 0"),
        (["finetune", "digits", "--bits", "W40A8", "-o", "t"], "widths must lie in 0..16"),
        (["pack", "digits", "--bits", "4"], "the following arguments are required: -o/--output"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert err.startswith("chipfit: error: ")
        assert err.count("\n") == 1
    assert sorted(p for p in tmp_path.iterdir() if p.name != "__pycache__") == before


def test_a_device_that_is_not_there_is_said():
    import torch

    network = digits_network()
    assert on_device(network, "cpu") is network
    if not torch.cuda.is_available():
        assert on_device(network, "auto") is network
        with pytest.raises(ValueError, match="torch sees no such device"):
            on_device(network, "cuda")
