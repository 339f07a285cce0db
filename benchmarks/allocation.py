"""Time and memory of the allocation from ten thousand to ten million channels.

    python -m benchmarks.allocation [--channels 1e4 1e5 1e6 1e7] [--bits 3] [--repeat 3]

Prints a table (Markdown): for each number of channels the best time of `allocate`, the best
processor time (which other work on the machine disturbs less), the same with a hardware constraint
(a cap on every layer, as one that must fit a chip) and the ratio of the two, the peak memory above
that of the curves, and the certificates' gaps; then the exponents fitted to processor time and to
memory = a * channels^e. Each size runs in a process of its own, so that peaks do not mix; runs with
and without caps alternate, so that both meet the same disturbances.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.result import Ratio, Result
from quant.allocation.allocate import allocate
from quant.allocation.budget import Budget, Cap
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


def layer_caps(curves: RDCurves, bits: float) -> tuple[Cap, ...]:
    """A cap on the weights of every layer, which for about half of them binds."""
    return tuple(
        Cap(f"memory of {c.name}", (("weights", c.name),), int(bits * c.values * c.channels))
        for c in curves.weights
    )


def measure(channels: int, bits: float, repeat: int) -> dict[str, float]:
    """Best seconds and processor seconds plain and with caps, bytes, and gaps."""
    allocate(random_curves(1000), Budget(weight_bits=bits))  # imports and first calls
    curves = random_curves(channels)
    plain = Budget(weight_bits=bits)
    capped = Budget(weight_bits=bits, caps=layer_caps(curves, bits))
    found: dict[str, float] = {"curves": sum(float(c.distortion.nbytes) for c in curves.weights)}
    before = peak_bytes()
    for _ in range(repeat):
        for name, budget in (("plain", plain), ("capped", capped)):
            start, cpu_start = time.perf_counter(), time.process_time()
            answer = allocate(curves, budget)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
            found[f"{name} s"] = min(seconds, found.get(f"{name} s", seconds))
            found[f"{name} cpu"] = min(cpu, found.get(f"{name} cpu", cpu))
            found[f"{name} gap"] = answer.relative_gap
            found.setdefault(f"{name} bytes", float(peak_bytes() - before))
    return found


def result(channels: Sequence[float], bits: float = 3, repeat: int = 3) -> Result:
    rows, measured = [], []
    for count in (int(c) // LAYERS * LAYERS for c in channels):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            m = pool.apply(measure, (count, bits, repeat))
        measured.append((count, m["plain cpu"], m["capped cpu"], m["plain bytes"]))
        rows.append(
            (f"{count:,}", f"{m['plain s']:.3f}", f"{m['plain cpu']:.3f}", f"{m['capped s']:.3f}",
             f"{m['capped cpu']:.3f}", f"{m['capped cpu'] / m['plain cpu']:.2f}",
             f"{m['curves'] / 1e6:.1f}", f"{m['plain bytes'] / 1e6:.1f}", f"{m['plain gap']:.1e}",
             f"{m['capped gap']:.1e}")
        )  # fmt: skip
    ratios, fits = [], []
    if len(measured) > 1:
        sizes, *columns = np.log(np.array(measured)).T
        names = ("CPU time", "CPU time with caps", "memory beside the curves")
        for name, values in zip(names, columns, strict=True):
            fits.append(f"{name} = a * channels^{np.polyfit(sizes, values, 1)[0]:.2f}")
        step = (columns[0][-1] - columns[0][-2]) / (sizes[-1] - sizes[-2])
        fits.append(f"CPU time between the two largest: channels^{step:.2f}")
        (few, short, *_), *_, (many, long, *_) = measured
        ratios.append(
            Ratio(f"allocation of {many:,.0f} channels / of {few:,.0f}, a channel",
                  f"{short / few * 1e6:.2f} CPU us", f"{long / many * 1e6:.2f} CPU us",
                  long / many / (short / few))
        )  # fmt: skip
    return Result(
        "Allocation from ten thousand channels on",
        f"{bits:g} bits on average; least of {repeat}. Capped: with a limit on every layer, of "
        "which about half bind. Each size in a process of its own. " + "; ".join(fits) + ".",
        ("channels", "s", "CPU s", "capped, s", "capped, CPU s", "capped / plain", "curves, MB",
         "beside them, MB", "gap", "capped gap"),
        tuple(rows),
        tuple(ratios),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=float, nargs="+", default=[1e4, 1e5, 1e6, 1e7])
    parser.add_argument("--bits", type=float, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    found = result(options.channels, options.bits, options.repeat)
    print(f"{found.table()}\n\n{found.note}")


if __name__ == "__main__":
    main()
