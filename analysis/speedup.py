"""Speedup: networks on accelerators at several batches and widths, over baselines that are named.

`chipfit speedup`. Widths are equal ones, the accelerator's own operands (`native`), allocation
files, or what rate-distortion curves choose (`speedup_widths`). The table is computed first and
drawn second (`speedup_plot`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.scale import PACKAGES, Ledger, Runner, Task, code_version, key_of
from analysis.speedup_widths import (
    Request,
    Widths,
    allocated,
    check_request,
    parse_widths,
    predicted_distortion,
    within_time,
)
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats

if TYPE_CHECKING:
    import pandas as pd

    from quant.curves import RDCurves

DRAM = "DRAM"


@dataclass(frozen=True)
class SpeedupRow:
    """One simulation over one baseline, for the whole batch.

    weight_bits, activation_bits: means over the network. speedup, energy_ratio, dram_ratio: the
    baseline's cycles, energy and DRAM bits over those of these widths, so that more is better.
    ceiling: the speedup if these widths never waited for DRAM. stall_share: of the cycles.
    bound_by: the largest of `time_shares`, and bound_share how large it is. distortion: squared
    error of the logits as the curves predict it, None without curves that price the widths.
    """

    model: str
    accelerator: str
    batch: int
    widths: str
    source: str
    weight_bits: float
    activation_bits: float
    baseline: str
    speedup: float
    energy_ratio: float
    dram_ratio: float
    ceiling: float
    cycles: int
    seconds: float
    energy_pj: float
    dram_bits: int
    stall_share: float
    bound_by: str
    bound_share: float
    distortion: float | None = None


def time_shares(stats: NetworkStats) -> dict[str, float]:
    """{what the cycles go to: share}, largest first; the shares add up to 1.

    `DRAM`: waiting for it. `vector unit`: layers that are no products. On a systolic array `MACs`
    are the cycles that a full array would need for the products, and `shift, fill, idle PEs` the
    rest. On a row-stationary one a layer's cycles stand under what bounds its passes (`macs` with
    whatever PEs are active, or a port), apart from `filter load`, which nothing overlaps.
    """
    cycles: Counter[str] = Counter()
    for layer in stats.layers:
        cycles[DRAM] += layer.stall_cycles
        busy = layer.compute_cycles
        bound = str(layer.detail.get("bound_by", ""))
        if not layer.macs:
            cycles["vector unit"] += busy
        elif bound:
            load = min(busy, int(layer.detail.get("filter_load_cycles", 0)))
            cycles["filter load"] += load
            cycles["macs and ports" if bound == "dram" else bound] += busy - load
        else:
            macs = min(busy, round(layer.macs / stats.pes))
            cycles["MACs"] += macs
            cycles["shift, fill, idle PEs"] += busy - macs
    total = sum(cycles.values())
    return {name: count / total for name, count in cycles.most_common() if count}


def speedup_table(
    graphs: Mapping[str, LayerGraph],
    accelerators: Sequence[Accelerator],
    request: Request,
    curves: Mapping[str, RDCurves],
    progress: Callable[[int, int], None] | None = None,
    runner: Runner | None = None,
) -> list[SpeedupRow]:
    """A row for every network, accelerator, batch, baseline and width, in this order.

    graphs: {model: graph}. curves: {model: curves}; a model without them has no averages. The
    baseline itself is the first row of each block; widths equal to some earlier ones of the block
    are left out. progress: called with (blocks done, of how many). runner: where blocks are made,
    and the ledger that keeps them; by default in this process, and none. Raises ValueError as
    `check_request`, `parse_widths` and `quant.allocation.allocate.allocate` do.
    """
    check_request(request, list(graphs), curves)
    blocks = [
        (model, graphs[model], accelerator, batch, request, curves.get(model))
        for model in graphs
        for accelerator in accelerators
        for batch in request.batches
    ]
    sources = code_version(*PACKAGES)
    known = {model: curves[model].fingerprint() for model in graphs if model in curves}
    files = _file_widths(request)
    keys = [
        key_of("speedup", sources, model, graph, chip, batch, request, files, known.get(model))
        for model, graph, chip, batch, _, _ in blocks
    ]
    if runner is None:
        runner = Runner(Ledger(None))
    found = runner.results(
        keys, block_rows, lambda missing: (Task((i,), blocks[i]) for i in missing), progress
    )
    return [SpeedupRow(**row) for block in found for row in block]


def _file_widths(request: Request) -> tuple[str, ...]:
    """What the files among the widths hold: a ledger must not take them by their names."""
    specs = (*request.widths, *request.baselines)
    paths = [spec if os.path.exists(spec) else spec.rpartition("=")[2] for spec in specs]
    return tuple(_key(BitWidths.parse(path)) for path in paths if Path(path).is_file())


def block_rows(*block: Any) -> list[list[dict[str, Any]]]:
    """`_block` as one result for the ledger."""
    return [[asdict(row) for row in _block(*block)]]


def _block(
    model: str,
    graph: LayerGraph,
    accelerator: Accelerator,
    batch: int,
    request: Request,
    curves: RDCurves | None,
) -> list[SpeedupRow]:
    """The rows of one network on one accelerator at one batch; widths are simulated once."""
    bases, chosen = (
        [w for w in (parse_widths(s, model, graph, accelerator) for s in specs) if w is not None]
        for specs in (request.baselines, request.widths)
    )
    if not bases:
        raise ValueError(f"speedup: no baseline for {model}: give another --baseline")
    if curves is not None:
        chosen += allocated(request, graph, curves, accelerator, batch)
    known = {
        _key(widths.bits): simulate(graph, accelerator, widths.bits, batch)
        for widths in _different([*bases, *chosen])
    }
    if curves is not None:
        seconds = known[_key(bases[0].bits)].seconds
        for widths, stats in within_time(
            request, graph, curves, accelerator, batch, bases[0].label, seconds
        ):
            chosen.append(widths)
            known[_key(widths.bits)] = stats
    rows = []
    for base in _different(bases):
        before = known[_key(base.bits)]
        for widths in _different([base, *chosen]):
            stats = known[_key(widths.bits)]
            distortion = predicted_distortion(curves, widths.bits, graph) if curves else None
            row = _row(model, graph, widths, base.label, stats, before)
            rows.append(replace(row, distortion=distortion))
    return rows


def _different(widths: Sequence[Widths]) -> list[Widths]:
    """Without those that equal earlier ones. Raises ValueError for two under one label."""
    by_key: dict[str, Widths] = {}
    for item in widths:
        by_key.setdefault(_key(item.bits), item)
    labels = Counter(item.label for item in by_key.values())
    label, count = labels.most_common(1)[0]
    if count > 1:
        raise ValueError(f"speedup: two different widths are called {label!r}; rename a file")
    return list(by_key.values())


def _key(bits: BitWidths) -> str:
    return json.dumps(bits.to_json(), sort_keys=True)


def _row(
    model: str,
    graph: LayerGraph,
    widths: Widths,
    baseline: str,
    stats: NetworkStats,
    before: NetworkStats,
) -> SpeedupRow:
    bound_by, bound_share = next(iter(time_shares(stats).items()))
    values = sum(layer.output.values for layer in graph)
    return SpeedupRow(
        model=model,
        accelerator=stats.accelerator,
        batch=stats.batch,
        widths=widths.label,
        source=widths.source,
        weight_bits=widths.bits.average_weight_bits(graph),
        activation_bits=sum(widths.bits.activation_bits(layer) for layer in graph) / values,
        baseline=baseline,
        speedup=before.cycles / stats.cycles,
        energy_ratio=before.energy_pj / stats.energy_pj,
        dram_ratio=before.dram_bits / stats.dram_bits,
        ceiling=before.cycles / stats.compute_cycles,
        cycles=stats.cycles,
        seconds=stats.seconds,
        energy_pj=stats.energy_pj,
        dram_bits=stats.dram_bits,
        stall_share=stats.stall_cycles / stats.cycles,
        bound_by=bound_by,
        bound_share=bound_share,
    )


def to_frame(rows: Sequence[SpeedupRow]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows])


HEAD = ("model", "accelerator", "batch", "widths", "baseline", "speedup", "ceiling", "energy",
        "DRAM", "cycles", "ms", "waits %", "bound by")  # fmt: skip


def cells(row: SpeedupRow) -> list[str]:
    """A row as text, under HEAD."""
    return [
        row.model, row.accelerator, str(row.batch), row.widths, row.baseline,
        f"{row.speedup:.2f}x", f"{row.ceiling:.2f}x", f"{row.energy_ratio:.2f}x",
        f"{row.dram_ratio:.2f}x", f"{row.cycles:,}", f"{1e3 * row.seconds:.4g}",
        f"{100 * row.stall_share:.0f}", f"{row.bound_by} {100 * row.bound_share:.0f} %",
    ]  # fmt: skip


def markdown(rows: Sequence[SpeedupRow]) -> list[str]:
    """The table in markdown, and below it where the widths of each row come from."""
    kinds = ["---"] * 2 + ["---:"] + ["---"] * 2 + ["---:"] * 7 + ["---"]
    lines = [HEAD, kinds, *(cells(row) for row in rows)]
    sources = dict.fromkeys((row.model, row.widths, row.source) for row in rows)
    grouped: dict[str, dict[str, list[str]]] = {}
    for model, widths, source in sources:
        grouped.setdefault(source, {}).setdefault(widths, []).append(model)
    return [
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
        *(
            f"- {source}: " + "; ".join(f"{w} ({', '.join(m)})" for w, m in labels.items())
            for source, labels in grouped.items()
        ),
    ]


def speedup_files(
    rows: Sequence[SpeedupRow],
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
    seconds: Mapping[str, float],
) -> dict[str, bytes]:
    """{path inside the folder: content} of everything that the command leaves."""
    from analysis.manifest import MANIFEST, build_manifest, json_bytes
    from analysis.speedup_plot import speedup_figure
    from analysis.table_page import PAGE, PageFigure, table_page

    table, figures = to_frame(rows), []
    files = {
        "speedup.csv": table.to_csv(index=False).encode(),
        "speedup.json": json_bytes(table.to_dict("records")),
        "speedup.md": ("\n".join(markdown(rows)) + "\n").encode(),
    }
    for baseline in dict.fromkeys(row.baseline for row in rows):
        name = f"speedup_over_{baseline.replace(' ', '_')}"
        shown = [row for row in rows if row.baseline == baseline]
        for kind in ("svg", "png"):
            files[f"{name}.{kind}"] = speedup_figure(shown, kind)
        caption = f"Over {baseline} at the same batch, on the same accelerator and layers."
        figures.append(
            PageFigure(name, f"Speedup over {baseline}", caption, files[f"{name}.svg"],
                       to_frame(shown))
        )  # fmt: skip
    manifest = build_manifest(command, options, inputs, files, seconds)
    models, chips = (
        ", ".join(dict.fromkeys(getattr(row, name) for row in rows))
        for name in ("model", "accelerator")
    )
    lead = (
        "Speedup, energy and DRAM traffic over the baseline of each row; ceiling: the speedup if "
        "nothing waited for DRAM; bound by: what takes the most of the cycles."
    )
    lines = [HEAD, *(cells(row) for row in rows)]
    page = table_page(f"{models} on {chips}", lead, lines, table, figures, command, manifest)
    files[PAGE] = page.encode()
    files[MANIFEST] = json_bytes(manifest)
    return files
