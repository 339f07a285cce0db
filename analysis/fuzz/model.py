"""A fast model beside its reference: how cases are drawn, and what must be equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Model:
    """name: of the model. cases: draws values for `check`, which raises where fast and reference
    differ. share: of all cases that a run tries, relative to the other models."""

    name: str
    cases: SearchStrategy[Any]
    check: Callable[[Any], object]
    share: int = 1


def same(what: str, fast: object, reference: object) -> None:
    """Raises AssertionError, naming `what`, unless both are equal; arrays element by element."""
    if isinstance(reference, np.ndarray):
        equal = np.array_equal(np.asarray(fast), reference)
    else:
        equal = fast == reference
    if not equal:
        raise AssertionError(f"{what}: the fast model says {fast}, the reference {reference}")
