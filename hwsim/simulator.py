"""simulate: the public verb. From a layer graph, an accelerator and bit widths to statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import BitWidths
from hwsim.graph import LayerGraph
from hwsim.stats import NetworkStats

if TYPE_CHECKING:
    from hwsim.row_stationary.mapping import RsMapping
    from hwsim.row_stationary.operands import FeatureMaps


def simulate(
    graph: LayerGraph,
    accelerator: Accelerator,
    bits: BitWidths,
    batch: int = 1,
    mappings: Mapping[str, RsMapping] | None = None,
    known_maps: FeatureMaps | None = None,
) -> NetworkStats:
    """Cycles, DRAM and on-chip traffic, storage and energy of a network, layer by layer.

    bits must name every weighted layer and every activation tensor. batch: images at once; all
    results are for the whole batch. On a row-stationary array only: mappings of some layers, the
    best legal ones by default; known_maps: {tensor: fraction of zeros, or its integer codes}, for
    run-length coding and zero gating. Raises ValueError for missing widths, a batch below 1,
    illegal mappings, and what the accelerator has no use for.
    """
    if isinstance(accelerator.array, RowStationaryArray):
        from hwsim.row_stationary.simulate import simulate_network as row_stationary

        return row_stationary(graph, accelerator, bits, batch, mappings, known_maps)
    if mappings or known_maps:
        given = "mappings" if mappings else "known feature maps"
        raise ValueError(
            f"accelerator {accelerator.name!r} has a systolic array, which takes no {given}; "
            f"give them with a row-stationary one such as eyeriss_v1"
        )
    from hwsim.systolic.simulate import simulate_network as systolic

    return systolic(graph, accelerator, bits, batch)
