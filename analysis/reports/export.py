"""Exported networks run by other runtimes, beside the project's own: differences and bytes.

    python -m analysis.reports.export NETWORK... [--weights DIR --images DIR] -o reports/export.md

The embedded network, digits, needs neither weights nor images; NETWORK.safetensors is looked for in
the folder of weights. The file is written anew after every row, and rows of networks that are not
named stay as they are. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from analysis.budgets import input_widths
from analysis.manifest import versions
from analysis.sources import EMBEDDED, ImageSets, load_image_sets, load_network
from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import LayerGraph
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget
from quant.apply import quantize
from quant.compact import load_shipped
from quant.export.check import RoundTrip, check_export
from quant.export.formats import FORMATS, SUFFIXES, save_export

CALIBRATION = 32  # images that the quantisers are made from
IMAGES, QONNX_IMAGES = 32, 4  # evaluation images; qonnx runs node after node, in seconds an image
HEAD = """# Exported networks in other runtimes

Made by `python -m analysis.reports.export NETWORK...`: each network is quantised on {calibration} calibration
images with nearest rounding (the round trip does not ask how accurate it is), written in the listed
formats and run by their runtimes on evaluation images; the project's own quantised network
runs on the same. Difference: of logits, the largest, beside the largest logit. Equal: logits that
are the same number. Same class: of images. Claimed: bits of all weights at their channels' widths
with 52 bits of scale, width and bias a channel, in bytes. torch {torch}.

"integer kernels" is onnxruntime as it is by default: it fuses quantised operations and rounds
biases to whole steps of the accumulator, as an integer machine does; the other rows compute every
operation as it stands in the file. A logit then differs by a few of its own steps. Sums of floats
in another order, too, may take a value across the border between two levels.

| network | widths | format | runtime | images | difference (largest) | equal % | same class % | file bytes | claimed | file / claimed |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""  # noqa: E501


def random_widths(graph: LayerGraph) -> BitWidths:
    """Channels of 0 to 8 bits and tensors of 4 to 8, to meet every case; the input keeps 8."""
    rng = np.random.default_rng(0)
    weights = {layer.name: rng.integers(0, 9, layer.out_channels) for layer in graph.weighted}
    tensors = {layer.name: np.array(int(rng.integers(4, 9))) for layer in graph}
    fixed = {name: np.array(width) for (_, name), width in input_widths(graph).items()}
    return BitWidths(weights, tensors | fixed)


def layer_table(graph: LayerGraph, folder: Path) -> BitWidths:
    """A table as other tools make it: 8 bits for the first and the last layer, 4 between."""
    first, *_, last = (layer.name for layer in graph.weighted)
    rows = [f"{x.name},{8 if x.name in (first, last) else 4}" for x in graph.weighted]
    path = folder / "table.csv"
    path.write_text("layer,bits\n" + "\n".join(rows) + "\n")
    return BitWidths.load(path)


def allocated(name: str, graph: LayerGraph) -> BitWidths:
    """4 bits a weight on average, one width a channel, by the curves that come along."""
    budget = Budget(weight_bits=4, activation_bits=8, fixed=input_widths(graph))
    return allocate(load_shipped(name), budget).bits


def rows(name: str, weights: Path | None, images: str | None, folder: Path) -> Iterator[str]:
    """A row of the table for each set of widths, format and runtime."""
    file = None if weights is None else str(weights / f"{name}.safetensors")
    network = load_network(name, file)
    sets = load_image_sets(name, network, images, CALIBRATION, 0, 0)
    batch = _some(sets)
    cases = {"4 a layer, 8 first and last (CSV)": layer_table(network.graph, folder)}
    if name == EMBEDDED:
        cases["0..8 a channel, activations 4..8"] = random_widths(network.graph)
    elif name == "mobilenet_v2":
        cases = {"4.0 on average, a channel": allocated(name, network.graph)}
    for label, bits in cases.items():
        quantized = quantize(network, bits, sets.calibration)
        for format in FORMATS:
            path = folder / f"{name}{SUFFIXES[format]}"
            save_export(path, quantized, format)
            own = batch[:QONNX_IMAGES] if format == "qonnx" else batch
            for kernels in (False, True) if format == "qdq" else (False,):
                found = check_export(path, format, quantized, own, kernels)
                yield _row(name, label, found)


def _some(sets: ImageSets) -> Tensor:
    """IMAGES of the evaluation, all over it."""
    step = max(1, len(sets.evaluation) // IMAGES)
    return next(sets.evaluation.take(slice(0, step * IMAGES, step)).batches(IMAGES))[0]


def _row(name: str, label: str, found: RoundTrip) -> str:
    claimed = -(-(found.weight_bits + found.metadata_bits) // 8)
    return (
        f"| {name} | {label} | {found.format} | {found.runtime} | {found.images} "
        f"| {found.max_difference:.3g} ({found.largest:.3g}) | {100 * found.equal:.1f} "
        f"| {100 * found.agreement:.1f} | {found.file_bytes:,} | {claimed:,} "
        f"| {found.file_bytes / claimed:.2f} |"
    )


def _kept(file: Path, networks: list[str]) -> dict[str, list[str]]:
    """Rows of a report that is there already, of other networks."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found: dict[str, list[str]] = {}
    for line in text.partition("| ---: |\n")[2].splitlines():
        name = line.split(" | ")[0].removeprefix("| ")
        if name not in networks:
            found.setdefault(name, []).append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Exported networks in other runtimes.")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    table = _kept(options.output, options.networks)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            table[name] = []
            trained = name != EMBEDDED
            weights = options.weights if trained else None
            images = options.images if trained else None
            for row in rows(name, weights, images, Path(folder)):
                table[name].append(row)
                lines = [line for found in table.values() for line in found]
                head = HEAD.format(calibration=CALIBRATION, torch=versions()["torch"])
                write_atomically(options.output, head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
