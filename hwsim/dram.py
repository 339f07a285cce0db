"""A DRAM channel beside the array's clock: bits to bursts to exact time."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from hwsim.accelerator import Dram


@dataclass(frozen=True)
class Link:
    """Time of transfers in integer ticks, so that a busy channel runs at exactly its bandwidth.

    A clock cycle has `ticks_per_cycle` ticks and a burst takes `ticks_per_burst` of them; the
    two are coprime. Rounding each transfer up to cycles would lose bandwidth at every tile.
    """

    burst_bits: int
    ticks_per_burst: int
    ticks_per_cycle: int

    @classmethod
    def of(cls, dram: Dram, clock_hz: int) -> Link:
        """Cycles of a burst are burst * clock / bandwidth, kept as a fraction in lowest terms."""
        numerator, denominator = dram.burst * clock_hz, dram.bandwidth
        common = gcd(numerator, denominator)
        return cls(dram.burst, numerator // common, denominator // common)

    @classmethod
    def infinite(cls, dram: Dram) -> Link:
        """The same channel without transfer time: what remains is not the DRAM's doing."""
        return cls(dram.burst, 0, 1)

    def bursts(self, bits: int) -> int:
        return -(-bits // self.burst_bits)

    def ticks(self, bits: int) -> int:
        """Time of one transfer of `bits`, which starts on a burst boundary."""
        return self.bursts(bits) * self.ticks_per_burst

    def moved_bits(self, bits: int) -> int:
        """What crosses the channel for `bits` of payload: whole bursts."""
        return self.bursts(bits) * self.burst_bits

    def cycle(self, ticks: int) -> int:
        """First cycle boundary at or after a time."""
        return -(-ticks // self.ticks_per_cycle)
