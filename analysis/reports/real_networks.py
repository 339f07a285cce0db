"""One table from several runs.

    python -m analysis.reports.real_networks RUN_FOLDER... -o reports/real_networks.md

Every number comes from the runs' summary.csv and manifest.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from analysis.manifest import MANIFEST
from hwsim.files import write_atomically


def collect(folders: Sequence[Path]) -> str:
    """Markdown: a section for each run, a row for each of its variants.

    Raises ValueError for a folder that is no run.
    """
    sections = [
        "# Trained networks, from curves to cycles\n",
        "Made by `python -m analysis.reports.real_networks` from the folders of `chipfit run`. "
        "Speedups are over W8A8 on the same accelerator and batch. Distortion is the squared "
        "error of the logits, summed over classes: predicted on the calibration images, measured "
        "on the evaluation images. Agree: images that keep the float network's class.\n",
    ]
    for folder in folders:
        sections.append(_section(folder))
    return "\n".join(sections)


def _section(folder: Path) -> str:
    import pandas as pd

    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        table = pd.read_csv(folder / "summary.csv")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: not a run of chipfit: {error}") from None
    options, seconds = manifest["options"], manifest["seconds"]
    names = [c.removesuffix("_speedup") for c in table.columns if c.endswith("_speedup")]
    head = ["variant", "bits", "kB", "top-1 %", "agree %", "predicted", "measured",
            *(f"{name} speedup" for name in names)]  # fmt: skip
    rows = [" | ".join(head), " | ".join("---" if i == 0 else "---:" for i in range(len(head)))]
    for row in table.to_dict("records"):
        cells = [
            row["variant"],
            f"{row['weight_bits']:.2f}",
            f"{row['size_bytes'] / 1000:,.0f}",
            f"{100 * row['top1']:.1f}",
            f"{100 * row['agreement']:.1f}",
            f"{row['predicted_distortion']:.3g}",
            f"{row['measured_distortion']:.3g}",
            *(f"{row[f'{name}_speedup']:.2f}" for name in names),
        ]
        rows.append(" | ".join(cells))
    made = (
        f"{options['evaluation_images']} evaluation images; curves from "
        f"{options['calibration_images']} images x {options['probes']} probes, "
        f"{options['rounding']} rounding fitted on {options['rounding_images']} others, seed "
        f"{options['seed']}; batch {options['batch']}, activations "
        f"{options['activation_bits']:g} bits. Seconds: "
        + ", ".join(f"{stage} {value:,.1f}" for stage, value in seconds.items())
        + f". {manifest['made'][:10]}, torch {manifest['versions']['torch']}."
    )
    lines = [f"## {options['model']}\n", made, "", *(f"| {row} |" for row in rows), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    write_atomically(options.output, collect(options.runs))


if __name__ == "__main__":
    main()
