"""Torch modules become layer graphs: edges, fusion, names, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwsim.frontends import models, torch_export
from hwsim.frontends.lowering import UnsupportedOperation
from hwsim.frontends.models import (
    build,
    from_module,
    from_name,
    from_spec,
    image_size_of,
    module_and_shape,
    module_from_name,
)
from hwsim.frontends.torch_export import capture, export, read_program
from hwsim.graph import Conv, Layer, LayerGraph, Linear, Matmul


def reads(layer: Layer) -> list[str]:
    return [tensor.name for tensor in layer.inputs]


def names(graph: LayerGraph) -> list[str]:
    return [layer.name for layer in graph]


# -- whole networks, checked by hand ---------------------------------------------------------------


def test_first_block_of_resnet18_by_hand() -> None:
    graph = from_name("resnet18")
    assert names(graph)[:6] == [
        "input", "conv1", "maxpool", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.add",
    ]  # fmt: skip
    conv1, conv2, add = (graph[f"layer1.0.{name}"] for name in ("conv1", "conv2", "add"))
    assert conv1.fused == ("batch_norm", "relu")
    assert conv2.fused == ("batch_norm",)  # its relu comes after the addition
    assert add.fused == ("relu",)
    assert reads(conv1) == ["maxpool"]
    assert reads(conv2) == ["layer1.0.conv1"]
    assert reads(add) == ["layer1.0.conv2", "maxpool"]
    assert conv1.work == Conv(64, 64, (3, 3), (1, 1), (1, 1), (1, 1), 1, (56, 56), (56, 56))
    assert conv1.params == 64 * 64 * 9 + 2 * 64  # weights, and the batch norm's scale and shift
    assert (conv1.weight, conv1.bias) == ("layer1.0.conv1.weight", None)
    assert conv1.macs == 56 * 56 * 64 * 64 * 9
    assert conv1.output.shape == (1, 64, 56, 56)


def test_a_downsampling_block_of_resnet18_adds_two_convolutions() -> None:
    graph = from_name("resnet18")
    assert reads(graph["layer2.0.downsample.0"]) == ["layer1.1.add"]
    assert reads(graph["layer2.0.add"]) == ["layer2.0.conv2", "layer2.0.downsample.0"]
    assert graph["layer2.0.downsample.0"].fused == ("batch_norm",)


def test_mobilenet_v2_has_52_convolutions_and_a_linear_layer() -> None:
    graph = from_name("mobilenet_v2")
    assert [layer.kind for layer in graph.weighted] == ["conv"] * 52 + ["linear"]
    depthwise = graph["features.2.conv.1.0"]
    assert isinstance(depthwise.work, Conv)
    assert depthwise.work.groups == depthwise.work.in_channels == 96
    assert depthwise.fused == ("batch_norm", "relu6")
    assert depthwise.macs == 56 * 56 * 96 * 9
    assert graph["classifier.1"].work == Linear(1, 1280, 1000)
    assert reads(graph["classifier.1"]) == ["adaptive_avg_pool2d"]
    assert graph["classifier.1"].inputs[0].shape == (1, 1280)  # flattened, dropout gone


def test_attention_is_two_products_and_a_softmax_and_its_linears_have_parameters() -> None:
    encoder = nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, batch_first=True)
    graph = from_module(encoder, (1, 10, 32), "encoder")
    into, scores, weights, context, out = graph.layers[1:6]
    assert (into.weight, into.bias) == ("self_attn.in_proj_weight", "self_attn.in_proj_bias")
    assert (out.weight, out.bias) == ("self_attn.out_proj.weight", "self_attn.out_proj.bias")
    assert into.work == Linear(10, 32, 96)
    assert scores.work == Matmul(groups=4, pixels=10, reduction=8, columns=10)
    assert reads(scores) == [into.name, into.name]
    assert [t.shape for t in scores.inputs] == [(1, 4, 10, 8), (1, 4, 8, 10)]
    assert scores.fused == ("mul",)  # by a number: the scale of attention
    assert weights.kind == "softmax"
    assert context.work == Matmul(groups=4, pixels=10, reduction=10, columns=8)
    assert reads(context) == [weights.name, into.name]
    assert [into.name, out.name] == ["self_attn.in_proj", "self_attn.out_proj"]
    assert graph.params == sum(p.numel() for p in encoder.parameters())
    assert graph["linear1"].fused == ("relu",)
    assert reads(graph["add#2"]) == ["norm1", "linear2"]


def test_position_embedding_and_class_token_are_counted_where_they_join() -> None:
    graph = from_name("vit_b_32")
    token, position = graph["cat"], graph["encoder.add"]
    assert (token.kind, token.params, token.output.shape) == ("concat", 768, (1, 50, 768))
    assert (position.kind, position.params, reads(position)) == ("add", 50 * 768, ["cat"])
    # the convolution's channels are on axis 1; the concat reads them as tokens
    assert graph["conv_proj"].output.channel_axis == 1
    assert token.inputs[0].shape == (1, 49, 768)
    assert token.inputs[0].channel_axis == token.output.channel_axis == 2


# -- one rule at a time ----------------------------------------------------------------------------


class TwoReadersOfOneReLU(nn.Module):
    """One ReLU module serves two convolutions, as in torchvision's BasicBlock."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))))


