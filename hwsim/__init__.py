"""hwsim: from (layer graph, accelerator, bit widths) to cycles, traffic and energy; no weights."""

from hwsim.accelerator import Accelerator, load_accelerator, preset_names
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph, Tensor
from hwsim.many import ManyStats, simulate_many
from hwsim.simulate import simulate
from hwsim.stats import LayerStats, NetworkStats

__all__ = [
    "Accelerator",
    "BitWidths",
    "Layer",
    "LayerGraph",
    "LayerStats",
    "ManyStats",
    "NetworkStats",
    "Tensor",
    "load_accelerator",
    "preset_names",
    "simulate",
    "simulate_many",
]
