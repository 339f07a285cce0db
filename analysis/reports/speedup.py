"""reports/speedup.md: the table of `chipfit speedup` with the method's headline discussed.

`python -m analysis.reports.speedup FOLDER...` reads the tables that `chipfit speedup -o FOLDER`
wrote, and adds at which DRAM bandwidth the headline's speedups are reached.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analysis.manifest import MANIFEST
from analysis.reports.measured_accuracy import Measured, measured
from analysis.reports.speedup_bandwidth import (
    BandwidthPoint,
    bandwidth_figure,
    bandwidth_lines,
    bandwidth_points,
)
from analysis.sources import load_graph
from analysis.speedup import SpeedupRow
from hwsim.accelerator import load_accelerator
from hwsim.files import write_atomically

# Wang, Lin et al., "RDO-Q: Extremely Fine-Grained Channel-Wise Quantization via Rate-Distortion
# Optimization", ECCV 2022: up to 3.5x on TPU and 3.0x on Eyeriss, baseline not published
HEADLINE = {("resnet50", "tpu_v1"): 3.5, ("resnet50", "eyeriss_v1"): 3.0,
            ("mobilenet_v2", "tpu_v1"): 1.5, ("mobilenet_v2", "eyeriss_v1"): 2.0}  # fmt: skip
SWEPT = (("resnet50", "tpu_v1", (1, 4, 16)), ("mobilenet_v2", "tpu_v1", (1, 4, 16)),
         ("resnet50", "eyeriss_v1", (1,)))  # fmt: skip


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


def ratio_lines(rows: Sequence[SpeedupRow]) -> list[str]:
    """A table for each accelerator and baseline: a row a network and batch, a column the widths;
    speedup / energy ratio / DRAM ratio in each cell."""
    lines = []
    for chip, baseline in dict.fromkeys((r.accelerator, r.baseline) for r in rows):
        own = [r for r in rows if (r.accelerator, r.baseline) == (chip, baseline)]
        labels = [w for w in dict.fromkeys(r.widths for r in own) if w != baseline]
        lines += ["", f"### {chip}, over {baseline}", "",
                  f"| network | batch | {' | '.join(labels)} |",
                  "| --- | ---: |" + " --- |" * len(labels)]  # fmt: skip
        cells = {(r.model, r.batch, r.widths): r for r in own}
        for model, batch in sorted(
            dict.fromkeys((r.model, r.batch) for r in own),
            key=lambda place: ([r.model for r in own].index(place[0]), place[1]),
        ):
            found = [cells.get((model, batch, label)) for label in labels]
            shown = [
                f"**{r.speedup:.2f}** / {r.energy_ratio:.2f} / {r.dram_ratio:.2f}" if r else ""
                for r in found
            ]
            lines.append(f"| {model} | {batch} | {' | '.join(shown)} |")
    return lines


def widths_lines(rows: Sequence[SpeedupRow], known: Sequence[Measured]) -> list[str]:
    """A row for each network and widths (for each chip and batch where they differ by them): mean
    widths, predicted distortion, and what other reports measured of the same widths."""
    lines = [
        "| network | widths | chosen for | bits a weight | an activation | distortion "
        "| top-1 % (float) | agree % | where from |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    groups: dict[tuple[str, str, float, float, float | None], list[SpeedupRow]] = {}
    for row in sorted(rows, key=lambda r: (r.model, r.widths)):
        key = (row.model, row.widths, row.weight_bits, row.activation_bits, row.distortion)
        groups.setdefault(key, []).append(row)
    for (model, widths, weights, activations, distortion), same in groups.items():
        chips = sorted({(r.accelerator, r.batch) for r in same})
        places = {
            chip: ", ".join(str(batch) for other, batch in chips if other == chip)
            for chip, _ in chips
        }
        where = "; ".join(f"{chip} at {batches}" for chip, batches in places.items())
        needs = "fits" in widths or "time" in widths
        found = next((m for m in known if m.model == model and m.widths == widths
                      and (not m.accelerator or (m.accelerator, 1) in chips)), None)  # fmt: skip
        top1 = agree = ""
        if found is not None:
            floating = "" if found.float_top1 is None else f" ({found.float_top1:g})"
            top1 = f"{found.top1:g}{floating} [{found.report[:-3]}]({found.report})"
            agree = f"{found.agree:g}"
        predicted = "" if distortion is None else f"{distortion:.3g}"
        lines.append(
            f"| {model} | {widths} | {where if needs else 'any'} | {weights:.2f} "
            f"| {activations:.2f} | {predicted} | {top1} | {agree} | {same[0].source} |"
        )
    return lines


def report(
    title: str,
    note: str,
    rows: Sequence[SpeedupRow],
    bandwidths: Sequence[BandwidthPoint],
    commands: Sequence[str],
    made: Sequence[str],
    figures: Sequence[str],
    known: Sequence[Measured],
    table: str,
) -> str:
    """The page. made: what says when and with which versions each folder was made. figures, table:
    paths beside it."""
    swept = [] if not bandwidths else [
        "",
        "### At which batch and bandwidth",
        "",
        "The bandwidth of all DRAM channels of the chip multiplied by the same factor. Where a",
        "chip only waits for DRAM, both for the baseline and for the narrower widths, the speedup",
        "is the ratio of the traffic; with more bandwidth it falls towards 1, as multipliers of",
        "fixed width gain nothing from narrow operands. Where narrower activations stay on chip",
        "that spill in the baseline, it can exceed the ratio of the widths.",
        "",
        "![speedup over bandwidth](figures/speedup_bandwidth.png)",
        "",
        *bandwidth_lines(bandwidths, HEADLINE),
    ]  # fmt: skip
    return "\n".join([
        f"# {title}",
        "",
        "Made by these commands; nothing in them is random:",
        "",
        *(f"    {command}" for command in commands),
        "",
        *made,
        "",
        *([note, ""] if note else []),
        "Speedup, energy and DRAM are the baseline's cycles, energy and traffic over those of the",
        "row, on the same accelerator and batch, so that more is better. The ceiling is the",
        "speedup if the row never waited for DRAM: the floor that compute, shift and ports set.",
        "Equal widths of 4 and 2 bits say what the chip would gain, not that the network would",
        "survive them. `average` is allocated per channel by curves, activations 8 bits on",
        "average; `fits` besides with every layer inside the memories that are to hold it, `time`",
        "the least distortion that takes at most that share of the first baseline's time, weights",
        "no narrower than 2 bits and activations than 4; `narrowest` stands where no such widths",
        "are fast enough. Widths that equal earlier ones are left out. Networks without curves",
        f"have equal widths only. Every column of every row: [{table}]({table}).",
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
        *swept,
        "",
        "## Speedup / energy / DRAM",
        *ratio_lines(rows),
        "",
        "## The widths and what they keep",
        "",
        "Distortion: squared error of the logits as the curves predict it. Accuracy stands where",
        "another report measured widths of the same rule; its curves may be of another date.",
        "",
        *widths_lines(rows, known),
        "",
    ])  # fmt: skip


def read_folder(folder: Path) -> tuple[list[SpeedupRow], str, str]:
    """The rows that chipfit speedup left in a folder, its command, and when and with what it ran.
    Raises ValueError for anything else."""
    try:
        table = json.loads((folder / "speedup.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        versions = ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())
        seconds = manifest["seconds"]["simulations"]
        made = f"- {folder.name}: {manifest['made']}, {seconds:.0f} s; {versions}"
        return [SpeedupRow(**row) for row in table], shlex.join(manifest["command"]), made
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: not a folder of chipfit speedup: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+", help="what chipfit speedup wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("reports/speedup.md"))
    parser.add_argument("--title", default="Speedup over named baselines")
    parser.add_argument("--note", default="", help="a paragraph of its own, such as of the curves")
    parser.add_argument("--no-bandwidths", action="store_true", help="leave out their sweep")
    options = parser.parse_args(arguments)
    rows: list[SpeedupRow] = []
    commands, made = [], []
    files: dict[str, bytes] = {}
    try:
        for folder in options.folder:
            found, command, when = read_folder(folder)
            rows += found
            commands.append(command)
            made.append(when)
            for picture in sorted(folder.glob("speedup_over_*.png")):
                files[f"figures/{folder.name}_{picture.name}"] = picture.read_bytes()
    except ValueError as error:
        parser.error(str(error))
    figures = list(files)
    places = {(row.model, row.accelerator) for row in rows}
    points = [] if options.no_bandwidths else [
        point
        for model, chip, batches in SWEPT
        if (model, chip) in places
        for batch in batches
        for point in bandwidth_points(load_graph(model), load_accelerator(chip), batch)
    ]  # fmt: skip
    if points:
        files["speedup_bandwidth.csv"] = csv_of(points)
        for kind in ("svg", "png"):
            files[f"figures/speedup_bandwidth.{kind}"] = bandwidth_figure(points, HEADLINE, kind)
    given = arguments or sys.argv[1:]
    commands.append(shlex.join(["python", "-m", "analysis.reports.speedup", *given]))
    above, table = options.output.parent, f"{options.output.stem}.csv"
    files[table] = csv_of(rows)
    for path, content in files.items():
        write_atomically(above / path, content)
    known = measured(above)
    text = report(options.title, options.note, rows, points, commands, made, figures, known, table)
    write_atomically(options.output, text)


def csv_of(rows: Sequence[SpeedupRow] | Sequence[BandwidthPoint]) -> bytes:
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows]).to_csv(index=False).encode()


if __name__ == "__main__":
    main()
