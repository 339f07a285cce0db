"""Residency: the order of layers and the tensors kept on chip that need least DRAM traffic.

A tensor is kept from its producer to its last reader, or spilled: written to DRAM and read back
by every reader. Keeping tensor i saves gain(i) bits; the tensors kept must fit the room of each
layer that runs meanwhile. Pieces of spilled tensors on their way to the array are taken to be
staged elsewhere. A larger room allows all that a smaller one does, and so do fewer bits, so the
least traffic never rises with either.

The search goes through the sets of finished layers (down-sets of the graph), level by level, with
the kept tensors that are still alive. What matters of those is how many bits wait for the same
readers, and of two ways to the same set the one that has moved no more and holds nowhere more is
enough. The search is exact unless a level outgrows its width, which the result says, with a bound
below which no choice can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hwsim.liveness import Liveness, Segment

WIDTH = 1 << 11  # states a level; networks of torchvision need some hundreds
COMPARED = 64  # states that each other one of a level is compared with


@dataclass(frozen=True)
class Problem:
    """What is to be placed. Layers and tensors are numbered as in `liveness`.

    size[i]: bits of tensor i in the memory. room[i]: bits that the memory leaves to tensors while
    layer i runs. gain(i): DRAM bits saved by keeping tensor i; below 0 it is never kept (only a
    network input, of which the readers want less than all, can be). in_place: whether an output
    may overwrite an input that dies, where `liveness.replaceable` says so. barred: tensors that
    are never kept.
    """

    liveness: Liveness
    size: Sequence[int]
    room: Sequence[int]
    gain: Callable[[int], int]
    in_place: bool = False
    barred: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Placement:
    """order: layers without concatenation views, as they run. kept: tensors that stay.

    extra_bits: DRAM traffic above that of keeping everything worth it. bound_bits: no choice has
    less; equal unless the search's width was hit. peak_bits: most that is in the memory at once.
    """

    order: tuple[int, ...]
    kept: frozenset[int]
    extra_bits: int
    bound_bits: int
    peak_bits: int

    @property
    def exact(self) -> bool:
        return self.bound_bits == self.extra_bits


class _State(NamedTuple):
    traffic: int
    peak: int
    used: int  # bits of the kept tensors that are alive
    trace: tuple | None  # (trace before, layer, whether its tensor is kept)


class _Classes(NamedTuple):
    alone: int  # bit mask of tensors that share their readers with no other
    shared: list[list[tuple[int, int]]]  # (bit, size) of each member


class _Outcome(NamedTuple):
    state: _State | None
    bound: int | None  # least traffic so far of what was dropped for width


def place(problem: Problem, width: int = WIDTH) -> Placement:
    """Least DRAM traffic, then least peak, then the graph's own order.

    What costs nothing to keep is kept where room is left. Deterministic.
    """
    live = problem.liveness
    sources = [i for i in live.nodes if not live.needs[i]]
    everything = set(live.nodes) - problem.barred - {i for i in sources if problem.gain(i) < 0}
    usage = usage_bits(problem, live.nodes, everything)
    order = least_peak_order(problem, everything, usage, width)
    if order != live.nodes:
        usage = usage_bits(problem, order, everything)
    if _fits(problem, order, usage):
        extra = sum(max(0, problem.gain(i)) for i in problem.barred)
        return Placement(order, frozenset(everything), extra, extra, max(usage, default=0))
    return _search_all(problem, width)


def usage_bits(problem: Problem, order: Sequence[int], kept: Iterable[int]) -> list[int]:
    """Bits of the kept tensors that are alive while each layer runs, in the given order."""
    live, kept = problem.liveness, set(kept)
    done = used = 0
    usage = []
    for node in order:
        done |= 1 << node
        dying = [t for t in (*live.reads[node], node) if not live.readers[t] & ~done and t in kept]
        if node in kept:
            used += problem.size[node]
            usage.append(used - _overlap(problem, node, dying))
        else:
            usage.append(used)
        used -= sum(problem.size[t] for t in dying)
    return usage


def least_peak_order(
    problem: Problem,
    kept: Iterable[int],
    usage: Sequence[int] | None = None,
    width: int = WIDTH,
) -> tuple[int, ...]:
    """An order with the least peak while `kept` tensors stay, the graph's own where that has it.

    usage: of the graph's order, if known. Only segments that set the peak are searched.
    """
    live, kept = problem.liveness, set(kept)
    order = list(live.nodes)
    usage = usage_bits(problem, order, kept) if usage is None else usage
    chosen = {i for segment in live.segments for i in range(segment.first, segment.last)}
    peak = max((bits for i, bits in enumerate(usage) if i not in chosen), default=0)
    tops = [(max(usage[s.first : s.last]), s) for s in live.segments]
    for top, segment in sorted(tops, key=lambda item: (-item[0], item[1].first)):
        if top <= peak:
            break
        found = _Search(problem, width, kept=kept).run(segment.first, segment.last)
        if found.state is None or found.state.peak >= top:
            peak = max(peak, top)
            continue
        peak = max(peak, found.state.peak)
        order[segment.first : segment.last] = [node for node, _ in _steps(found.state)]
    return tuple(order)


def _fits(problem: Problem, order: Sequence[int], usage: Sequence[int]) -> bool:
    return all(bits <= problem.room[node] for node, bits in zip(order, usage, strict=True))


def _overlap(problem: Problem, node: int, dying: Iterable[int]) -> int:
    """Bits of the node's output that take the place of an input that dies."""
    if not problem.in_place:
        return 0
    sizes = [problem.size[t] for t in problem.liveness.replaceable[node] if t in dying]
    return min(problem.size[node], max(sizes, default=0))


