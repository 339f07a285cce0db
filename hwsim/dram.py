"""A DRAM channel beside the array's clock: bits to bursts to exact time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TypeVar

import numpy as np

from hwsim.accelerator import Dram

Count = TypeVar("Count", int, np.ndarray)


@dataclass(frozen=True)
class Link:
    """Time of transfers in integer ticks, so that a busy channel runs at exactly its bandwidth.

    A clock cycle has `ticks_per_cycle` ticks and a burst takes `ticks_per_burst` of them; between
    the end of a transfer and the begin of one in the other direction lie at least `turnaround`.
    Rounding each transfer up to cycles would lose bandwidth at every tile.
    """

    burst_bits: int
    ticks_per_burst: int
    ticks_per_cycle: int
    turnaround: int = 0

    @classmethod
    def of(cls, dram: Dram, clock_hz: int) -> Link:
        """A burst takes burst * clock / bandwidth cycles; ticks are the coarsest that hold it and
        the turnaround exactly."""
        burst = Fraction(dram.burst * clock_hz, dram.bandwidth)
        turnaround = Fraction(dram.turnaround * clock_hz, 10**12)
        ticks = lcm(burst.denominator, turnaround.denominator)
        return cls(dram.burst, int(burst * ticks), ticks, int(turnaround * ticks))

    @classmethod
    def infinite(cls, dram: Dram) -> Link:
        """The same channel without transfer time: what remains is not the DRAM's doing."""
        return cls(dram.burst, 0, 1)

    def bursts(self, bits: Count) -> Count:
        return -(-bits // self.burst_bits)

    def ticks(self, bits: int) -> int:
        """Time of one transfer of `bits`, which starts on a burst boundary."""
        return self.bursts(bits) * self.ticks_per_burst

    def moved_bits(self, bits: Count) -> Count:
        """What crosses the channel for `bits` of payload: whole bursts."""
        return self.bursts(bits) * self.burst_bits

    def cycle(self, ticks: int) -> int:
        """First cycle boundary at or after a time."""
        return -(-ticks // self.ticks_per_cycle)
