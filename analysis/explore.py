"""Explore: one network over many designs of a chip, and what the designs tell.

Every point is simulated exactly as `chipfit simulate` would. Energies of an access are those of
the description whatever its size, so larger buffers and arrays cost nothing by themselves: on-chip
bits, and PEs where the array varies, stand for their area in the Pareto front. Bandwidth is free
there; its knee tells how much of it is of use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.budgets import average_budget, input_widths
from analysis.design_space import Axis, Design, onchip_bits, with_values
from analysis.explore_readings import (
    Fit,
    Knee,
    find_fits,
    find_knees,
    idle_axes,
    mark_fronts,
    unlimited_chips,
)
from analysis.scale import Ledger, Runner, Task, code_version, key_of
from hwsim.accelerator import Accelerator
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.many import alike, many_stats, simulate_alike
from hwsim.systolic.many import PointStats
from quant.allocation.allocate import allocate
from quant.allocation.budget import Kind
from quant.allocation.fit import fit_caps
from quant.curves import RDCurves

if TYPE_CHECKING:
    import pandas as pd

    from quant.allocation.allocation import Allocation
    from quant.calibration import Progress

POINTS_A_TASK = 512  # systolic designs simulated together: some tenths of a second


@dataclass(frozen=True)
class Choice:
    """Widths to explore with: given, or allocated for the chip at hand."""

    label: str
    bits: BitWidths | None = None
    predicted_distortion: float | None = None
    for_chip: Callable[[Accelerator], Allocation] | None = None


@dataclass(frozen=True, eq=False)
class Explored:
    """table: one row an allocation and design; `pareto` marks the front of each allocation, and
    `short_of` names the memories in which some layer does not fit.

    idle: axes that change neither cycles, traffic nor energy anywhere. designs: of the axes, in
    the order in which the table has them, again for every allocation. widths: of every row.
    """

    network: str
    accelerator: Accelerator
    axes: tuple[Axis, ...]
    batch: int
    table: pd.DataFrame
    fits: tuple[Fit, ...]
    knees: tuple[Knee, ...]
    idle: tuple[str, ...]
    designs: tuple[Design, ...]
    widths: tuple[BitWidths, ...]


def allocator(
    curves: RDCurves,
    graph: LayerGraph,
    weight_bits: float,
    activation_bits: float,
    least: Mapping[Kind, int],
    batch: int,
) -> Callable[[Accelerator | None], Allocation]:
    """Allocations at an average width: within the caps of a chip, or, for None, of no chip."""
    fixed = input_widths(graph)

    def choose(accelerator: Accelerator | None) -> Allocation:
        caps = () if accelerator is None else fit_caps(graph, accelerator, batch, fixed, least).caps
        budget = average_budget(curves, graph, weight_bits, activation_bits, least, caps)
        return allocate(curves, budget)

    return choose


def explore(
    graph: LayerGraph,
    accelerator: Accelerator,
    axes: Sequence[Axis],
    designs: Sequence[Design],
    choices: Sequence[Choice],
    batch: int = 1,
    complete: bool = True,
    runner: Runner | None = None,
    progress: Progress | None = None,
) -> Explored:
    """Simulate every design with every choice of widths, and read off what follows.

    complete: whether designs are the full grid; knees, and axes without effect, are told from it
    only. runner: where designs are simulated, and the ledger that keeps them; by default in this
    process, and none. Raises ValueError for a design that no chip can have, and as
    `simulate` and `allocate` do.
    """
    import pandas as pd

    if runner is None:
        runner = Runner(Ledger(None))
    chips = [with_values(accelerator, axes, design) for design in designs]
    frames, knees, fits = [], [], []
    used: list[BitWidths] = []
    for choice in choices:
        extra = unlimited_chips(axes, designs, chips) if complete else []
        every = [*chips, *(chip for _, _, chip in extra)]
        widths, distortion = _widths(choice, every, progress)
        results = _simulate(graph, every, widths, batch, runner, choice.label, progress)
        told, rest = results.iloc[: len(chips)], results.iloc[len(chips) :]
        frame = _frame(graph, axes, designs, chips, choice, widths, distortion, told)
        frames.append(frame)
        used += widths[: len(chips)]
        fits += find_fits(accelerator, axes, chips, choice.label, frame)
        limits = [(axis, others) for axis, others, _ in extra]
        knees += find_knees(axes, frame, choice.label, limits, rest["cycles"].tolist())
    table = pd.concat(frames, ignore_index=True)
    table["pareto"] = mark_fronts(
        table, any(f.path.startswith("array.") for a in axes for f in a.fields)
    )
    idle = idle_axes(table, axes) if complete else ()
    return Explored(
        graph.name,
        accelerator,
        tuple(axes),
        batch,
        table,
        tuple(fits),
        tuple(knees),
        idle,
        tuple(designs),
        tuple(used),
    )


def _widths(
    choice: Choice, chips: Sequence[Accelerator], progress: Progress | None
) -> tuple[list[BitWidths], list[float | None]]:
    """Widths and predicted distortion for every chip; equal ones are one object."""
    if choice.for_chip is None:
        assert choice.bits is not None
        return [choice.bits] * len(chips), [choice.predicted_distortion] * len(chips)
    # caps depend on the memories and on what is stored beside weights, and on nothing else
    keys: list[Hashable] = [(chip.memory, chip.metadata) for chip in chips]
    found: dict[Hashable, tuple[BitWidths, float]] = {}
    equal: dict[str, BitWidths] = {}
    total = len(set(keys))
    for key, chip in zip(keys, chips, strict=True):
        if key not in found:
            allocation = choice.for_chip(chip)
            text = json.dumps(allocation.bits.to_json(), sort_keys=True)
            bits = equal.setdefault(text, allocation.bits)
            found[key] = bits, allocation.predicted_distortion
            if progress is not None:
                progress(f"allocations, {choice.label}", len(found), total)
    return [found[key][0] for key in keys], [found[key][1] for key in keys]


def _simulate(
    graph: LayerGraph,
    chips: Sequence[Accelerator],
    widths: Sequence[BitWidths],
    batch: int,
    runner: Runner,
    label: str,
    progress: Progress | None,
) -> pd.DataFrame:
    """Rows of `ManyStats.to_frame`, and PEs, in the order of the chips."""
    what = f"design points, {label}"
    rows = point_results(what, simulate_rows, graph, chips, widths, batch, runner, progress)
    stats = many_stats(graph, chips, batch, [_point(row) for row in rows])
    return stats.to_frame().assign(pes=stats.pes)


def point_results(
    what: str,
    function: Callable[[LayerGraph, Sequence[Accelerator], BitWidths, int], list[Any]],
    graph: LayerGraph,
    chips: Sequence[Accelerator],
    widths: Sequence[BitWidths],
    batch: int,
    runner: Runner,
    progress: Progress | None = None,
) -> list[Any]:
    """What a function says of every chip with its widths, through the runner and its ledger.

    function: a public one; called with chips that `simulate_alike` takes together and one set of
    widths, gives plain data for each. what: for the progress.
    """
    same = key_of(function.__name__, code_version("hwsim"), graph, batch)
    texts = {id(bits): json.dumps(bits.to_json(), sort_keys=True) for bits in widths}
    bits_keys = {name: key_of(text) for name, text in texts.items()}
    keys = [
        key_of(same, bits_keys[id(bits)], chip) for chip, bits in zip(chips, widths, strict=True)
    ]

    def tasks(missing: list[int]) -> Iterator[Task]:
        for piece in _pieces(chips, widths, missing):
            arguments = graph, [chips[i] for i in piece], widths[piece[0]], batch
            yield Task(tuple(piece), arguments)

    def show(done: int, of: int) -> None:
        if progress is not None:
            progress(what, done, of)

    return runner.results(keys, function, tasks, show)


def simulate_rows(
    graph: LayerGraph, chips: Sequence[Accelerator], bits: BitWidths, batch: int
) -> list[list[Any]]:
    """`simulate_alike` as rows for the ledger: the fields of `PointStats` but the layers."""
    return [
        [*(getattr(point, name) for name in _COLUMNS), list(point.required_bits.items())]
        for point in simulate_alike(graph, chips, bits, batch)
    ]


_COLUMNS = ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits", "energy_pj",
            "residency_gap_bits")  # fmt: skip


def _point(row: Sequence[Any]) -> PointStats:
    return PointStats(**dict(zip(_COLUMNS, row, strict=False)), required_bits=dict(row[-1]))


def _pieces(
    chips: Sequence[Accelerator], widths: Sequence[BitWidths], positions: Sequence[int]
) -> Iterator[list[int]]:
    """Positions to simulate in one task: of equal widths, and chips that share work."""
    by_widths: dict[int, list[int]] = {}
    for i in positions:
        by_widths.setdefault(id(widths[i]), []).append(i)
    for members in by_widths.values():
        for group in alike([chips[i] for i in members]):
            for start in range(0, len(group), POINTS_A_TASK):
                yield [members[i] for i in group[start : start + POINTS_A_TASK]]


def _frame(
    graph: LayerGraph,
    axes: Sequence[Axis],
    designs: Sequence[Design],
    chips: Sequence[Accelerator],
    choice: Choice,
    widths: Sequence[BitWidths],
    distortion: Sequence[float | None],
    results: pd.DataFrame,
) -> pd.DataFrame:
    import pandas as pd

    averages = {id(bits): bits.average_weight_bits(graph) for bits in widths}
    frame = pd.DataFrame(
        {
            "allocation": [choice.label] * len(chips),
            **{axis.name: [d[i] for d in designs] for i, axis in enumerate(axes)},
            "weight_bits": [averages[id(bits)] for bits in widths[: len(chips)]],
            "predicted_distortion": [
                np.nan if d is None else d for d in distortion[: len(chips)]
            ],
        }
    )  # fmt: skip
    results = results.drop(columns="accelerator")
    frame = pd.concat([frame, results], axis=1)
    frame["stall_share"] = results["stall_cycles"] / np.maximum(results["cycles"], 1)
    frame["onchip_bits"] = [onchip_bits(chip) for chip in chips]
    needs = {m.name: results[f"{m.name}_required_bits"].tolist() for m in chips[0].memory
             if f"{m.name}_required_bits" in results}  # fmt: skip
    frame["short_of"] = [
        " ".join(m.name for m in chip.memory if m.name in needs and needs[m.name][i] > m.capacity)
        for i, chip in enumerate(chips)
    ]
    return frame
