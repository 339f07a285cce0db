"""chipfit: the command. Parsing and errors only; the work is in `commands`, imported when needed.

Nothing heavy is imported here, so that help answers at once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

OK, FAILED, INTERRUPTED = 0, 2, 130

MODEL_HELP = (
    "digits, a torchvision classifier (see `chipfit models`), a saved torch.export program (.pt2), "
    "an ONNX file (.onnx), a SCALE-Sim topology (.csv) or package.module:function"
)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, with a did-you-mean."""

    def error(self, message: str) -> NoReturn:
        if "unrecognized arguments" in message:
            known = [option for action in self._actions for option in action.option_strings]
            for word in message.split(": ", 1)[1].split():
                near = get_close_matches(word.split("=")[0], known, n=1)
                if near:
                    message += f"; did you mean {near[0]}?"
                    break
        if "invalid choice" in message and "command" in message:
            near = get_close_matches(message.split("'")[1], COMMANDS, n=1)
            message = f"there is no command {message.split(chr(39))[1]!r}"
            message += f"; did you mean {near[0]}?" if near else f"; there is {', '.join(COMMANDS)}"
        self.exit(FAILED, f"chipfit: error: {message} (try {self.prog} --help)\n")


def positive_int(text: str) -> int:
    return _number(text, int, 1)


def batch_size(text: str) -> int:
    return _number(text, int, 1, 2**16)


def workers(text: str) -> int:
    return _number(text, int, 1, 256)


def pixels(text: str) -> int:
    return _number(text, int, 1, 2**14)


def natural(text: str) -> int:
    return _number(text, int, 0)


def average_bits(text: str) -> float:
    value = float(_number(text, float, 0))
    if not value <= 8:
        raise argparse.ArgumentTypeError(f"expected a number of bits in 0..8, got {text!r}")
    return value


def bits_range(text: str) -> list[float]:
    """'2..8', '2..4:0.5' or '3' to average widths."""
    match = re.fullmatch(r"\s*([0-9.]+?)(?:\.\.([0-9.]+?)(?::([0-9.]+))?)?\s*", text)
    try:
        low, high, step = (float(part) if part else None for part in match.groups())  # type: ignore
    except (AttributeError, ValueError):
        low = high = step = None
    if low is not None:
        high, step = low if high is None else high, 1.0 if step is None else step
        if 0 <= low <= high <= 8 and step >= 0.01:
            return [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
    raise argparse.ArgumentTypeError(
        f"expected average widths in 0..8 such as 2..8, 2..4:0.5 or 3, got {text!r}"
    )


def _number(text: str, kind: type, lowest: int, highest: int = 10**9) -> int:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not lowest <= value <= highest:
        wanted = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(
            f"expected {wanted} of at least {lowest} and at most {highest}, got {text!r}"
        )
    return value


def output_file(text: str) -> str:
    """Refused before the work rather than after it: no name, a folder, a file as its folder."""
    if text == "-":
        return text
    above = os.path.dirname(os.path.abspath(text))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not text or os.path.isdir(text) or not os.path.isdir(above):
        wrong = "is a folder" if text and os.path.isdir(text) else f"{above} is no folder"
        raise argparse.ArgumentTypeError(
            f"expected the name of a file to write, got {text!r}{f': {wrong}' if text else ''}"
        )
    return text


def output_folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got ''")
    return text


def size_bits(text: str) -> int:
    """'4MB' or '4 MB' to bits."""
    from hwsim.schema import parse_quantity

    try:
        bits = parse_quantity(text, "bit")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if bits < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 bit, got {text!r}")
    return int(bits)


def share(text: str) -> float:
    """'5%' or '0.05' to 0.05."""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})\s*(%?)\s*", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a share between 0 and 1, such as 5% or 0.05, got {text!r}"
        )
    return value


_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_PICOJOULE = {"J": 1e12, "mJ": 1e9, "uJ": 1e6, "nJ": 1e3}


def latency_seconds(text: str) -> float:
    """'2ms' or '2 ms' to seconds."""
    return _amount(text, _SECONDS, "2ms")


def energy_picojoule(text: str) -> float:
    """'3mJ' or '3 mJ' to picojoules."""
    return _amount(text, _PICOJOULE, "3mJ")


def _amount(text: str, units: dict[str, float], example: str) -> float:
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]+)\s*", text)
    if not match or match[2] not in units or not float(match[1]) > 0:
        raise argparse.ArgumentTypeError(
            f"expected an amount above 0 in {', '.join(units)}, such as {example}, got {text!r}"
        )
    return float(match[1]) * units[match[2]]


