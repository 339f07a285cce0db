"""Curves in a small file, without quantisers: for networks whose curves come with the package.

Distortions are kept as whole multiples of 1/512 of their logarithm to base 2, in 16 bits: exact to
a factor of 2**(1/1024), 0.07 %, from 2**-63 to 2**63; what is less, as of channels that are all
but dead, becomes 2**-63. Zero and inf (a width that is not allowed) have codes of their own.
Enough for an allocation; to quantise, steps are calibrated anew.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from importlib.resources import as_file, files

import numpy as np

from hwsim.files import BROKEN_ARCHIVE, check_archive, write_atomically
from hwsim.names import did_you_mean
from quant.curves import WIDTHS, LayerCurve, RDCurves, TensorCurve

SCHEMA = 1
PER_OCTAVE = 512
PRECISION = 2.0 ** (0.5 / PER_OCTAVE) - 1  # largest relative error of a distortion
_ZERO, _NOT_ALLOWED = -32768, 32767
_LARGEST = 63 * PER_OCTAVE
_SUFFIX = "_curves.npz"


def encode(distortion: np.ndarray) -> np.ndarray:
    """Distortions to int16 codes. Raises ValueError for one beyond 2**63."""
    codes = np.full(distortion.shape, _NOT_ALLOWED, dtype=np.int16)
    codes[distortion == 0] = _ZERO
    ordinary = np.isfinite(distortion) & (distortion > 0)
    exact = np.log2(distortion[ordinary]) * PER_OCTAVE
    if exact.max(initial=0.0) > _LARGEST:
        raise ValueError("compact curves: distortions must be at most 2**63")
    codes[ordinary] = np.rint(np.maximum(exact, -_LARGEST)).astype(np.int16)
    return codes


def decode(codes: np.ndarray) -> np.ndarray:
    """What `encode` had, to PRECISION."""
    distortion = np.exp2(codes.astype(np.float64) / PER_OCTAVE)
    distortion[codes == _ZERO] = 0.0
    distortion[codes == _NOT_ALLOWED] = np.inf
    return distortion


def save_compact(curves: RDCurves, path: str | os.PathLike[str], origin: str) -> None:
    """Write one .npz file; the same curves give the same bytes. origin: of the network's weights
    and the images, in words; it becomes part of `method`."""
    header = {
        "schema": SCHEMA,
        "network": curves.network,
        "method": {**curves.method, "origin": origin},
        "weights": [[c.name, c.channels, c.values] for c in curves.weights],
        "activations": [[c.name, c.values] for c in curves.activations],
    }
    rows = [c.distortion for c in curves.weights]
    rows += [c.distortion[np.newaxis] for c in curves.activations]
    arrays = {
        "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8),
        "codes": encode(np.concatenate(rows)),
    }
    member = io.BytesIO()
    with zipfile.ZipFile(member, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, 9)
    write_atomically(path, member.getvalue())


def load_compact(path: str | os.PathLike[str]) -> RDCurves:
    """Read what `save_compact` wrote: curves without steps. Raises ValueError for all else."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            check_archive(path, file.zip)
            header, codes = json.loads(file["header"].tobytes()), file["codes"]
        if header["schema"] != SCHEMA or codes.dtype != np.int16 or codes.shape[1:] != (WIDTHS,):
            raise ValueError("of another schema")
        distortion, weights, first = decode(codes), [], 0
        for name, channels, values in header["weights"]:
            weights.append(LayerCurve(name, distortion[first : first + channels], values))
            first += channels
        rest = zip(header["activations"], distortion[first:], strict=True)
        activations = [TensorCurve(name, row, values) for (name, values), row in rest]
        return RDCurves(header["network"], tuple(weights), tuple(activations), header["method"])
    except OSError as error:
        raise ValueError(f"{path}: cannot read curves: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError, *BROKEN_ARCHIVE) as error:
        raise ValueError(f"{path}: not a file of compact curves: {error}") from None


def shipped() -> list[str]:
    """Networks whose curves come with the package."""
    names = [entry.name for entry in (files("quant") / "data").iterdir()]
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def load_shipped(network: str) -> RDCurves:
    """Curves that come with the package. Raises ValueError for a network that has none."""
    known = shipped()
    if network not in known:
        raise ValueError(f"no curves of {network!r} come along{did_you_mean(network, known)}")
    with as_file(files("quant") / "data" / f"{network}{_SUFFIX}") as path:
        return load_compact(path)
