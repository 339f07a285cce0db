"""`chipfit curves`: rate-distortion curves of every channel."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from analysis.options import MODEL_HELP, add_json, add_measuring, add_sources, output_file, share


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("-o", "--output", type=output_file, required=True, metavar="FILE",
                        help="curves file (.npz)")  # fmt: skip
    parser.add_argument("--metric", choices=("logits", "kl", "feature"), default="logits",
                        help="squared error of the logits, divergence of the prediction, or "
                        "squared error of what the classifier reads (default logits)")  # fmt: skip
    parser.add_argument("--granularity", choices=("output", "input"), default="output",
                        help="channels that are priced; input channels only to look at, allocate "
                        "groups output channels by itself (default output)")  # fmt: skip
    parser.add_argument("--standard-error", type=share, metavar="SHARE",
                        help="stop once the predicted distortion of all weights at 4 bits is "
                        "known to this share, such as 5%%, or --calibration images are used "
                        "up")  # fmt: skip
    add_sources(parser)
    add_measuring(parser)
    add_json(parser, "a summary")


def run(options: Namespace) -> None:
    from analysis.commands.common import emit, image_sets
    from analysis.measuring import Announced, Choosing, measure_curves
    from analysis.progress import ProgressBars
    from analysis.sources import load_network
    from hwsim.files import locked
    from quant.sweep import STATED_WIDTH
    from quant.sweep_state import partial_path

    network = load_network(options.model, options.weights, options.image_size)
    images = image_sets(options, network)
    partial = partial_path(options.output)
    if partial.exists():
        print(f"chipfit: going on from {partial}", file=sys.stderr)
    try:
        with locked(partial), ProgressBars() as progress:
            found, _ = measure_curves(
                network,
                images,
                rounding=options.rounding,
                probes=options.probes,
                metric=options.metric,
                seed=options.seed,
                progress=Announced(progress),
                granularity=options.granularity,
                relative_error=options.standard_error,
                partial=partial,
                choosing=Choosing.of(options),
            )
    except KeyboardInterrupt as interruption:
        if str(interruption) or not partial.exists():
            raise
        raise KeyboardInterrupt(f"what was done is in {partial}, to go on from") from None
    found.save(options.output)
    partial.unlink(missing_ok=True)
    channels = sum(curve.channels for curve in found.weights)
    summary = {
        "model": found.network,
        "layers": len(found.weights),
        "channels": channels,
        "activation_tensors": len(found.activations),
        "method": dict(found.method),
        "file": options.output,
    }
    error = found.method["standard_error"]["weights"][STATED_WIDTH]
    known = "unknown, from one image" if error is None else f"{100 * error:.1f} %"
    line = f"{channels:,} channels of {len(found.weights)} layers at 0..8 bits: {options.output}"
    stated = (
        f"standard error of the predicted distortion with all weights at {STATED_WIDTH} bits: "
        f"{known} ({found.method['images']} images, {options.probes} probes each)"
    )
    emit(options.json, summary, [line, stated])
