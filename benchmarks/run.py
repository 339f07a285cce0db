"""One benchmark in a process of its own, so that its greatest memory is its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.result import Result

NAMES = ("sweep", "curves", "allocation", "mapping_search", "scalesim", "layers", "exploration")


@dataclass(frozen=True)
class Run:
    """name: of the benchmark. peak_mb: of its process, or of the largest that it started."""

    name: str
    result: Result
    seconds: float
    peak_mb: float


def work_of(name: str, quick: bool) -> Callable[[], Result]:
    """The benchmark with the sizes of a report; imports only what it needs."""
    if name == "sweep":
        from benchmarks import sweep

        networks = ["mobilenet_v2"] if quick else ["mobilenet_v2", "resnet18"]
        return lambda: sweep.result(networks, images=2 if quick else 8, repeat=1 if quick else 3)
    if name == "curves":
        from benchmarks import curves

        return lambda: curves.result(24 if quick else 96, 2 if quick else 12)
    if name == "allocation":
        from benchmarks import allocation

        sizes = [1e4, 1e5] if quick else [1e4, 1e5, 1e6, 1e7]
        return lambda: allocation.result(sizes, repeat=1 if quick else 2)
    if name == "mapping_search":
        from benchmarks import mapping_search

        return lambda: mapping_search.result(100 if quick else 1000)
    if name == "scalesim":
        from benchmarks import scalesim

        return lambda: scalesim.result(os.environ.get("CHIPFIT_SCALESIM_PYTHON"))
    if name == "layers":
        from benchmarks import layers

        return lambda: layers.result(1 if quick else 3)
    from benchmarks import exploration

    networks = ["mobilenet_v2"] if quick else ["resnet50", "mobilenet_v2"]
    return lambda: exploration.result(networks, repeat=1 if quick else 3)


def run(name: str, quick: bool) -> Run:
    """Run one benchmark in this process."""
    start = time.perf_counter()
    result = work_of(name, quick)()
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(w).ru_maxrss for w in who) / 1024
    return Run(name, result, time.perf_counter() - start, peak)


def _send(pipe: Connection, name: str, quick: bool) -> None:
    pipe.send(run(name, quick))


def run_alone(name: str, quick: bool) -> Run:
    """Run one benchmark in a new process, on one thread unless the environment says otherwise."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processor seconds are then those of the work
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(theirs, name, quick))
    process.start()
    theirs.close()
    try:
        found: Run = ours.recv()
    except EOFError:
        raise SystemExit(f"benchmark {name} failed: see above") from None
    finally:
        process.join()
    return found
