"""An interrupted sweep goes on to the same bytes; what it leaves belongs to its settings alone."""

import pytest
import torch

from quant import digits
from quant import sweep as sweep_module
from quant.calibration import calibrate
from quant.sweep import sweep
from quant.sweep_state import partial_path
from tests.quant.nets import digits_network


@pytest.fixture(scope="module")
def images():
    return digits.calibration(13)


@pytest.fixture(scope="module")
def recipe(images):
    return calibrate(digits_network(), images)


class Interrupt:
    """Progress that presses Ctrl-C when the sweep has come to an image."""

    def __init__(self, at):
        self.at = at

    def __call__(self, task, done, total):
        if task == "sweep" and done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stops", [(4,), (6,), (4, 9, 13)])
def test_an_interrupted_sweep_goes_on_to_the_same_bytes(tmp_path, images, recipe, stops):
    network = digits_network()
    sweep(network, images, recipe=recipe).save(tmp_path / "whole.npz")
    partial = partial_path(tmp_path / "c.npz")
    for at in stops:
        interrupted = pytest.raises(KeyboardInterrupt)
        with interrupted:
            sweep(network, images, recipe=recipe, partial=partial, progress=Interrupt(at))
        assert partial.exists() == (at > 4)  # blocks of four images
    told = []
    found = sweep(
        network, images, recipe=recipe, partial=partial, progress=lambda *step: told.append(step)
    )
    found.save(tmp_path / "c.npz")
    assert (tmp_path / "c.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    first = {(4,): 1, (6,): 5, (4, 9, 13): 13}[stops]
    assert next(step for step in told if step[0] == "sweep") == ("sweep", first, 13)


def test_the_interruption_says_how_much_is_kept_and_where(tmp_path, images, recipe):
    partial = tmp_path / "p.npz"
    with pytest.raises(KeyboardInterrupt, match=r"8 of 13 images are kept in .*p\.npz: the same"):
        sweep(digits_network(), images, recipe=recipe, partial=partial, progress=Interrupt(10))


def test_what_is_done_is_written_now_and_then(tmp_path, images, recipe, monkeypatch):
    monkeypatch.setattr(sweep_module, "SECONDS_BETWEEN_FILES", -1.0)
    partial = tmp_path / "p.npz"

    class Killed(Exception):
        pass

    def kill(task, done, total):
        if done == 7 and task == "sweep":
            raise Killed

    with pytest.raises(Killed):
        sweep(digits_network(), images, recipe=recipe, partial=partial, progress=kill)
    assert partial.exists()


def test_the_state_of_other_settings_is_refused_by_name(tmp_path, images, recipe):
    network, partial = digits_network(), tmp_path / "p.npz"
    sweep_with = {"recipe": recipe, "partial": partial}
    with pytest.raises(KeyboardInterrupt):
        sweep(network, images, **sweep_with, progress=Interrupt(6))
    for other, named in (
        ({"probes": 4}, r"probes \(2 there\)"),
        ({"seed": 1}, r"seed \(0 there\)"),
        ({"metric": "kl"}, r"metric \('logits' there\)"),
        ({"activations": False}, r"activations \(True there\)"),
    ):
        with pytest.raises(ValueError, match=f"other settings .*{named}.*to start anew"):
            sweep(network, images, **sweep_with, **other)
    turned = images.take(torch.arange(12, -1, -1).numpy())
    with pytest.raises(ValueError, match="images_fingerprint"):
        sweep(network, turned, **sweep_with)


def test_a_broken_state_is_refused_in_one_line(tmp_path, images, recipe):
    partial = tmp_path / "p.npz"
    with pytest.raises(KeyboardInterrupt):
        sweep(digits_network(), images, recipe=recipe, partial=partial, progress=Interrupt(6))
    whole = partial.read_bytes()
    for broken in (b"", b"nonsense", whole[: len(whole) // 2]):
        partial.write_bytes(broken)
        with pytest.raises(ValueError, match="not the whole state of a sweep; remove"):
            sweep(digits_network(), images, recipe=recipe, partial=partial)
