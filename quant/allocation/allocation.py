"""Allocation: bit widths, what they cost, and how far from the best they can be at most."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from hwsim.bits import MAX_FILE_BYTES, BitWidths
from hwsim.files import read_json, write_atomically

SCHEMA = 1


@dataclass(frozen=True)
class Constraint:
    """A limit on rate, as the allocation keeps it.

    name: "weights", "activations", "total" or a cap's. limit_bits, used_bits: in the limit's own
    count. multiplier: distortion that the lower bound would lose per bit more; 0 if it is slack.
    """

    name: str
    limit_bits: float
    used_bits: float
    multiplier: float


@dataclass(frozen=True)
class Allocation:
    """Bit widths with their certificate. Rates in bits, activations for one image.

    weight_slope, activation_slope: distortion per bit at which channels and tensors chose, by the
    budgets alone; a cap that binds adds its multiplier for its members.
    weight_distortion, activation_distortion: predicted by the curves, which add up.
    lower_bound: no widths that keep the same constraints have less predicted distortion.
    metadata_bits: the part of weight_rate_bits that is scales, width codes and biases of all
    channels, where the budget counted them.
    """

    network: str
    bits: BitWidths
    weight_slope: float
    activation_slope: float
    weight_values: int
    weight_rate_bits: float
    weight_distortion: float
    activation_values: int
    activation_rate_bits: float
    activation_distortion: float
    lower_bound: float
    constraints: tuple[Constraint, ...] = ()
    metadata_bits: float = 0.0

    @property
    def predicted_distortion(self) -> float:
        return self.weight_distortion + self.activation_distortion

    @property
    def relative_gap(self) -> float:
        """(predicted distortion - lower bound) / predicted distortion."""
        distortion = self.predicted_distortion
        return (distortion - self.lower_bound) / distortion if distortion else 0.0

    @property
    def average_weight_bits(self) -> float:
        """Bits a weight, without the metadata beside it."""
        own = self.weight_rate_bits - self.metadata_bits
        return own / self.weight_values if self.weight_values else 0.0

    @property
    def average_activation_bits(self) -> float:
        return self.activation_rate_bits / self.activation_values if self.activation_values else 0.0

    @property
    def binding(self) -> tuple[Constraint, ...]:
        """The constraints whose bits are worth something."""
        return tuple(c for c in self.constraints if c.multiplier > 0)

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name != "bits"}
        plain["constraints"] = [asdict(constraint) for constraint in self.constraints]
        return {"schema": SCHEMA, **plain, "bits": self.bits.to_json()}

    @classmethod
    def from_json(cls, data: object, where: str = "allocation") -> Allocation:
        """Read what `to_json` wrote. Raises ValueError naming `where` for anything else."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA or "bits" not in data:
            raise ValueError(f"{where}: expected an allocation of schema {SCHEMA} with 'bits'")
        fields = {name: value for name, value in data.items() if name != "schema"}
        fields["bits"] = BitWidths.from_json(data["bits"], where=where)
        try:
            fields["constraints"] = tuple(Constraint(**c) for c in data["constraints"])
            allocation = cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: not an allocation: {error}") from None
        rows = [vars(allocation), *map(vars, allocation.constraints)]
        for name, value in ((n, v) for row in rows for n, v in row.items()):
            if name in ("network", "name"):
                if not isinstance(value, str):
                    raise ValueError(f"{where}: {name} must be a text, got {value!r}")
            elif name not in ("bits", "constraints") and not (
                isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < inf
            ):
                raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")
        return allocation

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, whole or not at all; `BitWidths.load` reads its widths as well."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Allocation:
        """Read what `save` wrote. Raises ValueError, in one line with the path, for all else."""
        return cls.from_json(read_json(path, MAX_FILE_BYTES, "allocation"), where=str(path))
