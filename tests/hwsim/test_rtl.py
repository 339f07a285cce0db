"""The array as RTL: the cycles that the models claim are those of its clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from analysis.fuzz.rtl import HARDWARE, Hardware, RtlCase, cases, check
from hwsim.dram import Link
from hwsim.rtl.machine import WeightStationary
from hwsim.rtl.simulate import RtlLayer, RtlSimulator
from hwsim.rtl.verilog import main


@settings(max_examples=60)
@given(case=cases())
def test_values_and_cycles_of_the_clock_are_those_of_the_models(case: RtlCase) -> None:
    check(case)


@pytest.mark.parametrize("hardware", HARDWARE, ids=lambda h: f"{h.rows}x{h.cols}")
def test_every_size_folds_chunks_and_waits_for_its_weights(hardware: Hardware) -> None:
    rng = np.random.default_rng(0)
    reduction, columns = 2 * hardware.rows + 1, hardware.cols + 1
    layer = RtlLayer(
        ifmap=rng.integers(-128, 128, (2 * hardware.chunk_rows, reduction)),
        weight=rng.integers(-128, 128, (reduction, columns)),
        widths=np.full(columns, 8),
        metadata_bits=hardware.metadata_bits,
    )
    for ticks in (1, 20):
        check(RtlCase(hardware, Link(hardware.burst_bits, ticks, 1), layer))


def layer_of(pixels: int, reduction: int) -> RtlLayer:
    return RtlLayer(
        np.ones((pixels, reduction), dtype=int), np.ones((reduction, 2), dtype=int), np.full(2, 8)
    )


def test_hand_count_of_two_folds_on_a_2_by_2_array() -> None:
    # tile 0 is there at 4 (32 bits at 8 a cycle) and shifted in at 6; tile 1 is there at 8, shifts
    # until 10 and goes live; 3 rows stream, then 1 + 1 to drain
    rtl = RtlSimulator(WeightStationary(2, 2, fifo_tiles=2, chunk_rows=8, burst_bits=8))
    run = rtl.run(layer_of(3, 4), Link(8, 1, 1))
    assert run.cycles == 10 + 3 + 2
    assert run.ofmap.tolist() == [[4, 4]] * 3
    assert run.weight_dram_bits == 2 * 32


def test_a_full_fifo_stops_the_dram() -> None:
    # one slot: tile 1 begins once tile 0 has been shifted (4 + 2), is there at 10, goes live at 12
    rtl = RtlSimulator(WeightStationary(2, 2, fifo_tiles=1, chunk_rows=8, burst_bits=8))
    assert rtl.run(layer_of(3, 4), Link(8, 1, 1)).cycles == 12 + 3 + 2


def test_a_narrow_last_block_waits_for_the_wide_one_ahead() -> None:
    # 1 x 4 PEs, one pixel: the tile of 32 bits is there at 4, shifts in, streams at 5 and leaves
    # column 3 at 5 + 1 + 3; the second, 8 bits, is there at 5 and goes live at 6, in column 0 only
    rtl = RtlSimulator(WeightStationary(1, 4, fifo_tiles=2, chunk_rows=1, burst_bits=8))
    layer = RtlLayer(np.ones((1, 1), int), np.arange(1, 6).reshape(1, 5), np.full(5, 8))
    run = rtl.run(layer, Link(8, 1, 1))
    assert run.cycles == 9
    assert run.ofmap.tolist() == [[1, 2, 3, 4, 5]]


def test_a_layer_leaves_nothing_behind_for_the_next() -> None:
    rtl = RtlSimulator(WeightStationary(2, 2, fifo_tiles=2, chunk_rows=2, burst_bits=8))
    first = rtl.run(layer_of(5, 3), Link(8, 3, 2))
    rtl.run(layer_of(1, 7), Link(8, 1, 1))
    again = rtl.run(layer_of(5, 3), Link(8, 3, 2))
    assert again.cycles == first.cycles
    assert np.array_equal(again.ofmap, first.ofmap)
    assert again.ofmap.tolist() == [[3, 3]] * 5


def test_a_link_faster_than_a_burst_a_cycle_is_refused() -> None:
    rtl = RtlSimulator(WeightStationary(1, 1, burst_bits=8))
    with pytest.raises(ValueError, match="one burst a cycle"):
        rtl.run(layer_of(1, 1), Link(8, 1, 2))


def test_a_layer_that_takes_too_long_is_given_up() -> None:
    rtl = RtlSimulator(WeightStationary(2, 2, burst_bits=8))
    with pytest.raises(RuntimeError, match="not done after 5 cycles"):
        rtl.run(layer_of(3, 4), Link(8, 1, 1), limit=5)


def test_verilog_has_the_ports_and_a_module_for_each_pe(tmp_path) -> None:
    file = tmp_path / "array.v"
    assert main(["2", "3", "-o", str(file)]) == 0
    text = file.read_text()
    assert "module weight_stationary(" in text
    assert text.count("module \\weight_stationary.array.pe_") == 6
    for port in ("clk", "rst", "pixels", "burst", "free", "widths__2", "ofmap__2", "done"):
        assert f" {port};" in text


def test_sizes_below_one_are_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["0", "3", "-o", str(tmp_path / "array.v")])
    assert caught.value.code == 2
    assert "rows must be at least 1, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
