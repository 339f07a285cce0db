"""Networks, weights, images, curves that are wrong: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from analysis.cli import main
from quant.digits import WEIGHTS

OWN = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return net, (1, 3, 8, 8)

def raises(): raise RuntimeError("first\\nsecond")
def exits(): raise SystemExit(5)
def needs(argument): return argument
def text_shape(): return tiny()[0], "abc"
def number_shape(): return tiny()[0], 5
def huge_shape(): return tiny()[0], (1, 3, 8, 10**12)

def nan():
    net, shape = tiny()
    with torch.no_grad():
        net[0].weight[0] = float("nan")
    return net, shape
"""
FAST = ["--rounding", "nearest", "--calibration", "10", "--probes", "1"]
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
LABELS = np.arange(40) % 5


def simulate(model: str, *options: str) -> list[str]:
    return ["simulate", model, *options]


def images(source: str) -> list[str]:
    return ["evaluate", "bad_input_own:tiny", "--bits", "4", "--images", source, *FAST]


def weights(file: str) -> list[str]:
    return ["evaluate", "digits", "--bits", "4", "--weights", file, *FAST]


def allocate(*options: str) -> list[str]:
    return ["allocate", *options, "--bits", "3"]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Path]:
    """A folder of bad files, which is also where Python looks for modules."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bad")
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for write in (_modules, _weights, _images, _folders, _curves, _widths, _descriptions):
            write(folder)
        yield folder


def _modules(folder: Path) -> None:
    (folder / "bad_input_own.py").write_text(OWN)
    (folder / "bad_input_syntax.py").write_text("def x(:\n")
    (folder / "bad_input_raises.py").write_text("raise RuntimeError('a\\nb')\n")


def _weights(folder: Path) -> None:
    stored = load_file(WEIGHTS)

    def changed(name: str, tensor: torch.Tensor) -> None:
        save_file({**stored, "stem.weight": tensor}, folder / f"{name}.safetensors")

    shape = stored["stem.weight"].shape
    changed("nan", torch.full(shape, float("nan")))
    changed("float64", torch.full(shape, 1e300, dtype=torch.float64))
    changed("overflow", torch.full(shape, 3e38))
    changed("bool", torch.ones(shape, dtype=torch.bool))
    (folder / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:-20])


def _images(folder: Path) -> None:
    def stored(name: str, pixels: np.ndarray, labels: np.ndarray = LABELS) -> None:
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels)

    stored("good", PIXELS)
    stored("float", PIXELS / 255)
    stored("text", np.full(PIXELS.shape, "a"))
    stored("uint64", PIXELS, np.full(40, 2**63, dtype=np.uint64))
    content = (folder / "good.npz").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    (folder / "corrupt.npz").write_bytes(content[:400] + b"\xff" * 50 + content[450:])
    with (folder / "array.npz").open("wb") as file:
        np.save(file, PIXELS)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


def _folders(folder: Path) -> None:
    def listed(name: str, rows: bytes) -> None:
        (folder / name).mkdir()
        Image.fromarray(PIXELS[0]).save(folder / name / "a.png")
        (folder / name / "labels.csv").write_bytes(b"file,class\n" + rows)

    listed("not_utf8", b"\xff\xfe.png,0\n")
    listed("long_field", b"a" * 200_000 + b",0\n")
    listed("long_class", b"a.png," + b"9" * 5000 + b"\n")
    listed("short_row", b"a.png\n")
    listed("bomb", b"".join(b"a.png,%d\n" % (i % 5) for i in range(20)))
    (folder / "bomb" / "a.png").write_bytes(_png_header(60_000, 60_000))


def _curves(folder: Path) -> None:
    assert main(["curves", "digits", "-o", "good_curves.npz", *FAST]) == 0

    def changed(name: str, change: Callable[[dict, dict], object]) -> None:
        with np.load(folder / "good_curves.npz") as file:
            arrays = {key: file[key] for key in file.files}
        header = json.loads(arrays["header"].tobytes())
        change(header, arrays)
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", **arrays)

    changed("name_number", lambda header, _: header.update(network=5))
    changed("name_list", lambda header, _: header.update(network=[]))
    changed("huge_values", lambda header, _: header["weights"][0].__setitem__(1, 10**30))
    changed("text_steps", lambda _, arrays: arrays.update({"steps/0": np.array(["q"])}))
    changed("nan_steps", lambda _, arrays: arrays["steps/0"].fill(np.nan))


def _widths(folder: Path) -> None:
    for name, text in {
        "ragged": '{"weights": {"stem": [1, [2, 3]]}, "activations": 8}',
        "endless": '{"weights": %s, "activations": 8}' % ("9" * 5000),
    }.items():
        (folder / f"{name}.json").write_text(text)


def _descriptions(folder: Path) -> None:
    presets = resources.files("hwsim") / "accelerators"

    def changed(name: str, preset: str, old: str, new: str) -> None:
        text = (presets / f"{preset}.toml").read_text()
        assert old in text
        (folder / f"{name}.toml").write_text(text.replace(old, new))

    changed("huge_rows", "tpu_v1", "rows = 256", f"rows = {10**30}")
    changed("huge_clock", "tpu_v1", '"700 MHz"', '"999999999999999999 MHz"')
    changed("two_problems", "eyeriss_v1", "rows =", "rowz =")
    parameters = ("m", "n")
    values = "".join(f"{name} = {10**30}\n" for name in parameters)
    (folder / "huge_mapping.toml").write_text(f'schema = 1\n[layers."stem"]\n{values}')


CASES: list[tuple[list[str], str]] = [
    # a user's function
    (simulate("bad_input_own:raises"), "raised RuntimeError: first ("),
    (simulate("bad_input_own:exits"), "raised SystemExit: 5"),
    (simulate("bad_input_own:needs"), "missing 1 required positional argument"),
    (simulate("bad_input_own:text_shape"), "input shape: expected sizes such as"),
    (simulate("bad_input_own:number_shape"), "input shape: expected sizes such as"),
    (simulate("bad_input_own:huge_shape"), "does not fit in memory"),
    (simulate("bad_input_syntax:x"), "cannot import 'bad_input_syntax': SyntaxError"),
    (simulate("bad_input_raises:x"), "cannot import 'bad_input_raises': RuntimeError: a;"),
    (simulate(".own:x"), "cannot import '.own'"),
    (simulate(":x"), "cannot import ''"),
    (["evaluate", "bad_input_own:nan", "--bits", "4", "--images", "good.npz", *FAST],
     "layer '0' has NaN or infinite weights"),
    # options
    (simulate("digits", "--batch", "999999999"), "at most 65536"),
    (simulate("digits", "--image-size", "32"), "leave out --image-size"),
    (simulate("digits", "--mapping", ""), "are not a preset"),
    (["models", "resnet18", "--image-size", "99999"], "at most 16384"),
    (["models", "vit_b_16", "--image-size", "17"], "cannot be built for images of 17 pixels"),
    (["evaluate", "digits", "--bits", "4", "--image-size", "32", *FAST], "leave out --image-size"),
    # places to write, refused before anything is computed or written
    (["curves", "digits", "-o", "new.npz", "--json", "."], "expected the name of a file"),
    (allocate("good_curves.npz", "-o", "new.json", "--json", "good.npz/x"), "is no folder"),
    (allocate("good_curves.npz", "-o", ""), "expected the name of a file to write, got ''"),
    (["run", "-o", ""], "expected the name of a folder"),
    # weights
    (weights("missing.safetensors"), "missing.safetensors: cannot read weights"),
    (weights("cut.safetensors"), "cut.safetensors: cannot read weights"),
    (weights("nan.safetensors"), "layer 'stem' has NaN or infinite weights"),
    (weights("float64.safetensors"), "layer 'stem' has NaN or infinite weights"),
    (weights("overflow.safetensors"), "infinit"),
    (weights("bool.safetensors"), "stem.weight is torch.bool where the network has torch.float32"),
    # images
    (images("float.npz"), "float.npz: images must be uint8, 0..255, got float64"),
    (images("text.npz"), "text.npz: images must be uint8"),
    (images("uint64.npz"), "uint64.npz: labels must be 40 whole numbers of 0..999999999"),
    (images("cut.npz"), "cut.npz: expected a .npz file"),
    (images("corrupt.npz"), "corrupt.npz: expected a .npz file"),
    (images("array.npz"), "array.npz: expected a .npz file"),
    (images("not_utf8"), "not_utf8/labels.csv: cannot read as CSV in UTF-8"),
    (images("long_field"), "long_field/labels.csv: cannot read as CSV"),
    (images("long_class"), "long_class/labels.csv: line 2: class '999"),
    (images("short_row"), "short_row/labels.csv: line 2: class '' is not a whole number"),
    (images("bomb"), "bomb/a.png: cannot read image"),
    # curves
    (allocate("name_number.npz"), "name_number.npz: curves: a network's and a layer's name is"),
    (allocate("name_list.npz"), "a network's and a layer's name is text, got []"),
    (allocate("huge_values.npz"), "at least 1 and at most 1000000000000"),
    (allocate("text_steps.npz"), "must be numbers"),
    (allocate("nan_steps.npz"), "must be numbers"),
    # budgets and targets
    (["allocate", "good_curves.npz", "--size", "0.3 bit"], "expected at least 1 bit"),
    (["allocate", "good_curves.npz", "--latency", "2ms"], "--latency needs an accelerator"),
    (["allocate", "good_curves.npz", "--energy", "1mJ"], "--energy needs an accelerator"),
    (["allocate", "good_curves.npz", "--latency", "0ms", "--on", "tpu_v1"], "an amount above 0"),
    (["allocate", "good_curves.npz", "--latency", "2", "--on", "tpu_v1"], "in s, ms, us, ns"),
    (["allocate", "good_curves.npz", "--energy", "2ms", "--on", "tpu_v1"], "in J, mJ, uJ, nJ"),
    (["allocate", "good_curves.npz", "--latency", "1ns", "--on", "tpu_v1"],
     "latency of 1e-06 ms on tpu_v1 cannot be met"),
    (["allocate", "good_curves.npz", "--energy", "1nJ", "--on", "tpu_v1"], "can be reached"),
    (["pareto", "good_curves.npz", "--bits", "8..2"], "expected average widths in 0..8"),
    (["pareto", "good_curves.npz", "--bits", "2..9"], "expected average widths in 0..8"),
    (["pareto", "good_curves.npz", "--bits", "2..4:0"], "expected average widths in 0..8"),
    (["pareto", "good_curves.npz", "--bits", "1..2..3"], "expected average widths in 0..8"),
    (["pareto", "good_curves.npz", "--on", "tpu"], "accelerator 'tpu' is not a preset"),
    (["pareto", "good_curves.npz", "--on", "tpu_v1", "--on", "tpu_v1"], "accelerator twice"),
    (["pareto", "name_list.npz"], "a network's and a layer's name is text"),
    (["pareto", "good.npz"], "not a file of curves"),
    (["pareto", "resnet18"], "give --weights"),
    (["pareto", "good_curves.npz", "-o", "good.npz"], "is a file"),
    (["pareto", "good_curves.npz", "-o", "."], "is not empty and not an earlier run"),
    # bit widths
    (simulate("digits", "--bits", "ragged.json"), "ragged.json: weights of 'stem': widths must be"),
    (simulate("digits", "--bits", "endless.json"), "endless.json: not a JSON file of bit widths"),
    # descriptions of accelerators and mappings
    (simulate("digits", "--on", "huge_rows.toml"), "array.rows: expected an integer of at most"),
    (simulate("digits", "--on", "huge_clock.toml"), "is more than 10^15 Hz; check the unit"),
    (simulate("digits", "--on", "two_problems.toml"), "2 problems: array.rowz: unknown key"),
    (simulate("digits", "--on", "eyeriss_v1", "--mapping", "huge_mapping.toml"),
     "problems: layers.stem."),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), CASES, ids=[" ".join(a)[:60] for a, _ in CASES])
def test_a_mistake_ends_in_one_line_and_writes_nothing(here, refused, arguments, said):
    refused(arguments, said)
