"""The packed file: the claimed bits to the byte, the same network back, and no bad file read."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from quant import digits
from quant.apply import quantize
from quant.calibration import calibrate
from quant.codes import METADATA, PackedFile, claimed_bits, load_packed, payload_bytes, save_packed
from quant.network import Network
from quant.quantizer import DeadZoneQuantizer
from tests.quant.nets import digits_network, torchvision_network

KEY = "chipfit_packed_network"


@pytest.fixture(scope="module")
def recipe():
    return calibrate(digits_network(), digits.calibration(32))


def mixed_bits(network, seed, highest=16):
    """Every width of 0..highest at random, and one tensor with a width a channel."""
    rng = np.random.default_rng(seed)
    weights = {
        layer.name: rng.integers(0, highest + 1, layer.out_channels)
        for layer in network.graph.weighted
    }
    weights[network.graph.weighted[0].name][:2] = 0, highest
    tensors = {layer.name: np.array(rng.integers(4, 9)) for layer in network.graph}
    first = network.graph.weighted[0]
    tensors[first.name] = rng.integers(4, 9, first.output.channels)
    return BitWidths(weights, tensors)


def assert_same(first, second, images):
    for name, (weight, bias) in first.parameters.items():
        assert torch.equal(weight, second.parameters[name][0])
        assert torch.equal(bias, second.parameters[name][1])
        assert np.array_equal(first.index(name), second.index(name))
        kept = first.weights[name].bits > 0
        assert torch.equal(first.weights[name].step[kept], second.weights[name].step[kept])
    assert first.activations == second.activations
    assert torch.equal(first(images), second(images))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, recipe):
    """A digits network of mixed widths, its file, and the sizes that saving returned."""
    network = digits_network()
    quantized = quantize(network, mixed_bits(network, 3), recipe)
    path = tmp_path_factory.mktemp("packed") / "digits.safetensors"
    return quantized, path, save_packed(path, quantized, {"seed": 3})


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_widths_of_0_to_16_bits_come_back_bit_for_bit(tmp_path_factory, recipe, seed):
    network = digits_network()
    bits = mixed_bits(network, seed)
    quantized = quantize(network, bits, recipe)
    path = tmp_path_factory.getbasetemp() / "one.safetensors"
    size = save_packed(path, quantized)
    loaded = load_packed(path, network)
    for layer in network.graph.weighted:
        assert np.array_equal(loaded.bits.weight(layer), bits.weight(layer))
    for layer in network.graph:
        channels = layer.output.channels
        assert np.array_equal(
            loaded.bits.activation(layer.name, channels), bits.activation(layer.name, channels)
        )
    assert_same(quantized, loaded, digits.test().tensor(0, 4))
    assert size.payload_bytes == payload_bytes(network.graph, bits)


def test_the_file_has_the_claimed_bits_and_the_stated_header_and_no_byte_more(saved):
    quantized, path, size = saved
    graph = quantized.network.graph
    weight_bits = sum(
        int(quantized.bits.weight(layer).sum()) * layer.weights_per_channel
        for layer in graph.weighted
    )
    channels = sum(layer.out_channels for layer in graph.weighted)
    assert (size.weight_bits, size.metadata_bits) == (weight_bits, channels * (16 + 4 + 32))
    assert claimed_bits(graph, quantized.bits) == (weight_bits, channels * 52)
    assert size.payload_bytes == -(-(weight_bits + 52 * channels) // 8)
    content = path.read_bytes()
    assert size.header_bytes == 8 + int.from_bytes(content[:8], "little")
    assert len(content) == size.payload_bytes + size.header_bytes == size.file_bytes


def test_the_metadata_are_those_that_the_tpu_claims():
    assert load_accelerator("tpu_v1").metadata == METADATA


def test_the_same_network_gives_the_same_bytes_and_a_loaded_one_too(saved, tmp_path):
    quantized, path, _ = saved
    again = tmp_path / "again.safetensors"
    save_packed(again, load_packed(path, quantized.network), {"seed": 3})
    assert again.read_bytes() == path.read_bytes()
    assert PackedFile.read(path).made_by == {"seed": 3}


@pytest.mark.data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_real_networks_at_mixed_widths_have_the_claimed_size_and_the_same_weights(
    name, data_dir, tmp_path
):
    network = torchvision_network(name, data_dir)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 4 - 2
    bits = mixed_bits(network, 0, highest=8)
    quantized = quantize(network, bits, calibrate(network, images))
    path = tmp_path / "net.safetensors"
    size = save_packed(path, quantized)
    assert size.payload_bytes == -(-sum(claimed_bits(network.graph, bits)) // 8)
    assert os.path.getsize(path) == size.payload_bytes + size.header_bytes
    assert_same(quantized, load_packed(path, network), images[:1])


def test_steps_that_half_precision_does_not_hold_are_refused(saved, tmp_path):
    quantized, _, _ = saved
    fine = quantized.weights["classifier"]
    weights = quantized.weights | {"classifier": DeadZoneQuantizer(fine.bits, fine.step * 1.0003)}
    with pytest.raises(ValueError, match=r"layer 'classifier': its steps are no half-precision"):
        save_packed(tmp_path / "x", replace(quantized, weights=weights))


def test_weights_between_the_levels_are_refused(saved, tmp_path):
    quantized, _, _ = saved
    weight, bias = quantized.parameters["classifier"]
    parameters = {**quantized.parameters, "classifier": (weight * 1.01, bias)}
    with pytest.raises(ValueError, match=r"'classifier': its weights are no values"):
        save_packed(tmp_path / "x", replace(quantized, parameters=parameters))
    assert not (tmp_path / "x").exists()


def changed(path, target, tensors=None, header=None):
    """A copy of a packed file with other tensors and other entries of its header."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        stored = json.loads(file.metadata()[KEY])
    save_file({**load_file(path), **(tensors or {})}, target,
              {KEY: json.dumps({**stored, **(header or {})})})  # fmt: skip
    return target


