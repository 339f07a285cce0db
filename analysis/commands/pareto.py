"""`chipfit pareto`: accuracy, size, time and energy over a range of budgets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from analysis.options import (
    MODEL_HELP,
    add_group,
    add_json,
    add_least,
    add_measuring,
    add_sources,
    average_bits,
    batch_size,
    bits_range,
    output_folder,
)

if TYPE_CHECKING:
    from analysis.pareto import Evaluate
    from hwsim.bits import BitWidths
    from hwsim.graph import LayerGraph
    from quant.accuracy import Accuracy
    from quant.curves import RDCurves


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", help=f"curves file (.npz), or {MODEL_HELP}; mobilenet_v2 without "
                        "--weights and --images: by the curves that come along")  # fmt: skip
    add_group(parser)
    add_least(parser)
    parser.add_argument("--bits", type=bits_range, default="2..8", metavar="LO..HI[:STEP]",
                        help="average bits of a weight (default 2..8)")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--on", action="append", metavar="ACCEL",
                        help="accelerator, preset or .toml; may be repeated (default "
                        "tpu_v1)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--model", help="the network, if the curves are of one of your own")
    parser.add_argument("-o", "--output", type=output_folder, metavar="DIR",
                        help="folder (default runs/pareto_MODEL)")  # fmt: skip
    add_sources(parser)
    add_measuring(parser)
    add_json(parser, "the table")


def run(options: Namespace) -> None:
    import time

    from analysis.commands.common import (
        DEFAULT_ACCELERATORS,
        accelerators_of,
        emit,
        least_widths_of,
        load_curves,
        run_folder,
    )
    from analysis.pareto import choose_points, pareto_files, pareto_table, table_lines
    from analysis.run import check_folder, write_folder
    from analysis.sources import EMBEDDED, graph_of
    from quant.compact import shipped

    names = options.on or [DEFAULT_ACCELERATORS[0]]
    accelerators = accelerators_of("pareto", names)
    from_file = options.source.endswith(".npz")
    along = options.source in shipped() and options.images is None and options.weights is None
    known = load_curves(options.source) if from_file or along else None
    shapes = None if known is None else graph_of(known, options.model, options.image_size)
    model = options.model or (options.source if known is None else known.network)
    folder = options.output or run_folder(model, "pareto_")
    check_folder(folder)
    began = time.perf_counter()
    measured = model == EMBEDDED or options.images is not None or known is None
    if measured:
        found, graph, judge = _judge(options, model, known)
    else:
        assert known is not None
        assert shapes is not None
        found, graph, judge = known, shapes, None
    curves_done = time.perf_counter()
    points = choose_points(
        found,
        graph,
        {bits: least_widths_of(options, bits) for bits in options.bits},
        options.activation_bits,
        options.group or 1,
    )
    for point in points:
        point.allocation.bits.check(graph)
    chosen = time.perf_counter()
    table = pareto_table(graph, points, accelerators, options.batch, judge)
    seconds = {
        "curves": curves_done - began,
        "allocations": chosen - curves_done,
        "simulations and evaluations": time.perf_counter() - chosen,
    }
    recorded = {
        "model": model,
        "bits": options.bits,
        "activation_bits": options.activation_bits,
        "group": options.group or 1,
        "accelerators": names,
        "batch": options.batch,
        "seed": options.seed,
        "evaluated": measured,
    }
    inputs = {
        "curves": options.source if from_file else None,
        "weights": options.weights,
        "images": options.images,
        **{name: name for name in names if name.endswith(".toml")},
    }
    files = pareto_files(table, points, accelerators, options.argv, recorded, inputs, seconds)
    write_folder(folder, files)
    lines = [*table_lines(table, accelerators), f"{folder}/report.html"]
    emit(options.json, table.to_dict("records"), lines)


def _judge(
    options: Namespace, model: str, known: RDCurves | None
) -> tuple[RDCurves, LayerGraph, Evaluate]:
    """Curves, measured unless known, the graph, and what evaluates widths by the same recipe."""
    from analysis.commands.common import image_sets
    from analysis.measuring import Choosing, find_rounder, measure_curves
    from analysis.progress import ProgressBars
    from analysis.sources import load_network
    from analysis.study import rounding_of
    from quant.accuracy import evaluate as measure
    from quant.apply import quantize

    network = load_network(model, options.weights, options.image_size)
    options.model = model
    if known is not None:
        options.rounding = rounding_of(known)
    images = image_sets(options, network)
    with ProgressBars() as progress:
        if known is None:
            found, rounder = measure_curves(
                network,
                images,
                rounding=options.rounding,
                probes=options.probes,
                seed=options.seed,
                progress=progress,
                choosing=Choosing.of(options),
            )
        else:
            found = known
            rounder = find_rounder(options.rounding, network, images, options.seed, progress)

    def judge(bits: BitWidths) -> Accuracy:
        quantized = quantize(network, bits, found, rounder=rounder)
        return measure(network, quantized, images.evaluation)

    return found, network.graph, judge
