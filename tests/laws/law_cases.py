"""Every simulator there is, and small random networks for it: what the laws are tested on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from hypothesis import strategies as st

from hwsim import BitWidths, LayerGraph, NetworkStats, load_accelerator, simulate
from hwsim.accelerator import (
    Accelerator,
    Dataflow,
    Memory,
    OperandWidth,
    RowStationaryArray,
    preset_names,
)
from hwsim.graph import Conv, Layer, Linear, Matmul, Tensor, Vector, Work
from hwsim.row_stationary import best_mappings
from hwsim.row_stationary.mapping import RsMapping

TPU, EYERISS = load_accelerator("tpu_v1"), load_accelerator("eyeriss_v1")
RULES = ["bit_fusion", "stripes", "unpu", "loom"]
SHARED = True
BITS_PER_S = [2 * 10**8, 10**10, 10**12]


def _widths(draw: st.DrawFn, native: int) -> OperandWidth:
    rule = draw(st.sampled_from(["fixed", *RULES]))
    return OperandWidth("fixed", native, native) if rule == "fixed" else OperandWidth(rule)


@st.composite
def systolic_arrays(draw: st.DrawFn, dataflow: str, schedule: str) -> Accelerator:
    array = replace(
        TPU.array,
        dataflow=dataflow,
        schedule=schedule,
        rows=draw(st.integers(2, 24)),
        cols=draw(st.integers(2, 24)),
        weight_fifo_tiles=draw(st.integers(1, 4)),
        accumulator_rows=draw(st.integers(4, 64)),
        sort_columns=draw(st.booleans()),
    )
    buffer, *others = TPU.memory
    buffer = replace(buffer, capacity=draw(st.sampled_from([1, 3000, 10**4, 5 * 10**4, 10**9])))
    burst, speed = draw(st.sampled_from([1, 8, 512])), draw(st.sampled_from(BITS_PER_S))
    dram = tuple(replace(d, bandwidth=speed, burst=burst) for d in TPU.dram)
    if SHARED and draw(st.booleans()):  # one channel for everything
        dram = (replace(dram[0], carries=("weights", "activations")),)
    return replace(
        TPU, array=array, memory=(buffer, *others), dram=dram, operand_width=_widths(draw, 8)
    )


@st.composite
def row_stationary_arrays(draw: st.DrawFn) -> Accelerator:
    array = replace(
        EYERISS.array,
        rows=draw(st.integers(3, 4)),
        cols=draw(st.integers(3, 4)),
        ifmap_spad=draw(st.integers(4, 8)),
        filter_spad=draw(st.integers(8, 16)),
        psum_spad=draw(st.integers(1, 4)),
        gbuf_banks=draw(st.integers(8, 25)),
        bank_bits=16 * draw(st.sampled_from([128, 512])),
        overlap=draw(st.booleans()),
        pack_words=draw(st.booleans()),
        run_length_coding=draw(st.booleans()),
    )
    dram = replace(
        EYERISS.dram[0],
        bandwidth=draw(st.sampled_from(BITS_PER_S)),
        burst=draw(st.sampled_from([1, 8, 64])),
    )
    return replace(EYERISS, array=array, dram=(dram,), operand_width=_widths(draw, 16))


SIMULATORS: dict[str, st.SearchStrategy[Accelerator]] = {
    **{name: st.just(load_accelerator(name)) for name in preset_names()},
    **{
        f"{dataflow}_{schedule}": systolic_arrays(dataflow, schedule)
        for dataflow in get_args(Dataflow)
        for schedule in ("pipelined", "serial")
    },
    "row_stationary": row_stationary_arrays(),
}


class _Graph:
    """A network under construction."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        image = Tensor("image", shape)
        self.layers = [Layer("image", "input", Vector(0), (), image)]
        self.maps = [image]  # with rows and columns
        self.read: set[str] = set()

    def add(self, kind: str, work: Work, inputs: tuple[Tensor, ...], shape: tuple[int, ...]):
        output = Tensor(f"{kind}{len(self.layers)}", shape, 1 if len(shape) == 4 else -1)
        relu = ("relu",) if kind == "conv" else ()
        self.layers.append(Layer(output.name, kind, work, inputs, output, fused=relu))
        self.read |= {tensor.name for tensor in inputs}
        return output

    def finish(self) -> LayerGraph:
        outputs = tuple(x.name for x in self.layers if x.name not in self.read)
        return LayerGraph("random", tuple(self.layers), outputs)


