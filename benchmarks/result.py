"""What a benchmark found: a table of its own, and the ratios that go to the front of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """theirs / ours, both with their units; times are measured in the same run unless `what` says
    otherwise."""

    what: str
    ours: str
    theirs: str
    ratio: float


@dataclass(frozen=True)
class Result:
    """title: of the section. note: what was measured, and how. rows: cells as they are printed."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ratios: tuple[Ratio, ...] = ()

    def table(self) -> str:
        return markdown(self.columns, self.rows)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of which the first column is text and the others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def times(ratio: float) -> str:
    """A ratio in three digits."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
