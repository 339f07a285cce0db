"""The sweep's curves against brute force on the embedded network, every channel at every width.

    python -m analysis.curves_validation

writes reports/curves_validation.md.
"""

from __future__ import annotations

import numpy as np

from analysis.manifest import versions
from analysis.sources import EMBEDDED, load_image_sets, load_network
from hwsim.files import write_atomically

IMAGES, PROBES = 96, 20
WANTED = 0.99  # log-correlation at 2 bits and above


def log_correlations() -> tuple[int, list[float]]:
    """Channels compared, and the correlation of log distortions at 0..8 bits."""
    from quant.calibration import calibrate
    from quant.measured import measured_channels
    from quant.sweep import sweep

    network = load_network(EMBEDDED, None)
    images = load_image_sets(EMBEDDED, network, None, IMAGES, 0, 0).calibration
    recipe = calibrate(network, images)
    curves = sweep(network, images, probes=PROBES, recipe=recipe, activations=False)
    every = {name: np.arange(len(folded.weight)) for name, folded in network.layers.items()}
    truth = measured_channels(network, images, every, recipe=recipe)
    exact = np.concatenate([truth[name] for name in every])
    swept = np.concatenate([curves.weight(name).distortion for name in every])
    alive = (exact > 0).all(1)
    logs = np.log(exact[alive]), np.log(swept[alive])
    found = [float(np.corrcoef(logs[0][:, b], logs[1][:, b])[0, 1]) for b in range(9)]
    return int(alive.sum()), found


def report() -> str:
    channels, correlations = log_correlations()
    rows = [
        f"| {bits} | {value:.4f} | {'met' if value >= WANTED else 'MISSED' if bits > 1 else ''} |"
        for bits, value in enumerate(correlations)
    ]
    return "\n".join(
        [
            "# Curves of one sweep against brute force",
            "",
            f"Made by `python -m analysis.curves_validation`, torch {versions()['torch']}. "
            f"{channels} channels of `digits`, {IMAGES} images, {PROBES} probes an image, nearest "
            f"rounding: correlation of the logarithms of the distortion that the sweep predicts "
            f"and of that measured by changing one channel and running the network. Wanted: "
            f"{WANTED} at 2 bits and above.",
            "",
            "| bits | log-correlation | |",
            "| ---: | ---: | --- |",
            *rows,
            "",
            "At 2 bits and below a channel of so small a network moves it beyond first order; more "
            "probes or images change nothing. The test keeps the wanted figure and expects this "
            "miss. The CIFAR ResNet-20 meets it at 2 to 8 bits (a test with real data).",
            "",
        ]
    )


if __name__ == "__main__":
    write_atomically("reports/curves_validation.md", report())
