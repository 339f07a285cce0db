"""Lower hulls: the fast form equals the monotone chain, and every slope finds its best point."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quant.allocation.hull import hull_gains, lower_hull, reference_gains

seeds = st.integers(0, 2**32 - 1)


def whole_curves(rng: np.random.Generator, channels: int, top: int) -> np.ndarray:
    """(9, channels) of small whole numbers: not monotone, many ties, some points not allowed."""
    points = rng.integers(0, top, (9, channels)).astype(float)
    points[rng.random((9, channels)) < rng.choice([0, 0.2, 0.7])] = np.inf
    points[rng.integers(0, 9, channels), np.arange(channels)] = 1.0  # one at least is allowed
    return points


@given(seed=seeds, top=st.sampled_from([2, 4, 50, 10**6]))
def test_fast_gains_equal_the_monotone_chain(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    points, values = whole_curves(rng, 12, top), rng.integers(1, 20, 12).astype(float)
    gains = hull_gains(points, values)
    for c in range(12):
        rate = values[c] * np.arange(9)
        np.testing.assert_array_equal(gains[:, c], reference_gains(list(rate), list(points[:, c])))


@given(seed=seeds)
def test_counting_gains_above_a_slope_finds_the_least_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, values = whole_curves(rng, 6, 99), rng.integers(1, 5, 6).astype(float)
    gains = hull_gains(points, values)
    rate = values * np.arange(9)[:, None]
    for slope in [0.0, 0.3, 1.0, 4.0, 30.0]:
        bits = (gains > slope).sum(axis=0)
        cost = points + slope * rate
        chosen = cost[bits, np.arange(6)]
        np.testing.assert_allclose(chosen, cost.min(axis=0), rtol=1e-12)
        # of equal costs, the lowest rate
        assert (bits == np.argmax(cost <= chosen * (1 + 1e-12), axis=0)).all()


@given(seed=seeds)
def test_gains_of_real_numbers_agree_to_rounding_and_never_rise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.lognormal(0, 4, (9, 20)) * 4.0 ** -np.arange(9)[:, None]
    values = rng.integers(1, 5000, 20).astype(float)
    gains = hull_gains(points, values)
    assert (np.diff(gains, axis=0) <= 0).all()
    for c in range(20):
        expected = reference_gains(list(values[c] * np.arange(9)), list(points[:, c]))
        np.testing.assert_allclose(gains[:, c], expected, rtol=1e-9)


def test_channels_beyond_one_block_are_all_done() -> None:
    points = np.tile(np.array([8.0, 4, 3, 3, 3, 3, 3, 3, 3])[:, None], (1, 10_000))
    gains = hull_gains(points, np.full(10_000, 2.0))
    expected = np.array([2.0, 0.5, 0, 0, 0, 0, 0, 0])[:, None]
    assert (gains == expected).all()


def test_a_hull_by_hand() -> None:
    # (0, 10) (1, 9) (2, 2) (3, 4) (4, 0): the point at 1 is above the chord 0-2, the point at 3
    # is above the chord 2-4
    assert lower_hull([0, 1, 2, 3, 4], [10, 9, 2, 4, 0]) == [0, 2, 4]
    assert reference_gains([0, 1, 2, 3, 4], [10, 9, 2, 4, 0]) == [4, 4, 1, 1]


def test_points_that_are_not_allowed_and_points_without_use_are_left_out() -> None:
    inf = float("inf")
    assert lower_hull([0, 1, 2, 3, 4], [inf, 5, inf, 1, 3]) == [1, 3]
    assert reference_gains([0, 1, 2, 3, 4], [inf, 5, inf, 1, 3]) == [inf, 2, 2, 0]
