"""The page around the data: controls, numbers and figures that explorer.js fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from analysis import page
from analysis.explore import Explored
from analysis.explore_summary import reading_lines
from analysis.explorer.data import page_data
from hwsim.graph import LayerGraph
from hwsim.systolic.many import LayerPoint

_SCRIPTS = ("units.js", "svg.js", "layer_chart.js", "design_charts.js", "explorer.js")


def explorer_page(
    graph: LayerGraph,
    explored: Sequence[Explored],
    layers: Sequence[Mapping[int, Sequence[LayerPoint]]],
    command: Sequence[str],
    made: Mapping[str, object],
) -> str:
    """explore.html: one network on one or several accelerators, at one batch.

    layers: for each exploration {row of the table: its layers}. command: to repeat it. made:
    versions and date, from the manifest.
    """
    import pandas as pd

    names = ", ".join(e.accelerator.name for e in explored)
    sections = [
        f"<h1>{escape(graph.name)} on {escape(names)}</h1>",
        f"<p class='lead'>{_lead(explored)}</p>",
        page.command_block(command),
        "<noscript><p>This page needs JavaScript; <code>table.csv</code> beside it holds the same "
        "designs.</p></noscript>",
        page.asset(__package__, "skeleton.html"),
        "<h2>What was read off</h2>",
        *[_readings(e) for e in explored],
        "<h2>How this was made</h2>",
        "<div class='made'>"
        + page.table(pd.DataFrame(_made(explored, made), columns=["what", "value"]))
        + "</div>",
    ]
    return page.page(
        f"{graph.name} on {names}",
        sections,
        styles=[page.asset(__package__, "explorer.css")],
        scripts=[page.asset(__package__, name) for name in _SCRIPTS],
        data=page_data(graph, explored, layers),
    )


def _lead(explored: Sequence[Explored]) -> str:
    designs = sum(len(e.designs) for e in explored)
    rows = sum(len(e.table) for e in explored)
    batch = explored[0].batch
    return (
        f"{designs:,} designs, {rows:,} simulations, batch {batch}. Every number is the "
        f"simulator's for the design shown; nothing is interpolated. Times, traffic and energies "
        f"are for the whole batch."
    )


def _readings(explored: Explored) -> str:
    lines = reading_lines(explored) or ["nothing: no memory or bandwidth varies"]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{escape(explored.accelerator.name)}</h3><ul class='readings'>{items}</ul>"


def _made(explored: Sequence[Explored], made: Mapping[str, object]) -> list[tuple[str, str]]:
    rows = page.made_rows(made)
    rows += [
        (e.accelerator.name, f"{e.accelerator.description}; source: {e.accelerator.source}")
        for e in explored
    ]
    return rows
