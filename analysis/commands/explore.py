"""`chipfit explore`: buffers, bandwidth and array sizes: many designs of a chip at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.options import (
    BITS_HELP,
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
    from analysis.design_space import Axis, Design
    from analysis.explore import Choice
    from hwsim.accelerator import Accelerator
    from hwsim.graph import LayerGraph


def add_arguments(parser: ArgumentParser) -> None:
    add_least(parser)
    parser.add_argument("model", help=f"{MODEL_HELP}, alexnet_paper or vgg16_paper")
    parser.add_argument("--on", action="append", metavar="ACCEL",
                        help="accelerator, preset or .toml; may be repeated (default "
                        "tpu_v1)")  # fmt: skip
    parser.add_argument("--vary", action="append", required=True, metavar="FIELD=LO:HI:STEP",
                        help="a number of the accelerator, named as `chipfit accelerators NAME` "
                        "does or by an end of that: unified_buffer.capacity=4MiB:32MiB:4MiB, "
                        "bandwidth=10GB/s:80GB/s:x2, clock=0.5GHz,0.7GHz; array.rows,array.cols="
                        "64:512:x2 varies both alike; may be repeated; of several --on it "
                        "varies those that have it")  # fmt: skip
    parser.add_argument("--bits", action="append", metavar="B",
                        help=f"{BITS_HELP}; may be repeated "
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

    from analysis.commands.common import accelerators_of, emit, run_folder
    from analysis.explore import explore as run_exploration
    from analysis.explore_summary import summary_lines, to_records
    from analysis.explorer.folder import PAGE, explore_files
    from analysis.explorer.layers import detailed_rows, layer_results
    from analysis.progress import ProgressBars
    from analysis.run import check_folder, write_folder
    from analysis.scale import opened
    from analysis.sources import load_graph

    names = options.on or ["tpu_v1"]
    accelerators = accelerators_of("explore", names)
    spaces = _spaces(options, accelerators)
    folder = options.output or run_folder(options.model, "explore_")
    check_folder(folder)
    _explored_widths(options)
    graph = load_graph(options.model, options.image_size)
    began = time.perf_counter()
    choices = _choices(options, graph)
    chosen = time.perf_counter()
    kept = ledger_path(options.ledger, folder)
    explored, layers = [], []
    with opened(kept, options.workers, options.scheduler) as runner, ProgressBars() as progress:
        for accelerator, (axes, designs) in zip(accelerators, spaces, strict=True):
            found = run_exploration(
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
            rows = detailed_rows(found, len(graph.layers))
            explored.append(found)
            layers.append(layer_results(graph, found, rows, runner, progress))
    seconds = {"allocations": chosen - began, "design points": time.perf_counter() - chosen}
    recorded = {
        "model": options.model,
        "accelerators": names,
        "vary": {
            accelerator.name: {axis.name: list(axis.values) for axis in axes}
            for accelerator, (axes, _) in zip(accelerators, spaces, strict=True)
        },
        "designs": sum(len(designs) for _, designs in spaces),
        "samples": options.samples,
        "seed": options.seed,
        "allocations": [choice.label for choice in choices],
        "activation_bits": options.activation_bits if options.average else None,
        "reallocate": options.reallocate,
        "batch": options.batch,
    }
    named = [options.model, *names, options.curves, *(options.bits or [])]
    inputs: dict[str, str | None] = {n: n for n in named if n is not None and Path(n).is_file()}
    files = explore_files(graph, explored, layers, options.argv, recorded, inputs, seconds)
    write_folder(folder, files)
    lines = [line for found in explored for line in summary_lines(found)]
    records = [
        {"accelerator": found.accelerator.name, **row}
        for found in explored
        for row in to_records(found.table)
    ]
    emit(options.json, records, [*lines, f"{folder}/{PAGE}"])


def _spaces(
    options: Namespace, accelerators: list[Accelerator]
) -> list[tuple[list[Axis], list[Design]]]:
    """Axes and designs of every accelerator: of --vary, those whose fields it has."""
    from analysis import design_space

    spaces = []
    held = set[str]()
    for accelerator in accelerators:
        mine = [text for text in options.vary if design_space.has_fields(accelerator, text)]
        held.update(mine)
        # of one accelerator, and where none has a field, the mistake is named
        axes = [
            design_space.parse_axis(accelerator, text)
            for text in (mine if len(accelerators) > 1 else options.vary)
        ]
        paths = [field.path for axis in axes for field in axis.fields]
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise ValueError(f"--vary: {twice} is varied twice; give all its values at once")
        if options.samples is None:
            designs = design_space.grid(axes)
        else:
            designs = design_space.latin_hypercube(axes, options.samples, options.seed)
        spaces.append((axes, designs))
    for text in options.vary:
        if text not in held and len(accelerators) > 1:
            names = ", ".join(accelerator.name for accelerator in accelerators)
            raise ValueError(f"--vary {text!r}: none of {names} has such fields")
    for accelerator, (axes, _) in zip(accelerators, spaces, strict=True):
        if not axes:
            raise ValueError(f"explore: no --vary names a field of {accelerator.name}")
    return spaces


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
