"""SCALE-Sim and the serial schedule side by side: cycles, SRAM accesses, seconds.

Needs the package scalesim in a Python of its own (it wants another numpy than this project):

    python -m venv scalesim-env && scalesim-env/bin/pip install scalesim==3.0.0 "numpy<2.4"
    python -m benchmarks.scalesim --python scalesim-env/bin/python -o reports/scalesim.md

Without --python (or CHIPFIT_SCALESIM_PYTHON) it says so and ends. --quick leaves out ResNet-18 on
256 x 256, which takes SCALE-Sim more than a minute.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.result import Ratio, Result, times
from hwsim import BitWidths, load_accelerator, simulate
from hwsim.accelerator import Accelerator, Dataflow, SystolicArray
from hwsim.exports.scalesim import FLOWS, scalesim_config
from hwsim.frontends.models import from_name
from hwsim.frontends.topology_csv import CONV_HEADER, read_topology, write_topology
from hwsim.stats import LayerStats

RECORDED = Path(__file__).parents[1] / "reports" / "scalesim.md"  # made by main
DATAFLOWS: dict[str, Dataflow] = {flow: dataflow for dataflow, flow in FLOWS.items()}

# Partly filled folds in both directions, a stride, one pixel, more filters than columns.
SMALL = """first,18,18,3,3,3,20,1,
strided,17,17,3,3,20,24,2,
pointwise,8,8,1,1,24,50,1,
wide,8,6,5,3,7,9,1,
last,1,1,1,1,50,33,1,
"""

# Run by the other Python: the simulation alone is timed, not its imports.
DRIVER = """
import json, sys, time, importlib.metadata
from scalesim.scale_sim import scalesim
config, topology, folder = sys.argv[1:]
run = scalesim(save_disk_space=True, verbose=False, config=config, topology=topology,
               layout=topology, input_type_gemm=False)
wall, cpu = time.perf_counter(), time.process_time()
run.run_scale(top_path=folder)
json.dump({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
           "version": importlib.metadata.version("scalesim"),
           "numpy": importlib.metadata.version("numpy")}, open(folder + "/timing.json", "w"))
"""


@dataclass(frozen=True)
class Counts:
    """One layer: cycles, and SRAM accesses in words."""

    cycles: int
    ifmap: int
    filters: int
    ofmap: int


@dataclass(frozen=True)
class Case:
    """A topology on an array."""

    title: str
    topology: Path
    rows: int
    cols: int
    flow: str  # of DATAFLOWS


@dataclass(frozen=True)
class Comparison:
    """Both simulators on a case. folds: how often the array is filled, layer by layer."""

    case: Case
    layers: tuple[str, ...]
    theirs: tuple[Counts, ...]
    ours: tuple[Counts, ...]
    folds: tuple[int, ...]
    their_seconds: float
    our_seconds: float
    versions: str

    def same(self, field: str) -> int:
        """Layers with equal counts."""
        pairs = zip(self.theirs, self.ours, strict=True)
        return sum(getattr(a, field) == getattr(b, field) for a, b in pairs)

    @property
    def idle_writes(self) -> tuple[int, ...]:
        """Ofmap accesses that SCALE-Sim counts in os and that write nothing: R + C a fold."""
        each = self.case.rows + self.case.cols if self.case.flow == "os" else 0
        return tuple(each * folds for folds in self.folds)

    @property
    def ofmap_explained(self) -> int:
        """Layers whose ofmap writes are equal once those are taken off."""
        rows = zip(self.theirs, self.ours, self.idle_writes, strict=True)
        return sum(a.ofmap - idle == b.ofmap for a, b, idle in rows)


def machine(case: Case) -> Accelerator:
    """The google preset with the case's array and dataflow."""
    preset = load_accelerator("scalesim_google")
    assert isinstance(preset.array, SystolicArray)
    array = replace(preset.array, rows=case.rows, cols=case.cols, dataflow=DATAFLOWS[case.flow])
    return replace(preset, array=array)


