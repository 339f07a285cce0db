"""Accuracy of trained networks at average widths, from one set of curves each.

    python -m analysis.reports.accuracy NETWORK... --weights DIR --images DIR [--curves DIR] -o FILE

NETWORK.safetensors is looked for in the folder of weights, and NETWORK.npz in that of curves, where
it is kept for the next time. The file is written anew after every row, and rows of networks and
points that are not named stay as they are.
"""

from __future__ import annotations

import argparse
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analysis.budgets import average_budget, least_widths
from analysis.manifest import versions
from analysis.measuring import find_rounder, measure_curves
from analysis.sources import load_image_sets, load_network
from analysis.study import rounding_of
from hwsim.files import write_atomically
from quant.allocation.allocate import allocate
from quant.curves import RDCurves

CALIBRATION, FITTING, PROBES = 96, 400, 2
POINTS = ((4, 8), (3, 8), (4, 4))  # average bits of a weight, of an activation
HEAD = """# Accuracy at average widths

Made by `python -m analysis.reports.accuracy`: the default recipe of `chipfit run`, without
training; {calibration} pricing images x {probes} probes, sequential rounding fitted on {fitting}
other images, seed 0, all evaluation images. Drop: of top-1, in points. Agree: images that keep the
float network's class. KL: divergence of the prediction, nats. Distortion: squared logit error,
summed over classes, predicted on the pricing images and measured on the evaluation images. Gap: how
far the prediction may be above that of the best widths. Guided: share of the Gauss-Newton matrix in
what weights are rounded under; 0 in rows of before it was the recipe's. torch {torch}.

| network | bits | top-1 % (float) | drop | agree % | KL | predicted | measured | gap | guided |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""
STAGES = """
## What it costs

Processor seconds of each stage (one core's worth), and the most memory that the process had held by
its end. What an earlier run left in the folder of curves is not measured again. Of an average of
weights and activations: allocation, rounding and running the images.

| network | stage | CPU s | peak GB |
| --- | --- | ---: | ---: |
"""
LIMITS = """
## What limits it

At 8 bits activations cost as much as their clipping ranges lose: ranges chosen by the squared error
of the tensor clip what the output needs, and the priced error widens most of them. Steps for every
channel of a feature map (`calibrate(channel_scales=True)`) gained nothing on ResNet-18 and
ResNet-50, whose channels are of similar range. At 4 bits the rest is weights: coordinate descent
over the codes lowers it a little further, and a Gauss-Newton matrix beside the inputs' covariance
(guided) again: by 1 % on MobileNet-v2 and ResNet-50 and 6 % on ResNet-18, the divergence by 3 to
8 %. The images that keep their class do not follow: 93.4, 94.1 and 95.2 % of them without it, at an
average of 4 bits, and 94.2, 93.8 and 94.3 % with it. At 3 bits it cost MobileNet-v2 top-1, 75.9 %
without and 74.2 % with it, at the same divergence. The rounding of ResNet-50 takes twice as long.
Moving the rounding's target to the float network's outputs (the least-squares answer to the
errors of earlier layers) raised the distortion on other images.
"""
TASKS = {
    "calibrate": "calibration",
    "choose": "choosing quantisers",
    "round": "statistics of rounding",
    "errors": "rounding at all widths",
    "sweep": "sweep",
}


class Stages:
    """Processor seconds and peak memory of stages, by their progress."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_gb: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, task: str, done: int, total: int) -> None:
        if task in TASKS:
            self.end(TASKS[task])

    def end(self, stage: str) -> None:
        """What has passed since the last call was this stage."""
        now = time.process_time()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self.peak_gb[stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self._last = now

    def rows(self, name: str) -> list[str]:
        return [
            f"| {name} | {stage} | {seconds:.0f} | {self.peak_gb[stage]:.1f} |"
            for stage, seconds in self.seconds.items()
        ]


def rows(
    name: str,
    weights: Path,
    images: str,
    curves_folder: Path | None,
    points: Sequence[tuple[int, int]] = POINTS,
) -> Iterator[tuple[str, list[str]]]:
    """A row of the table for each point, and those of the stages so far."""
    from quant.accuracy import evaluate, float_logits
    from quant.apply import quantize
    from quant.sequential import GUIDANCE

    network = load_network(name, str(weights / f"{name}.safetensors"))
    sets = load_image_sets(name, network, images, CALIBRATION, FITTING, 0)
    kept = None if curves_folder is None else curves_folder / f"{name}.npz"
    stages = Stages()
    if kept is not None and kept.exists():
        curves = RDCurves.load(kept)
        rounder = find_rounder(rounding_of(curves), network, sets, 0)
    else:
        curves, rounder = measure_curves(
            network, sets, rounding="sequential", probes=PROBES, progress=stages
        )
        if kept is not None:
            curves.save(str(kept))
    logits = float_logits(network, sets.evaluation)
    exact = evaluate(network, None, sets.evaluation, exact=logits)
    stages.end("running the float network")
    for weight_bits, activation_bits in points:
        least = least_widths(weight_bits, activation_bits)
        budget = average_budget(curves, network.graph, weight_bits, activation_bits, least)
        label = f"W{weight_bits}A{activation_bits}"
        allocation = allocate(curves, budget)
        stages.end(f"{label}: allocation")
        quantized = quantize(network, allocation.bits, curves, rounder=rounder)
        stages.end(f"{label}: rounding")
        found = evaluate(network, quantized, sets.evaluation, exact=logits)
        stages.end(f"{label}: running the images")
        row = (
            f"| {name} | {label} | {100 * found.top1:.1f} "
            f"({100 * exact.top1:.1f}) | {100 * (exact.top1 - found.top1):.1f} "
            f"| {100 * found.agreement:.1f} | {found.divergence:.3f} "
            f"| {allocation.predicted_distortion:.3g} | {found.distortion:.3g} "
            f"| {allocation.relative_gap:.1e} | {GUIDANCE} |"
        )
        yield row, stages.rows(name)


def known_rows(file: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Rows of a report that is there already, by network: of the table, and of the stages."""
    found: tuple[dict[str, list[str]], dict[str, list[str]]] = {}, {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| ") and cells[0] not in ("network", "---"):
            found[len(cells) < 6].setdefault(cells[0], []).append(line)
    return found


def point(text: str) -> tuple[int, int]:
    """'W4A8' to (4, 8)."""
    match = re.fullmatch(r"W([1-8])A([1-8])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected average widths such as W4A8, got {text!r}")
    return int(match[1]), int(match[2])


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of networks at average widths.")
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--points", type=point, nargs="+", default=POINTS, metavar="W4A8")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    table, stages = known_rows(options.output)
    head = HEAD.format(
        calibration=CALIBRATION, probes=PROBES, fitting=FITTING, torch=versions()["torch"]
    )
    for name in options.networks:
        for row, of_stages in rows(
            name, options.weights, options.images, options.curves, options.points
        ):
            table[name] = _replaced(table.get(name, ()), [row])
            stages[name] = _replaced(stages.get(name, ()), of_stages)
            parts = [head, *_lines(table), STAGES, *_lines(stages), LIMITS]
            write_atomically(str(options.output), "".join(parts))


def _replaced(rows: Sequence[str], others: Sequence[str]) -> list[str]:
    """Rows, with others in the places of those of the same second cell, or behind them."""
    by_cell = {row.split(" | ")[1]: row for row in (*rows, *others)}
    return list(by_cell.values())


def _lines(rows_of: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{row}\n" for found in rows_of.values() for row in found]


if __name__ == "__main__":
    main()
