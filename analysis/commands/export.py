"""`chipfit export`: a quantised network for other runtimes, a workload for other simulators."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from analysis.options import (
    BITS_HELP,
    MODEL_HELP,
    add_json,
    add_measuring,
    add_sources,
    batch_size,
    natural,
    output_file,
    output_folder,
)

if TYPE_CHECKING:
    from quant.apply import QuantizedNetwork
    from quant.images import LabelledImages

NETWORKS = ("native", "qdq", "packed-onnx", "qonnx", "torch")  # quant.export.formats.FORMATS
WORKLOADS = ("scalesim", "timeloop", "zigzag")
FOLDERS = ("scalesim", "timeloop")  # several files
CHECKED = 8


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--format", required=True, choices=(*NETWORKS, *WORKLOADS),
                        help="native: safetensors; qdq, packed-onnx, qonnx: ONNX; torch: .pt2; "
                        "scalesim: topology and .cfg; timeloop: a problem a layer; zigzag: "
                        "workload")  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="FILE",
                        help="file, or for scalesim and timeloop a folder")  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bits", metavar="B",
                      help=f"{BITS_HELP}; of a workload by default 8")  # fmt: skip
    what.add_argument("--packed", metavar="FILE",
                      help="a packed network, from pack or finetune")  # fmt: skip
    parser.add_argument("--curves", metavar="FILE",
                        help="take the quantisers from these curves")  # fmt: skip
    parser.add_argument("--on", metavar="ACCEL",
                        help="of scalesim: preset or .toml (default tpu_v1)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, metavar="N",
                        help="images at once (default: any number; one for qonnx and "
                        "workloads)")  # fmt: skip
    parser.add_argument("--check", type=natural, default=CHECKED, metavar="N",
                        help=f"run the file in its own runtime on N images and compare (default "
                        f"{CHECKED}; 0 for none)")  # fmt: skip
    add_sources(parser)
    add_measuring(parser)
    add_json(parser, "what was written")


def run(options: Namespace) -> None:
    from analysis.commands.common import emit

    try:
        (output_folder if options.format in FOLDERS else output_file)(options.output)
    except ArgumentTypeError as error:
        raise ValueError(f"-o: {error}") from None
    if options.on is not None and options.format != "scalesim":
        raise ValueError(f"export: --on is for --format scalesim, not {options.format}")
    made = _workload if options.format in WORKLOADS else _network
    emit(options.json, *made(options))


def _workload(options: Namespace) -> tuple[dict[str, Any], list[str]]:
    from analysis.sources import load_graph
    from hwsim.accelerator import load_accelerator
    from hwsim.bits import BitWidths
    from hwsim.exports.scalesim import write_scalesim
    from hwsim.exports.timeloop import write_timeloop
    from hwsim.exports.zigzag import write_zigzag

    if options.packed is not None:
        raise ValueError(
            f"export: {options.format} takes widths, not a packed network: give --bits"
        )
    bits = BitWidths.parse(options.bits or "8")
    graph = load_graph(options.model, options.image_size)
    batch = options.batch or 1
    if options.format == "scalesim":
        if options.bits is not None or batch > 1:
            raise ValueError(
                "export: SCALE-Sim knows no bit widths and no batches: leave out --bits and --batch"
            )
        accelerator = load_accelerator(options.on or "tpu_v1")
        paths, left_out = write_scalesim(graph, accelerator, options.output)
    elif options.format == "timeloop":
        paths, left_out = write_timeloop(graph, options.output, bits, batch)
    else:
        left_out = write_zigzag(graph, options.output, bits, batch)
        paths = [options.output]
    named = ", ".join(left_out[:4]) + (", ..." if len(left_out) > 4 else "")
    lines = [f"{options.output}: {len(paths)} file{'s' if len(paths) > 1 else ''}"]
    if left_out:
        lines.append(f"left out, work of the vector unit: {len(left_out)} layers ({named})")
    return {"files": paths, "left_out": list(left_out)}, lines


def _network(options: Namespace) -> tuple[dict[str, Any], list[str]]:
    from pathlib import Path

    from hwsim.bits import BitWidths
    from quant.codes import claimed_bits
    from quant.export.formats import save_export

    if options.bits is None and options.packed is None:
        raise ValueError(f"export: {options.format} needs a quantised network: --bits or --packed")
    if options.bits is not None:
        BitWidths.parse(options.bits)  # a mistake in it is said before the work
    quantized, judged = _quantized(options)
    save_export(options.output, quantized, options.format, options.batch)
    weight_bits, metadata_bits = claimed_bits(quantized.network.graph, quantized.bits)
    size = Path(options.output).stat().st_size
    data: dict[str, Any] = {
        "file": options.output, "file_bytes": size, "weight_bits": weight_bits,
        "metadata_bits": metadata_bits,
    }  # fmt: skip
    lines = [
        f"{options.output}: {size:,} bytes; {weight_bits:,} bits of weights and {metadata_bits:,} "
        f"of metadata are {(weight_bits + metadata_bits + 7) // 8:,} bytes"
    ]
    if options.check:
        found, line = _checked(options, quantized, judged)
        data["check"] = found
        lines.append(line)
    return data, lines


def _quantized(options: Namespace) -> tuple[QuantizedNetwork, LabelledImages | None]:
    """The network to write, and images that made no part of it, if there are any."""
    from analysis.commands.common import image_sets, quantized_network
    from analysis.progress import ProgressBars
    from analysis.sources import EMBEDDED, load_network
    from hwsim.bits import BitWidths

    network = load_network(options.model, options.weights, options.image_size)
    if options.packed is not None:
        from analysis.tuning import unseen
        from quant.codes import PackedFile, load_packed

        file = PackedFile.read(options.packed)
        there = options.images is not None or options.model == EMBEDDED
        judged = unseen(options.model, network, options.images, file.made_by) if there else None
        return load_packed(file, network), judged
    BitWidths.parse(options.bits).check(network.graph)
    images = image_sets(options, network)
    with ProgressBars() as progress:
        return quantized_network(options, network, images, progress), images.evaluation


def _checked(
    options: Namespace, quantized: QuantizedNetwork, judged: LabelledImages | None
) -> tuple[dict[str, Any] | None, str]:
    from quant.export.check import check_export, has_runtime
    from quant.export.formats import runtime_of

    if judged is None:
        return None, "not checked: give --images to run it on"
    if not has_runtime(options.format):
        return None, f"not checked: {runtime_of(options.format)} is not installed"
    size = options.batch or 1
    count = max(size, min(options.check, len(judged)) // size * size)
    if count > len(judged):
        return None, f"not checked: {len(judged)} images are fewer than a batch of {size}"
    images, _ = next(judged.take(slice(0, count)).batches(count))
    found = check_export(options.output, options.format, quantized, images)
    line = (
        f"{found.runtime} on {found.images} images: logits differ by at most "
        f"{found.max_difference:.3g} (largest {found.largest:.3g}), the same class on "
        f"{100 * found.agreement:.1f} %"
    )
    return found.to_json(), line
