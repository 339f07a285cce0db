"""What a description of an accelerator says, with units, and what one may say: all its fields."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from inspect import cleandoc
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hwsim.accelerator import (
    ARRAYS,
    Accelerator,
    ChannelMetadata,
    Dram,
    Memory,
    OperandWidth,
    VectorUnit,
)
from hwsim.schema import SHOWN_UNITS, wanted

_TABLES: dict[str, type] = {
    "[operand_width]": OperandWidth,
    "[vector]": VectorUnit,
    "[metadata]": ChannelMetadata,
    "[[memory]]": Memory,
    "[[dram]]": Dram,
}


def describe(noun: Any, path: str = "") -> list[str]:
    """Every value of a description as 'path = value', quantities with their units."""
    hints = get_type_hints(type(noun), include_extras=True)
    lines = []
    for field in fields(noun):
        value, where = getattr(noun, field.name), f"{path}.{field.name}" if path else field.name
        if is_dataclass(value):
            lines += describe(value, where)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for part in value:
                lines += describe(part, f"{where}[{part.name}]")
        else:
            lines.append(f"{where} = {_shown(value, hints[field.name])}")
    return lines


def _shown(value: object, hint: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as in the file
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if get_origin(hint) is not Annotated:
        return str(value)
    dimension = get_args(hint)[1]
    for unit, size in SHOWN_UNITS.get(dimension, ()):
        if isinstance(value, int) and value and value % size == 0:
            return f"{value // size} {unit}"  # exact, so that a file may say the same
    return f"{value} {dimension}"


def field_lines() -> list[str]:
    """Every field that a TOML file may have, table by table: what is expected, the default, and
    what the fields mean."""
    lines = [
        "schema = 1",
        f"kind: one of {', '.join(ARRAYS)}",
        *_fields(Accelerator, ("name", "description", "source", "clock")),
    ]
    for kind, array in ARRAYS.items():
        lines += ["", f'[array] of kind = "{kind}"', *_fields(array)]
    for table, noun in _TABLES.items():
        lines += ["", table, *_fields(noun)]
    return lines


def _fields(noun: type, only: tuple[str, ...] = ()) -> list[str]:
    hints = get_type_hints(noun, include_extras=True)
    shown = [field for field in fields(noun) if not only or field.name in only]
    lines = []
    for field in shown:
        hint = hints[field.name]
        text = wanted(hint)
        if get_origin(hint) is tuple:
            text = f"a list; each {wanted(get_args(hint)[0])}"
        if field.default is not MISSING:
            text += f" (default {_shown(field.default, hint)})"
        lines.append(f"  {field.name}: {text}")
    meaning = cleandoc(noun.__doc__ or "").splitlines() if not only else []
    return lines + [f"  # {line}".rstrip() for line in meaning]
