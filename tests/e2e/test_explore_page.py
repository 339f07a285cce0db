"""explore.html says what the simulator says, wherever its sliders stand."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from looks import PHONE, contrasts, overflow, paper
from playwright.sync_api import Page

from analysis.design_space import grid, latin_hypercube, onchip_bits, parse_axis, with_values
from analysis.explore import Choice, Explored, explore
from analysis.explorer.layers import detailed_rows, layer_results
from analysis.explorer.page import explorer_page
from analysis.scale import Ledger, Runner
from analysis.sources import load_graph
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats

Ranges = tuple[str, ...]
Shown = tuple[tuple[str, str], ...]  # a field and its value, as the page shows them
BANDWIDTHS = ("100 MB/s", "200 MB/s", "400 MB/s")
BUFFERS = ("1 KiB", "4 KiB", "16 KiB")
CLOCKS = ("350 MHz", "700 MHz")
GBUFS = ("8 KiB", "100 KiB")
WIDTHS = ("W8A8", "W4A8")
BATCH = 2


@dataclass(frozen=True)
class Written:
    path: Path
    explored: tuple[Explored, ...]


def written(path: Path, widths: tuple[str, ...], samples: int | None, **vary: Ranges) -> Written:
    """The page of an exploration. vary: {accelerator: --vary of each field}."""
    graph, runner = load_graph("digits"), Runner(Ledger(None))
    choices = [Choice(text, BitWidths.parse(text)) for text in widths]
    explored, layers = [], []
    for name, texts in vary.items():
        chip = load_accelerator(name)
        axes = [parse_axis(chip, text) for text in texts]
        designs = grid(axes) if samples is None else latin_hypercube(axes, samples, seed=0)
        found = explore(graph, chip, axes, designs, choices, BATCH, complete=samples is None)
        rows = detailed_rows(found, len(graph.layers))
        explored.append(found)
        layers.append(layer_results(graph, found, rows, runner))
    text = explorer_page(graph, explored, layers, ["chipfit", "explore", "a b"], {"made": "today"})
    path.write_text(text, encoding="utf-8")
    return Written(path, tuple(explored))


@pytest.fixture(scope="module")
def page_written(tmp_path_factory) -> Written:
    """Three fields of the TPU, one listed in falling order, and one of Eyeriss."""
    tpu = (
        f"weight_dram.bandwidth={','.join(BANDWIDTHS)}",
        f"unified_buffer.capacity={','.join(BUFFERS)}",
        f"clock={','.join(reversed(CLOCKS))}",
    )
    folder = tmp_path_factory.mktemp("with space é")
    eyeriss = (f"gbuf.capacity={','.join(GBUFS)}",)
    return written(folder / "explore.html", WIDTHS, None, tpu_v1=tpu, eyeriss_v1=eyeriss)


@pytest.fixture
def path(page_written) -> Path:
    return page_written.path


@pytest.fixture
def table(page_written) -> pd.DataFrame:
    """Of the TPU."""
    return page_written.explored[0].table


@cache
def simulated(
    chip: str, bits: str, design: tuple[tuple[str, str], ...]
) -> tuple[NetworkStats, int]:
    """The simulator's word on a design, and its on-chip bits. design: (field, value) as shown."""
    accelerator = load_accelerator(chip)
    for name, text in design:
        axis = parse_axis(accelerator, f"{name}={text}")
        accelerator = with_values(accelerator, [axis], axis.values)
    stats = simulate(load_graph("digits"), accelerator, BitWidths.parse(bits), BATCH)
    return stats, onchip_bits(accelerator)


def chosen(page: Page) -> tuple[str, str, Shown]:
    """Accelerator, widths and design that the controls show."""
    shown = page.eval_on_selector(
        "#controls",
        """form => ({
            picked: [...form.querySelectorAll("select")].map(s => s.selectedOptions[0].label),
            moved: [...form.querySelectorAll("label:has(input) .name")].map(
                name => [name.firstChild.textContent, name.lastChild.textContent])
        })""",
    )
    return *shown["picked"], tuple(map(tuple, shown["moved"]))