def test_one_relu_module_is_fused_into_both_its_producers() -> None:
    graph = from_module(TwoReadersOfOneReLU(), (1, 3, 9, 7))
    assert names(graph) == ["input", "conv1", "conv2"]
    assert graph["conv1"].fused == graph["conv2"].fused == ("relu",)


class Branching(nn.Module):
    """The convolution's own output is read twice: nothing may be fused into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + torch.sigmoid(y)


def test_what_two_read_is_left_as_it_is() -> None:
    graph = from_module(Branching(), (1, 3, 4, 4))
    assert names(graph) == ["input", "conv", "bn", "sigmoid", "add"]
    assert graph["conv"].fused == ()
    assert graph["bn"].kind == "normalisation"
    assert graph["bn"].params == 6
    assert reads(graph["add"]) == ["bn", "sigmoid"]


class BranchingAfterDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 3, 1), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.conv(x))
        return torch.relu(y) + y


def test_dropout_vanishes_but_its_readers_still_count() -> None:
    graph = from_module(BranchingAfterDropout(), (1, 3, 4, 4))
    assert names(graph) == ["input", "conv", "relu", "add"]
    assert reads(graph["add"]) == ["relu", "conv"]
    alone = from_module(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(), nn.ReLU()), (1, 3, 4, 4))
    assert names(alone) == ["input", "0"]
    assert alone["0"].fused == ("relu",)


def test_batch_norm_after_an_activation_is_not_folded() -> None:
    graph = from_module(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()), (1, 3, 4, 4)
    )
    assert names(graph) == ["input", "0", "2"]
    assert (graph["0"].fused, graph["2"].fused) == (("relu",), ("relu",))


def test_batch_norm_folds_into_a_linear_layer_only_along_its_outputs() -> None:
    folded = from_module(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), (1, 4))
    assert folded["0"].fused == ("batch_norm",)
    tokens = from_module(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5)), (1, 5, 4))
    assert tokens["0"].fused == ()  # that batch norm scales tokens, not the layer's outputs
    assert tokens["1"].kind == "normalisation"


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_a_module_called_twice_gives_two_layers_and_its_parameters_once() -> None:
    graph = from_module(Twice(), (1, 3, 5, 5))
    assert names(graph) == ["input", "conv", "conv#2"]
    assert graph["conv"].weight == graph["conv#2"].weight == "conv.weight"
    assert (graph["conv"].params, graph["conv#2"].params) == (3 * 27 + 3, 0)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_weights_shared_by_two_modules_are_counted_once_and_keep_both_names() -> None:
    graph = from_module(Tied(), (1, 4))
    assert names(graph) == ["input", "first", "second"]
    assert [graph[n].weight for n in ("first", "second")] == ["first.weight", "second.weight"]
    assert [graph[n].params for n in ("first", "second")] == [16 + 4, 4]


def test_image_geometry_need_not_be_square() -> None:
    conv = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=1)
    (layer,) = from_module(nn.Sequential(conv), (1, 3, 11, 20)).weighted
    assert layer.work == Conv(3, 8, (3, 5), (2, 1), (0, 2), (1, 2), 1, (11, 20), (5, 16))
    assert layer.output.shape == (1, 8, 5, 16)


def test_padding_by_name_and_one_dimensional_convolutions() -> None:
    same = from_module(nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), (1, 3, 8, 6))["0"]
    assert isinstance(same.work, Conv)
    assert same.work.padding == (1, 1)
    flat = from_module(nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=1)), (1, 3, 9))["0"]
    assert flat.work == Conv(3, 4, (1, 3), (1, 2), (0, 1), (1, 1), 1, (1, 9), (1, 5))


class Moves(nn.Module):
    """What moves data is a layer; what changes addresses is not."""

    def forward(self, x: Tensor) -> Tensor:
        rolled = torch.roll(x, 1, dims=2)
        padded = F.pad(rolled, (1, 1))
        viewed = padded.permute(0, 2, 3, 1).reshape(1, -1, 4)[:, 1:].transpose(1, 2)
        return viewed[..., [0, 2]]


def test_data_that_really_moves_is_a_layer_and_a_change_of_address_is_none() -> None:
    graph = from_module(Moves(), (1, 4, 3, 5))
    assert names(graph) == ["input", "roll", "pad", "index"]
    assert {layer.kind for layer in graph.layers[1:]} == {"elementwise"}
    seen = graph["index"].inputs[0]
    assert (seen.name, seen.shape, seen.channel_axis) == ("pad", (1, 4, 20), 1)


class ReadsParts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([a * torch.sigmoid(b), a], dim=1)


def test_a_reader_of_a_part_sees_the_part() -> None:
    graph = from_module(ReadsParts(), (1, 6, 4, 4))
    assert [t.shape for t in graph["mul"].inputs] == [(1, 3, 4, 4), (1, 3, 4, 4)]
    assert reads(graph["mul"]) == ["input", "sigmoid"]
    assert graph["cat"].kind == "concat"


def test_an_adaptive_pool_counts_its_overlapping_windows() -> None:
    pool = from_module(nn.Sequential(nn.AdaptiveAvgPool2d(3)), (1, 2, 8, 6))["0"]
    # 8 rows in 3 windows: 0-3, 2-6, 5-8, so 3 + 4 + 3 rows; 6 columns in 3 windows of 2
    assert pool.work.operations == 2 * (3 + 4 + 3) * (2 + 2 + 2)  # type: ignore[union-attr]
    same = from_module(nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Conv2d(2, 2, 1)), (1, 2, 6, 6))
    assert names(same) == ["input", "1"]  # pooling to the size that is there does nothing


class ByHand(nn.Module):
    """The same product written in the ways that torch allows."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.w, self.b, self.way = nn.Parameter(torch.ones(5, 6)), nn.Parameter(torch.ones(5)), way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "matmul":
            return x @ self.w.t()
        if self.way == "addmm":
            return torch.addmm(self.b, x, self.w.t())
        if self.way == "einsum":
            return torch.einsum("tk,nk->tn", x, self.w)
        return (self.w @ x.t()).t()


