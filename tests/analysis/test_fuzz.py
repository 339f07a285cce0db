"""Fuzzing: cases that fail become tests that run as they are."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis.fuzz.run as fuzz
from analysis.fuzz.__main__ import main
from analysis.fuzz.model import Model, same
from analysis.fuzz.models import MODELS
from analysis.fuzz.source import regression_test, write_regression


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_case_of_every_model_can_be_written_as_a_test_and_passes(model, tmp_path):
    @settings(max_examples=3, suppress_health_check=list(HealthCheck), database=None)
    @given(case=model.cases)
    def write_and_run(case):
        path = write_regression(tmp_path, model.name, model.check, case, 7)
        made = runpy.run_path(str(path))
        (test,) = (made[name] for name in made if name.startswith("test_"))
        test()
        again = made["test_" + path.stem.removeprefix("test_").removesuffix("_7")]
        assert again is test

    write_and_run()


def check_below_ten(number: int) -> None:
    if number >= 10:
        raise AssertionError(f"{number} is not below 10")


def test_a_case_that_fails_is_made_small_and_written(tmp_path, monkeypatch):
    model = Model("numbers below ten", st.integers(0, 10**6), check_below_ten)
    monkeypatch.setattr(fuzz, "MODELS", (model,))
    batch = fuzz.run_batch("numbers below ten", 50, 3, tmp_path / "regressions")
    assert batch.agreed == 0
    assert batch.error == "AssertionError: 10 is not below 10"
    assert batch.test == tmp_path / "regressions" / "test_numbers_below_ten_3.py"
    assert "    case = 10\n    check_below_ten(case)\n" in batch.test.read_text()


def test_cases_that_agree_are_counted_and_nothing_is_written(tmp_path):
    batch = fuzz.run_batch("spilled feature maps", 20, 1, tmp_path / "regressions")
    assert (batch.agreed, batch.error, batch.test) == (20, "", None)
    assert not list(tmp_path.iterdir())


def test_each_model_gets_its_share_and_every_batch_a_seed_of_its_own():
    queue = fuzz.batches(MODELS, seed=5)
    turns = sum(model.share for model in MODELS)
    drawn = [next(queue) for _ in range(2 * turns)]
    assert Counter(name for name, _ in drawn) == {m.name: 2 * m.share for m in MODELS}
    assert len({seed for _, seed in drawn}) == 2 * turns


def test_the_table_adds_up():
    failed = [fuzz.Batch("b", 0, "AssertionError: x", Path("t.py"))]
    lines = fuzz.table(Counter({"a": 1200, "b": 30}), failed)
    assert lines[2:] == ["| a | 1,200 | 0 |", "| b | 30 | 1 |", "| all | 1,230 | 1 |"]


def test_the_command_runs_one_model_on_several_processes(tmp_path, capsys):
    folder = tmp_path / "regressions"
    options = ["--seconds", "0.1", "--workers", "2", "--regressions", str(folder)]
    assert main([*options, "--only", "spilled feature maps"]) == 0
    agreed = re.search(r"\| spilled feature maps \| ([\d,]+) \| 0 \|", capsys.readouterr().out)
    assert agreed is not None
    assert int(agreed[1].replace(",", "")) >= 2 * fuzz.BATCH
    assert not folder.exists()


def test_differences_of_any_kind_are_named():
    same("cycles", 3, 3)
    same("ofmap", [[1, 2]], np.array([[1, 2]]))
    with pytest.raises(AssertionError, match="cycles: the fast model says 3, the reference 4"):
        same("cycles", 3, 4)
    with pytest.raises(AssertionError, match="ofmap"):
        same("ofmap", np.zeros(2), np.zeros(3))


def test_what_has_no_source_is_refused():
    with pytest.raises(TypeError, match="cannot write object as Python source"):
        regression_test("m", check_below_ten, object(), 1)
