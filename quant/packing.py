"""Indices <-> the bit stream that is really stored: each channel at its own width, no padding."""

from __future__ import annotations

import numpy as np

from hwsim.bits import MAX_BITS


def _positions(widths: np.ndarray, values: int) -> tuple[np.ndarray, int]:
    """First bit of each channel, and the bits of all."""
    if widths.ndim != 1 or widths.dtype.kind not in "iu":
        raise ValueError(f"packing: widths must be (channels,) integers, got {widths.shape}")
    if widths.size and (widths.min() < 0 or widths.max() > MAX_BITS):
        raise ValueError(
            f"packing: widths must lie in 0..{MAX_BITS}, got {widths.min()}..{widths.max()}"
        )
    ends = np.cumsum(widths.astype(np.int64) * values)
    return ends - widths * values, int(ends[-1]) if ends.size else 0


def packed_bits(widths: np.ndarray, values: int) -> int:
    """Bits of the stream: what an allocation claims, metadata not counted."""
    return _positions(widths, values)[1]


def pack(index: np.ndarray, widths: np.ndarray) -> bytes:
    """index (channels, values) of 0 .. 2**width - 1, widths (channels,) -> the stream.

    Channel after channel, value after value, most significant bit first; zero bits fill up the
    last byte. Raises ValueError if an index does not fit its channel's width.
    """
    if index.ndim != 2 or len(index) != len(widths):
        raise ValueError(
            f"packing: indices must be (channels, values) with one width a channel, got "
            f"{index.shape} and {widths.shape}"
        )
    values = index.shape[1]
    first, total = _positions(widths, values)
    outside = (index < 0) | (index >= (1 << widths.astype(np.int64))[:, None])
    if outside.any():
        channel, value = np.argwhere(outside)[0]
        raise ValueError(
            f"packing: index {index[channel, value]} of channel {channel} does not fit in "
            f"{widths[channel]} bits"
        )
    stream = np.zeros(total, dtype=np.uint8)
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        shifts = np.arange(width - 1, -1, -1)
        bits = (index[chosen, :, None] >> shifts) & 1
        where = first[chosen, None] + np.arange(values * width)
        stream[where] = bits.reshape(len(chosen), values * width)
    return np.packbits(stream).tobytes()


def unpack(stream: bytes, widths: np.ndarray, values: int) -> np.ndarray:
    """What `pack` wrote -> (channels, values) int64 indices.

    Raises ValueError if the stream has not exactly the bytes that the widths ask for.
    """
    first, total = _positions(widths, values)
    if len(stream) != (total + 7) // 8:
        raise ValueError(
            f"packing: {total} bits need {(total + 7) // 8} bytes, the stream has {len(stream)}"
        )
    flat = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=total)
    index = np.zeros((len(widths), values), dtype=np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        where = first[chosen, None] + np.arange(values * width)
        bits = flat[where].reshape(len(chosen), values, width).astype(np.int64)
        index[chosen] = bits @ (1 << np.arange(width - 1, -1, -1))
    return index