@pytest.mark.parametrize("way", ["matmul", "addmm", "einsum", "weight first"])
def test_a_product_with_a_parameter_is_a_linear_layer_however_it_is_written(way: str) -> None:
    traced = capture(ByHand(way), (1, 6))
    (layer,) = traced.graph.weighted
    assert layer.work == Linear(pixels=1, in_features=6, out_features=5)
    assert layer.weight == "w"
    assert layer.bias == ("b" if way == "addmm" else None)
    assert traced.joins[layer.name].weight_axis == 0


class Products(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("bhik,bhjk->bhij", x, x)
        return torch.matmul(y, x)


def test_products_of_activations_count_what_both_operands_share_as_groups() -> None:
    graph = from_module(Products(), (1, 3, 7, 4))
    assert graph["einsum"].work == Matmul(groups=3, pixels=7, reduction=4, columns=7)
    assert graph["matmul"].work == Matmul(groups=3, pixels=7, reduction=7, columns=4)
    assert reads(graph["matmul"]) == ["einsum", "input"]


class ConstantWork(nn.Module):
    """A bias computed from parameters alone, as the position bias of Swin v2."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.table = nn.Linear(2, 4), nn.Parameter(torch.ones(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.mlp(self.table))


def test_what_no_input_reaches_is_computed_once_and_its_parameters_are_counted() -> None:
    graph = from_module(ConstantWork(), (1, 6, 4))
    assert names(graph) == ["input", "add"]
    assert graph["add"].params == 2 * 4 + 4 + 12
    assert graph.macs == 0


# -- errors ----------------------------------------------------------------------------------------


class Cumulative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1)  # the line that the error quotes


def test_an_operation_without_a_model_is_an_error_that_names_it_and_its_line() -> None:
    with pytest.raises(UnsupportedOperation) as error:
        from_module(nn.Sequential(nn.Linear(4, 4), Cumulative()), (1, 4), "net")
    text = str(error.value)
    assert "network 'net': cannot model node 'cumsum' (aten.cumsum.default) in module '1'" in text
    assert "test_frontends.py" in text
    assert "return torch.cumsum(x, 1)  # the line that the error quotes" in text


@pytest.mark.parametrize(
    ("module", "shape", "why"),
    [
        (nn.ConvTranspose2d(3, 4, 3), (1, 3, 8, 8), "conv_transpose2d"),
        (nn.Conv3d(3, 4, 3), (1, 3, 8, 8, 8), "conv3d"),
        (nn.Conv2d(3, 4, 4, padding="same"), (1, 3, 8, 8), "even kernel"),
        (nn.LSTM(4, 4), (1, 5, 4), "lstm"),
    ],
)
def test_layers_outside_the_model_are_errors(
    module: nn.Module, shape: tuple[int, ...], why: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=why):
        from_module(module, shape)


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_neither_way_can_trace_is_one_error_with_both_reasons(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match=r"torch\.export says .*; torch\.fx says .*control flow"):
        from_module(DataDependent(), (1, 3))
    assert capfd.readouterr().err == ""


def test_an_output_that_depends_on_no_input_is_an_error() -> None:
    class Ignoring(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(3)

    with pytest.raises(ValueError, match="no output depends on the network's input"):
        from_module(Ignoring(), (1, 3))


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 2.5), ((1, 3), (1, -1))])
def test_input_shapes_are_positive_integers(shape: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="input shape: expected positive sizes"):
        export(nn.Linear(3, 3), shape)  # type: ignore[arg-type]


# -- the ways in agree -----------------------------------------------------------------------------


def test_meta_and_cpu_modules_give_the_same_graph() -> None:
    on_meta, on_cpu = build("resnet18"), module_from_name("resnet18")
    assert next(on_meta.parameters()).is_meta
    assert not next(on_cpu.parameters()).is_meta
    shape = (1, 3, 64, 64)
    assert from_module(on_meta, shape, "net") == from_module(on_cpu, shape, "net")


def test_the_fx_fallback_gives_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    module, shape = build("resnet18"), (1, 3, 64, 64)
    direct = from_module(module, shape, "net")
    original, refused = torch.export.export, []

    def refuse_modules(module: nn.Module, inputs: tuple[Tensor, ...]) -> object:
        if not isinstance(module, torch.fx.GraphModule):
            refused.append(module)
            raise RuntimeError("refused")
        return original(module, inputs)

    monkeypatch.setattr(torch_export.torch.export, "export", refuse_modules)
    assert from_module(module, shape, "net") == direct
    assert refused == [module]


class Logging(nn.Module):
    """Keeps a copy of an activation, which torch.export cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 4, 3), None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.seen = y.numpy()
        return torch.relu(y)


