"""Start the command of `naps.py`, look at its processes, and at what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from analysis.scale import Ledger, key_of

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
STARTED: list[subprocess.Popen[str]] = []  # ended after each test, whatever became of it


def squares(count: int) -> list[list[int]]:
    return [[i, i * i] for i in range(count)]


def command(folder: Path, count: int, seconds: float, *more: str) -> list[str]:
    return [sys.executable, str(HERE / "naps.py"), "nap", "--count", str(count),
            "--seconds", str(seconds), "--log", str(folder / "log"),
            "--ledger", str(folder / "ledger"), *more]  # fmt: skip


def start(arguments: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        arguments, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    STARTED.append(process)
    return process


def end_all() -> None:
    while STARTED:
        process = STARTED.pop()
        with suppress(ProcessLookupError):  # its workers too, which may have outlived it
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def kept(folder: Path, count: int = 64) -> dict[int, int]:
    """Numbers and squares in the ledger of a folder."""
    with Ledger(folder / "ledger") as ledger:
        found = ledger.known([key_of("nap", i) for i in range(count)]).values()
    return dict(found)
