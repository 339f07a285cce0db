"""Time of one simulation, by network and by layer: `python -m benchmarks.layers [--repeat 3]`.

Layer graphs are made before. Row-stationary mappings are searched anew each time; equal layers of a
network share a search.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.result import Result
from hwsim import BitWidths, load_accelerator, simulate
from hwsim.frontends.models import from_name
from hwsim.row_stationary.task import searched

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "vgg16")
CHIPS = ("tpu_v1", "scalesim_google", "eyeriss_v1")


def result(repeat: int = 3) -> Result:
    rows = []
    for name in NETWORKS:
        graph = from_name(name)
        for chip in map(load_accelerator, CHIPS):
            seconds = []
            for _ in range(repeat):
                searched.cache_clear()
                start = time.process_time()
                stats = simulate(graph, chip, BitWidths(8, 8))
                seconds.append(time.process_time() - start)
            best, count = min(seconds), len(stats.layers)
            rows.append(
                (f"{name} on {chip.name}", str(count), f"{stats.cycles:,}", f"{1e3 * best:.1f}",
                 f"{1e6 * best / count:,.0f}", f"{stats.cycles / best / 1e6:,.0f}")
            )  # fmt: skip
    return Result(
        "One simulation, layer by layer",
        f"W8A8, batch 1; least of {repeat}. Cycles of the chip that a processor second simulates.",
        ("network", "layers", "cycles", "CPU ms", "CPU us a layer", "million cycles a CPU s"),
        tuple(rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    print(result(parser.parse_args().repeat).table())


if __name__ == "__main__":
    main()