def _steps(state: _State) -> list[tuple[int, bool]]:
    steps, trace = [], state.trace
    while trace is not None:
        trace, node, keep = trace
        steps.append((node, keep))
    return steps[::-1]


def _search_all(problem: Problem, width: int) -> Placement:
    """Order and kept tensors together; a narrow search first, whose answer bounds the wide one."""
    count = len(problem.liveness.nodes)
    rough = _Search(problem, min(width, 32)).run(0, count)
    assert rough.state is not None  # spilling everything is always allowed
    found = rough
    if rough.bound is not None:
        found = _Search(problem, width, most=rough.state.traffic).run(0, count)
        if found.state is None:
            found = _Outcome(rough.state, found.bound)
    state = found.state
    assert state is not None
    steps = _steps(state)
    order = tuple(node for node, _ in steps)
    kept = _keep_what_is_free(problem, order, {node for node, keep in steps if keep})
    usage = usage_bits(problem, order, kept)
    bound = state.traffic if found.bound is None else min(state.traffic, found.bound)
    return Placement(order, frozenset(kept), state.traffic, bound, max(usage, default=0))


def _keep_what_is_free(problem: Problem, order: Sequence[int], kept: set[int]) -> set[int]:
    """Add tensors that gain nothing where there is room."""
    for node in order:
        if node not in kept | problem.barred and problem.gain(node) == 0:
            more = kept | {node}
            if _fits(problem, order, usage_bits(problem, order, more)):
                kept = more
    return kept


