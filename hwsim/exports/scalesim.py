"""SCALE-Sim: a topology (.csv) and the configuration (.cfg) of a systolic accelerator.

The configuration's fields are those of scalesim 3.0.0 (configs/google.cfg and scale_config.py). It
knows no clock, no energy and no schedule but its own: the folds of a layer follow one another
("serial" here), so that the same files give this project's cycles for accelerators with that
schedule, and the cycles of a serial machine of the same size for others.
"""

from __future__ import annotations

import os
from pathlib import Path

from hwsim.accelerator import Accelerator, Dataflow, SystolicArray
from hwsim.files import write_atomically
from hwsim.frontends.topology_csv import write_topology
from hwsim.graph import LayerGraph

FLOWS: dict[Dataflow, str] = {
    "weight_stationary": "ws",
    "output_stationary": "os",
    "input_stationary": "is",
}

_CONFIG = """[general]
run_name = {name}

[architecture_presets]
ArrayHeight : {rows}
ArrayWidth : {cols}
IfmapSramSzkB : {ifmap}
FilterSramSzkB : {filters}
OfmapSramSzkB : {ofmap}
IfmapOffset : 0
FilterOffset : 10000000
OfmapOffset : 20000000
Bandwidth : {bandwidth}
Dataflow : {flow}
ReadRequestBuffer : 64
WriteRequestBuffer : 64

[layout]
IfmapCustomLayout : False
IfmapSRAMBankBandwidth : 10
IfmapSRAMBankNum : 10
IfmapSRAMBankPort : 2
FilterCustomLayout : False
FilterSRAMBankBandwidth : 10
FilterSRAMBankNum : 10
FilterSRAMBankPort : 2

[sparsity]
SparsitySupport : false

[run_presets]
InterfaceBandwidth : CALC
UseRamulatorTrace : False
"""


def scalesim_config(accelerator: Accelerator, word_bits: int = 8) -> str:
    """The text of a configuration file.

    word_bits: of the words that SCALE-Sim counts. A memory that holds several operands is shared
    out evenly among them; bandwidth is that of the slower DRAM channel, in words a cycle. Raises
    ValueError for other than systolic arrays.
    """
    array = accelerator.array
    if not isinstance(array, SystolicArray):
        raise ValueError(
            f"accelerator {accelerator.name!r}: SCALE-Sim has systolic arrays only, such as "
            f"tpu_v1 and scalesim_google"
        )

    def kilobytes(operand: str) -> int:
        memory = accelerator.memory_for(operand)  # type: ignore[arg-type]
        kinds = sum(held in ("ifmap", "weights", "ofmap") for held in memory.holds)
        return max(1, memory.capacity // (8 * 1024 * max(1, kinds)))

    slowest = min(dram.bandwidth for dram in accelerator.dram)
    return _CONFIG.format(
        name=accelerator.name,
        rows=array.rows,
        cols=array.cols,
        ifmap=kilobytes("ifmap"),
        filters=kilobytes("weights"),
        ofmap=kilobytes("ofmap"),
        bandwidth=max(1, slowest // (accelerator.clock * word_bits)),
        flow=FLOWS[array.dataflow],
    )


def write_scalesim(
    graph: LayerGraph, accelerator: Accelerator, folder: str | os.PathLike[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Write NETWORK.csv and ACCELERATOR.cfg to a folder: their paths, and the layers left out.

    Raises ValueError as `scalesim_config` and `topology_csv.write_topology` do.
    """
    config = scalesim_config(accelerator)
    topology = Path(folder) / f"{Path(graph.name).stem}.csv"
    left_out = write_topology(graph, topology)
    target = Path(folder) / f"{accelerator.name}.cfg"
    write_atomically(target, config)
    return [str(topology), str(target)], left_out