def numbers(page: Page) -> dict[str, str]:
    return page.eval_on_selector_all(
        "#numbers .value",
        "nodes => Object.fromEntries(nodes.map(n => [n.dataset.name, n.dataset.value]))",
    )


def assert_numbers_are_simulated(page: Page) -> None:
    stats, onchip = simulated(*chosen(page))
    shown = numbers(page)
    assert int(shown["cycles"]) == stats.cycles
    assert int(shown["dram_bits"]) == stats.dram_bits
    assert int(shown["onchip_bits"]) == onchip
    assert float(shown["seconds"]) == pytest.approx(stats.seconds, rel=1e-8)
    assert float(shown["energy_pj"]) == pytest.approx(stats.energy_pj, rel=1e-8)
    assert float(shown["stall_share"]) == pytest.approx(stats.stall_cycles / stats.cycles)
    assert (shown["fits"] == "") == stats.fits_on_chip
    texts = page.locator("#numbers .value").all_inner_texts()
    assert f"{stats.cycles:,}" in texts
    assert any(is_quantity(text, stats.seconds, {"s": 1, "ms": 1e-3, "µs": 1e-6}) for text in texts)
    assert any(is_quantity(text, stats.energy_pj, {"mJ": 1e9, "µJ": 1e6}) for text in texts)
    assert any(is_quantity(text, stats.dram_bits, {"MB": 8e6, "kB": 8e3}) for text in texts)


def is_quantity(text: str, value: float, units: dict[str, float]) -> bool:
    """Whether '12.34 ms' says `value`, to four digits."""
    match = re.fullmatch(r"([\d.,]+) (\S+)", text)
    if match is None or match[2] not in units:
        return False
    return float(match[1].replace(",", "")) * units[match[2]] == pytest.approx(value, rel=5.1e-4)


def pick(page: Page, name: str, label: str) -> None:
    page.locator(f"select[name={name}]").select_option(label=label)


def test_every_place_of_every_slider_and_picker_shows_what_the_simulator_says(path, open_page):
    page = open_page(path)
    places = 0
    for chip, widths in (("tpu_v1", WIDTHS), ("eyeriss_v1", WIDTHS[1:])):
        pick(page, "space", chip)
        for bits in widths:
            pick(page, "allocation", bits)
            for slider in page.locator("#controls input").all():
                slider.press("Home")
                for _ in range(int(slider.get_attribute("max")) + 1):
                    assert chosen(page)[:2] == (chip, bits)
                    assert_numbers_are_simulated(page)
                    slider.press("ArrowRight")
                    places += 1
    assert places == 2 * (len(BANDWIDTHS) + len(BUFFERS) + len(CLOCKS)) + len(GBUFS)


def test_values_listed_in_any_order_rise_along_their_slider(path, open_page):
    page = open_page(path)
    slider = page.locator("input[name=clock]")
    slider.press("Home")
    assert dict(chosen(page)[2])["clock"] == CLOCKS[0]
    slider.press("End")
    assert dict(chosen(page)[2])["clock"] == CLOCKS[1]
    assert slider.get_attribute("aria-valuetext") == CLOCKS[1]


def test_layers_told_by_arrow_keys_and_the_saved_table_are_the_simulators(path, open_page):
    page = open_page(path)
    page.locator("input[name='unified_buffer.capacity']").press("Home")
    stats, _ = simulated(*chosen(page))
    chart, told = page.locator("#layers svg"), page.locator("#layers .readout")
    for row in stats.layers:
        chart.press("ArrowRight")
        text = told.inner_text()
        assert text.startswith(f"{row.name} ({row.kind}): {row.cycles:,} cycles")
        assert (f"{row.stall_cycles:,} of them waiting" in text) == (row.stall_cycles > 0)
        assert f"{row.macs:,} MACs" in text
    with page.expect_download() as saving:
        page.click("#save-layers")
    assert saving.value.suggested_filename == "layers.csv"
    rows = list(csv.DictReader(saving.value.path().read_text().splitlines()))
    for row, layer in zip(rows, stats.layers, strict=True):
        for name in ("name", "kind"):
            assert row[name] == getattr(layer, name)
        for name in ("macs", "cycles", "stall_cycles", "dram_read_bits", "dram_write_bits"):
            assert int(row[name]) == getattr(layer, name)
        assert float(row["energy_pj"]) == pytest.approx(layer.energy_pj, rel=1e-8)