def _sources(parser: Parser, images: bool = True) -> None:
    parser.add_argument("--weights", metavar="FILE", help="trained weights (.safetensors)")
    if images:
        parser.add_argument(
            "--images",
            metavar="DIR",
            help="labelled images: a folder with labels.csv or one sub-folder a class, or a .npz",
        )
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument(
        "--seed", type=natural, default=0, help="of every random choice (default 0)"
    )


def _measuring(parser: Parser) -> None:
    parser.add_argument("--rounding", choices=("sequential", "feedback", "nearest"),
                        default="sequential", help="feedback lowers the distortion, sequential "
                        "goes on through layers already quantised, nearest is fast "
                        "(default sequential)")  # fmt: skip
    parser.add_argument("--rounding-images", type=positive_int, default=400, metavar="N",
                        help="images feedback is fitted on, at most (default 400)")  # fmt: skip
    parser.add_argument("--calibration", type=positive_int, default=96, metavar="N",
                        help="calibration images (default 96)")  # fmt: skip
    parser.add_argument("--probes", type=positive_int, default=2, metavar="N",
                        help="random vectors an image (default 2)")  # fmt: skip
    parser.add_argument("--choose", choices=("priced", "energy"),
                        help="steps and dead zones by the error of the output, priced on a few "
                        "images, or of the layer's (default: priced where images are left for "
                        "it; energy with sequential rounding, which searches its own "
                        "steps)")  # fmt: skip
    parser.add_argument("--steps", choices=("real", "power_of_two"), default="real",
                        help="steps of weights (default real)")  # fmt: skip
    parser.add_argument("--clips", choices=("squared", "priced"), default="squared",
                        help="ranges of activations by squared or by priced error "
                        "(default squared)")  # fmt: skip


def _least(parser: Parser) -> None:
    parser.add_argument("--min-bits", type=int, choices=range(9), metavar="N",
                        help="narrowest weights (default: one below the average)")  # fmt: skip
    parser.add_argument("--min-activation-bits", type=int, choices=range(1, 9), metavar="N",
                        help="narrowest activations (default 4)")  # fmt: skip


def _run(parser: Parser) -> None:
    _least(parser)
    parser.add_argument("model", nargs="?", default="digits", help=f"{MODEL_HELP} (default digits)")
    parser.add_argument("--bits", type=average_bits, default=None,
                        help="average bits of a weight (default 4; 3 for digits)")  # fmt: skip
    parser.add_argument("--relinearise", type=natural, default=0, metavar="N",
                        help="price again around the quantised network, at most N times, and keep "
                        "the widths measured best (default 0)")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--on", action="append", metavar="ACCEL",
                        help="accelerator, preset or .toml; may be repeated (default: all "
                        "presets of the mission, tpu_v1 and eyeriss_v1)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--curves", metavar="FILE", help="use these curves instead of measuring")
    parser.add_argument(
        "-o", "--output", type=output_folder, metavar="DIR", help="folder (default runs/MODEL)"
    )
    _sources(parser)
    _measuring(parser)


def _simulate(parser: Parser) -> None:
    parser.add_argument("model", help=f"{MODEL_HELP}, alexnet_paper or vgg16_paper")
    parser.add_argument("--on", default="tpu_v1", metavar="ACCEL", help="preset or .toml")
    parser.add_argument("--bits", default="8", metavar="B",
                        help="an int, a pair such as W4A8, or an allocation file")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--mapping", metavar="FILE",
                        help="mappings of a row-stationary array: a preset or a .toml")  # fmt: skip
    parser.add_argument("--plots", type=output_folder, metavar="DIR",
                        help="write figures and tables of energy and of what memories hold to a "
                        "folder")  # fmt: skip
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the result; - for standard output"
    )


def _curves(parser: Parser) -> None:
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
    _sources(parser)
    _measuring(parser)
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write a summary; - for standard output"
    )


