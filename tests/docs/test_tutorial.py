"""The tutorial does what it says: its code runs, and prints what stands there."""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_shell(commands):
    """`chipfit` is the one beside this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"{commands}\n{done.stderr}"
    return done.stdout


def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("python") >= 8
    names = {"__name__": "tutorial"}
    printed, checker = "", doctest.OutputChecker()
    for kind, text in blocks:
        if kind == "text":
            assert checker.check_output(text, printed, doctest.ELLIPSIS), f"{text}\n{printed}"
            printed = ""
            continue
        assert not printed, f"printed and not shown: {printed}"
        if kind == "sh":
            printed = run_shell(text)
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(TUTORIAL), "exec"), names)
        printed = out.getvalue()
    assert not printed, f"printed and not shown: {printed}"
