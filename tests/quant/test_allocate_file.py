"""Allocation: its file, which holds bit widths that a simulator reads as well."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from analysis.fuzz.allocation import convex_curves
from hwsim.bits import BitWidths
from quant.allocation.allocate import allocate
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget


@pytest.fixture
def answer() -> Allocation:
    curves = convex_curves(np.random.default_rng(0), layers=3, channels=6, tensors=2)
    return allocate(curves, Budget(weight_bits=3, activation_bits=5))


def test_an_allocation_comes_back_from_its_file(answer: Allocation, tmp_path: Path) -> None:
    answer.save(tmp_path / "a.json")
    back = Allocation.load(tmp_path / "a.json")
    assert back.to_json() == answer.to_json()
    assert back.constraints == answer.constraints
    assert back.relative_gap == answer.relative_gap


def test_the_gap_is_relative_to_the_distortion(answer: Allocation) -> None:
    other = dataclasses.replace(
        answer, weight_distortion=3.0, activation_distortion=1.0, lower_bound=3.0
    )
    assert other.predicted_distortion == 4
    assert other.relative_gap == 0.25
    nothing = dataclasses.replace(
        answer, weight_distortion=0.0, activation_distortion=0.0, lower_bound=0.0
    )
    assert nothing.relative_gap == 0


def test_bit_widths_are_read_from_an_allocation_file(answer: Allocation, tmp_path: Path) -> None:
    answer.save(tmp_path / "a.json")
    assert BitWidths.load(tmp_path / "a.json").to_json() == answer.bits.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "expected an allocation of schema 1"),
        ({"lower_bound": None}, "lower_bound must be a finite number, got None"),
        ({"lower_bound": float("nan")}, "lower_bound must be a finite number, got nan"),
        ({"network": 3}, "network must be a text"),
        ({"extra": 3}, "not an allocation: .*extra"),
        ({"constraints": [{"name": "x"}]}, "not an allocation: .*missing"),
        ({"bits": {"weights": 99, "activations": 8}}, "widths must lie in 0..16"),
    ],
)
def test_files_that_hold_anything_else_are_refused(
    answer: Allocation, change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**answer.to_json(), **change}))
    with pytest.raises(ValueError, match=message) as caught:
        Allocation.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    path.write_text(json.dumps({k: v for k, v in answer.to_json().items() if k not in change}))
    if "extra" not in change:
        with pytest.raises(ValueError, match=r"a\.json: "):
            Allocation.load(path)


def test_files_that_are_no_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not a JSON file"):
        Allocation.load(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"b\.json: cannot read allocation: No such file"):
        Allocation.load(tmp_path / "b.json")
