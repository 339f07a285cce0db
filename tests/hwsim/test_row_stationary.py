"""Row-stationary arrays: the measured chip, the search against brute force, laws, files."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analysis.fuzz.row_stationary import Case, SearchCase, cases, check_search, search_cases
from analysis.reports.eyeriss_validation import (
    ALEXNET_CHIP,
    ALEXNET_PASSES,
    VGG16_CHIP,
    Measured,
    chip_run,
    figures,
    packed,
)
from hwsim.accelerator import Accelerator, load_accelerator
from hwsim.bits import BitWidths
from hwsim.dram import Link
from hwsim.frontends.paper_networks import alexnet_paper
from hwsim.graph import Conv, Layer, LayerGraph, Linear, Matmul, Tensor, Vector
from hwsim.row_stationary import RsMapping, best_mappings, load_mappings, simulate_network
from hwsim.row_stationary.bounds import CycleBound
from hwsim.row_stationary.limits import limits_for
from hwsim.row_stationary.mapping import problems
from hwsim.row_stationary.operands import FeatureMap, feature_maps
from hwsim.row_stationary.search import search_mappings
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.task import LayerTask, layer_task, width_classes
from hwsim.row_stationary.timing import layer_timing, pass_cycles
from hwsim.row_stationary.work import make_work
from hwsim.stats import NetworkStats

EYERISS = load_accelerator("eyeriss_v1")
PLAIN = FeatureMap(16, Fraction(16), Fraction(16), 0.0)


# --- the measured chip: Chen et al., JSSC 52(1), 2017, Tables III, V and VI ---


@pytest.fixture(scope="module")
def alexnet() -> NetworkStats:
    return chip_run(alexnet_paper(), ALEXNET_CHIP, 4, load_mappings("alexnet_chip"))


@pytest.mark.parametrize(("row", "passes"), list(zip(ALEXNET_CHIP, ALEXNET_PASSES, strict=True)))
def test_alexnet_has_the_chips_active_pes_and_passes(
    alexnet: NetworkStats, row: Measured, passes: int
) -> None:
    got = figures(alexnet, row.layer)
    assert (got["pes"], got["passes"]) == (row.active_pes, passes)


@pytest.mark.parametrize("row", [row for row in ALEXNET_CHIP if row.layer != "conv3"])
def test_alexnet_buffer_traffic_is_within_1_percent(alexnet: NetworkStats, row: Measured) -> None:
    assert figures(alexnet, row.layer)["buffer"] == pytest.approx(row.buffer_mb, rel=0.01)


@pytest.mark.parametrize("row", ALEXNET_CHIP)
def test_alexnet_latencies_and_dram_are_within_tolerance(
    alexnet: NetworkStats, row: Measured
) -> None:
    got = figures(alexnet, row.layer)
    assert got["processing"] == pytest.approx(row.processing_ms, rel=0.10)
    assert got["total"] == pytest.approx(row.total_ms, rel=0.12)
    assert got["dram"] == pytest.approx(row.dram_mb, rel=0.15)


def test_alexnet_total_processing_latency_is_within_8_percent(alexnet: NetworkStats) -> None:
    total = sum(figures(alexnet, row.layer)["processing"] for row in ALEXNET_CHIP)
    assert total == pytest.approx(103.5, rel=0.08)  # Table V, total


@pytest.fixture(scope="module")
def vgg16() -> NetworkStats:
    from hwsim.frontends.models import from_name

    return chip_run(from_name("vgg16"), VGG16_CHIP, 3, load_mappings("vgg16_chip"))


@pytest.mark.parametrize("row", VGG16_CHIP)
def test_vgg16_processing_latency_is_within_10_percent(vgg16: NetworkStats, row: Measured) -> None:
    got = figures(vgg16, row.layer)
    assert got["pes"] == row.active_pes
    assert got["processing"] == pytest.approx(row.processing_ms, rel=0.10)


def test_early_vgg16_layers_are_bound_by_the_psum_port_and_late_ones_by_macs(
    vgg16: NetworkStats,
) -> None:
    bound = [stats.detail["bound_by"] for stats in vgg16.layers if stats.kind == "conv"]
    assert bound == ["psum port"] * 10 + ["macs"] * 3


def test_conv2_of_alexnet_by_hand(alexnet: NetworkStats) -> None:
    # a pass: 16 * 2 * 25 / 4 = 200 cycles of filters; then the first window of 2 channels, 31 rows
    # and 5 columns at one value a cycle: 310; 27 columns of 16 * 2 * 5 MACs: 4320; 16 * 27 / 4 =
    # 108 cycles for the psums of the last column, which climbed 5 PEs
    conv2 = next(stats for stats in alexnet.layers if stats.name == "conv2")
    assert conv2.detail["processing_cycles"] == 1536 * (200 + 310 + 4320 + 108 + 5)


def test_a_pass_bound_by_the_psum_port_by_hand() -> None:
    # 10 columns of 8 cycles in and out, 2 cycles of MACs; the first window takes 3. Column 0 is
    # bound by its psums (8), the last leave 10 * 8 cycles later, after climbing 3 PEs
    arguments = [np.array(value) for value in (2, 3, 1, 8, 8, 3)]
    assert pass_cycles(np.array(1), 10, *arguments) == 8 + 80 + 3


# --- search ---


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(case=search_cases())
def test_search_finds_what_trying_every_legal_mapping_finds(case: SearchCase) -> None:
    check_search(case)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_bounds_never_exceed_the_cycles_and_are_exact_for_one_width(case: Case) -> None:
    assume(case.work.filters == case.shape.filters)  # the search leaves dropped filters out
    bound = CycleBound(case.shape, case.limits, case.work, case.link)
    m, n, e, p, q, r, t = vars(case.mapping).values()
    row, cycles = np.array([[e, p, q, r, t, n, m]]), case.fast().cycles
    rough, close = bound.rough(row), bound.close(row)[0]
    assert bound.of_array_shapes(row[:, [0, 3, 4]], q)[0] <= cycles * (1 + 1e-9)
    assert bound.with_exact_filters(row, rough)[0] <= cycles * (1 + 1e-9)
    assert close <= cycles
    assert close >= rough[0] * (1 - 1e-9) - 1
    if bound.one_width and case.limits.tiles == 1:
        assert close == cycles


def test_an_uneven_cut_may_save_part_of_the_last_ofmaps_way_out() -> None:
    # 4 filters of 1 x 1 over one pixel, DRAM of 5 bits a cycle in bursts of 8. After the last pass
    # of blocks of 2 + 2 two values of 19/3 bits leave (2 bursts, 4 cycles), of 3 + 1 one (2 cycles)
    shape = ConvShape(1, 1, 1, 4, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1), (1, 1))
    array = replace(EYERISS.array, rows=1, cols=1, ifmap_spad=1, filter_spad=2, psum_spad=1,
                    filter_port=1, psum_in_port=1, psum_out_port=1, gbuf_banks=4, bank_bits=64,
                    overlap=True)  # fmt: skip
    chip = replace(EYERISS, array=array, dram=(replace(EYERISS.dram[0], bandwidth=10**9, burst=8),))
    work = make_work(np.full((1, 4), 2), 16, Fraction(19, 3), 36, 1, 16, False, True)
    limits, link = limits_for(shape, chip, 2, 16), Link.of(chip.dram[0], chip.clock)
    found = search_mappings(shape, limits, work, link, lambda mapping, timing: 0.0)[0]
    uneven = layer_timing(shape, limits, replace(found.mapping, m=3), work, link)
    assert found.mapping.m == 2
    assert found.timing.cycles - uneven.cycles == 2
    assert (found.timing.ofmap_stall_cycles, uneven.ofmap_stall_cycles) == (4, 2)


def test_runners_up_come_in_order_and_are_legal() -> None:
    layer = alexnet_paper()["conv3"]
    found = best_mappings(layer, EYERISS, 16, 16, 4, count=5)
    assert [item.key for item in found] == sorted(item.key for item in found)
    assert len({item.mapping for item in found}) == 5
    task = _task(layer, batch=4)
    assert not any(problems(item.mapping, task.shape, task.limits()) for item in found)


def test_a_products_second_operand_takes_its_own_width_in_the_search() -> None:
    left, right = Tensor("left", (1, 9, 12), -1), Tensor("right", (1, 12, 9), 1)
    product_ = Layer("product", "matmul", Matmul(1, 9, 12, 9), (left, right),
                     Tensor("product", (1, 9, 9), -1))  # fmt: skip
    inputs = tuple(Layer(t.name, "input", Vector(0), (), t) for t in (left, right))
    graph = LayerGraph("product", (*inputs, product_), ("product",))
    small = packed(replace(EYERISS, array=replace(EYERISS.array, filter_spad=8)))
    bits = BitWidths(16, {"left": 2, "right": 8, "product": 4})
    found = best_mappings(product_, small, 8, 2, 1, 1)[0]
    simulated = simulate_network(graph, small, bits).layers[-1]
    given = simulate_network(graph, small, bits, mappings={"product": found.mapping}).layers[-1]
    assert given.cycles == simulated.cycles


def _task(layer: Layer, batch: int, accelerator: Accelerator = EYERISS) -> LayerTask:
    maps = dict.fromkeys([layer.name, *(tensor.name for tensor in layer.inputs)], PLAIN)
    return layer_task(layer, accelerator, BitWidths(16, 16), batch, maps)


# --- networks ---


def _conv_layer(name: str, source: Tensor, filters: int, kernel: int, groups: int = 1) -> Layer:
    _, channels, height, width = source.shape
    size = (height - kernel + 1, width - kernel + 1)
    work = Conv(channels, filters, (kernel, kernel), (1, 1), (0, 0), (1, 1), groups,
                (height, width), size)  # fmt: skip
    return Layer(name, "conv", work, (source,), Tensor(name, (1, filters, *size)), fused=("relu",))


def _mixed_graph() -> LayerGraph:
    """One layer of each kind: conv, depthwise, pool, add, concat, linear, matmul."""
    image = Tensor("input", (1, 3, 12, 12))
    layers = [Layer("input", "input", Vector(0), (), image)]
    first = _conv_layer("first", image, 8, 3)
    depthwise = _conv_layer("depthwise", first.output, 8, 3, groups=8)
    pool = Layer("pool", "pool", Vector(4 * 8 * 16), (depthwise.output,),
                 Tensor("pool", (1, 8, 4, 4)))  # fmt: skip
    add = Layer("add", "add", Vector(128), (pool.output, pool.output), Tensor("add", (1, 8, 4, 4)))
    join = Layer("join", "concat", Vector(0), (pool.output, add.output),
                 Tensor("join", (1, 16, 4, 4)))  # fmt: skip
    rows = Tensor("join", (1, 16, 16), channel_axis=2)
    linear = Layer(
        "linear", "linear", Linear(16, 16, 10), (rows,), Tensor("linear", (1, 16, 10), 2)
    )
    product_ = Layer("product", "matmul", Matmul(2, 16, 5, 16), (linear.output, linear.output),
                     Tensor("product", (1, 2, 16, 16), 1))  # fmt: skip
    layers += [first, depthwise, pool, add, join, linear, product_]
    return LayerGraph("mixed", tuple(layers), ("product",))


@pytest.mark.parametrize("accelerator", [EYERISS, packed(EYERISS)], ids=["chip", "packed"])
@pytest.mark.parametrize("batch", [1, 3])
def test_no_layer_is_free_and_totals_are_sums(accelerator: Accelerator, batch: int) -> None:
    graph = _mixed_graph()
    stats = simulate_network(graph, accelerator, BitWidths(8, 8), batch)
    assert [row.name for row in stats.layers] == [layer.name for layer in graph][1:]
    for row, layer in zip(stats.layers, graph.layers[1:], strict=True):
        if layer.name in graph.liveness.views:
            assert (row.cycles, row.dram_bits, row.energy_pj) == (0, 0, 0)
            continue
        assert row.cycles > 0
        assert row.dram_read_bits > 0
        assert row.dram_write_bits > 0
        assert row.energy_pj > 0
        assert row.macs == layer.macs * batch
        assert row.cycles * stats.pes >= row.macs
        for name, capacity in row.available_bits.items():
            assert row.detail[f"{name}_tile_bits"] <= capacity
        assert row.compute_cycles == row.detail["processing_cycles"]
    assert stats.cycles == sum(row.cycles for row in stats.layers)
    assert stats.macs == graph.macs * batch


def test_a_matmul_reads_its_second_operand_once_an_image() -> None:
    graph = _mixed_graph()
    stats = simulate_network(graph, EYERISS, BitWidths(16, 16), 3)
    row = stats.layers[-1]
    second = 3 * 2 * 5 * 16 * 16  # images, groups, reduction, columns, bits
    assert row.detail["dram_filter_bits"] >= second
    assert row.detail["dram_filter_bits"] % second == 0


@settings(max_examples=40)
@given(widths=st.lists(st.integers(0, 16), min_size=8, max_size=8), scale=st.integers(1, 8))
def test_with_a_given_mapping_fewer_bits_and_more_bandwidth_never_cost_more(
    widths: list[int], scale: int
) -> None:
    image = Tensor("input", (1, 3, 12, 12))
    layer = _conv_layer("first", image, 8, 3)
    graph = LayerGraph("one", (Layer("input", "input", Vector(0), (), image), layer), ("first",))
    mapping = {"first": RsMapping(4, 1, 5, 2, 1, 1, 2)}
    wide = simulate_network(graph, EYERISS, BitWidths(16, 16), 2, mapping)
    faster = replace(EYERISS, dram=(replace(EYERISS.dram[0], bandwidth=scale * 3840 * 10**6),))
    quick = simulate_network(graph, faster, BitWidths(16, 16), 2, mapping)
    assert quick.cycles <= wide.cycles
    assert quick.dram_bits == wide.dram_bits
    if min(widths) > 0:  # a dropped filter may make the mapping illegal
        bits = BitWidths({"first": np.array(widths)}, 8)
        narrow = simulate_network(graph, EYERISS, bits, 2, mapping)
        assert narrow.cycles <= wide.cycles
        assert narrow.dram_bits <= wide.dram_bits
        assert narrow.energy_pj <= wide.energy_pj


def test_dropped_filters_cost_no_macs_and_no_weights() -> None:
    image = Tensor("input", (1, 3, 12, 12))
    layer = _conv_layer("first", image, 8, 3)
    graph = LayerGraph("one", (Layer("input", "input", Vector(0), (), image), layer), ("first",))
    some = np.array([0, 16, 16, 0, 16, 0, 0, 16])
    full = simulate_network(graph, EYERISS, BitWidths(16, 16)).layers[0]
    half = simulate_network(graph, EYERISS, BitWidths({"first": some}, 16)).layers[0]
    none = simulate_network(graph, EYERISS, BitWidths(0, 16)).layers[0]
    assert half.cycles < full.cycles
    assert none.detail["processing_cycles"] == 0
    assert none.dram_write_bits == full.dram_write_bits  # the next layer reads the constants
    assert none.cycles > 0


def test_filters_apart_by_width_bring_the_metadata_of_all_channels() -> None:
    layer = _mixed_graph()["first"]
    widths = BitWidths({"first": np.array([0, 2, 2, 4, 0, 8, 8, 16])}, 8)
    maps = dict.fromkeys(["input", "first"], PLAIN)
    parts = width_classes(layer_task(layer, packed(EYERISS), widths, 1, maps))
    assert len(parts) == 4
    assert sum(part.metadata_bits for part in parts) == 8 * EYERISS.metadata.bits


def test_packing_saves_cycles_and_grouping_by_width_saves_more() -> None:
    layer = _conv_layer("first", Tensor("input", (1, 128, 9, 9)), 256, 3)
    image = layer.inputs[0]
    graph = LayerGraph("one", (Layer("input", "input", Vector(0), (), image), layer), ("first",))
    widths = np.random.default_rng(0).choice([2, 4, 8], 256)
    bits = BitWidths({"first": widths}, 8)
    cycles = [
        simulate_network(graph, accelerator, bits).cycles
        for accelerator in (EYERISS, packed(EYERISS, grouped=False), packed(EYERISS))
    ]
    assert cycles[0] > cycles[1] > cycles[2]


def test_zeros_are_assumed_only_behind_a_relu_and_never_in_the_input() -> None:
    graph = _mixed_graph()
    maps = feature_maps(graph, EYERISS, BitWidths(16, 16), None)
    zeros = EYERISS.array.zero_fraction
    assert [maps[name].zeros for name in ("input", "first", "pool", "linear")] == [
        0,
        zeros,
        zeros,
        0,
    ]
    assert maps["first"].dram_bits < 16
    assert maps["input"].dram_bits == 16
    black = feature_maps(graph, EYERISS, BitWidths(16, 16), {"input": 0.9})
    assert black["input"].dram_bits == 16
    codes = np.zeros(1000, dtype=np.int64)
    codes[::4] = 7  # runs of three zeros: 250 pairs, three in a word of 64 bits
    known = feature_maps(graph, EYERISS, BitWidths(16, 16), {"first": codes})
    assert known["first"].zeros == 0.75
    assert known["first"].dram_bits == Fraction(84 * 64, 1000)


# --- mistakes ---


def test_an_illegal_mapping_is_refused_with_every_reason() -> None:
    mappings = load_mappings("alexnet_chip")
    mappings["conv1"] = RsMapping(96, 1, 7, 32, 1, 1, 4)
    with pytest.raises(ValueError, match=r"'conv1'.*filter scratch pad.*psum scratch pad.*sets"):
        simulate_network(alexnet_paper(), EYERISS, BitWidths(16, 16), 4, mappings)


def test_a_mapping_for_an_unknown_layer_is_refused_with_a_suggestion() -> None:
    mappings = {"conv11": RsMapping(1, 1, 1, 1, 1, 1, 1)}
    with pytest.raises(ValueError, match="did you mean 'conv1'"):
        simulate_network(alexnet_paper(), EYERISS, BitWidths(16, 16), 4, mappings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 2\n[layers]\na = {m=1,n=1,e=1,p=1,q=1,r=1,t=1}", "schema: expected schema = 1"),
        ("schema = 1", "layers: expected one table a layer"),
        ("schema = 1\n[layers]\na = {m=1,n=1,e=1,p=1,q=1,r=1}", "layers.a.t: .* it is missing"),
        ("schema = 1\n[layers]\na = {m=0,n=1,e=1,p=true,q=1,r=1,t=1}", "2 problems"),
        ("schema = 1\n[layers]\na = {mm=1,m=1,n=1,e=1,p=1,q=1,r=1,t=1}", "a.mm: unknown key"),
        ("schema = ", "not a TOML file"),
    ],
)
def test_a_wrong_mapping_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_mappings(path)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="did you mean 'vgg16_chip'"):
        load_mappings("vgg_chip")


def test_other_arrays_and_batches_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="no row-stationary array"):
        simulate_network(alexnet_paper(), load_accelerator("tpu_v1"), BitWidths(8, 8))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        simulate_network(alexnet_paper(), EYERISS, BitWidths(8, 8), 0)
