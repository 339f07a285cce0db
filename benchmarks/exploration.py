"""Simulations a second: one network on one chip, and on a grid of design points.

    python -m benchmarks.exploration [--networks resnet50 mobilenet_v2] [--workers 2] [--repeat 3]
                                     [-o reports/exploration_rate.md]

Writes a report (Markdown). A grid is a chip's designer's: 8 unified buffers x 16 weight bandwidths
x 8 array sizes of tpu_v1. Graphs are made before the clock starts. Processor seconds are given
beside the clock's, because other work on the machine disturbs them less; all are the least of the
repeats. Of each grid some points are simulated alone besides, and must agree.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.result import Ratio, Result
from benchmarks.scalesim import recorded_seconds
from hwsim import Accelerator, BitWidths, LayerGraph, load_accelerator, simulate, simulate_many
from hwsim.frontends.models import from_name

MIB = 8 * 2**20
BUFFERS_MIB = (0.5, 1, 2, 4, 8, 12, 16, 24)
SIZES = (64, 96, 128, 192, 256, 320, 384, 512)
SMALL_SIZES = (32, 48)
BANDWIDTHS_GB = tuple(range(10, 90, 5))
CHECKED = 16  # points of each grid that are simulated alone


@dataclass(frozen=True)
class Timing:
    """Least seconds by the clock, and of processors: of this process, and of it and the busiest of
    its workers together, which is the time that the work takes where no other work runs."""

    wall_s: float
    cpu_s: float
    longest_s: float


def measure(work: Callable[[], object], repeat: int) -> Timing:
    timings = []
    for _ in range(repeat):
        start, cpu, before = time.perf_counter(), time.process_time(), worker_seconds()
        work()
        wall, own = time.perf_counter() - start, time.process_time() - cpu
        # workers that were not there before also started up: not the work
        busy = [s - before[pid] for pid, s in worker_seconds().items() if pid in before]
        timings.append((wall, own, own + max(busy, default=0.0)))
    return Timing(*(min(column) for column in zip(*timings, strict=True)))


def worker_seconds() -> dict[int, float]:
    """{process: processor seconds} of this one's children, in Linux's ticks of 10 ms."""
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in listing.read_text().split():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found[int(pid)] = (int(fields[11]) + int(fields[12])) / tick
    return found


def grid(sizes: Sequence[int]) -> list[Accelerator]:
    """tpu_v1 with other arrays, unified buffers and weight bandwidths."""
    tpu = load_accelerator("tpu_v1")
    buffer, *others = tpu.memory
    weights, host = tpu.dram
    return [
        replace(
            tpu,
            array=replace(tpu.array, rows=size, cols=size),
            memory=(replace(buffer, capacity=int(mib * MIB)), *others),
            dram=(replace(weights, bandwidth=gb * 8 * 10**9), host),
        )
        for size in sizes
        for mib in BUFFERS_MIB
        for gb in BANDWIDTHS_GB
    ]


def all_widths(graph: LayerGraph) -> dict[str, BitWidths]:
    """Eight bits everywhere, and one random width for each channel."""
    rng = np.random.default_rng(0)
    mixed = {x.name: rng.integers(1, 9, x.out_channels) for x in graph.weighted}
    return {"W8A8": BitWidths(8, 8), "W1-8 by channel, A8": BitWidths(mixed, 8)}


def check(graph: LayerGraph, points: Sequence[Accelerator], bits: BitWidths) -> None:
    """Some points alone must give what they give together."""
    found = simulate_many(graph, points, bits)
    for i in np.random.default_rng(1).choice(len(points), CHECKED, replace=False):
        alone = simulate(graph, points[i], bits)
        for name in ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits", "energy_pj"):
            together, one = getattr(found, name)[i], getattr(alone, name)
            if together != one:
                raise SystemExit(f"{graph.name}, point {i}: {name} {together}, alone {one}")


def one_call_lines(graphs: Sequence[LayerGraph], repeat: int) -> list[str]:
    tpu = load_accelerator("tpu_v1")
    lines = ["| network | widths | array | cycles | wall ms | processor ms |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for graph in graphs:
        for label, bits in all_widths(graph).items():
            for size in (256, 64, 32):
                chip = replace(tpu, array=replace(tpu.array, rows=size, cols=size))
                cycles = simulate(graph, chip, bits).cycles
                took = measure(partial(simulate, graph, chip, bits), 5 * repeat)
                lines.append(
                    f"| {graph.name} | {label} | {size} x {size} | {cycles:,} "
                    f"| {1e3 * took.wall_s:.1f} | {1e3 * took.cpu_s:.1f} |"
                )
    return lines


def grid_lines(graphs: Sequence[LayerGraph], workers: int, repeat: int) -> list[str]:
    lines = [
        "| network | widths | arrays | points | processor s, 1 process | points a processor s "
        f"| wall s, 1 process | points/s | wall s, {workers} processes | points/s "
        f"| processor s, the busiest of {workers} | points/s expected on cores of their own |",
        "| --- | --- | --- " + "| ---: " * 9 + "|",
    ]
    for graph in graphs:
        for sizes in (SIZES, SMALL_SIZES):
            points = grid(sizes)
            for label, bits in all_widths(graph).items():
                check(graph, points, bits)
                one = measure(partial(simulate_many, graph, points, bits), repeat)
                many = partial(simulate_many, graph, points, bits, workers=workers)
                many()  # starts the processes
                shared = measure(many, repeat)
                count = len(points)
                lines.append(
                    f"| {graph.name} | {label} | {sizes[0]}..{sizes[-1]} | {count:,} "
                    f"| {one.cpu_s:.2f} | {count / one.cpu_s:,.0f} "
                    f"| {one.wall_s:.2f} | {count / one.wall_s:,.0f} "
                    f"| {shared.wall_s:.2f} | {count / shared.wall_s:,.0f} "
                    f"| {shared.longest_s:.2f} | {count / shared.longest_s:,.0f} |"
                )
    return lines


def scalesim_lines(repeat: int) -> list[str]:
    graph, tpu = from_name("resnet18"), load_accelerator("tpu_v1")
    bits = BitWidths(8, 8)
    took = measure(lambda: simulate(graph, tpu, bits), 5 * repeat)
    points = grid((256,))
    many = measure(lambda: simulate_many(graph, points, bits), repeat)
    each, theirs = many.cpu_s / len(points), recorded_seconds()
    return [
        f"SCALE-Sim takes {theirs} processor seconds for ResNet-18 on 256 x 256 "
        "(`reports/scalesim.md`, where its cycles and ours for its schedule are side by side). "
        "Its model is another: folds never overlap. So this is the price of an answer, not of the "
        "same answer.",
        "",
        "| ResNet-18, 256 x 256 | processor s | SCALE-Sim / this |",
        "| --- | ---: | ---: |",
        f"| `simulate`, one call | {took.cpu_s:.4f} | {theirs / took.cpu_s:,.0f} |",
        f"| `simulate_many`, each of {len(points)} points | {each:.6f} | {theirs / each:,.0f} |",
    ]


def result(networks: Sequence[str] = ("resnet50", "mobilenet_v2"), repeat: int = 3) -> Result:
    """A grid at once beside its points one by one, in the same run."""
    rows, ratios = [], []
    for graph in map(from_name, networks):
        points = grid(SIZES)
        for label, bits in all_widths(graph).items():
            check(graph, points, bits)
            some = [points[i] for i in np.random.default_rng(2).choice(len(points), CHECKED)]
            alone = measure(lambda: [simulate(graph, p, bits) for p in some], repeat)  # noqa: B023
            together = measure(partial(simulate_many, graph, points, bits), repeat)
            each, one = together.cpu_s / len(points), alone.cpu_s / len(some)
            rows.append((f"{graph.name}, {label}", f"{len(points):,}", f"{1e3 * one:.2f}",
                         f"{1e3 * each:.3f}", f"{1 / each:,.0f}", f"{one / each:.1f}"))  # fmt: skip
            what = f"a design point of {graph.name}, {label}: alone / in a grid"
            costs = f"{1e3 * each:.3f} CPU ms", f"{1e3 * one:.2f} CPU ms"
            ratios.append(Ratio(what, *costs, one / each))
    return Result(
        "Exploration: many designs at once",
        f"tpu_v1 with {len(BUFFERS_MIB)} unified buffers x {len(BANDWIDTHS_GB)} weight bandwidths "
        f"x {len(SIZES)} array sizes; alone: {CHECKED} of the points, which agree exactly.",
        ("network, widths", "points", "alone, CPU ms", "in the grid, CPU ms",
         "points a CPU s", "ratio"),
        tuple(rows),
        tuple(ratios),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    graphs = [from_name(name) for name in options.networks]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    text = "\n".join(
        [
            "# Simulations a second",
            "",
            "Made by `python -m benchmarks.exploration "
            f"--networks {' '.join(options.networks)} --workers {options.workers} "
            f"--repeat {options.repeat}` with chipfit {version('chipfit')}, Python "
            f"{platform.python_version()}, numpy {np.__version__}, joblib {version('joblib')}, on "
            f"{os.cpu_count()} cores with a load average of {load} when it began: where that is "
            f"above the number of cores, other work ran beside it, and the clock's seconds say "
            f"less than the processor's.",
            "",
            "Layer graphs are made before. Least of the repeats.",
            "",
            "## One call of `simulate` on tpu_v1",
            "",
            *one_call_lines(graphs, options.repeat),
            "",
            "## A grid of design points with `simulate_many`",
            "",
            f"{len(BUFFERS_MIB)} unified buffers ({BUFFERS_MIB[0]} to {BUFFERS_MIB[-1]} MiB) x "
            f"{len(BANDWIDTHS_GB)} weight bandwidths ({BANDWIDTHS_GB[0]} to {BANDWIDTHS_GB[-1]} "
            f"GB/s) x square arrays from {SIZES[0]} to {SIZES[-1]} ({len(SIZES)} sizes), and from "
            f"{SMALL_SIZES[0]} to {SMALL_SIZES[-1]} ({len(SMALL_SIZES)} sizes), whose layers have "
            f"most steps. {CHECKED} points of each grid were simulated alone, and agree exactly. "
            f"The busiest: processor seconds of the parent and the busier worker, one after the "
            f"other, which the clock would show if the {options.workers} processes had as many "
            f"cores to themselves. Starting the processes (about a second, once) is left out.",
            "",
            *grid_lines(graphs, options.workers, options.repeat),
            "",
            "## Beside SCALE-Sim",
            "",
            *scalesim_lines(options.repeat),
            "",
            f"Peak memory of this process: "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB (with torch, "
            f"which made the graphs).",
            "",
        ]
    )
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
