"""The fast row-stationary model against the array that moves real values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import HealthCheck, given, settings
from row_stationary_cases import Case, cases

from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.traffic import accesses


def integer_convolution(shape: ConvShape, ifmap: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The ofmap by definition: (N, groups * M, E, F)."""
    (pad_y, pad_x), (e, f) = shape.padding, shape.ofmap
    padded = np.pad(ifmap, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    ofmap = np.zeros((shape.batch, shape.groups, shape.filters, e, f), dtype=np.int64)
    padded = padded.reshape(shape.batch, shape.groups, shape.channels, *padded.shape[2:])
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            y, x = i * shape.dilation[0], j * shape.dilation[1]
            rows = slice(y, y + (e - 1) * shape.stride[0] + 1, shape.stride[0])
            cols = slice(x, x + (f - 1) * shape.stride[1] + 1, shape.stride[1])
            ofmap += np.einsum("ngcyx,gmc->ngmyx", padded[..., rows, cols], weights[..., i, j])
    return ofmap.reshape(shape.batch, -1, e, f)


# dropped filters come last here, so that a reference that takes the first ones is right
def _kept_first(case: Case, weights: np.ndarray) -> np.ndarray:
    weights = weights.copy()
    for group, kind in enumerate(case.work.group_kinds):
        weights[group, len(case.work.group_widths[kind]) :] = 0
    return weights


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_cycles_and_traffic_equal_the_array_that_moves_values(case: Case) -> None:
    fast, run = case.fast(), case.reference()
    ifmap, weights = case.operands()
    expected = integer_convolution(case.shape, ifmap, _kept_first(case, weights))
    assert np.array_equal(run.ofmap, expected)
    assert fast.passes == run.passes
    assert fast.processing_cycles == run.processing_cycles
    assert fast.stall_cycles == run.stall_cycles
    assert fast.dram_filter_bits == run.dram_bits["filters"]
    assert fast.dram_ifmap_bits == run.dram_bits["ifmap"]
    assert fast.dram_ofmap_bits == run.dram_bits["ofmap"]
    moved = accesses(case.shape, case.limits, case.mapping, case.work, Fraction(1), 1)
    assert moved.macs == run.macs
    assert moved.buffer_ifmap == run.moved["ifmap buffer"]
    assert moved.buffer_psum == run.moved["psum buffer"]
    assert moved.buffer_fill == run.moved["fill"]
    assert moved.filter_buffer == run.moved["filter buffer bits"]
    assert moved.network_ifmap == run.moved["ifmap into PEs"]
    assert moved.network_filter == run.moved["filter bits into PEs"]
    assert moved.network_psum == run.moved["psum hops"]
