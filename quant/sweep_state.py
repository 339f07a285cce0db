"""What a sweep has summed up so far: its file, so that an interrupted sweep can be gone on with."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwsim.files import BROKEN_ARCHIVE, check_archive, write_atomically
from quant.curves import WIDTHS

SCHEMA = 1


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Where the unfinished curves of a file are kept: beside it."""
    return Path(f"{os.fspath(path)}.partial.npz")


def fingerprint(*arrays: np.ndarray | Tensor) -> str:
    """Of the shapes and values of arrays, for settings."""
    digest = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array.numpy() if isinstance(array, Tensor) else array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def standard_error(sums: np.ndarray, count: int) -> np.ndarray:
    """Of a mean over `count` images, from sum and sum of squares (2, ...); NaN for one image."""
    mean = sums[0] / count
    if count < 2:
        return np.full_like(mean, np.nan)
    spread = np.maximum(sums[1] / count - np.square(mean), 0.0)
    error: np.ndarray = np.sqrt(spread / (count - 1))
    return error


@dataclass(frozen=True)
class SweepState:
    """Sums after `done` images.

    generator: state of the probes' generator. items: {"weights" or "activations": (2, items, 9)
    sum and sum of squares, over images, of the price of every item, layer after layer}. wholes:
    {same kinds: (2, 9), of an image's price of all items together}.
    """

    done: int
    generator: Tensor
    items: Mapping[str, np.ndarray]
    wholes: Mapping[str, np.ndarray]

    def relative_error(self, kind: str) -> np.ndarray:
        """(9,) standard error of the price of all items together, over that price; NaN if one
        image is all there is, or where nothing is priced."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole: np.ndarray = standard_error(self.wholes[kind], self.done)
            return whole / (self.wholes[kind][0] / self.done)

    def added(
        self, images: int, generator: Tensor, block: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> SweepState:
        """With a block of images: {kind: (what it adds to items, to wholes)}."""
        return SweepState(
            self.done + images,
            generator,
            {kind: self.items[kind] + items for kind, (items, _) in block.items()},
            {kind: self.wholes[kind] + wholes for kind, (_, wholes) in block.items()},
        )

    def save(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Write one .npz file, whole or not at all, with the settings that it belongs to."""
        header = {"schema": SCHEMA, "done": self.done, "settings": settings}
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8),
            "generator": self.generator.numpy(),
            **{f"items_{kind}": array for kind, array in self.items.items()},
            **{f"wholes_{kind}": array for kind, array in self.wholes.items()},
        }
        member = io.BytesIO()
        np.savez(member, **arrays)
        write_atomically(path, member.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> SweepState:
        """Read what `save` wrote. Raises ValueError for another file, and for other settings."""
        again = f"remove {path} to start anew"
        try:
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive)
                read = {
                    name.removesuffix(".npy"): np.lib.format.read_array(
                        io.BytesIO(archive.read(name)), allow_pickle=False
                    )
                    for name in archive.namelist()
                }
            header = json.loads(read["header"].tobytes())
            found = header["settings"]
            schema, done, generator = header["schema"], header["done"], read["generator"]
            if not isinstance(found, dict) or type(done) is not int or generator.dtype != np.uint8:
                raise ValueError
            torch.Generator().set_state(torch.from_numpy(generator.copy()))
        except OSError as error:
            raise ValueError(f"{path}: cannot read: {error.strerror or error}") from None
        except (KeyError, TypeError, ValueError, *BROKEN_ARCHIVE):
            raise ValueError(f"{path}: not the whole state of a sweep; {again}") from None
        if schema != SCHEMA:
            raise ValueError(f"{path}: state of schema {schema!r}, wanted {SCHEMA}; {again}")
        wanted = json.loads(json.dumps(settings))
        other = [key for key in wanted if found.get(key) != wanted[key]]
        if other:
            differences = ", ".join(f"{k} ({found.get(k)!r} there)" for k in other)
            raise ValueError(
                f"{path}: a sweep with other settings was begun there: {differences}; go on with "
                f"those settings, or {again}"
            )
        kinds = ("weights", "activations")
        try:
            items = {kind: read[f"items_{kind}"] for kind in kinds}
            wholes = {kind: read[f"wholes_{kind}"] for kind in kinds}
        except KeyError:
            raise ValueError(f"{path}: not the whole state of a sweep; {again}") from None
        for kind in kinds:
            known = items[kind].shape[1] if items[kind].ndim == 3 else 0
            wanted_shapes = (2, known, WIDTHS), (2, WIDTHS)
            arrays = items[kind], wholes[kind]
            if tuple(a.shape for a in arrays) != wanted_shapes or any(
                a.dtype != np.float64 for a in arrays
            ):
                raise ValueError(f"{path}: not the whole state of a sweep; {again}")
        return cls(done, torch.from_numpy(generator.copy()), items, wholes)
