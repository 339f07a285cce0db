"""Every reader of what a user hands over, and wrong inputs for it, made from right ones.

A reader answers a wrong input with a ValueError in one place, and with nothing else. An input is
told by its reader's name and a number, so that a failure can be looked at again.
"""

from __future__ import annotations

import argparse
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from analysis.fuzz.mutate import as_json, edited, edited_arrays, edited_tree

Make = Callable[[Random], bytes]


@dataclass(frozen=True)
class Parser:
    """name: of what is read. file: as which it lies there. make: a wrong input (some are right by
    chance). read: what is tried, given the path of a file that holds it."""

    name: str
    file: str
    make: Make
    read: Callable[[Path], object]


class Escaped(AssertionError):
    """Something else than a ValueError came out of a reader."""


def attempt(parser: Parser, number: int, folder: Path) -> bool:
    """Read input `number`; whether it was taken. Raises Escaped for anything but a ValueError."""
    content = parser.make(Random(f"{parser.name} {number}"))
    path = folder / parser.file
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parser.read(path)
    except ValueError:
        return False
    except Exception as error:
        raise Escaped(
            f"{parser.name}, input {number}: {type(error).__name__}: {error}"[:500]
        ) from error
    return True


def _texts(*right: bytes) -> Make:
    return lambda random: edited(random, random.choice(right))


def _trees(*right: Any) -> Make:
    """JSON: mostly another tree, sometimes other bytes."""

    def make(random: Random) -> bytes:
        tree = random.choice(right)
        if random.random() < 0.3:
            return edited(random, json.dumps(tree, indent=1).encode())
        return as_json(edited_tree(random, tree))

    return make


def _archives(arrays: Callable[[], dict[str, np.ndarray]]) -> Make:
    """.npz: other arrays, another JSON in `header`, or other bytes."""

    def make(random: Random) -> bytes:
        right = arrays()
        if "header" in right and random.random() < 0.6:
            tree = json.loads(right["header"].tobytes())
            changed = as_json(edited_tree(random, tree))
            right = {**right, "header": np.frombuffer(changed, dtype=np.uint8)}
        else:
            right = edited_arrays(random, right)
        content = _zipped(right)
        return edited(random, content) if random.random() < 0.3 else content

    return make


