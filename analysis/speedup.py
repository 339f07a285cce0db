"""Speedup: networks on accelerators at several batches and widths, over baselines that are named.

`chipfit speedup`. Widths are equal ones, the accelerator's own operands (`native`), allocation
files, or averages allocated by rate-distortion curves. The table is computed first and drawn
second (`speedup_plot`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.scale import Ledger, Runner, Task, code_version, key_of
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.names import did_you_mean
from hwsim.simulate import simulate
from hwsim.stats import NetworkStats

if TYPE_CHECKING:
    import pandas as pd

    from quant.curves import RDCurves

NATIVE = "native"
DRAM = "DRAM"


@dataclass(frozen=True)
class Widths:
    """Widths of one network. source: where they come from, in words."""

    label: str
    bits: BitWidths
    source: str


@dataclass(frozen=True)
class Request:
    """What to compare. widths, baselines: `native`, an int, a pair such as W4A8, FILE.json or
    MODEL=FILE.json. averages: mean bits of a weight, allocated by curves; fit: also such that
    every layer keeps to its memories; activation_bits: their mean bits of an activation."""

    batches: tuple[int, ...]
    widths: tuple[str, ...]
    baselines: tuple[str, ...] = ("W8A8",)
    averages: tuple[float, ...] = ()
    fit: bool = False
    activation_bits: float = 8.0


@dataclass(frozen=True)
class SpeedupRow:
    """One simulation over one baseline, for the whole batch.

    weight_bits, activation_bits: means over the network. speedup, energy_ratio, dram_ratio: the
    baseline's cycles, energy and DRAM bits over those of these widths, so that more is better.
    ceiling: the speedup if these widths never waited for DRAM. stall_share: of the cycles.
    bound_by: the largest of `time_shares`, and bound_share how large it is.
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


def native_widths(accelerator: Accelerator) -> BitWidths:
    """The operands of the accelerator at full width: the array's own, or a PE's whole words."""
    width = accelerator.operand_width
    return BitWidths(width.weight_bits, width.activation_bits)


def parse_widths(spec: str, model: str, graph: LayerGraph, chip: Accelerator) -> Widths | None:
    """The widths that a specification means for a network; None if it is for another one.

    Raises ValueError as `BitWidths.parse` and `BitWidths.check` do.
    """
    if spec == NATIVE:
        bits = native_widths(chip)
        return Widths(f"native {_equal(bits)}", bits, f"operands of {chip.name}")
    owner, found, rest = spec.partition("=")
    if found and not Path(spec).exists():
        if owner != model:
            return None
        spec = rest
    bits = BitWidths.parse(spec)
    if label := _equal(bits):
        return Widths(label, bits, "equal widths, no allocation")
    try:
        bits.check(graph)
    except ValueError as error:
        raise ValueError(
            f"{spec}, for {model}: {error}; a file for one of several networks is MODEL=FILE"
        ) from None
    return Widths(Path(spec).stem, bits, f"file {Path(spec).name}")


def _equal(bits: BitWidths) -> str:
    if isinstance(bits.weights, int) and isinstance(bits.activations, int):
        return f"W{bits.weights}A{bits.activations}"
    return ""


def check_request(request: Request, models: Sequence[str], curves: Mapping[str, object]) -> None:
    """Raise ValueError for what no table can be made of, before anything is simulated."""
    for name, items in (("model", models), ("batch", request.batches)):
        twice = [item for item, count in Counter(items).items() if count > 1]
        if twice:
            raise ValueError(f"speedup: the same {name} twice: {twice[0]}")
    for spec in (*request.widths, *request.baselines):
        owner, found, rest = spec.partition("=")
        if found and not Path(spec).exists():
            if owner not in models:
                near = did_you_mean(owner, models)
                raise ValueError(f"speedup: bits {spec!r}: {owner!r} is not among the models{near}")
            BitWidths.parse(rest)
        elif spec != NATIVE:
            BitWidths.parse(spec)
    if request.averages and not curves:
        raise ValueError(
            "speedup: --average needs rate-distortion curves, and there are none of "
            f"{', '.join(models)}: measure them with chipfit curves and give --curves FILE.npz"
        )
    if not request.averages and (request.fit or not request.widths):
        raise ValueError("speedup: give --bits or --average (--fit goes with --average)")


def allocated(
    request: Request, graph: LayerGraph, curves: RDCurves, accelerator: Accelerator, batch: int
) -> Iterator[Widths]:
    """The averages that were asked for: free ones, and with `fit` those that keep the layers'
    operands in the memories that are to hold them, where the accelerator has such memories."""
    from analysis.study import input_widths, least_widths, width_range
    from quant.allocation.allocate import allocate
    from quant.allocation.budget import Budget
    from quant.allocation.fit import fit_caps

    fixed = input_widths(graph)
    source = f"allocated by curves of {curves.network}"
    for average in request.averages:
        least = least_widths(average, request.activation_bits)
        caps = fit_caps(graph, accelerator, batch, fixed, least).caps if request.fit else ()
        for kept in ((), caps) if caps else ((),):
            budget = Budget(
                weight_bits=average,
                activation_bits=request.activation_bits if curves.activations else None,
                fixed=fixed if curves.activations else {},
                caps=kept,
                weight_widths=width_range(least["weights"]),
                activation_widths=width_range(least["activations"]),
            )
            label = f"average {average:g}" + (", fits" if kept else "")
            bits = allocate(curves, budget).bits
            bits.check(graph)
            yield Widths(label, bits, source)


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
    sources = code_version("hwsim", "quant", "analysis")
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
    paths = [spec if Path(spec).exists() else spec.rpartition("=")[2] for spec in specs]
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
    rows = []
    for base in _different(bases):
        before = known[_key(base.bits)]
        for widths in _different([base, *chosen]):
            stats = known[_key(widths.bits)]
            rows.append(_row(model, graph, widths, base.label, stats, before))
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
    from analysis.manifest import build_manifest
    from analysis.speedup_plot import speedup_figure

    table = to_frame(rows)
    files = {
        "speedup.csv": table.to_csv(index=False).encode(),
        "speedup.json": (json.dumps(table.to_dict("records"), indent=1) + "\n").encode(),
        "speedup.md": ("\n".join(markdown(rows)) + "\n").encode(),
    }
    for baseline in dict.fromkeys(row.baseline for row in rows):
        name = f"speedup_over_{baseline.replace(' ', '_')}"
        shown = [row for row in rows if row.baseline == baseline]
        for kind in ("svg", "png"):
            files[f"{name}.{kind}"] = speedup_figure(shown, kind)
    manifest = build_manifest(command, options, inputs, files, seconds)
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    return files
