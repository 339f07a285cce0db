"""ONNX files: the same layers as the network that they were made from, the same values, errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_files import distinct, export, model, saved
from torch import Tensor, nn

from hwsim.frontends.models import from_module, image_size_of, module_from_name
from hwsim.frontends.onnx import from_onnx, module_from_onnx
from hwsim.graph import Conv, Layer, LayerGraph, Linear, Matmul

node = helper.make_node


def described(graph: LayerGraph, params: bool = True) -> list[tuple[object, ...]]:
    """Every layer but for where it came from; parameters and folded batch norm if asked for."""

    def fused(layer: Layer) -> tuple[str, ...]:
        return tuple(name for name in layer.fused if params or name != "batch_norm")

    return [
        (layer.name, layer.kind, layer.work, layer.inputs, layer.output, fused(layer),
         layer.params if params else None)
        for layer in graph
    ]  # fmt: skip


@pytest.fixture
def no_fast_path() -> Iterator[None]:
    """Attention as separate operations, as trained networks are exported."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


# -- the same network by two ways ------------------------------------------------------------------

SLOW = (
    "resnet50", "densenet121", "googlenet", "efficientnet_b0", "vit_b_16", "swin_t",
    "convnext_tiny", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
    "regnet_y_400mf", "mnasnet0_5", "inception_v3", "alexnet",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_an_exported_network_has_the_layers_of_the_network(name: str, tmp_path: Path) -> None:
    size = image_size_of(name) if name in SLOW else 64
    shape = (1, 3, size, size)
    module = distinct(module_from_name(name, image_size=size))
    path = export(module, shape, tmp_path / f"{name}.onnx", optimize=False)
    assert described(from_onnx(path)) == described(from_module(module, shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "vit_b_16", "swin_t"])
def test_an_optimised_file_differs_in_its_parameters_alone(name: str, tmp_path: Path) -> None:
    size = image_size_of(name)
    shape = (1, 3, size, size)
    module = distinct(module_from_name(name))
    graph = from_onnx(export(module, shape, tmp_path / "optimised.onnx"))
    plain = from_module(module, shape)
    assert described(graph, params=False) == described(plain, params=False)


def test_a_batch_norm_that_the_exporter_folded_has_left_a_bias(tmp_path: Path) -> None:
    module = distinct(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6()))
    path = tmp_path / "folded.onnx"
    plain = from_onnx(export(module, (1, 3, 8, 8), path, optimize=False))
    folded = from_onnx(export(module, (1, 3, 8, 8), path))
    assert described(folded, params=False) == described(plain, params=False)
    assert plain.params == 3 * 8 * 9 + 2 * 8  # scale and shift
    assert folded.params == 3 * 8 * 9 + 8


@pytest.mark.slow
@pytest.mark.usefixtures("no_fast_path")
@pytest.mark.parametrize(
    ("name", "opset"),
    [("resnet18", 9), ("mobilenet_v3_small", 11), ("vit_b_16", 14), ("convnext_tiny", 13),
     ("swin_t", 16)],
)  # fmt: skip
def test_files_of_the_older_exporter_with_an_open_batch_have_the_same_layers(
    name: str, opset: int, tmp_path: Path
) -> None:
    size = image_size_of(name)
    module = distinct(module_from_name(name))
    path = export(
        module, (1, 3, size, size), tmp_path / "old.onnx", dynamo=False, opset_version=opset,
        input_names=["x"], dynamic_axes={"x": {0: "batch"}},
    )  # fmt: skip
    plain = from_module(module, (1, 3, size, size))
    assert described(from_onnx(path), params=False) == described(plain, params=False)


