"""Tables of a study: computed here, drawn and written elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.study import BASELINE, Study, Variant
from hwsim.memory import network_weight_bits

if TYPE_CHECKING:
    import pandas as pd


def size_bits(study: Study, variant: Variant) -> int:
    """Bits of all weights, and of the scale, width code and bias beside each channel, as the first
    accelerator stores them."""
    metadata_bits = study.request.accelerators[0].metadata.bits
    return network_weight_bits(study.network.graph, variant.bits, metadata_bits)


def summary_table(study: Study) -> pd.DataFrame:
    """One row a variant: widths, size, accuracy, and speedup and ratios over W8A8.

    Speedup is baseline cycles / cycles on the same accelerator and batch; the traffic and energy
    ratios are this variant's over the baseline's.
    """
    import pandas as pd

    rows = []
    for variant in study.variants:
        row: dict[str, object] = {
            "variant": variant.name,
            "weight_bits": variant.bits.average_weight_bits(study.network.graph),
            "size_bytes": size_bits(study, variant) / 8,
            "top1": variant.accuracy.top1,
            "top5": variant.accuracy.top5,
            "agreement": variant.accuracy.agreement,
            "measured_distortion": variant.accuracy.distortion,
            "predicted_distortion": variant.allocation.predicted_distortion,
            "relative_gap": variant.allocation.relative_gap,
        }
        for name, stats in variant.stats.items():
            base = study.baseline.stats[name]
            row |= {
                f"{name}_cycles": stats.cycles,
                f"{name}_seconds": stats.seconds,
                f"{name}_speedup": base.cycles / stats.cycles,
                f"{name}_dram_ratio": stats.dram_bits / base.dram_bits,
                f"{name}_energy_ratio": stats.energy_pj / base.energy_pj,
                f"{name}_fits": stats.fits_on_chip,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def layer_table(study: Study) -> pd.DataFrame:
    """One row a variant, accelerator and layer: the simulator's columns and the widths."""
    import pandas as pd

    frames = []
    for variant in study.variants:
        for name, stats in variant.stats.items():
            frame = stats.to_frame()
            graph = study.network.graph
            layers = [graph[layer] for layer in frame["name"]]
            weights = [
                float(variant.bits.weight(layer).mean()) if layer.weighted else float("nan")
                for layer in layers
            ]
            activations = [
                float(variant.bits.activation(layer.name, layer.output.channels).mean())
                for layer in layers
            ]
            frame.insert(2, "mean_weight_bits", weights)
            frame.insert(3, "mean_activation_bits", activations)
            frame.insert(0, "accelerator", name)
            frame.insert(0, "variant", variant.name)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def width_shares(study: Study, variant: Variant) -> pd.DataFrame:
    """Share of each layer's channels at each width: one row a weighted layer, columns 0..8."""
    import numpy as np
    import pandas as pd

    layers = study.network.graph.weighted
    counts = [np.bincount(variant.bits.weight(layer), minlength=9) for layer in layers]
    shares = np.array([c / c.sum() for c in counts])
    return pd.DataFrame(shares, index=[layer.name for layer in layers])


def speedup_table(study: Study) -> pd.DataFrame:
    """Speedup over W8A8 on each accelerator: one row a variant."""
    frame = summary_table(study).set_index("variant")
    names = [accelerator.name for accelerator in study.request.accelerators]
    table = frame[[f"{name}_speedup" for name in names]]
    table.columns = names
    return table.drop(index=BASELINE)


def occupancy_table(variant: Variant) -> pd.DataFrame:
    """Required and available bits: a row for each accelerator, memory and layer that needs any."""
    import pandas as pd

    rows = [
        {
            "accelerator": name,
            "memory": memory,
            "layer": layer.name,
            "required_bits": required,
            "available_bits": layer.available_bits[memory],
        }
        for name, stats in variant.stats.items()
        for layer in stats.layers
        for memory, required in layer.required_bits.items()
        if required
    ]
    return pd.DataFrame(rows)