def with_at(array, place, value):
    array = array.copy()
    array[place] = value
    return array


BAD_TENSORS = {  # what: (tensor, its wrong content from the right one, message)
    "NaN scale": ("scales", lambda a: with_at(a, 3, np.nan), "scales hold NaN or infinity"),
    "infinite bias": ("biases", lambda a: with_at(a, 5, np.inf), "biases hold NaN or infinity"),
    "short stream": ("codes", lambda a: a[:-1], "bits need [0-9]+ bytes, the stream has"),
    "long stream": ("codes", lambda a: np.append(a, a[:1]), "bits need [0-9]+ bytes, the stream"),
    "empty stream": ("codes", lambda a: a[:0], "bits need [0-9]+ bytes, the stream has 0"),
    # channels 2 and 3 now say 15 bits
    "other widths": ("codes", lambda a: with_at(a, 1, 0xFF), "bits need [0-9]+ bytes, the stream"),
    "no scales": ("scales", np.zeros_like, "a channel has bits but the scale 0"),
    "fewer scales": ("scales", lambda a: a[1:], r"scales must be float16 of shape \(226,\)"),
    "wide scales": ("scales", lambda a: a.astype(np.float32), "scales must be float16"),
    "another tensor": ("more", lambda a: np.zeros(1), "not of a packed network"),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_a_file_with_wrong_tensors_is_one_clear_error(saved, tmp_path, what):
    quantized, path, _ = saved
    name, wrong, message = BAD_TENSORS[what]
    tensors = {name: wrong(load_file(path).get(name))}
    bad = changed(path, tmp_path / "bad.safetensors", tensors)
    with pytest.raises(ValueError, match=message) as error:
        load_packed(bad, quantized.network)
    assert str(error.value).startswith(str(bad))
    assert "\n" not in str(error.value)


BAD_HEADERS = {
    "schema": ({"schema": 2}, "schema 2; this reads 1"),
    "no layers": ({"layers": []}, "gives no layers"),
    "odd layer": ({"layers": [["stem", 24]]}, r"expected \[name, channels, weights a channel\]"),
    "boolean": ({"layers": [["stem", True, 9]]}, r"expected \[name, channels, weights a channel\]"),
    "other layers": (
        {"layers": [["stem", 226, 9]]},
        "not fit 'digits': the file has no layer",
    ),
    "no activations": ({"activations": {}}, r"activations of 'input': expected \[bits, step"),
    "unknown tensor": ({"activations": {"steam": [8, 1.0, 0]}}, "'steam', which network 'digits'"),
    "activations": ({"activations": []}, "gives no activations"),
}


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_a_file_with_a_wrong_header_is_one_clear_error(saved, tmp_path, what):
    quantized, path, _ = saved
    header, message = BAD_HEADERS[what]
    bad = changed(path, tmp_path / "bad.safetensors", header=header)
    with pytest.raises(ValueError, match=message) as error:
        load_packed(bad, quantized.network)
    assert "\n" not in str(error.value)


BAD_QUANTIZERS = (
    [8, float("nan"), 0], [8, 0.0, 0], [8, -1.0, 0], [17, 1.0, 0], [8, 1.0, 256], [8, 1.0], "8",
    None, [[8, 1.0, 0]] * 2,
)  # fmt: skip


@pytest.mark.parametrize("plain", BAD_QUANTIZERS)
def test_a_wrong_activation_quantiser_is_one_clear_error(saved, tmp_path, plain):
    quantized, path, _ = saved
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        activations = json.loads(file.metadata()[KEY])["activations"]
    header = {"activations": activations | {"depthwise": plain}}
    bad = changed(path, tmp_path / "bad.safetensors", header=header)
    with pytest.raises(ValueError, match="activations of 'depthwise': expected"):
        load_packed(bad, quantized.network)


def test_other_files_are_refused(saved, tmp_path):
    quantized, path, _ = saved
    network = quantized.network
    with pytest.raises(ValueError, match="a safetensors file, but not of a packed network"):
        load_packed(digits.WEIGHTS, network)
    with pytest.raises(ValueError, match="cannot read: No such file"):
        load_packed(tmp_path / "none.safetensors", network)
    small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"'digits' does not fit 'small': the file has no layer"):
        load_packed(path, Network(small, (1, 8, 8), "small"))


@given(data=st.data())
def test_a_cut_or_damaged_file_is_one_clear_error_or_a_whole_network(saved, data):
    """No damage may do worse than change numbers that no check can know."""
    quantized, path, _ = saved
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, 2000), min_size=1, max_size=4)):
            content[place] ^= data.draw(st.integers(1, 255))
    bad = path.with_name("damaged.safetensors")
    bad.write_bytes(content)
    message = str(bad)
    try:
        loaded = load_packed(bad, quantized.network)
    except ValueError as error:
        message = str(error)
    else:
        parts = [part for pair in loaded.parameters.values() for part in pair]
        assert all(torch.isfinite(part).all() for part in parts)
    assert str(bad) in message
    assert "\n" not in message
