"""chipfit curves and allocate: stated errors, going on, groups, and curves that come along."""

import json

import numpy as np
import pytest

from analysis.cli import main
from analysis.measuring import Announced
from quant.curves import RDCurves
from quant.sweep_state import partial_path


def run(capsys, *arguments):
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


FAST = ("--rounding", "nearest", "--calibration", "20")


def test_curves_print_the_standard_error_that_they_hold(capsys, tmp_path):
    code, out, _ = run(capsys, "curves", "digits", "-o", str(tmp_path / "c.npz"), *FAST)
    assert code == 0
    stated = RDCurves.load(tmp_path / "c.npz").method["standard_error"]["weights"][4]
    assert f"all weights at 4 bits: {100 * stated:.1f} % (20 images, 2 probes each)" in out


def test_a_stated_error_chooses_the_number_of_images(capsys, tmp_path):
    json_file = str(tmp_path / "s.json")
    code, _, _ = run(
        capsys, "curves", "digits", "-o", str(tmp_path / "c.npz"), "--rounding", "nearest",
        "--standard-error", "30%", "--json", json_file,
    )  # fmt: skip
    assert code == 0
    method = json.loads((tmp_path / "s.json").read_text())["method"]
    assert method["images"] < 96
    assert method["standard_error"]["weights"][4] <= 0.3


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(capsys, tmp_path, monkeypatch):
    whole, again = str(tmp_path / "whole.npz"), str(tmp_path / "again.npz")
    assert run(capsys, "curves", "digits", "-o", whole, *FAST)[0] == 0
    told = Announced.__call__

    def press(self, task, done, total):
        told(self, task, done, total)
        if (task, done) == ("sweep", 11):
            raise KeyboardInterrupt

    monkeypatch.setattr(Announced, "__call__", press)
    code, _, err = run(capsys, "curves", "digits", "-o", again, *FAST)
    assert code == 130
    assert "8 of 20 images are kept in" in err
    assert "the same command goes on from there" in err
    monkeypatch.setattr(Announced, "__call__", told)
    code, _, err = run(capsys, "curves", "digits", "-o", again, *FAST, "--seed", "1")
    assert code == 2
    assert "other settings was begun there: seed (0 there)" in err
    code, _, err = run(capsys, "curves", "digits", "-o", again, *FAST)
    assert code == 0
    assert "going on from" in err
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not partial_path(again).exists()


def test_a_long_sweep_is_announced_after_its_first_image(capsys, monkeypatch):
    times = iter([100.0, 103.0])
    monkeypatch.setattr("analysis.measuring.time.perf_counter", lambda: next(times))
    announced = Announced(lambda *_: None)
    for step in (("errors", 1, 1), ("sweep", 1, 96), ("sweep", 2, 96)):
        announced(*step)
    assert capsys.readouterr().err.count("about 285 s for the 95 images left") == 1


def test_groups_share_their_widths(capsys, tmp_path):
    file = str(tmp_path / "a.json")
    code, _, _ = run(capsys, "allocate", "mobilenet_v2", "--bits", "4", "--group", "8", "-o", file)
    assert code == 0
    widths = json.loads((tmp_path / "a.json").read_text())["bits"]["weights"]
    for layer in widths.values():
        groups = np.reshape(layer, (-1, 8))
        assert (groups == groups[:, :1]).all()
    assert len({b for layer in widths.values() for b in layer}) > 2


def test_a_network_without_curves_is_told_how_to_get_them(capsys):
    code, _, err = run(capsys, "allocate", "resnet18", "--bits", "4")
    assert code == 2
    assert "chipfit curves resnet18 --weights FILE.safetensors --images DIR" in err


def test_curves_of_input_channels_are_not_allocated(capsys, tmp_path):
    file = str(tmp_path / "c.npz")
    assert run(capsys, "curves", "digits", "-o", file, *FAST, "--granularity", "input")[0] == 0
    code, _, err = run(capsys, "allocate", file, "--bits", "4")
    assert code == 2
    assert "--granularity output" in err


@pytest.mark.parametrize("text", ["5", "0", "0%", "100%", "-1%", "five", "nan"])
def test_shares_are_between_0_and_1(capsys, tmp_path, text):
    code, _, err = run(capsys, "curves", "digits", "-o", "c.npz", f"--standard-error={text}")
    assert code == 2
    assert "expected a share between 0 and 1, such as 5% or 0.05" in err
