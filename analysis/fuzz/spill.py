"""What a spilled convolution reads and writes, against plain sets of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from analysis.fuzz.model import same
from hwsim.graph import Conv, Layer, Tensor
from hwsim.systolic.folds import cut_columns
from hwsim.systolic.spill import chunk_read_values, chunk_write_values


@dataclass(frozen=True)
class SpillCase:
    """A convolution with two filters, on an array of one column, so that each is a block."""

    channels: int
    kernel: int
    size: int
    stride: int
    pad: int
    batch: int
    chunk_rows: int


cases = st.builds(
    SpillCase,
    channels=st.integers(1, 4),
    kernel=st.integers(1, 4),
    size=st.integers(4, 9),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    batch=st.integers(1, 3),
    chunk_rows=st.integers(1, 30),
)


def check(case: SpillCase) -> None:
    """Values read and written by each chunk of pixels, with both filters and with one dropped."""
    size, kernel, stride, pad = case.size, case.kernel, case.stride, case.pad
    rows = (size + 2 * pad - kernel) // stride + 1
    conv = Conv(case.channels, 2, (kernel, kernel), (stride, stride), (pad, pad), (1, 1), 1,
                (size, size), (rows, rows))  # fmt: skip
    image = Tensor("x", (1, case.channels, size, size))
    layer = Layer("l", "conv", conv, (image,), Tensor("l", (1, 2, rows, rows)))
    blocks = cut_columns(conv.gemm, np.full((1, 2), 4), 8, 1)
    pixels = [(n, e, f) for n in range(case.batch) for e in range(rows) for f in range(rows)]
    expected = []
    for first in range(0, len(pixels), case.chunk_rows):
        touched = set()
        for n, e, f in pixels[first : first + case.chunk_rows]:
            for r in range(kernel):
                for s in range(kernel):
                    y, x = e * stride - pad + r, f * stride - pad + s
                    if 0 <= y < size and 0 <= x < size:
                        touched.add((n, y, x))
        expected.append(len(touched) * case.channels)
    same("reads", chunk_read_values(layer, blocks, len(pixels), case.chunk_rows), expected * 2)
    one_dropped = cut_columns(conv.gemm, np.array([[0, 4]]), 8, 1)
    for cut in (blocks, one_dropped):
        writes = chunk_write_values(cut, 2, len(pixels), case.chunk_rows)
        same("writes", sum(writes), 2 * len(pixels))
