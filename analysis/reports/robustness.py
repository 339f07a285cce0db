"""Wrong inputs: how many each reader was given, and what came out.

    python -m analysis.reports.robustness [--inputs 20000]

writes reports/robustness.md. Needs the extras `interop` and `dev`.
"""

from __future__ import annotations

import argparse
import logging
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.fuzz.parsers import Escaped, Parser, attempt, parsers
from analysis.progress import ProgressBars
from hwsim.files import write_atomically


def tally(parser: Parser, inputs: int) -> tuple[int, list[str]]:
    """Inputs that were taken, and what else than a ValueError came out."""
    taken, escaped = 0, []
    with TemporaryDirectory() as folder:
        for number in range(inputs):
            try:
                taken += attempt(parser, number, Path(folder))
            except Escaped as error:
                escaped.append(str(error))
    return taken, escaped


def report(inputs: int) -> str:
    rows: list[str] = []
    failures: list[str] = []
    total = 0
    with ProgressBars() as progress:
        for done, parser in enumerate(parsers(), 1):
            taken, escaped = tally(parser, inputs)
            refused = inputs - taken - len(escaped)
            rows.append(
                f"| {parser.name} | {inputs:,} | {taken:,} | {refused:,} | {len(escaped)} |"
            )
            failures += escaped
            total += inputs
            progress("readers", done, len(parsers()))
    return "\n".join(
        [
            "# Wrong inputs",
            "",
            f"Made by `python -m analysis.reports.robustness --inputs {inputs}` with chipfit "
            f"{version('chipfit')}.",
            "",
            f"{total:,} inputs, made from right ones by edits of their bytes, of the JSON in them "
            "and of their arrays (`analysis/fuzz/mutate.py`). Some stay right and are taken; all "
            "others are to be refused with a ValueError, which the command line tells in one line. "
            f"Other exceptions, or warnings: {len(failures)}.",
            "",
            "| reader | inputs | taken | refused | other |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
            *([""] if failures else []),
            *(f"- {line}" for line in failures[:20]),
            "",
            "Arguments of numbers, shares and amounts count as taken: they are refused by an "
            "exception of argparse. Inputs have numbers, so that each can be made again. Beside "
            "them stand "
            "cases by hand (`tests/bad_input`), each with the words that the answer must have.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="for each reader")
    logging.disable(logging.CRITICAL)  # torch and onnx have words of their own for such files
    write_atomically("reports/robustness.md", report(parser.parse_args().inputs))


if __name__ == "__main__":
    main()
