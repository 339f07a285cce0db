"""Small layers on small row-stationary arrays: against the array that moves values, and the search
for a mapping against trying every legal one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Literal

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from analysis.fuzz.model import same
from hwsim.accelerator import Accelerator, OperandWidth, RowStationaryArray, load_accelerator
from hwsim.dram import Link
from hwsim.operand_width import pace
from hwsim.row_stationary.limits import Limits, limits_for
from hwsim.row_stationary.mapping import RsMapping, problems
from hwsim.row_stationary.reference import ReferenceRun, reference_layer
from hwsim.row_stationary.search import even_blocks, filter_blocks, search_mappings
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.timing import Timing, layer_timing
from hwsim.row_stationary.traffic import accesses
from hwsim.row_stationary.work import LayerWork, make_work

EYERISS = load_accelerator("eyeriss_v1")
SERIAL_RULES: tuple[Literal["bit_fusion", "stripes", "unpu", "loom"], ...] = (
    "bit_fusion", "stripes", "unpu", "loom",
)  # fmt: skip
RULES = [
    OperandWidth("fixed", 16, 16),
    OperandWidth("fixed", 4, 8),
    *(OperandWidth(rule) for rule in SERIAL_RULES),
]


@dataclass(frozen=True)
class Case:
    shape: ConvShape
    limits: Limits
    mapping: RsMapping
    work: LayerWork
    link: Link
    seed: int

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        s = self.shape
        ifmap = rng.integers(-8, 8, (s.batch, s.groups * s.channels, *s.ifmap))
        return ifmap, rng.integers(-8, 8, (s.groups, s.filters, s.channels, *s.kernel))

    def fast(self) -> Timing:
        return layer_timing(self.shape, self.limits, self.mapping, self.work, self.link)

    def reference(self) -> ReferenceRun:
        return reference_layer(
            self.shape, self.limits, self.mapping, self.work, self.link, *self.operands()
        )


@st.composite
def small_accelerators(draw: st.DrawFn) -> Accelerator:
    assert isinstance(EYERISS.array, RowStationaryArray)
    array = replace(
        EYERISS.array,
        rows=draw(st.integers(1, 5)),
        cols=draw(st.integers(1, 5)),
        ifmap_spad=draw(st.integers(1, 8)),
        filter_spad=draw(st.integers(2, 24)),
        psum_spad=draw(st.integers(1, 4)),
        ifmap_port=draw(st.integers(1, 3)),
        filter_port=draw(st.integers(1, 4)),
        psum_in_port=draw(st.integers(1, 4)),
        psum_out_port=draw(st.integers(1, 4)),
        gbuf_banks=draw(st.integers(4, 12)),
        bank_bits=16 * draw(st.sampled_from([16, 64, 256])),
        overlap=draw(st.booleans()),
        pack_words=draw(st.booleans()),
    )
    dram = replace(
        EYERISS.dram[0],
        bandwidth=draw(st.sampled_from([200, 1000, 3840, 7000, 50_000])) * 10**6,
        burst=draw(st.sampled_from([8, 64])),
    )
    return replace(EYERISS, array=array, dram=(dram,))


@st.composite
def small_shapes(draw: st.DrawFn, largest: int = 4) -> ConvShape:
    kernel, stride, dilation, padding, ofmap = (
        (draw(st.integers(low, high)), draw(st.integers(low, high)))
        for low, high in ((1, 4), (1, 3), (1, 2), (0, 1), (1, largest))
    )
    spans = [(kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    ifmap = [max(1, (ofmap[i] - 1) * stride[i] + spans[i] - 2 * padding[i]) for i in (0, 1)]
    shape = ConvShape(
        groups=draw(st.integers(1, 2)),
        batch=draw(st.integers(1, 3)),
        channels=draw(st.integers(1, 5)),
        filters=draw(st.integers(1, 5)),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        ifmap=(ifmap[0], ifmap[1]),
        ofmap=(1, 1),
    )
    out = [(ifmap[i] + 2 * padding[i] - spans[i]) // stride[i] + 1 for i in (0, 1)]
    return replace(shape, ofmap=(out[0], out[1]))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape, accelerator = draw(small_shapes()), draw(small_accelerators())
    one_width = draw(st.booleans())
    widths = st.integers(1, 16) if one_width else st.sampled_from([0, 1, 2, 3, 4, 8, 16])
    if one_width:
        bits = np.full((shape.groups, shape.filters), draw(widths))
    else:
        count = shape.groups * shape.filters
        bits = np.array(draw(st.lists(widths, min_size=count, max_size=count)))
        bits = bits.reshape(shape.groups, shape.filters)
    array = accelerator.array
    assert isinstance(array, RowStationaryArray)
    work = make_work(
        widths=bits,
        ifmap_rate=draw(st.sampled_from([Fraction(16), Fraction(7, 3), Fraction(1, 5)])),
        ofmap_rate=draw(st.sampled_from([Fraction(16), Fraction(11, 7)])),
        metadata_bits=draw(st.sampled_from([0, 50])),
        filter_port=array.filter_port,
        word_bits=array.word_bits,
        pack=array.pack_words,
        by_width=False,  # the reference takes filters in the order in which it finds them
        mac_pace=pace(draw(st.sampled_from(RULES)), np.arange(17), draw(st.integers(1, 16))),
    )
    limits = limits_for(shape, accelerator, max(1, int(bits.max())), draw(st.integers(1, 16)))
    e = draw(st.integers(1, min(shape.ofmap[0], limits.widest_set)))
    most_q = min(shape.channels, limits.ifmap_spad // shape.span(limits.fold_cols[0]))
    q = draw(st.integers(1, max(1, most_q)))
    most_p = limits.filter_spad // (q * limits.fold_cols[0])
    p = draw(st.integers(1, max(1, min(shape.filters, limits.psum_spad, most_p))))
    r = draw(st.integers(1, max(1, min(limits.sets(e), -(-shape.channels // q)))))
    t = draw(st.integers(1, max(1, min(limits.sets(e) // r, -(-shape.filters // p)))))
    m = min(shape.filters, p * t * draw(st.integers(1, 3)))
    mapping = RsMapping(m, draw(st.integers(1, shape.batch)), e, p, q, r, t)
    assume(not problems(mapping, shape, limits))
    link = Link.of(accelerator.dram[0], accelerator.clock)
    return Case(shape, limits, mapping, work, link, draw(st.integers(0, 2**32 - 1)))


def integer_convolution(shape: ConvShape, ifmap: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The ofmap by definition: (N, groups * M, E, F)."""
    (pad_y, pad_x), (e, f) = shape.padding, shape.ofmap
    padded = np.pad(ifmap, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    ofmap = np.zeros((shape.batch, shape.groups, shape.filters, e, f), dtype=np.int64)
    padded = padded.reshape(shape.batch, shape.groups, shape.channels, *padded.shape[2:])
    for i in range(shape.kernel[0]):
        for j in range(shape.kernel[1]):
            y, x = i * shape.dilation[0], j * shape.dilation[1]
            rows = slice(y, y + (e - 1) * shape.stride[0] + 1, shape.stride[0])
            cols = slice(x, x + (f - 1) * shape.stride[1] + 1, shape.stride[1])
            ofmap += np.einsum("ngcyx,gmc->ngmyx", padded[..., rows, cols], weights[..., i, j])
    return ofmap.reshape(shape.batch, -1, e, f)


def _kept_first(case: Case, weights: np.ndarray) -> np.ndarray:
    """Weights with zeros for dropped filters, which come last: the reference takes the first."""
    weights = weights.copy()
    for group, kind in enumerate(case.work.group_kinds):
        weights[group, len(case.work.group_widths[kind]) :] = 0
    return weights


def check(case: Case) -> None:
    """Values, passes, cycles, and traffic of DRAM, buffer and network."""
    fast, run = case.fast(), case.reference()
    ifmap, weights = case.operands()
    expected = integer_convolution(case.shape, ifmap, _kept_first(case, weights))
    same("ofmap", run.ofmap, expected)
    moved = accesses(case.shape, case.limits, case.mapping, case.work, Fraction(1), 1)
    for what, mine, theirs in (
        ("passes", fast.passes, run.passes),
        ("processing cycles", fast.processing_cycles, run.processing_cycles),
        ("stall cycles", fast.stall_cycles, run.stall_cycles),
        ("filter bits from DRAM", fast.dram_filter_bits, run.dram_bits["filters"]),
        ("ifmap bits from DRAM", fast.dram_ifmap_bits, run.dram_bits["ifmap"]),
        ("ofmap bits to DRAM", fast.dram_ofmap_bits, run.dram_bits["ofmap"]),
        ("MACs", moved.macs, run.macs),
        ("ifmap buffer", moved.buffer_ifmap, run.moved["ifmap buffer"]),
        ("psum buffer", moved.buffer_psum, run.moved["psum buffer"]),
        ("fill", moved.buffer_fill, run.moved["fill"]),
        ("filter buffer", moved.filter_buffer, run.moved["filter buffer bits"]),
        ("ifmap into PEs", moved.network_ifmap, run.moved["ifmap into PEs"]),
        ("filter bits into PEs", moved.network_filter, run.moved["filter bits into PEs"]),
        ("psum hops", moved.network_psum, run.moved["psum hops"]),
    ):
        same(what, mine, theirs)


@dataclass(frozen=True)
class SearchCase:
    """A layer of given widths on an accelerator with small banks; the first `count` mappings."""

    shape: ConvShape
    accelerator: Accelerator
    bits: np.ndarray
    count: int


@st.composite
def search_cases(draw: st.DrawFn) -> SearchCase:
    shape, accelerator = draw(small_shapes(largest=3)), draw(small_accelerators())
    count = shape.groups * shape.filters
    widths = draw(st.lists(st.sampled_from([2, 4, 8, 16]), min_size=count, max_size=count))
    bits = np.array(widths).reshape(shape.groups, shape.filters)
    assert isinstance(accelerator.array, RowStationaryArray)
    # small banks, so that batch and filters must be split
    bank_bits = 16 * draw(st.sampled_from([2, 4, 8, 64]))
    return SearchCase(
        shape,
        replace(accelerator, array=replace(accelerator.array, bank_bits=bank_bits)),
        np.full_like(bits, bits[0, 0]) if draw(st.booleans()) else bits,
        draw(st.integers(1, 3)),
    )


def check_search(case: SearchCase) -> None:
    """The search cuts batch and filters evenly, and finds what trying each such mapping finds."""
    shape, bits, array = case.shape, case.bits, case.accelerator.array
    assert isinstance(array, RowStationaryArray)
    work = make_work(bits, 16, Fraction(19, 3), 36, array.filter_port, 16, array.pack_words, True)
    limits = limits_for(shape, case.accelerator, int(bits.max()), 16)
    link = Link.of(case.accelerator.dram[0], case.accelerator.clock)

    def energy(mapping: RsMapping, timing: Timing) -> float:
        return float(timing.passes)

    even = []
    for n, e, p, q, r, t in product(
        even_blocks(shape.batch),
        range(1, shape.ofmap[0] + 1),
        range(1, shape.filters + 1),
        range(1, shape.channels + 1),
        range(1, shape.channels + 1),
        range(1, shape.filters + 1),
    ):
        for m in filter_blocks(shape.filters, p * t):
            mapping = RsMapping(m, n, e, p, q, r, t)
            if not problems(mapping, shape, limits):
                timing = layer_timing(shape, limits, mapping, work, link)
                even.append((timing.cycles, timing.dram_bits, energy(mapping, timing), mapping))
    try:
        found = search_mappings(shape, limits, work, link, energy, case.count)
    except ValueError as error:
        if even or "no mapping" not in str(error):
            raise
        return
    same("mappings", [item.key for item in found], sorted(even)[: case.count])
