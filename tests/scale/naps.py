"""Tasks that last and leave a trace, and a command line that hands them out: for tests that kill.

    python naps.py nap --count N --seconds S --log FILE --ledger FILE [--workers N] [--scheduler A]

is a command of `chipfit` like any other, with its messages and exit codes. Every line of the log
is a task that was done: its number and the process that did it.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from analysis.scale import Runner, Task, key_of, opened


def nap(number: int, seconds: float, log: str) -> list[list[int]]:
    time.sleep(seconds)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{number} {os.getpid()}\n".encode())
    os.close(handle)
    return [[number, number * number]]


def naps(runner: Runner, count: int, seconds: float, log: str | Path) -> list[list[int]]:
    keys = [key_of("nap", i) for i in range(count)]
    return runner.results(
        keys, nap, lambda missing: [Task((i,), (i, seconds, str(log))) for i in missing]
    )


def logged(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def add_arguments(parser: ArgumentParser) -> None:
    from analysis.options import add_scale

    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--log")
    add_scale(parser, "DIR")


def run(options: Namespace) -> None:
    with opened(options.ledger, options.workers, options.scheduler) as runner:
        print(naps(runner, options.count, options.seconds, options.log))


if __name__ == "__main__":
    from importlib import import_module

    import analysis.commands
    from analysis.cli import main

    analysis.commands.SUMMARIES.clear()
    analysis.commands.SUMMARIES["nap"] = "nap"
    # by its name, so that workers find it where they look for it
    sys.modules["analysis.commands.nap"] = import_module("naps")
    sys.exit(main())
