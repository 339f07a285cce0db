"""BitWidths: forms that are read, mistakes that are named."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import residual

from hwsim.bits import BitWidths

GRAPH = residual(4, 6)


def test_a_pair_an_int_and_a_file_are_read(tmp_path):
    assert BitWidths.parse("W4A8") == BitWidths(4, 8)
    assert BitWidths.parse("5") == BitWidths(5, 5)
    bits = BitWidths({"a": [1, 2, 3, 4], "b": 3}, {"image": 8, "a": 7, "b": 6, "sum": 5})
    bits.save(tmp_path / "bits.json")
    again = BitWidths.parse(str(tmp_path / "bits.json"))
    again.check(GRAPH)
    assert np.array_equal(again.weight(GRAPH["a"]), [1, 2, 3, 4])
    assert np.array_equal(again.weight(GRAPH["b"]), [3, 3, 3, 3])
    assert again.activation_bits(GRAPH["b"]) == 6 * 4 * 6 * 6


def test_totals_weigh_each_channel_by_its_weights():
    bits = BitWidths({"a": [1, 2, 3, 4], "b": 2}, 8)
    assert bits.weight_bits(GRAPH) == (10 + 8) * 36
    assert bits.average_weight_bits(GRAPH) == 18 / 8


@pytest.mark.parametrize(
    ("weights", "activations", "said"),
    [
        ({"a": [1, 2, 3, 4]}, 8, "no weights given for layer 'b'"),
        ({"a": [1, 2], "b": 1}, 8, "weights of layer 'a' must have 4 entries"),
        ({"a": 1, "b": 1, "bb": 1}, 8, "'bb', which network 'residual' does not have; did you"),
        ({"a": 1, "b": 1, "sum": 1}, 8, "given for layer 'sum', which has none; leave it out"),
        (4, {"image": 8}, "no activations given for layer 'a'"),
    ],
)
def test_widths_that_do_not_fit_the_network_are_named(weights, activations, said):
    with pytest.raises(ValueError, match=said):
        BitWidths(weights, activations).check(GRAPH)


@pytest.mark.parametrize("widths", [17, -1, 2.5, {"a": "8"}, {"a": []}, {"a": [[1]]}, [1, 2], None])
def test_widths_that_are_no_widths_are_refused(widths):
    with pytest.raises(ValueError, match="weights"):
        BitWidths(widths, 8)


@pytest.mark.parametrize("text", ["", "W4", "A8W4", "4.5", "-3", "W4A99", "missing.json"])
def test_text_that_names_no_widths_says_what_does(text):
    with pytest.raises(ValueError):
        BitWidths.parse(text)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"weights": 4}', b"\xff\xfe", b"[" * 10**5]
)
def test_files_that_hold_no_widths_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bits.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bits\.json") as caught:
        BitWidths.load(path)
    assert "\n" not in str(caught.value)


def test_widths_are_equal_if_all_of_them_are():
    def widths(last):
        return BitWidths({"a": [3, 4], "b": [2, last]}, {"a": 8, "b": [4, 4]})

    assert widths(5) == widths(5)
    assert hash(widths(5)) == hash(widths(5))
    assert widths(5) != widths(6)
    assert BitWidths(4, 8) == BitWidths(4, 8) != BitWidths(8, 4)
    assert len({BitWidths(4, 8), BitWidths(4, 8), widths(5)}) == 2