def _allocate(parser: Parser) -> None:
    _least(parser)
    parser.add_argument("curves", help="curves file (.npz), or digits or mobilenet_v2, whose "
                        "curves come along")  # fmt: skip
    parser.add_argument("--group", type=positive_int, metavar="N",
                        help="one width for every N neighbouring output channels (or as many "
                        "below as divide the layer)")  # fmt: skip
    parser.add_argument("--bits", type=average_bits, help="average bits of a weight")
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--size", type=size_bits, metavar="SIZE",
                        help="all weights with their metadata, such as 4MB")  # fmt: skip
    parser.add_argument("--joint-bits", type=size_bits, metavar="SIZE",
                        help="one budget over weights and activations together")  # fmt: skip
    parser.add_argument("--latency", type=latency_seconds, metavar="TIME",
                        help="at most, on --on, as simulated; such as 2ms")  # fmt: skip
    parser.add_argument("--energy", type=energy_picojoule, metavar="ENERGY",
                        help="at most, on --on, as simulated; such as 3mJ")  # fmt: skip
    parser.add_argument("--on", metavar="ACCEL", help="keep each layer on this chip")
    parser.add_argument("--model", help="the network, for --on (default: named by the curves)")
    parser.add_argument("--batch", type=batch_size, default=1, help="for --on (default 1)")
    parser.add_argument("--per-layer", action="store_true", help="one width a layer")
    parser.add_argument(
        "-o", "--output", type=output_file, metavar="FILE", help="allocation file (.json)"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write a summary; - for standard output"
    )


def _pareto(parser: Parser) -> None:
    parser.add_argument("source", help=f"curves file (.npz), or {MODEL_HELP}")
    parser.add_argument("--bits", type=bits_range, default="2..8", metavar="LO..HI[:STEP]",
                        help="average bits of a weight (default 2..8)")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--on", action="append", metavar="ACCEL",
                        help="accelerator, preset or .toml; may be repeated (default "
                        "tpu_v1)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--model", help="the network (default: named by the curves)")
    parser.add_argument("-o", "--output", type=output_folder, metavar="DIR",
                        help="folder (default runs/pareto_MODEL)")  # fmt: skip
    _sources(parser)
    _measuring(parser)
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the table; - for standard output"
    )


def _speedup(parser: Parser) -> None:
    parser.add_argument("model", nargs="+", help=f"{MODEL_HELP}; several may be given")
    parser.add_argument("--on", nargs="+", action="extend", metavar="ACCEL",
                        help="accelerators, presets or .toml (default tpu_v1 and "
                        "eyeriss_v1)")  # fmt: skip
    parser.add_argument("--batch", nargs="+", action="extend", type=batch_size, metavar="N",
                        help="images at once (default 1)")  # fmt: skip
    parser.add_argument("--bits", nargs="+", action="extend", metavar="B",
                        help="native (the accelerator's own operands), an int, a pair such as "
                        "W4A8, an allocation file, or MODEL=FILE")  # fmt: skip
    parser.add_argument("--average", nargs="+", action="extend", type=average_bits,
                        metavar="BITS", help="average bits of a weight, allocated by curves: of "
                        "networks whose curves come along, or of --curves")  # fmt: skip
    parser.add_argument("--fit", action="store_true",
                        help="beside each average one that keeps every layer on chip")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation, with --average "
                        "(default 8)")  # fmt: skip
    parser.add_argument("--curves", nargs="+", action="extend", metavar="FILE",
                        help="curves of the networks (.npz)")  # fmt: skip
    parser.add_argument("--baseline", nargs="+", action="extend", metavar="B",
                        help="what speedups are over, as --bits (default W8A8)")  # fmt: skip
    parser.add_argument("--workers", type=positive_int, default=1, metavar="N",
                        help="processes that share the work (default 1)")  # fmt: skip
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument("-o", "--output", type=output_folder, default="runs/speedup",
                        metavar="DIR", help="folder (default runs/speedup)")  # fmt: skip
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the table; - for standard output"
    )


def _explore(parser: Parser) -> None:
    _least(parser)
    parser.add_argument("model", help=f"{MODEL_HELP}, alexnet_paper or vgg16_paper")
    parser.add_argument("--on", default="tpu_v1", metavar="ACCEL", help="preset or .toml")
    parser.add_argument("--vary", action="append", required=True, metavar="FIELD=LO:HI:STEP",
                        help="a number of the accelerator, named as `chipfit accelerators NAME` "
                        "does or by an end of that: unified_buffer.capacity=4MiB:32MiB:4MiB, "
                        "bandwidth=10GB/s:80GB/s:x2, clock=0.5GHz,0.7GHz; array.rows,array.cols="
                        "64:512:x2 varies both alike; may be repeated")  # fmt: skip
    parser.add_argument("--bits", action="append", metavar="B",
                        help="an int, a pair such as W4A8, or an allocation file; may be repeated "
                        "(default 8, without --average)")  # fmt: skip
    parser.add_argument("--average", action="append", type=average_bits, metavar="BITS",
                        help="widths allocated at this average of a weight; may be "
                        "repeated")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation, with --average "
                        "(default 8)")  # fmt: skip
    parser.add_argument("--curves", metavar="FILE", help="curves (.npz) for --average (default: "
                        "those that come along)")  # fmt: skip
    parser.add_argument("--reallocate", action="store_true",
                        help="allocate --average anew for every design, so that each layer fits "
                        "on its chip")  # fmt: skip
    parser.add_argument("--samples", type=positive_int, metavar="N",
                        help="draw N designs (Latin hypercube) instead of the full grid, which is "
                        "of at most three --vary")  # fmt: skip
    parser.add_argument("--seed", type=natural, default=0, help="of --samples (default 0)")
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--workers", type=workers, default=1, metavar="N",
                        help="processes, for row-stationary arrays (default 1)")  # fmt: skip
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument("-o", "--output", type=output_folder, metavar="DIR",
                        help="folder (default runs/explore_MODEL)")  # fmt: skip
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the table; - for standard output"
    )


