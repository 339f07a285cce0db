"""ConvShape: any layer with multiply-accumulates as the 2-D convolution that the array computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np

from hwsim.graph import Conv, Gemm, Layer, Linear, Matmul


@dataclass(frozen=True)
class ConvShape:
    """One convolution per group; letters as in the row-stationary papers.

    channels C, filters M: of one group. batch N: images that share the filters. kernel (R, S),
    stride, dilation and padding: pairs (vertical, horizontal). ifmap (H, W) without padding,
    ofmap (E, F).
    """

    groups: int
    batch: int
    channels: int
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    ifmap: tuple[int, int]
    ofmap: tuple[int, int]

    @property
    def macs(self) -> int:
        filter_size = self.channels * self.kernel[0] * self.kernel[1]
        return self.groups * self.batch * self.filters * self.ofmap[0] * self.ofmap[1] * filter_size

    @property
    def padded_width(self) -> int:
        return self.ifmap[1] + 2 * self.padding[1]

    def span(self, taps: int) -> int:
        """Columns of the ifmap under `taps` neighbouring columns of a filter."""
        return (taps - 1) * self.dilation[1] + 1

    def rows_read(self, ofmap_rows: int, filter_rows: int) -> int:
        """Different ifmap rows, padding included, under some ofmap rows and filter rows."""
        return int(self._rows(filter_rows)[ofmap_rows])

    def rows_table(self, filter_rows: int) -> np.ndarray:
        """(E + 1,) `rows_read` for 0..E ofmap rows."""
        return self._rows(filter_rows)

    def _rows(self, filter_rows: int) -> np.ndarray:
        if filter_rows not in self._row_tables:
            seen: set[int] = set()
            counts = [0]
            for y in range(self.ofmap[0]):
                start = y * self.stride[0]
                seen.update(start + k * self.dilation[0] for k in range(filter_rows))
                counts.append(len(seen))
            self._row_tables[filter_rows] = np.array(counts, dtype=np.int64)
        return self._row_tables[filter_rows]

    @cached_property
    def _row_tables(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def _real_rows(self) -> np.ndarray:
        """(E, R) whether ifmap row y * stride + k * dilation is data, not padding."""
        rows = np.arange(self.ofmap[0])[:, None] * self.stride[0]
        rows = rows + np.arange(self.kernel[0])[None] * self.dilation[0] - self.padding[0]
        return np.where((rows >= 0) & (rows < self.ifmap[0]), rows, -1)

    def real_rows(self, ofmap_rows: int) -> np.ndarray:
        """(strips,) different ifmap rows without padding behind each strip of ofmap rows."""
        if ofmap_rows not in self._real_tables:
            counts = [
                len(np.unique(rows[rows >= 0]))
                for rows in (
                    self._real_rows[start : start + ofmap_rows]
                    for start in range(0, self.ofmap[0], ofmap_rows)
                )
            ]
            self._real_tables[ofmap_rows] = np.array(counts, dtype=np.int64)
        return self._real_tables[ofmap_rows]

    @cached_property
    def _real_tables(self) -> dict[int, np.ndarray]:
        return {}


def shape_of(layer: Layer, batch: int) -> ConvShape:
    """The convolution behind a conv, linear or matmul layer.

    A linear layer is a 1x1 convolution over its rows, laid out as near to a square as their
    number divides. A matmul is the same with its second operand as filters, so each image is a
    group of its own. Raises ValueError for a layer without multiply-accumulates.
    """
    work = layer.work
    if isinstance(work, Conv):
        return ConvShape(
            groups=work.groups,
            batch=batch,
            channels=work.in_channels // work.groups,
            filters=work.out_channels // work.groups,
            kernel=work.kernel,
            stride=work.stride,
            dilation=work.dilation,
            padding=work.padding,
            ifmap=work.ifmap_size,
            ofmap=work.ofmap_size,
        )
    if isinstance(work, Linear):
        return _pointwise(work.gemm, 1, batch)
    if isinstance(work, Matmul):
        return _pointwise(work.gemm, work.groups * batch, 1)
    raise ValueError(f"layer {layer.name!r}: a {layer.kind} layer is no convolution")


def _pointwise(gemm: Gemm, groups: int, batch: int) -> ConvShape:
    height = next(d for d in range(isqrt(gemm.pixels), 0, -1) if gemm.pixels % d == 0)
    plane = (height, gemm.pixels // height)
    return ConvShape(
        groups, batch, gemm.reduction, gemm.columns, (1, 1), (1, 1), (1, 1), (0, 0), plane, plane
    )