def test_a_module_that_export_refuses_is_traced_by_fx_and_left_as_it_was() -> None:
    module = Logging().train()
    module.conv.eval()
    with pytest.raises(RuntimeError, match="numpy"):
        torch.export.export(module, (torch.zeros(1, 3, 8, 8),))
    module.seen = None
    graph = from_module(module, (1, 3, 8, 8))
    assert names(graph) == ["input", "conv"]
    assert graph["conv"].fused == ("relu",)
    assert module.seen is None
    assert module.training
    assert not module.conv.training


@pytest.mark.parametrize(
    "name",
    ["vit_b_32"]
    + [
        pytest.param(slow, marks=pytest.mark.slow)
        for slow in (
            "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "swin_t", "swin_v2_t",
            "maxvit_t", "convnext_tiny", "inception_v3", "densenet121", "regnet_y_400mf",
        )
    ],
)  # fmt: skip
def test_node_names_are_the_same_at_every_batch_size(name: str) -> None:
    size = image_size_of(name)
    traced = capture(build(name), (3, 3, size, size), name)
    assert traced.graph == from_name(name)
    nodes = {node.name: node for node in traced.program.graph.nodes}
    for layer in traced.graph:
        assert nodes[layer.node].meta["val"].numel() == 3 * layer.output.values
        if layer.kind != "input":
            assert str(nodes[traced.joins[layer.name].work].target) == layer.op


def test_joins_name_the_nodes_that_work_and_the_batch_norm_between() -> None:
    traced = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (2, 3, 8, 8))
    nodes = {node.name: node for node in traced.program.graph.nodes}
    join = traced.joins["0"]
    assert nodes[join.work].target is torch.ops.aten.conv2d.default
    assert join.batch_norm is not None
    norm = nodes[join.batch_norm]
    assert norm.target is torch.ops.aten._native_batch_norm_legit_no_training.default
    assert norm.args[0] is nodes[join.work]
    assert nodes[join.output].target is torch.ops.aten.relu.default
    assert join.output == traced.graph["0"].node
    assert join.weight_axis == 0


