"""What fine-tuning gives back at few bits, by the commands that a user would type.

    python -m examples.recover_accuracy [--data FOLDER] [--report FILE]

Prints a table, or writes it as a report. FOLDER (by default CHIPFIT_DATA) holds cifar10/ with the
weights of a CIFAR-10 ResNet-20 and images as .npz; without it there is the embedded network alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from analysis.cli import main as chipfit
from analysis.manifest import versions
from hwsim.files import write_atomically

SHARE = 4  # of the test images, one in so many is judged
EMBEDDED = ("--bits", "W2A8", "--shift", "1")
CIFAR = ("--shift", "4", "--flip", "--epochs", "30")
CIFAR_NOTE = (
    f" cifar_resnet20: widths of an average of 2 bits from its curves, half of 2,000 images "
    f"of lossy JPEG to learn from (`{' '.join(CIFAR)}`), the other half left out; of the JPEG test "
    f"images every {SHARE}th."
)


def run(*arguments: str) -> dict[str, Any]:
    """A command's --json. Raises ValueError if it ends in an error."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        if chipfit([*arguments, "--json", str(result)]):
            raise ValueError(f"chipfit {' '.join(arguments)} failed")
        return json.loads(result.read_text())


def row(name: str, tuned: dict[str, Any], images: str, sets: dict[str, Any]) -> str:
    """sets: float, before, after, as `evaluate` says them."""
    after = sets["after"]
    cells = [
        name,
        images,
        f"{after['images']:,}",
        f"{100 * sets['float']['top1']:.1f}",
        f"{100 * sets['before']['top1']:.1f}",
        f"{100 * after['top1']:.1f}",
        f"{100 * sets['before']['agreement']:.1f}",
        f"{100 * after['agreement']:.1f}",
        f"{tuned['average_weight_bits']:.2f}",
        f"{tuned['file_bytes']:,}",
        f"{tuned['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def embedded(folder: Path) -> list[str]:
    rows = []
    for loss in ("kl", "logits"):
        path = str(folder / f"digits_{loss}.safetensors")
        tuned = run("finetune", "digits", *EMBEDDED, "--loss", loss, "-o", path)
        rows.append(row(f"digits, {loss}", tuned, "held out", tuned))
    return rows


def cifar(folder: Path, data: Path) -> list[str]:
    """Widths from curves at 2 bits a weight; judged on images of other files than it learned on."""
    model = ("examples.cifar_resnet20:build", "--weights", str(data / "cifar_resnet20.safetensors"))
    training = ("--images", str(data / "cifar10_calib_jpeg.npz"))
    curves, widths = str(folder / "curves.npz"), str(folder / "allocation.json")
    before, after = str(folder / "before.safetensors"), str(folder / "after.safetensors")
    run("curves", *model, *training, "-o", curves)
    run("allocate", curves, "--model", model[0], "--bits", "2", "-o", widths)
    quantised = ("--bits", widths, "--curves", curves)
    run("pack", *model, *training, *quantised, "-o", before)
    tuned = run("finetune", *model, *training, *quantised, *CIFAR, "-o", after)
    jpeg = folder / "test.npz"
    with np.load(data / "cifar10_test_jpeg.npz") as stored:
        np.savez(jpeg, **{name: stored[name][::SHARE] for name in ("images", "labels")})
    rows = [row("cifar_resnet20, logits", tuned, "left out", tuned)]
    for name, images in (
        ("test, lossless", str(data / "cifar10_test_lossless.npz")),
        ("test, JPEG", str(jpeg)),
    ):
        judged = {
            file: run("evaluate", *model, "--packed", file, "--images", images)
            for file in (before, after)
        }
        sets = {
            "float": judged[after]["float"],
            "before": judged[before]["quantized"],
            "after": judged[after]["quantized"],
        }
        rows.append(row("cifar_resnet20, logits", tuned, name, sets))
    return rows


def report(data: Path | None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        rows = embedded(Path(folder))
        if data is not None:
            rows += cifar(Path(folder), data / "cifar10")
    return "\n".join(
        [
            "# Accuracy that fine-tuning gives back",
            "",
            f"Made by `python -m examples.recover_accuracy`, torch {versions()['torch']}, one "
            f"thread. Widths stay; codes, steps and biases learn the float network's answers "
            f"without labels. Activations 8 bits. Top-1 and the share of images that keep the "
            f"float network's class, before and after, on images that neither calibration nor "
            f"training saw; bytes of the packed file; processor seconds of training.",
            "",
            "| network, loss | images | number | float top-1 % | before | after | agree % before | "
            "after | bits | bytes | seconds |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            f"digits: 2 bits everywhere (`chipfit finetune digits {' '.join(EMBEDDED)}`)."
            + (CIFAR_NOTE if data is not None else ""),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CHIPFIT_DATA"))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    text = report(None if options.data is None else Path(options.data))
    if options.report is None:
        print(text)
    else:
        write_atomically(options.report, text)


if __name__ == "__main__":
    main()
