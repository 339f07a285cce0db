"""Cold time of the row-stationary mapping search: `python -m benchmarks.mapping_search`.

The layer graphs are made before the clock starts; equal layers are searched once.
"""

from __future__ import annotations

import time

from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.frontends.models import from_name
from hwsim.row_stationary import simulate_network
from hwsim.row_stationary.task import searched

NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")


def main() -> None:
    accelerator = load_accelerator("eyeriss_v1")
    print(f"{'network':<14}{'bits':>5}{'batch':>6}{'layers searched':>17}{'seconds':>9}")
    for name in NETWORKS:
        graph = from_name(name)
        for bits, batch in ((16, 1), (8, 1), (16, 4)):
            searched.cache_clear()
            start = time.perf_counter()
            simulate_network(graph, accelerator, BitWidths(bits, bits), batch)
            seconds = time.perf_counter() - start
            count = searched.cache_info().misses
            print(f"{name:<14}{bits:>5}{batch:>6}{count:>17}{seconds:>9.2f}")


if __name__ == "__main__":
    main()
