"""The best mappings of a layer: every legal one is either simulated or proven worse.

Branch and bound. Array shapes (e, r, t) are bounded first, then whole mappings, by cycles that no
schedule can undercut; what survives is simulated exactly, in the order of its bound, until the
bound exceeds the best found. Batches and blocks of filters are cut as evenly as their number
allows, so m and n range over block counts. An uneven cut leaves a smaller last block, of whose
ofmap less is written after the last pass: what that can save is not looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from hwsim.dram import Link
from hwsim.row_stationary.bounds import CycleBound
from hwsim.row_stationary.limits import Limits
from hwsim.row_stationary.mapping import RsMapping, balanced
from hwsim.row_stationary.shape import ConvShape
from hwsim.row_stationary.timing import Timing, layer_timing
from hwsim.row_stationary.work import LayerWork

CHUNK = 4096  # mappings bounded at once


@dataclass(frozen=True)
class Found:
    """A mapping with its time and energy."""

    mapping: RsMapping
    timing: Timing
    energy_pj: float

    @property
    def key(self) -> tuple[int, int, float, RsMapping]:
        """Fewest cycles, then least DRAM traffic, then least energy; then a fixed order."""
        return self.timing.cycles, self.timing.dram_bits, self.energy_pj, self.mapping


def even_blocks(total: int) -> list[int]:
    """Block sizes that cut `total` evenly, one for each possible number of blocks, ascending."""
    return sorted({balanced(total, count) for count in range(1, total + 1)})


def filter_blocks(filters: int, pass_filters: int) -> list[int]:
    """Sizes m that cut the passes' blocks of p * t filters evenly, ascending."""
    passes = -(-filters // pass_filters)
    return [min(filters, size * pass_filters) for size in even_blocks(passes)]


def search_mappings(
    shape: ConvShape,
    limits: Limits,
    work: LayerWork,
    link: Link,
    energy: Callable[[RsMapping, Timing], float],
    count: int = 1,
    q_times_r: int | None = None,
    set_pes: int | None = None,
) -> list[Found]:
    """The `count` best legal mappings, best first.

    q_times_r, set_pes: keep only mappings with this q * r, or r * t * e; for chips of which a
    part of the mapping is known. Raises ValueError when no mapping is legal.
    """
    bound = CycleBound(shape, limits, work, link)
    found: list[Found] = []
    worst = np.inf

    def simulate(rows: np.ndarray, bounds: np.ndarray) -> None:
        nonlocal found, worst
        for index in np.argsort(bounds, kind="stable").tolist():
            if bounds[index] > worst:
                break
            e, p, q, r, t, n, m = rows[index].tolist()
            for size in reversed([m_ for m_ in filter_blocks(work.filters, p * t) if m_ <= m]):
                mapping = RsMapping(size, n, e, p, q, r, t)
                if bounds[index] + bound.reload_cycles(mapping, m) > worst:
                    break
                timing = layer_timing(shape, limits, mapping, work, link)
                found.append(Found(mapping, timing, energy(mapping, timing)))
            found = sorted(found, key=lambda item: item.key)[:count]
            worst = found[-1].timing.cycles if len(found) == count else np.inf

    def narrow(candidates: np.ndarray, rough: np.ndarray) -> None:
        """Simulate what can be among the best; few at first, they rule out most others."""
        order = np.argsort(rough, kind="stable")
        start, size = 0, 16 * count
        while start < len(order) and rough[order[start]] <= worst:
            part = candidates[order[start : start + size]]
            start, size = start + size, min(4 * size, CHUNK)
            bounds = bound.close(part)
            simulate(part[bounds <= worst], bounds[bounds <= worst])

    arrays = _array_shapes(shape, limits, work)
    inside = _inside_pe(shape, limits, work)
    if q_times_r is not None:
        inside = inside[q_times_r % inside[:, 1] == 0]
    if set_pes is not None:
        arrays = arrays[arrays.prod(axis=1) == set_pes]
    array_bounds = bound.of_array_shapes(arrays, int(inside[:, 1].max(initial=1)))
    order = np.argsort(array_bounds, kind="stable")
    arrays, array_bounds = arrays[order], array_bounds[order]
    step = max(1, CHUNK // max(1, len(inside)))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(arrays), step):
        if array_bounds[start] > worst:
            break
        candidates = _legal(arrays[start : start + step], inside, shape, limits, work, q_times_r)
        rough = bound.rough(candidates)
        candidates, rough = candidates[rough <= worst], rough[rough <= worst]
        if len(found) < count:
            narrow(candidates, rough)
        else:
            kept.append((candidates, bound.with_exact_filters(candidates, rough)))
    if kept:
        narrow(np.concatenate([c for c, _ in kept]), np.concatenate([b for _, b in kept]))
    if not found:
        raise ValueError(
            f"no mapping of {shape.channels} channels, {shape.filters} filters of "
            f"{shape.kernel[0]} x {shape.kernel[1]} and an ofmap of {shape.ofmap[0]} x "
            f"{shape.ofmap[1]} fits the buffer's {limits.banks} banks and the asked-for limits"
        )
    return found


def _array_shapes(shape: ConvShape, limits: Limits, work: LayerWork) -> np.ndarray:
    """(count, 3) all (e, r, t) whose sets fit the array."""
    rows = []
    for e in range(1, min(shape.ofmap[0], limits.widest_set) + 1):
        sets = limits.sets(e)
        for r in range(1, min(sets, shape.channels) + 1):
            rows += [(e, r, t) for t in range(1, min(sets // r, work.filters) + 1)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _inside_pe(shape: ConvShape, limits: Limits, work: LayerWork) -> np.ndarray:
    """(count, 2) all (p, q) that fit the scratch pads of a PE."""
    taps = limits.fold_cols[0]
    most_q = min(limits.ifmap_spad // shape.span(taps), shape.channels)
    most_p = min(limits.psum_spad, work.filters)
    pairs = product(range(1, most_p + 1), range(1, most_q + 1))
    rows = [(p, q) for p, q in pairs if p * q * taps <= limits.filter_spad]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _legal(
    arrays: np.ndarray,
    inside: np.ndarray,
    shape: ConvShape,
    limits: Limits,
    work: LayerWork,
    q_times_r: int | None,
) -> np.ndarray:
    """(count, 7) e, p, q, r, t, n and the largest m, of all legal combinations."""
    e, r, t = (np.repeat(arrays[:, i], len(inside)) for i in range(3))
    p, q = (np.tile(inside[:, i], len(arrays)) for i in range(2))
    size = limits.fold_rows[0] * limits.fold_cols[0]
    keep = ((r - 1) * q < shape.channels) & ((t - 1) * p < work.filters)
    keep &= p * q * r * t * size <= limits.filter_buffer
    if q_times_r is not None:
        keep &= q * r == q_times_r
    e, p, q, r, t = e[keep], p[keep], q[keep], r[keep], t[keep]
    channels = np.minimum(q * r, shape.channels)
    tile_rows = shape.rows_table(shape.kernel[0])[e]
    parts = []
    for n in even_blocks(shape.batch):
        ifmap = n * channels * tile_rows * shape.padded_width
        banks = limits.banks // limits.tiles - -(-ifmap // limits.ifmap_bank)
        psums = np.maximum(banks, 0) * limits.psum_bank // (n * e * shape.ofmap[1])
        passes = -(-work.filters // (p * t))
        most = np.where(psums >= work.filters, passes, psums // (p * t))
        fits = most > 0
        m_blocks = -(-passes // np.maximum(most, 1))
        m = np.minimum(-(-passes // m_blocks) * p * t, work.filters)
        parts.append(np.stack([e, p, q, r, t, np.full_like(e, n), m], 1)[fits])
    return np.concatenate(parts)
