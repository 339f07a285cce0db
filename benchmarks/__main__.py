"""All benchmarks, one after the other, as one report.

    python -m benchmarks [-o reports/benchmarks.md] [--only NAME ...] [--quick]

Each runs in a process of its own, whose greatest memory the report states. Times are processor
seconds, which other work on the machine disturbs less than the clock's. --quick takes smaller
sizes, to see that everything runs. Where CHIPFIT_SCALESIM_PYTHON names a Python that has the
package scalesim, it runs beside; else its recorded time is taken.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.result import markdown, times
from benchmarks.run import NAMES, Run, run_alone
from hwsim.files import write_atomically


def report(runs: Sequence[Run], command: str, load: str) -> str:
    ratios = [(r.what, r.ours, r.theirs, times(r.ratio)) for run in runs for r in run.result.ratios]
    costs = [(run.name, f"{run.seconds:.0f}", f"{run.peak_mb:,.0f}") for run in runs]
    versions = ", ".join(f"{name} {version(name)}" for name in ("chipfit", "torch", "numpy"))
    parts = [
        "# Benchmarks",
        f"Made by `{command}` with {versions}, Python {platform.python_version()}, on "
        f"{os.cpu_count()} cores with a load average of {load} when it began: where that is above "
        "the number of cores, other work ran beside it. Both sides of a ratio were measured in the "
        "same run, unless its line says otherwise.",
        markdown(("what / against what", "this", "the other", "ratio"), ratios),
        "## Memory and time of the benchmarks themselves",
        "Greatest memory of each benchmark's process (of the largest one that it started).",
        markdown(("benchmark", "wall s", "peak MB"), costs),
    ]
    for item in runs:
        parts += [f"## {item.result.title}", item.result.note, item.result.table()]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="All benchmarks.")
    parser.add_argument("-o", "--output", type=Path, help="write the report here too")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    options = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    runs = []
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        runs.append(run_alone(name, options.quick))
    text = report(runs, " ".join(["python -m benchmarks", *given]), load)
    print(text)
    if options.output:
        write_atomically(options.output, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
