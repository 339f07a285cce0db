"""manifest.json: what made a run, so that it can be repeated and checked."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = ("chipfit", "torch", "torchvision", "numpy", "pandas", "matplotlib", "networkx")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def file_sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_sha256(folder: str | Path) -> str:
    """Of the sorted list 'sha256  relative path' of all files in a folder; of a file, its own."""
    root = Path(folder)
    if root.is_file():
        return file_sha256(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{file_sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def build_manifest(
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
    outputs: Mapping[str, bytes],
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """command: as typed. inputs: {what it is: path or None}. outputs: {name: content}."""
    return {
        "schema": 1,
        "command": command,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "options": dict(options),
        "inputs": {
            name: {"path": path, "sha256": folder_sha256(path)}
            for name, path in inputs.items()
            if path is not None
        },
        "outputs": {name: hashlib.sha256(data).hexdigest() for name, data in outputs.items()},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }
