"""Row-stationary arrays: mappings, their exact time, traffic and energy."""

from hwsim.row_stationary.files import load_mappings, mapping_presets
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.search import Found
from hwsim.row_stationary.simulate import best_mappings, simulate_network

__all__ = [
    "Found",
    "RsMapping",
    "best_mappings",
    "load_mappings",
    "mapping_presets",
    "simulate_network",
]
