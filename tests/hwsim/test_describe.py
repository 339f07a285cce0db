"""What the user is told of accelerators: all fields, with units, choices and meaning."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields, replace
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
from hwsim.schema import parse_quantity

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


def test_quantities_are_shown_in_the_largest_unit_in_which_they_are_whole():
    lines = describe(load_accelerator("tpu_v1"))
    assert "clock = 700 MHz" in lines
    assert "memory[unified_buffer].capacity = 24 MiB" in lines
    assert "dram[weight_dram].bandwidth = 34 GB/s" in lines
    assert "dram[weight_dram].burst = 512 bit" in lines
    assert "dram[weight_dram].turnaround = 0 ps" in lines
    faster = replace(load_accelerator("tpu_v1"), clock=1_500_000_000)
    assert "clock = 1500 MHz" in describe(faster)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_described_in_full_and_its_file_makes_it_again(name):
    accelerator = load_accelerator(name)
    lines = describe(accelerator)
    shown = dict(line.split(" = ", 1) for line in lines)
    assert parse_quantity(shown["clock"], "Hz") == accelerator.clock
    for memory in accelerator.memory:
        assert parse_quantity(shown[f"memory[{memory.name}].capacity"], "bit") == memory.capacity
    assert len(lines) == len({line.split(" = ")[0] for line in lines})
    content, where = read_description(name)
    assert parse_accelerator(content, where) == accelerator
    top = [field.name for field in fields(Accelerator)]
    assert {line.split(".")[0].split("[")[0].split(" = ")[0] for line in lines} == set(top)
    assert {"schema", "kind"} == set(tomllib.loads(content.decode())) - set(top)
