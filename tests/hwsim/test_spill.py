"""What a spilled convolution reads, against plain sets of positions."""

from __future__ import annotations

import numpy as np
from graphs import square_conv
from hypothesis import given
from hypothesis import strategies as st

from hwsim.graph import Layer, Tensor
from hwsim.systolic.folds import cut_columns
from hwsim.systolic.spill import chunk_read_values, chunk_write_values


@given(
    channels=st.integers(1, 4),
    kernel=st.integers(1, 4),
    size=st.integers(4, 9),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    batch=st.integers(1, 3),
    chunk_rows=st.integers(1, 30),
)
def test_chunk_reads_are_the_values_behind_its_pixels(
    channels, kernel, size, stride, pad, batch, chunk_rows
):
    conv, out = square_conv(channels, 2, kernel, size, stride, pad)
    layer = Layer("l", "conv", conv, (Tensor("x", (1, channels, size, size)),), Tensor("l", out))
    blocks = cut_columns(conv.gemm, np.full((1, 2), 4), 8, 1)
    rows, columns = conv.ofmap_size
    pixels = [(n, e, f) for n in range(batch) for e in range(rows) for f in range(columns)]
    expected = []
    for first in range(0, len(pixels), chunk_rows):
        touched = set()
        for n, e, f in pixels[first : first + chunk_rows]:
            for r in range(kernel):
                for s in range(kernel):
                    y, x = e * stride - pad + r, f * stride - pad + s
                    if 0 <= y < size and 0 <= x < size:
                        touched.add((n, y, x))
        expected.append(len(touched) * channels)
    assert chunk_read_values(layer, blocks, len(pixels), chunk_rows) == expected * 2
    writes = chunk_write_values(blocks, 2, len(pixels), chunk_rows)
    assert sum(writes) == 2 * len(pixels)
    one_dropped = cut_columns(conv.gemm, np.array([[0, 4]]), 8, 1)
    assert sum(chunk_write_values(one_dropped, 2, len(pixels), chunk_rows)) == 2 * len(pixels)
