"""simulate_many: one network on many accelerators, each result exactly that of `simulate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray, SystolicArray
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.simulator import simulate
from hwsim.stats import NetworkStats
from hwsim.systolic.many import LayerPoint, PointStats, groups, simulate_group

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ManyStats:
    """One entry per design point, in the order in which they were given.

    Columns are (points,) arrays for the whole batch, as in `NetworkStats`: integers, energy_pj
    real, fits_on_chip bool. required_bits: {memory: (points,) bits that the neediest layer needs
    there}, 0 where a point has no such memory. layers: of each point what its layers cost, in
    execution order; empty unless asked for.
    """

    network: str
    batch: int
    macs: int
    accelerators: tuple[Accelerator, ...]
    clock_hz: np.ndarray
    pes: np.ndarray
    cycles: np.ndarray
    compute_cycles: np.ndarray
    stall_cycles: np.ndarray
    dram_read_bits: np.ndarray
    dram_write_bits: np.ndarray
    energy_pj: np.ndarray
    fits_on_chip: np.ndarray
    residency_gap_bits: np.ndarray
    required_bits: dict[str, np.ndarray]
    layers: tuple[tuple[LayerPoint, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.accelerators)

    @property
    def seconds(self) -> np.ndarray:
        """Time for the whole batch."""
        return self.cycles / self.clock_hz

    @property
    def utilisation(self) -> np.ndarray:
        return self.macs / (self.pes * np.maximum(self.cycles, 1)) * (self.cycles > 0)

    def to_frame(self) -> pd.DataFrame:
        """One row per design point."""
        import pandas as pd

        columns = {
            "accelerator": [accelerator.name for accelerator in self.accelerators],
            "cycles": self.cycles,
            "seconds": self.seconds,
            "compute_cycles": self.compute_cycles,
            "stall_cycles": self.stall_cycles,
            "utilisation": self.utilisation,
            "dram_read_bits": self.dram_read_bits,
            "dram_write_bits": self.dram_write_bits,
            "energy_pj": self.energy_pj,
            "fits_on_chip": self.fits_on_chip,
            "residency_gap_bits": self.residency_gap_bits,
            **{f"{name}_required_bits": bits for name, bits in self.required_bits.items()},
        }
        return pd.DataFrame(columns)


def simulate_many(
    graph: LayerGraph,
    accelerators: Sequence[Accelerator],
    bits: BitWidths,
    batch: int = 1,
    workers: int = 1,
    per_layer: bool = False,
) -> ManyStats:
    """Totals of a network on each accelerator; equal to those of `simulate` on it alone.

    Systolic arrays share their work: points with the same array, width rule and metadata cut the
    layers once, and points that besides keep the same tensors are timed together, over all
    clocks and bandwidths at once (`systolic/many.py`). Row-stationary arrays are simulated one by
    one, equal ones once; layers that were searched before are remembered across points, as in
    `simulate`. workers: processes that share the groups (joblib); starting them takes about a
    second. Raises ValueError as `simulate` does, and for no accelerators.
    """
    if not accelerators:
        raise ValueError("simulate_many needs at least one accelerator, got none")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    points: list[PointStats | None] = [None] * len(accelerators)
    jobs = alike(accelerators)
    tasks = [(graph, [accelerators[i] for i in job], bits, batch, per_layer) for job in jobs]
    if workers == 1 or len(tasks) == 1:
        results = [simulate_alike(*task) for task in tasks]
    else:
        import joblib

        call = joblib.delayed(simulate_alike)
        results = joblib.Parallel(workers, batch_size=1)(call(*task) for task in tasks)
    for job, result in zip(jobs, results, strict=True):
        for i, point in zip(job, result, strict=True):
            points[i] = point
    found = [point for point in points if point is not None]
    return many_stats(graph, accelerators, batch, found, per_layer)


def alike(accelerators: Sequence[Accelerator]) -> list[list[int]]:
    """Positions of accelerators that `simulate_alike` takes together: systolic arrays that cut
    layers alike, then equal row-stationary chips."""
    systolic = [i for i, a in enumerate(accelerators) if isinstance(a.array, SystolicArray)]
    jobs = [[systolic[i] for i in group] for group in groups([accelerators[i] for i in systolic])]
    equal: dict[Accelerator, list[int]] = {}
    for i, accelerator in enumerate(accelerators):
        if isinstance(accelerator.array, RowStationaryArray):
            equal.setdefault(accelerator, []).append(i)
    return [*jobs, *equal.values()]


def simulate_alike(
    graph: LayerGraph,
    accelerators: Sequence[Accelerator],
    bits: BitWidths,
    batch: int,
    per_layer: bool = False,
) -> list[PointStats]:
    """Results of the accelerators of one of `alike`, or of some of them, in their order."""
    if isinstance(accelerators[0].array, RowStationaryArray):
        found = _totals(simulate(graph, accelerators[0], bits, batch), per_layer)
        return [found] * len(accelerators)
    return simulate_group(graph, accelerators, bits, batch, per_layer)


def _totals(stats: NetworkStats, per_layer: bool) -> PointStats:
    names = stats.layers[0].required_bits
    return PointStats(
        cycles=stats.cycles,
        stall_cycles=stats.stall_cycles,
        dram_read_bits=stats.dram_read_bits,
        dram_write_bits=stats.dram_write_bits,
        energy_pj=stats.energy_pj,
        required_bits={n: max(row.required_bits[n] for row in stats.layers) for n in names},
        residency_gap_bits=stats.residency_gap_bits,
        layers=tuple(LayerPoint.of(row) for row in stats.layers if per_layer),
    )


def many_stats(
    graph: LayerGraph,
    accelerators: Sequence[Accelerator],
    batch: int,
    points: Sequence[PointStats],
    per_layer: bool = False,
) -> ManyStats:
    """The table of points simulated before, one for each accelerator, in their order."""

    def column(name: str) -> np.ndarray:
        return np.array([getattr(point, name) for point in points])

    fits = [
        all(point.required_bits.get(m.name, 0) <= m.capacity for m in accelerator.memory)
        for accelerator, point in zip(accelerators, points, strict=True)
    ]
    memories = list(dict.fromkeys(name for point in points for name in point.required_bits))
    return ManyStats(
        network=graph.name,
        batch=batch,
        macs=graph.macs * batch,
        accelerators=tuple(accelerators),
        clock_hz=np.array([accelerator.clock for accelerator in accelerators]),
        pes=np.array([accelerator.array.pes for accelerator in accelerators]),
        cycles=column("cycles"),
        compute_cycles=column("cycles") - column("stall_cycles"),
        stall_cycles=column("stall_cycles"),
        dram_read_bits=column("dram_read_bits"),
        dram_write_bits=column("dram_write_bits"),
        energy_pj=column("energy_pj"),
        fits_on_chip=np.array(fits),
        residency_gap_bits=column("residency_gap_bits"),
        required_bits={
            name: np.array([point.required_bits.get(name, 0) for point in points])
            for name in memories
        },
        layers=tuple(point.layers for point in points) if per_layer else (),
    )
