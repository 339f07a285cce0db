"""`chipfit run`: the main job: curves, allocation, accuracy, simulation, report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import (
    MODEL_HELP,
    add_group,
    add_least,
    add_measuring,
    add_sources,
    average_bits,
    batch_size,
    natural,
    output_folder,
)


def add_arguments(parser: ArgumentParser) -> None:
    add_least(parser)
    add_group(parser)
    parser.add_argument("model", nargs="?", default="digits", help=f"{MODEL_HELP} (default digits)")
    parser.add_argument("--bits", type=average_bits, default=None,
                        help="average bits of a weight (default 4; 3 for digits)")  # fmt: skip
    parser.add_argument("--relinearise", type=natural, default=0, metavar="N",
                        help="price again around the quantised network, at most N times, and keep "
                        "the widths measured best (default 0)")  # fmt: skip
    parser.add_argument("--activation-bits", type=average_bits, default=8.0, metavar="BITS",
                        help="average bits of an activation (default 8)")  # fmt: skip
    parser.add_argument("--on", action="append", metavar="ACCEL",
                        help="accelerator, preset or .toml; may be repeated (default "
                        "tpu_v1 and eyeriss_v1)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=1, help="images at once (default 1)")
    parser.add_argument("--curves", metavar="FILE", help="use these curves instead of measuring")
    parser.add_argument(
        "-o", "--output", type=output_folder, metavar="DIR", help="folder (default runs/MODEL)"
    )
    add_sources(parser)
    add_measuring(parser)


def run(options: Namespace) -> None:
    from analysis.commands.common import (
        DEFAULT_ACCELERATORS,
        accelerators_of,
        image_sets,
        least_widths_of,
        run_folder,
    )
    from analysis.measuring import Choosing
    from analysis.progress import ProgressBars
    from analysis.run import check_folder, run_files, write_folder
    from analysis.sources import EMBEDDED, load_network
    from analysis.study import Request, run_study
    from analysis.summary import summary_lines
    from quant.curves import RDCurves

    names = options.on or list(DEFAULT_ACCELERATORS)
    accelerators = tuple(accelerators_of("run", names))
    bits = options.bits if options.bits is not None else 3.0 if options.model == EMBEDDED else 4.0
    folder = options.output or run_folder(options.model)
    check_folder(folder)
    known = RDCurves.load(options.curves) if options.curves else None
    network = load_network(options.model, options.weights, options.image_size)
    images = image_sets(options, network)
    least = least_widths_of(options, bits)
    request = Request(
        bits, options.activation_bits, accelerators, options.batch, least, options.group or 1
    )
    with ProgressBars() as progress:
        study = run_study(
            network,
            images,
            request,
            curves=known,
            rounding=options.rounding,
            probes=options.probes,
            seed=options.seed,
            relinearise=options.relinearise,
            progress=progress,
            choosing=Choosing.of(options),
        )
    recorded = {
        "model": options.model,
        "bits": bits,
        "activation_bits": options.activation_bits,
        "least_bits": least,
        "group": request.group,
        "accelerators": names,
        "batch": options.batch,
        "calibration_images": len(images.calibration),
        "evaluation_images": len(images.evaluation),
        "rounding_images": 0
        if images.fitting is None or options.rounding == "nearest"
        else len(images.fitting),
        "rounding": options.rounding,
        "choose": options.choose,
        "steps": options.steps,
        "clips": options.clips,
        "probes": options.probes,
        "relinearise": options.relinearise,
        "seed": options.seed,
    }
    inputs = {
        "weights": options.weights,
        "images": options.images,
        "curves": options.curves,
        **{name: name for name in names if name.endswith(".toml")},
    }
    write_folder(folder, run_files(study, options.argv, recorded, inputs))
    for line in summary_lines(study):
        print(line)
    if options.relinearise:
        from quant.relinearise import rounds_line

        print(rounds_line(study.curves))
    print(f"{folder}/report.html")
