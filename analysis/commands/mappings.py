"""`chipfit mappings`: the best row-stationary mappings of a layer."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

from analysis.options import MODEL_HELP, add_image_size, add_json, batch_size, mapping_count


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("layer", help="LAYER of --model")
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument(
        "--on", default="eyeriss_v1", metavar="ACCEL", help="preset or .toml (default eyeriss_v1)"
    )
    parser.add_argument("--bits", default="16", metavar="B", help="an int or W4A8 (default 16)")
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--count", type=mapping_count, default=10, help="how many (default 10)")
    add_image_size(parser)
    add_json(parser, "them")


def run(options: Namespace) -> None:
    from analysis.commands.common import emit
    from analysis.sources import load_graph
    from analysis.summary import columns
    from hwsim.accelerator import load_accelerator
    from hwsim.bits import BitWidths
    from hwsim.row_stationary import best_mappings

    accelerator = load_accelerator(options.on)
    bits = BitWidths.parse(options.bits)
    if isinstance(bits.weights, Mapping) or isinstance(bits.activations, Mapping):
        raise ValueError("mappings: --bits is an int or a pair such as W4A8")
    graph = load_graph(options.model, options.image_size)
    try:
        layer = graph[options.layer]
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    second = bits.weights if layer.weighted else bits.activations  # of a product of feature maps
    found = best_mappings(
        layer, accelerator, second, bits.activations, options.batch, options.count
    )
    rows = [["mapping", "cycles", "processing", "DRAM kbit", "energy uJ"]]
    data = []
    for item in found:
        timing = item.timing
        cycles = timing.processing_cycles + timing.stall_cycles
        dram_bits = timing.dram_filter_bits + timing.dram_ifmap_bits + timing.dram_ofmap_bits
        rows.append(
            [
                str(item.mapping),
                f"{cycles:,}",
                f"{timing.processing_cycles:,}",
                f"{dram_bits / 1e3:,.1f}",
                f"{item.energy_pj / 1e6:,.2f}",
            ]
        )
        data.append(
            {
                "mapping": vars(item.mapping),
                "cycles": cycles,
                "processing_cycles": timing.processing_cycles,
                "dram_bits": dram_bits,
                "energy_pj": item.energy_pj,
            }
        )
    emit(options.json, data, columns(rows))