def _evaluate(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bits", metavar="B",
                      help="an int, a pair such as W4A8, or an allocation file")  # fmt: skip
    what.add_argument("--packed", metavar="FILE",
                      help="a packed network, from pack or finetune")  # fmt: skip
    parser.add_argument("--curves", metavar="FILE",
                        help="take the quantisers from these curves")  # fmt: skip
    _sources(parser)
    _measuring(parser)
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the result; - for standard output"
    )


def _pack(parser: Parser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--bits", required=True, metavar="B",
                        help="an int, a pair such as W4A8, or an allocation file")  # fmt: skip
    parser.add_argument("--curves", metavar="FILE",
                        help="take the quantisers from these curves")  # fmt: skip
    parser.add_argument("-o", "--output", type=output_file, required=True, metavar="FILE",
                        help="packed network (.safetensors)")  # fmt: skip
    _sources(parser)
    _measuring(parser)
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write its sizes; - for standard output"
    )


def _finetune(parser: Parser) -> None:
    _pack(parser)
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


def _models(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="show the layers of one network")
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the list; - for standard output"
    )


def _accelerators(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="show one: a preset, or a .toml to check")
    parser.add_argument("--toml", action="store_true",
                        help="print the file itself, sources and all, to start one's own "
                        "from")  # fmt: skip
    parser.add_argument("--fields", action="store_true",
                        help="all that a .toml may say: what is expected, and what it "
                        "means")  # fmt: skip
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write it; - for standard output"
    )


def _mappings(parser: Parser) -> None:
    parser.add_argument("layer", help="LAYER of --model")
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument("--on", default="eyeriss_v1", metavar="ACCEL", help="preset or .toml")
    parser.add_argument("--bits", default="16", metavar="B", help="an int or W4A8 (default 16)")
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--count", type=positive_int, default=10, help="how many (default 10)")
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write them; - for standard output"
    )


COMMANDS = {
    "run": (_run, "the main job: curves, allocation, accuracy, simulation, report"),
    "simulate": (_simulate, "one network on one accelerator"),
    "curves": (_curves, "rate-distortion curves of every channel"),
    "allocate": (_allocate, "bit widths from curves, under a budget"),
    "pareto": (_pareto, "accuracy, size, time and energy over a range of budgets"),
    "speedup": (_speedup, "networks on accelerators, batches and widths, over named baselines"),
    "explore": (_explore, "buffers, bandwidth and array sizes: many designs of a chip at once"),
    "evaluate": (_evaluate, "accuracy of a network at given widths"),
    "pack": (_pack, "write a quantised network as the bits that a chip would store"),
    "finetune": (_finetune, "recover accuracy at given widths by training on images"),
    "mappings": (_mappings, "the best row-stationary mappings of a layer"),
    "models": (_models, "networks that there are"),
    "accelerators": (_accelerators, "accelerators that there are"),
}


def build_parser() -> Parser:
    parser = Parser(
        prog="chipfit",
        description="Bit width of every channel by rate-distortion optimisation, judged on "
        "cycle-level simulators of real accelerators.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=Parser)
    for name, (add, text) in COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # idle OpenMP threads that spin slow everything many times over when cores are shared
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = build_parser()
    try:
        options = parser.parse_args(arguments)
        if options.version:
            from importlib.metadata import version

            print(f"chipfit {version('chipfit')}")
            return OK
        if options.command is None:
            parser.print_help()
            return OK
        from analysis import commands

        command = getattr(commands, options.command)
        options.argv = ["chipfit", *arguments]
        command(options)
        sys.stdout.flush()
    except SystemExit as error:  # argparse: help is 0, a mistake is 2
        return int(error.code or 0)
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        print(f"chipfit: error: {' '.join(filter(None, lines))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interruption:
        kept = str(interruption) or "nothing was written"
        print(f"chipfit: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has gone: not our mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


if __name__ == "__main__":
    sys.exit(main())
