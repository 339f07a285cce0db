"""Exported networks: what other runtimes compute from the file is what the network computes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from nets import digits_network, torchvision_network

from hwsim.bits import BitWidths
from quant import digits
from quant.apply import QuantizedNetwork, quantize
from quant.export.check import check_export
from quant.export.described import DESCRIPTION, description
from quant.export.formats import FORMATS, SUFFIXES, save_export
from quant.export.levels import layer_levels
from quant.export.native import load_native

IMAGES = digits.test().take(slice(0, 24))


@cache
def mixed() -> QuantizedNetwork:
    """Channels of 0 to 8 bits and tensors of 4 to 8 bits: every container and every clipping."""
    network, rng = digits_network(), np.random.default_rng(1)
    weights = {la.name: rng.integers(0, 9, la.out_channels) for la in network.graph.weighted}
    tensors = {layer.name: np.array(int(rng.integers(4, 9))) for layer in network.graph}
    return quantize(network, BitWidths(weights, tensors), digits.train_images().take(slice(0, 32)))


@cache
def plain(weight_bits: int, activation_bits: int) -> QuantizedNetwork:
    images = digits.train_images().take(slice(0, 32))
    return quantize(digits_network(), BitWidths(weight_bits, activation_bits), images)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """{format: file} of the mixed network, written when first asked for."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def written(format):
        path = folder / f"{format}{SUFFIXES[format]}"
        save_export(path, mixed(), format)
        return path

    return written


