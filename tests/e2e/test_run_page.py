"""report.html in a browser: tables sort, data is saved, the command copied, all of it legible."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from looks import PHONE, contrasts, overflow, paper

from analysis import plots
from analysis.budgets import least_widths
from analysis.figures import StudyFigure
from analysis.report import write_report
from analysis.sources import load_image_sets, load_network
from analysis.study import Request, Study, run_study
from analysis.tables import speedup_table, summary_table
from hwsim.accelerator import load_accelerator

COMMAND = ["chipfit", "run", "-o", "runs/with space é", "--bits", "3"]


@pytest.fixture(scope="module")
def study() -> Study:
    network = load_network("digits", None)
    images = load_image_sets("digits", network, None, 8, 0, 0)
    request = Request(3.0, 8.0, (load_accelerator("tpu_v1"),), 1, least_widths(3.0, 8.0))
    return run_study(network, images, request, rounding="nearest", probes=1)


@pytest.fixture(scope="module")
def figure(study) -> StudyFigure:
    table = speedup_table(study)
    draw = partial(plots.draw_speedup, table=table, baseline="W8A8")
    svg, png = (plots.render(draw, 8, 4, kind) for kind in ("svg", "png"))
    caption = "Speedup, and more <em>words</em>."
    return StudyFigure("speedup", "Speedup", caption, table.reset_index(), svg, png)


@pytest.fixture(scope="module")
def path(study, figure, tmp_path_factory) -> Path:
    page = tmp_path_factory.mktemp("with space é") / "report.html"
    page.write_text(write_report(study, [figure], COMMAND, {"made": "today"}), encoding="utf-8")
    return page


def column(page, title: str) -> list[str]:
    """Cells under a heading of the first table, from the top."""
    table = page.locator("table").first
    place = table.locator("th").all_inner_texts().index(title) + 1
    return table.locator(f"td:nth-child({place})").all_inner_texts()


def test_the_numbers_are_the_studys(path, open_page, study):
    page = open_page(path)
    summary = summary_table(study)
    assert column(page, "variant") == summary["variant"].tolist()
    assert column(page, "bits a weight") == [f"{bits:.2f}" for bits in summary["weight_bits"]]
    assert column(page, "top-1 [%]") == [f"{100 * top1:.1f}" for top1 in summary["top1"]]


@pytest.mark.parametrize("key", ["click", "Enter"])
def test_a_heading_sorts_by_number_and_turns_the_order_round(path, open_page, study, key):
    page = open_page(path)
    values = summary_table(study)["measured_distortion"]
    heading = page.locator("th button", has_text="measured").first
    for down in (False, True):
        if key == "click":
            heading.click()
        else:
            heading.press(key)
        wanted = [f"{value:.3g}" for value in sorted(values, reverse=down)]
        assert column(page, "measured") == wanted
        order = heading.locator("..").get_attribute("aria-sort")
        assert order == ("descending" if down else "ascending")
    assert len({*values}) > 2


def test_every_figure_is_seen_and_saves_itself_and_its_data(path, open_page, figure):
    page = open_page(path)
    assert page.locator("figure img").count() == 1
    assert page.eval_on_selector("figure img", "image => image.complete && image.naturalWidth > 0")
    assert page.locator("figcaption").inner_text().startswith("Speedup, and more <em>words</em>.")
    for text, content in (
        ("SVG", figure.svg),
        ("data (CSV)", figure.table.to_csv(index=False).encode()),
    ):
        with page.expect_download() as saving:
            page.get_by_role("link", name=text).click()
        assert saving.value.path().read_bytes() == content
    assert saving.value.suggested_filename == "speedup.csv"


def test_tables_are_saved_whole(path, open_page, study):
    page = open_page(path)
    with page.expect_download() as saving:
        page.get_by_role("link", name="summary.csv").click()
    saved = pd.read_csv(saving.value.path())
    assert saved["tpu_v1_cycles"].tolist() == summary_table(study)["tpu_v1_cycles"].tolist()


def test_the_button_copies_the_command_as_a_shell_reads_it(path, open_page):
    page = open_page(path, permissions=["clipboard-read", "clipboard-write"])
    page.click("button.copy")
    page.locator("button.copy", has_text="copied").wait_for()
    assert shlex.split(page.evaluate("navigator.clipboard.readText()")) == COMMAND


def test_the_theme_follows_the_system_until_the_reader_chooses(path, open_page):
    page = open_page(path, color_scheme="dark")
    seen = [paper(page)]
    for _ in range(3):
        page.click("#theme")
        seen.append(paper(page))
    assert [value > 0.5 for value in seen] == [False, True, False, False]
    page.emulate_media(color_scheme="light")
    assert paper(page) > 0.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_legible(path, open_page, scheme):
    page = open_page(path, color_scheme=scheme)
    assert min(contrasts(page, "p, h1, h2, td, th, th button, code, a, figcaption, button")) >= 4.5


def test_a_phone_shows_the_page_without_sideways_scrolling(path, open_page):
    page = open_page(path, viewport=PHONE)
    assert overflow(page) == 0
    wide = page.locator(".wide").first
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")  # the table has its own bar
