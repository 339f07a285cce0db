"""Import torchvision beside a CPU build of torch."""

from __future__ import annotations

from functools import cache
from types import ModuleType

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def import_torchvision() -> ModuleType:
    """The torchvision package.

    torchvision's wheel is built against CUDA; beside a CPU torch its compiled library does not
    load, and the import fails because it registers Python kernels for operators that the library
    would have declared. Declaring them first makes the import work. Where the library does load,
    it declares them itself, and declaring twice is an error: hence the try, and hence only those
    that are missing. Nothing in this project calls these operators (non-maximum suppression).
    """
    import torch

    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget("torchvision")
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _OPERATORS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}{_SCHEMA}")
        _KEEP_ALIVE.append(library)
        import torchvision
    return torchvision


_KEEP_ALIVE: list[object] = []  # a Library takes its declarations back when it is collected


def _forget(package: str) -> None:
    """Drop what a failed import left behind, so that the next import starts afresh."""
    import sys

    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
