"""What every page is built of: a frame, tables, figures with their data, and the command."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Cell = object  # a text, or a pair (text, number to sort by)


def asset(package: str, name: str) -> str:
    """A style sheet or script that lies in a package."""
    return (resources.files(package) / name).read_text(encoding="utf-8")


def page(
    title: str,
    sections: Sequence[str],
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: object = None,
) -> str:
    """The whole page. title: text. sections: HTML, in order. styles, scripts: their content,
    behind those of every page. data: plain data that scripts find in the element `data`."""
    head = "\n".join([asset(__package__, "page.css"), *styles])
    code = "\n".join([asset(__package__, "page.js"), *scripts])
    held = ""
    if data is not None:
        # no end tag inside the element, whatever names the data holds
        text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        held = f"<script type='application/json' id='data'>{text}</script>"
    body = "\n".join(sections)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>chipfit: {escape(title)}</title><style>{head}</style></head><body>"
        "<header><span>chipfit</span>"
        "<button type='button' id='theme' hidden>theme: system</button></header>"
        f"<main>{body}</main>{held}<script>{code}</script></body></html>\n"
    )


def command_block(command: Sequence[str]) -> str:
    """The command that makes the page again, quoted for a shell, with a button that copies it."""
    return (
        f"<div class='command'><pre tabindex='0'><code>{escape(shlex.join(command))}</code></pre>"
        "<button type='button' class='copy' hidden>copy</button></div>"
    )


def number(value: object, text: str) -> tuple[str, float]:
    """A cell that shows `text` formatted with the value and sorts by the value; NaN shows empty
    and comes first."""
    real = float(value)  # type: ignore[arg-type]
    return ("", -math.inf) if math.isnan(real) else (text.format(real), real)


def table(frame: pd.DataFrame, sort: bool = False) -> str:
    """A table; cells that are pairs (text, number) show the text and sort by the number."""
    rows = list(frame.itertuples(index=False, name=None))
    numeric = [bool(rows) and all(isinstance(row[i], tuple) for row in rows)
               for i in range(len(frame.columns))]  # fmt: skip
    head = "".join(
        f"<th scope='col'{_marks(right)}>{_heading(str(column), sort)}</th>"
        for column, right in zip(frame.columns, numeric, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    kind = " class='sortable'" if sort else ""
    return (
        f"<div class='wide' tabindex='0'><table{kind}><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _marks(right: bool) -> str:
    return " class='n'" if right else ""


def _heading(text: str, sort: bool) -> str:
    return f"<button type='button'>{escape(text)}</button>" if sort else escape(text)


def _cell(cell: Cell) -> str:
    if isinstance(cell, tuple):
        text, key = cell
        return f"<td class='n' data-key='{key!r}'>{escape(text)}</td>"
    return f"<td>{escape(str(cell))}</td>"


def made_rows(made: Mapping[str, object]) -> list[tuple[str, str]]:
    """What made a page, as rows of a table; the versions of packages in one of them."""
    rows = []
    for key, value in made.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        rows.append((key, str(value)))
    return rows


def data_link(name: str, text: str, content: bytes, mime: str) -> str:
    """A link that saves `content`, which lies in the page, as the file `name`."""
    return (
        f"<a download='{escape(name)}' href='data:{mime};base64,"
        f"{base64.b64encode(content).decode()}'>{escape(text)}</a>"
    )


def figure(name: str, title: str, caption: str, svg: bytes, drawn: pd.DataFrame) -> str:
    """A drawing with its caption, and links that save it (SVG) and what it shows (CSV).

    name: of the saved files, without their ending.
    """
    picture = base64.b64encode(svg).decode()
    csv = drawn.to_csv(index=False).encode()
    links = (
        data_link(f"{name}.svg", "SVG", svg, "image/svg+xml"),
        data_link(f"{name}.csv", "data (CSV)", csv, "text/csv"),
    )
    return (
        f"<h2>{escape(title)}</h2><figure><div class='wide' tabindex='0'><img "
        f"alt='{escape(title)}' src='data:image/svg+xml;base64,{picture}'></div>"
        f"<figcaption>{escape(caption)} {' '.join(links)}</figcaption></figure>"
    )
