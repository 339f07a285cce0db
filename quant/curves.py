"""RDCurves: the distortion of every channel and activation tensor at every width, and its file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from hwsim.files import BROKEN_ARCHIVE, check_archive, write_atomically
from hwsim.names import did_you_mean

WIDTHS = 9  # bit widths 0..8; index into a curve is the width
SCHEMA = 1
MAX_VALUES = 10**12  # behind one channel or in one tensor; more is a mistake
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip entry: the same content, the same bytes


def _checked(where: str, distortion: object, shape: tuple[int | None, int]) -> np.ndarray:
    try:
        if np.asarray(distortion).dtype.kind == "c":
            raise TypeError
        array = np.ascontiguousarray(distortion, dtype=np.float64).view()
    except (TypeError, ValueError):
        raise ValueError(f"{where}: distortion must be an array of numbers") from None
    wanted = f"({shape[0] or 'channels'}, {shape[1]})"
    if array.ndim != 2 or array.shape[1] != shape[1] or shape[0] not in (None, array.shape[0]):
        raise ValueError(f"{where}: distortion must have shape {wanted}, got {array.shape}")
    if array.shape[0] == 0:
        raise ValueError(f"{where}: distortion has no channels")
    if not array.min() >= 0:  # also true for NaN
        row, width = (int(i) for i in np.argwhere(~(array >= 0))[0])
        raise ValueError(
            f"{where}: distortion must be at least 0 (inf where a width is not allowed), got "
            f"{array[row, width]} for channel {row} at {width} bits"
        )
    allowed = np.isfinite(array).any(axis=1)
    if not allowed.all():
        raise ValueError(f"{where}: channel {int(np.argmin(allowed))} has no finite distortion")
    array.setflags(write=False)
    return array


def _checked_error(where: str, error: object, distortion: np.ndarray) -> np.ndarray | None:
    if error is None:
        return None
    if np.asarray(error).dtype.kind not in "iuf":
        raise ValueError(f"{where}: standard_error must be an array of numbers")
    array = np.array(error, dtype=np.float32)
    if array.shape != distortion.shape:
        raise ValueError(
            f"{where}: standard_error must have the distortion's shape {distortion.shape}, got "
            f"{array.shape}"
        )
    if np.isnan(array).all():  # unknown, as from one image
        return None
    if not array.min() >= 0:
        raise ValueError(f"{where}: standard_error must be at least 0")
    array.setflags(write=False)
    return array


def _checked_values(where: str, values: object) -> int:
    if (
        isinstance(values, bool)
        or not isinstance(values, int | np.integer)
        or (not 1 <= values <= MAX_VALUES)
    ):
        raise ValueError(
            f"{where}: values must be an integer of at least 1 and at most {MAX_VALUES}, "
            f"got {values!r}"
        )
    return int(values)


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """Rate and distortion of the weights of one layer.

    name: Layer.name. distortion: (channels, 9), of the network's output (squared metric, summed as
    RDCurves.method says) when that channel alone has 0..8 bits; inf where a width is not allowed.
    values: weights behind one channel; b bits a weight cost values * b bits. standard_error:
    (channels, 9) float32, of each distortion as an estimate, or None where that is not known.
    Raises ValueError for another shape, NaN, negative numbers, or a channel without a finite point.
    """

    name: str
    distortion: np.ndarray
    values: int
    standard_error: np.ndarray | None = None

    def __post_init__(self) -> None:
        where = f"weights of {self.name!r}"
        object.__setattr__(self, "distortion", _checked(where, self.distortion, (None, WIDTHS)))
        object.__setattr__(self, "values", _checked_values(where, self.values))
        error = _checked_error(where, self.standard_error, self.distortion)
        object.__setattr__(self, "standard_error", error)

    @property
    def channels(self) -> int:
        return self.distortion.shape[0]


@dataclass(frozen=True, eq=False)
class TensorCurve:
    """Rate and distortion of one activation tensor, which has one width for all its channels.

    name: Layer.name of the layer that writes it. distortion: (9,), index 0 is inf because a tensor
    cannot be dropped. values: values of the tensor for one image. standard_error: (9,) float32, as
    for LayerCurve.
    """

    name: str
    distortion: np.ndarray
    values: int
    standard_error: np.ndarray | None = None

    def __post_init__(self) -> None:
        where = f"activations of {self.name!r}"
        shape = np.shape(self.distortion)
        if shape != (WIDTHS,):
            raise ValueError(f"{where}: distortion must have shape ({WIDTHS},), got {shape}")
        array = _checked(where, np.reshape(self.distortion, (1, WIDTHS)), (1, WIDTHS))[0]
        if array[0] != np.inf:
            raise ValueError(
                f"{where}: an activation tensor cannot have 0 bits, so its distortion there must "
                f"be inf, got {array[0]}"
            )
        object.__setattr__(self, "distortion", array)
        object.__setattr__(self, "values", _checked_values(where, self.values))
        error = _checked_error(where, self.standard_error, array)
        object.__setattr__(self, "standard_error", error)


@dataclass(frozen=True, eq=False)
class RDCurves:
    """Distortion of every channel and activation tensor at every width, for one network.

    network: its name. weights, activations: in the order of the graph's layers.
    method: how it was measured (metric, images, probes, seed, correction); plain JSON values.
    steps: what the quantisers need to be applied (steps, dead zones, clips), by "kind/name" as the
    measuring code likes; carried along, not read here. Raises ValueError for a name used twice.
    """

    network: str
    weights: tuple[LayerCurve, ...]
    activations: tuple[TensorCurve, ...]
    method: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        object.__setattr__(self, "activations", tuple(self.activations))
        object.__setattr__(self, "method", dict(self.method))
        object.__setattr__(self, "steps", dict(self.steps))
        names = [curve.name for curve in self.weights] + [curve.name for curve in self.activations]
        for name in [self.network, *names]:
            if not isinstance(name, str):
                raise ValueError(f"curves: a network's and a layer's name is text, got {name!r}")
        for name, array in self.steps.items():
            if np.asarray(array).dtype.kind not in "biuf" or np.isnan(array).any():
                raise ValueError(f"curves of {self.network!r}: steps {name!r} must be numbers")
        for kind in ("weights", "activations"):
            names = [curve.name for curve in getattr(self, kind)]
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(
                    f"curves of {self.network!r}: {kind} of {twice!r} are given twice; every "
                    f"layer has one curve"
                )

    @property
    def channels(self) -> int:
        return sum(curve.channels for curve in self.weights)

    @property
    def weight_values(self) -> int:
        """Weights of the network that have a curve."""
        return sum(curve.channels * curve.values for curve in self.weights)

    @property
    def activation_values(self) -> int:
        """Activation values for one image that have a curve."""
        return sum(curve.values for curve in self.activations)

    def weight(self, name: str) -> LayerCurve:
        return self._find("weights", name)

    def activation(self, name: str) -> TensorCurve:
        return self._find("activations", name)

    def _find(self, kind: str, name: str) -> Any:
        curves = {curve.name: curve for curve in getattr(self, kind)}
        if name not in curves:
            raise ValueError(
                f"curves of {self.network!r}: no {kind} of {name!r}{did_you_mean(name, curves)}"
            )
        return curves[name]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .npz file, whole or not at all; the same curves give the same bytes."""
        write_atomically(path, self._write)

    def fingerprint(self) -> str:
        """SHA-256 of what `save` writes: of all there is, in hexadecimal."""
        content = io.BytesIO()
        self._write(content)
        return hashlib.sha256(content.getvalue()).hexdigest()

    def _arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        header = {
            "schema": SCHEMA,
            "network": self.network,
            "method": self.method,
            "weights": [[curve.name, curve.values] for curve in self.weights],
            "activations": [[curve.name, curve.values] for curve in self.activations],
            "steps": list(self.steps),
        }
        errors = [curve.standard_error for curve in self.weights]
        errors += [curve.standard_error for curve in self.activations]
        known = [i for i, error in enumerate(errors) if error is not None]
        if known:
            header["errors"] = known
        text = json.dumps(header, sort_keys=True).encode()
        yield "header", np.frombuffer(text, dtype=np.uint8)
        for i, curve in enumerate(self.weights):
            yield f"weights/{i}", curve.distortion
        if self.activations:
            yield "activations", np.stack([curve.distortion for curve in self.activations])
        for i in known:
            yield f"errors/{i}", np.asarray(errors[i])
        for i, array in enumerate(self.steps.values()):
            yield f"steps/{i}", np.asarray(array)

    def _write(self, file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in self._arrays():
                member = io.BytesIO()
                np.lib.format.write_array(member, array, allow_pickle=False)
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
                archive.writestr(entry, member.getvalue(), compress_type=zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RDCurves:
        """Read what `save` wrote. Raises ValueError, in one line with the path, for all else."""
        try:
            with zipfile.ZipFile(path) as archive:
                check_archive(path, archive)
                return cls._read(archive)
        except OSError as error:
            raise ValueError(f"{path}: cannot read curves: {error.strerror or error}") from None
        except BROKEN_ARCHIVE:
            raise ValueError(
                f"{path}: not a whole file of curves (.npz); measure the curves again"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None

    @classmethod
    def _read(cls, archive: zipfile.ZipFile) -> RDCurves:
        def array(name: str) -> np.ndarray:
            try:
                member = archive.read(f"{name}.npy")  # all of it, which checks its checksum
            except KeyError:
                raise ValueError(f"not a file of curves: it has no entry {name!r}") from None
            return np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)

        try:
            header = json.loads(array("header").tobytes())
            if header["schema"] != SCHEMA:
                raise ValueError(
                    f"curves of schema {header['schema']!r}; this version reads {SCHEMA}"
                )
            tensors = header["activations"]
            rows = array("activations") if tensors else np.empty((0, WIDTHS))
            if rows.ndim != 2 or len(rows) != len(tensors):
                raise ValueError(
                    f"activations must have {len(tensors)} rows, got shape {rows.shape}"
                )
            errors = {int(i): array(f"errors/{i}") for i in header.get("errors", ())}
            first = len(header["weights"])  # tensor of the errors' numbering
            return cls(
                network=header["network"],
                weights=tuple(
                    LayerCurve(name, array(f"weights/{i}"), values, errors.get(i))
                    for i, (name, values) in enumerate(header["weights"])
                ),
                activations=tuple(
                    TensorCurve(name, row, values, errors.get(first + i))
                    for i, ((name, values), row) in enumerate(zip(tensors, rows, strict=True))
                ),
                method=header["method"],
                steps={name: array(f"steps/{i}") for i, name in enumerate(header["steps"])},
            )
        except json.JSONDecodeError as error:
            raise ValueError(f"not a file of curves: its header is no JSON: {error}") from None
        except (
            KeyError,
            TypeError,
            AttributeError,
            UnicodeDecodeError,
            RecursionError,
            OverflowError,
        ) as error:
            raise ValueError(f"not a file of curves: its header lacks {error}") from None
