"""The study of width rules: rows are simulations, and the page shows them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphs import perceptron

from analysis.reports.width_rules import RULES, mixed_widths, report, smaller, study, with_rule
from hwsim import load_accelerator, simulate


def test_rows_hold_what_the_simulator_says_and_sorting_never_costs():
    graph = perceptron("p", [32, 64, 40])
    chip = smaller(load_accelerator("tpu_v1"), 8)
    chip = replace(chip, dram=tuple(replace(d, bandwidth=10**14) for d in chip.dram))
    mixed = mixed_widths(graph, 0)
    rows = study(graph, mixed, chip, [1, 300])
    assert [(row.batch, row.rule) for row in rows] == [(b, r) for b in (1, 300) for r in RULES]
    for row in rows:
        assert (
            row.given == simulate(graph, with_rule(chip, row.rule, False), mixed, row.batch).cycles
        )
        assert row.sorted_ <= row.given <= row.equal
    unpu = rows[-2]
    assert unpu.rule == "unpu"
    assert unpu.sorted_ < 0.9 * unpu.given
    page = report(rows, chip, "command")
    assert f"| p | 8 x 8 | 300 | unpu | {unpu.equal / 1e3:,.1f} |" in page


def test_other_arrays_are_refused():
    eyeriss = load_accelerator("eyeriss_v1")
    graph = perceptron("p", [8, 8])
    with pytest.raises(ValueError, match="no systolic array"):
        study(graph, mixed_widths(graph, 0), eyeriss, [1])
