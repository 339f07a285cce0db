"""What an exploration tells: its best designs, smallest buffers and knees, as text and data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.design_space import show
from analysis.explore import Explored
from analysis.explore_readings import KNEE, Fit, bandwidth_axes

if TYPE_CHECKING:
    import pandas as pd


def best_rows(table: pd.DataFrame) -> list[tuple[str, int]]:
    """(what is least, row) for the best designs of each allocation; of equals the one with the
    fewest on-chip bits, then PEs, then the fastest."""
    found = []
    for _, rows in table.groupby("allocation", sort=False):
        for name, cost in (
            ("fastest", rows["seconds"]),
            ("least energy", rows["energy_pj"]),
            ("least energy x time", rows["energy_pj"] * rows["seconds"]),
        ):
            order = np.lexsort((rows["seconds"], rows["pes"], rows["onchip_bits"], cost))
            found.append((name, int(rows.index[order[0]])))
    return found


def summary_lines(explored: Explored) -> list[str]:
    """What a person wants to know, as text."""
    from analysis.summary import columns

    table, axes = explored.table, explored.axes
    allocations = table["allocation"].nunique()
    designs = len(table) // allocations
    head = (
        f"{explored.network} on {explored.accelerator.name}, batch {explored.batch}: {designs:,} "
        f"designs, {allocations} choice{'s' * (allocations > 1)} of widths, "
        f"{int(table['pareto'].sum()):,} on Pareto fronts"
    )
    titles = ["", *(a.short for a in axes), "ms", "mJ", "stall %", "on-chip MiB", "short of"]
    priced = bool(table["predicted_distortion"].notna().any())
    titles += ["distortion"] if priced else []
    rows = [titles]
    for what, i in best_rows(table):
        row = table.iloc[i]
        rows.append(
            [
                f"{row['allocation']}: {what}",
                *(axis.fields[0].show(row[axis.name]) for axis in axes),
                f"{1e3 * row['seconds']:.4g}",
                f"{row['energy_pj'] / 1e9:.4g}",
                f"{100 * row['stall_share']:.1f}",
                f"{row['onchip_bits'] / 2**23:.4g}",
                row["short_of"] or "-",
                *([_number(row["predicted_distortion"])] if priced else []),
            ]
        )
    return [head, *columns(rows), *reading_lines(explored)]


def reading_lines(explored: Explored) -> list[str]:
    """What was read off: smallest buffers, knees of bandwidth, fields without effect."""
    lines = [_fit_line(fit) for fit in explored.fits]
    lines += _knee_lines(explored)
    lines += [
        f"{name}: no effect on cycles, traffic and energy in this range" for name in explored.idle
    ]
    return lines


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _fit_line(fit: Fit) -> str:
    least, most = show(fit.least_bits, "bit"), show(fit.most_bits, "bit")
    needs = f"needs {most}" if fit.least_bits == fit.most_bits else f"needs {least} to {most}"
    line = f"{fit.allocation}: the neediest layer {needs} of {fit.memory}"
    if not fit.varied:
        return line
    if fit.smallest_bits is None:
        return f"{line}; not every layer fits in the largest tried"
    return f"{line}; every layer fits from {show(fit.smallest_bits, 'bit')} on"


def _knee_lines(explored: Explored) -> list[str]:
    lines = []
    for axis in bandwidth_axes(explored.axes):
        for label in dict.fromkeys(knee.allocation for knee in explored.knees):
            found = [k.bandwidth for k in explored.knees
                     if (k.allocation, k.field) == (label, axis.name)]  # fmt: skip
            reached = sorted(value for value in found if value is not None)
            field = axis.fields[0]
            if not reached:
                text = f"above {field.show(max(axis.values))}, the largest tried"
            elif reached[0] == reached[-1]:
                text = field.show(reached[0])
            else:
                text = f"{field.show(reached[0])} to {field.show(reached[-1])}, by the other fields"
            if reached and len(reached) < len(found):
                text += f"; not reached by {len(found) - len(reached)} of {len(found)}"
            lines.append(
                f"{label}: knee of {axis.short} (at most {100 * KNEE:.0f} % slower than without "
                f"limit): {text}"
            )
    return lines


def to_records(table: pd.DataFrame) -> list[dict[str, object]]:
    """Rows as plain data, with None for what is not known."""
    return [
        {str(key): None if value != value else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def findings(explored: Explored) -> dict[str, object]:
    """What the summary says, as plain data; rows are counted from 0 in the table."""
    return {
        "best": [{"what": what, "row": row} for what, row in best_rows(explored.table)],
        "pareto_rows": np.flatnonzero(explored.table["pareto"]).tolist(),
        "fits": [vars(fit) for fit in explored.fits],
        "knees": [vars(knee) for knee in explored.knees],
        "no_effect": list(explored.idle),
    }
