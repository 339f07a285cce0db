"""Public names of a package that are imported when first asked for (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version

DISTRIBUTION = "chipfit"


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    modules: {module inside the package: public names that it defines, separated by spaces}.
    `__version__` is the distribution's. A name is kept in the package once it was asked for.
    """
    places = {name: f"{package}.{module}" for module in modules for name in modules[module].split()}

    def get(name: str) -> object:
        if name == "__version__":
            value: object = version(DISTRIBUTION)
        elif name in places:
            value = getattr(import_module(places[name]), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places, "__version__"})

    return get, names
