"""chipfit speedup: ratios over named baselines, the folder, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.cli import main
from analysis.reports import speedup as speedup_report
from analysis.reports.speedup_bandwidth import (
    BandwidthPoint,
    bandwidth_figure,
    bandwidth_points,
    reached,
    scaled,
)
from analysis.scale import opened
from analysis.sources import load_graph
from analysis.speedup import speedup_table, time_shares
from analysis.speedup_widths import Request, native_widths, predicted_distortion
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget
from quant.compact import load_shipped

ON = ["--on", "tpu_v1", "eyeriss_v1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("speedup") / "out"
    arguments = ["speedup", "digits", *ON, "--batch", "1", "4", "--bits", "native", "W4A8"]
    assert main([*arguments, "--baseline", "W8A8", "native", "-o", str(path)]) == 0
    return path


def test_the_folder_holds_the_table_a_figure_a_baseline_and_a_manifest(folder):
    names = {path.name for path in folder.iterdir()}
    figures = {f"speedup_over_{b}.{k}" for b in ("W8A8", "native_W16A16") for k in ("svg", "png")}
    tables = {"speedup.csv", "speedup.json", "speedup.md"}
    assert names == {"report.html", "manifest.json", *tables, *figures}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["outputs"]) | {"report.html"} == names - {"manifest.json"}
    assert manifest["options"]["baselines"] == ["W8A8", "native"]


def test_ratios_are_those_of_two_simulations(folder):
    table = pd.read_csv(folder / "speedup.csv")
    row = table[(table["accelerator"] == "eyeriss_v1") & (table["batch"] == 4)
                & (table["widths"] == "W4A8") & (table["baseline"] == "native W16A16")]  # fmt: skip
    assert len(row) == 1
    graph, chip = load_graph("digits"), load_accelerator("eyeriss_v1")
    before, after = (
        simulate(graph, chip, bits, 4) for bits in (BitWidths(16, 16), BitWidths(4, 8))
    )
    found = row.iloc[0]
    assert found["speedup"] == pytest.approx(before.cycles / after.cycles)
    assert found["energy_ratio"] == pytest.approx(before.energy_pj / after.energy_pj)
    assert found["dram_ratio"] == pytest.approx(before.dram_bits / after.dram_bits)
    assert found["ceiling"] == pytest.approx(before.cycles / after.compute_cycles)
    assert found["cycles"] == after.cycles
    assert found["stall_share"] == pytest.approx(after.stall_cycles / after.cycles)
    assert (found["weight_bits"], found["activation_bits"]) == (4, 8)


def test_every_row_names_its_baseline_which_is_the_first_of_its_block(folder):
    table = pd.read_csv(folder / "speedup.csv")
    for (_, _, baseline), block in table.groupby(["accelerator", "batch", "baseline"]):
        first = block.iloc[0]
        assert first["widths"] == baseline
        assert (first["speedup"], first["energy_ratio"], first["dram_ratio"]) == (1, 1, 1)
    # the TPU's own operands are 8 bits wide, so there a second baseline would say the same again
    assert set(table[table["accelerator"] == "tpu_v1"]["baseline"]) == {"W8A8"}


def test_averages_are_allocated_by_the_curves_and_never_exceed_what_was_asked():
    graph, chip = load_graph("mobilenet_v2"), load_accelerator("tpu_v1")
    request = Request((1,), ("4",), averages=(4.0, 3.0), fit=True)
    curves = {"mobilenet_v2": load_shipped("mobilenet_v2")}
    rows = {
        row.widths: row for row in speedup_table({"mobilenet_v2": graph}, [chip], request, curves)
    }
    assert 3.99 < rows["average 4"].weight_bits <= 4
    assert 2.99 < rows["average 3"].weight_bits <= 3
    assert rows["average 3"].activation_bits <= 8
    assert rows["average 3"].dram_ratio > rows["average 4"].dram_ratio > 1
    assert rows["average 4"].source == "allocated by curves of mobilenet_v2"
    assert rows["W4A4"].source == "equal widths, no allocation"


def test_more_workers_make_the_same_table():
    graphs = {"digits": load_graph("digits")}
    chips = [load_accelerator(name) for name in ("tpu_v1", "scalesim_google")]
    request = Request((1, 2), ("2", "native"))
    alone = speedup_table(graphs, chips, request, {})
    with opened(None, workers=2) as runner:
        assert speedup_table(graphs, chips, request, {}, runner=runner) == alone


@pytest.mark.parametrize("chip", ["tpu_v1", "eyeriss_v1", "scalesim_eyeriss"])
def test_shares_of_time_add_up_and_the_dram_has_the_stalls(chip):
    stats = simulate(load_graph("digits"), load_accelerator(chip), BitWidths(8, 8))
    shares = time_shares(stats)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["DRAM"] == pytest.approx(stats.stall_cycles / stats.cycles)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_native_widths_are_those_of_the_array():
    found = [native_widths(load_accelerator(name)) for name in ("tpu_v1", "eyeriss_v1")]
    assert [(bits.weights, bits.activations) for bits in found] == [(8, 8), (16, 16)]


def test_a_file_may_belong_to_one_of_several_networks(tmp_path, capsys):
    path = tmp_path / "mine.json"
    graph = load_graph("digits")
    weights = {layer.name: 3 for layer in graph.weighted}
    BitWidths(weights, 8).save(path)
    common = ["speedup", "digits", "alexnet_paper", "--on", "tpu_v1", "-o", str(tmp_path / "o")]
    assert main([*common, "--bits", f"digits={path}", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["model"], r["widths"]) for r in rows] == [
        ("digits", "W8A8"), ("digits", "mine"), ("alexnet_paper", "W8A8"),
    ]  # fmt: skip
    assert rows[1]["source"] == "file mine.json"
    assert main([*common, "--bits", str(path)]) == 2
    assert "MODEL=FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["digits"], "give --bits, --average or --latency-share"),
        (["digits", "digits", "--bits", "4"], "the same model twice: digits"),
        (["digits", "--bits", "4", "--batch", "2", "2"], "the same batch twice: 2"),
        (["digits", "--bits", "4", "--on", "tpu_v1", "tpu_v1"], "the same accelerator twice"),
        (["digits", "--bits", "nativ"], "bits 'nativ'"),
        (["digits", "--bits", "4", "--baseline", "W99A8"], "0..16"),
        (["digits", "--bits", "resnet=4"], "not among the models"),
        (["digits", "--bits", "4", "--fit"], "--fit goes with --average"),
        (["resnet18", "--latency-share", "0.8"], "--latency-share needs rate-distortion curves"),
        (["digits", "--latency-share", "1.5"], "between 0 and 1"),
        (["resnet18", "--average", "4"], "there are none of resnet18"),
        (["digits", "--bits", "4", "--average", "9"], "0..8"),
        (["digits", "--bits", "4", "--workers", "0"], "at least 1"),
        (["digits", "--bits", "gone.json"], "gone.json"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(capsys, tmp_path, options, words):
    out = tmp_path / "out"
    assert main(["speedup", *options, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not out.exists()


def test_the_bandwidth_that_reaches_a_speedup_is_the_highest_that_does():
    points = [
        BandwidthPoint("digits", "tpu_v1", 1, "W8A8", "W2A2", gb / 8, gb, speedup)
        for gb, speedup in ((8.0, 3.6), (4.0, 3.9), (16.0, 3.4))
    ]
    assert reached(points, 3.5) == points[0]
    assert reached(points, 4.0) is None


def test_where_bandwidth_is_scarce_a_speedup_nears_the_ratio_of_the_traffic():
    graph, chip = load_graph("digits"), load_accelerator("tpu_v1")
    points = [p for p in bandwidth_points(graph, chip, batch=2) if p.widths == "W2A2"]
    for point in points[::7]:
        slow = scaled(chip, point.factor)
        assert [d.bandwidth for d in slow.dram] == [
            round(d.bandwidth * point.factor) for d in chip.dram
        ]
        before, after = (simulate(graph, slow, BitWidths(b, b), 2).cycles for b in (8, 2))
        assert point.speedup == pytest.approx(before / after)
    wide, narrow = (simulate(graph, chip, BitWidths(b, b), 2).dram_bits for b in (8, 2))
    speedups = [point.speedup for point in points]
    assert max(speedups) <= wide / narrow
    assert speedups[::4] == sorted(speedups[::4])  # at half the bandwidth each
    assert bandwidth_figure(points, {}, "svg") == bandwidth_figure(list(points), {}, "svg")


def test_the_report_has_the_rows_the_commands_and_the_figures(folder, tmp_path):
    out = tmp_path / "reports" / "speedup.md"
    speedup_report.main([str(folder), "-o", str(out)])
    text = out.read_text()
    table = pd.read_csv(folder / "speedup.csv")
    whole = pd.read_csv(out.with_suffix(".csv"))
    pd.testing.assert_frame_equal(whole, table)
    for row in table[table["widths"] != table["baseline"]].itertuples():
        cell = f"**{row.speedup:.2f}** / {row.energy_ratio:.2f} / {row.dram_ratio:.2f}"
        assert f" {cell} " in text.split(f"### {row.accelerator}, over {row.baseline}")[1]
    assert "chipfit speedup digits --on tpu_v1 eyeriss_v1" in text
    assert (out.parent / "figures" / "out_speedup_over_W8A8.png").is_file()
    best = table[table["accelerator"] == "eyeriss_v1"]["speedup"].max()
    assert f"{best:.2f}x" in text.split("## The method")[0]
    with pytest.raises(SystemExit):
        speedup_report.main([str(tmp_path), "-o", str(out)])


def test_a_share_of_the_baselines_time_is_met_with_the_least_distortion():
    graph, chip = load_graph("mobilenet_v2"), load_accelerator("tpu_v1")
    curves = {"mobilenet_v2": load_shipped("mobilenet_v2")}
    request = Request((1,), ("W2A4",), time_shares=(0.9, 0.5))
    rows = {
        row.widths: row for row in speedup_table({"mobilenet_v2": graph}, [chip], request, curves)
    }
    met, missed = rows["time 90 %"], rows["narrowest"]
    assert rows["W8A8"].cycles * 0.85 < met.cycles <= rows["W8A8"].cycles * 0.9
    assert met.source == "least distortion in 90 % of the time of W8A8, by curves of mobilenet_v2"
    assert rows["W8A8"].distortion < met.distortion < missed.distortion
    # half the time is below the floor of the array, and the row says so
    assert "none take 50 % of the time of W8A8" in missed.source
    assert missed.cycles > rows["W8A8"].cycles * 0.5
    assert (missed.weight_bits, round(missed.activation_bits)) == (2, 4)


def test_predicted_distortion_is_that_of_the_allocation():
    graph, curves = load_graph("mobilenet_v2"), load_shipped("mobilenet_v2")
    chosen = allocate(curves, Budget(weight_bits=3.0, activation_bits=6.0))
    found = predicted_distortion(curves, chosen.bits, graph)
    assert found == pytest.approx(chosen.predicted_distortion)
    assert predicted_distortion(curves, BitWidths(16, 16), graph) is None