def _images(count):
    return next(IMAGES.take(slice(0, count)).batches(count))[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_second_runtime_computes_the_logits_of_the_network(exported, format):
    path = exported(format)
    found = check_export(path, format, mixed(), _images(4 if format == "qonnx" else 24))
    # sums of floats in another order may move a logit by one of its steps
    assert found.max_difference <= mixed().activations["classifier"].step * 1.001
    assert found.equal >= 0.95
    assert found.agreement == 1.0
    assert found.largest > 1
    weights = mixed().bits.weight_bits(mixed().network.graph)
    assert (found.weight_bits, found.file_bytes) == (weights, path.stat().st_size)


def test_tensors_and_channels_of_more_than_8_bits_take_wider_containers(tmp_path):
    quantized = plain(11, 12)
    save_export(tmp_path / "wide.onnx", quantized, "packed-onnx")
    found = check_export(tmp_path / "wide.onnx", "packed-onnx", quantized, _images(8))
    assert found.max_difference <= quantized.activations["classifier"].step * 1.001
    assert found.agreement == 1.0


def test_channels_of_a_tensor_may_have_quantisers_of_their_own(tmp_path):
    network = digits_network()
    tensors = {layer.name: np.array(8) for layer in network.graph}
    tensors["stem"] = np.arange(network.graph["stem"].out_channels) % 5 + 4
    quantized = quantize(network, BitWidths(4, tensors), digits.train_images().take(slice(0, 32)))
    save_export(tmp_path / "network.onnx", quantized, "qdq")
    found = check_export(tmp_path / "network.onnx", "qdq", quantized, _images(8))
    assert found.max_difference <= quantized.activations["classifier"].step * 1.001
    with pytest.raises(ValueError, match="channels of 4, 5, 6, 7, 8 bits"):
        save_export(tmp_path / "network.qonnx", quantized, "qonnx")


def test_integer_kernels_keep_the_classes_at_eight_bits(tmp_path):
    quantized = plain(8, 8)
    save_export(tmp_path / "network.onnx", quantized, "qdq")
    found = check_export(tmp_path / "network.onnx", "qdq", quantized, _images(24), True)
    assert found.agreement == 1.0
    assert found.max_difference <= 3 * quantized.activations["classifier"].step
    assert "integer kernels" in found.runtime


def test_native_arrays_read_back_bit_for_bit(exported, tmp_path):
    again = load_native(exported("native"), digits_network())
    for name, (weight, bias) in mixed().parameters.items():
        assert torch.equal(again.parameters[name][0], weight)
        assert torch.equal(again.parameters[name][1], bias)
    assert again.activations == mixed().activations
    assert description(again) == description(mixed())
    save_export(tmp_path / "again", again, "native")
    assert (tmp_path / "again").read_bytes() == exported("native").read_bytes()


def test_packed_weights_take_the_bytes_of_their_containers_and_no_more(exported):
    import onnx

    model = onnx.load(exported("packed-onnx"))
    held = {t.name: len(t.raw_data) for t in model.graph.initializer}
    for name in mixed().network.layers:
        layer = layer_levels(mixed(), name)
        holds = np.array([{0: 0, 1: 2, 2: 2, 3: 4, 4: 4}.get(int(w), 8) for w in layer.width])
        for bits in (2, 4, 8):
            values = int((holds == bits).sum()) * layer.levels.shape[1]
            assert held.get(f"{name}.levels{bits}", 0) == -(-values * bits // 8)


@pytest.mark.parametrize("format", ["qdq", "packed-onnx", "qonnx"])
def test_onnx_files_say_their_widths_and_claims(exported, format):
    import onnx

    model, graph = onnx.load(exported(format)), digits_network().graph
    said = json.loads({p.key: p.value for p in model.metadata_props}[DESCRIPTION])
    assert said["widths"]["stem"] == mixed().bits.weight(graph["stem"]).tolist()
    assert said["activations"]["stem"][0] == mixed().activations["stem"].bits
    assert said["weight_bits"] == mixed().bits.weight_bits(graph)
    if format != "qonnx":
        onnx.checker.check_model(model, full_check=True)


def test_qonnx_has_one_quant_node_for_each_width_of_a_layer(exported):
    import onnx

    model = onnx.load(exported("qonnx"))
    names = [n.input[0] for n in model.graph.node if "Quant" in n.op_type]
    for layer in digits_network().graph.weighted:
        widths = set(mixed().bits.weight(layer).tolist()) - {0}
        own = [n for n in names if n.startswith(f"{layer.name}.values")]
        assert sorted(own) == sorted(f"{layer.name}.values{width}" for width in widths)


def test_a_torch_program_runs_without_this_project(exported, tmp_path):
    path, images = exported("torch"), _images(3)
    torch.save(images, tmp_path / "images.pt")
    program = (
        "import sys, torch\n"
        "sys.modules['quant'] = sys.modules['hwsim'] = sys.modules['analysis'] = None\n"
        f"images = torch.load({str(tmp_path / 'images.pt')!r})\n"
        f"logits = torch.export.load({str(path)!r}).module()(images)\n"
        f"torch.save(logits.detach(), {str(tmp_path / 'logits.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=tmp_path)
    difference = torch.load(tmp_path / "logits.pt") - mixed()(images)
    assert difference.abs().max() <= mixed().activations["classifier"].step * 1.001


def test_a_program_of_one_batch_size_takes_that_size_alone(exported, tmp_path):
    import onnx

    save_export(tmp_path / "network.onnx", plain(8, 8), "qdq", 3)
    for path, wanted in ((tmp_path / "network.onnx", 3), (exported("qdq"), 0)):
        shape = onnx.load(path).graph.input[0].type.tensor_type.shape
        assert shape.dim[0].dim_value == wanted


def test_weights_that_are_no_levels_are_refused(tmp_path):
    quantized = plain(8, 8)
    weight, bias = quantized.parameters["stem"]
    bent = {**quantized.parameters, "stem": (weight * 1.01, bias)}
    for format in ("native", "qdq", "torch"):
        path = tmp_path / "network"
        with pytest.raises(ValueError, match="'stem' are no values of their quantiser"):
            save_export(path, replace(quantized, parameters=bent), format)
        assert not path.exists()


def test_broken_and_foreign_native_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"network\.safetensors") as caught:
        load_native(path, digits_network())
    assert "\n" not in str(caught.value)
    save_export(path, plain(8, 8), "native")
    with pytest.raises(ValueError, match="does not fit network"):
        load_native(path, torchvision_network("squeezenet1_1"))


def test_an_unknown_format_says_which_there_are(tmp_path):
    with pytest.raises(ValueError, match="packed-onnx"):
        save_export(tmp_path / "x", plain(8, 8), "onnx")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("format", ["native", "qdq", "packed-onnx", "torch"])
def test_trained_networks_keep_their_classes_in_a_second_runtime(data_dir, tmp_path, name, format):
    from quant.images import load_images

    network = torchvision_network(name, data_dir)
    images = load_images(data_dir / "images", (224, 224), split="eval", classes=1000)
    batch = next(images.take(slice(0, 1000, 67)).batches(16))[0]
    rng = np.random.default_rng(0)
    weights = {la.name: rng.integers(3, 7, la.out_channels) for la in network.graph.weighted}
    quantized = quantize(network, BitWidths(weights, 8), batch)
    path = tmp_path / f"network{SUFFIXES[format]}"
    save_export(path, quantized, format)
    found = check_export(path, format, quantized, batch)
    assert found.agreement >= 14 / len(batch)
    # a sum in another order may take a value across the border of two levels, and others after it
    assert found.max_difference <= 0.1 * found.largest
