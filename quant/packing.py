"""Indices <-> the bit stream that is really stored: each channel at its own width, no padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwsim.bits import MAX_BITS

_VALUES_AT_ONCE = 1 << 20  # indices taken apart into bits together; bounds memory, not the stream


def _checked(widths: np.ndarray) -> np.ndarray:
    if widths.ndim != 1 or widths.dtype.kind not in "iu":
        raise ValueError(f"packing: widths must be (channels,) integers, got {widths.shape}")
    if widths.size and (widths.min() < 0 or widths.max() > MAX_BITS):
        raise ValueError(
            f"packing: widths must lie in 0..{MAX_BITS}, got {widths.min()}..{widths.max()}"
        )
    return widths.astype(np.int64)


def packed_bits(widths: np.ndarray, values: int) -> int:
    """Bits of the stream: what an allocation claims, metadata not counted."""
    return int(_checked(widths).sum()) * values


def _blocks(channels: int, values: int) -> Iterator[slice]:
    """Channels in their order, as many at once as memory should hold."""
    size = max(1, _VALUES_AT_ONCE // max(values, 1))
    for start in range(0, channels, size):
        yield slice(start, min(start + size, channels))


def _to_bits(index: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """index (channels, values) of 0 .. 2**width - 1, widths (channels,) -> its bits, one a byte."""
    values = index.shape[1]
    ends = np.cumsum(widths * values)
    bits = np.empty(int(ends[-1]) if ends.size else 0, dtype=np.uint8)
    first = ends - widths * values
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        shifts = np.arange(width - 1, -1, -1)
        taken = (index[chosen, :, None] >> shifts) & 1
        where = first[chosen, None] + np.arange(values * width)
        bits[where] = taken.reshape(len(chosen), values * width)
    return bits


def _from_bits(bits: np.ndarray, widths: np.ndarray, values: int) -> np.ndarray:
    """Undo `_to_bits`."""
    first = np.cumsum(widths * values) - widths * values
    index = np.zeros((len(widths), values), dtype=np.int64)
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        where = first[chosen, None] + np.arange(values * width)
        taken = bits[where].reshape(len(chosen), values, width).astype(np.int64)
        index[chosen] = taken @ (1 << np.arange(width - 1, -1, -1))
    return index


class BitWriter:
    """A stream that grows by one block of indices after the other, without gaps between them."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._rest = np.empty(0, dtype=np.uint8)  # bits, fewer than eight, of no whole byte yet

    def write(self, index: np.ndarray, widths: np.ndarray) -> None:
        """index (channels, values) of 0 .. 2**width - 1, widths (channels,).

        Channel after channel, value after value, most significant bit first. Raises ValueError if
        an index does not fit its channel's width.
        """
        if index.ndim != 2 or len(index) != len(widths):
            raise ValueError(
                f"packing: indices must be (channels, values) with one width a channel, got "
                f"{index.shape} and {widths.shape}"
            )
        widths = _checked(widths)
        outside = (index < 0) | (index >= (1 << widths)[:, None])
        if outside.any():
            channel, value = np.argwhere(outside)[0]
            raise ValueError(
                f"packing: index {index[channel, value]} of channel {channel} does not fit in "
                f"{widths[channel]} bits"
            )
        for block in _blocks(*index.shape):
            bits = np.concatenate([self._rest, _to_bits(index[block], widths[block])])
            whole = len(bits) // 8 * 8
            self._bytes += np.packbits(bits[:whole]).tobytes()
            self._rest = bits[whole:]

    def finish(self) -> bytes:
        """All that was written; zero bits fill up the last byte."""
        return bytes(self._bytes) + np.packbits(self._rest).tobytes()


class BitReader:
    """Reads block by block what a BitWriter wrote."""

    def __init__(self, stream: bytes | np.ndarray) -> None:
        self._bytes = np.frombuffer(stream, dtype=np.uint8)
        self._at = 0  # bits that are read

    def read(self, widths: np.ndarray, values: int) -> np.ndarray:
        """The next (len(widths), values) int64 indices. Raises ValueError if the stream ends."""
        widths = _checked(widths)
        total = int(widths.sum()) * values
        if self._at + total > 8 * len(self._bytes):
            raise ValueError(
                f"packing: {self._at + total} bits need {(self._at + total + 7) // 8} bytes, the "
                f"stream has {len(self._bytes)}"
            )
        index = np.empty((len(widths), values), dtype=np.int64)
        for block in _blocks(*index.shape):
            count = int(widths[block].sum()) * values
            start, skip = divmod(self._at, 8)
            part = self._bytes[start : start + (skip + count + 7) // 8]
            index[block] = _from_bits(np.unpackbits(part)[skip:], widths[block], values)
            self._at += count
        return index

    def finish(self) -> None:
        """Raises ValueError unless all is read and the last byte is filled up with zeros."""
        if (self._at + 7) // 8 != len(self._bytes):
            raise ValueError(
                f"packing: {self._at} bits need {(self._at + 7) // 8} bytes, the stream has "
                f"{len(self._bytes)}"
            )
        if self._at % 8 and np.unpackbits(self._bytes[-1:])[self._at % 8 :].any():
            raise ValueError("packing: the bits that fill up the last byte must be zero")


def pack(index: np.ndarray, widths: np.ndarray) -> bytes:
    """index (channels, values), widths (channels,) -> a stream of its own; see BitWriter.write."""
    writer = BitWriter()
    writer.write(index, widths)
    return writer.finish()


def unpack(stream: bytes, widths: np.ndarray, values: int) -> np.ndarray:
    """What `pack` wrote -> (channels, values) int64 indices.

    Raises ValueError if the stream has not exactly the bits that the widths ask for.
    """
    reader = BitReader(stream)
    index = reader.read(widths, values)
    reader.finish()
    return index
