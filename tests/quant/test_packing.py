"""The packed stream is exactly as long as claimed and gives every index back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.packing import pack, packed_bits, unpack


def slow_pack(index, widths):
    """The same stream from a string of binary digits."""
    digits = "".join(
        format(int(value), f"0{width}b")
        for row, width in zip(index, widths, strict=True)
        if width
        for value in row
    )
    padded = digits + "0" * (-len(digits) % 8)
    return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))


@given(
    widths=st.lists(st.integers(0, 16), min_size=1, max_size=12),
    values=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_unpacking_gives_back_every_index_and_the_size_is_the_claimed_rate(widths, values, seed):
    rng = np.random.default_rng(seed)
    widths = np.array(widths)
    index = rng.integers(0, (1 << widths)[:, None], (len(widths), values))
    stream = pack(index, widths)
    assert len(stream) == -(-packed_bits(widths, values) // 8)
    assert packed_bits(widths, values) == widths.sum() * values
    assert stream == slow_pack(index, widths)
    assert np.array_equal(unpack(stream, widths, values), index)


def test_three_channels_by_hand():
    # 2 bits: 01 11; 0 bits: nothing; 3 bits: 101 000 -> 0111 1010 00(000000)
    stream = pack(np.array([[1, 3], [0, 0], [5, 0]]), np.array([2, 0, 3]))
    assert stream == bytes([0b01111010, 0b00000000])


def test_an_index_too_large_for_its_width_is_refused():
    with pytest.raises(ValueError, match="index 4 of channel 1 does not fit in 2 bits"):
        pack(np.array([[1], [4]]), np.array([3, 2]))


def test_a_stream_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="6 bits need 1 bytes, the stream has 2"):
        unpack(b"\0\0", np.array([3]), 2)
