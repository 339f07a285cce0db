"""Hand out tasks, keep what comes back at once, and take up again what was lost."""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.scale.keys import PACKAGES, code_version
from analysis.scale.ledger import Ledger
from analysis.scale.pools import DaskPool, LocalPool, Pool

TRIES = 3  # of a task whose workers are lost; the last of them with nothing else under way
BATCH_SECONDS = 0.2  # of work in one message, at least; some 100 times what a message costs
LOOK_SECONDS = 1.0  # between looks at whether a cluster is still there


@dataclass(frozen=True)
class Task:
    """Work that gives the results at some positions: function(*arguments) is a list of them."""

    positions: tuple[int, ...]
    arguments: tuple[Any, ...]


Record = Callable[[Task, list[Any]], None]


class Runner:
    """Runs tasks in this process (pool: None) or in a pool; the ledger keeps every result."""

    def __init__(self, ledger: Ledger, pool: Pool | None = None) -> None:
        self.ledger, self.pool = ledger, pool

    def results(
        self,
        keys: Sequence[bytes],
        function: Callable[..., list[Any]],
        tasks: Callable[[list[int]], Iterable[Task]],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """The result for each key, as plain data (what JSON gives back).

        tasks: called with the positions that the ledger does not know, the first of those with
        equal keys, which it has to cover, each once. function: picklable, and its results plain
        data, or tuples. progress: called with (results there, of how many).

        Whatever the number of workers, and whether a run goes on from another, the answer is the
        same. Raises what the function raises, and ValueError if a cluster is gone or a task has
        lost its workers TRIES times; all else is done by then and in the ledger.
        """
        known = self.ledger.known(list(dict.fromkeys(keys)))
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = sorted(i for key, i in first.items() if key not in known)
        if progress is not None and known:
            progress(len(known), len(first))

        def record(task: Task, values: list[Any]) -> None:
            found = [(keys[i], value) for i, value in zip(task.positions, values, strict=True)]
            self.ledger.add(found)
            known.update((key, _plain(value)) for key, value in found)
            if progress is not None:
                progress(len(known), len(first))

        if self.pool is None:
            for task in tasks(missing):
                record(task, function(*task.arguments))
        elif missing:
            self._pooled(function, list(tasks(missing)), record)
        return [known[key] for key in keys]

    def _pooled(
        self, function: Callable[..., list[Any]], tasks: Sequence[Task], record: Record
    ) -> None:
        pool = self.pool
        assert pool is not None
        version = code_version(*PACKAGES) if pool.remote else None
        queue, last_try, failed = deque(range(len(tasks))), deque[int](), list[int]()
        tries = Counter[int]()
        running: dict[Future[Any], list[int]] = {}
        seconds = BATCH_SECONDS  # a task, as far as is known
        broken = False

        def submit(batch: list[int]) -> None:
            nonlocal broken
            arguments = [tasks[i].arguments for i in batch]
            try:
                running[pool.submit(_work, function, arguments, version)] = batch
                tries.update(batch)
            except BrokenExecutor:
                broken = True
                queue.extendleft(reversed(batch))

        def again(batch: list[int]) -> None:
            for i in batch:
                if tries[i] >= TRIES:
                    failed.append(i)
                else:
                    (last_try if tries[i] == TRIES - 1 else queue).append(i)

        while queue or last_try or running:
            while not broken and queue and len(running) <= pool.slots:  # one more than can run
                share = max(1, len(queue) // (2 * pool.slots))  # so that all end together
                size = min(share, max(1, round(BATCH_SECONDS / max(seconds, 1e-6))))
                submit([queue.popleft() for _ in range(size)])
            if not (broken or running or queue):
                submit([last_try.popleft()])
            for future in wait(running, LOOK_SECONDS, FIRST_COMPLETED).done:
                batch = running.pop(future)
                try:
                    taken, values = future.result()
                except BrokenExecutor:
                    broken = True
                    again(batch)
                except pool.lost:
                    failed += batch
                except CancelledError:
                    pool.check()
                    again(batch)
                else:
                    seconds = taken / len(batch)
                    for i, found in zip(batch, values, strict=True):
                        record(tasks[i], found)
            if broken and not running:  # all have ended; those done before the break with results
                pool.renew()
                broken = False
            pool.check()
        if failed:
            raise ValueError(
                f"{len(failed)} of {len(tasks)} tasks lost their workers {TRIES} times (killed, or "
                f"out of memory?); the others are done. Fewer --workers leave each more memory; "
                f"the same command goes on from {self.ledger.path or 'the start'}"
            )


def _plain(value: Any) -> Any:
    """As a ledger gives it back."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _work(
    function: Callable[..., list[Any]], arguments: Sequence[tuple[Any, ...]], version: str | None
) -> tuple[float, list[list[Any]]]:
    """On a worker: seconds taken, and the results of some tasks. version: of the driver's sources,
    where those of the worker may be others."""
    if version is not None and (here := code_version(*PACKAGES)) != version:
        raise ValueError(
            f"the worker on {socket.gethostname()} has {here}, the driver {version}: install the "
            f"same chipfit everywhere, and start the workers anew"
        )
    began = time.perf_counter()
    found = [function(*own) for own in arguments]
    return time.perf_counter() - began, found


@contextmanager
def opened(
    ledger: str | Path | None, workers: int = 1, scheduler: str | None = None
) -> Iterator[Runner]:
    """A runner, its ledger and pool, which are closed behind it, also after Ctrl-C; its message
    then says where to go on from."""
    with ExitStack() as stack:
        kept = stack.enter_context(Ledger(ledger))
        pool: Pool | None = None
        if scheduler is not None:
            pool = DaskPool(scheduler)
        elif workers > 1:
            pool = LocalPool(workers)
        if pool is not None:
            stack.callback(pool.close)
        try:
            yield Runner(kept, pool)
        except KeyboardInterrupt:
            if kept.path is None:
                raise
            raise KeyboardInterrupt(
                f"what was done is in {kept.path}; the same command goes on from there"
            ) from None
