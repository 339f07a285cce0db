"""The README's picture: what an allocation does to a network, from the curves that come along."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from analysis import plots
from hwsim.files import write_atomically
from quant.allocation.allocate import allocate, equal_widths, per_layer
from quant.allocation.allocation import Allocation
from quant.allocation.budget import Budget
from quant.compact import load_shipped
from quant.curves import RDCurves

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NETWORK = "mobilenet_v2"
AVERAGE = 4.0  # bits a weight
WIDTHS = tuple(range(3, 9))  # what `chipfit run` uses at that average
RANKS = (0.2, 0.5, 0.8, 0.95, 1.0)  # of the channels shown, by sensitivity
OUTPUT = f"reports/figures/{NETWORK}_4bit.png"


def budget(average: float) -> Budget:
    """Average bits a weight, activations at 8."""
    narrowest = max(0, int(average) - 1)
    return Budget(
        weight_bits=average,
        activation_bits=8,
        weight_widths=tuple(range(narrowest, WIDTHS[-1] + 1)),
    )


def points(curves: RDCurves) -> pd.DataFrame:
    """Predicted distortion of the weights over their average width, by method."""
    import pandas as pd

    rows = []
    for average in np.arange(2, 8.25, 0.5).tolist():
        found = {"per channel": allocate, "per layer": per_layer}
        for method, choose in found.items():
            rows.append((method, average, choose(curves, budget(average)).weight_distortion))
        if average.is_integer():
            equal = equal_widths(curves, int(average), 8)
            rows.append(("equal widths", average, equal.weight_distortion))
    return pd.DataFrame(rows, columns=["method", "bits", "distortion"])


Widths = Mapping[str, np.ndarray]  # (channels,) of every weighted layer


def channels(curves: RDCurves, widths: Widths) -> list[tuple[str, int, np.ndarray, int]]:
    """(name, weights, distortion (9,), chosen width) of channels at RANKS of sensitivity."""
    every = [
        (f"{curve.name}[{c}]", curve.values, curve.distortion[c], int(widths[curve.name][c]))
        for curve in curves.weights
        for c in range(curve.channels)
    ]
    every.sort(key=lambda channel: float(channel[2][2]))
    return [every[int(rank * (len(every) - 1))] for rank in RANKS]


def shares(widths: Widths) -> pd.DataFrame:
    """Share of each layer's channels at each width."""
    import pandas as pd

    rows = {name: np.bincount(w, minlength=9) / len(w) for name, w in widths.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def draw(figure: Figure, curves: RDCurves, chosen: Allocation) -> None:
    widths = chosen.bits.weights
    assert isinstance(widths, Mapping)
    rows = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.05])
    above, below = rows[:, 0]
    left, right = above.subfigures(1, 2)
    at = (chosen.average_weight_bits, chosen.weight_distortion)
    slope = chosen.weight_slope
    plots.draw_channel_curves(left, channels(curves, widths), slope)
    plots.draw_rate_distortion(right, points(curves), at, slope * chosen.weight_values)
    means = [float(of_layer.mean()) for of_layer in widths.values()]
    plots.draw_width_map(below, shares(widths), means)
    titles = (
        f"{NETWORK}: curves of single channels, priced in one sweep",
        "all weights, under a budget",
        f"the widths of all {sum(w.size for w in widths.values()):,} channels at an average of "
        f"{AVERAGE:g} bits",
    )
    for part, title in zip((left, right, below), titles, strict=True):
        part.suptitle(title, fontsize=10)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default=OUTPUT)
    options = parser.parse_args(arguments)
    curves = load_shipped(NETWORK)
    chosen = allocate(curves, budget(AVERAGE))
    picture = plots.render(lambda figure: draw(figure, curves, chosen), 12, 8.2, "png", dpi=110)
    write_atomically(options.output, picture)


if __name__ == "__main__":
    main()
