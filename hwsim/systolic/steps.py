"""Steps of one layer on the array: one by one for the recurrence, as columns for the scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, overload

import numpy as np


class Step(NamedTuple):
    """One stream through the array: rows of one fold that meet one weight tile.

    stream_cycles: rows streamed at their operands' pace. cols: columns in use. fetch_bits: bits of
    the step's weight tile in DRAM; None when it is there already. from_chip: the tile comes from
    an on-chip buffer, `tile_rows` cycles long (a product of activations). read_bits, write_bits:
    ifmap and ofmap bits that cross the activation channel. new_plane: other stationary values
    than the step before. opens: first step of a chunk of ifmap. closes: last step of its fold.
    releases: last step of its tile, whose FIFO slot is free when the stream ends (with stationary
    weights it is free when the shift ends).
    """

    stream_cycles: int
    cols: int
    fetch_bits: int | None
    from_chip: bool = False
    read_bits: int = 0
    write_bits: int = 0
    new_plane: bool = True
    opens: bool = True
    closes: bool = True
    releases: bool = False
    tile_rows: int = 0


@dataclass(frozen=True, eq=False)
class StepTable(Sequence[Step]):
    """The same as a sequence, kept as integer and bool arrays with one entry a step.

    Fields are those of `Step`; new_tile says where fetch_bits are not None, and from_chip holds
    for all.
    """

    stream_cycles: np.ndarray
    cols: np.ndarray
    fetch_bits: np.ndarray
    new_tile: np.ndarray
    from_chip: bool
    read_bits: np.ndarray
    write_bits: np.ndarray
    new_plane: np.ndarray
    opens: np.ndarray
    closes: np.ndarray
    releases: np.ndarray
    tile_rows: np.ndarray

    @cached_property
    def tiles(self) -> np.ndarray:
        """Bits of every tile that is fetched."""
        return self.fetch_bits[self.new_tile]

    @cached_property
    def writers(self) -> np.ndarray:
        """Positions of the steps that write activations in DRAM."""
        return np.flatnonzero(self.write_bits)

    @cached_property
    def rows(self) -> list[Step]:
        tiles = zip(self.fetch_bits.tolist(), self.new_tile.tolist(), strict=True)
        columns = (
            self.stream_cycles.tolist(),
            self.cols.tolist(),
            [bits if new else None for bits, new in tiles],
            [self.from_chip] * len(self),
            self.read_bits.tolist(),
            self.write_bits.tolist(),
            self.new_plane.tolist(),
            self.opens.tolist(),
            self.closes.tolist(),
            self.releases.tolist(),
            self.tile_rows.tolist(),
        )
        return [Step(*step) for step in zip(*columns, strict=True)]

    @cached_property
    def first(self) -> Step:
        """The first step; the others need not be made for it."""
        return Step(
            stream_cycles=int(self.stream_cycles[0]),
            cols=int(self.cols[0]),
            fetch_bits=int(self.fetch_bits[0]) if self.new_tile[0] else None,
            from_chip=self.from_chip,
            read_bits=int(self.read_bits[0]),
            write_bits=int(self.write_bits[0]),
            new_plane=bool(self.new_plane[0]),
            opens=bool(self.opens[0]),
            closes=bool(self.closes[0]),
            releases=bool(self.releases[0]),
            tile_rows=int(self.tile_rows[0]),
        )

    def __len__(self) -> int:
        return len(self.cols)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        return self.first if index == 0 and len(self) else self.rows[index]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.rows)
