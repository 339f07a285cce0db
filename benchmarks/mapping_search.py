"""The row-stationary mapping search: cold, and beside simulating every mapping that it may choose.

    python -m benchmarks.mapping_search [--sample 1000]

Layer graphs are made before the clock starts; equal layers are searched once. Of a layer's legal
mappings all are listed; a random sample is simulated, and the time of all follows from their
number.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np

from benchmarks.result import Ratio, Result, times
from hwsim.accelerator import load_accelerator
from hwsim.bits import BitWidths
from hwsim.frontends.models import from_name
from hwsim.graph import LayerGraph
from hwsim.row_stationary import RsMapping, simulate_network
from hwsim.row_stationary.mapping import problems
from hwsim.row_stationary.operands import feature_maps
from hwsim.row_stationary.search import even_blocks, filter_blocks
from hwsim.row_stationary.task import LayerTask, layer_task, searched
from hwsim.row_stationary.timing import layer_timing

NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")
EXHAUSTIVE = (("resnet18", "layer1.0.conv1"), ("mobilenet_v2", "features.2.conv.2"))


def legal(task: LayerTask) -> list[RsMapping]:
    """Every mapping that the search may choose."""
    shape, limits = task.shape, task.limits()
    taps, found = limits.fold_cols[0], []
    for e in range(1, min(shape.ofmap[0], limits.widest_set) + 1):
        sets = limits.sets(e)
        for q, r in product(range(1, shape.channels + 1), range(1, min(sets, shape.channels) + 1)):
            if q * shape.span(taps) > limits.ifmap_spad or (r - 1) * q >= shape.channels:
                continue
            for p, t in product(range(1, shape.filters + 1), range(1, sets // r + 1)):
                if p * q * taps > limits.filter_spad or (t - 1) * p >= shape.filters:
                    continue
                blocks = filter_blocks(shape.filters, p * t)
                for n, m in product(even_blocks(shape.batch), blocks):
                    mapping = RsMapping(m, n, e, p, q, r, t)
                    if not problems(mapping, shape, limits):
                        found.append(mapping)
    return found


def beside_exhaustive(graph: LayerGraph, name: str, sample: int) -> tuple[int, float, float]:
    """Legal mappings of a layer; processor seconds of the search and of simulating them all."""
    chip, bits = load_accelerator("eyeriss_v1"), BitWidths(16, 16)
    task = layer_task(graph[name], chip, bits, 1, feature_maps(graph, chip, bits, None))
    start = time.process_time()
    best = task.search()[0]
    searching = time.process_time() - start
    start = time.process_time()
    every = legal(task)
    listing = time.process_time() - start
    drawn = np.random.default_rng(0).choice(len(every), min(sample, len(every)), replace=False)
    limits, work, link = task.limits(), task.work(), task.link()
    start = time.process_time()
    cycles = [layer_timing(task.shape, limits, every[i], work, link).cycles for i in drawn]
    each = (time.process_time() - start) / len(drawn)
    if min(cycles) < best.timing.cycles:
        raise SystemExit(f"{name}: the search's best has more cycles than one of the sample")
    return len(every), searching, listing + each * len(every)


def result(sample: int = 1000) -> Result:
    accelerator = load_accelerator("eyeriss_v1")
    rows, ratios = [], []
    for network, layer in EXHAUSTIVE:
        count, ours, theirs = beside_exhaustive(from_name(network), layer, sample)
        rows.append((f"{network}, {layer}", f"{count:,} mappings", f"{ours:.3f}", f"{theirs:,.0f}",
                     times(theirs / ours)))  # fmt: skip
        what = f"mappings of {layer} of {network}: every legal one / search"
        ratios.append(Ratio(what, f"{ours:.3f} CPU s", f"{theirs:,.0f} CPU s", theirs / ours))
    for name in NETWORKS:
        graph = from_name(name)
        for bits, batch in ((16, 1), (8, 1), (16, 4)):
            searched.cache_clear()
            start = time.process_time()
            simulate_network(graph, accelerator, BitWidths(bits, bits), batch)
            seconds = time.process_time() - start
            count = searched.cache_info().misses
            rows.append((f"{name}, {bits} bits, batch {batch}", f"{count} layers",
                         f"{seconds:.2f}", "", ""))  # fmt: skip
    return Result(
        "Mapping search",
        f"On eyeriss_v1. A layer's legal mappings were all listed, {sample:,} of them simulated, "
        "none with fewer cycles than the search's best; the time of all is listing them and the "
        "sample's time by their number. Networks: a cold search of every layer, equal ones once.",
        ("searched", "of", "search, CPU s", "every mapping, CPU s", "ratio"),
        tuple(rows),
        tuple(ratios),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=1000)
    print(result(parser.parse_args().sample).table())


if __name__ == "__main__":
    main()
