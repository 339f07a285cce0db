"""Time and memory of the allocation from ten thousand to ten million channels.

    python benchmarks/allocation.py [--channels 1e4 1e5 1e6 1e7] [--bits 3] [--repeat 3]

Prints a table (Markdown): for each number of channels the first and the best time of `allocate`,
the best processor time (which other work on the machine disturbs less), the peak memory above that
of the curves, and the certificate's gap; and the exponent fitted to processor time =
a * channels^e. Each size runs in a process of its own, so that peaks do not mix.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np

from quant.allocate import allocate
from quant.budget import Budget
from quant.curves import LayerCurve, RDCurves

LAYERS = 50
SIZES = (9, 16, 27, 32, 96, 144, 192, 320, 384, 576, 960, 1280, 4608)  # weights behind a channel


def random_curves(channels: int, seed: int = 0) -> RDCurves:
    """Curves that fall by about 6 dB a bit, with scales over decades and some noise."""
    rng = np.random.default_rng(seed)
    layers = []
    for i in range(LAYERS):
        count = channels // LAYERS
        values = int(rng.choice(SIZES))
        scale = rng.lognormal(0, 2) * rng.lognormal(0, 1, (count, 1)) * values
        distortion = rng.lognormal(0, 0.15, (count, 9))
        distortion *= scale
        distortion *= 4.0 ** -np.arange(9)
        layers.append(LayerCurve(f"layer{i}", distortion, values))
    return RDCurves("random", tuple(layers), ())


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(channels: int, bits: float, repeat: int) -> tuple[float, ...]:
    """First and best seconds, best processor seconds, bytes of the curves and beside, gap."""
    allocate(random_curves(1000), Budget(weight_bits=bits))  # imports and first calls
    curves = random_curves(channels)
    curve_bytes = float(sum(c.distortion.nbytes for c in curves.weights))
    before = peak_bytes()
    seconds, cpu_seconds = [], []
    for _ in range(repeat):
        start, cpu_start = time.perf_counter(), time.process_time()
        answer = allocate(curves, Budget(weight_bits=bits))
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    beside = float(peak_bytes() - before)
    return (
        seconds[0], min(seconds), min(cpu_seconds), curve_bytes, beside, answer.relative_gap,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=float, nargs="+", default=[1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--bits", type=float, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print("| channels | first s | best s | best CPU s | curves MB | beside them MB | gap |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    best = []
    for channels in (int(c) // LAYERS * LAYERS for c in options.channels):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            first, least, cpu, curve_bytes, beside, gap = pool.apply(
                measure, (channels, options.bits, options.repeat)
            )
        best.append((channels, cpu))
        print(
            f"| {channels:,} | {first:.3f} | {least:.3f} | {cpu:.3f} "
            f"| {curve_bytes / 1e6:.1f} | {beside / 1e6:.1f} | {gap:.1e} |",
            flush=True,
        )
    if len(best) > 1:
        sizes, seconds = np.log(np.array(best)).T
        print(f"\nCPU time = a * channels^{np.polyfit(sizes, seconds, 1)[0]:.2f}")


if __name__ == "__main__":
    main()
