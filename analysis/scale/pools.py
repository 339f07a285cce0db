"""Where tasks are done: processes of this machine, or the workers of a dask cluster.

Both hand out `concurrent.futures.Future`s. Local processes are those of loky, the pool of joblib.
joblib's own loop over tasks is not used: it loses all that is under way with one killed worker,
and with dask it waits for ever for a task whose worker was lost (joblib 1.6, distributed 2026.8).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

# a worker computes on one core; threads of it would only get in the way of the other workers
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB")
}
QUIET = ("distributed", "distributed.client", "distributed.core", "distributed.utils", "asyncio",
         "tornado.application")  # fmt: skip
ORPHAN_SECONDS = 0.5  # a worker that has lost its driver ends within this


class Pool(Protocol):
    """slots: tasks that run at once. lost: exceptions of a future whose workers were lost, again
    and again, while at this task; other losses break the pool (`BrokenExecutor`). remote: whether
    workers may be of another installation."""

    remote: bool
    slots: int
    lost: tuple[type[BaseException], ...]

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]: ...

    def check(self) -> None:
        """Raise ValueError if no task will ever be finished any more."""

    def renew(self) -> None:
        """Start anew after it broke."""

    def close(self) -> None:
        """End at once, whatever is under way."""


class LocalPool:
    """`workers` processes, started when the first task comes."""

    remote = False
    lost: tuple[type[BaseException], ...] = ()

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._executor: Any = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._executor is None:
            from joblib.externals.loky import ProcessPoolExecutor

            self._executor = ProcessPoolExecutor(
                self.slots, initializer=_begin_worker, initargs=(os.getpid(),), env=ONE_THREAD
            )
        return self._executor.submit(function, *arguments)

    def check(self) -> None:
        return

    def renew(self) -> None:
        self.close()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
        self._executor = None


def _begin_worker(driver: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the driver ends its workers
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    """End this process once its driver, killed with no chance to do so, is no longer there."""
    while os.getppid() == driver:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


class DaskPool:
    """The workers of the dask cluster at `address`. Its nannies give each worker one thread for
    BLAS, and its scheduler takes up tasks of lost workers, at most `allowed-failures` times.

    Raises ValueError if distributed is not installed, or nothing answers at the address.
    """

    remote = True

    def __init__(self, address: str, seconds: float = 10.0) -> None:
        try:
            import distributed
        except ImportError:
            raise ValueError(
                "--scheduler needs dask.distributed: pip install 'chipfit[distributed]'"
            ) from None
        for name in QUIET:  # a lost scheduler is one line of ours, not ten tracebacks
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self.address = address
        self.lost: tuple[type[BaseException], ...] = (distributed.KilledWorker,)
        try:
            self._client = distributed.Client(address, timeout=seconds, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"--scheduler {address}: no dask scheduler answers there ({reason}); start one "
                f"with dask scheduler, and workers with dask worker {address}"
            ) from None
        self._executor = self._client.get_executor(pure=False)
        self._lonely_since: float | None = None
        self._seconds = seconds
        self.slots = 1
        self.check()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._executor.submit(function, *arguments)

    def check(self) -> None:
        if self._client.status != "running":
            raise ValueError(f"--scheduler {self.address}: the dask scheduler is gone")
        try:
            threads = sum(self._client.nthreads().values())
        except (OSError, TimeoutError, RuntimeError):
            raise ValueError(f"--scheduler {self.address}: the dask scheduler is gone") from None
        self.slots = max(1, threads)
        if threads:
            self._lonely_since = None
        elif self._lonely_since is None:
            self._lonely_since = time.monotonic()
        elif time.monotonic() - self._lonely_since > self._seconds:
            raise ValueError(
                f"--scheduler {self.address}: the cluster has had no worker for "
                f"{self._seconds:g} s; start some with dask worker {self.address}"
            )

    def renew(self) -> None:
        return  # the scheduler replaces workers by itself

    def close(self) -> None:
        self._client.close(timeout=2)
