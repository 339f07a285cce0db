"""`chipfit explore`: buffers, bandwidth and array sizes: many designs of a chip at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import (
    MODEL_HELP,
    add_image_size,
    add_json,
    add_least,
    add_scale,
    average_bits,
    batch_size,
    ledger_path,
    natural,
    output_folder,
    positive_int,
)

if TYPE_CHECKING:
    from analysis.explore import Choice
    from hwsim.graph import LayerGraph


def add_arguments(parser: ArgumentParser) -> None:
    add_least(parser)
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
    add_scale(parser, "DIR")
    add_image_size(parser)
    parser.add_argument("-o", "--output", type=output_folder, metavar="DIR",
                        help="folder (default runs/explore_MODEL)")  # fmt: skip
    add_json(parser, "the table")


def run(options: Namespace) -> None:
    import time

    from analysis import design_space
    from analysis.commands.common import emit
    from analysis.explore import explore as run_exploration
    from analysis.explore import explore_files, summary_lines, to_records
    from analysis.progress import ProgressBars
    from analysis.run import check_folder, write_folder
    from analysis.scale import opened
    from analysis.sources import load_graph
    from hwsim.accelerator import load_accelerator

    accelerator = load_accelerator(options.on)
    axes = [design_space.parse_axis(accelerator, text) for text in options.vary]
    paths = [field.path for axis in axes for field in axis.fields]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"--vary: {twice} is varied twice; give all its values at once")
    if options.samples is None:
        designs = design_space.grid(axes)
    else:
        designs = design_space.latin_hypercube(axes, options.samples, options.seed)
    folder = options.output or f"runs/explore_{options.model.replace(':', '_').replace('/', '_')}"
    check_folder(folder)
    _explored_widths(options)
    graph = load_graph(options.model, options.image_size)
    began = time.perf_counter()
    choices = _choices(options, graph)
    chosen = time.perf_counter()
    kept = ledger_path(options.ledger, folder)
    with opened(kept, options.workers, options.scheduler) as runner, ProgressBars() as progress:
        explored = run_exploration(
            graph,
            accelerator,
            axes,
            designs,
            choices,
            batch=options.batch,
            complete=options.samples is None,
            runner=runner,
            progress=progress,
        )
    seconds = {"allocations": chosen - began, "design points": time.perf_counter() - chosen}
    recorded = {
        "model": options.model,
        "accelerator": options.on,
        "vary": {axis.name: list(axis.values) for axis in axes},
        "designs": len(designs),
        "samples": options.samples,
        "seed": options.seed,
        "allocations": [choice.label for choice in choices],
        "activation_bits": options.activation_bits if options.average else None,
        "reallocate": options.reallocate,
        "batch": options.batch,
    }
    named = [options.model, options.on, options.curves, *(options.bits or [])]
    inputs: dict[str, str | None] = {n: n for n in named if n is not None and Path(n).is_file()}
    write_folder(folder, explore_files(explored, options.argv, recorded, inputs, seconds))
    lines = [*summary_lines(explored), f"{folder}/pareto.png"]
    emit(options.json, to_records(explored.table), lines)


def _explored_widths(options: Namespace) -> None:
    """Refuse what cannot go together before any work; set the default of --bits."""
    from hwsim.bits import BitWidths

    if not options.bits and not options.average:
        options.bits = ["8"]
    if options.reallocate and not options.average:
        raise ValueError("explore: --reallocate allocates --average for every design; give it")
    for given, name in ((options.bits, "--bits"), (options.average, "--average")):
        if given and len(set(given)) < len(given):
            raise ValueError(f"explore: {name} has the same twice: {', '.join(map(str, given))}")
    for bits in options.bits or []:
        BitWidths.parse(bits)


def _choices(options: Namespace, graph: LayerGraph) -> list[Choice]:
    """The widths of --bits, then those of --average."""
    from analysis.commands.common import least_widths_of, load_curves
    from analysis.explore import Choice, allocator
    from hwsim.bits import BitWidths

    choices = []
    for text in options.bits or []:
        bits = BitWidths.parse(text)
        bits.check(graph)
        label = Path(text).stem if Path(text).is_file() else text
        choices.append(Choice(f"W{int(text)}A{int(text)}" if text.isdecimal() else label, bits))
    if options.average:
        found = load_curves(options.curves or options.model)
    for average in options.average or []:
        least = least_widths_of(options, average)
        choose = allocator(found, graph, average, options.activation_bits, least, options.batch)
        start = choose(None)
        start.bits.check(graph)
        label = f"average {average:g}"
        if options.reallocate:
            choices.append(Choice(f"{label}, by design", for_chip=choose))
        else:
            choices.append(Choice(label, start.bits, start.predicted_distortion))
    labels = [choice.label for choice in choices]
    if len(set(labels)) < len(labels):
        raise ValueError(f"explore: two --bits are called alike: {', '.join(labels)}")
    return choices
