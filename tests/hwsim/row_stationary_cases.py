"""Small random layers, arrays and mappings for the row-stationary tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from hwsim.accelerator import Accelerator, OperandWidth, load_accelerator
from hwsim.dram import Link
from hwsim.operand_width import pace
from hwsim.row_stationary.limits import Limits, limits_for
from hwsim.row_stationary.mapping import RsMapping, problems
from hwsim.row_stationary.reference import ReferenceRun, reference_layer
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.timing import Timing, layer_timing
from hwsim.row_stationary.work import LayerWork, make_work

EYERISS = load_accelerator("eyeriss_v1")
RULES = [
    OperandWidth("fixed", 16, 16),
    OperandWidth("fixed", 4, 8),
    *map(OperandWidth, ("bit_fusion", "stripes", "unpu", "loom")),
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
