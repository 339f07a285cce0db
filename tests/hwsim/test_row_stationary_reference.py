"""The fast row-stationary model against the array that moves real values."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from analysis.fuzz.row_stationary import Case, cases, check


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_cycles_and_traffic_equal_the_array_that_moves_values(case: Case) -> None:
    check(case)
