"""report.html of commands whose result is one table and its figures: `pareto` and `speedup`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from analysis import page

PAGE = "report.html"
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")


@dataclass(frozen=True)
class PageFigure:
    """name: of the files it is saved as. drawn: the table that it shows."""

    name: str
    title: str
    caption: str
    svg: bytes
    drawn: pd.DataFrame


def table_page(
    title: str,
    lead: str,
    lines: Sequence[Sequence[str]],
    table: pd.DataFrame,
    figures: Sequence[PageFigure],
    command: Sequence[str],
    manifest: Mapping[str, object],
) -> str:
    """The page. lines: the table as text, its headings first. table: the same whole, to save.
    manifest: of the run, whose versions and date are shown."""
    made = {key: manifest[key] for key in ("made", "versions", "platform")}
    made |= {f"seconds for {name}": s for name, s in dict(manifest["seconds"]).items()}  # type: ignore[call-overload]
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='lead'>{escape(lead)}</p>",
        page.command_block(command),
        "<h2>Table</h2>",
        page.table(_sortable(lines), sort=True),
        f"<p>{page.data_link('table.csv', 'data (CSV)', _csv(table), 'text/csv')}</p>",
        *[page.figure(f.name, f.title, f.caption, f.svg, f.drawn) for f in figures],
        "<h2>How this was made</h2>",
        "<div class='made'>"
        + page.table(pd.DataFrame(page.made_rows(made), columns=["what", "value"]))
        + "</div>",
    ]
    return page.page(title, sections)


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _sortable(lines: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Columns in which every text begins with a number sort by it."""
    head, *rows = lines
    columns = []
    for texts in zip(*rows, strict=True):
        found = [_NUMBER.match(text) for text in texts]
        columns.append(
            [(text, float(match[0].replace(",", "")))
             for text, match in zip(texts, found, strict=True) if match]
            if all(found)
            else list(texts)
        )  # fmt: skip
    return pd.DataFrame(list(zip(*columns, strict=True)), columns=list(head))
