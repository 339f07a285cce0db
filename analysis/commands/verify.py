"""`chipfit verify`: is a run what its manifest says, and does its command give it again?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analysis.options import add_json, tolerance


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="folder that a command left")
    parser.add_argument("--fast", action="store_true",
                        help="compare hashes only, compute nothing")  # fmt: skip
    parser.add_argument("--tolerance", type=tolerance, metavar="SHARE",
                        help="relative difference of real numbers that is none (default 0 where "
                        "all is simulated, 1e-6 where a network was run)")  # fmt: skip
    parser.add_argument("--run-code", action="store_true",
                        help="run the program that the model of the run is "
                        "(package.module:function, .pt2)")  # fmt: skip
    add_json(parser, "what was found")


def run(options: Namespace) -> None:
    from pathlib import Path

    from analysis.commands.common import emit
    from analysis.verify import check_hashes, default_tolerance, read_manifest, recompute

    folder = Path(options.run_folder).resolve()
    manifest = read_manifest(folder)
    hashes = check_hashes(folder, manifest)
    differences, notes, lines = list(hashes.differences), list(hashes.notes), []
    lines.append(f"{hashes.checked} outputs and inputs checked by their hashes")
    if not options.fast:
        allowed = options.tolerance
        if allowed is None:
            allowed = default_tolerance(manifest)
        again = recompute(folder, manifest, allowed, options.run_code)
        differences += again.differences
        notes += again.notes
        lines.append(f"{again.checked} tables computed anew, real numbers within {allowed:g}")
    lines += notes
    same = not differences
    found = {"run": options.run_folder, "same": same, "differences": differences, "notes": notes}
    emit(options.json, found, [*lines, *differences, *(["the run is the same"] if same else [])])
    if not same:
        raise ValueError(
            f"{options.run_folder}: not the run of its manifest: {len(differences)} difference(s), "
            f"first {differences[0]}"
        )
