"""Parts of a page, without a browser; `tests/e2e` looks at whole ones in one."""

from __future__ import annotations

import json
import math
import re
import shlex
from html import unescape

import numpy as np
import pandas as pd
import pytest

from analysis import page
from analysis.design_space import grid, parse_axis, with_values
from analysis.explore import Choice, explore
from analysis.explore_summary import best_rows
from analysis.explorer.data import page_data
from analysis.explorer.layers import detailed_rows, layer_results
from analysis.scale import Ledger, Runner
from analysis.sources import load_graph
from analysis.table_page import PageFigure, table_page
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.simulator import simulate


def test_names_cannot_end_the_data_and_come_back_whole():
    name = "</script><script>alert(1)</script> & 'é'"
    html = page.page(name, [page.table(pd.DataFrame({name: [name]}))], data={"name": name})
    held = re.search(r"<script type='application/json' id='data'>(.*?)</script>", html)
    assert json.loads(held[1]) == {"name": name}
    assert "alert(1)</script>" not in html
    assert html.count("<script") == 2


def test_a_page_refers_to_nothing_outside():
    html = page.page("x", [page.figure("f", "F", "c", b"<svg/>", pd.DataFrame({"a": [1]}))])
    assert not re.search(r"(src|href)='(?!data:)", html)
    assert "url(" not in html
    assert "@import" not in html


def test_the_command_is_quoted_for_a_shell():
    words = ["chipfit", "run", "a b", "--on", "it's.toml", "<&>"]
    shown = re.search(r"<code>(.*)</code>", page.command_block(words))
    assert shlex.split(unescape(shown[1])) == words


def test_a_number_that_is_not_known_is_empty_and_comes_first():
    assert page.number(math.nan, "{:.1f}") == ("", -math.inf)
    assert page.number(np.float64(2.25), "{:,.1f}") == ("2.2", 2.25)


TPU = load_accelerator("tpu_v1")


@pytest.fixture(scope="module")
def explored():
    axes = [parse_axis(TPU, "weight_dram.bandwidth=100MB/s:800MB/s:x2"),
            parse_axis(TPU, "unified_buffer.capacity=1KiB:16KiB:5KiB")]  # fmt: skip
    choices = [Choice("W8A8", BitWidths(8, 8)), Choice("W3A8", BitWidths(3, 8))]
    return explore(load_graph("digits"), TPU, axes, grid(axes), choices)


def test_layers_of_all_designs_are_kept_until_there_are_too_many(explored):
    count, layers = len(explored.table), 13
    assert detailed_rows(explored, layers, layers * count) == list(range(count))
    best = {row for _, row in best_rows(explored.table)}
    telling = best | set(np.flatnonzero(explored.table["pareto"]))
    assert detailed_rows(explored, layers, layers * len(telling)) == sorted(telling)
    more = detailed_rows(explored, layers, layers * (count - 1))
    assert telling < set(more)
    assert len(more) == len(set(more)) <= count - 1
    assert detailed_rows(explored, layers, 1)[0] in best


def test_equal_lists_are_held_once_and_unfold_to_the_simulated_layers(explored):
    graph, rows = load_graph("digits"), list(range(len(explored.table)))
    layers = layer_results(graph, explored, rows, Runner(Ledger(None)))
    (space,) = json.loads(json.dumps(page_data(graph, [explored], [layers])))["spaces"]
    detail, pools = space["detail"], space["detail"]["pools"]
    designs = len(explored.designs)
    for row in rows:
        chip = with_values(TPU, explored.axes, explored.designs[row % designs])
        stats = simulate(graph, chip, explored.widths[row])
        found = dict(zip(detail["names"], detail["rows"][str(row)], strict=True))
        names = [graph.layers[place].name for place in pools["order"][found["order"]]]
        assert names == [layer.name for layer in stats.layers]
        for name in ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits"):
            assert pools[name][found[name]] == [getattr(layer, name) for layer in stats.layers]
    # traffic does not depend on bandwidth, of which there are four
    assert len(pools["dram_read_bits"]) <= designs * 2 / 4
    assert len(pools["cycles"]) > len(pools["dram_read_bits"])


def test_texts_that_begin_with_numbers_sort_by_them():
    lines = [["which", "speedup", "cycles"], ["a", "10.5x", "1,234"], ["b", "9.25x", "1e+06"]]
    figure = PageFigure("f", "F", "c", b"<svg/>", pd.DataFrame({"a": [1]}))
    manifest = {"made": "today", "versions": {"x": "1"}, "platform": "y", "seconds": {"z": 1.5}}
    html = table_page("t", "l", lines, pd.DataFrame({"whole": [7]}), [figure], ["c"], manifest)
    assert re.findall(r"data-key='(.*?)'>(.*?)<", html) == [
        ("10.5", "10.5x"), ("1234.0", "1,234"), ("9.25", "9.25x"), ("1000000.0", "1e+06"),
    ]  # fmt: skip
    assert "<td>a</td>" in html
    assert "seconds for z" in html
