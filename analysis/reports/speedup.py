"""reports/speedup.md: the table of `chipfit speedup` with the method's headline discussed.

`python -m analysis.reports.speedup FOLDER...` reads the tables that `chipfit speedup -o FOLDER`
wrote, and adds at which DRAM bandwidth the headline's speedups are reached.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.sources import load_graph
from analysis.speedup import SpeedupRow, markdown
from analysis.speedup_widths import native_widths
from hwsim.accelerator import Accelerator, SystolicArray, load_accelerator
from hwsim.bits import BitWidths
from hwsim.files import write_atomically
from hwsim.graph import LayerGraph
from hwsim.many import simulate_many

# Wang, Lin et al., "RDO-Q: Extremely Fine-Grained Channel-Wise Quantization via Rate-Distortion
# Optimization", ECCV 2022: up to 3.5x on TPU and 3.0x on Eyeriss, baseline not published
HEADLINE = {("resnet50", "tpu_v1"): 3.5, ("resnet50", "eyeriss_v1"): 3.0,
            ("mobilenet_v2", "tpu_v1"): 1.5, ("mobilenet_v2", "eyeriss_v1"): 2.0}  # fmt: skip
FACTORS = (1 / 32, 1 / 8, 1.0, 4.0)  # times the chip's own bandwidth: those shown
FINE = tuple(2.0 ** (-k / 8) for k in range(49))  # and those searched, on systolic arrays
BANDWIDTHS_OF = (("resnet50", "tpu_v1"), ("mobilenet_v2", "tpu_v1"), ("resnet50", "eyeriss_v1"))
TRIED = (BitWidths(4, 8), BitWidths(2, 8), BitWidths(2, 2))


@dataclass(frozen=True)
class BandwidthRow:
    """Speedups at each of FACTORS times the bandwidth of all DRAM channels, batch 1.

    most: the largest of all that were simulated. reached_gb: the highest bandwidth of the weights'
    channel at which target was reached, None for nowhere.
    """

    model: str
    accelerator: str
    baseline: str
    widths: str
    target: float
    bandwidth_gb: float
    speedups: tuple[float, ...]
    most: float
    reached_gb: float | None


def reaches(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """The highest bandwidth of (bandwidth, speedup) points whose speedup is target or more."""
    return max((bandwidth for bandwidth, speedup in points if speedup >= target), default=None)


def _label(bits: BitWidths) -> str:
    return f"W{bits.weights}A{bits.activations}"


def slower(accelerator: Accelerator, factor: float) -> Accelerator:
    """The same chip with `factor` times the bandwidth on every DRAM channel."""
    channels = (replace(d, bandwidth=max(1, round(d.bandwidth * factor))) for d in accelerator.dram)
    return replace(accelerator, dram=tuple(channels))


def bandwidth_rows(
    graph: LayerGraph, accelerator: Accelerator, target: float
) -> list[BandwidthRow]:
    """A row for W8A8 and, where it is another, the native width as the baseline, and for each of
    TRIED."""
    systolic = isinstance(accelerator.array, SystolicArray)  # many bandwidths at little cost
    factors = (*FACTORS, *FINE) if systolic else FACTORS
    chips = [slower(accelerator, factor) for factor in factors]
    native = native_widths(accelerator)
    bases = [BitWidths(8, 8)] + ([native] if _label(native) != "W8A8" else [])
    cycles = {_label(bits): simulate_many(graph, chips, bits).cycles for bits in (*bases, *TRIED)}
    own = accelerator.dram_for("weights").bandwidth / 8e9
    rows = []
    for base in map(_label, bases):
        for label in map(_label, TRIED):
            found = (cycles[base] / cycles[label]).tolist()
            points = [
                (factor * own, speedup) for factor, speedup in zip(factors, found, strict=True)
            ]
            rows.append(
                BandwidthRow(
                    model=graph.name,
                    accelerator=accelerator.name,
                    baseline=base,
                    widths=label,
                    target=target,
                    bandwidth_gb=own,
                    speedups=tuple(found[: len(FACTORS)]),
                    most=max(found),
                    reached_gb=reaches(points, target),
                )
            )
    return rows


def bandwidth_lines(rows: Sequence[BandwidthRow]) -> list[str]:
    """The rows as a table: speedup at each share of the bandwidth, and where the target is met."""
    shares = [f"x{factor:g}" if factor >= 1 else f"/{1 / factor:g}" for factor in FACTORS]
    lines = [
        f"| network | accelerator | widths | over | {' | '.join(shares)} | headline "
        "| reached from (weight DRAM) downwards |",
        "| --- " * 4 + "| ---: " * (len(FACTORS) + 1) + "| --- |",
    ]
    for row in rows:
        where = f"nowhere here: at most {row.most:.2f}x"
        if row.reached_gb is not None:
            share = row.reached_gb / row.bandwidth_gb
            where = f"{row.reached_gb:.3g} GB/s, {share:.3g} of the chip's"
        values = " | ".join(f"{value:.2f}" for value in row.speedups)
        lines.append(f"| {row.model} | {row.accelerator} | {row.widths} | {row.baseline} "
                     f"| {values} | {row.target:g}x | {where} |")  # fmt: skip
    return lines


def headline_lines(rows: Sequence[SpeedupRow]) -> list[str]:
    """A sentence or three for each claim of the headline: the best found, and what stops it."""
    lines = []
    for (model, chip), target in HEADLINE.items():
        found = [r for r in rows if (r.model, r.accelerator) == (model, chip)]
        for baseline in dict.fromkeys(r.baseline for r in found):
            over = [r for r in found if r.baseline == baseline and r.widths != baseline]
            if not over:
                continue
            best = max(over, key=lambda r: r.speedup)
            base = next(r for r in found if (r.batch, r.widths, r.baseline)
                        == (best.batch, baseline, baseline))  # fmt: skip
            widths = max(base.weight_bits / best.weight_bits,
                         base.activation_bits / best.activation_bits)  # fmt: skip
            short = "" if best.ceiling >= target else ", so a faster DRAM would not reach it"
            text = (
                f"- {model} on {chip}, {target:g}x: "
                f"{'reached' if best.speedup >= target else 'not reached'} over {baseline}. The "
                f"best of the table is {best.speedup:.2f}x, {best.widths} at batch {best.batch}; "
                f"{100 * base.stall_share:.0f} % of the baseline's cycles wait for DRAM, "
                f"{100 * best.stall_share:.0f} % of these. Without any wait it would be "
                f"{best.ceiling:.2f}x{short};"
                f" most of its cycles ({100 * best.bound_share:.0f} %) go to: {best.bound_by}. "
                f"Traffic falls {best.dram_ratio:.2f}x"
            )
            if best.dram_ratio > 1.02 * widths:
                text += (
                    f", more than the widths by themselves ({widths:.2f}x): tensors that spill in "
                    f"the baseline stay on chip"
                )
            each = {
                label: max((r for r in over if r.widths == label), key=lambda r: r.speedup)
                for label in dict.fromkeys(r.widths for r in over)
            }
            parts = (f"{w} {r.speedup:.2f}x (batch {r.batch})" for w, r in each.items())
            lines.append(f"{text}. The best of each: {', '.join(parts)}.")
    return lines


def best_lines(rows: Sequence[SpeedupRow]) -> list[str]:
    """The largest speedup of each accelerator and baseline, with its batch and widths."""
    lines = ["| accelerator | over | largest speedup | of | widths | batch | ceiling | bound by |",
             "| --- | --- | ---: | --- | --- | ---: | ---: | --- |"]  # fmt: skip
    for chip, baseline in dict.fromkeys((r.accelerator, r.baseline) for r in rows):
        best = max((r for r in rows if (r.accelerator, r.baseline) == (chip, baseline)),
                   key=lambda r: r.speedup)  # fmt: skip
        lines.append(
            f"| {chip} | {baseline} | {best.speedup:.2f}x | {best.model} | {best.widths} "
            f"| {best.batch} | {best.ceiling:.2f}x | {best.bound_by} "
            f"{100 * best.bound_share:.0f} % |"
        )
    return lines


def report(
    rows: Sequence[SpeedupRow],
    bandwidths: Sequence[BandwidthRow],
    commands: Sequence[str],
    figures: Sequence[str],
) -> str:
    """The page. figures: paths beside it."""
    return "\n".join([
        "# Speedup over named baselines",
        "",
        "Made by these commands:",
        "",
        *(f"    {command}" for command in commands),
        "",
        "Speedup, energy and DRAM are the baseline's cycles, energy and traffic over those of the",
        "row, on the same accelerator and batch, so that more is better. The ceiling is the",
        "speedup if the row never waited for DRAM: the floor that compute, shift and ports set.",
        "Where widths come from stands below the table. The ResNets have equal widths, as no",
        "curves of theirs come along; averages of mobilenet_v2 are allocated per channel by the",
        "curves that do, activations 8 bits on average, `fits` also with every layer inside the",
        "memories that are to hold it (left out where that changes nothing, as is a native width",
        "that is W8A8). Equal widths of 4 and 2 bits say what the chip would gain,",
        "not that the network would survive them: for accuracy see",
        "[real_networks.md](real_networks.md). Networks and accelerators are those of the package;",
        "no weights are read.",
        "",
        "## The largest speedups",
        "",
        *best_lines(rows),
        "",
        *(f"![speedup]({figure})" for figure in figures),
        "",
        "## The method's headline",
        "",
        "RDO-Q (ECCV 2022) reports up to 3.5x on the TPU and 3.0x on Eyeriss with ResNet-50, 1.5x",
        "and 2.0x with MobileNet-v2, from memory traffic alone, with multipliers of fixed width.",
        "Its baseline, batch and bandwidths are not published; these are those of this project.",
        "",
        *headline_lines(rows),
        "",
        "### At which bandwidth",
        "",
        "Batch 1; the bandwidth of all DRAM channels of the chip multiplied by the same factor.",
        "Where a chip only waits for DRAM, both for the baseline and for the narrower widths, the",
        "speedup is the ratio of the traffic; with more bandwidth it falls towards 1, as",
        "multipliers of fixed width gain nothing from narrow operands.",
        "",
        *bandwidth_lines(bandwidths),
        "",
        "## All rows",
        "",
        *markdown(rows),
        "",
    ])  # fmt: skip


def read_folder(folder: Path) -> tuple[list[SpeedupRow], str]:
    """The rows that chipfit speedup left in a folder, and its command. Raises ValueError for
    anything else."""
    try:
        table = json.loads((folder / "speedup.json").read_text(encoding="utf-8"))
        command = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["command"]
        return [SpeedupRow(**row) for row in table], shlex.join(command)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder}: not a folder of chipfit speedup: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+", help="what chipfit speedup wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/speedup.md"))
    options = parser.parse_args(arguments)
    rows: list[SpeedupRow] = []
    commands = []
    figures: dict[str, bytes] = {}
    try:
        for folder in options.folder:
            found, command = read_folder(folder)
            rows += found
            commands.append(command)
            for picture in sorted(folder.glob("speedup_over_*.png")):
                figures[f"figures/{folder.name}_{picture.name}"] = picture.read_bytes()
    except ValueError as error:
        parser.error(str(error))
    known = {(row.model, row.accelerator) for row in rows}
    bandwidths = [
        row
        for model, chip in BANDWIDTHS_OF
        if (model, chip) in known
        for row in bandwidth_rows(load_graph(model), load_accelerator(chip), HEADLINE[model, chip])
    ]
    folders = " ".join(folder.as_posix() for folder in options.folder)
    commands.append(f"python -m analysis.reports.speedup {folders}")
    for path, content in figures.items():
        write_atomically(options.output.parent / path, content)
    write_atomically(options.output, report(rows, bandwidths, commands, list(figures)))


if __name__ == "__main__":
    main()
