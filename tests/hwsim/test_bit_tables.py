"""Tables of bit widths: what another tool decided, read; what was decided here, written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from graphs import residual
from hypothesis import given
from hypothesis import strategies as st

from hwsim.bit_tables import read_bit_table, write_bit_table
from hwsim.bits import BitWidths

GRAPH = residual(channels=5, size=6)
WEIGHTED = {layer.name: layer.out_channels for layer in GRAPH.weighted}


def _table(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def _same(left, right):
    for layer in GRAPH.weighted:
        assert left.weight(layer).tolist() == right.weight(layer).tolist()
    for layer in GRAPH:
        channels = layer.output.channels
        own = left.activation(layer.name, channels)
        assert own.tolist() == right.activation(layer.name, channels).tolist()


@given(seed=st.integers(0, 2**32 - 1), whole=st.booleans(), equal=st.booleans())
def test_a_written_table_reads_back_as_the_same_widths(tmp_path_factory, seed, whole, equal):
    rng = np.random.default_rng(seed)
    weights = {n: rng.integers(0, 9, () if whole else count) for n, count in WEIGHTED.items()}
    tensors = {layer.name: 6 if equal else rng.integers(1, 17) for layer in GRAPH}
    bits = BitWidths(weights, tensors)
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    write_bit_table(bits, GRAPH, path)
    _same(BitWidths.load(path), bits)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_json_table_reads_back_as_the_same_weights(tmp_path, per_channel):
    weights = {
        n: np.arange(count) % 9 if per_channel else np.array(3) for n, count in WEIGHTED.items()
    }
    bits = BitWidths(weights, 8)
    write_bit_table(bits, GRAPH, tmp_path / "table.json")
    assert set(json.loads((tmp_path / "table.json").read_text())) == set(WEIGHTED)
    _same(BitWidths.parse(str(tmp_path / "table.json")), bits)


def test_rows_of_a_layer_and_of_channels_mix_in_any_order(tmp_path):
    first, *others = WEIGHTED
    rows = [f"{first},{c},{c % 9}" for c in reversed(range(WEIGHTED[first]))]
    rows += [f"{name},,4" for name in others]
    bits = BitWidths.parse(str(_table(tmp_path, "Layer, channel, bits\n" + "\n".join(rows))))
    bits.check(GRAPH)
    assert bits.weight(GRAPH[first]).tolist() == [c % 9 for c in range(WEIGHTED[first])]
    assert bits.activations == 8


def test_one_width_of_all_tensors_holds_for_tensors_without_a_row(tmp_path):
    rows = [f"{name},4,6" for name in WEIGHTED]
    bits = read_bit_table(_table(tmp_path, "layer,bits,activation_bits\n" + "\n".join(rows)))
    bits.check(GRAPH)
    assert bits.activations == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layer,bits\na,9\n", r"line 2: bits must be a whole number in 0\.\.8, got '9'"),
        ("layer,bits\na,-1\n", r"in 0\.\.8, got '-1'"),
        ("layer,bits\na,4.5\n", r"got '4\.5'"),
        ("layer,bits,activation_bits\na,4,0\n", r"activation_bits must be .* 1\.\.16"),
        ("layer,bits\na,4\na,4\n", "line 3: layer 'a' has its bits already"),
        ("layer,channel,bits\na,0,4\na,0,4\n", "channel 0 of layer 'a' has its bits already"),
        ("layer,channel,bits\na,0,4\na,2,4\n", "channel 1 is not among them"),
        ("layer,channel,bits\na,0,4\n", "one row, of channel 0"),
        ("layer,channel,bits\na,0,4\na,1,4\na,,4\n", "line 4"),
        ("layer,bits\na\n", "line 2: 1 fields under 2 columns"),
        ("layer,bits\n,4\n", "names no layer"),
        ("layer,bits\na,\n", "bits of 'a' are missing"),
        ("layer,bit\na,4\n", "unknown column 'bit'; did you mean 'bits'"),
        ("layer,channel\na,4\n", "expected the header"),
        ("layer,bits\n", "without rows"),
        ("", "without rows"),
        ("layer,bits,activation_bits\na,4,8\na,4,7\n", "a tensor has one width"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_line(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as caught:
        BitWidths.load(_table(tmp_path, text))
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", [{"a": 9}, {"a": -1}, {"a": []}, {"a": [1, True]}, {"a": 2.5}])
def test_a_mistake_in_a_json_table_names_its_layer(tmp_path, table):
    with pytest.raises(ValueError, match=r"table\.json: bits of layer 'a'"):
        BitWidths.load(_table(tmp_path, json.dumps(table), "table.json"))


def test_a_table_of_another_network_says_which_layer_is_unknown_missing_or_misshapen(tmp_path):
    first, *others = WEIGHTED
    rest = "".join(f"{name},,4\n" for name in others)
    header = "layer,channel,bits\n"
    unknown = read_bit_table(_table(tmp_path, f"{header}{first}x,,4\n{first},,4\n{rest}"))
    with pytest.raises(ValueError, match=f"'{first}x', which .* did you mean '{first}'"):
        unknown.check(GRAPH)
    missing = read_bit_table(_table(tmp_path, header + rest))
    with pytest.raises(ValueError, match=f"no weights given for layer '{first}'"):
        missing.check(GRAPH)
    few = "".join(f"{first},{c},4\n" for c in range(WEIGHTED[first] - 1))
    misshapen = read_bit_table(_table(tmp_path, header + few + rest))
    with pytest.raises(ValueError, match=f"must have {WEIGHTED[first]} entries"):
        misshapen.check(GRAPH)


def test_widths_that_a_table_cannot_say_are_refused(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(ValueError, match=r"0\.\.8 bits"):
        write_bit_table(BitWidths(9, 8), GRAPH, path)
    layer = GRAPH.weighted[0]
    uneven = {other.name: np.array(8) for other in GRAPH} | {
        layer.name: np.arange(layer.out_channels) % 2 + 7
    }
    with pytest.raises(ValueError, match="one width a tensor"):
        write_bit_table(BitWidths(4, uneven), GRAPH, path)
    assert not path.exists()
