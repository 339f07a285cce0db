"""Readers against inputs made wrong at random: a ValueError in each case, and nothing else."""

from __future__ import annotations

import logging
from random import Random

import numpy as np
import pytest

from analysis.fuzz.mutate import VALUES, as_json, edited, edited_arrays, edited_tree
from analysis.fuzz.parsers import Escaped, Parser, attempt, parsers

INPUTS = 300  # of each reader; reports/robustness.md tells of many more


@pytest.fixture
def quiet():
    logging.disable(logging.CRITICAL)  # torch and onnx have words of their own for such files
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("parser", parsers(), ids=lambda parser: parser.name)
def test_a_reader_raises_value_errors_alone(quiet, tmp_path, parser):
    taken = sum(attempt(parser, number, tmp_path) for number in range(INPUTS))
    assert taken < INPUTS or parser.name == "arguments"  # which are told by their own class


def test_what_else_comes_out_of_a_reader_is_told_with_the_number_of_its_input(tmp_path):
    def read(path):
        raise KeyError("x")

    parser = Parser("something", "input", lambda random: b"", read)
    with pytest.raises(Escaped, match="something, input 7: KeyError: 'x'"):
        attempt(parser, 7, tmp_path)


def test_the_same_number_gives_the_same_input():
    for parser in parsers():
        assert parser.make(Random("a 1")) == parser.make(Random("a 1")), parser.name


def test_edits_leave_what_they_are_made_from_as_it_is():
    tree = {"a": [1, {"b": 2}]}
    arrays = {"x": np.ones(3), "y": np.ones((2, 2))}
    changed = 0
    for seed in range(50):
        changed += edited_tree(Random(seed), tree) != tree
        changed += edited(Random(seed), b"content") != b"content"
        edited_arrays(Random(seed), arrays)
    assert changed > 60
    assert tree == {"a": [1, {"b": 2}]}
    assert np.array_equal(arrays["x"], np.ones(3))
    assert all(isinstance(as_json(value), bytes) for value in VALUES)
