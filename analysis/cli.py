"""chipfit: the command line. Errors become one line and an exit code here; the work is in
`analysis.commands`, which imports nothing heavy before it runs, so that help answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from analysis.commands import SUMMARIES

OK, FAILED, INTERRUPTED = 0, 2, 130
LONGEST = 2000  # letters of an error


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, with a did-you-mean."""

    def error(self, message: str) -> NoReturn:
        if "unrecognized arguments" in message:
            known = self._option_strings()
            for word in message.split(": ", 1)[1].split():
                near = get_close_matches(word.split("=")[0], known, n=1)
                if near:
                    message += f"; did you mean {near[0]}?"
                    break
        if "invalid choice" in message and "command" in message:
            near = get_close_matches(message.split("'")[1], SUMMARIES, n=1)
            message = f"there is no command {message.split(chr(39))[1]!r}"
            message += (
                f"; did you mean {near[0]}?" if near else f"; there is {', '.join(SUMMARIES)}"
            )
        _failed(f"{message} (try {self.prog} --help)")
        self.exit(FAILED)

    def _option_strings(self) -> list[str]:
        """Of this command, and of all below it: what is left over is told by the topmost."""
        known: list[str] = []
        for action in self._actions:
            known += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                known += [o for below in action.choices.values() for o in below._option_strings()]
        return known


def build_parser() -> Parser:
    parser = Parser(
        prog="chipfit",
        description="Bit width of every channel by rate-distortion optimisation, judged on "
        "cycle-level simulators of real accelerators.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=Parser)
    for name, text in SUMMARIES.items():
        command = import_module(f"analysis.commands.{name}")
        described = text[0].upper() + text[1:] + "."
        added = commands.add_parser(name, help=text, description=described)
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # idle OpenMP threads that spin slow everything many times over when cores are shared
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = build_parser()
    try:
        options = parser.parse_args(arguments)
        if options.version:
            from importlib.metadata import version

            print(f"chipfit {version('chipfit')}")
            return OK
        if options.command is None:
            parser.print_help()
            return OK
        options.argv = ["chipfit", *arguments]
        options.run(options)
        sys.stdout.flush()
    except SystemExit as error:  # argparse: help is 0, a mistake is 2
        return int(error.code or 0)
    except ValueError as error:
        return _failed(str(error))
    except MemoryError as error:
        return _failed(f"{' '.join(arguments)}: does not fit in memory: {error}")
    except KeyboardInterrupt as interruption:
        kept = str(interruption) or "nothing was written"
        print(f"chipfit: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has gone: not our mistake
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # of the system, such as a full disk: no mistake of the program
        return _failed(f"{error.filename or ' '.join(arguments)}: {error.strerror or error}")
    return OK


def _failed(message: str) -> int:
    """Say a message in one line, the middle of an endless one left out; returns the exit code."""
    line = " ".join(filter(None, (part.strip() for part in message.splitlines())))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"chipfit: error: {line}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
