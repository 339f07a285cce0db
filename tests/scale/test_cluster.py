"""A dask cluster on loopback, its processes really killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from naps import logged, nap
from processes import ENVIRONMENT, command, kept, squares, start, until

from analysis.scale.runner import _work

pytest.importorskip("distributed")

WORKERS = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dask(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / f"dask-{arguments[0]}.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + f"dask_{arguments[0]}", *arguments[1:]],
            env={**ENVIRONMENT, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"tcp://127.0.0.1:{free_port()}"
        self.scheduler = self.begin()

    def begin(self) -> subprocess.Popen[bytes]:
        host, port = self.address.removeprefix("tcp://").split(":")
        own = ("--host", host, "--port", port, "--dashboard-address", "127.0.0.1:0")
        self.scheduler = dask(self.folder, "scheduler", *own)
        limits = ("--nthreads", "1", "--no-dashboard", "--death-timeout", "15")
        self.workers = [dask(self.folder, "worker", self.address, *limits) for _ in range(WORKERS)]
        return self.scheduler

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    running = Cluster(folder)
    try:
        yield running
    finally:
        running.end()


@pytest.mark.slow
def test_a_cluster_gives_the_same_results_and_survives_a_killed_worker(tmp_path):
    with cluster(tmp_path) as running:
        run = start(command(tmp_path, 14, 0.5, "--scheduler", running.address))
        log = tmp_path / "log"
        until(lambda: len(logged(log)) >= 4, 40)
        os.kill(int(log.read_text().split()[-1]), signal.SIGKILL)
        out, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert out.strip() == str(squares(14))
    times = Counter(logged(log))
    assert set(times) == set(range(14))
    assert len(kept(tmp_path)) == 14


@pytest.mark.slow
def test_a_killed_scheduler_loses_nothing_that_was_done(tmp_path):
    with cluster(tmp_path) as running:
        arguments = command(tmp_path, 12, 0.5, "--scheduler", running.address)
        run = start(arguments)
        until(lambda: len(logged(tmp_path / "log")) >= 4, 40)
        time.sleep(0.3)
        began = time.monotonic()
        os.killpg(running.scheduler.pid, signal.SIGKILL)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 2
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"chipfit: error: --scheduler {running.address}: the dask")
        assert "Traceback" not in errors, errors
        assert time.monotonic() - began < 45
        before, done = kept(tmp_path), Counter(logged(tmp_path / "log"))
        assert len(before) >= 3
        running.end()
        running.begin()
        again = start(arguments)
        out, errors = again.communicate(timeout=90)
        assert again.returncode == 0, errors
        assert out.strip() == str(squares(12))
    new = Counter(logged(tmp_path / "log")) - done
    assert set(new) == set(range(12)) - set(before)
    assert set(new.values()) == {1}


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    from analysis.scale.pools import DaskPool

    with pytest.raises(ValueError, match=f"--scheduler {address}: no dask scheduler answers there"):
        DaskPool(address, seconds=0.5)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    from analysis.scale.pools import DaskPool

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'chipfit\[distributed\]'"):
        DaskPool("tcp://127.0.0.1:1")


def test_a_worker_of_another_installation_is_refused(tmp_path):
    with pytest.raises(ValueError, match="install the same chipfit everywhere"):
        _work(nap, [(1, 0.0, str(tmp_path / "log"))], "chipfit 0.0.1, sources 0")
    assert logged(tmp_path / "log") == []