class _Search:
    """Level by level through the finished sets. kept: tensors that stay, when that is settled and
    only the peak counts; otherwise both ways are tried for each. most: traffic of a known answer.
    """

    def __init__(
        self,
        problem: Problem,
        width: int,
        kept: set[int] | None = None,
        most: int | None = None,
    ) -> None:
        self.problem, self.width, self.kept, self.most = problem, width, kept, most
        live = problem.liveness
        self.gains = {} if kept is not None else {i: problem.gain(i) for i in live.nodes}
        self.charge = dict(self.gains)  # that spilling adds when the layer runs
        for i in self.gains:
            hosts = [i, *(j for j in live.nodes if live.readers[i] >> j & 1)]
            if (
                self.gains[i] < 0
                or i in problem.barred
                or problem.size[i] > min(problem.room[j] for j in hosts)
            ):
                self.charge[i] = 0  # spilled in any case: counted from the start
        self.certain = sum(max(0, g) - self.charge[i] for i, g in self.gains.items() if g > 0)

    def run(self, first: int, last: int) -> _Outcome:
        """From position `first` of the graph's order to `last`, a cut or the end."""
        live = self.problem.liveness
        done = sum(1 << i for i in live.nodes[:first])
        alive = sum(1 << i for i in live.nodes[:first] if live.readers[i] & ~done)
        if self.kept is not None:
            alive &= sum(1 << i for i in self.kept)
        used = sum(self.problem.size[i] for i in live.nodes[:first] if alive >> i & 1)
        level = {done: {alive: _State(self.certain, 0, used, None)}}
        inside = {i: s for s in live.segments for i in range(s.first, s.last)}
        bound: int | None = None
        for position in range(first, last):
            segment = inside.get(position, Segment(position, position + 1))
            level = self._next_level(level, live.nodes[segment.first : segment.last])
            total = sum(len(states) for states in level.values())
            if total > self.width:
                level, dropped = _narrowed(level, self.width)
                least = [state.traffic for state in dropped]
                bound = min(least if bound is None else [*least, bound], default=None)
        states = [state for states in level.values() for state in states.values()]
        best = min(states, key=lambda state: state[:2], default=None)
        return _Outcome(best, bound)

    def _next_level(
        self, level: dict[int, dict[int, _State]], free: Sequence[int]
    ) -> dict[int, dict[int, _State]]:
        live = self.problem.liveness
        found: dict[int, dict[int, _State]] = {}
        for done, states in level.items():
            for node in free:
                if not done >> node & 1 and not live.needs[node] & ~done:
                    after = done | 1 << node
                    self._run_layer(node, after, states, found.setdefault(after, {}))
        if self.kept is None:
            return {done: self._undominated(done, s) for done, s in found.items() if s}
        return found

    def _run_layer(
        self, node: int, done: int, states: dict[int, _State], found: dict[int, _State]
    ) -> None:
        """Add the states after a layer to `found`, the better where two meet."""
        problem, live = self.problem, self.problem.liveness
        size, room, bit = problem.size[node], problem.room[node], 1 << node
        dying = [t for t in (*live.reads[node], node) if not live.readers[t] & ~done]
        dead = sum(1 << t for t in dying)
        choices = (True, False) if self.kept is None else (node in self.kept,)
        if self.kept is None and (self.gains[node] < 0 or size > room or node in problem.barred):
            choices = (False,)
        for kept, state in states.items():
            for keep in choices:
                here = kept | bit if keep else kept
                now = state.used + (size if keep else 0)
                if keep and problem.in_place:
                    now -= _overlap(problem, node, [t for t in dying if kept >> t & 1])
                traffic = state.traffic
                if self.kept is None:
                    if now > room:
                        continue
                    traffic += 0 if keep else self.charge[node]
                    if self.most is not None and traffic > self.most:
                        continue
                rest = here & ~dead
                best = found.get(rest)
                peak = max(state.peak, now)
                if best is None or (traffic, peak) < best[:2]:
                    used = state.used + (size if keep else 0)
                    used -= sum(problem.size[t] for t in dying if here >> t & 1)
                    found[rest] = _State(traffic, peak, used, (state.trace, node, keep))

    def _undominated(self, done: int, states: dict[int, _State]) -> dict[int, _State]:
        """Of the ways to one finished set, those that no other undercuts while holding nowhere
        more. Tensors that wait for the same readers count together."""
        if len(states) < 2:
            return states
        classes = self._classes(done, states)
        ordered = sorted(states.items(), key=lambda s: (s[1].traffic, s[1].peak, s[1].used, s[0]))
        kept: dict[int, _State] = {}
        held: list[tuple[int, list[int]]] = []
        seen: set[tuple[int, ...]] = set()
        for mask, state in ordered:
            sums = [sum(size for bit, size in members if mask & bit) for members in classes.shared]
            alone = mask & classes.alone
            key = (alone, *sums)
            if key in seen:
                continue
            if any(
                other & ~alone == 0 and all(a <= b for a, b in zip(less, sums, strict=True))
                for other, less in held
            ):
                continue
            seen.add(key)
            if len(held) < COMPARED:  # the least traffic: these rule out most
                held.append((alone, sums))
            kept[mask] = state
        return kept

    def _classes(self, done: int, masks: Iterable[int]) -> _Classes:
        """Tensors alive after `done` by the readers that they still wait for."""
        problem, live = self.problem, self.problem.liveness
        alive = 0
        for mask in masks:
            alive |= mask
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for i in live.nodes:
            if alive >> i & 1:
                apart = i if problem.in_place and live.overwritten >> i & 1 else -1
                waiting = live.readers[i] & ~done
                groups.setdefault((waiting, apart), []).append((1 << i, problem.size[i]))
        alone = sum(group[0][0] for group in groups.values() if len(group) == 1)
        return _Classes(alone, [group for group in groups.values() if len(group) > 1])


def _narrowed(
    level: dict[int, dict[int, _State]], width: int
) -> tuple[dict[int, dict[int, _State]], list[_State]]:
    """The `width` states that have moved least, then hold least; and those dropped.

    One of each level that keeps nothing stays, so that the search always ends.
    """
    every = [
        (state, done, mask) for done, states in level.items() for mask, state in states.items()
    ]
    every.sort(key=lambda item: (item[0].traffic, item[0].peak, item[0].used, item[1], item[2]))
    kept, dropped = every[:width], every[width:]
    if dropped and all(mask for _, _, mask in kept):
        empty = next((i for i, item in enumerate(dropped) if not item[2]), None)
        if empty is not None:
            kept.append(dropped.pop(empty))
    found: dict[int, dict[int, _State]] = {}
    for state, done, mask in kept:
        found.setdefault(done, {})[mask] = state
    return found, [state for state, _, _ in dropped]
