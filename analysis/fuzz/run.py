"""Batches of random cases on all cores, until the time is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed

from analysis.fuzz.model import Model
from analysis.fuzz.models import MODELS
from analysis.fuzz.source import write_regression

BATCH = 100  # cases of a model that share a seed


@dataclass(frozen=True)
class Batch:
    """What came of the cases of one seed. error: what the reduced case said, if one failed."""

    model: str
    agreed: int
    error: str = ""
    test: Path | None = None


def run_batch(name: str, cases: int, seed: int, regressions: Path) -> Batch:
    """Try up to `cases` different cases of a model."""
    model = next(model for model in MODELS if model.name == name)
    agreed, latest = 0, None

    @hypothesis_seed(seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(case=model.cases)
    def compare(case: Any) -> None:
        nonlocal agreed, latest
        latest = case
        model.check(case)
        agreed += 1

    try:
        compare()
    except Exception as error:  # any error on a legal case is a finding
        # hypothesis tries the smallest case that fails last
        test = write_regression(regressions, name, model.check, latest, seed)
        return Batch(name, 0, f"{type(error).__name__}: {error}", test)
    return Batch(name, agreed)


def batches(models: Sequence[Model], seed: int) -> Iterator[tuple[str, int]]:
    """(model, seed) without end, each model as often as its share says."""
    turns = [model.name for model in models for _ in range(model.share)]
    for number in count():
        yield turns[number % len(turns)], seed * 1_000_003 + number


def run(
    models: Sequence[Model], seconds: float, seed: int, workers: int, regressions: Path
) -> tuple[Counter[str], list[Batch]]:
    """Cases that agreed, by model, and the batches in which one did not."""
    agreed: Counter[str] = Counter({model.name: 0 for model in models})
    failed: list[Batch] = []
    queue, end = batches(models, seed), time.monotonic() + seconds
    running: set[Future[Batch]] = set()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while running or time.monotonic() < end:
            while len(running) < workers and time.monotonic() < end:
                name, own = next(queue)
                running.add(pool.submit(run_batch, name, BATCH, own, regressions))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                batch = future.result()
                agreed[batch.model] += batch.agreed
                if batch.error:
                    failed.append(batch)
                    print(f"{batch.model}: {batch.error}\n  {batch.test}", flush=True)
    return agreed, failed


def table(agreed: Counter[str], failed: Sequence[Batch]) -> list[str]:
    """Markdown."""
    wrong = Counter(batch.model for batch in failed)
    return [
        "| model | cases that agree | cases that do not |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {number:,} | {wrong[name]} |" for name, number in agreed.items()),
        f"| all | {agreed.total():,} | {len(failed)} |",
    ]
