"""Published numbers of TPU v1 (Jouppi et al., ISCA 2017) and of SCALE-Sim's cycle convention."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import chain, perceptron, square_conv

from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import Accelerator
from hwsim.dram import Link

TPU = load_accelerator("tpu_v1")


def with_array(accelerator: Accelerator, **changes) -> Accelerator:
    return replace(accelerator, array=replace(accelerator.array, **changes))


# the chip itself fetches whole tiles, padding included
CHIP = with_array(TPU, weight_fetch="whole_tiles")


def test_one_tile_needs_1349_cycles_of_ddr_time():
    link = Link.of(TPU.dram_for("weights"), TPU.clock)
    assert link.ticks(64 * 1024 * 8) // link.ticks_per_cycle == 1349


def test_peak_is_92_tera_operations():
    assert 2 * TPU.array.pes * TPU.clock == pytest.approx(92e12, rel=0.005)


def test_mlp0_reaches_12_3_tera_operations_within_10_percent():
    # five fully connected layers, 20 M weights, batch 200: 2000 x 2000 each
    stats = simulate(perceptron("mlp0", [2000] * 6), CHIP, BitWidths(8, 8), batch=200)
    assert 2 * stats.macs / stats.seconds / 1e12 == pytest.approx(12.3, rel=0.10)


def test_a_600_by_600_matrix_takes_18_microseconds_within_10_percent():
    # nine tiles, fetched whole
    stats = simulate(perceptron("matrix", [600, 600]), CHIP, BitWidths(8, 8))
    assert stats.seconds == pytest.approx(18e-6, rel=0.10)


def test_alexnet_conv1_in_the_serial_schedule_is_scale_sims_112283_cycles():
    array = with_array(TPU, rows=32, cols=32, schedule="serial", weight_fifo_tiles=4)
    fast_dram = tuple(replace(dram, bandwidth=10**18) for dram in array.dram)
    accelerator = replace(array, dram=fast_dram)
    conv, out = square_conv(3, 96, 11, 227, stride=4)
    assert (conv.gemm.pixels, conv.gemm.reduction, conv.gemm.columns) == (3025, 363, 96)
    graph = chain("alexnet", (1, 3, 227, 227), [("conv", conv, out)])
    stats = simulate(graph, accelerator, BitWidths(8, 8))
    assert stats.layers[1].compute_cycles == 112283


@pytest.mark.parametrize(("weight", "activation", "factor"), [(8, 16, 2), (16, 16, 4), (4, 4, 1)])
def test_wide_operands_slow_the_array_and_narrow_ones_do_not_speed_it_up(
    weight, activation, factor
):
    # one fold of 256 x 256 and 2000 pixels: all but the shift and the drain is streaming
    conv, out = square_conv(256, 256, 1, 44)
    graph = chain("one_fold", (1, 256, 44, 44), [("conv", conv, out)])
    narrow = simulate(graph, TPU, BitWidths(8, 8)).layers[1]
    wide = simulate(graph, TPU, BitWidths(weight, activation)).layers[1]
    assert wide.compute_cycles - narrow.compute_cycles == (factor - 1) * 44 * 44


def test_the_chip_fetches_whole_tiles_and_packing_fetches_the_bits_in_use():
    graph = perceptron("matrix", [300, 300])
    whole = simulate(graph, CHIP, BitWidths(3, 8)).layers[1].detail["weight_dram_bits"]
    packed = simulate(graph, TPU, BitWidths(3, 8)).layers[1].detail["weight_dram_bits"]
    assert whole == 4 * 65536 * 8
    metadata = 300 * (16 + 4 + 32)
    assert 300 * 300 * 3 + metadata <= packed < 300 * 300 * 3 + metadata + 4 * 512
