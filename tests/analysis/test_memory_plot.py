"""The table of what memories hold, and its figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import residual
from test_residency_systolic import keeper

from analysis.memory_plot import memory_figure, memory_table
from hwsim import BitWidths, load_accelerator, simulate
from hwsim.occupancy import occupancy

GRAPH = residual(4, 6)
TPU, EYERISS = load_accelerator("tpu_v1"), load_accelerator("eyeriss_v1")
SIZE = 4 * 36 * 8


@pytest.mark.parametrize("accelerator", [TPU, EYERISS], ids=["tpu_v1", "eyeriss_v1"])
@pytest.mark.parametrize("bits", ["W8A8", "W4A8"])
def test_parts_add_up_to_what_the_simulator_requires(accelerator, bits):
    widths = BitWidths.parse(bits)
    stats = simulate(GRAPH, accelerator, widths, 2)
    table = memory_table(GRAPH, accelerator, widths, stats)
    assert len(table) == len(stats.layers) * len(accelerator.memory)
    parts = [c for c in table.columns if c.endswith("_bits")]
    parts = [c for c in parts if c not in ("required_bits", "available_bits")]
    assert (table[parts].sum(axis=1) == table["required_bits"]).all()
    assert (table[parts] >= 0).all(axis=None)
    for row in stats.layers:
        for memory, need in row.required_bits.items():
            found = table[(table["layer"] == row.name) & (table["memory"] == memory)]
            assert found["required_bits"].tolist() == [need]
            assert found["available_bits"].tolist() == [row.available_bits[memory]]


def test_a_branch_that_waits_is_told_from_what_the_layer_reads_and_writes():
    widths = BitWidths(8, 8)
    skip = replace(GRAPH.layers[2], inputs=(GRAPH["image"].output,))  # b reads the image again
    graph = replace(GRAPH, layers=(*GRAPH.layers[:2], skip, GRAPH.layers[3]))
    rows = {
        (r.memory, r.layer): r for r in occupancy(graph, TPU, widths, simulate(graph, TPU, widths))
    }
    b = rows["unified_buffer", "b"]
    assert dict(b.parts) == {
        "weights": 0, "input": SIZE, "output": SIZE, "kept for later": SIZE, "tiles": 0,
    }  # fmt: skip
    assert b.resident == ("image", "a", "b")
    assert (b.step, b.required_bits, b.available_bits) == (2, 3 * SIZE, 24 << 23)
    assert rows["accumulators", "b"].parts["tiles"] == rows["accumulators", "b"].required_bits > 0
    assert rows["accumulators", "b"].resident == ()


def test_only_tensors_that_stay_are_resident():
    small = tuple(replace(m, capacity=2 * SIZE) if m.keeps_tensors else m for m in TPU.memory)
    chip, widths = replace(TPU, memory=small), BitWidths(8, 8)
    stats = simulate(GRAPH, chip, widths)
    kept = {layer.name for layer in stats.layers if layer.detail["ofmap_kept"]}
    rows = [r for r in occupancy(GRAPH, chip, widths, stats) if r.memory == "unified_buffer"]
    assert {name for row in rows for name in row.resident} == kept != set(GRAPH.liveness.names)
    assert rows[-1].required_bits > rows[-1].available_bits
    eyeriss = occupancy(GRAPH, EYERISS, widths, simulate(GRAPH, EYERISS, widths))
    assert not any(row.resident for row in eyeriss)


def test_weights_share_a_memory_with_tensors_and_stay_in_one_of_their_own():
    widths = BitWidths(8, 8)
    chip = keeper(10**6)
    rows = occupancy(GRAPH, chip, widths, simulate(GRAPH, chip, widths))
    store = [row for row in rows if row.memory == "store"]
    assert {row.parts["weights"] for row in store} == {2 * 144 * 8 + 2 * 4 * 52}
    shared = replace(chip.memory_for("ifmap"), holds=("weights", "ifmap", "ofmap"))
    one = replace(chip, memory=(shared, chip.memory_for("psum")))
    rows = occupancy(GRAPH, one, widths, simulate(GRAPH, one, widths))
    a = next(row for row in rows if (row.memory, row.layer) == ("buffer", "a"))
    assert (a.parts["input"], a.parts["output"], a.parts["weights"]) == (SIZE, SIZE, 0)
    assert a.parts["tiles"] > 0  # weights on their way to the array


def test_statistics_of_another_network_or_accelerator_are_refused():
    widths = BitWidths(8, 8)
    stats = simulate(GRAPH, TPU, widths)
    with pytest.raises(ValueError, match="'residual' on 'eyeriss_v1', got those of 'residual'"):
        occupancy(GRAPH, EYERISS, widths, stats)


def test_the_figure_is_the_same_every_time_and_names_memories_and_layers():
    widths = BitWidths(8, 8)
    table = memory_table(GRAPH, TPU, widths, simulate(GRAPH, TPU, widths))
    figure = memory_figure(table, "residual on tpu_v1")
    assert figure == memory_figure(table, "residual on tpu_v1")
    assert figure.startswith(b"<?xml")
    assert memory_figure(table, kind="png").startswith(b"\x89PNG")
    without = table[table["memory"] != "unified_buffer"]
    assert len(memory_figure(without)) < len(figure)
