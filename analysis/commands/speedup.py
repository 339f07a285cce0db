"""`chipfit speedup`: networks on accelerators, batches and widths, over named baselines."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import (
    MODEL_HELP,
    add_image_size,
    add_json,
    add_scale,
    average_bits,
    batch_size,
    ledger_path,
    output_folder,
    share,
)

if TYPE_CHECKING:
    from quant.curves import RDCurves


def add_arguments(parser: ArgumentParser) -> None:
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
    parser.add_argument("--latency-share", nargs="+", action="extend", type=share, metavar="S",
                        help="the least distorted widths that take at most this share of the "
                        "first baseline's time, such as 80%%; by curves too")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation, with --average and --latency-share "
                        "(default 8)")  # fmt: skip
    parser.add_argument("--curves", nargs="+", action="extend", metavar="FILE",
                        help="curves of the networks (.npz)")  # fmt: skip
    parser.add_argument("--baseline", nargs="+", action="extend", metavar="B",
                        help="what speedups are over, as --bits (default W8A8)")  # fmt: skip
    add_scale(parser, "DIR")
    add_image_size(parser)
    parser.add_argument("-o", "--output", type=output_folder, default="runs/speedup",
                        metavar="DIR", help="folder (default runs/speedup)")  # fmt: skip
    add_json(parser, "the table")


def run(options: Namespace) -> None:
    import time

    from analysis.commands.common import DEFAULT_ACCELERATORS, accelerators_of, emit
    from analysis.progress import ProgressBars
    from analysis.run import check_folder, write_folder
    from analysis.scale import opened
    from analysis.sources import load_graph
    from analysis.speedup import HEAD, cells, speedup_files, speedup_table
    from analysis.speedup_widths import Request, check_request
    from analysis.summary import columns

    names = options.on or list(DEFAULT_ACCELERATORS)
    accelerators = accelerators_of("speedup", names)
    request = Request(
        batches=tuple(options.batch or [1]),
        widths=tuple(options.bits or []),
        baselines=tuple(options.baseline or ["W8A8"]),
        averages=tuple(options.average or []),
        fit=options.fit,
        activation_bits=options.activation_bits,
        time_shares=tuple(options.latency_share or []),
    )
    check_folder(options.output)
    began = time.perf_counter()
    if options.curves and not request.needs_curves:
        raise ValueError("speedup: --curves goes with --average or --latency-share")
    curves = _curves_of(options) if request.needs_curves else {}
    check_request(request, options.model, curves)
    without = [model for model in options.model if request.needs_curves and model not in curves]
    if without:
        print(
            f"chipfit: no curves of {', '.join(without)}: nothing allocated there", file=sys.stderr
        )
    graphs = {model: load_graph(model, options.image_size) for model in options.model}
    read = time.perf_counter()
    kept = ledger_path(options.ledger, options.output)
    with opened(kept, options.workers, options.scheduler) as runner, ProgressBars() as bars:
        rows = speedup_table(
            graphs,
            accelerators,
            request,
            curves,
            lambda done, of: bars("simulations", done, of),
            runner,
        )
    seconds = {"reading": read - began, "simulations": time.perf_counter() - read}
    recorded = {
        "models": options.model,
        "accelerators": names,
        "image_size": options.image_size,
        **vars(request),
    }
    named = [*options.model, *names, *(options.curves or [])]
    named += [spec.rpartition("=")[2] for spec in (*request.widths, *request.baselines)]
    inputs = {name: name for name in named if Path(name).is_file()}
    files = speedup_files(rows, options.argv, recorded, inputs, seconds)
    write_folder(options.output, files)
    figures = sorted(name for name in files if name.endswith(".png"))
    lines = [*columns([HEAD, *(cells(row) for row in rows)])]
    lines += [f"{options.output}/{name}" for name in figures]
    emit(options.json, json.loads(files["speedup.json"]), lines)


def _curves_of(options: Namespace) -> dict[str, RDCurves]:
    """{model: curves} of those models that have any: from --curves, or those that come along."""
    from analysis.commands.common import load_curves
    from analysis.sources import EMBEDDED
    from quant.compact import shipped

    found = {curves.network: curves for curves in map(load_curves, options.curves or [])}
    for network in found:
        if network not in options.model:
            raise ValueError(
                f"speedup: curves of {network!r}, which is not among the models: "
                f"{', '.join(options.model)}"
            )
    for model in options.model:
        if model not in found and model in (EMBEDDED, *shipped()):
            found[model] = load_curves(model)
    return found
