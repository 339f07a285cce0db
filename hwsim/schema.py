"""From a parsed TOML table to a frozen dataclass; all problems of a file reported together.

Quantities are strings with a unit ("256 KiB", "700 MHz", "34 GB/s"); KiB and kB differ. Unknown
keys are problems with a did-you-mean. "128", true, 3.0 and NaN are not integers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hwsim.names import did_you_mean, shown

# Annotated types that a dataclass field may have; the second argument is the dimension.
Bits = Annotated[int, "bit"]
Hertz = Annotated[int, "Hz"]
BitsPerSecond = Annotated[int, "bit/s"]
Picojoule = Annotated[float, "pJ"]
PicojoulePerBit = Annotated[float, "pJ/bit"]
Picosecond = Annotated[int, "ps"]

_SIZES = {
    "bit": 1, "B": 8,
    "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Kibit": 2**10, "Mibit": 2**20, "Gibit": 2**30,
    "kB": 8 * 10**3, "MB": 8 * 10**6, "GB": 8 * 10**9,
    "KiB": 8 * 2**10, "MiB": 8 * 2**20, "GiB": 8 * 2**30,
}  # fmt: skip
UNITS: dict[str, dict[str, Fraction]] = {
    "bit": {unit: Fraction(size) for unit, size in _SIZES.items()},
    "Hz": {"Hz": Fraction(1), "kHz": Fraction(10**3), "MHz": Fraction(10**6),
           "GHz": Fraction(10**9)},
    "bit/s": {f"{unit}/s": Fraction(size) for unit, size in _SIZES.items()},
    "ps": {"ps": Fraction(1), "ns": Fraction(10**3), "us": Fraction(10**6)},
    "pJ": {"fJ": Fraction(1, 1000), "pJ": Fraction(1), "nJ": Fraction(1000)},
    "pJ/bit": {
        "fJ/bit": Fraction(1, 1000), "pJ/bit": Fraction(1), "nJ/bit": Fraction(1000),
        "pJ/B": Fraction(1, 8), "nJ/B": Fraction(1000, 8),
    },
}  # fmt: skip
# units that values are shown in, with their sizes, largest first
SHOWN_UNITS = {
    "bit": (("GiB", 2**33), ("MiB", 2**23), ("KiB", 2**13), ("bit", 1)),
    "bit/s": (("GB/s", 8 * 10**9), ("MB/s", 8 * 10**6), ("kB/s", 8 * 10**3), ("bit/s", 1)),
    "Hz": (("GHz", 10**9), ("MHz", 10**6), ("kHz", 10**3), ("Hz", 1)),
}
_EXAMPLES = {
    "bit": "256 KiB",
    "Hz": "700 MHz",
    "bit/s": "34 GB/s",
    "ps": "15 ns",
    "pJ": "0.3 pJ",
    "pJ/bit": "2 pJ/bit",
}
# Beyond any chip, and small enough that sums over a network stay within 64 bits.
MAX_QUANTITY = 10**15
MAX_COUNT = 10**9
MAX_PROBLEMS = 20  # of one file that are told
_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z/]+)\s*")


class _Problem(Exception):
    """One thing wrong with one value; the caller adds the path."""


def parse_quantity(text: object, dimension: str) -> Fraction:
    """'256 KiB' -> bits, '700 MHz' -> Hz and so on, exactly. Raises ValueError with an example."""
    try:
        return _quantity(text, dimension)
    except _Problem as problem:
        raise ValueError(str(problem)) from None


def _quantity(text: object, dimension: str) -> Fraction:
    units = UNITS[dimension]
    example = f'a quantity in quotes, such as "{_EXAMPLES[dimension]}"'
    if not isinstance(text, str):
        raise _Problem(f"expected {example}, got {shown(text)}")
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise _Problem(f"expected {example}, got {shown(text)}")
    number, unit = match.groups()
    if unit not in units:
        raise _Problem(f"unknown unit {unit!r} in {text!r}{did_you_mean(unit, units)}")
    amount = Fraction(number) * units[unit]
    if amount > MAX_QUANTITY:
        raise _Problem(f"{text!r} is more than 10^15 {dimension}; check the unit")
    return amount


class Reader:
    """Builds dataclasses and collects problems as 'path: what is wrong'."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, kind: type, table: object, path: str) -> Any:
        """An instance of dataclass `kind` from a TOML table, or None when there were problems."""
        values = self.read_fields(kind, table, path)
        if values is None:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            self.problems.append(f"{path}: {error}")
            return None

    def read_fields(
        self, kind: type, table: object, path: str, skip: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """Values for the fields of `kind` but those in `skip`, or None when there were problems."""
        if not isinstance(table, dict):
            self.problems.append(f"{path}: expected a table, got {shown(table)}")
            return None
        hints = get_type_hints(kind, include_extras=True)
        known = {f.name: f for f in fields(kind) if f.name not in skip}
        before = len(self.problems)
        for key in table:
            if key not in known:
                self.problems.append(f"{_join(path, key)}: unknown key{did_you_mean(key, known)}")
        values: dict[str, Any] = {}
        for name, spec in known.items():
            where, hint = _join(path, name), hints[name]
            if name in table:
                values[name] = self._value(hint, table[name], where)
            elif spec.default is MISSING and spec.default_factory is MISSING:
                self.problems.append(f"{where}: missing; expected {wanted(hint)}")
        return values if len(self.problems) == before else None

    def _value(self, hint: Any, value: object, path: str) -> Any:
        if get_origin(hint) in (Union, UnionType):  # X | None: TOML has no null, so X
            hint = next(arg for arg in get_args(hint) if arg is not type(None))
        if is_dataclass(hint):
            return self.read(hint, value, path)  # type: ignore[arg-type]
        if get_origin(hint) is tuple:
            if not isinstance(value, list):
                self.problems.append(f"{path}: expected a list, got {shown(value)}")
                return None
            return tuple(
                self._value(get_args(hint)[0], v, f"{path}[{i}]") for i, v in enumerate(value)
            )
        try:
            return _scalar(hint, value)
        except _Problem as problem:
            self.problems.append(f"{path}: {problem}")
            return None


def _scalar(hint: Any, value: object) -> Any:
    if get_origin(hint) is Annotated:
        base, dimension = get_args(hint)
        amount = _quantity(value, dimension)
        if base is int:
            if amount.denominator != 1:
                raise _Problem(f"expected a whole number of {dimension}, got {shown(value)}")
            return int(amount)
        return float(amount)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if not isinstance(value, str) or value not in choices:
            raise _Problem(f"expected one of {', '.join(choices)}, got {shown(value)}")
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_COUNT:
            raise _Problem(f"expected an integer of at most {MAX_COUNT}, got {shown(value)}")
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not isfinite(value):
            raise _Problem(f"expected a finite number, got {shown(value)}")
        return float(value)
    raise _Problem(f"expected {wanted(hint)}, got {shown(value)}")


def listing(problems: Sequence[str]) -> str:
    """Problems of one file as one line, the first MAX_PROBLEMS of them."""
    if len(problems) == 1:
        return problems[0]
    more = len(problems) - MAX_PROBLEMS
    told = [*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    return f"{len(problems)} problems: {'; '.join(told)}"


def wanted(hint: Any) -> str:
    """What a field with this type hint expects, in words."""
    if get_origin(hint) is Annotated:
        return f'a quantity such as "{_EXAMPLES[get_args(hint)[1]]}"'
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if is_dataclass(hint):
        return "a table"
    return {int: "an integer", float: "a number", str: "text", bool: "true or false"}.get(
        hint, "a list"
    )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
