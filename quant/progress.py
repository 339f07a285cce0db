"""A progress bar for long work, on a terminal only; what it is given to goes by any callable."""

from __future__ import annotations

import sys
from typing import Any

from quant.calibration import Progress


def progress_bar() -> Progress | None:
    """A bar on standard error for each piece of work, or None where that is not a terminal."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total, desc=what, leave=False, file=sys.stderr)
        bars[what].update(done - bars[what].n)
        if done >= total:
            bars.pop(what).close()

    return show
