"""`chipfit accelerators`: accelerators that there are."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import add_json


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="show one: a preset, or a .toml to check")
    parser.add_argument("--toml", action="store_true",
                        help="print the file itself, sources and all, to start one's own "
                        "from")  # fmt: skip
    parser.add_argument("--fields", action="store_true",
                        help="all that a .toml may say: what is expected, and what it "
                        "means")  # fmt: skip
    add_json(parser, "it")


def run(options: Namespace) -> None:
    from dataclasses import asdict

    from analysis.commands.common import emit
    from hwsim.accelerator import load_accelerator, preset_names, read_description
    from hwsim.describe import describe, field_lines

    if options.fields:
        if options.name is not None or options.toml:
            raise ValueError("accelerators: --fields goes alone, without a name and without --toml")
        lines = field_lines()
        emit(options.json, lines, lines)
        return
    if options.name is None:
        if options.toml:
            raise ValueError("accelerators: --toml needs the name of a preset")
        found = [load_accelerator(name) for name in preset_names()]
        rows = [[a.name, a.description] for a in found]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name.ljust(width)}  {text}" for name, text in rows]
        emit(options.json, [asdict(a) for a in found], lines)
        return
    accelerator = load_accelerator(options.name)
    lines = describe(accelerator)
    if options.toml:
        lines = read_description(options.name)[0].decode().splitlines()
    emit(options.json, asdict(accelerator), lines)
