"""A progress bar on a terminal, and silence everywhere else."""

from __future__ import annotations

import sys
from typing import Any


class ProgressBars:
    """Callable as progress(task, done, total); one bar a task, on standard error."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self.task: str | None = None
        self.bar: Any = None

    def __call__(self, task: str, done: int, total: int) -> None:
        if not self.shown:
            return
        if task != self.task:
            from tqdm import tqdm

            self.close()
            self.task, self.bar = task, tqdm(total=total, desc=task, leave=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.task = self.bar = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
