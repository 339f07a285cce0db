"""`chipfit pack`: write a quantised network as the bits that a chip would store."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import (
    BITS_HELP,
    MODEL_HELP,
    add_json,
    add_measuring,
    add_sources,
    output_file,
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--bits", required=True, metavar="B", help=BITS_HELP)
    parser.add_argument("--curves", metavar="FILE",
                        help="take the quantisers from these curves")  # fmt: skip
    parser.add_argument("-o", "--output", type=output_file, required=True, metavar="FILE",
                        help="packed network (.safetensors)")  # fmt: skip
    add_sources(parser)
    add_measuring(parser)
    add_json(parser, "its sizes")


def run(options: Namespace) -> None:
    from analysis.commands.common import emit, image_sets, quantized_network
    from analysis.progress import ProgressBars
    from analysis.sources import load_network
    from analysis.tuning import packed
    from hwsim.bits import BitWidths

    BitWidths.parse(options.bits)
    network = load_network(options.model, options.weights, options.image_size)
    BitWidths.parse(options.bits).check(network.graph)
    images = image_sets(options, network)
    with ProgressBars() as progress:
        quantized = quantized_network(options, network, images, progress)
    emit(options.json, *packed(options, quantized, images))
