"""Text for a terminal: aligned columns, and the few lines that a run prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.study import Study


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def summary_lines(study: Study) -> list[str]:
    """One line a variant: widths, accuracy, speedup over W8A8 on each accelerator."""
    from analysis.study import BASELINE
    from analysis.tables import summary_table

    names = [accelerator.name for accelerator in study.request.accelerators]
    rows = [["", "bits", "kB", "top-1 %", "agree %", "distortion", *names]]
    for row in summary_table(study).to_dict("records"):
        rows.append(
            [
                str(row["variant"]),
                f"{row['weight_bits']:.2f}",
                f"{row['size_bytes'] / 1000:,.1f}",
                f"{100 * row['top1']:.1f}",
                f"{100 * row['agreement']:.1f}",
                f"{row['measured_distortion']:.3g}",
                *(f"{row[f'{name}_speedup']:.2f}x" for name in names),
            ]
        )
    accuracy = study.float_accuracy
    head = (
        f"{study.network.name}: float top-1 {100 * accuracy.top1:.1f} % on {accuracy.images} "
        f"images; activations {study.request.activation_bits:g} bits; speedup over {BASELINE} at "
        f"batch {study.request.batch}"
    )
    return [head, *columns(rows)]
