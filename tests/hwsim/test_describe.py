"""What the user is told of accelerators: all fields, with units, choices and meaning."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields
from typing import Literal, get_origin, get_type_hints

import pytest

from hwsim.accelerator import (
    ARRAYS,
    Accelerator,
    ChannelMetadata,
    Dram,
    Memory,
    OperandWidth,
    VectorUnit,
    load_accelerator,
    parse_accelerator,
    preset_names,
    read_description,
)
from hwsim.describe import describe, field_lines

NOUNS = [*ARRAYS.values(), OperandWidth, VectorUnit, ChannelMetadata, Memory, Dram]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_every_switch_is_explained_and_every_field_is_listed(noun):
    hints = get_type_hints(noun, include_extras=True)
    listed = "\n".join(field_lines())
    for field in fields(noun):
        assert f"\n  {field.name}: " in listed
        switch = hints[field.name] is bool or get_origin(hints[field.name]) is Literal
        if switch or field.default is not MISSING:
            assert f"{field.name}" in (noun.__doc__ or ""), f"{field.name} is not explained"


def test_fields_say_their_choices_defaults_and_units():
    lines = field_lines()
    assert "  schedule: one of pipelined, serial" in lines
    assert '  turnaround: a quantity such as "15 ns" (default 0 ps)' in lines
    assert "  holds: a list; each one of weights, ifmap, ofmap, psum" in lines
    assert "  sort_columns: true or false (default false)" in lines


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_described_in_full_and_its_file_makes_it_again(name):
    accelerator = load_accelerator(name)
    lines = describe(accelerator)
    assert f"clock = {accelerator.clock} Hz" in lines
    for memory in accelerator.memory:
        assert f"memory[{memory.name}].capacity = {memory.capacity} bit" in lines
    assert len(lines) == len({line.split(" = ")[0] for line in lines})
    content, where = read_description(name)
    assert parse_accelerator(content, where) == accelerator
    top = [field.name for field in fields(Accelerator)]
    assert {line.split(".")[0].split("[")[0].split(" = ")[0] for line in lines} == set(top)
    assert {"schema", "kind"} == set(tomllib.loads(content.decode())) - set(top)
