"""Accuracy that other reports measured, to stand beside speedups of the same widths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """widths: labels as of `chipfit speedup`. accelerator: the chip that they fit, or ''. top1,
    float_top1, agree: percent. report: the file that says so."""

    model: str
    widths: str
    accelerator: str
    top1: float
    float_top1: float | None
    agree: float
    report: str


def markdown_rows(text: str) -> list[tuple[str, dict[str, str]]]:
    """(the heading above, {column: cell}) of every row of every table of a markdown page."""
    rows: list[tuple[str, dict[str, str]]] = []
    heading, head = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            heading, head = line.lstrip("# "), []
        elif not line.startswith("|"):
            head = []
        else:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not head:
                head = cells
            elif not set(line) <= set("|-: "):
                rows.append((heading, dict(zip(head, cells, strict=True))))
    return rows


def measured(folder: Path) -> list[Measured]:
    """What `accuracy.md` and `real_networks.md` of a folder of reports hold; nothing if they are
    not there. Of widths that both have, the first file is taken."""
    found: dict[tuple[str, str, str], Measured] = {}
    for name in ("accuracy.md", "real_networks.md"):
        path = folder / name
        if path.is_file():
            for heading, row in markdown_rows(path.read_text(encoding="utf-8")):
                one = _measured(heading, row, name)
                if one is not None:
                    found.setdefault((one.model, one.widths, one.accelerator), one)
    return list(found.values())


def _measured(heading: str, row: dict[str, str], report: str) -> Measured | None:
    if "top-1 % (float)" in row:  # of accuracy.md: averages of activations and weights
        bits = re.fullmatch(r"W(\d)A8", row["bits"])
        top1 = re.fullmatch(r"([\d.]+) \(([\d.]+)\)", row["top-1 % (float)"])
        if bits is None or top1 is None:
            return None
        widths = f"average {bits[1]}"
        values = float(top1[1]), float(top1[2]), float(row["agree %"])
        return Measured(row["network"], widths, "", *values, report)
    if "variant" in row and "top-1 %" in row:  # of real_networks.md
        average = re.fullmatch(r"per channel, (\d) bits(?:, fits (\w+))?", row["variant"])
        widths, chip = row["variant"], ""
        if average is not None:
            chip = average[2] or ""
            widths = f"average {average[1]}" + (", fits" if chip else "")
        return Measured(
            heading, widths, chip, float(row["top-1 %"]), None, float(row["agree %"]), report
        )
    return None
