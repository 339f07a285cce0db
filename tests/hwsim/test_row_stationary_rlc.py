"""Run-length coding of feature maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.row_stationary.rlc import (
    LONGEST_RUN,
    coded_bits,
    count_pairs,
    decode,
    encode,
    expected_rate,
    pairs_in_word,
)

sparse = st.lists(st.one_of(st.just([0] * 40), st.just([0]), st.lists(st.integers(-9, 9))))


@given(parts=sparse)
def test_decoding_gives_back_what_was_coded(parts: list[list[int]]) -> None:
    values = np.array([value for part in parts for value in part], dtype=np.int64)
    runs, levels = encode(values)
    assert np.array_equal(decode(runs, levels), values)
    assert len(runs) == count_pairs(values)
    assert runs.max(initial=0) <= LONGEST_RUN


def test_three_pairs_of_16_bit_values_share_a_word() -> None:
    assert pairs_in_word(16) == 3
    assert pairs_in_word(11) == 3  # four would fill the word and leave no bit for the end mark
    assert coded_bits(np.array([0, 0, 5, 0, 3, 1]), 16) == 64
    assert coded_bits(np.array([5, 3, 1, 2]), 16) == 128


@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.9, 0.99])
def test_the_expected_rate_is_that_of_independent_zeros(zeros: float) -> None:
    rng = np.random.default_rng(0)
    values = (rng.random(200_000) >= zeros).astype(np.int64)
    assert float(expected_rate(zeros, 16)) == pytest.approx(
        coded_bits(values, 16) / 200_000, rel=0.02
    )


def test_the_coding_is_5_to_10_percent_above_entropy_at_the_chips_sparsities() -> None:
    # JSSC 52(1), 2017, Sec. V, of AlexNet's feature maps; entropy of zeros plus 16 bits a value
    for zeros in (0.725, 0.776, 0.793):
        entropy = -zeros * np.log2(zeros) - (1 - zeros) * np.log2(1 - zeros) + 16 * (1 - zeros)
        assert 1.05 <= float(expected_rate(zeros, 16)) / entropy <= 1.13
