"""Figure of a Pareto table: distortion, and accuracy where measured, over size, time and energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.plots import BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MARKS = {
    "per channel": ("o-", BLUE),
    "per layer": ("s--", ORANGE),
    "equal widths": ("^:", GREEN),
}
_OTHER = ("D-.", PURPLE)  # per group of channels


def _axis(
    table: pd.DataFrame, column: str, label: str, large: tuple[str, float], small: tuple[str, float]
) -> tuple[str, float, str]:
    """Column, what to divide it by, and label: in the larger unit if the values come near it."""
    unit, size = large if table[column].max() >= 0.1 * large[1] else small
    return column, size, f"{label} [{unit}]"


def draw_pareto(figure: Figure, table: pd.DataFrame, accelerators: Sequence[str]) -> None:
    """One column each for size and for every accelerator's time and energy; one row for the
    predicted distortion and, if it was measured, one for top-1.

    table: of `pareto_table`.
    """
    from matplotlib.ticker import MaxNLocator

    across = [_axis(table, "size_bits", "size with metadata", ("MB", 8e6), ("kB", 8e3))]
    for name in accelerators:
        times, energies = f"{name}_seconds", f"{name}_energy_pj"
        across.append(_axis(table, times, f"time on {name}", ("ms", 1e-3), ("µs", 1e-6)))
        across.append(_axis(table, energies, f"energy on {name}", ("mJ", 1e9), ("µJ", 1e6)))
    down = [("predicted_distortion", 1.0, "predicted distortion\n[squared error of the logits]")]
    if "top1" in table:
        down.append(("top1", 0.01, "top-1 [%]"))
    panels = figure.subplots(len(down), len(across), squeeze=False, sharey="row", sharex="col")
    for row, (y, y_unit, y_label) in zip(panels, down, strict=True):
        for ax, (x, x_unit, x_label) in zip(row, across, strict=True):
            for method in table["method"].unique():
                mark, colour = _MARKS.get(method, _OTHER)
                rows = table[table["method"] == method].sort_values("asked_bits")
                ax.plot(rows[x] / x_unit, rows[y] / y_unit, mark, color=colour, label=method,
                        markersize=4)  # fmt: skip
            if y == "predicted_distortion":
                ax.set_yscale("log")
            ax.xaxis.set_major_locator(MaxNLocator(4))
            if y == down[-1][0]:
                ax.set_xlabel(x_label)
        row[0].set_ylabel(y_label)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
