"""Types of arguments, and the options that several commands share.

Nothing heavy is imported here, so that help answers at once.
"""

from __future__ import annotations

import argparse
import os
import re

MODEL_HELP = (
    "digits, a torchvision classifier (see `chipfit models`), a saved torch.export program (.pt2), "
    "an ONNX file (.onnx), a SCALE-Sim topology (.csv) or package.module:function"
)

BITS_HELP = "an int, a pair such as W4A8, an allocation file or a table of widths (.csv)"


def positive_int(text: str) -> int:
    return _number(text, int, 1)


def batch_size(text: str) -> int:
    return _number(text, int, 1, 2**16)


def mapping_count(text: str) -> int:
    return _number(text, int, 1, 10**4)


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
    if os.path.lexists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected the name of a folder, {text!r} is a file")
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


def tolerance(text: str) -> float:
    """'0', '1e-6' or '5%' to a share in 0..1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a share of at least 0 and below 1, such as 1e-6, got {text!r}"
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


def add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="FILE", help="trained weights (.safetensors)")
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="labelled images: a folder with labels.csv or one sub-folder a class, or a .npz",
    )
    add_image_size(parser)
    parser.add_argument(
        "--seed", type=natural, default=0, help="of every random choice (default 0)"
    )


def add_measuring(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--clips", choices=("priced", "squared"),
                        help="ranges of activations by the error of the output, priced on a few "
                        "images, or by their own squared error (default: priced, but squared "
                        "with nearest rounding)")  # fmt: skip


def add_least(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-bits", type=int, choices=range(9), metavar="N",
                        help="narrowest weights (default: one below the average)")  # fmt: skip
    parser.add_argument("--min-activation-bits", type=int, choices=range(1, 9), metavar="N",
                        help="narrowest activations (default 4)")  # fmt: skip


def add_group(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--group", type=positive_int, metavar="N",
                        help="one width for every N neighbouring output channels (or as many "
                        "below as divide the layer)")  # fmt: skip


def add_json(parser: argparse.ArgumentParser, what: str = "the result") -> None:
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help=f"write {what}; - for standard output"
    )


def add_scale(parser: argparse.ArgumentParser, output: str) -> None:
    """output: the folder whose name the default ledger takes."""
    parser.add_argument("--workers", type=workers, default=1, metavar="N",
                        help="processes that share the work (default 1)")  # fmt: skip
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="workers of a dask cluster instead (extra distributed)")  # fmt: skip
    parser.add_argument("--ledger", type=output_file, metavar="FILE",
                        help="keeps every finished result, so that the same command goes on where "
                        "it was stopped; none for no ledger (default "
                        f"{output}.ledger)")  # fmt: skip


def ledger_path(ledger: str | None, folder: str) -> str | None:
    """The ledger that was asked for; by default the one beside the output folder."""
    if ledger == "none":
        return None
    return ledger or f"{folder.rstrip('/')}.ledger"


def add_image_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image-size", type=pixels, metavar="N", help="pixels a side")
