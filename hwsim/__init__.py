"""hwsim: from (layer graph, accelerator, bit widths) to cycles, traffic and energy; no weights.

Names are imported when first asked for: `import hwsim` loads no numpy.
"""

from typing import TYPE_CHECKING

from hwsim.lazy import lazy_names

if TYPE_CHECKING:
    from hwsim.accelerator import Accelerator, load_accelerator, preset_names
    from hwsim.bits import BitWidths
    from hwsim.graph import Layer, LayerGraph, Tensor
    from hwsim.many import ManyStats, simulate_many
    from hwsim.simulator import simulate
    from hwsim.stats import LayerStats, NetworkStats

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

if not TYPE_CHECKING:  # so that type checkers know the names above and no others
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "accelerator": "Accelerator load_accelerator preset_names",
            "bits": "BitWidths",
            "graph": "Layer LayerGraph Tensor",
            "many": "ManyStats simulate_many",
            "simulator": "simulate",
            "stats": "LayerStats NetworkStats",
        },
    )