class Attention(nn.Module):
    """A small vision transformer's block: what exporters write in many nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.block = nn.TransformerEncoderLayer(
            16, 2, 32, activation="gelu", batch_first=True, norm_first=True
        )
        self.gate = nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 16), nn.Hardswish())

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.roll(self.block(tokens), (1, 2), (1, 2))
        return self.gate(tokens[:, 0])


@pytest.mark.usefixtures("no_fast_path")
@pytest.mark.parametrize(
    "options",
    [{"optimize": False}, {}, {"dynamo": False, "opset_version": 16}],
    ids=["plain", "optimised", "older exporter"],
)
def test_patterns_of_exporters_are_put_together_again(
    options: dict[str, object], tmp_path: Path
) -> None:
    module, shape = distinct(Attention()), (1, 3, 16, 16)
    path = export(module, shape, tmp_path / "attention.onnx", **options)
    graph, plain = from_onnx(path), from_module(module, shape)
    kinds = [(layer.kind, layer.work, layer.fused) for layer in graph]
    assert kinds == [(layer.kind, layer.work, layer.fused) for layer in plain]
    assert {"gelu", "silu", "hardswish"} <= {name for layer in graph for name in layer.fused}
    runnable, _ = module_from_onnx(path, weights=True)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(runnable(x), module(x), rtol=1e-4, atol=1e-5)


# -- by hand: layers -------------------------------------------------------------------------------


def read(tmp_path: Path, *arguments: object, **options: object) -> LayerGraph:
    return from_onnx(saved(tmp_path / "net.onnx", model(*arguments, **options)))  # type: ignore[arg-type]


def names(graph: LayerGraph) -> list[str]:
    return [layer.name for layer in graph]


RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def test_a_file_without_shapes_inside_and_without_modules_names_layers_after_nodes(
    tmp_path: Path,
) -> None:
    graph = read(
        tmp_path,
        [
            node("Conv", ["x", "w"], ["a"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Relu", ["a"], ["b"], "act"),
            node("Shape", ["b"], ["s"], "shape"),
            node("Gather", ["s", "zero"], ["n"], "batch"),
            node("Concat", ["n", "rest"], ["target"], "target", axis=0),
            node("Reshape", ["b", "target"], ["flat"], "reshape"),
            node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], "last", transB=1),
        ],
        {
            "w": floats(8, 4, 3, 3), "zero": np.array([0]), "rest": np.array([-1]),
            "fc.weight": floats(5, 72), "fc.bias": floats(5),
        },
    )  # fmt: skip
    assert names(graph) == ["input", "first", "fc"]
    conv, linear = graph.weighted
    assert conv.work == Conv(4, 8, (3, 3), (2, 2), (1, 1), (1, 1), 1, (6, 6), (3, 3))
    assert (conv.fused, conv.weight, conv.params) == (("relu",), "w", 8 * 36)
    assert linear.work == Linear(1, 72, 5)
    assert (linear.weight, linear.bias, linear.params) == ("fc.weight", "fc.bias", 365)
    assert graph.outputs == ("fc",)


def test_weights_need_not_be_there(tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w"], ["y"], "conv")], {"w": floats(8, 4, 3, 3)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    path = saved(tmp_path / "net.onnx", proto)
    assert from_onnx(path).params == 8 * 36
    with pytest.raises(ValueError, match=r"net\.onnx: the values of tensor 'w' are not there"):
        module_from_onnx(path, weights=True)


def test_open_sizes_are_one_image_and_the_image_size_that_is_given(tmp_path: Path) -> None:
    proto = model(
        [node("Conv", ["x", "w"], ["y"], "conv")], {"w": floats(8, 4, 3, 3)},
        inputs={"x": ("batch", 4, "h", "w")},
    )  # fmt: skip
    path = saved(tmp_path / "net.onnx", proto)
    assert from_onnx(path, image_size=10)["input"].output.shape == (1, 4, 10, 10)
    with pytest.raises(ValueError, match=r"shape \(batch, 4, h, w\): axis 2 is left open"):
        from_onnx(path)
    fixed = saved(tmp_path / "fixed.onnx", model([node("Relu", ["x"], ["y"])]))
    with pytest.raises(ValueError, match=r"one size, \(1, 4, 6, 6\); leave out --image-size"):
        from_onnx(fixed, image_size=10)


def test_products_with_constants_are_linear_layers_and_others_are_not(tmp_path: Path) -> None:
    graph = read(
        tmp_path,
        [
            node("MatMul", ["x", "w"], ["a"], "linear"),
            node("Add", ["b", "a"], ["c"], "bias"),
            node("MatMul", ["c", "x"], ["y"], "product"),
        ],
        {"w": floats(6, 6), "b": floats(6)},
    )
    linear, product = graph.layers[1:]
    assert (linear.work, linear.params, linear.bias) == (Linear(24, 6, 6), 42, "b")
    assert product.work == Matmul(groups=4, pixels=6, reduction=6, columns=6)


def test_one_factor_of_both_operands_is_a_factor_of_the_product(tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "half"], ["q"], "q"),
        node("Div", ["x", "two"], ["k"], "k"),
        node("MatMul", ["q", "k"], ["y"], "scores"),
    ]
    numbers = {"half": np.float32(0.5), "two": np.float32(2)}
    graph = read(tmp_path, nodes, numbers)
    assert names(graph) == ["input", "scores"]
    assert graph["scores"].fused == ("mul",)
    one = read(tmp_path, [nodes[0], node("MatMul", ["q", "x"], ["y"], "scores")], numbers)
    assert names(one) == ["input", "q", "scores"]


def test_padding_that_differs_between_the_sides_is_a_layer(tmp_path: Path) -> None:
    graph = read(
        tmp_path, [node("Conv", ["x", "w"], ["y"], "conv", auto_pad="SAME_UPPER", strides=[2, 2])],
        {"w": floats(8, 4, 3, 3)},
    )  # fmt: skip
    assert [layer.kind for layer in graph] == ["input", "elementwise", "conv"]
    assert graph.layers[1].output.shape == (1, 4, 7, 7)
    assert graph.layers[2].output.shape == (1, 8, 3, 3)


def test_one_tensor_alone_is_not_concatenated(tmp_path: Path) -> None:
    graph = read(tmp_path, [node("Concat", ["x"], ["a"], axis=1), node("Relu", ["a"], ["y"], "r")])
    assert names(graph) == ["input", "r"]

    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(torch.cat([x], 1))

    assert [layer.kind for layer in from_module(One(), (1, 4, 6, 6))] == ["input", "elementwise"]


# -- running them ----------------------------------------------------------------------------------


def test_a_file_made_for_one_image_runs_on_several_if_only_its_shapes_say_one(
    tmp_path: Path,
) -> None:
    module = distinct(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)))
    runnable, _ = module_from_onnx(
        export(module, (1, 3, 8, 8), tmp_path / "one.onnx"), weights=True
    )
    x = torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(runnable(x), module(x))
    token = model(
        [node("Concat", ["token", "x"], ["y"], "join", axis=1)], {"token": floats(1, 2, 6, 6)}
    )
    fixed, _ = module_from_onnx(saved(tmp_path / "token.onnx", token), weights=True)
    with pytest.raises(ValueError, match=r"'join' .* made for one image at a time"):
        fixed.plan_for(2)