def run_ours(case: Case) -> tuple[list[LayerStats], list[int], float]:
    start = time.perf_counter()
    graph = read_topology(case.topology)
    stats = simulate(graph, machine(case), BitWidths(8, 8))
    seconds = time.perf_counter() - start
    layers = [layer for layer in stats.layers if layer.kind != "input"]
    folds = []
    for layer in graph.weighted:
        gemm = layer.gemm
        assert gemm is not None
        down = gemm.pixels if case.flow == "os" else gemm.reduction
        across = gemm.pixels if case.flow == "is" else gemm.columns
        folds.append(gemm.groups * -(-down // case.rows) * -(-across // case.cols))
    return layers, folds, seconds


def run_theirs(case: Case, python: str) -> tuple[list[Counts], dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        accelerator = machine(case)
        config = Path(folder) / "run.cfg"
        config.write_text(scalesim_config(accelerator))
        done = subprocess.run(
            [python, "-c", DRIVER, str(config), str(case.topology), folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"scalesim failed on {case.title}: {done.stderr.strip()[-500:]}")
        timing = json.loads((Path(folder) / "timing.json").read_text())
        reports = Path(folder) / accelerator.name
        compute = _rows(reports / "COMPUTE_REPORT.csv")
        access = _rows(reports / "DETAILED_ACCESS_REPORT.csv")
    counts = [
        Counts(
            cycles=_int(c["Total Cycles"]),
            ifmap=_int(a["SRAM IFMAP Reads"]),
            filters=_int(a["SRAM Filter Reads"]),
            ofmap=_int(a["SRAM OFMAP Writes"]),
        )
        for c, a in zip(compute, access, strict=True)
    ]
    return counts, timing


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def _int(text: str) -> int:
    return int(float(text))


def compare(case: Case, python: str) -> Comparison:
    layers, folds, seconds = run_ours(case)
    theirs, timing = run_theirs(case, python)
    ours = tuple(
        Counts(
            layer.compute_cycles,
            *(int(layer.detail[name]) for name in
              ("ifmap_sram_reads", "filter_sram_reads", "ofmap_sram_writes")),
        )
        for layer in layers
    )  # fmt: skip
    return Comparison(
        case, tuple(layer.name for layer in layers), tuple(theirs), ours, tuple(folds),
        float(str(timing["cpu_s"])), seconds,
        f"scalesim {timing['version']}, numpy {timing['numpy']}",
    )  # fmt: skip


def summary(results: Sequence[Comparison]) -> list[str]:
    lines = [
        "| case | array | dataflow | layers | cycles, SCALE-Sim | cycles, chipfit | layers with "
        "equal cycles | ifmap reads | filter reads | ofmap writes | SCALE-Sim, CPU s "
        "| chipfit, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        n = len(r.layers)
        cells = [
            r.case.title, f"{r.case.rows} x {r.case.cols}", r.case.flow, n,
            f"{sum(c.cycles for c in r.theirs):,}", f"{sum(c.cycles for c in r.ours):,}",
            *(f"{r.same(field)} of {n}" for field in ("cycles", "ifmap", "filters")),
            f"{r.ofmap_explained} of {n}", f"{r.their_seconds:.3g}", f"{r.our_seconds:.3g}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def details(result: Comparison) -> list[str]:
    case = result.case
    lines = [
        f"## {case.title}, {case.rows} x {case.cols}, {case.flow}", "",
        "| layer | cycles | ifmap reads | filter reads | ofmap writes | of them idle |",
        "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    rows = zip(result.layers, result.theirs, result.ours, result.idle_writes, strict=True)
    for name, theirs, ours, idle in rows:
        shown = [
            f"{a:,}" if a == b else f"{a:,} ({b:,})"
            for a, b in zip(vars(theirs).values(), vars(ours).values(), strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(shown)} | {idle:,} |")
    return [*lines, ""]


def report(results: Sequence[Comparison], command: str) -> str:
    versions = f"{results[0].versions}; chipfit {version('chipfit')}, numpy {version('numpy')}"
    return "\n".join([
        "# SCALE-Sim side by side", "",
        f"Made by `{command}`", f"with {versions}, Python {platform.python_version()}.", "",
        "The same topology file goes to the scalesim package and to `hwsim` with the preset "
        "`scalesim_google`, its array and dataflow changed as the table says (schedule `serial`, "
        "one byte a word, batch 1, no stalls: SCALE-Sim runs with InterfaceBandwidth CALC). Cycles "
        "are SCALE-Sim's \"Total Cycles\" and our compute cycles. SCALE-Sim's seconds are CPU "
        "seconds of the simulation alone, ours are wall seconds of reading the file and "
        "simulating it; neither has the time of imports.", "",
        *summary(results), "",
        "In `os` SCALE-Sim counts R + C ofmap writes a fold that write nothing (its traces hold "
        "no address there); the column above counts a layer as equal once they are taken off. "
        "Below, a number in brackets is ours where it differs from SCALE-Sim's.", "",
        *(line for result in results for line in details(result)),
    ])  # fmt: skip


def cases(folder: Path, quick: bool) -> list[Case]:
    small = folder / "small.csv"
    small.write_text(f"{CONV_HEADER}\n{SMALL}")
    found = [
        Case("small layers", small, rows, cols, flow)
        for rows, cols in ((8, 6), (16, 16))
        for flow in DATAFLOWS
    ]
    alexnet = folder / "conv1.csv"
    alexnet.write_text(f"{CONV_HEADER}\nCONV1,227,227,11,11,3,96,4,\n")
    found.append(Case("AlexNet CONV1", alexnet, 32, 32, "ws"))
    if not quick:
        resnet = folder / "resnet18.csv"
        write_topology(from_name("resnet18"), resnet)
        found.append(Case("ResNet-18", resnet, 256, 256, "ws"))
    return found


def recorded_seconds() -> float:
    """Processor seconds of SCALE-Sim for ResNet-18 on 256 x 256, as this benchmark once found."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:3] == ["ResNet-18", "256 x 256", "ws"]:
            return float(cells[-2])
    raise SystemExit(f"{RECORDED}: no row for ResNet-18; run python -m benchmarks.scalesim")


def result(python: str | None) -> Result:
    """Both simulators on ResNet-18; SCALE-Sim's time as recorded where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        case = cases(Path(folder), quick=False)[-1]
        layers, _, _ = run_ours(case)
        start = time.process_time()
        run_ours(case)
        ours = time.process_time() - start
        if python is None:
            theirs, source = recorded_seconds(), "recorded in reports/scalesim.md"
            cycles = ""
        else:
            found = compare(case, python)
            theirs, source = found.their_seconds, found.versions
            cycles = f"{sum(c.cycles for c in found.theirs):,}"
    row = (f"{case.title}, {case.rows} x {case.cols}, {case.flow}", cycles,
           f"{sum(layer.compute_cycles for layer in layers):,}", f"{theirs:.1f}", f"{ours:.4f}",
           times(theirs / ours))  # fmt: skip
    return Result(
        "Simulation against SCALE-Sim",
        f"The same topology file, schedule, array and dataflow. SCALE-Sim: {source}.",
        ("case", "SCALE-Sim, cycles", "chipfit, cycles", "SCALE-Sim, CPU s", "chipfit, CPU s",
         "ratio"),
        (row,),
        (Ratio(f"{case.title}: SCALE-Sim ({source}) / chipfit", f"{ours:.4f} CPU s",
               f"{theirs:.1f} CPU s", theirs / ours),),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=os.environ.get("CHIPFIT_SCALESIM_PYTHON"),
                        help="a Python that has the package scalesim")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="without ResNet-18")
    parser.add_argument("-o", "--output", help="write the report here")
    options = parser.parse_args()
    if not options.python:
        print("scalesim: not compared; give --python, a Python that has the package scalesim")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = [compare(case, options.python) for case in cases(Path(folder), options.quick)]
    print("\n".join(summary(results)))
    if options.output:
        flags = " --quick" if options.quick else ""
        command = f"python -m benchmarks.scalesim --python PYTHON{flags} -o {options.output}"
        Path(options.output).write_text(report(results, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
