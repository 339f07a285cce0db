"""Many design points at once give what each gives alone, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graphs import chain, perceptron, residual, square_conv
from hypothesis import given, settings
from hypothesis import strategies as st
from test_systolic_laws import graphs, machines, random_bits

from hwsim import Accelerator, BitWidths, load_accelerator, simulate, simulate_many
from hwsim.accelerator import Memory, OperandWidth
from hwsim.systolic import many

TPU = load_accelerator("tpu_v1")
CAPACITIES = [1, 10**3, 5 * 10**3, 2 * 10**4, 10**5, 10**9]
RULES = [OperandWidth("fixed", 8, 8), OperandWidth("bit_fusion"), OperandWidth("loom")]


def assert_equal_to_one_by_one(graph, points, bits, batch, **options) -> None:
    found = simulate_many(graph, points, bits, batch, per_layer=True, **options)
    assert len(found) == len(points)
    for i, point in enumerate(points):
        alone = simulate(graph, point, bits, batch)
        for name in (
            "cycles", "compute_cycles", "stall_cycles", "dram_read_bits", "dram_write_bits",
            "energy_pj", "fits_on_chip", "residency_gap_bits", "pes", "clock_hz", "seconds",
            "utilisation",
        ):  # fmt: skip
            assert getattr(found, name)[i] == getattr(alone, name), (i, name)
        assert found.layers[i] == tuple(
            tuple(getattr(row, name) for name in many.LayerPoint._fields) for row in alone.layers
        )
        needs = {name: column[i] for name, column in found.required_bits.items() if column[i]}
        most = {
            name: max(row.required_bits[name] for row in alone.layers)
            for name in alone.layers[0].required_bits
        }
        assert needs == {name: bits for name, bits in most.items() if bits}
        assert found.macs == alone.macs


@st.composite
def variants(draw, machine: Accelerator) -> list[Accelerator]:
    """Design points around a machine, such that many share something with others."""
    arrays = [machine.array]
    for _ in range(draw(st.integers(0, 2))):
        arrays.append(
            replace(
                draw(st.sampled_from(arrays)),
                **draw(
                    st.sampled_from(
                        [
                            {"rows": draw(st.integers(1, 12))},
                            {"cols": draw(st.integers(1, 12))},
                            {"weight_fifo_tiles": draw(st.integers(1, 5))},
                            {"accumulator_rows": draw(st.integers(1, 40))},
                            {"weight_fetch": "whole_tiles"},
                            {"sort_columns": True},
                            {"mac_energy": 0.7},
                        ]
                    )
                ),
            )
        )
    capacities = draw(st.lists(st.sampled_from(CAPACITIES), min_size=1, max_size=3))
    bursts = draw(st.sampled_from([[8], [512], [64, 512]]))
    rules = draw(st.lists(st.sampled_from(RULES), min_size=1, max_size=2))
    in_place = draw(st.sampled_from([[False], [True], [False, True]]))
    stores = draw(st.sampled_from([[None], [None, 1, 10**4, 10**9]]))  # of all weights
    points = []
    for _ in range(draw(st.integers(1, 14))):
        buffer, *others = machine.memory
        if store := draw(st.sampled_from(stores)):
            others.append(Memory("weight_store", store, ("weights",), 1.0, keeps_weights=True))
        buffer = replace(buffer, capacity=draw(st.sampled_from(capacities)))
        dram = tuple(
            replace(
                d,
                bandwidth=draw(st.integers(10**7, 10**12)),
                burst=draw(st.sampled_from(bursts)),
                turnaround=draw(st.sampled_from([0, 0, 15_000])),
            )
            for d in machine.dram
        )
        points.append(
            replace(
                machine,
                array=draw(st.sampled_from(arrays)),
                memory=(buffer, *others),
                dram=dram,
                clock=draw(st.sampled_from([machine.clock, 7 * 10**8, 2 * 10**8 + 1])),
                operand_width=draw(st.sampled_from(rules)),
                vector=replace(machine.vector, in_place=draw(st.sampled_from(in_place))),
            )
        )
    return points


@settings(max_examples=200)
@given(data=st.data(), graph=graphs(), machine=machines(), seed=st.integers(0, 2**32 - 1))
def test_every_design_point_equals_its_own_simulation(data, graph, machine, seed):
    bits = random_bits(graph, seed) if data.draw(st.booleans()) else BitWidths(8, 8)
    points, batch = data.draw(variants(machine)), data.draw(st.integers(1, 2))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):  # vectors and scans wherever they can be
            for name, value in (("FEW", 1), ("SCAN_FROM", 1), ("SLICE", 3)):
                patch.setattr(many, name, value)
        assert_equal_to_one_by_one(graph, points, bits, batch)


def test_a_grid_of_deeper_layers_equals_one_by_one():
    # layers of some hundred steps, which are solved at once, kept on chip and spilled
    first, out = square_conv(8, 40, 3, 12, pad=1)
    second, _ = square_conv(40, 40, 3, 12, pad=1)
    graph = chain("deep", (1, 8, 12, 12), [("conv", first, out), ("conv", second, out)])
    array = replace(TPU.array, rows=6, cols=6, accumulator_rows=50)
    buffer, *others = TPU.memory
    points = [
        replace(
            TPU,
            array=replace(array, weight_fifo_tiles=depth),
            memory=(replace(buffer, capacity=capacity), *others),
            dram=tuple(replace(d, bandwidth=bandwidth) for d in TPU.dram),
        )
        for depth in (1, 3)
        for capacity in (10**3, 6 * 10**4, 10**9)
        for bandwidth in (10**8, 10**9, 3 * 10**9, 10**10, 10**12)
    ]
    rng = np.random.default_rng(0)
    mixed = BitWidths({x.name: rng.integers(1, 9, 40) for x in graph.weighted}, 8)
    for bits in (BitWidths(8, 8), mixed):
        assert_equal_to_one_by_one(graph, points, bits, 1)


def test_two_processes_give_what_one_gives():
    graph = residual(6, 8)
    points = [
        replace(TPU, array=replace(TPU.array, rows=rows, cols=8), clock=clock)
        for rows in (8, 5)
        for clock in (10**8, 7 * 10**8)
    ]
    assert_equal_to_one_by_one(graph, points, BitWidths(8, 8), 2, workers=2)


def test_row_stationary_points_may_stand_beside_systolic_ones():
    eyeriss = load_accelerator("eyeriss_v1")
    faster = replace(eyeriss, dram=(replace(eyeriss.dram[0], bandwidth=10**11),))
    points = [eyeriss, TPU, faster, eyeriss]
    conv, out = square_conv(4, 8, 3, 9, pad=1)
    graph = chain("small", (1, 4, 9, 9), [("conv", conv, out)])
    assert_equal_to_one_by_one(graph, points, BitWidths(8, 8), 1)


def test_times_that_outgrow_64_bits_take_the_plain_way():
    slow = [replace(TPU, dram=tuple(replace(d, bandwidth=999_999_937 + i, turnaround=999_983)
                                    for d in TPU.dram), clock=699_999_953)
            for i in range(5)]  # fmt: skip
    graph = perceptron("p", [64, 600, 64])
    assert_equal_to_one_by_one(graph, slow, BitWidths(8, 8), 1)


def test_more_cycles_than_a_table_holds_are_refused():
    crawling = replace(TPU, dram=tuple(replace(d, bandwidth=1) for d in TPU.dram), clock=10**15)
    graph = perceptron("p", [640, 640])
    with pytest.raises(ValueError, match="more bandwidth"):
        simulate_many(graph, [crawling], BitWidths(8, 8))


def test_no_accelerators_and_bad_counts_are_refused():
    graph = perceptron("p", [4, 4])
    with pytest.raises(ValueError, match="at least one accelerator"):
        simulate_many(graph, [], BitWidths(8, 8))
    with pytest.raises(ValueError, match="workers must be at least 1"):
        simulate_many(graph, [TPU], BitWidths(8, 8), workers=0)
    with pytest.raises(ValueError, match="batch must be at least 1"):
        simulate_many(graph, [TPU], BitWidths(8, 8), 0)


def test_bandwidths_and_clocks_share_one_run(monkeypatch):
    runs = []
    run = many.run
    monkeypatch.setattr(many, "run", lambda *a, **k: runs.append(a) or run(*a, **k))
    points = [
        replace(TPU, clock=clock, dram=tuple(replace(d, bandwidth=speed) for d in TPU.dram))
        for clock in (10**8, 7 * 10**8)
        for speed in range(10**9, 10**10, 10**9)
    ]
    simulate_many(residual(4, 6), points, BitWidths(8, 8))
    assert len(runs) == 2  # one over all points, one on infinitely fast DRAM


def test_the_frame_has_one_row_a_point():
    points = [TPU, replace(TPU, name="slow", clock=10**8)]
    frame = simulate_many(residual(4, 6), points, BitWidths(8, 8)).to_frame()
    assert frame["accelerator"].tolist() == ["tpu_v1", "slow"]
    assert (frame["cycles"] == frame["compute_cycles"] + frame["stall_cycles"]).all()
    assert frame["unified_buffer_required_bits"].notna().all()
