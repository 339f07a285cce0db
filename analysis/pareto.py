"""Pareto: one set of curves, a range of budgets, and what each buys: a table and a figure.

Allocations per channel stand beside one width a layer and equal widths, all quantised by the same
recipe, simulated on the same chips and, where there are weights and images, evaluated on the same
images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.budgets import average_budget
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.memory import network_weight_bits
from hwsim.simulator import simulate
from quant.allocation.allocate import allocate, equal_widths
from quant.allocation.allocation import Allocation
from quant.allocation.budget import InfeasibleBudget, Kind
from quant.curves import RDCurves
from quant.granularity import CHANNEL, LAYER, unit_name

if TYPE_CHECKING:
    import pandas as pd

    from quant.accuracy import Accuracy

Evaluate = Callable[[BitWidths], "Accuracy"]


@dataclass(frozen=True)
class Point:
    """asked_bits: average width of the weights that was asked for."""

    method: str
    asked_bits: float
    allocation: Allocation


def choose_points(
    curves: RDCurves,
    graph: LayerGraph,
    least: Mapping[float, Mapping[Kind, int]],
    activation_bits: float,
    group: int = CHANNEL,
) -> list[Point]:
    """Allocations per channel, per group of channels (if `group` is more than one), per layer and
    of equal widths, at every average width that each can keep.

    least: {average bits of a weight: narrowest widths that may be used}.

    Equal widths are whole, so they stand only at whole averages. Raises ValueError if no width can
    be kept by any method.
    """
    points = []
    for bits, narrowest in least.items():
        budget = average_budget(curves, graph, bits, activation_bits, narrowest)
        for unit in sorted({CHANNEL, group, LAYER}):
            try:
                found = allocate(curves, budget, unit)
                points.append(Point(f"per {unit_name(unit)}", bits, found))
            except InfeasibleBudget:
                continue
        if float(bits).is_integer() and bits >= 1:
            tensors = max(1, int(activation_bits)) if curves.activations else None
            points.append(Point("equal widths", bits, equal_widths(curves, int(bits), tensors)))
    if not points:
        raise ValueError(
            f"pareto: no average width of {', '.join(f'{b:g}' for b in least)} can be kept with "
            f"activations of {activation_bits:g} bits and these narrowest widths; ask for more "
            f"bits, or narrower ones by --min-bits and --min-activation-bits"
        )
    return points


def pareto_table(
    graph: LayerGraph,
    points: Sequence[Point],
    accelerators: Sequence[Accelerator],
    batch: int = 1,
    evaluate: Evaluate | None = None,
) -> pd.DataFrame:
    """One row a point: widths, size, distortion, accuracy if it can be had, time and energy.

    size_bits: all weights and the metadata of every channel as the first accelerator stores it.
    Columns of each accelerator are for the whole batch.
    """
    import pandas as pd

    metadata_bits = accelerators[0].metadata.bits
    known: dict[str, Accuracy] = {}
    rows = []
    for point in points:
        allocation, bits = point.allocation, point.allocation.bits
        row: dict[str, object] = {
            "method": point.method,
            "asked_bits": point.asked_bits,
            "weight_bits": bits.average_weight_bits(graph),
            "activation_bits": allocation.average_activation_bits,
            "size_bits": network_weight_bits(graph, bits, metadata_bits),
            "predicted_distortion": allocation.predicted_distortion,
            "relative_gap": allocation.relative_gap,
        }
        if evaluate is not None:
            key = json.dumps(bits.to_json(), sort_keys=True)
            if key not in known:
                known[key] = evaluate(bits)
            row |= {
                "top1": known[key].top1,
                "agreement": known[key].agreement,
                "measured_distortion": known[key].distortion,
            }
        for accelerator in accelerators:
            stats = simulate(graph, accelerator, bits, batch)
            row |= {
                f"{accelerator.name}_cycles": stats.cycles,
                f"{accelerator.name}_seconds": stats.seconds,
                f"{accelerator.name}_energy_pj": stats.energy_pj,
                f"{accelerator.name}_dram_bits": stats.dram_bits,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def table_lines(table: pd.DataFrame, accelerators: Sequence[Accelerator]) -> list[str]:
    """The table as text: one line a point."""
    from analysis.summary import columns

    return columns(table_cells(table, accelerators))


def table_cells(table: pd.DataFrame, accelerators: Sequence[Accelerator]) -> list[list[str]]:
    """The table as texts, its headings first."""
    measured = "top1" in table
    head = ["method", "bits", "kB", "distortion"]
    head += ["top-1 %", "agree %", "measured"] if measured else []
    for accelerator in accelerators:
        head += [f"{accelerator.name} ms", "mJ"]
    rows = [head]
    for row in table.to_dict("records"):
        cells = [
            str(row["method"]), f"{row['weight_bits']:.3f}", f"{row['size_bits'] / 8000:,.1f}",
            f"{row['predicted_distortion']:.4g}",
        ]  # fmt: skip
        if measured:
            cells += [f"{100 * row['top1']:.1f}", f"{100 * row['agreement']:.1f}",
                      f"{row['measured_distortion']:.4g}"]  # fmt: skip
        for accelerator in accelerators:
            cells += [f"{1e3 * row[f'{accelerator.name}_seconds']:.4g}",
                      f"{row[f'{accelerator.name}_energy_pj'] / 1e9:.4g}"]  # fmt: skip
        rows.append(cells)
    return rows


def pareto_files(
    table: pd.DataFrame,
    points: Sequence[Point],
    accelerators: Sequence[Accelerator],
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
    seconds: Mapping[str, float],
) -> dict[str, bytes]:
    """{path inside the folder: content} of everything that the command leaves."""
    from functools import partial

    from analysis.manifest import MANIFEST, build_manifest, json_bytes
    from analysis.pareto_plot import draw_pareto
    from analysis.plots import render
    from analysis.table_page import PAGE, PageFigure, table_page

    names = [accelerator.name for accelerator in accelerators]
    draw = partial(draw_pareto, table=table, accelerators=names)
    height = 3.4 * (2 if "top1" in table else 1) + 0.4
    files = {
        "pareto.csv": table.to_csv(index=False).encode(),
        "pareto.json": json_bytes(table.to_dict("records")),
        "pareto.txt": ("\n".join(table_lines(table, accelerators)) + "\n").encode(),
    }
    for kind in ("svg", "png"):
        files[f"pareto.{kind}"] = render(draw, 3.6 * (1 + 2 * len(names)), height, kind)
    for point in points:
        name = f"{point.method.replace(' ', '_')}_{point.asked_bits:g}"
        files[f"allocations/{name}.json"] = json_bytes(point.allocation.to_json())
    manifest = build_manifest(command, options, inputs, files, seconds)
    lead = (
        f"{len(points)} allocations on {', '.join(names)}, batch {options['batch']}. Distortion is "
        f"predicted by the curves, as the squared error of the logits; times and energies are for "
        f"the whole batch."
    )
    caption = "What size, time and energy buy, by how the widths are chosen."
    figure = PageFigure("pareto", "Fronts", caption, files["pareto.svg"], table)
    cells = table_cells(table, accelerators)
    page = table_page(f"{options['model']}: what bits buy", lead, cells, table, [figure],
                      command, manifest)  # fmt: skip
    files[PAGE] = page.encode()
    files[MANIFEST] = json_bytes(manifest)
    return files
