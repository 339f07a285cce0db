"""Fast models against their references on as many random cases as the time allows.

    python -m analysis.fuzz [--seconds 60] [--seed 0] [--workers N] [--only NAME ...]
                            [--regressions tests/regressions] [-o FILE]

Prints how many cases of each model agreed. A case that does not is reduced to a small one and
written as a pytest file under --regressions; the command then exits with 1. Each batch of cases has
a seed of its own, so that a run with another --seed meets other cases.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.fuzz.models import MODELS
from analysis.fuzz.run import run, table


def main(argv: Sequence[str] | None = None) -> int:
    names = [model.name for model in MODELS]
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="default 60")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="all cores")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names)
    parser.add_argument("--regressions", type=Path, default=Path("tests/regressions"))
    options = parser.parse_args(argv)
    chosen = [model for model in MODELS if model.name in options.only]
    agreed, failed = run(
        chosen, options.seconds, options.seed, options.workers, options.regressions
    )
    print("\n".join(table(agreed, failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