def test_the_program_computes_what_the_module_computes() -> None:
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        ours = capture(module, (3, 5, 16)).program.module()(x)
        torch.testing.assert_close(ours, module(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mask", ["causal", "boolean", "added", "none"])
def test_attention_taken_apart_is_attention(mask: str) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 8)
    added = {"boolean": torch.rand(6, 6) > 0.3, "added": torch.randn(6, 6)}.get(mask)
    options = {"attn_mask": added, "is_causal": mask == "causal", "enable_gqa": True}
    torch.testing.assert_close(
        torch_export._attention(q, k, v, **options),  # type: ignore[arg-type]
        F.scaled_dot_product_attention(q, k, v, **options),  # type: ignore[arg-type]
    )


# -- models by name --------------------------------------------------------------------------------


def test_a_network_without_weights_fills_no_memory_while_it_is_built() -> None:
    with models._weightless():
        module = module_from_name("resnet18")
    assert all(parameter.is_meta for parameter in module.parameters())
    assert not any(parameter.is_meta for parameter in module_from_name("resnet18").parameters())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_heads_come_without_them(name: str) -> None:
    module = build(name)
    assert not [key for key in module.state_dict() if "aux" in key.lower()]
    assert module.transform_input  # what torchvision's weights for them were trained with


def test_names_get_a_did_you_mean() -> None:
    with pytest.raises(
        ValueError, match=r"no model is called 'resnet81'; did you mean .*'resnet18'"
    ):
        from_spec("resnet81")


def tiny() -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 10)), (1, 1, 8, 8)


def test_a_function_of_the_users_own_is_a_model() -> None:
    graph = from_spec("torchvision.models:resnet18", image_size=64)
    assert graph["input"].output.shape == (1, 3, 64, 64)
    assert graph.params == from_name("resnet18").params
    with pytest.raises(ValueError, match="has no function 'resnet81'; did you mean"):
        from_spec("torchvision.models:resnet81")
    with pytest.raises(ValueError, match="cannot import 'nowhere'"):
        from_spec("nowhere:net")
    with pytest.raises(ValueError, match="expected a torch module, or a pair"):
        from_spec("builtins:dict")


def test_a_pair_of_module_and_shape_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from torch import nn\ndef net():\n    return nn.Linear(4, 2), (1, 4)\n"
    (tmp_path / "own_models.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    graph = from_spec("own_models:net")
    assert (graph.name, graph.macs) == ("own_models.net", 8)


def test_an_input_shape_that_nobody_gave_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert module_and_shape("a:b", nn.Identity(), 32)[1] == (1, 3, 32, 32)
    assert module_and_shape("a:b", (nn.Identity(), [1, 1, 8, 8]), 8)[1] == (1, 1, 8, 8)
    assert not caplog.messages
    assert module_and_shape("a:b", nn.Identity())[1] == (1, 3, 224, 224)
    assert "'a:b' does not say what it reads: images of 3 x 224 x 224" in caplog.messages[0]
    with pytest.raises(ValueError, match=r"it reads \(1, 1, 8, 8\); leave out --image-size"):
        module_and_shape("a:b", (nn.Identity(), (1, 1, 8, 8)), 224)


def test_a_saved_program_is_a_model(tmp_path: Path) -> None:
    module, shape = tiny()
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),)), tmp_path / "a.pt2")
    graph = from_spec(str(tmp_path / "a.pt2"))
    assert graph.layers == from_module(module, shape).layers
    batch = torch.export.export(module.eval(), (torch.zeros(2, 1, 8, 8),))
    torch.export.save(batch, tmp_path / "b.pt2")
    with pytest.raises(ValueError, match=r"b\.pt2: input 'input' has shape \(2, 1, 8, 8\)"):
        from_spec(str(tmp_path / "b.pt2"))
    (tmp_path / "c.pt2").write_text("no program")
    with pytest.raises(ValueError, match=r"c\.pt2: not a program that torch\.export\.save wrote"):
        read_program(tmp_path / "c.pt2")


def test_a_size_that_the_network_cannot_take_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"cannot trace AlexNet on an input of shape \(1, 3, 20"):
        from_name("alexnet", image_size=20)
