"""Public functions called wrongly: a ValueError that says where, what was wanted, what came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import quant
from analysis import divide_images, load_graph, load_network
from hwsim import BitWidths, LayerGraph, Tensor, load_accelerator, simulate, simulate_many
from hwsim.graph import Conv, Layer, Linear, Vector
from hwsim.names import shown
from quant.images import from_arrays

NAN, INF = float("nan"), float("inf")
FALLING = 4.0 ** -np.arange(9)
TENSOR = np.where(np.arange(9) > 0, FALLING, INF)
CHIP = load_accelerator("tpu_v1")
PIXELS = np.zeros((4, 8, 8, 3), np.uint8)


@cache
def alexnet() -> LayerGraph:
    return load_graph("alexnet_paper")


@cache
def network() -> quant.Network:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return quant.Network(module, (3, 8, 8), "tiny")


def curve(distortion: object, values: object = 9) -> quant.LayerCurve:
    return quant.LayerCurve("a", distortion, values)  # type: ignore[arg-type]


def curves(*layers: quant.LayerCurve) -> quant.RDCurves:
    return quant.RDCurves("net", layers, (quant.TensorCurve("a", TENSOR, 4),))


def one_layer(columns: int, reduction: int = 4, pixels: int = 1) -> LayerGraph:
    read, made = Tensor("x", (1, pixels, reduction), 2), Tensor("a", (1, pixels, columns), 2)
    return LayerGraph("net", (
        Layer("x", "input", Vector(0), (), read),
        Layer("a", "linear", Linear(pixels, reduction, columns), (read,), made),
    ), ("a",))  # fmt: skip


ROW = np.tile(FALLING, (2, 1))
CASES: list[tuple[str, Callable[[], object], str]] = [
    # hwsim
    ("widths below 0", lambda: BitWidths(-1, 8), "weights: widths must lie in 0..16"),
    ("widths of NaN", lambda: BitWidths(NAN, 8), "weights: widths must be an integer"),
    ("widths of text", lambda: BitWidths("8", 8), "weights: widths must be an integer"),
    ("widths of None", lambda: BitWidths(None, 8), "weights: widths must be an integer"),
    ("2-D widths", lambda: BitWidths({"a": [[8]]}, 8), "weights of 'a': widths must be an integer"),
    ("no widths", lambda: BitWidths({"a": []}, 8), "weights of 'a': widths must be an integer"),
    ("a layer too many", lambda: BitWidths({"z": 8}, 8).check(alexnet()), "does not have"),
    ("batch 0", lambda: simulate(alexnet(), CHIP, BitWidths(8, 8), 0), "batch must be at least 1"),
    ("batch -1", lambda: simulate(alexnet(), CHIP, BitWidths(8, 8), -1), "batch must be at least"),
    ("batch 0 for many", lambda: simulate_many(alexnet(), [CHIP], BitWidths(8, 8), 0), "batch"),
    ("mappings of a systolic array",
     lambda: simulate(alexnet(), CHIP, BitWidths(8, 8), mappings={"conv1": None}), "systolic"),
    ("too many channels", lambda: one_layer(2**25), "33,554,432 channels, and at most"),
    ("too many steps",
     lambda: simulate(one_layer(2**20, 2**22), load_accelerator("scalesim_eyeriss"),
                      BitWidths(8, 8)), "steps on an array of 12 x 14"),
    ("a layer twice", lambda: LayerGraph("n", one_layer(1).layers * 2, ()), "two layers"),
    ("an output that is none", lambda: LayerGraph("n", (), ("y",)), "output 'y' is not a layer"),
    ("groups that divide nothing",
     lambda: Conv(3, 4, (1, 1), (1, 1), (0, 0), (1, 1), 2, (8, 8), (8, 8)), "groups must divide"),
    ("an ofmap that does not follow",
     lambda: Conv(3, 4, (3, 3), (1, 1), (0, 0), (1, 1), 1, (8, 8), (8, 8)), "does not follow"),
    ("a clock of 0", lambda: replace(CHIP, clock=0), "clock must be at least 1"),
    ("no memories", lambda: replace(CHIP, memory=()).memory_for("ifmap"), "no memory holds ifmap"),
    ("no DRAM", lambda: replace(CHIP, dram=()), "exactly one DRAM channel must carry"),
    ("an accelerator of no name", lambda: load_accelerator(""), "is not a preset"),
    # curves and allocations
    ("NaN distortion", lambda: curve(ROW * NAN), "distortion must be at least 0"),
    ("negative distortion", lambda: curve(-ROW), "distortion must be at least 0"),
    ("distortion of text", lambda: curve("abc"), "distortion must be an array of numbers"),
    ("complex distortion", lambda: curve(ROW * 1j), "distortion must be an array of numbers"),
    ("8 widths", lambda: curve(ROW[:, :8]), "distortion must have shape (channels, 9)"),
    ("no channels", lambda: curve(ROW[:0]), "distortion has no channels"),
    ("nothing allowed", lambda: curve(np.full((1, 9), INF)), "channel 0 has no finite distortion"),
    ("0 values", lambda: curve(ROW, 0), "values must be an integer of at least 1"),
    ("values of 1.5", lambda: curve(ROW, 1.5), "values must be an integer"),
    ("values of true", lambda: curve(ROW, True), "values must be an integer"),
    ("a dropped tensor", lambda: quant.TensorCurve("a", FALLING, 4), "cannot have 0 bits"),
    ("a curve twice", lambda: curves(curve(ROW), curve(ROW)), "are given twice"),
    ("an unknown curve", lambda: curves(curve(ROW)).weight("b"), "no weights of 'b'"),
    ("NaN bits", lambda: quant.Budget(weight_bits=NAN), "weight_bits"),
    ("negative bits", lambda: quant.Budget(weight_bits=-1), "weight_bits"),
    ("infinite size", lambda: quant.Budget(weight_total_bits=INF), "weight_total_bits"),
    # networks and images
    ("an unknown network", lambda: load_graph("resnet-50"), "did you mean"),
    ("no weights", lambda: load_network("resnet18", None), "needs trained weights"),
    ("images of another size", lambda: network().run(torch.zeros(1, 3, 9, 9)), "images must be"),
    ("images without a batch", lambda: network().run(torch.zeros(3, 8, 8)), "images must be"),
    ("no images", lambda: from_arrays(PIXELS[:0], np.arange(0)), "images must have shape"),
    ("gray images", lambda: from_arrays(PIXELS[..., :1], np.arange(4)), "(N, height, width, 3)"),
    ("labels of 1.0", lambda: from_arrays(PIXELS, np.ones(4)), "labels must be 4 whole numbers"),
    ("labels below 0", lambda: from_arrays(PIXELS, -np.arange(4)), "labels must be"),
    ("too few labels", lambda: from_arrays(PIXELS, np.arange(3)), "labels must be 4"),
    ("a sample of none", lambda: from_arrays(PIXELS, np.arange(4)).sample(0, 0), "ask for 1..4"),
    ("a sample of more", lambda: from_arrays(PIXELS, np.arange(4)).sample(5, 0), "ask for 1..4"),
    ("too many for calibration",
     lambda: divide_images(from_arrays(PIXELS, np.arange(4)), 9), "lower --calibration"),
    ("a loader of nothing", lambda: quant.from_loader([]), "the loader gives 0"),
    ("a loader of numbers", lambda: quant.from_loader([1, 2]), "expected batches (images"),
    ("a module of text", lambda: quant.Network(nn.Linear(3, 2), "abc"), "input shape"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_call_says_what_was_wanted(call, said):
    with pytest.raises(ValueError) as refusal:
        call()
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 1000


def test_values_are_quoted_short_whatever_they_are():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("a" * 10**6, 10**5000, [1] * 10**6, deep, {"a": {"b": deep}}, b"x" * 10**6):
        assert len(shown(value)) < 500
    assert shown("8") == "'8'"
