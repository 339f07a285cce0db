"""Curves of a network in the small form that comes with the package.

    chipfit curves mobilenet_v2 --weights F --images DIR -o mobilenet_v2.npz
    python -m analysis.ship_curves mobilenet_v2.npz quant/data/mobilenet_v2_curves.npz

The curves were measured with the default options, on the weights and images that `ORIGIN` names.
"""

from __future__ import annotations

import argparse

from quant.compact import PRECISION, save_compact
from quant.curves import RDCurves

ORIGIN = {
    "mobilenet_v2": (
        "TF-slim MobileNet-v2 1.0 224 in torchvision's layout, batch norm folded in. Convolutions "
        "and biases: float32 arrays of webmachinelearning/test-data, Apache-2.0, by way of "
        "krisrak/webnn commit 1c11a83ce238. The classifier's weight is estimated from two 8-bit "
        "copies of it and lies close to their grid: its curves above 6 bits say little. Images: "
        "one ILSVRC2012 image for each of 500 classes, EliSchwartz/imagenet-sample-images commit "
        "bc69043e2862"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write curves in the form that is shipped.")
    parser.add_argument("curves", help="file that `chipfit curves` wrote")
    parser.add_argument("output", help="file to write")
    options = parser.parse_args()
    curves = RDCurves.load(options.curves)
    if curves.network not in ORIGIN:
        parser.error(f"{curves.network!r} has no stated origin: {', '.join(ORIGIN)}")
    save_compact(curves, options.output, ORIGIN[curves.network])
    print(f"{curves.channels:,} channels, exact to {100 * PRECISION:.2f} %: {options.output}")


if __name__ == "__main__":
    main()
