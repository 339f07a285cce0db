"""Figure of a speedup table: grouped bars, one panel a network and accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.plots import CYCLE, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.speedup import SpeedupRow

_HATCHES = ("", "//", "..", "xx", "--", "\\\\", "oo", "++")
_GROUP = 0.84  # share of the room of a batch that its bars take


def draw_speedup_grid(figure: Figure, rows: Sequence[SpeedupRow]) -> None:
    """Speedup over one baseline: networks down, accelerators across, batches along each axis.

    rows: of one baseline (or `native` ones); the baselines' own rows, all 1, are the dashed line.
    """
    models, chips, batches = (
        list(dict.fromkeys(getattr(row, name) for row in rows))
        for name in ("model", "accelerator", "batch")
    )
    bars = [row for row in rows if row.widths != row.baseline]
    blocks: dict[tuple[str, str, int], list[str]] = {}
    for row in bars:
        blocks.setdefault((row.model, row.accelerator, row.batch), []).append(row.widths)
    fullest_first = sorted(blocks.values(), key=len, reverse=True)
    labels = list(dict.fromkeys(label for block in fullest_first for label in block))
    width = _GROUP / max(1, len(labels))
    panels = figure.subplots(len(models), len(chips), squeeze=False, sharex=True, sharey="row")
    for line, model in zip(panels, models, strict=True):
        for ax, chip in zip(line, chips, strict=True):
            for i, label in enumerate(labels):
                found = {
                    row.batch: row.speedup
                    for row in bars
                    if (row.model, row.accelerator, row.widths) == (model, chip, label)
                }
                at = []
                for batch in found:  # the bars that a batch has stand around its tick
                    there = [name for name in labels if name in blocks[model, chip, batch]]
                    step = there.index(label) - (len(there) - 1) / 2
                    at.append(batches.index(batch) + step * width)
                drawn = ax.bar(at, list(found.values()), width, color=CYCLE[i % len(CYCLE)],
                               hatch=_HATCHES[i % len(_HATCHES)], edgecolor="white",
                               linewidth=0.4)  # fmt: skip
                names = [f"{value:.2f}" for value in found.values()]
                ax.bar_label(drawn, names, fontsize=5.5, padding=1.5, rotation=90)
            ax.axhline(1, color="#444444", linewidth=0.8, linestyle="--")
            ax.margins(y=0.22)
            ax.set_xticks(np.arange(len(batches)), [str(batch) for batch in batches])
            ax.grid(visible=False, axis="x")
            if model == models[0]:
                ax.set_title(chip, fontsize=9)
            if model == models[-1]:
                ax.set_xlabel("batch")
        line[0].set_ylabel(f"{model}\nspeedup")
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=CYCLE[i % len(CYCLE)], hatch=_HATCHES[i % len(_HATCHES)],
              edgecolor="white", label=label)
        for i, label in enumerate(labels)
    ]  # fmt: skip
    baselines = ", ".join(dict.fromkeys(row.baseline for row in rows))
    if handles:
        columns = min(len(handles), max(1, int(figure.get_figwidth() / 1.5)))
        title = f"speedup over {baselines} (dashed line)"
        figure.legend(handles=handles, loc="outside upper center", ncols=columns,
                      title=title)  # fmt: skip


def speedup_figure(rows: Sequence[SpeedupRow], kind: str) -> bytes:
    """The figure of rows over one baseline, as 'svg' or 'png'; the same rows give the same
    bytes."""
    models, chips, batches, labels = (
        len({getattr(row, name) for row in rows})
        for name in ("model", "accelerator", "batch", "widths")
    )
    across = float(np.clip(0.16 * batches * labels + 0.6, 2.2, 5.0))
    return render(partial(draw_speedup_grid, rows=rows), max(5.0, 0.6 + across * chips),
                  1.0 + 1.9 * models, kind)  # fmt: skip
