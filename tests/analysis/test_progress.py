"""The progress bar is for terminals."""

from __future__ import annotations

import sys

from analysis.progress import ProgressBars


def test_the_bar_shows_on_a_terminal_only(monkeypatch, capsys):
    with ProgressBars() as progress:
        progress("sweep", 1, 3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBars() as progress:
        for task in ("sweep", "evaluate"):
            for done in (1, 2, 3):
                progress(task, done, 3)
    shown = capsys.readouterr().err
    assert "sweep" in shown
    assert "evaluate" in shown
