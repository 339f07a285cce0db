"""ONNX files that cannot be read: one line that names the file, the node and the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import model, saved

from hwsim.frontends import onnx_file, onnx_plan
from hwsim.frontends.onnx import from_onnx
from hwsim.frontends.values import UnsupportedOperation

RNG = np.random.default_rng(0)
node = helper.make_node


def floats(*shape: int) -> np.ndarray:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("nodes", "tensors", "said"),
    [
        (
            [node("CumSum", ["x", "i"], ["y"], "sum")],
            {"i": np.array(1)},
            r"node 'sum' \(CumSum\).*it has no model",
        ),
        (
            [node("Conv", ["x", "w"], ["y"], "c")],
            {"w": floats(8, 3, 3, 3)},
            r"node 'c' \(Conv\): cannot be computed from tensors of shape \(1, 4, 6, 6\), ",
        ),
        ([node("Relu", ["nothing"], ["y"], "r")], {}, "reads 'nothing', which nothing"),
        ([node("Relu", ["x"], ["z"], "r")], {}, "nothing writes output 'y'"),
        ([node("Reshape", ["x", "x"], ["y"], "r")], {}, "its shape depends on the input"),
        (
            [node("ConstantOfShape", ["s"], ["y"], "bomb")],
            {"s": np.array([2**20, 2**20])},
            "its result, a constant, is too large",
        ),
        (
            [node("Range", ["a", "b", "c"], ["y"], "bomb")],
            {"a": np.array(0), "b": np.array(2**40), "c": np.array(1)},
            "is too large",
        ),
        ([node("Transpose", ["x"], ["y"], "t", perm=[0, 1, 2, 9])], {}, r"'t' \(Trans"),
        ([node("ReduceMean", ["x", "a"], ["y"], "m")], {"a": np.array([7])}, "axis 7 of a"),
        ([node("Gather", ["x", "i"], ["y"], "g")], {"i": np.array([9])}, "an index beyond"),
        (
            [
                node("MaxPool", ["x"], ["y", "i"], "p", kernel_shape=[2, 2]),
                node("Relu", ["i"], ["z"]),
            ],
            {},
            "its output 'i' has no model",
        ),
        (
            [node("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], "n", training_mode=1)],
            {"a": floats(4)},
            "statistics of the batch",
        ),
        (
            [node("ConvTranspose", ["x", "w"], ["y"], "up")],
            {"w": floats(4, 8, 2, 2)},
            r"node 'up' \(ConvTranspose\).*it has no model",
        ),
        ([node("NoSuch", ["x"], ["y"], "n")], {}, r"\(NoSuch\).*it has no model"),
        ([node("Relu", ["x"], ["y"], "n", domain="com.example")], {}, "com.example::Relu is not"),
        ([node("If", ["x"], ["y"], "branch")], {}, r"node 'branch' \(If\): control flow"),
    ],
)
def test_what_cannot_be_modelled_names_the_file_the_node_and_the_reason(
    nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "net.onnx", model(nodes, tensors))
    with pytest.raises(ValueError, match=said) as error:
        from_onnx(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_every_cut_of_a_file_is_an_error(tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w"], ["y"], "conv")], {"w": floats(8, 4, 3, 3)})
    content = proto.SerializeToString()
    for length in range(0, len(content), 37):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.onnx"):
            from_onnx(tmp_path / "cut.onnx")
    (tmp_path / "text.onnx").write_text("no network at all")
    with pytest.raises(ValueError, match=r"text\.onnx: not an ONNX file"):
        from_onnx(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"missing\.onnx: cannot read: No such file"):
        from_onnx(tmp_path / "missing.onnx")


def test_a_file_beyond_the_limit_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "net.onnx", model([node("Relu", ["x"], ["y"])]))
    monkeypatch.setattr(onnx_file, "MAX_FILE_BYTES", 10)
    with pytest.raises(ValueError, match="an ONNX file has at most 10"):
        from_onnx(path)


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", ""])
def test_tensors_outside_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w"], ["y"], "conv")], {"w": floats(8, 4, 3, 3)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    with pytest.raises(ValueError, match="expected a file below the ONNX file's folder"):
        from_onnx(saved(tmp_path / "net.onnx", proto))


def test_tensors_must_be_what_they_say(tmp_path: Path) -> None:
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"s": np.array([1, 144])})
    proto.graph.initializer[0].raw_data = b"abc"
    with pytest.raises(ValueError, match=r"net\.onnx: tensor 's': its values cannot be read"):
        from_onnx(saved(tmp_path / "net.onnx", proto))
    proto = model([node("Conv", ["x", "w"], ["y"])], {"w": floats(8, 4, 3, 3)})
    proto.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(ValueError, match="is not that of a tensor of at most"):
        from_onnx(saved(tmp_path / "net.onnx", proto))


def test_opsets_and_inputs_have_limits(tmp_path: Path) -> None:
    relu = [node("Relu", ["x"], ["y"])]
    with pytest.raises(ValueError, match="opset 6; versions 7 to"):
        from_onnx(saved(tmp_path / "old.onnx", model(relu, opset=6)))
    with pytest.raises(ValueError, match=r"input 'x' has shape \(8, 4\)"):
        from_onnx(saved(tmp_path / "batch.onnx", model(relu, inputs={"x": (8, 4)})))
    proto = model(relu)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ValueError, match="input 'x' is of type int64; only networks that read"):
        from_onnx(saved(tmp_path / "ids.onnx", proto))


def test_unsupported_is_said_in_the_same_way_as_for_torch(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", model([node("Det", ["x"], ["y"], "d")]))
    with pytest.raises(UnsupportedOperation):
        from_onnx(path)


def test_a_file_with_more_steps_than_any_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_plan, "MAX_STEPS", 3)
    chain = [node("Neg", [f"n{i}" if i else "x"], [f"n{i + 1}"]) for i in range(5)]
    path = saved(tmp_path / "net.onnx", model(chain, outputs=["n5"]))
    with pytest.raises(ValueError, match="more than 3 operations"):
        from_onnx(path)
