"""Design space: numeric fields of an accelerator, ranges of them, and the points to try.

A field is named by its path as `chipfit accelerators NAME` prints it, such as
`memory[unified_buffer].capacity`, or by an end of it that no other path has (`array.rows`,
`unified_buffer.capacity`, `clock`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from itertools import product
from math import floor, log, log1p, prod
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.names import did_you_mean
from hwsim.schema import MAX_COUNT, MAX_QUANTITY, SHOWN_UNITS, parse_quantity

MAX_POINTS = 65_536
MAX_FULL_GRID = 3  # axes; beyond, points are drawn
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
# assumed: rounding to whole bits or hertz by so little is no change of the design
_NEGLIGIBLE = 1e-6
Value = int | float
Design = tuple[Value, ...]  # one value an axis


@dataclass(frozen=True)
class Field:
    """A number of an accelerator. dimension: its unit, such as bit, or None for a plain number.
    steps: how to reach it: names of fields and places in tuples."""

    path: str
    dimension: str | None
    whole: bool
    value: Value
    steps: tuple[str | int, ...]

    @property
    def short(self) -> str:
        return re.sub(r"^(?:memory|dram)\[(.*?)\]\.", r"\1.", self.path)

    def show(self, value: Value) -> str:
        return show(value, self.dimension)


@dataclass(frozen=True)
class Axis:
    """Fields that take the same values together, and these values, rising unless listed."""

    fields: tuple[Field, ...]
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        return ",".join(field.path for field in self.fields)

    @property
    def short(self) -> str:
        return ",".join(field.short for field in self.fields)

    @property
    def label(self) -> str:
        """For figures: the name, with the unit in which `scaled` gives values."""
        unit = self.unit[0]
        return f"{self.short} [{unit}]" if unit else self.short

    @property
    def unit(self) -> tuple[str, float]:
        """The largest unit in which half of the values are 1 or more, and its size; ('', 1) for
        counts."""
        units = SHOWN_UNITS.get(self.fields[0].dimension or "", ())
        middle = sorted(self.values)[len(self.values) // 2]
        for name, size in units:
            if middle >= size:
                return name, float(size)
        return self.fields[0].dimension or "", 1.0

    def scaled(self) -> list[float]:
        return [value / self.unit[1] for value in self.values]


def show(value: Value, dimension: str | None) -> str:
    """A value in the largest unit in which it is at least 1, to 6 digits."""
    for unit, size in SHOWN_UNITS.get(dimension or "", ()):
        if value >= size:
            return f"{value / size:.6g} {unit}"
    return f"{value:.6g} {dimension}" if dimension else f"{value:.6g}"


def numeric_fields(accelerator: Accelerator) -> dict[str, Field]:
    """{path: field} of every number in a description."""
    return {field.path: field for field in _walk(accelerator, "", ())}


def _walk(node: Any, path: str, steps: tuple[str | int, ...]) -> list[Field]:
    found: list[Field] = []
    hints = get_type_hints(type(node), include_extras=True)
    for spec in fields(node):
        value, where = getattr(node, spec.name), f"{path}.{spec.name}" if path else spec.name
        here = (*steps, spec.name)
        if is_dataclass(value):
            found += _walk(value, where, here)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for i, item in enumerate(value):
                found += _walk(item, f"{where}[{item.name}]", (*here, i))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            hint = hints[spec.name]
            dimension = get_args(hint)[1] if get_origin(hint) is Annotated else None
            kind = get_args(hint)[0] if dimension else hint
            found.append(Field(where, dimension, kind is int, value, here))
    return found


def find_field(accelerator: Accelerator, name: str) -> Field:
    """The field that a path, or a unique end of one, names. Raises ValueError for none, for
    several, and for one that is no number."""
    known = numeric_fields(accelerator)
    if name in known:
        return known[name]
    ends = [f for f in known.values() if f".{f.short}".endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        listed = " or ".join(field.short for field in ends)
        raise ValueError(f"--vary: {name!r} may be {listed}; say which")
    names = [*known, *(field.short for field in known.values())]
    if name.split(".")[-1] in _texts(accelerator):
        raise ValueError(
            f"--vary: {name!r} of accelerator {accelerator.name!r} is no number{_hint(name, names)}"
        )
    raise ValueError(
        f"--vary: accelerator {accelerator.name!r} has no field {name!r}{_hint(name, names)}"
    )


def has_fields(accelerator: Accelerator, text: str) -> bool:
    """Whether every field that 'FIELD,FIELD=...' names could be one of this accelerator."""
    ends = [f".{field.short}" for field in numeric_fields(accelerator).values()]
    known = {*numeric_fields(accelerator)}
    names = [name.strip() for name in text.partition("=")[0].split(",")]
    return all(n in known or any(end.endswith(f".{n}") for end in ends) for n in names)


def _hint(name: str, names: Sequence[str]) -> str:
    return did_you_mean(name, names) or "; see `chipfit accelerators NAME` for its fields"


def _texts(accelerator: Accelerator) -> set[str]:
    """Names of fields that hold no number."""
    parts: list[Any] = [accelerator, accelerator.array, accelerator.operand_width,
                        accelerator.vector, *accelerator.memory, *accelerator.dram]  # fmt: skip
    return {
        spec.name
        for part in parts
        for spec in fields(part)
        if isinstance(getattr(part, spec.name), str | bool | tuple)
    }


def parse_axis(accelerator: Accelerator, text: str) -> Axis:
    """'FIELD=LO:HI:STEP', 'FIELD=LO:HI:xFACTOR' or 'FIELD=A,B,...'; 'FIELD,FIELD=...' for several
    that take the same values. Values carry the field's unit ('4MiB'), counts none.

    A linear range ends at the last step within HI. Raises ValueError, naming the text, for
    unknown fields, ranges that are reversed, empty or too long, and fractions of whole numbers.
    """
    names, equals, spec = text.partition("=")
    if not equals or not names.strip() or not spec.strip():
        raise ValueError(
            f"--vary {text!r}: expected FIELD=LO:HI:STEP, FIELD=LO:HI:xFACTOR or FIELD=A,B,..., "
            f"such as unified_buffer.capacity=4MiB:32MiB:4MiB or array.rows=64:512:x2"
        )
    found = tuple(find_field(accelerator, name.strip()) for name in names.split(","))
    if len({(field.dimension, field.whole) for field in found}) > 1:
        raise ValueError(f"--vary {text!r}: fields that vary together must be of one unit")
    if len({field.path for field in found}) < len(found):
        raise ValueError(f"--vary {text!r}: the same field twice")
    try:
        exact, geometric = _exact_values(found[0], spec)
        values = tuple(_stored(found[0], value, geometric) for value in exact)
    except ValueError as error:
        raise ValueError(f"--vary {text!r}: {error}") from None
    if len(set(values)) < len(values):
        raise ValueError(f"--vary {text!r}: gives the same value twice")
    return Axis(found, values)


def _exact_values(field: Field, spec: str) -> tuple[list[Fraction], bool]:
    """The values, and whether they are a geometric range."""
    parts = [part.strip() for part in spec.split(":")]
    if len(parts) == 1:
        return [_amount(field, part) for part in spec.split(",")], False
    if len(parts) != 3:
        raise ValueError(
            f"a range is LO:HI:STEP or LO:HI:xFACTOR, got {len(parts)} parts between colons"
        )
    low, high = _amount(field, parts[0]), _amount(field, parts[1])
    if high < low:
        raise ValueError(f"the range is reversed: {parts[0]} is more than {parts[1]}")
    if parts[2].startswith("x"):
        match = _NUMBER.fullmatch(parts[2][1:])
        factor = Fraction(match[0]) if match else Fraction(0)
        if factor <= 1 or low == 0:
            raise ValueError(
                f"a geometric range starts above 0 and takes a factor above 1 such as x2, got "
                f"{parts[0]} and {parts[2]!r}"
            )
        if log(high) - log(low) > MAX_POINTS * log1p(factor - 1):
            raise ValueError(f"more than {MAX_POINTS:,} values; take a larger factor")
        values = [low]
        while values[-1] * factor <= high:
            following = Fraction(values[-1] * factor).limit_denominator(10**12)
            if following <= values[-1]:
                raise ValueError(f"{parts[0]} is too small to go on from by {parts[2]}")
            values.append(following)
        return values, True
    step = _amount(field, parts[2])
    if step <= 0:
        raise ValueError("the step must be above 0")
    count = floor((high - low) / step) + 1
    if count > MAX_POINTS:
        raise ValueError(f"{count:,} values, and at most {MAX_POINTS:,} points; a larger step")
    return [low + i * step for i in range(count)], False


def _amount(field: Field, text: str) -> Fraction:
    text = text.strip()
    if field.dimension is not None:
        return parse_quantity(text, field.dimension)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"expected a number without a unit, got {text!r}")
    value = Fraction(text)
    if value > MAX_COUNT:
        raise ValueError(f"expected at most {MAX_COUNT}, got {text}")
    return value


def _stored(field: Field, value: Fraction, geometric: bool) -> Value:
    if not field.whole:
        return float(value)
    nearest = round(value)
    rounded = geometric and field.dimension is not None
    if value != nearest and not (rounded and abs(value - nearest) <= _NEGLIGIBLE * value):
        unit = f" of {field.dimension}" if field.dimension else ""
        raise ValueError(
            f"{field.short} is a whole number{unit}, and the range has {float(value):g} in it; "
            f"take whole steps or list the values"
        )
    return nearest


def grid(axes: Sequence[Axis]) -> list[Design]:
    """Every combination, the last axis fastest. Raises ValueError for too many, or for more axes
    than a full grid is made of."""
    if len(axes) > MAX_FULL_GRID:
        raise ValueError(
            f"a full grid is of at most {MAX_FULL_GRID} --vary, got {len(axes)}; give --samples N "
            f"to draw N points instead"
        )
    count = prod(len(axis.values) for axis in axes)
    if count > MAX_POINTS:
        raise ValueError(
            f"{count:,} design points, and at most {MAX_POINTS:,}; take larger steps or --samples N"
        )
    return list(product(*(axis.values for axis in axes)))


def latin_hypercube(axes: Sequence[Axis], samples: int, seed: int) -> list[Design]:
    """At most `samples` different points, each axis cut in `samples` equal parts of which every
    one is met once: so each value is drawn equally often, to within one, before repeated points
    are dropped. McKay, Beckman, Conover, Technometrics 21(2), 1979."""
    if samples > MAX_POINTS:
        raise ValueError(f"--samples {samples}: at most {MAX_POINTS:,} points")
    rng = np.random.default_rng(seed)
    columns = []
    for axis in axes:
        parts = (rng.permutation(samples) + 0.5) / samples
        columns.append([axis.values[int(part * len(axis.values))] for part in parts])
    return list(dict.fromkeys(zip(*columns, strict=True)))


def with_values(accelerator: Accelerator, axes: Sequence[Axis], design: Design) -> Accelerator:
    """The accelerator at a design point. Raises ValueError, naming the point, where there can be
    no such chip.

    A row-stationary buffer is its banks: where a description has them agree, changing the
    capacity changes the number of banks, and the other way round.
    """
    values = {
        field: value
        for axis, value in zip(axes, design, strict=True)
        for field in axis.fields
    }  # fmt: skip
    try:
        built: Accelerator = accelerator
        for field, value in values.items():
            built = _replaced(built, field.steps, value)
        return _banks_agree(accelerator, built, {field.path: field for field in values})
    except ValueError as error:
        point = ", ".join(f"{f.short} = {f.show(v)}" for f, v in values.items())
        raise ValueError(f"no {accelerator.name} with {point}: {error}") from None


def _replaced(node: Any, steps: Sequence[str | int], value: Value) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        return (*node[:step], _replaced(node[step], rest, value), *node[step + 1 :])
    return replace(node, **{step: _replaced(getattr(node, step), rest, value)})


def _banks_agree(
    before: Accelerator, after: Accelerator, varied: Mapping[str, Field]
) -> Accelerator:
    if not isinstance(before.array, RowStationaryArray):
        return after
    gbuf = before.memory_for("ifmap")
    if gbuf.capacity != before.array.gbuf_banks * before.array.bank_bits:
        return after
    array, now = after.array, after.memory_for("ifmap")
    assert isinstance(array, RowStationaryArray)
    by_banks = {"array.gbuf_banks", "array.bank_bits"} & set(varied)
    by_size = f"memory[{gbuf.name}].capacity" in varied
    if by_size and "array.gbuf_banks" not in varied:
        banks = now.capacity // array.bank_bits
        if banks * array.bank_bits != now.capacity:
            raise ValueError(f"{gbuf.name} must be whole banks of {show(array.bank_bits, 'bit')}")
        return replace(after, array=replace(array, gbuf_banks=banks))
    if by_banks and not by_size:
        size = array.gbuf_banks * array.bank_bits
        memory = tuple(replace(m, capacity=size) if m is now else m for m in after.memory)
        return replace(after, memory=memory)
    return after


def unlimited(accelerator: Accelerator, field: Field) -> Accelerator:
    """The accelerator with a channel whose bandwidth is beyond any chip's."""
    built: Accelerator = _replaced(accelerator, field.steps, MAX_QUANTITY)
    return built


def onchip_bits(accelerator: Accelerator) -> int:
    """On-chip storage, a proxy of area: all memories, and the scratch pads of all PEs."""
    bits = sum(memory.capacity for memory in accelerator.memory)
    array = accelerator.array
    if isinstance(array, RowStationaryArray):
        bits += array.pes * array.word_bits * (
            array.ifmap_spad + array.filter_spad + array.psum_spad
        )  # fmt: skip
    return bits
