"""Time of the sweep beside curves measured one channel at a time.

    python -m benchmarks.curves [--images 96] [--sample 12]

On the embedded network every channel is measured. Of mobilenet_v2 (random weights: time does not
depend on them) a sample of channels is, and the time of all follows from their number.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from benchmarks.result import Ratio, Result, times
from hwsim.frontends.torchvision_shim import import_torchvision
from quant.calibration import Recipe, calibrate
from quant.digits import DigitsNet
from quant.measured import measured_channels
from quant.network import Network
from quant.sweep import sweep

PROBES = 2


def measured_seconds(
    network: Network, images: torch.Tensor, recipe: Recipe, sample: int | None
) -> tuple[float, int]:
    """Processor seconds of measuring all channels, from those of a sample; channels measured."""
    rng = np.random.default_rng(0)
    every = [(n, c) for n, folded in network.layers.items() for c in range(len(folded.weight))]
    names = list(network.layers) if sample is None else sorted(
        {every[i][0] for i in rng.choice(len(every), sample, replace=False)}
    )  # fmt: skip
    chosen = {
        name: np.arange(len(network.layers[name].weight) if sample is None else 1) for name in names
    }
    # without a channel only the setup is left, which the sweep has too; the first call warms up
    none = {name: indices[:0] for name, indices in chosen.items()}
    took = []
    for part in (none, none, chosen):
        start = time.process_time()
        measured_channels(network, images, part, recipe=recipe)
        took.append(time.process_time() - start)
    count = sum(map(len, chosen.values()))
    return (took[2] - took[1]) * len(every) / count, count


def result(images: int = 96, sample: int = 12) -> Result:
    torch.manual_seed(0)
    mobilenet = import_torchvision().models.get_model("mobilenet_v2", weights=None).eval()
    rows, ratios = [], []
    for network, measured in (
        (Network(DigitsNet().eval(), (1, 8, 8), "digits"), None),
        (Network(mobilenet, (3, 224, 224), "mobilenet_v2"), sample),
    ):
        count = images if measured is None else max(2, images // 12)
        batch = torch.randn(count, *network.input_shape)
        recipe = calibrate(network, batch)
        start = time.process_time()
        sweep(network, batch, probes=PROBES, activations=False, recipe=recipe)
        swept = time.process_time() - start
        brute, tried = measured_seconds(network, batch, recipe, measured)
        channels = sum(len(folded.weight) for folded in network.layers.values())
        rows.append(
            (network.name, str(count), f"{channels:,}", f"{swept:.2f}", f"{tried:,}",
             f"{brute:,.1f}", times(brute / swept))
        )  # fmt: skip
        ratios.append(
            Ratio(f"curves of {network.name}, {count} images: measured / sweep",
                  f"{swept:.2f} CPU s", f"{brute:,.0f} CPU s", brute / swept)
        )  # fmt: skip
    return Result(
        "Curves: one sweep against one channel at a time",
        f"All channels at 0 to 8 bits, {PROBES} probes an image, nearest rounding. Measured: one "
        "run of all images for each channel and width; where not all channels were, the time of "
        "all is that of the sample times their number.",
        ("network", "images", "channels", "sweep, CPU s", "channels measured",
         "measured, CPU s of all", "ratio"),
        tuple(rows),
        tuple(ratios),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--sample", type=int, default=12)
    options = parser.parse_args()
    print(result(options.images, options.sample).table())


if __name__ == "__main__":
    main()
