"""manifest.json: what made a run, so that it can be repeated and checked."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis.scale.keys import PACKAGES, code_version

MANIFEST = "manifest.json"
RECORDED = ("chipfit", "torch", "torchvision", "numpy", "pandas", "matplotlib", "networkx")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def json_bytes(data: object) -> bytes:
    """As the files of a run hold it."""
    return (json.dumps(data, indent=1) + "\n").encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
) -> dict[str, Any]:
    """command: as typed, in `directory`. inputs: {what it is: path or None}, a file or a folder.
    outputs: {name: content}. Both are recorded with their SHA-256, for `chipfit verify`."""
    return {
        "schema": 1,
        "command": command,
        "directory": os.getcwd(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "sources": code_version(*PACKAGES),
        "platform": platform.platform(),
        "options": dict(options),
        "inputs": {
            name: {"path": path, "sha256": folder_sha256(path)}
            for name, path in inputs.items()
            if path is not None
        },
        "outputs": {name: sha256(data) for name, data in outputs.items()},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def sealed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a run with a manifest that names them all, also those made after it."""
    if MANIFEST not in files:
        return dict(files)
    manifest = json.loads(files[MANIFEST])
    manifest["outputs"] = {n: sha256(data) for n, data in files.items() if n != MANIFEST}
    return {**files, MANIFEST: json_bytes(manifest)}
