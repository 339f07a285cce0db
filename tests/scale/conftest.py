"""No process outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from processes import end_all


@pytest.fixture(autouse=True)
def _end_processes() -> Iterator[None]:
    yield
    end_all()