def _convolution(draw: st.DrawFn, graph: _Graph, source: Tensor) -> Tensor:
    _, channels, *size = source.shape
    depthwise = draw(st.booleans())
    filters = channels * draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 14))
    pad, stride = draw(st.integers(0, 1)), draw(st.integers(1, 2))
    kernel = draw(st.integers(1, min(3, min(size) + 2 * pad)))
    out = tuple((s + 2 * pad - kernel) // stride + 1 for s in size)
    conv = Conv(channels, filters, (kernel, kernel), (stride, stride), (pad, pad), (1, 1),
                channels if depthwise else 1, (size[0], size[1]), (out[0], out[1]))  # fmt: skip
    return graph.add("conv", conv, (source,), (1, filters, *out))


def _attention(draw: st.DrawFn, graph: _Graph, source: Tensor) -> None:
    _, channels, rows, cols = source.shape
    tokens, width = rows * cols, draw(st.integers(1, 12))
    seen = Tensor(source.name, (1, tokens, channels), -1)
    q, k = (
        graph.add("linear", Linear(tokens, channels, width), (seen,), (1, tokens, width))
        for _ in range(2)
    )
    flipped = Tensor(k.name, (1, width, tokens), 1)
    scores = graph.add(
        "matmul", Matmul(1, tokens, width, tokens), (q, flipped), (1, tokens, tokens)
    )
    graph.add("softmax", Vector(5 * scores.values), (scores,), scores.shape)


@st.composite
def graphs(draw: st.DrawFn, largest: int) -> LayerGraph:
    """Convolutions, depthwise too, pools, additions and concatenations in any order; at the end a
    fully connected layer, attention, or neither."""
    side = st.integers(3, largest)
    graph = _Graph((1, draw(st.integers(1, largest)), draw(side), draw(side)))
    for _ in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from(graph.maps))
        alike = [t for t in graph.maps if t.shape[2:] == source.shape[2:]]
        other = draw(st.sampled_from(alike))
        kind = draw(st.sampled_from(["conv", "conv", "conv", "pool", "add", "concat"]))
        if kind == "conv":
            graph.maps.append(_convolution(draw, graph, source))
        elif kind == "pool" and min(source.shape[2:]) >= 2:
            shape = (*source.shape[:2], source.shape[2] // 2, source.shape[3] // 2)
            work = Vector(4 * shape[1] * shape[2] * shape[3])
            graph.maps.append(graph.add("pool", work, (source,), shape))
        elif kind == "concat":
            shape = (1, source.shape[1] + other.shape[1], *source.shape[2:])
            work = Vector(shape[1] * shape[2] * shape[3])
            graph.maps.append(graph.add("concat", work, (source, other), shape))
        elif source.shape == other.shape:
            work = Vector(source.values)
            graph.maps.append(graph.add("add", work, (source, other), source.shape))
    if len(graph.layers) == 1:
        graph.maps.append(_convolution(draw, graph, graph.maps[0]))
    source = graph.maps[-1]
    head = draw(st.sampled_from(["none", "linear", "attention"]))
    if head == "linear":
        features, classes = source.values, draw(st.integers(1, 20))
        flat = Tensor(source.name, (1, features))
        graph.add("linear", Linear(1, features, classes), (flat,), (1, classes))
    elif head == "attention":
        _attention(draw, graph, source)
    return graph.finish()


@dataclass(frozen=True)
class Case:
    """A network on an accelerator. Mappings are held when two runs are compared: the best mapping
    is the one with fewest cycles, and may well trade traffic for them."""

    graph: LayerGraph
    accelerator: Accelerator
    bits: BitWidths
    batch: int

    def run(
        self,
        accelerator: Accelerator | None = None,
        bits: BitWidths | None = None,
        mappings: dict[str, RsMapping] | None = None,
    ) -> NetworkStats:
        return simulate(
            self.graph, accelerator or self.accelerator, bits or self.bits, self.batch, mappings
        )

    def mappings(self) -> dict[str, RsMapping] | None:
        if not isinstance(self.accelerator.array, RowStationaryArray):
            return None
        found = {}
        for layer in self.graph:
            if layer.gemm is None or (layer.weighted and not self.bits.weight(layer).any()):
                continue
            weights = self.bits.weight(layer) if layer.weighted else self.input_bits(layer, -1)
            found[layer.name] = best_mappings(
                layer, self.accelerator, weights, self.input_bits(layer, 0), self.batch, 1
            )[0].mapping
        return found

    def input_bits(self, layer: Layer, which: int) -> int:
        name = layer.inputs[which].name
        return int(self.bits.activation(name, self.graph[name].output.channels).max())


def random_bits(draw: st.DrawFn, graph: LayerGraph, lowest: int) -> BitWidths:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most = draw(st.sampled_from([8, 8, 16]))
    weights = {x.name: rng.integers(lowest, most + 1, x.out_channels) for x in graph.weighted}
    return BitWidths(weights, {x.name: int(rng.integers(1, most + 1)) for x in graph})


@st.composite
def cases(draw: st.DrawFn, simulator: str, lowest_bits: int = 0) -> Case:
    accelerator = draw(SIMULATORS[simulator])
    # the search for mappings takes longer the larger the layers, and learns nothing new from them
    searches = isinstance(accelerator.array, RowStationaryArray)
    graph = draw(graphs(largest=5 if searches else 8))
    return Case(graph, accelerator, random_bits(draw, graph, lowest_bits), draw(st.integers(1, 2)))


def larger(memory: Memory, factor: int) -> Memory:
    return replace(memory, capacity=memory.capacity * factor)