def _zipped(arrays: dict[str, np.ndarray]) -> bytes:
    """.npz, the same bytes for the same arrays; numpy.savez puts the time in."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return content.getvalue()


def _safetensors(arrays: Callable[[], dict[str, np.ndarray]], key: str, header: Any) -> Make:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    def make(random: Random) -> bytes:
        tree = edited_tree(random, header) if random.random() < 0.6 else header
        changed = edited_arrays(random, arrays()) if random.random() < 0.4 else arrays()
        contiguous = {name: np.ascontiguousarray(array) for name, array in changed.items()}
        text = as_json(tree).decode("utf-8", "replace")
        try:
            content = save(contiguous, {key: text})
        except (SafetensorError, KeyError):  # a type of number that the format does not have
            content = save(arrays(), {key: text})
        return edited(random, content) if random.random() < 0.3 else content

    return make


def _onnx() -> Make:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def node(*arguments: Any, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(*arguments, **attributes)

    weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w")
    shape = numpy_helper.from_array(np.array([1, -1]), "s")
    graph = helper.make_graph(
        [
            node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Reshape", ["c", "s"], ["d"]),
            node("Softmax", ["d"], ["y"], axis=1),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight, shape],
    )
    right = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    whole = right.SerializeToString()
    operators = (
        "Add",
        "Resize",
        "Range",
        "ConstantOfShape",
        "Tile",
        "Gather",
        "If",
        "Einsum",
        "Pad",
    )

    def make(random: Random) -> bytes:
        if random.random() < 0.3:
            return edited(random, whole)
        model = onnx.ModelProto()
        model.CopyFrom(right)
        for _ in range(random.randint(1, 3)):
            chosen = random.choice(model.graph.node)
            action = random.randrange(7)
            if action == 0:
                chosen.op_type = random.choice(operators)
            elif action == 1 and chosen.attribute:
                attribute = random.choice(chosen.attribute)
                attribute.ints[:] = [random.choice((-1, 0, 1, 5, 2**31, -(2**63)))] * len(
                    attribute.ints
                )
                attribute.i = random.choice((-(2**63), -9, 0, 9))
                attribute.type = random.choice((attribute.type, 1, 2, 3, 4, 7, 8))
            elif action == 2:
                chosen.input[:] = [random.choice(("", "x", "w", "s", "a", "y"))] * random.randint(
                    0, 4
                )
            elif action == 3:
                tensor = random.choice(model.graph.initializer)
                sizes = [
                    random.choice((-1, 0, 1, 4, 2**20, 2**62)) for _ in range(random.randint(0, 5))
                ]
                tensor.dims[:] = sizes
            elif action == 4:
                tensor = random.choice(model.graph.initializer)
                tensor.data_type = random.randint(0, 30)
            elif action == 5:
                tensor = random.choice(model.graph.initializer)
                tensor.raw_data = np.array([random.choice((-2, 0, 7, 2**40))] * 2).tobytes()
            else:
                dim = random.choice(model.graph.input[0].type.tensor_type.shape.dim)
                dim.dim_value = random.choice((-1, 0, 2, 7, 2**24, 2**40))
        return model.SerializeToString()

    return make


def _curve_arrays(compact: bool) -> Callable[[], dict[str, np.ndarray]]:
    from quant.compact import save_compact
    from quant.curves import LayerCurve, RDCurves, TensorCurve

    falling = 4.0 ** -np.arange(9)
    tensor = np.where(np.arange(9) > 0, falling, np.inf)
    curves = RDCurves(
        "net",
        (LayerCurve("a", np.tile(falling, (3, 1)), 9, np.tile(falling, (3, 1)) / 10),
         LayerCurve("b", np.tile(falling, (2, 1)), 4)),
        (TensorCurve("a", tensor, 16), TensorCurve("b", tensor, 8)),
        {"metric": "logits"},
        {"weights/a": np.ones((3, 9))},
    )  # fmt: skip

    @cache
    def stored() -> dict[str, np.ndarray]:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            path = Path(folder) / "right.npz"
            if compact:
                save_compact(curves, path, "here")
            else:
                curves.save(path)
            with np.load(path) as file:
                return {name: file[name] for name in file.files}

    return stored


def _options() -> Callable[[Path], object]:
    """Types of arguments, each of which raises ArgumentTypeError alone."""
    from analysis import options

    kinds = (
        options.positive_int, options.natural, options.batch_size, options.average_bits,
        options.bits_range, options.size_bits, options.share, options.tolerance,
        options.latency_seconds, options.energy_picojoule,
    )  # fmt: skip

    def read(path: Path) -> None:
        text = path.read_bytes().decode("utf-8", "replace")
        for kind in kinds:
            with suppress(argparse.ArgumentTypeError):
                kind(text)

    return read


@cache
def parsers() -> tuple[Parser, ...]:
    """All readers. Needs the extra `interop` for ONNX."""
    from importlib import resources

    import torch
    from torch import nn

    from analysis.design_space import parse_axis
    from analysis.verify import read_manifest
    from hwsim.accelerator import load_accelerator
    from hwsim.bits import BitWidths
    from hwsim.frontends.onnx import module_from_onnx
    from hwsim.frontends.topology_csv import CONV_HEADER, GEMM_HEADER, read_topology
    from hwsim.row_stationary.files import load_mappings
    from hwsim.schema import UNITS, parse_quantity
    from quant.allocation.allocation import Allocation
    from quant.codes import PackedFile
    from quant.compact import load_compact
    from quant.curves import RDCurves
    from quant.images import from_folder, from_npz, load_weights
    from quant.sweep_state import SweepState

    hwsim = resources.files("hwsim")
    presets = [(hwsim / "accelerators" / f"{name}.toml").read_bytes()
               for name in ("tpu_v1", "eyeriss_v1")]  # fmt: skip
    mapping = (hwsim / "row_stationary" / "mappings").iterdir()
    mappings = [file.read_bytes() for file in mapping if file.name.endswith(".toml")]
    conv = f"{CONV_HEADER}\nConv1,224,224,7,7,3,64,2,\nDP2,58,58,3,3,64,1,1,1,1:1\n".encode()
    gemm = f"{GEMM_HEADER}\nfc,1,1000,512,\n".encode()
    tables = (b"layer,bits\na,8\nb,4\n", b"layer,channel,bits,activation_bits\na,0,3,8\na,1,4,8\n")
    widths = {"schema": 1, "weights": {"a": [1, 2], "b": 4}, "activations": {"a": 8, "b": 8}}
    allocation = {
        "schema": 1, "network": "net", "bits": widths, "weight_slope": 0.1,
        "activation_slope": 0.2, "weight_values": 10, "weight_rate_bits": 30.0,
        "weight_distortion": 1.0, "activation_values": 5, "activation_rate_bits": 40.0,
        "activation_distortion": 0.5, "lower_bound": 1.4, "metadata_bits": 0.0,
        "constraints": [{"name": "weights", "limit_bits": 30.0, "used_bits": 30.0,
                         "multiplier": 0.1}],
    }  # fmt: skip
    manifest = {
        "schema": 1, "command": ["chipfit", "simulate", "digits"], "directory": "/", "options": {},
        "inputs": {"weights": {"path": "w", "sha256": "0"}}, "outputs": {"a.csv": "0"},
    }  # fmt: skip
    module = nn.Linear(3, 2)
    layers: dict[str, np.ndarray] = {
        "weight": module.weight.detach().numpy(),
        "bias": module.bias.detach().numpy(),
    }
    packed = {
        "schema": 1, "network": "net", "layers": [["a", 2, 3]], "made_by": {},
        "activations": {"a": [8, 0.5, 0]},
    }  # fmt: skip
    packed_arrays: dict[str, np.ndarray] = {
        "codes": np.array([0x44, 0x12, 0x34, 0x56], np.uint8), "scales": np.ones(2, np.float16),
        "biases": np.zeros(2, np.float32),
    }  # fmt: skip
    pictures: dict[str, np.ndarray] = {
        "images": np.zeros((4, 2, 2, 3), np.uint8),
        "labels": np.arange(4),
    }
    settings = {"seed": 0}
    sums = np.ones((2, 3, 9))
    begun = {"schema": 1, "done": 4, "settings": settings}
    state: dict[str, np.ndarray] = {
        "header": np.frombuffer(json.dumps(begun).encode(), dtype=np.uint8),
        "generator": torch.Generator().get_state().numpy(), "items_weights": sums,
        "items_activations": sums, "wholes_weights": sums[:, 0], "wholes_activations": sums[:, 0],
    }  # fmt: skip
    chip = load_accelerator("tpu_v1")

    def text(path: Path) -> str:
        return path.read_bytes().decode("utf-8", "replace")

    def axis(path: Path) -> None:
        parse_axis(chip, text(path))

    def quantity(path: Path) -> None:
        for dimension in UNITS:
            with suppress(ValueError):
                parse_quantity(text(path), dimension)
                return
        raise ValueError("no quantity of any dimension")

    def labels(path: Path) -> None:
        (path.parent / "a.png").touch()
        from_folder(path.parent, (8, 8), split="eval", classes=5)

    def run_folder(path: Path) -> None:
        read_manifest(path.parent)

    def resumed(path: Path) -> None:
        SweepState.load(path, settings)

    return (
        Parser("accelerator (TOML)", "input.toml", _texts(*presets), load_accelerator),
        Parser("mappings (TOML)", "input.toml", _texts(*mappings), load_mappings),
        Parser("topology (CSV)", "input.csv", _texts(conv, gemm), read_topology),
        Parser("bit widths (CSV)", "input.csv", _texts(*tables), BitWidths.load),
        Parser("bit widths (JSON)", "input.json", _trees(widths, {"a": 3, "b": [1, 2]}),
               BitWidths.load),
        Parser("bit widths (text)", "input", _texts(b"8", b"W4A8"),
               lambda p: BitWidths.parse(text(p))),
        Parser("allocation (JSON)", "input.json", _trees(allocation), Allocation.load),
        Parser("manifest (JSON)", "manifest.json", _trees(manifest), run_folder),
        Parser("curves (.npz)", "input.npz", _archives(_curve_arrays(False)), RDCurves.load),
        Parser("compact curves (.npz)", "input.npz", _archives(_curve_arrays(True)), load_compact),
        Parser("state of a sweep (.npz)", "input.npz", _archives(lambda: state), resumed),
        Parser("images (.npz)", "input.npz", _archives(lambda: pictures), from_npz),
        Parser("labels (CSV)", "labels.csv",
               _texts(b"file,class,split\na.png,1,eval\na.png,2,calib\n"), labels),
        Parser("weights (safetensors)", "input.safetensors", _safetensors(lambda: layers, "x", {}),
               lambda path: load_weights(module, path)),
        Parser("packed network (safetensors)", "input.safetensors",
               _safetensors(lambda: packed_arrays, "chipfit_packed_network", packed),
               lambda path: PackedFile.read(path).weights()),
        Parser("network (ONNX)", "input.onnx", _onnx(), module_from_onnx),
        Parser("--vary", "input", _texts(b"array.rows=64:512:x2", b"clock=0.5GHz,0.7GHz",
                                    b"unified_buffer.capacity=4MiB:32MiB:4MiB",
                                    b"mac_energy=0.1pJ:1pJ:x1.5"), axis),
        Parser("quantity", "input", _texts(b"256 KiB", b"700 MHz", b"34 GB/s", b"0.3 pJ"),
               quantity),
        Parser("arguments", "input", _texts(b"2ms", b"5%", b"3", b"2..4:0.5", b"4MB"), _options()),
    )  # fmt: skip
