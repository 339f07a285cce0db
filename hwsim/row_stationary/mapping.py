"""RsMapping: how a layer is laid on the array, and whether that is legal.

The parameters are those of the Eyeriss papers (Chen et al., JSSC 52(1), 2017, Table II).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.shape import ConvShape


@dataclass(frozen=True, order=True)
class RsMapping:
    """One mapping.

    m: filters whose psums stay in the buffer. n: images of a pass. e: ofmap rows of a PE set.
    p, q: filters and channels interleaved in a PE. r, t: channel sets and filter sets side by
    side on the array. Raises ValueError for a parameter below 1.
    """

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(
                    f"mapping: {field.name} must be at least 1, got {getattr(self, field.name)}"
                )

    @property
    def pass_filters(self) -> int:
        return self.p * self.t

    @property
    def pass_channels(self) -> int:
        return self.q * self.r

    def __str__(self) -> str:
        names = [field.name for field in fields(self)]
        return " ".join(f"{name}{value}" for name, value in zip(names, astuple(self), strict=True))


def ifmap_tile(mapping: RsMapping, shape: ConvShape, limits: Limits) -> int:
    """Values of the ifmap tile in the buffer: n * q * r * H * (rows that e needs), padded."""
    channels = min(mapping.pass_channels, shape.channels)
    rows = shape.rows_read(min(mapping.e, shape.ofmap[0]), shape.kernel[0])
    return min(mapping.n, shape.batch) * channels * rows * shape.padded_width


def psum_tile(mapping: RsMapping, shape: ConvShape) -> int:
    """Values of the psum tile in the buffer: n * m * e * F."""
    rows = min(mapping.e, shape.ofmap[0])
    filters = min(mapping.m, shape.filters)
    return min(mapping.n, shape.batch) * filters * rows * shape.ofmap[1]


def banks_used(mapping: RsMapping, shape: ConvShape, limits: Limits) -> int:
    """Buffer banks of one copy of both tiles; a bank is wholly ifmap or wholly psum."""
    ifmap = -(-ifmap_tile(mapping, shape, limits) // limits.ifmap_bank)
    return ifmap + -(-psum_tile(mapping, shape) // limits.psum_bank)


def problems(mapping: RsMapping, shape: ConvShape, limits: Limits) -> list[str]:
    """Every limit that a mapping breaks, in words; none when it is legal.

    A mapping may not exceed the layer where a smaller one would do the same work: n <= N,
    e <= E, and channel and filter sets that would all stay empty are refused.
    """
    m, n, e, p, q, r, t = astuple(mapping)
    taps, height = limits.fold_cols[0], limits.fold_rows[0]
    span = shape.span(taps)
    checks = [
        (n <= shape.batch, f"n = {n} exceeds the batch of {shape.batch}"),
        (e <= shape.ofmap[0], f"e = {e} exceeds the {shape.ofmap[0]} ofmap rows"),
        (m <= shape.filters, f"m = {m} exceeds the {shape.filters} filters of a group"),
        (q <= shape.channels, f"q = {q} exceeds the {shape.channels} channels of a group"),
        (p <= shape.filters, f"p = {p} exceeds the {shape.filters} filters of a group"),
        ((r - 1) * q < shape.channels, f"r = {r} leaves a set without channels"),
        ((t - 1) * p < shape.filters, f"t = {t} leaves a set without filters"),
        (
            m % mapping.pass_filters == 0 or m == shape.filters,
            f"m = {m} is neither a multiple of p * t = {mapping.pass_filters} nor all filters",
        ),
        (
            q * span <= limits.ifmap_spad,
            f"q * {span} ifmap values exceed the ifmap scratch pad of {limits.ifmap_spad}",
        ),
        (
            p * q * taps <= limits.filter_spad,
            f"p * q * {taps} = {p * q * taps} exceeds the filter scratch pad of "
            f"{limits.filter_spad}",
        ),
        (p <= limits.psum_spad, f"p = {p} exceeds the psum scratch pad of {limits.psum_spad}"),
        (
            r * t <= limits.sets(e),
            f"r * t = {r * t} sets of {height} x {e} PEs do not fit the array, {limits.sets(e)} do",
        ),
        (
            p * q * r * t * height * taps <= limits.filter_buffer,
            f"{p * q * r * t * height * taps} filter values of a pass exceed the filter buffer "
            f"of {limits.filter_buffer}",
        ),
        (
            limits.tiles * banks_used(mapping, shape, limits) <= limits.banks,
            f"ifmap and psum tiles take {limits.tiles * banks_used(mapping, shape, limits)} banks "
            f"of {limits.banks}",
        ),
    ]
    return [text for legal, text in checks if not legal]


def balanced(total: int, blocks: int) -> int:
    """Block size that cuts `total` into `blocks` as evenly as whole numbers allow."""
    return -(-total // blocks)
