"""Mapping files: {layer: RsMapping} from TOML, presets among them.

schema = 1
[layers."features.0"]
m = 64
...
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import fields
from importlib import resources

from hwsim.files import read_bounded
from hwsim.names import did_you_mean, shown
from hwsim.row_stationary.mapping import RsMapping
from hwsim.schema import MAX_COUNT, listing

MAX_FILE_BYTES = 1 << 20  # a mapping file is a few kilobytes; anything larger is a mistake
PARAMETERS = tuple(field.name for field in fields(RsMapping))


def mapping_presets() -> list[str]:
    """Names of the mapping files that come with the package."""
    folder = resources.files("hwsim.row_stationary") / "mappings"
    names = [file.name for file in folder.iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_mappings(spec: str | os.PathLike[str]) -> dict[str, RsMapping]:
    """Mappings by layer: a preset by name, or a TOML file by path (with suffix or separator).

    Raises ValueError listing every problem of the file.
    """
    text = os.fspath(spec)
    if not text.endswith(".toml") and os.sep not in text:
        if text not in mapping_presets():
            raise ValueError(
                f"mappings {text!r} are not a preset{did_you_mean(text, mapping_presets())}; for "
                f"your own give the path of a .toml file"
            )
        folder = resources.files("hwsim.row_stationary") / "mappings"
        return parse_mappings((folder / f"{text}.toml").read_bytes(), f"{text}.toml")
    return parse_mappings(read_bounded(text, MAX_FILE_BYTES, "mappings"), text)


def parse_mappings(content: bytes, where: str) -> dict[str, RsMapping]:
    """Mappings from the bytes of a TOML file; `where` names it in errors."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, endless numbers
        raise ValueError(f"{where}: not a TOML file: {error}") from None
    found: list[str] = []
    schema = table.get("schema")
    if schema != 1 or type(schema) is not int:  # true and 1.0 are equal to 1
        found.append("schema: expected schema = 1")
    for key in table:
        if key not in ("schema", "layers"):
            found.append(f"{key}: unknown key{did_you_mean(key, ['schema', 'layers'])}")
    layers = table.get("layers")
    if not isinstance(layers, dict) or not layers:
        found.append('layers: expected one table a layer, such as [layers."conv1"]')
        layers = {}
    mappings = {}
    for name, values in layers.items():
        before = len(found)
        if not isinstance(values, dict):
            found.append(f"layers.{name}: expected a table, got {shown(values)}")
            continue
        for key in values:
            if key not in PARAMETERS:
                found.append(f"layers.{name}.{key}: unknown key{did_you_mean(key, PARAMETERS)}")
        for key in PARAMETERS:
            value = values.get(key)
            if (
                isinstance(value, bool)
                or not isinstance(value, int)
                or not (1 <= value <= MAX_COUNT)
            ):
                got = f"got {shown(value)}" if key in values else "it is missing"
                found.append(f"layers.{name}.{key}: expected an integer of 1..{MAX_COUNT}, {got}")
        if len(found) == before:
            mappings[name] = RsMapping(**values)
    if found:
        raise ValueError(f"{where}: {listing(found)}")
    return mappings
