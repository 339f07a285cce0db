"""Accuracy of trained networks at average widths, from one set of curves each.

    python -m analysis.reports.accuracy NETWORK... --weights DIR --images DIR [--curves DIR] -o FILE

NETWORK.safetensors is looked for in the folder of weights, and NETWORK.npz in that of curves, where
it is kept for the next time. The file is written anew after every row, and rows of networks that
are not named stay as they are.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from analysis.manifest import versions
from analysis.measuring import find_rounder, measure_curves
from analysis.sources import load_image_sets, load_network
from analysis.study import input_widths, least_widths, rounding_of, width_range
from hwsim.files import write_atomically
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget
from quant.curves import RDCurves

CALIBRATION, FITTING, PROBES = 96, 400, 2
POINTS = ((4, 8), (3, 8), (4, 4))  # average bits of a weight, of an activation
HEAD = """# Accuracy at average widths

Made by `python -m analysis.reports.accuracy`: the default recipe of `chipfit run`, without training;
{calibration} pricing images x {probes} probes, sequential rounding fitted on {fitting} other images,
seed 0, all evaluation images. Drop: of top-1, in points. Agree: images that keep the float
network's class. Distortion: squared logit error, summed over classes, predicted on the pricing
images and measured on the evaluation images. Gap: how far the prediction may be above that of the
best widths. CPU s: of rounding, and of running the evaluation images. torch {torch}.

| network | bits | top-1 % (float) | drop | agree % | KL | predicted | measured | gap | rounding, running CPU s | peak GB |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""  # noqa: E501


def rows(name: str, weights: Path, images: str, curves_folder: Path | None) -> Iterator[str]:
    """A row of the table for each of POINTS."""
    from quant.accuracy import evaluate
    from quant.apply import quantize

    network = load_network(name, str(weights / f"{name}.safetensors"))
    sets = load_image_sets(name, network, images, CALIBRATION, FITTING, 0)
    kept = None if curves_folder is None else curves_folder / f"{name}.npz"
    if kept is not None and kept.exists():
        curves = RDCurves.load(kept)
        rounder = find_rounder(rounding_of(curves), network, sets, 0)
    else:
        curves, rounder = measure_curves(network, sets, rounding="sequential", probes=PROBES)
        if kept is not None:
            curves.save(str(kept))
    exact = evaluate(network, None, sets.evaluation)
    for weight_bits, activation_bits in POINTS:
        least = least_widths(weight_bits, activation_bits)
        budget = Budget(
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            fixed=input_widths(network.graph),
            weight_widths=width_range(least["weights"]),
            activation_widths=width_range(least["activations"]),
        )
        allocation = allocate(curves, budget)
        began = time.process_time()
        quantized = quantize(network, allocation.bits, curves, rounder=rounder)
        rounded = time.process_time()
        found = evaluate(network, quantized, sets.evaluation)
        ran = time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield (
            f"| {name} | W{weight_bits}A{activation_bits} | {100 * found.top1:.1f} "
            f"({100 * exact.top1:.1f}) | {100 * (exact.top1 - found.top1):.1f} "
            f"| {100 * found.agreement:.1f} | {found.divergence:.3f} "
            f"| {allocation.predicted_distortion:.3g} | {found.distortion:.3g} "
            f"| {allocation.relative_gap:.1e} | {rounded - began:.0f}, {ran - rounded:.0f} "
            f"| {peak:.1f} |"
        )


def known_rows(file: Path) -> dict[str, list[str]]:
    """Rows of a report that is there already, by network."""
    found: dict[str, list[str]] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            name = line.removeprefix("| ").split(" | ")[0]
            if line.startswith("| ") and name not in ("network", "---"):
                found.setdefault(name, []).append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of networks at average widths.")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    table = known_rows(options.output)
    head = HEAD.format(
        calibration=CALIBRATION, probes=PROBES, fitting=FITTING, torch=versions()["torch"]
    )
    for name in options.networks:
        table[name] = []
        for row in rows(name, options.weights, options.images, options.curves):
            table[name].append(row)
            lines = [line for found in table.values() for line in found]
            write_atomically(str(options.output), head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
