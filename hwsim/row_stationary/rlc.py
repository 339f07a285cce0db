"""Run-length coding of feature maps, as Eyeriss stores them in DRAM.

A pair is a 5-bit run of zeros and the value after it; as many pairs as fit share a 64-bit word
(three of 5 + 16 bits) whose last bit says whether the stream ends (Chen et al., JSSC 52(1), 2017,
Sec. V). A run of 31 zeros is followed by a value even if that is a zero.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

RUN_BITS = 5
LONGEST_RUN = 2**RUN_BITS - 1
CODE_WORD_BITS = 64


def pairs_in_word(level_bits: int) -> int:
    """Pairs of a run and a value that share a word, one bit of it left for the end mark."""
    return (CODE_WORD_BITS - 1) // (RUN_BITS + level_bits)


def encode(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(runs, levels) of a flat integer array; trailing zeros end in a pair whose level is 0."""
    flat = np.asarray(values).ravel()
    runs: list[int] = []
    levels: list[int] = []
    run = 0
    for value in flat.tolist():
        if value == 0 and run < LONGEST_RUN:
            run += 1
        else:
            runs.append(run)
            levels.append(value)
            run = 0
    if run:
        runs.append(run - 1)
        levels.append(0)
    return np.array(runs, dtype=np.int64), np.array(levels, dtype=np.int64)


def decode(runs: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The flat array that `encode` read."""
    values = np.zeros(int(np.sum(runs)) + len(runs), dtype=np.int64)
    values[np.cumsum(runs + 1) - 1] = levels
    return values


def count_pairs(values: np.ndarray) -> int:
    """Number of pairs that `encode` makes, without making them."""
    flat = np.asarray(values).ravel()
    if flat.size == 0:
        return 0
    ends = np.flatnonzero(flat)
    zeros = np.diff(np.concatenate([[-1], ends])) - 1  # before each level
    split = int((zeros // (LONGEST_RUN + 1)).sum())  # each 32 zeros make a pair of their own
    left = flat.size - 1 - (int(ends[-1]) if len(ends) else -1)
    return len(ends) + split - (-left // (LONGEST_RUN + 1))


def coded_bits(values: np.ndarray, level_bits: int) -> int:
    """Bits of a coded feature map, in whole words."""
    return -(-count_pairs(values) // pairs_in_word(level_bits)) * CODE_WORD_BITS


def expected_rate(zero_fraction: float, level_bits: int) -> Fraction:
    """Bits a value when zeros are independent: values behind a pair are 1 + z + ... + z^31."""
    zeros = Fraction(zero_fraction).limit_denominator(10**6)
    values_a_pair = sum((zeros**k for k in range(LONGEST_RUN + 1)), Fraction(0))
    return Fraction(CODE_WORD_BITS, pairs_in_word(level_bits)) / values_a_pair
