"""Wrong inputs made from right ones: edits of bytes, of JSON trees and of arrays, by a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

# what readers have stumbled over, in texts of any format
TOKENS: tuple[bytes, ...] = (
    b"", b"\0", b"\n", b"\r", b"\xff\xfe", "\ufeff".encode(), "é²٣\u2028".encode(), b'"', b"'",
    b",",
    b";", b":", b"=", b"[", b"]", b"{", b"}", b"[" * 3000, b'{"a":' * 3000, b"0", b"-0", b"-1",
    b"1e999", b"1e-999", b"nan", b"NaN", b"-inf", b"Infinity", b"null", b"true",
    b"0x" + b"f" * 5000,
    b"9" * 19, b"9" * 5000, b"0." + b"0" * 400 + b"1", b"1/0", b"%s%n", b"../../x", b"a" * 5000,
    b"18446744073709551616", b"2147483648", b"[[", b"]]", b"#", b"\\", b"\\u0000", b"\\ud800", b" ",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 17, 2**31, 2**63, 2**64, 10**30, 10**4000, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "8", "a" * 5000, "\0", "\ud800", "../../x", [],
    {},     [[]], [1, [2]], {"a": 1}, [None], ["1"], [1e400], [[1, 2], [3]], {"": {}},
)  # fmt: skip
DTYPES = ("u1", "i1", "<i2", "<u8", "<f2", "<f4", "<f8", "<c8", "?", "<U3", "S2", "<M8[s]", "V3")


def edited(random: Random, content: bytes) -> bytes:
    """Up to four edits: a piece left out, doubled, moved, overwritten, or a token put in."""
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(content))
        stop = min(len(content), start + random.choice((0, 1, 2, 8, 40, len(content))))
        piece = random.choice((
            b"", content[start:stop] * 2, random.choice(TOKENS), random.randbytes(3),
            random.choice(content.splitlines(keepends=True) or [b""]),
        ))  # fmt: skip
        content = content[:start] + piece + content[stop:]
    return content


def edited_tree(random: Random, tree: Any) -> Any:
    """A JSON tree with up to three of its values exchanged, taken away or given other names."""
    tree = copy.deepcopy(tree)
    for _ in range(random.randint(1, 3)):
        node: Any = None
        key: Any = None
        below = tree
        while isinstance(below, dict | list) and below and (node is None or random.random() < 0.8):
            node = below
            key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
            below = node[key]
        if node is None:
            return random.choice(VALUES)
        action = random.random()
        if action < 0.15:
            del node[key]
        elif action < 0.25 and isinstance(node, dict):
            node[random.choice(("", "x", "layers", "weights"))] = node.pop(key)
        elif action < 0.35 and isinstance(node, list):
            node.append(copy.deepcopy(below))
        else:
            node[key] = copy.deepcopy(random.choice(VALUES))
    return tree


def as_json(tree: Any) -> bytes:
    """Its JSON, with NaN and infinities as Python writes them; numbers beyond its digits as 0."""
    try:
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    except ValueError:
        return b'{"endless": ' + b"9" * 5000 + b"}"


def edited_array(random: Random, array: np.ndarray) -> np.ndarray:
    """An array of another type or shape, or with values that are none."""
    action = random.randrange(5)
    if action == 0:
        return np.zeros(array.shape, dtype=random.choice(DTYPES))
    if action == 1:
        return array[: random.randint(0, len(array))] if array.ndim else array
    if action == 2:
        return array[..., np.newaxis] if random.random() < 0.5 else array.reshape(-1)
    if action == 3 and array.dtype.kind == "f":
        bad = array.copy()
        bad.reshape(-1)[: random.randint(0, 3)] = random.choice((np.nan, np.inf, -np.inf, -1))
        return bad
    return np.array(random.choice((0, 1, 200))).astype(array.dtype)


def edited_arrays(
    random: Random, arrays: dict[str, np.ndarray], fixed: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Some of the arrays changed, left out or called otherwise; those in `fixed` stay."""
    made = dict(arrays)
    for name in arrays:
        if name in fixed or random.random() < 0.6:
            continue
        if random.random() < 0.2:
            made[random.choice(("x", "header", ""))] = made.pop(name)
        else:
            made[name] = edited_array(random, arrays[name])
    return made
