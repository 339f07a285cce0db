"""What every case of bad input is held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.cli import main

Refused = Callable[[list[str], str], None]


def files(folder: Path) -> dict[Path, int]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.fixture
def refused(capsys) -> Refused:
    """Runs a command in the current folder, which must end in one line that says what is expected,
    with exit code 2, and leave all files there as they were."""

    def check(arguments: list[str], said: str) -> None:
        before = files(Path.cwd())
        capsys.readouterr()
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("chipfit: error: ")
        assert captured.err.count("\n") == 1
        assert len(captured.err) < 2500
        assert said in captured.err
        assert files(Path.cwd()) == before

    return check
