"""What an ONNX file computes, operator by operator, against the standard's reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_files import model, saved

from hwsim.frontends.onnx import from_onnx, module_from_onnx

RNG = np.random.default_rng(0)
node = helper.make_node


def floats(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


M6 = (1, 4, 6, 6)
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "conv with dilation and groups": (
        [node("Conv", ["x", "w", "b"], ["y"], dilations=[2, 1], group=2, pads=[1, 0, 1, 2])],
        {"w": floats(6, 2, 3, 3), "b": floats(6)},
    ),
    "gemm with factors": (
        [
            node("Flatten", ["x"], ["f"], axis=2),
            node("Gemm", ["f", "w", "c"], ["y"], alpha=0.5, beta=2.0, transA=1),
        ],
        {"w": floats(4, 5), "c": floats(36, 5)},
    ),
    "batch norm": (
        [node("BatchNormalization", ["x", "a", "b", "m", "v"], ["y"], epsilon=0.01)],
        {"a": floats(4), "b": floats(4), "m": floats(4), "v": floats(4) ** 2},
    ),
    "layer norm over two axes": (
        [node("LayerNormalization", ["x", "a", "b"], ["y"], axis=-2)],
        {"a": floats(6, 6), "b": floats(6, 6)},
    ),
    "instance and group norm": (
        [
            node("InstanceNormalization", ["x", "a", "b"], ["i"]),
            node("GroupNormalization", ["i", "a2", "b2"], ["y"], num_groups=2),
        ],
        {"a": floats(4), "b": floats(4), "a2": floats(2), "b2": floats(2)},
    ),
    "pools": (
        [
            node("MaxPool", ["x"], ["m"], kernel_shape=[3, 2], pads=[1, 0, 1, 0], strides=[2, 1]),
            node(
                "AveragePool",
                ["x"],
                ["a"],
                kernel_shape=[2, 2],
                pads=[1, 1, 0, 0],
                strides=[2, 1],
                count_include_pad=1,
            ),
            node("GlobalMaxPool", ["m"], ["g"]),
            node("Add", ["g", "a"], ["y"]),
        ],
        {},
    ),
    "reductions": (
        [
            node("ReduceMean", ["x", "axes"], ["a"], keepdims=0),
            node("ReduceL2", ["x", "axes"], ["b"], keepdims=0),
            node("Sub", ["a", "b"], ["c"]),
            node("ReduceMax", ["c", "first"], ["y"]),
        ],
        {"axes": np.array([-1, 2]), "first": np.array([1])},
    ),
    "softmax": ([node("Softmax", ["x"], ["s"], axis=1), node("LogSoftmax", ["s"], ["y"])], {}),
    "activations": (
        [
            node("LeakyRelu", ["x"], ["a"], alpha=0.2),
            node("HardSigmoid", ["a"], ["b"], alpha=0.3),
            node("Elu", ["b"], ["c"], alpha=0.5),
            node("PRelu", ["c", "slope"], ["d"]),
            node("ThresholdedRelu", ["d"], ["e"], alpha=0.1),
            node("Softplus", ["e"], ["y"]),
        ],
        {"slope": floats(4, 1, 1)},
    ),
    "numbers before and after": (
        [
            node("Sub", ["one", "x"], ["a"]),
            node("Div", ["one", "a"], ["b"]),
            node("Pow", ["b", "two"], ["c"]),
            node("Clip", ["c", "low", ""], ["y"]),
        ],
        {"one": np.float32(1.5), "two": np.float32(2), "low": np.float32(0.3)},
    ),
    "several at once": (
        [
            node("Mul", ["x", "w"], ["b"]),
            node("Max", ["x", "b"], ["c"]),
            node("Mean", ["x", "b", "c"], ["d"]),
            node("Where", ["e", "d", "x"], ["y"]),
        ],
        {"w": floats(4, 1, 1), "e": RNG.random((6, 6)) > 0.5},
    ),
    "parts": (
        [
            node("Slice", ["x", "starts", "ends", "axes", "steps"], ["a"]),
            node("Split", ["a"], ["b", "c"], axis=1, num_outputs=2),
            node("Concat", ["c", "b"], ["y"], axis=0),
        ],
        {
            "starts": np.array([5, 1]),
            "ends": np.array([-(2**31), 6]),
            "axes": np.array([3, 2]),
            "steps": np.array([-2, 2]),
        },
    ),
    "sequence": (
        [
            node("SplitToSequence", ["x", "two"], ["s"], axis=2),
            node("SequenceAt", ["s", "last"], ["a"]),
            node("SequenceAt", ["s", "first"], ["b"]),
            node("Sub", ["a", "b"], ["c"]),
            node("MaxPool", ["c"], ["y"], kernel_shape=[1, 1]),
        ],
        {"two": np.array(2), "last": np.array(-1), "first": np.array(0)},
    ),
    "gathered": (
        [
            node("Gather", ["x", "i"], ["a"], axis=2),
            node("Gather", ["a", "run"], ["b"], axis=4),
            node("Gather", ["b", "one"], ["y"], axis=1),
        ],
        {"i": np.array([[0, -1], [3, 3]]), "run": np.array([2, 3, 4]), "one": np.array(-1)},
    ),
    "rolled": (
        [
            node("Slice", ["x", "cut", "end", "two"], ["a"]),
            node("Slice", ["x", "zero", "cut", "two"], ["b"]),
            node("Concat", ["a", "b"], ["y"], axis=2),
        ],
        {"cut": np.array([4]), "end": np.array([99]), "zero": np.array([0]), "two": np.array([2])},
    ),
    "moved": (
        [
            node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
            node("Pad", ["a", "pads", "fill"], ["b"]),
            node("Squeeze", ["b", "zero"], ["c"]),
            node("Unsqueeze", ["c", "axes"], ["d"]),
            node("Expand", ["d", "wide"], ["e"]),
            node("Tile", ["e", "times"], ["y"]),
        ],
        {
            "pads": np.array([0, 1, 0, 2, 0, 0, 1, 0]),
            "fill": np.float32(2),
            "zero": np.array([0]),
            "axes": np.array([0, 2]),
            "wide": np.array([3, 1, 2, 1, 1]),
            "times": np.array([1, 1, 1, 2, 1]),
        },
    ),
    "depth and space": (
        [
            node("DepthToSpace", ["x"], ["a"], blocksize=2),
            node("SpaceToDepth", ["a"], ["b"], blocksize=3),
            node("DepthToSpace", ["x"], ["c"], blocksize=2, mode="CRD"),
            node("Concat", ["a", "c"], ["y"], axis=1),
        ],
        {},
    ),
    "resized": (
        [
            node(
                "Resize",
                ["x", "", "scales"],
                ["a"],
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            ),
            node("Resize", ["a", "", "", "sizes"], ["y"], mode="linear"),
        ],
        {"scales": np.array([1, 1, 2, 1.5], dtype=np.float32), "sizes": np.array([1, 4, 5, 18])},
    ),
    "einsum": ([node("Einsum", ["x", "x"], ["y"], equation="bcij,bckj->bcik")], {}),
    "scattered": (
        [
            node("ConstantOfShape", ["shape"], ["zeros"]),
            node("ScatterND", ["zeros", "at", "new"], ["mask"]),
            node("Add", ["x", "mask"], ["y"]),
        ],
        {"shape": np.array([6, 6]), "at": np.array([[0, 1], [5, 5]]), "new": floats(2)},
    ),
    "gelu by hand": (
        [
            node("Mul", ["x", "root"], ["a"]),
            node("Erf", ["a"], ["b"]),
            node("Add", ["one", "b"], ["c"]),
            node("Mul", ["x", "half"], ["d"]),
            node("Mul", ["d", "c"], ["y"]),
        ],
        {"root": np.float32(0.5**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "hardswish by hand": (
        [
            node("Add", ["x", "three"], ["a"]),
            node("Clip", ["a", "zero", "six"], ["b"]),
            node("Mul", ["x", "b"], ["c"]),
            node("Div", ["c", "six"], ["y"]),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    ),
}
ONE_LAYER = {"gelu by hand": "gelu", "hardswish by hand": "hardswish", "rolled": "roll"}


@pytest.mark.parametrize("case", CASES)
def test_a_file_computes_what_the_standard_says(case: str, tmp_path: Path) -> None:
    nodes, tensors = CASES[case]
    proto = model(nodes, tensors)
    path = saved(tmp_path / "net.onnx", proto)
    x = np.random.default_rng(1).normal(size=M6).astype(np.float32)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    runnable, shapes = module_from_onnx(path, weights=True)
    assert shapes == [M6]
    with torch.no_grad():
        found = runnable(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    graph = from_onnx(path)
    assert len(graph) > 1
    if case in ONE_LAYER:
        assert [layer.op for layer in graph.layers[1:]] == [f"aten.{ONE_LAYER[case]}.default"]


def test_local_response_norm_is_that_of_torch(tmp_path: Path) -> None:
    # onnx 1.23's own reference goes over images where it means channels
    proto = model([helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.5, beta=0.6, bias=2.0)])
    module, _ = module_from_onnx(saved(tmp_path / "net.onnx", proto), weights=True)
    x = torch.randn(M6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(module(x), F.local_response_norm(x, 3, 0.5, 0.6, 2.0))
