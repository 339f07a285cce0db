"""What a spilled convolution reads, against plain sets of positions."""

from __future__ import annotations

from hypothesis import given

from analysis.fuzz.spill import SpillCase, cases, check


@given(case=cases)
def test_chunk_reads_are_the_values_behind_its_pixels(case: SpillCase) -> None:
    check(case)
