"""What a user typed, in an error: did-you-mean for names, values cut to a length."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr


def did_you_mean(name: str, known: Iterable[str], limit: int = 12) -> str:
    """A clause for the end of an error: the nearest known names, or the list when it is short."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if names and len(names) <= limit:
        return f"; there is {', '.join(names)}"
    return ""


def shown(value: object) -> str:
    """A value as an error quotes it: its repr, however long or deeply nested it is, cut short."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__} of more than 4,300 digits"


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40
