"""Did-you-mean for names that a user typed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], limit: int = 12) -> str:
    """A clause for the end of an error: the nearest known names, or the list when it is short."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if names and len(names) <= limit:
        return f"; there is {', '.join(names)}"
    return ""
