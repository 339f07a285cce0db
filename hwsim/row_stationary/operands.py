"""Operands of a layer as the array sees them: widths on chip, bits a value in DRAM, zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph
from hwsim.names import did_you_mean
from hwsim.row_stationary.rlc import coded_bits, expected_rate

FeatureMaps = Mapping[str, "float | np.ndarray"]


@dataclass(frozen=True)
class FeatureMap:
    """One activation tensor. bits: its widest channel; mean_bits: over its values; dram_bits: of
    a value in DRAM, compression included; zeros: fraction of its values."""

    bits: int
    mean_bits: Fraction
    dram_bits: Fraction
    zeros: float


def rectified(graph: LayerGraph) -> set[str]:
    """Tensors that a ReLU wrote, or that pool or join only such: where zeros may be assumed."""
    names: set[str] = set()
    for layer in graph:
        if any("relu" in name or "hardtanh" in name for name in layer.fused) or (
            layer.kind in ("pool", "concat") and all(t.name in names for t in layer.inputs)
        ):
            names.add(layer.name)
    return names


def feature_maps(
    graph: LayerGraph, accelerator: Accelerator, bits: BitWidths, known: FeatureMaps | None
) -> dict[str, FeatureMap]:
    """Every tensor of a network.

    known: for some tensors a zero fraction, or their real integer codes, which are then coded.
    The rest take the accelerator's zero fraction if a ReLU wrote them, else none. Coding is used
    where it is smaller than the plain values, never for network inputs. Raises ValueError for
    unknown tensors and fractions outside 0..1.
    """
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
    known = known or {}
    names = [layer.name for layer in graph]
    for name in known:
        if name not in names:
            raise ValueError(
                f"feature maps: network {graph.name!r} has no tensor {name!r}"
                f"{did_you_mean(name, names)}"
            )
    sparse = rectified(graph)
    found = {}
    for layer in graph:
        widths = bits.activation(layer.name, layer.output.channels)
        widest, mean = int(widths.max()), Fraction(int(widths.sum()), len(widths))
        default = array.zero_fraction if layer.name in sparse else 0.0
        zeros, rate = _zeros_and_rate(layer.name, known.get(layer.name, default), widest)
        coded = array.run_length_coding and layer.kind != "input"
        found[layer.name] = FeatureMap(widest, mean, min(rate, mean) if coded else mean, zeros)
    return found


def _zeros_and_rate(name: str, known: float | np.ndarray, bits: int) -> tuple[float, Fraction]:
    if isinstance(known, np.ndarray):
        if known.size == 0:
            raise ValueError(f"feature maps: the codes of {name!r} are empty")
        zeros = 1 - np.count_nonzero(known) / known.size
        return float(zeros), Fraction(coded_bits(known, bits), known.size)
    if not 0 <= known <= 1:
        raise ValueError(
            f"feature maps: the zero fraction of {name!r} must lie in 0..1, got {known}"
        )
    return float(known), _expected_rate(float(known), bits)


@lru_cache(maxsize=1024)
def _expected_rate(zeros: float, bits: int) -> Fraction:
    return Fraction(float(expected_rate(zeros, bits))).limit_denominator(2**20)


def weight_widths(layer: Layer, bits: BitWidths, maps: Mapping[str, FeatureMap]) -> np.ndarray:
    """(groups, filters) widths of the stationary operand; for a matmul that is its second input.

    All values of a second input take the width of its widest channel.
    """
    gemm = layer.gemm
    assert gemm is not None
    if layer.weighted:
        return bits.weight(layer).reshape(gemm.groups, gemm.columns)
    return np.full((gemm.groups, gemm.columns), maps[layer.inputs[1].name].bits, dtype=np.int64)
