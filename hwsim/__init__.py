"""hwsim: from (layer graph, accelerator, bit widths) to cycles, traffic and energy; no weights."""

from typing import TYPE_CHECKING

from hwsim.accelerator import Accelerator, load_accelerator, preset_names
from hwsim.bits import BitWidths
from hwsim.graph import Layer, LayerGraph, Tensor
from hwsim.lazy import lazy_names
from hwsim.many import ManyStats, simulate_many
from hwsim.simulate import simulate
from hwsim.stats import LayerStats, NetworkStats

if TYPE_CHECKING:
    __version__: str

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
    "__version__",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, {})  # __version__
