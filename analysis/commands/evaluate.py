"""`chipfit evaluate`: accuracy of a network at given widths."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import BITS_HELP, MODEL_HELP, add_json, add_measuring, add_sources


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bits", metavar="B", help=BITS_HELP)
    what.add_argument("--packed", metavar="FILE",
                      help="a packed network, from pack or finetune")  # fmt: skip
    parser.add_argument("--curves", metavar="FILE",
                        help="take the quantisers from these curves")  # fmt: skip
    add_sources(parser)
    add_measuring(parser)
    add_json(parser)


def run(options: Namespace) -> None:
    from analysis.commands.common import emit, image_sets, quantized_network
    from analysis.progress import ProgressBars
    from analysis.sources import load_network
    from hwsim.bits import BitWidths
    from quant.accuracy import evaluate as measure

    if options.packed is None:
        BitWidths.parse(options.bits)  # a mistake in it is said before the work
    network = load_network(options.model, options.weights, options.image_size)
    with ProgressBars() as progress:
        if options.packed is not None:
            from analysis.tuning import unseen
            from quant.codes import PackedFile, load_packed

            file = PackedFile.read(options.packed)
            quantized = load_packed(file, network)
            judged = unseen(options.model, network, options.images, file.made_by)
        else:
            BitWidths.parse(options.bits).check(network.graph)
            images = image_sets(options, network)
            quantized, judged = (
                quantized_network(options, network, images, progress),
                images.evaluation,
            )
        floating = measure(network, None, judged, progress=progress)
        found = measure(network, quantized, judged, progress=progress)
    data = {
        "model": options.model,
        "bits": options.packed or options.bits,
        "average_weight_bits": quantized.bits.average_weight_bits(network.graph),
        "float": floating.to_json(),
        "quantized": found.to_json(),
    }
    line = (
        f"{options.model} at {data['average_weight_bits']:.3f} bits a weight: top-1 "
        f"{100 * found.top1:.2f} % (float {100 * floating.top1:.2f} %), top-5 "
        f"{100 * found.top5:.2f} %, agreement {100 * found.agreement:.2f} %, distortion "
        f"{found.distortion:.4g}, on {found.images} images"
    )
    emit(options.json, data, [line])
