"""Keys of results: equal exactly when the code and everything that went in are equal."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("hwsim", "quant", "analysis")  # all that a result may depend on
KEY_BYTES = 16  # two of 10^8 results collide with a chance of 10^-23


def key_of(*parts: object) -> bytes:
    """KEY_BYTES of the SHA-256 of what the parts look like.

    Parts are text, bytes, numbers, None, tuples, and frozen dataclasses of such, whose `repr`
    says all; no arrays, whose `repr` is shortened, and no sets, whose order is not fixed.
    """
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).digest()[:KEY_BYTES]


@cache
def code_version(*packages: str) -> str:
    """The version of chipfit and the SHA-256 of the Python and TOML files of packages, so that no
    result outlives a change of what computed it."""
    digest = hashlib.sha256()
    for package in packages:
        for name, file in sorted(_sources(files(package), package)):
            content = file.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"chipfit {metadata.version('chipfit')}, sources {digest.hexdigest()[:16]}"


def _sources(folder: Traversable, where: str) -> list[tuple[str, Traversable]]:
    found = []
    for item in folder.iterdir():
        if item.is_dir():
            found += _sources(item, f"{where}/{item.name}")
        elif item.name.endswith((".py", ".toml")):
            found.append((f"{where}/{item.name}", item))
    return found