def test_bars_are_as_high_as_the_cycles_and_the_pointer_tells_them(path, open_page):
    page = open_page(path)
    page.locator("input[name='weight_dram.bandwidth']").press("Home")
    stats, _ = simulated(*chosen(page))
    computing, waiting = (
        page.eval_on_selector_all(
            f"#layers svg > rect{kind}", "nodes => nodes.map(n => n.height.baseVal.value)"
        )
        for kind in (".compute", "[fill]")
    )
    most = max(row.cycles for row in stats.layers)
    tallest = max(a + b for a, b in zip(computing, waiting, strict=True))
    for row, low, high in zip(stats.layers, computing, waiting, strict=True):
        assert low / tallest == pytest.approx(row.compute_cycles / most, abs=1e-3)
        assert high / tallest == pytest.approx(row.stall_cycles / most, abs=1e-3)
    i = max(range(len(computing)), key=lambda i: computing[i])
    page.locator("#layers rect.compute").nth(i).hover(force=True)
    assert f"{stats.layers[i].name} ({stats.layers[i].kind})" in page.locator("#tip").inner_text()


def test_the_map_chooses_the_cell_that_is_pressed_and_walks_by_arrow_keys(path, open_page):
    page = open_page(path)
    across, up = "unified_buffer.capacity", "weight_dram.bandwidth"
    pick(page, "across", across)
    pick(page, "down", up)
    page.locator("#map image").scroll_into_view_if_needed()
    cells = page.locator("#map image").bounding_box()
    x, y = (cells["x"] + cells["width"] / 6, cells["y"] + cells["height"] * 5 / 6)
    page.mouse.click(x, y)  # the lowest cell on the left
    assert (dict(chosen(page)[2])[across], dict(chosen(page)[2])[up]) == (BUFFERS[0], BANDWIDTHS[0])
    page.locator("#map svg").press("ArrowRight")
    page.locator("#map svg").press("ArrowUp")
    assert (dict(chosen(page)[2])[across], dict(chosen(page)[2])[up]) == (BUFFERS[1], BANDWIDTHS[1])
    assert_numbers_are_simulated(page)
    page.mouse.move(x, y + 1)
    assert f"{across} {BUFFERS[0]}" in page.locator("#tip").inner_text()


def test_the_ends_of_the_colour_scale_are_the_least_and_most_of_the_map(path, open_page):
    page = open_page(path)
    pick(page, "across", "unified_buffer.capacity")
    pick(page, "down", "weight_dram.bandwidth")
    pick(page, "metric", "energy")
    chip, bits, design = chosen(page)
    clock = tuple(item for item in design if item[0] == "clock")
    fields = [
        (("weight_dram.bandwidth", b), ("unified_buffer.capacity", c), *clock)
        for b in BANDWIDTHS
        for c in BUFFERS
    ]
    energies = [simulated(chip, bits, design)[0].energy_pj for design in fields]
    ends = page.locator("#map .scale").inner_text().split("\n")
    assert is_quantity(ends[0], min(energies), {"µJ": 1e6})
    assert is_quantity(ends[-1], max(energies), {"µJ": 1e6})


def test_the_curve_of_one_field_chooses_points_too(path, open_page):
    page = open_page(path)
    pick(page, "space", "eyeriss_v1")
    for i, text in enumerate(GBUFS):
        page.locator("#map svg circle:not(.here)").nth(i).click(force=True)
        assert chosen(page) == ("eyeriss_v1", WIDTHS[0], (("gbuf.capacity", text),))
    page.locator("#map svg").press("ArrowUp")
    assert chosen(page)[1] == WIDTHS[1]
    assert_numbers_are_simulated(page)


