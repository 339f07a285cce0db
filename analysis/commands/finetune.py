"""`chipfit finetune`: recover accuracy at given widths by training on images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.commands import pack
from analysis.options import batch_size, natural, positive_int


def add_arguments(parser: ArgumentParser) -> None:
    pack.add_arguments(parser)
    parser.add_argument("--epochs", type=positive_int, default=20, metavar="N",
                        help="passes over the images (default 20)")  # fmt: skip
    parser.add_argument("--lr", type=float, default=0.003, metavar="RATE",
                        help="steps a weight moves an update, about (default 0.003)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=32, metavar="N",
                        help="images an update (default 32)")  # fmt: skip
    parser.add_argument("--loss", choices=("kl", "logits"), default="logits",
                        help="distance from the float network (default logits)")  # fmt: skip
    parser.add_argument("--training", type=positive_int, metavar="N",
                        help="images to train on, at most (default all that are not "
                        "evaluated on)")  # fmt: skip
    parser.add_argument("--shift", type=natural, default=0, metavar="PIXELS",
                        help="shift images at random, up to so far (default 0)")  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="mirror half of the images at random")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="where to train (default cuda where there is one)")  # fmt: skip
    parser.add_argument("--resume", action="store_true",
                        help="go on from the checkpoint beside the output")  # fmt: skip


def run(options: Namespace) -> None:
    from analysis import tuning
    from analysis.commands.common import emit, quantized_network
    from analysis.progress import ProgressBars
    from analysis.sources import load_network
    from hwsim.bits import BitWidths

    schedule = tuning.schedule(options)
    BitWidths.parse(options.bits)
    tuning.check_checkpoint(options)
    network = load_network(options.model, options.weights, options.image_size)
    BitWidths.parse(options.bits).check(network.graph)
    images, training = tuning.training_sets(options, network)
    with ProgressBars() as progress:
        start = quantized_network(options, network, images, progress)
        tuning.check_steps(start)
        outcome = tuning.tune(options, start, training, schedule, progress)
        data, lines = tuning.tuned(options, start, outcome, images, training, progress)
    emit(options.json, data, lines)
