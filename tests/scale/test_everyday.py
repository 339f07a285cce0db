"""Everyday places: one core, no display, no network, odd paths; and the same answer everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_verify import TOPOLOGY

# no address may be looked up or spoken to
NO_NETWORK = """
import socket, sys
def refuse(*_, **__): raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
from analysis.cli import main
sys.exit(main())
"""


def explore(folder: Path, output: str, hash_seed: str, workers: str) -> str:
    """The table of an exploration on one core, without display and network."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}  # fmt: skip
    environment |= {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    one_core = []
    if hasattr(os, "sched_getaffinity"):
        one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    found = subprocess.run(
        [*one_core, sys.executable, "-c", NO_NETWORK, "explore", str(folder / "net.csv"), "--on",
         "eyeriss_v1", "--vary", "gbuf.capacity=8KiB,24KiB", "-o", str(folder / output),
         "--workers", workers],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    return (folder / output / "table.csv").read_text()


@pytest.mark.slow
def test_one_core_odd_paths_workers_and_hash_seeds_change_no_digit(tmp_path):
    folder = tmp_path / "Größe mit Leerzeichen 設計"
    folder.mkdir()
    (folder / "net.csv").write_text(TOPOLOGY)
    first = explore(folder, "aus gabe", hash_seed="0", workers="1")
    assert explore(folder, "noch eine", hash_seed="1", workers="2") == first
    assert first.count("\n") == 3
