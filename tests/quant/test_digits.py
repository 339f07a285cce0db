"""The embedded network: its split, its accuracy, and the script that made it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from quant import digits


def test_the_shipped_weights_get_98_percent_of_the_held_out_digits_right():
    held_out = digits.test()
    with torch.inference_mode():
        predicted = digits.build()(held_out.tensor()).argmax(1).numpy()
    assert len(held_out) == 500
    assert (predicted == held_out.labels).mean() >= 0.98


def test_training_calibration_and_held_out_images_are_kept_apart():
    training, held_out = digits.train_images(), digits.test()
    assert sorted([*training.index, *held_out.index]) == list(range(1797))
    assert set(digits.calibration(64).index) <= set(training.index)
    counts = np.bincount(held_out.labels)
    assert counts.min() >= 48
    assert counts.max() <= 52
    assert np.bincount(digits.calibration(100).labels).tolist() == [10] * 10


def test_the_files_in_the_package_are_small():
    assert digits.WEIGHTS.stat().st_size < 200_000
    assert digits.IMAGES.stat().st_size < 100_000


def test_the_stored_images_are_those_of_scikit_learn():
    source = pytest.importorskip("sklearn.datasets").load_digits()
    with np.load(digits.IMAGES) as stored:
        assert np.array_equal(stored["images"], source.images)
        assert np.array_equal(stored["labels"], source.target)


@pytest.mark.slow
def test_the_training_script_writes_the_shipped_weights(tmp_path):
    """Bit for bit where torch and processor are those that made them, else as accurate."""
    pytest.importorskip("sklearn")
    script = Path(__file__).parents[2] / "examples" / "train_digits.py"
    result = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(result.stdout.split()[0]) >= 490
    made = tmp_path / digits.WEIGHTS.name

    def made_by(path):
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["made_by"])

    if made_by(made) == made_by(digits.WEIGHTS):
        assert made.read_bytes() == digits.WEIGHTS.read_bytes()
