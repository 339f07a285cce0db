"""The serial schedule against SCALE-Sim: its formulas, what it printed, its presets.

SCALE-Sim is Samajdar et al., ISPASS 2020; what it printed is from its package, version 3.0.0.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from graphs import chain, perceptron, residual, square_conv
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import OperandWidth, SystolicArray
from hwsim.dram import Link
from hwsim.graph import Gemm, Linear
from hwsim.systolic.schedule import schedule_layer
from hwsim.systolic.timing import ArrayTask, finish_cycles

GOOGLE, EYERISS = load_accelerator("scalesim_google"), load_accelerator("scalesim_eyeriss")
FLOWS = {"ws": "weight_stationary", "os": "output_stationary", "is": "input_stationary"}
COUNTS = ("ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes")


def with_array(accelerator, **changes):
    """The accelerator with another array, and DRAM that takes no time to speak of."""
    return replace(
        accelerator,
        array=replace(accelerator.array, **changes),
        dram=tuple(replace(d, bandwidth=10**18) for d in accelerator.dram),
    )


def one_product(rows, cols, flow, m, k, n):
    """Statistics of an M x K times K x N product alone."""
    machine = with_array(GOOGLE, rows=rows, cols=cols, dataflow=FLOWS[flow])
    graph = chain("gemm", (1, m, k), [("linear", Linear(m, k, n), (1, m, n))])
    return simulate(graph, machine, BitWidths(8, 8)).layers[1]


def published(rows, cols, flow, m, k, n):
    """SCALE-Sim's cycles and accesses to ifmap, filter and ofmap."""
    if flow == "ws":
        folds, per_fold = ceil(k / rows) * ceil(n / cols), 2 * rows + cols + m - 2
        counts = m * k * ceil(n / cols), k * n, m * n * ceil(k / rows)
    elif flow == "is":
        folds, per_fold = ceil(k / rows) * ceil(m / cols), 2 * rows + cols + n - 2
        counts = m * k, k * n * ceil(m / cols), m * n * ceil(k / rows)
    else:
        folds, per_fold = ceil(m / rows) * ceil(n / cols), rows + cols + k - 2
        counts = m * k * ceil(n / cols), k * n * ceil(m / rows), m * n
    return folds * per_fold - 1, counts


sizes = st.integers(1, 70)


@settings(max_examples=200)
@given(
    rows=st.integers(1, 20), cols=st.integers(1, 20), flow=st.sampled_from(list(FLOWS)),
    m=sizes, k=sizes, n=sizes,
)  # fmt: skip
def test_any_product_takes_scale_sims_cycles_and_accesses(rows, cols, flow, m, k, n):
    layer = one_product(rows, cols, flow, m, k, n)
    cycles, counts = published(rows, cols, flow, m, k, n)
    assert layer.compute_cycles == cycles
    assert tuple(layer.detail[name] for name in COUNTS) == counts


PRINTED = [  # flow, (M, K, N), cycles, ifmap reads, filter reads, ofmap writes; 8 x 6 array
    ("ws", (7, 9, 5), 53, 63, 45, 70),
    ("ws", (30, 17, 20), 599, 2040, 340, 1800),
    ("ws", (1, 40, 33), 629, 240, 1320, 165),
    ("ws", (49, 100, 4), 896, 4900, 400, 2548),
    ("is", (7, 9, 5), 99, 63, 90, 70),
    ("is", (30, 17, 20), 599, 510, 1700, 1800),
    ("is", (1, 40, 33), 264, 40, 1320, 165),
    ("is", (49, 100, 4), 2807, 4900, 3600, 2548),
    ("os", (7, 9, 5), 20, 63, 45, 49),
    ("os", (30, 17, 20), 463, 2040, 1360, 824),
    ("os", (1, 40, 33), 311, 240, 1320, 117),
    ("os", (49, 100, 4), 783, 4900, 2800, 294),
]


@pytest.mark.parametrize(("flow", "shape", "cycles", "ifmap", "filters", "ofmap"), PRINTED)
def test_what_scale_sim_printed(flow, shape, cycles, ifmap, filters, ofmap):
    m, _, n = shape
    if flow == "os":  # it also counts rows + cols writes a fold, which write nothing
        ofmap -= ceil(m / 8) * ceil(n / 6) * (8 + 6)
    layer = one_product(8, 6, flow, *shape)
    assert layer.compute_cycles == cycles
    assert tuple(layer.detail[name] for name in COUNTS) == (ifmap, filters, ofmap)


def test_alexnet_conv1_on_32_by_32_takes_112283_cycles():
    conv, out = square_conv(3, 96, 11, 227, stride=4)
    assert (conv.gemm.pixels, conv.gemm.reduction, conv.gemm.columns) == (3025, 363, 96)
    graph = chain("alexnet", (1, 3, 227, 227), [("conv", conv, out)])
    machine = with_array(GOOGLE, rows=32, cols=32)
    assert simulate(graph, machine, BitWidths(8, 8)).layers[1].compute_cycles == 112283


