"""Budget: what an allocation must keep. Cap: a limit on a few tensors together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from typing import Literal

import numpy as np

from quant.curves import WIDTHS

Kind = Literal["weights", "activations"]
KINDS: tuple[Kind, Kind] = ("weights", "activations")
WIDEST = WIDTHS - 1


class InfeasibleBudget(ValueError):
    """No allocation keeps a constraint. All rates in bits.

    constraint: its name. limit_bits: what was asked. smallest_bits, largest_bits: the rates that
    can be reached with the allowed widths; largest_bits is that of the least distortion.
    """

    def __init__(
        self,
        message: str,
        constraint: str,
        limit_bits: float,
        smallest_bits: float,
        largest_bits: float,
    ) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.limit_bits = limit_bits
        self.smallest_bits = smallest_bits
        self.largest_bits = largest_bits


@dataclass(frozen=True)
class Cap:
    """A memory: the bits of its members together are at most limit_bits - overhead_bits.

    name: said in errors and in the list of binding constraints. members: (kind, layer) pairs, for
    example one layer's weights, or the activation tensors that are alive together.
    overhead_bits: taken by what no width changes (scales, psums). Members may be in many caps.
    """

    name: str
    members: tuple[tuple[Kind, str], ...]
    limit_bits: int
    overhead_bits: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple((kind, name) for kind, name in self.members))
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError(f"cap {self.name!r}: needs members, each once, got {self.members}")
        for kind, _ in self.members:
            if kind not in KINDS:
                raise ValueError(
                    f"cap {self.name!r}: a member is ('weights', layer) or ('activations', "
                    f"layer), got kind {kind!r}"
                )
        for name in ("limit_bits", "overhead_bits"):
            bits = getattr(self, name)
            if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or bits < 0:
                raise ValueError(
                    f"cap {self.name!r}: {name} must be an integer of at least 0, got {bits!r}"
                )


def _widths(name: str, widths: Iterable[int], lowest: int) -> tuple[int, ...]:
    got = tuple(widths)
    whole = all(isinstance(b, int | np.integer) and not isinstance(b, bool) for b in got)
    if not got or not whole or min(got) < lowest or max(got) > WIDEST:
        raise ValueError(
            f"budget: {name} must be integers in {lowest}..{WIDEST}, at least one, got {got}"
        )
    return tuple(sorted({int(b) for b in got}))


@dataclass(frozen=True)
class Budget:
    """Limits on rate, all optional and all kept together; without any, the least distortion.

    weight_bits, activation_bits: average bits a value, over all that have a curve.
    weight_total_bits, activation_total_bits: bits of all weights; of all activation tensors for
    one image. total_bits: one limit on weights plus activation_rate times activations, where
    activation_rate is what a bit of activations costs beside a bit of weights.
    caps: limits on a few tensors each.
    weight_widths, activation_widths: the widths that may be chosen, e.g. (2, 4, 8) or range(2, 9).
    fixed: {(kind, layer): width}, or an array of widths, one a channel, for weights.
    metadata_bits: bits kept beside each channel, dropped or not (scale, width code, bias), as
    packed files and accelerators count them. They count in weight_total_bits and total_bits, not
    in averages, which are of the weights alone, nor in caps, which have an overhead of their own.
    Raises ValueError for limits that are not positive numbers and widths outside 0..8 (1..8 for
    activations).
    """

    weight_bits: float | None = None
    activation_bits: float | None = None
    weight_total_bits: float | None = None
    activation_total_bits: float | None = None
    total_bits: float | None = None
    activation_rate: float = 1.0
    caps: tuple[Cap, ...] = ()
    weight_widths: tuple[int, ...] = tuple(range(WIDTHS))
    activation_widths: tuple[int, ...] = tuple(range(1, WIDTHS))
    fixed: Mapping[tuple[Kind, str], int | np.ndarray] = field(default_factory=dict)
    metadata_bits: int = 0

    def __post_init__(self) -> None:
        for name in (
            "weight_bits", "activation_bits", "weight_total_bits", "activation_total_bits",
            "total_bits", "activation_rate",
        ):  # fmt: skip
            limit = getattr(self, name)
            number = isinstance(limit, int | float | np.number) and not isinstance(limit, bool)
            if limit is not None and not (number and isfinite(limit) and limit >= 0):
                raise ValueError(f"budget: {name} must be a number of at least 0, got {limit!r}")
        if not self.activation_rate:
            raise ValueError("budget: activation_rate must be above 0; give no limit instead")
        if isinstance(self.metadata_bits, bool) or not (
            isinstance(self.metadata_bits, int | np.integer) and self.metadata_bits >= 0
        ):
            raise ValueError(
                f"budget: metadata_bits must be an integer of at least 0, "
                f"got {self.metadata_bits!r}"
            )
        object.__setattr__(self, "caps", tuple(self.caps))
        names = [cap.name for cap in self.caps]
        for name in names:
            if names.count(name) > 1 or name in (*KINDS, "total"):
                raise ValueError(f"budget: a cap needs a name of its own, got {name!r}")
        object.__setattr__(self, "weight_widths", _widths("weight_widths", self.weight_widths, 0))
        object.__setattr__(
            self, "activation_widths", _widths("activation_widths", self.activation_widths, 1)
        )
        object.__setattr__(self, "fixed", dict(self.fixed))

    def limit_bits(self, kind: Kind, values: int, metadata: int = 0) -> float | None:
        """The limit on all weights, or all activations, of `values` values and the metadata beside
        them; None if there is none.

        An average is taken at its decimal value, so that 2.9 bits of 10 values are 29 bits.
        """
        average, total = (
            (self.weight_bits, self.weight_total_bits)
            if kind == "weights"
            else (self.activation_bits, self.activation_total_bits)
        )
        limits = [] if total is None else [float(total)]
        if average is not None:
            limits.append(float(Fraction(str(average)) * values // 1) + metadata)
        return min(limits) if limits else None
