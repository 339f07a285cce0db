"""The sweep's curves against brute force on the embedded network, every channel at every width.

    python -m analysis.reports.curves_validation

writes reports/curves_validation.md.
"""

from __future__ import annotations

import numpy as np

from analysis.manifest import versions
from analysis.sources import EMBEDDED, load_image_sets, load_network
from hwsim.files import write_atomically

IMAGES, PROBES = 96, 20
WANTED = 0.99  # log-correlation at 2 bits and above


def log_correlations() -> tuple[int, list[float], list[float]]:
    """Channels compared, and the correlation of log distortions at 0..8 bits: as the sweep is, and
    without the exact moves at the lowest widths."""
    from quant.calibration import calibrate
    from quant.measured import measured_channels
    from quant.sweep import sweep

    network = load_network(EMBEDDED, None)
    images = load_image_sets(EMBEDDED, network, None, IMAGES, 0, 0).calibration
    recipe = calibrate(network, images)
    every = {name: np.arange(len(folded.weight)) for name, folded in network.layers.items()}
    truth = measured_channels(network, images, every, recipe=recipe)
    exact = np.concatenate([truth[name] for name in every])
    alive = (exact > 0).all(1)
    found = []
    for low_widths in (True, False):
        curves = sweep(
            network,
            images,
            probes=PROBES,
            recipe=recipe,
            activations=False,
            low_widths=low_widths,
        )
        swept = np.concatenate([curves.weight(name).distortion for name in every])
        logs = np.log(exact[alive]), np.log(swept[alive])
        found.append([float(np.corrcoef(logs[0][:, b], logs[1][:, b])[0, 1]) for b in range(9)])
    return int(alive.sum()), found[0], found[1]


def report() -> str:
    channels, correlations, plain = log_correlations()
    rows = [
        f"| {bits} | {value:.4f} | {'met' if value >= WANTED else 'MISSED' if bits > 1 else ''} |"
        for bits, value in enumerate(correlations)
    ]
    return "\n".join(
        [
            "# Curves of one sweep against brute force",
            "",
            f"Made by `python -m analysis.reports.curves_validation`, torch {versions()['torch']}. "
            f"{channels} channels of `digits`, {IMAGES} images, {PROBES} probes an image, nearest "
            f"rounding: correlation of the logarithms of the distortion that the sweep predicts "
            f"and of that measured by changing one channel and running the network. Wanted: "
            f"{WANTED} at 2 bits and above.",
            "",
            "| bits | log-correlation | |",
            "| ---: | ---: | --- |",
            *rows,
            "",
            "At 1 and 2 bits a channel is moved behind the layer's own activation function "
            "(`quant.low_widths`); without that the correlation is "
            f"{plain[1]:.4f} and {plain[2]:.4f} there. What is left at 0 and 1 bits lies beyond "
            "first order: more probes or images change nothing. The CIFAR ResNet-20 is above "
            f"{WANTED} at 2 to 8 bits too (a test with real data).",
            "",
        ]
    )


if __name__ == "__main__":
    write_atomically("reports/curves_validation.md", report())