@pytest.mark.parametrize("flow", FLOWS)
def test_a_depthwise_layer_runs_one_channel_at_a_time(flow):
    conv, out = square_conv(5, 5, 3, 8, groups=5)  # 5 x (36 x 9 times 9 x 1)
    graph = chain("depthwise", (1, 5, 8, 8), [("conv", conv, out)])
    layer = simulate(graph, with_array(GOOGLE, rows=4, cols=7, dataflow=FLOWS[flow]),
                     BitWidths(8, 8)).layers[1]  # fmt: skip
    cycles, counts = published(4, 7, flow, 36, 9, 1)
    assert layer.compute_cycles == 5 * (cycles + 1) - 1
    assert tuple(layer.detail[name] for name in COUNTS) == tuple(5 * count for count in counts)


@pytest.mark.parametrize("flow", FLOWS)
def test_layers_in_a_row_each_count_to_their_last_cycle(flow):
    array = replace(GOOGLE.array, rows=4, cols=3, dataflow=FLOWS[flow])
    gemm = Gemm(1, 5, 9, 7)
    cut = schedule_layer(gemm, np.full((1, 7), 8), 8, 5, array, OperandWidth("fixed", 8, 8), 0)
    instant = Link(1, 0, 1)
    tasks = [ArrayTask((), cut.timing_steps()), ArrayTask((0,), cut.timing_steps())]
    cycles, _ = published(4, 3, flow, 5, 9, 7)
    assert finish_cycles(tasks, array, instant, instant) == [cycles, 2 * cycles]


@pytest.mark.slow
def test_resnet18_takes_the_231765_cycles_that_scale_sim_needs_a_minute_for():
    from hwsim.frontends.models import from_name

    stats = simulate(from_name("resnet18"), GOOGLE, BitWidths(8, 8))
    on_array = [layer for layer in stats.layers if layer.kind in ("conv", "linear")]
    assert sum(layer.compute_cycles for layer in on_array) == 231765


def test_presets_are_scale_sims_own_files():
    for preset, rows, cols, kib in ((GOOGLE, 256, 256, (6144, 6144, 2048)),
                                    (EYERISS, 12, 14, (36, 36, 36))):  # fmt: skip
        array = preset.array
        assert isinstance(array, SystolicArray)
        assert (array.rows, array.cols, array.schedule) == (rows, cols, "serial")
        assert array.dataflow == "weight_stationary"
        assert tuple(m.capacity for m in preset.memory) == tuple(8 * 1024 * k for k in kib)
        tile = rows * cols * 8
        assert array.weight_fifo_tiles == preset.memory_for("weights").capacity // tile
        for dram in preset.dram:  # ten words of a byte a cycle
            assert dram.bandwidth == 80 * preset.clock


@settings(max_examples=60)
@given(
    channels=st.integers(1, 40), size=st.integers(3, 12), flow=st.sampled_from(list(FLOWS)),
    preset=st.sampled_from([GOOGLE, EYERISS]), factor=st.integers(2, 9),
)  # fmt: skip
def test_dram_reads_stay_below_sram_reads_and_ignore_bandwidth_and_buffers(
    channels, size, flow, preset, factor
):
    graph = residual(channels, size)
    array = replace(preset.array, rows=12, cols=14, dataflow=FLOWS[flow])
    machine = replace(preset, array=array)
    faster = tuple(replace(d, bandwidth=d.bandwidth * factor) for d in machine.dram)
    larger = tuple(replace(m, capacity=m.capacity * factor) for m in machine.memory)
    runs = [
        simulate(graph, replace(machine, **changes), BitWidths(8, 8))
        for changes in ({}, {"dram": faster}, {"memory": larger})
    ]
    assert runs[1].dram_read_bits == runs[0].dram_read_bits
    assert runs[2].dram_read_bits <= runs[0].dram_read_bits
    for layer in runs[0].layers[1:]:
        assert layer.dram_read_bits <= sum(layer.onchip_bits.values())


def test_an_ifmap_that_fits_its_memory_is_fetched_once_for_all_blocks_of_filters():
    small = replace(GOOGLE, array=replace(GOOGLE.array, rows=16, cols=10))
    layers = simulate(perceptron("p", [64, 50]), small, BitWidths(8, 8)).layers
    assert layers[1].dram_read_bits == 64 * 8 + 64 * 50 * 8 + 50 * 52  # and metadata
    memory = (replace(small.memory[0], capacity=64 * 8 - 1), *small.memory[1:])
    tight = simulate(perceptron("p", [64, 50]), replace(small, memory=memory), BitWidths(8, 8))
    assert tight.layers[1].dram_read_bits - layers[1].dram_read_bits == 4 * 64 * 8
