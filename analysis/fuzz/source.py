"""A case as Python source, so that one that fails becomes a test that anyone can read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

TEST = '''"""Found by `python -m analysis.fuzz`: {model}, seed {seed} of a batch."""

# ruff: noqa
# fmt: off

{imports}


def test_{name}() -> None:
    case = {case}
    {check}(case)
'''


def literal(value: Any, imports: set[tuple[str, str]]) -> str:
    """Python source that makes the value again; what it has to import is added to `imports`, as
    (module, name). Dataclasses, arrays, containers and numbers; TypeError for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        imports.add((type(value).__module__, type(value).__qualname__))
        given = [f"{f.name}={literal(getattr(value, f.name), imports)}" for f in fields(value)
                 if f.init]  # fmt: skip
        return f"{type(value).__qualname__}({', '.join(given)})"
    if isinstance(value, np.ndarray):
        imports.add(("numpy", ""))
        if not value.size:
            return f"np.zeros({value.shape}, dtype=np.{value.dtype})"
        return f"np.array({value.tolist()!r}, dtype=np.{value.dtype})"
    if isinstance(value, Fraction):
        imports.add(("fractions", "Fraction"))
        return repr(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        imports.add((type(value).__module__, type(value).__qualname__))
        parts = ", ".join(literal(item, imports) for item in value)
        return f"{type(value).__qualname__}({parts})"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(literal(item, imports) for item in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict):
        pairs = (f"{literal(k, imports)}: {literal(v, imports)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return f'float("{value}")' if value in (np.inf, -np.inf) else repr(value)
    raise TypeError(f"cannot write {type(value).__qualname__} as Python source")


def regression_test(model: str, check: Callable[[Any], object], case: Any, seed: int) -> str:
    """A pytest file that runs `check` on the case."""
    imports = {(check.__module__, check.__qualname__)}
    made = literal(case, imports)
    lines = []
    for module in sorted({module for module, _ in imports}):
        names = sorted(name for other, name in imports if other == module)
        lines.append(
            f"from {module} import {', '.join(names)}" if names[0] else "import numpy as np"
        )
    return TEST.format(
        seed=seed,
        model=model,
        imports="\n".join(lines),
        name=identifier(model),
        case=made,
        check=check.__qualname__,
    )


def identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def write_regression(
    folder: Path, model: str, check: Callable[[Any], object], case: Any, seed: int
) -> Path:
    """Write the test beside those that are there; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"test_{identifier(model)}_{seed}.py"
    path.write_text(regression_test(model, check, case, seed), encoding="utf-8")
    return path
