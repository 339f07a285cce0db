"""LayerStats and NetworkStats: results of a simulation, and how they add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LayerStats:
    """What one layer costs, for the whole batch.

    cycles: from the end of the layer before to the end of this one, so that they add up.
    stall_cycles: the part in which the layer waits for DRAM; the rest is compute_cycles, which
    holds what the array cannot hide even with infinite bandwidth (shift, fill, drain).
    macs: multiply-accumulates of the layer itself, padding of the array not counted.
    onchip_bits: {memory: bits read and written}. required_bits, available_bits: {memory: bits
    that must be there at once, capacity}. energy_parts: {(place, what): pJ}, see `energy.py`; they
    add up to energy_pj. detail: columns of one simulator only.
    """

    name: str
    kind: str
    macs: int
    cycles: int
    stall_cycles: int
    dram_read_bits: int
    dram_write_bits: int
    onchip_bits: Mapping[str, int]
    required_bits: Mapping[str, int]
    available_bits: Mapping[str, int]
    energy_parts: Mapping[tuple[str, str], float]
    detail: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def compute_cycles(self) -> int:
        return self.cycles - self.stall_cycles

    @property
    def dram_bits(self) -> int:
        return self.dram_read_bits + self.dram_write_bits

    @property
    def energy_pj(self) -> float:
        return sum(self.energy_parts.values())

    @property
    def fits_on_chip(self) -> bool:
        return all(bits <= self.available_bits[name] for name, bits in self.required_bits.items())

    def to_row(self, pes: int) -> dict[str, object]:
        """The layer as one flat row; `pes` is the number of PEs that utilisation refers to."""
        return {
            "name": self.name,
            "kind": self.kind,
            "macs": self.macs,
            "cycles": self.cycles,
            "compute_cycles": self.compute_cycles,
            "stall_cycles": self.stall_cycles,
            "utilisation": self.macs / (pes * self.cycles) if self.cycles else 0.0,
            "dram_read_bits": self.dram_read_bits,
            "dram_write_bits": self.dram_write_bits,
            **{f"{name}_bits": bits for name, bits in self.onchip_bits.items()},
            **{f"{name}_required_bits": bits for name, bits in self.required_bits.items()},
            **{f"{name}_available_bits": bits for name, bits in self.available_bits.items()},
            "fits_on_chip": self.fits_on_chip,
            "energy_pj": self.energy_pj,
            **{f"energy_{p}_{what}_pj": pj for (p, what), pj in self.energy_parts.items()},
            **self.detail,
        }


@dataclass(frozen=True)
class NetworkStats:
    """One row per layer; totals are sums of rows, ratios are recomputed from totals.

    residency_gap_bits: 0 where the tensors kept on chip are known to be the best choice; otherwise
    the DRAM bits by which a better one might undercut it, its search having been cut short.
    """

    network: str
    accelerator: str
    batch: int
    clock_hz: int
    pes: int
    layers: tuple[LayerStats, ...]
    residency_gap_bits: int = 0

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def compute_cycles(self) -> int:
        return sum(layer.compute_cycles for layer in self.layers)

    @property
    def stall_cycles(self) -> int:
        return sum(layer.stall_cycles for layer in self.layers)

    @property
    def dram_read_bits(self) -> int:
        return sum(layer.dram_read_bits for layer in self.layers)

    @property
    def dram_write_bits(self) -> int:
        return sum(layer.dram_write_bits for layer in self.layers)

    @property
    def dram_bits(self) -> int:
        return self.dram_read_bits + self.dram_write_bits

    @property
    def energy_pj(self) -> float:
        return sum(layer.energy_pj for layer in self.layers)

    @property
    def energy_parts(self) -> dict[tuple[str, str], float]:
        """Energy by (place, what), summed over the layers."""
        total: dict[tuple[str, str], float] = {}
        for layer in self.layers:
            for part, pj in layer.energy_parts.items():
                total[part] = total.get(part, 0.0) + pj
        return total

    @property
    def seconds(self) -> float:
        """Time for the whole batch."""
        return self.cycles / self.clock_hz

    @property
    def utilisation(self) -> float:
        return self.macs / (self.pes * self.cycles) if self.cycles else 0.0

    @property
    def fits_on_chip(self) -> bool:
        return all(layer.fits_on_chip for layer in self.layers)

    def rows(self) -> list[dict[str, object]]:
        return [layer.to_row(self.pes) for layer in self.layers]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, in execution order."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def to_json(self, bits: object = None) -> dict[str, object]:
        """Totals and layers as plain data; `bits` says what was simulated (a label or widths)."""
        return {
            "model": self.network,
            "accelerator": self.accelerator,
            "batch": self.batch,
            "bits": bits,
            "frequency_hz": self.clock_hz,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "compute_cycles": self.compute_cycles,
            "stall_cycles": self.stall_cycles,
            "macs": self.macs,
            "utilisation": self.utilisation,
            "dram_read_bits": self.dram_read_bits,
            "dram_write_bits": self.dram_write_bits,
            "energy_pj": self.energy_pj,
            "fits_on_chip": self.fits_on_chip,
            "residency_gap_bits": self.residency_gap_bits,
            "layers": self.rows(),
        }
