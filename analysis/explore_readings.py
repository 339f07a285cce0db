"""What an exploration tells: buffers in which layers fit, knees of bandwidth, Pareto fronts.

All is read off the table of its designs; nothing is simulated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.design_space import Axis, Design, Value, unlimited
from hwsim.accelerator import Accelerator

if TYPE_CHECKING:
    import pandas as pd

KNEE = 0.05  # time that a channel may cost over one without limit: the knee of its bandwidth


@dataclass(frozen=True)
class Knee:
    """The smallest bandwidth tried from which on the whole takes at most KNEE longer than with
    this channel unlimited; None if none does. others: values of the other axes, by name."""

    allocation: str
    field: str
    others: dict[str, Value]
    bandwidth: Value | None
    unlimited_cycles: int


@dataclass(frozen=True)
class Fit:
    """What the neediest layer needs in a memory, over all designs (they may differ where widths
    are allocated for each), and the smallest capacity tried with which every layer fits at every
    design with it; None if none does or the capacity does not vary."""

    allocation: str
    memory: str
    least_bits: int
    most_bits: int
    smallest_bits: int | None
    varied: bool


def find_fits(
    accelerator: Accelerator,
    axes: Sequence[Axis],
    chips: Sequence[Accelerator],
    label: str,
    frame: pd.DataFrame,
) -> list[Fit]:
    """For every memory that varies, or that is to hold layers: what it takes.

    chips, frame: a row of `explore`'s table for each chip. label: of the widths.
    """
    varied = {field.path for axis in axes for field in axis.fields}
    fits = []
    for place, memory in enumerate(accelerator.memory):
        column = f"{memory.name}_required_bits"
        own = f"memory[{memory.name}].capacity" in varied
        if column not in frame or not (own or memory.fit == "layer"):
            continue
        needs = frame[column].to_numpy()
        sizes = np.array([chip.memory[place].capacity for chip in chips])
        short = set(sizes[needs > sizes].tolist())
        tried = sorted(set(sizes.tolist()))
        many = len(tried) > 1
        smallest = next((size for size in tried if many and size not in short), None)
        fits.append(Fit(label, memory.name, int(needs.min()), int(needs.max()), smallest, many))
    return fits


def _others(axes: Sequence[Axis], axis: Axis) -> list[str]:
    return [other.name for other in axes if other is not axis]


def bandwidth_axes(axes: Sequence[Axis]) -> list[Axis]:
    """Those that vary the bandwidth of a channel."""
    return [axis for axis in axes if axis.fields[0].path.endswith(".bandwidth")]


def unlimited_chips(
    axes: Sequence[Axis], designs: Sequence[Design], chips: Sequence[Accelerator]
) -> list[tuple[Axis, tuple[Value, ...], Accelerator]]:
    """For every bandwidth axis and combination of the others: the chip with that axis unlimited."""
    found = []
    for axis in bandwidth_axes(axes):
        place = list(axes).index(axis)
        seen: dict[tuple[Value, ...], Accelerator] = {}
        for design, chip in zip(designs, chips, strict=True):
            others = design[:place] + design[place + 1 :]
            if others not in seen:
                for field in axis.fields:
                    chip = unlimited(chip, field)
                seen[others] = chip
        found += [(axis, others, chip) for others, chip in seen.items()]
    return found


def find_knees(
    axes: Sequence[Axis],
    frame: pd.DataFrame,
    label: str,
    series: Sequence[tuple[Axis, tuple[Value, ...]]],
    unlimited_cycles: Sequence[int],
) -> list[Knee]:
    """A knee for every bandwidth axis and combination of the others.

    frame: rows of one choice of widths, called label. series, unlimited_cycles: of
    `unlimited_chips`, and the cycles of these chips.
    """
    knees = []
    for (axis, others), limit in zip(series, unlimited_cycles, strict=True):
        names = _others(axes, axis)
        here = np.ones(len(frame), dtype=bool)
        for name, value in zip(names, others, strict=True):
            here &= (frame[name] == value).to_numpy()
        rows = frame.loc[here, [axis.name, "cycles"]].sort_values(axis.name)
        found = knee(rows[axis.name].tolist(), rows["cycles"].tolist(), limit)
        named = dict(zip(names, others, strict=True))
        knees.append(Knee(label, axis.name, named, found, int(limit)))
    return knees


def knee(bandwidths: Sequence[Value], cycles: Sequence[int], unlimited_cycles: int) -> Value | None:
    """The smallest of rising bandwidths that, like all above it, costs at most KNEE more cycles
    than an unlimited one; None if the largest costs more."""
    found = None
    for bandwidth, taken in zip(reversed(bandwidths), reversed(cycles), strict=True):
        if taken > (1 + KNEE) * unlimited_cycles:
            break
        found = bandwidth
    return found


def pareto_front(costs: np.ndarray) -> np.ndarray:
    """(points,) bool: no other point is at most as high in every column and lower in one.

    costs: (points, objectives).
    """
    distinct, inverse = np.unique(costs, axis=0, return_inverse=True)  # rows in rising order
    kept = np.zeros(len(distinct), dtype=bool)
    front = np.empty_like(distinct)
    size = 0
    for i, row in enumerate(distinct):  # only an earlier row can be better
        if not np.all(front[:size] <= row, axis=1).any():
            front[size] = row
            size += 1
            kept[i] = True
    return kept[inverse.ravel()]


def mark_fronts(table: pd.DataFrame, with_pes: bool) -> np.ndarray:
    """Of each allocation over time, energy and on-chip bits; over PEs too where arrays differ, and
    over the predicted distortion where widths do."""
    objectives = ["seconds", "energy_pj", "onchip_bits", *(["pes"] if with_pes else [])]
    marked = np.zeros(len(table), dtype=bool)
    for _, rows in table.groupby("allocation", sort=False):
        costs = rows[[*objectives, "predicted_distortion"]].fillna(0.0)
        marked[rows.index] = pareto_front(costs.to_numpy(dtype=float))
    return marked


def idle_axes(table: pd.DataFrame, axes: Sequence[Axis]) -> tuple[str, ...]:
    """Axes along which neither cycles, energy nor traffic ever change."""
    results = ["cycles", "energy_pj", "dram_read_bits", "dram_write_bits"]
    found = []
    for axis in axes:
        if len(axis.values) > 1:
            series = table.groupby(["allocation", *_others(axes, axis)])[results]
            if int(series.nunique().to_numpy().max()) == 1:
                found.append(axis.short)
    return tuple(found)
