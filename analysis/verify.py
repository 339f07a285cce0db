"""Verify: is a run still what its manifest says, and does its command give the same tables again?

Figures and reports are compared by their hash alone: a library that draws may change a line. The
numbers are in the tables (`.csv`, `.json`), and those are computed anew.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.manifest import MANIFEST, file_sha256, folder_sha256, versions
from analysis.scale import PACKAGES, code_version
from analysis.sources import is_program
from hwsim.files import read_json

TABLES = (".csv", ".json")
SHOWN = 5  # differences of one table
LARGEST = 1 << 24  # bytes of a manifest
OUTPUT_OPTIONS = ("output", "plots")  # where the commands that leave a folder take its name from
SMALL = 1e-6  # real numbers below it are compared as if they were as large


@dataclass(frozen=True)
class Verified:
    """differences: what is not as it was, a line each. notes: what was not compared, and why."""

    checked: int
    differences: tuple[str, ...]
    notes: tuple[str, ...] = ()


def default_tolerance(manifest: Mapping[str, Any]) -> float:
    """0 where all is simulated; for commands that run a network, sums of floating-point numbers
    come in another order with another number of threads (differences of 3e-8 were seen)."""
    return 1e-6 if manifest["command"][1:2] in (["run"], ["pareto"]) else 0.0


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run. Raises ValueError for a folder that has none, or a broken one."""
    path = folder / MANIFEST
    if not os.path.isfile(path):
        raise ValueError(f"{folder}: not a run of chipfit: it has no {MANIFEST}")
    data = read_json(path, LARGEST, "manifest")
    whole = (
        isinstance(data, dict)
        and data.get("schema") == 1
        and _texts(data.get("command")) is not None
        and isinstance(data.get("outputs"), dict)
        and isinstance(data.get("inputs"), dict)
        and all(isinstance(entry, dict) for entry in data["inputs"].values())
        and isinstance(data.get("directory", "."), str)
    )
    if not whole:
        raise ValueError(f"{path}: not a manifest that this version of chipfit reads (schema 1)")
    return data


def _texts(data: object) -> list[str] | None:
    whole = isinstance(data, list) and data and all(isinstance(item, str) for item in data)
    return data if whole else None  # type: ignore[return-value]


def check_hashes(folder: Path, manifest: Mapping[str, Any]) -> Verified:
    """Whether all files of a run, and what it was made from, are still the same."""
    outputs, found = manifest["outputs"], []
    present = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } - {MANIFEST}
    for name, digest in outputs.items():
        if name not in present:  # nor a name that leads out of the folder
            found.append(f"{name}: missing")
        elif file_sha256(folder / name) != digest:
            found.append(f"{name}: changed since the run")
    found += [f"{name}: not of this run" for name in sorted(present - set(outputs))]
    for what, entry in manifest["inputs"].items():
        path = Path(manifest.get("directory", "."), str(entry.get("path")))
        name = f"input {path}" if str(path) == what else f"input {path} ({what})"
        if not path.exists():
            found.append(f"{name}: missing")
        elif folder_sha256(path) != entry.get("sha256"):
            found.append(f"{name}: changed since the run")
    return Verified(len(outputs) + len(manifest["inputs"]), tuple(found))


def recompute(folder: Path, manifest: Mapping[str, Any], tolerance: float, code: bool) -> Verified:
    """Run the command of a manifest again, where it ran, without its ledger, into a folder that
    is removed afterwards; and compare the tables.

    tolerance: relative, of real numbers; whole ones must be equal. code: whether a model that is
    a program of its own may run. Raises ValueError for a command that leaves no folder, and as
    the command does.
    """
    with tempfile.TemporaryDirectory() as above:
        again = Path(above) / "again"
        options = _options(manifest["command"], again, code)
        directory = Path(manifest.get("directory", "."))
        silent = contextlib.redirect_stdout(io.StringIO())
        with contextlib.chdir(directory if directory.is_dir() else "."), silent:
            options.run(options)
        tables = [name for name in manifest["outputs"] if name.endswith(TABLES)]
        differences: list[str] = []
        for name in tables:
            before, after = folder / name, again / name
            if not after.is_file():
                differences.append(f"{name}: no longer made")
            elif before.is_file():
                differences += compare(before, after, name, tolerance)
        made = {p.relative_to(again).as_posix() for p in again.rglob("*") if p.is_file()}
        new = sorted(made - set(manifest["outputs"]) - {MANIFEST})
        differences += [f"{name}: made now, but not then" for name in new]
        others = [name for name in manifest["outputs"] if name not in tables and name in made]
        same = sum(file_sha256(again / n) == manifest["outputs"][n] for n in others)
    notes = [f"{same} of {len(others)} figures and reports are equal to the byte"] * bool(others)
    if manifest.get("sources") != code_version(*PACKAGES):
        notes.append("the sources of chipfit are not those that made the run")
    if manifest.get("versions") != versions():
        notes.append("Python or a package is of another version than when the run was made")
    return Verified(len(tables), tuple(differences), tuple(notes))


def _options(command: list[str], output: Path, code: bool) -> Namespace:
    from analysis.cli import build_parser

    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            options = build_parser().parse_args(command[1:])
    except SystemExit:
        raise ValueError(
            f"verify: this version of chipfit does not know the command of the manifest: "
            f"{' '.join(command)}"
        ) from None
    name = next((name for name in OUTPUT_OPTIONS if hasattr(options, name)), None)
    if name is None:
        raise ValueError(f"verify: {' '.join(command)} leaves no folder to compare with")
    models = getattr(options, "model", None) or getattr(options, "source", None) or ""
    for model in [models] if isinstance(models, str) else models:
        if is_program(model) and not code:
            raise ValueError(
                f"verify: the run was made by a program, {model}, which would run again; if you "
                f"trust it, give --run-code, otherwise --fast"
            )
    setattr(options, name, str(output))
    # what else a command writes or reads, outside its folder
    for other, value in (("json", None), ("ledger", "none"), ("scheduler", None)):
        if hasattr(options, other):
            setattr(options, other, value)
    options.argv = command
    return options


def compare(before: Path, after: Path, name: str, tolerance: float) -> list[str]:
    """Differences of two tables, a line each, the first SHOWN of them."""
    try:
        old, new = _read(before), _read(after)
    except (ValueError, RecursionError, csv.Error) as error:
        return [f"{name}: cannot be read: {error}"]
    found = list(_differences(old, new, "", tolerance))
    more = [f"{name}: and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [*(f"{name}{line}" for line in found[:SHOWN]), *more]


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    return list(csv.DictReader(io.StringIO(text)))


def _differences(old: Any, new: Any, where: str, tolerance: float) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            if key not in old or key not in new:
                yield f"{where}, {key}: {'made now, but not then' if key in new else 'missing'}"
            else:
                yield from _differences(old[key], new[key], f"{where}, {key}", tolerance)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where}: {len(old)} entries then, {len(new)} now"
        for i, (one, other) in enumerate(zip(old, new, strict=False), 1):
            yield from _differences(one, other, f"{where} entry {i}", tolerance)
    elif not _equal(old, new, tolerance):
        yield f"{where}: {old} then, {new} now"


def _equal(old: Any, new: Any, tolerance: float) -> bool:
    if old == new or (old != old and new != new):
        return True
    try:
        one, other = float(old), float(new)
    except (TypeError, ValueError):
        return False
    if one.is_integer() and other.is_integer():  # counts, which no rounding changes
        return one == other
    return abs(one - other) <= tolerance * max(abs(one), abs(other), SMALL)