def test_arrow_keys_walk_along_the_pareto_front(path, open_page, table):
    page = open_page(path)
    rows = table[table["allocation"] == WIDTHS[0]]
    front = sorted(rows["seconds"][rows["pareto"]])
    page.locator("#controls input").first.press("Home")
    for _ in range(len(rows)):  # more than enough
        page.locator("#pareto .chart svg").press("ArrowLeft")
    walked = []
    for _ in front:
        assert numbers(page)["front"] == "true"
        walked.append(float(numbers(page)["seconds"]))
        page.locator("#pareto .chart svg").press("ArrowRight")
    assert walked == pytest.approx(front)


def test_the_best_designs_are_shown_on_request_and_sort(path, open_page):
    page = open_page(path)
    best = page.locator("#best tbody tr")
    page.locator("#best th button", has_text="energy").press("Enter")
    keys = [float(row.locator("td").nth(7).get_attribute("data-key")) for row in best.all()]
    assert keys == sorted(keys)
    assert len(set(keys)) > 1
    best.last.locator("button").click()
    assert float(numbers(page)["energy_pj"]) == keys[-1]
    assert_numbers_are_simulated(page)


def test_others_are_compared_with_the_pinned_design(path, open_page):
    page = open_page(path)
    slider = page.locator("input[name='weight_dram.bandwidth']")
    slider.press("End")
    fast, _ = simulated(*chosen(page))
    page.click("#pin")
    slider.press("Home")
    slow, _ = simulated(*chosen(page))
    ratio = slow.seconds / fast.seconds
    assert ratio > 1
    assert f"{float(f'{ratio:.3g}'):g} × the pinned" in page.locator("#numbers").inner_text()


def test_the_table_of_designs_is_saved_whole(path, open_page, table):
    page = open_page(path)
    with page.expect_download() as saving:
        page.click("#save-designs")
    rows = list(csv.DictReader(saving.value.path().read_text().splitlines()))
    for name in ("allocation", "cycles", "dram_read_bits", "onchip_bits", "short_of"):
        assert [row[name] for row in rows] == table[name].astype(str).tolist()


def test_drawn_designs_have_one_slider_over_what_was_simulated(tmp_path, open_page):
    vary = ("weight_dram.bandwidth=100MB/s:400MB/s:x2", "clock=100MHz:700MHz:100MHz",
            "rows=8:64:8", "cols=8:64:8")  # fmt: skip
    page = open_page(written(tmp_path / "explore.html", ("W8A8",), 5, tpu_v1=vary).path)
    (slider,) = page.locator("#controls input").all()
    slider.press("Home")
    assert page.locator("#map").is_hidden()
    for number in range(1, 6):
        place, _, design = page.locator("#controls output").inner_text().partition(": ")
        assert place == f"{number} of 5"
        named = tuple(tuple(item.split(" ", 1)) for item in design.split(", "))
        stats, _ = simulated("tpu_v1", "W8A8", named)
        assert int(numbers(page)["cycles"]) == stats.cycles
        slider.press("ArrowRight")


def test_the_page_is_light_or_dark_and_always_legible(path, open_page):
    for scheme, other in (("light", "dark"), ("dark", "light")):
        page = open_page(path, color_scheme=scheme)
        assert (paper(page) > 0.5) == (scheme == "light")
        while page.locator("#theme").inner_text() != f"theme: {other}":
            page.click("#theme")
        assert (paper(page) > 0.5) == (other == "light")
        texts = (
            "p, h1, h2, td, th button, label, output, #numbers span, figcaption, a, code, select"
        )
        assert min(contrasts(page, texts)) >= 4.5


def test_a_phone_shows_the_page_without_sideways_scrolling(path, open_page):
    page = open_page(path, viewport=PHONE)
    assert overflow(page) == 0
    pick(page, "space", "eyeriss_v1")
    assert overflow(page) == 0
    for box in page.locator(".chart svg").all():
        assert box.bounding_box()["height"] > 100
