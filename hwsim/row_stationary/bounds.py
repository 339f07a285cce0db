"""Cycles of many mappings at once, nearly exact, and exact where all filters have one width."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import product

import numpy as np

from hwsim.row_stationary.rough_bounds import RoughBound
from hwsim.row_stationary.timing import ceil_div, pass_cycles, transfer_cycles


class CycleBound(RoughBound):
    """Lower bounds on the cycles of many mappings of one layer, from coarse to exact."""

    def with_exact_filters(self, candidates: np.ndarray, rough: np.ndarray) -> np.ndarray:
        """`rough` with whole cycles for every load and fetch of filters, if those set the time."""
        if not self.one_width or self.limits.tiles == 2 or not len(candidates):
            return rough
        e, n = candidates[:, 0], candidates[:, 5]
        runs = -(-self.shape.batch // n) * self.strips[e]
        loads, fetches, _ = self._filters(candidates)
        return np.maximum(rough, runs * (loads + fetches) + self._exposed_tiles(candidates))

    def close(self, candidates: np.ndarray) -> np.ndarray:
        """Exact cycles if all filters have one width, and nearly so otherwise.

        With different widths the passes (if of one pace) and tiles are counted exactly, filter
        loads and fetches without rounding up to cycles, and waiting for filters by Jensen's
        inequality over the passes that have the same length.
        """
        e, n = candidates[:, 0], candidates[:, 5]
        runs = -(-self.shape.batch // n) * self.strips[e]
        tiles = self._tile_cycles(candidates)
        if self.one_width and self.limits.tiles == 1:
            loads, _, first = self._filters(candidates)
            busy, waits = self._passes_and_waits(candidates)
            return runs * loads + first + busy + waits + tiles + self.edge_cycles
        loads, fetches, first = self._filters(candidates)
        busy, waits, last_pass = self._passes_and_least_waits(candidates)
        array = runs * loads + np.maximum(first + busy + waits, runs * fetches + last_pass)
        if self.limits.tiles == 2:
            tiles = np.maximum(array, runs * fetches + tiles)
        else:
            tiles = array + tiles + self.edge_cycles
        least = np.floor(tiles * (1 - 1e-12))
        if self.paces_differ:  # passes were counted at the pace of the narrowest filter
            least = np.maximum(least, np.floor(self.rough(candidates) * (1 - 1e-9)))
        return least

    def _passes_and_waits(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cycles of all passes, and waiting for filters in between, when all groups are alike.

        A fetch hides behind the pass before it. Within a block of m filters, those passes follow
        each other through the filters, then folds, then channels, then strips and images.
        """
        shape, limits = self.shape, self.limits
        e, p, q, r, t, n, m = candidates.T
        (size, groups), *_ = self.group_sizes.items()
        folds = list(product(limits.fold_rows, limits.fold_cols))
        channels = _split(shape.channels, q * r, first=True)
        # blocks of m filters: (how many, passes in each, filters of its first and last pass)
        passes = -(-m // (p * t))
        whole = np.where(size % m > 0, size // m, size // m - 1)
        rest = size - whole * m
        rest_passes = -(-rest // (p * t))
        rest_last = rest - (rest_passes - 1) * (p * t)
        m_blocks = [
            (whole, passes, p * t, p * t),
            (np.ones_like(m), rest_passes, np.where(rest_passes > 1, p * t, rest_last), rest_last),
        ]
        busy = np.zeros(len(e), dtype=np.int64)
        waits = np.zeros(len(e), dtype=np.int64)
        begins_m = [self._fetch(channels[0][1], block[2], *folds[0]) for block in m_blocks]
        for images, strips in product(_split(shape.batch, n), _split(shape.ofmap[0], e)):
            runs = images[0] * strips[0]
            if not runs.any():
                continue
            one = partial(self._one_pass, images[1], strips[1])
            for (count, length, first, last), start in zip(m_blocks, begins_m, strict=True):
                ends = np.zeros(len(e), dtype=np.int64)
                tile, tile_waits = np.zeros_like(ends), np.zeros_like(ends)
                for kind, (blocks_of, width, begins) in enumerate(channels):
                    if not blocks_of.any():
                        continue
                    before_end = opening = ends
                    for i, (h, s) in enumerate(folds):
                        starting = begins and i == 0
                        body = one(width, first, r, t, h, s, starting)
                        end = body if last is first else one(width, last, r, t, h, s, starting)
                        begin = self._fetch(width, first, h, s)
                        close = begin if last is first else self._fetch(width, last, h, s)
                        tile += blocks_of * ((length - 1) * body + end)
                        inner = (length - 2) * np.maximum(begin - body, 0)
                        inner = inner + np.maximum(close - body, 0)
                        tile_waits += blocks_of * np.where(length > 1, inner, 0)
                        if i:  # from fold to fold
                            tile_waits += blocks_of * np.maximum(begin - before_end, 0)
                        elif kind:  # from the kind of channel block before
                            wait = np.maximum(begin - before_end, 0)
                            tile_waits += np.where(blocks_of > 0, wait, 0)
                        if i == 0:
                            opening = begin
                        before_end = end
                    more = np.maximum(blocks_of - 1, 0)  # from channel block to channel block
                    tile_waits += more * np.maximum(opening - before_end, 0)
                    ends = np.where(blocks_of > 0, before_end, ends)
                busy += groups * runs * count * tile
                waits += groups * runs * count * tile_waits
                # from tile to tile of the same filters, and to the next filters or group
                waits += groups * count * runs * np.maximum(start - ends, 0)
                is_last = np.where(
                    (images[1] == self._last_of(shape.batch, n))
                    & (strips[1] == self._last_of(shape.ofmap[0], e)),
                    1,
                    0,
                )
                following = begins_m[1] if count is m_blocks[0][0] else begins_m[0]
                leaving = groups * count
                next_whole = np.maximum(whole - 1, 0) if count is whole else 0 * whole
                waits -= is_last * leaving * np.maximum(start - ends, 0)
                same = groups * next_whole  # a whole block of filters after another
                waits += is_last * same * np.maximum(start - ends, 0)
                if count is whole:
                    waits += is_last * groups * (whole > 0) * np.maximum(following - ends, 0)
                else:
                    opener = np.where(whole > 0, begins_m[0], begins_m[1])
                    waits += is_last * (groups - 1) * np.maximum(opener - ends, 0)
        return busy, waits

    @staticmethod
    def _last_of(total: int, size: np.ndarray) -> np.ndarray:
        """Size of the last block that `size` cuts from `total`."""
        return (total - 1) % size + 1

    def _fetch(self, channels: np.ndarray, filters: np.ndarray, h: int, s: int) -> np.ndarray:
        bits = self.one_width * filters * channels * (h * s)
        return transfer_cycles(self.link, bits)

    def _passes_and_least_waits(
        self, candidates: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cycles of all passes, waiting for filters at least, and cycles of the last pass."""
        shape = self.shape
        e, p, q, r, t, n, m = candidates.T
        folds = list(product(self.limits.fold_rows, self.limits.fold_cols))
        zero = np.zeros(len(e), dtype=np.int64)
        busy, last, waits = zero, zero, np.zeros(len(e))
        bits, first_bits, passes, m_blocks = self._block_sums(p * t, m)
        per_bit = self.cycles_per_bit
        whole_size = np.minimum(p * t, self.work.filters)
        kinds = _split(shape.channels, q * r, first=True)
        for images, strips in product(_split(shape.batch, n), _split(shape.ofmap[0], e)):
            runs = images[0] * strips[0]
            if not runs.any():
                continue
            before = zero  # cycles of the last passes of all blocks of m filters
            for kind, (count, channels, begins) in enumerate(kinds):
                if not count.any():
                    continue
                ends = before
                opening = np.zeros(len(e))
                for i, (h, s) in enumerate(folds):
                    args = r, t, h, s, begins and i == 0
                    body = self._one_pass(images[1], strips[1], channels, whole_size, *args)
                    closing = zero
                    for size, repeats in self.group_sizes.items():
                        short = size % (p * t)
                        tail = self._one_pass(images[1], strips[1], channels, short, *args)
                        tail = np.where(short > 0, tail, body)
                        closing = closing + repeats * (tail - body)
                    fetch = channels * (h * s) * per_bit
                    busy = busy + runs * count * (passes * body + closing)
                    inner = np.maximum(fetch * (bits - first_bits) - (passes - m_blocks) * body, 0)
                    waits += runs * count * inner
                    wrap = np.maximum(fetch * first_bits - ends, 0)
                    if i:
                        waits += runs * count * wrap
                    else:
                        opening = fetch
                        waits += runs * np.where((count > 0) & (kind > 0), wrap, 0)
                    ends = m_blocks * body + closing
                wrap = np.maximum(opening * first_bits - ends, 0)
                waits += runs * np.maximum(count - 1, 0) * wrap
                before = np.where(count > 0, ends, before)
                last = np.where(count > 0, np.minimum(body, tail), last)
            opening = kinds[0][1] * (folds[0][0] * folds[0][1]) * per_bit
            waits += np.maximum(runs - 1, 0) * np.maximum(opening * first_bits - before, 0)
        return busy, waits, last

    @cached_property
    def _width_sums(self) -> dict[int, np.ndarray]:
        """Of each kind of group: bits of the filters before each, of one value."""
        widths = self.work.group_widths
        return {kind: np.append(0, np.cumsum(widths[kind])) for kind in self.kinds}

    def _block_sums(
        self, pass_filters: np.ndarray, m: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Over all groups: bits of a filter value, of those in the first pass of a block of m
        filters, number of passes, and of blocks of m."""
        keys, index = np.unique(pass_filters * 2**32 + m, return_inverse=True)
        rows = []
        for key in keys.tolist():
            size, block = key >> 32, -(-(key % 2**32) // (key >> 32))
            first = passes = blocks_of_m = 0
            for kind, repeats in self.kinds.items():
                sums = np.diff(self._width_sums[kind][self._starts(kind, size)])
                first += repeats * int(sums[::block].sum())
                passes += repeats * len(sums)
                blocks_of_m += repeats * -(-len(sums) // block)
            rows.append((self.weight_bits, first, passes, blocks_of_m))
        bits, first_bits, passes_of, m_blocks = np.array(rows)[index].T
        return bits, first_bits, passes_of, m_blocks

    def _starts(self, kind: int, pass_filters: int) -> np.ndarray:
        """Where passes begin among a group's filters, and the end of all."""
        size = len(self.work.group_widths[kind])
        return np.append(np.arange(0, size, pass_filters), size)

    def _filters(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Load cycles and fetch cycles of all filters once, and fetch cycles of the first pass."""
        _, p, q, r, t, _, _ = candidates.T
        if self.one_width:
            return self._filters_alike(p * t, q * r)
        sizes, index = np.unique(p * t, return_inverse=True)
        words, first_bits = np.array([self._filter_words(size) for size in sizes.tolist()])[index].T
        loads = words * (self.filter_size / self.work.filter_port)
        bits = float(self.weight_bits * self.filter_size)
        fold = self.limits.fold_rows[0] * self.limits.fold_cols[0]
        first = first_bits * np.minimum(q * r, self.shape.channels) * fold
        fetches = np.full(len(p), bits * self.cycles_per_bit)
        return loads, fetches, first * self.cycles_per_bit

    def _filter_words(self, pass_filters: int) -> tuple[float, int]:
        """Words of one value of every filter, packed as in passes of so many; bits in the first."""
        words = 0.0
        for kind, repeats in self.kinds.items():
            widths = self.work.group_widths[kind]
            starts = self._starts(kind, pass_filters)
            packed = self.work.words_packed(np.maximum.reduceat(widths, starts[:-1]))
            words += repeats * float((np.diff(starts) / packed).sum())
        begin = next(k for k in self.work.group_kinds.tolist() if len(self.work.group_widths[k]))
        return words, int(self.work.group_widths[begin][:pass_filters].sum())

    def _filters_alike(
        self, pass_filters: np.ndarray, pass_channels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`_filters` when all have one width."""
        (size, groups), *_ = self.group_sizes.items()
        port = self.work.filter_port * int(self.work.words_packed(np.array(self.one_width)))
        loads = np.zeros(len(pass_filters), dtype=np.int64)
        fetches = np.zeros_like(loads)
        for channels, filters in product(
            _split(self.shape.channels, pass_channels), _split(size, pass_filters)
        ):
            times = groups * channels[0] * filters[0]
            for h, s in product(self.limits.fold_rows, self.limits.fold_cols):
                loads += times * ceil_div(filters[1] * channels[1] * (h * s), port)
                fetches += times * self._fetch(channels[1], filters[1], h, s)
        first_filters = np.minimum(pass_filters, size)
        first_channels = np.minimum(pass_channels, self.shape.channels)
        fold = self.limits.fold_rows[0], self.limits.fold_cols[0]
        return loads, fetches, self._fetch(first_channels, first_filters, *fold)

    def _tile_cycles(self, candidates: np.ndarray) -> np.ndarray:
        """Cycles of all ifmap loads and ofmap dumps."""
        shape, work = self.shape, self.work
        e, _, q, r, _, n, m = candidates.T
        total = np.zeros(len(e), dtype=np.int64)
        for images in _split(shape.batch, n):
            for channels in _split(shape.channels, q * r):
                for rows, count in zip(*self._row_kinds, strict=True):
                    values = images[1] * channels[1] * rows[e] * shape.ifmap[1]
                    loads = images[0] * channels[0] * count[e]
                    loads *= transfer_cycles(self.link, work.ifmap_bits(values))
                    for size, repeats in self.group_sizes.items():
                        total += loads * (repeats * -(-size // m))
            for strips, (size, repeats) in product(
                _split(shape.ofmap[0], e), self.group_sizes.items()
            ):
                for filters in _split(size, m) if size else []:
                    values = images[1] * strips[1] * filters[1] * shape.ofmap[1]
                    dumps = images[0] * strips[0] * filters[0] * repeats
                    total += dumps * transfer_cycles(self.link, work.ofmap_bits(values))
        return total

    @cached_property
    def _row_kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """(kinds, E + 1) real ifmap rows of a strip, and how many strips have so many."""
        most = self.shape.ofmap[0] + 1
        found = [np.unique(self.shape.real_rows(max(e, 1)), return_counts=True)
                 for e in range(min(most, self.limits.widest_set + 1))]  # fmt: skip
        kinds = max(len(values) for values, _ in found)
        rows = np.zeros((kinds, most), dtype=np.int64)
        counts = np.zeros((kinds, most), dtype=np.int64)
        for e, (values, count) in enumerate(found):
            rows[: len(values), e], counts[: len(values), e] = values, count
        return rows, counts

    def _one_pass(
        self,
        n: np.ndarray,
        e: np.ndarray,
        c: np.ndarray,
        f: np.ndarray,
        r: np.ndarray,
        t: np.ndarray,
        h: int,
        s: int,
        begins: bool,
    ) -> np.ndarray:
        shape, limits = self.shape, self.limits
        span = shape.span(s)
        values = c * shape.rows_table(h)[e]
        step = min(shape.stride[1], span)
        psums = f * e
        return pass_cycles(
            images=n,
            columns=shape.ofmap[1],
            mac_cycles=self.work.mac_cycles(-(-f // t) * -(-c // r) * s, self.narrowest),
            first_window=-(-values * span // limits.ifmap_port),
            next_window=-(-values * step // limits.ifmap_port),
            psum_in=np.zeros_like(psums) if begins else -(-psums // limits.psum_in_port),
            psum_out=-(-psums // limits.psum_out_port),
            hops=h * r,
        )


def _split(
    total: int, size: np.ndarray, first: bool = False
) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """(how many, how large, whether the first) of the blocks that cut `total`.

    Whole blocks and the shorter last one; with `first` the first block stands alone.
    """
    whole, short = total // size, total % size
    if not first:
        return [(whole, size, False), ((short > 0).astype(np.int64), short, False)]
    alone = np.minimum(size, total)
    one = np.ones_like(size)
    rest_short = ((short > 0) & (whole > 0)).astype(np.int64)
    return [
        (one, alone, True),
        (np.maximum(whole - 1, 0), size, False),
        (rest_short, short, False),
    ]
