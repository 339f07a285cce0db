"""The placement of tensors against every choice of order and kept tensors, and its laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fuzz.residency import (
    best_by_enumeration,
    cases,
    check,
    check_placement,
    held,
    orders,
    problem_of,
    random_graph,
)
from hwsim.graph import Layer, LayerGraph, Tensor, Vector
from hwsim.liveness import Liveness
from hwsim.residency import Problem, least_peak_order, place, usage_bits

seeds = st.integers(0, 2**32 - 1)
percents = st.integers(0, 110)


def beside(first: LayerGraph, second: LayerGraph) -> LayerGraph:
    """Two networks that share nothing, one after the other in the graph's order."""
    renamed = {layer.name: f"second.{layer.name}" for layer in second}
    layers = [
        replace(
            layer,
            name=renamed[layer.name],
            inputs=tuple(replace(t, name=renamed[t.name]) for t in layer.inputs),
            output=replace(layer.output, name=renamed[layer.name]),
        )
        for layer in second
    ]
    outputs = (*first.outputs, *(renamed[name] for name in second.outputs))
    return LayerGraph("both", (*first.layers, *layers), outputs)


@settings(max_examples=60)
@given(seed=seeds, percent=percents, in_place=st.booleans())
def test_networks_that_share_nothing_are_placed_one_by_one(seed, percent, in_place):
    first = random_graph(seed, 2)
    graph = beside(first, random_graph(seed + 1, 2))
    problem = problem_of(graph, seed, percent, in_place)
    start = len(Liveness(first.layers, first.outputs).nodes)
    assert not any(s.first < start < s.last for s in problem.liveness.segments)
    found = place(problem)
    extra, peak = best_by_enumeration(graph, problem)
    assert (found.extra_bits, found.exact) == (extra, True)
    worth = {i for i in found.kept if problem.gain(i) > 0}
    if extra:  # where all is kept, what gains nothing counts in the peak
        assert max(usage_bits(problem, found.order, worth)) == peak


@settings(max_examples=100)
@given(case=cases())
def test_no_choice_of_order_and_tensors_moves_less(case):
    check(case)


@given(seed=seeds, count=st.integers(1, 12), percent=percents, more=percents,
       in_place=st.booleans())  # fmt: skip
def test_a_larger_room_and_fewer_bits_never_move_more(seed, count, percent, more, in_place):
    graph = random_graph(seed, count)
    problem = problem_of(graph, seed, percent, in_place)
    found = place(problem)
    check_placement(graph, problem, found)
    larger = problem_of(graph, seed, percent + more, in_place)
    assert place(larger).extra_bits <= found.extra_bits
    rng = np.random.default_rng(seed)
    share = rng.uniform(0, 1, len(problem.size))
    gains = [problem.gain(i) for i in range(len(share))]
    narrow = Problem(
        problem.liveness,
        [int(s * f) for s, f in zip(problem.size, share, strict=True)],
        problem.room,
        [g if g < 0 else int(g * f) for g, f in zip(gains, share, strict=True)].__getitem__,
        in_place,
    )
    assert place(narrow).extra_bits <= found.extra_bits


@settings(max_examples=15)
@given(seed=seeds, percent=percents)
def test_tensors_that_wait_for_the_same_readers_are_told_apart_by_size(seed, percent):
    """A chain of which every other tensor is read again by one late layer, the rest by another,
    so that many tensors wait for either and only their sizes matter."""
    rng = np.random.default_rng(seed)
    layers = [Layer("l0", "input", Vector(0), (), Tensor("l0", (1, 1, 1, 1)))]
    for i in range(1, 10):
        inputs = [layers[-1].output]
        if i >= 8:
            inputs += [layer.output for layer in layers[i % 2 : 7 : 2]]
        layers.append(
            Layer(f"l{i}", "pool", Vector(1), tuple(inputs), Tensor(f"l{i}", (1, 1, 1, 1)))
        )
    graph = LayerGraph("late", tuple(layers), ("l9",))
    live = Liveness(graph.layers, graph.outputs)
    size = rng.integers(1, 9, 10).tolist()
    gain = rng.integers(1, 30, 10).tolist()
    room = sum(size) * percent // 100
    found = place(Problem(live, size, [room] * 10, gain.__getitem__))
    sizes = dict(zip(live.names, size, strict=True))
    choices = [{i for i in range(10) if bits >> i & 1} for bits in range(1 << 10)]
    fitting = [
        kept for kept in choices
        if max(held(graph, live.views, live.names, {f"l{i}" for i in kept}, sizes)) <= room
    ]  # fmt: skip
    assert found.extra_bits == min(sum(gain) - sum(gain[i] for i in kept) for kept in fitting)


@settings(max_examples=40)
@given(seed=seeds, count=st.integers(1, 6), in_place=st.booleans())
def test_no_order_has_a_lower_peak(seed, count, in_place):
    graph = random_graph(seed, count)
    problem = problem_of(graph, seed, 0, in_place)
    live = problem.liveness
    size = dict(zip(live.names, problem.size, strict=True))
    names = {live.names[i] for i in live.nodes}
    best = min(
        max(held(graph, live.views, order, names, size, in_place))
        for order in orders(graph, live.views)
    )
    order = least_peak_order(problem, live.nodes)
    assert max(usage_bits(problem, order, live.nodes)) == best
    if max(usage_bits(problem, live.nodes, live.nodes)) == best:
        assert order == live.nodes


@given(seed=seeds, count=st.integers(6, 12), percent=percents)
def test_a_narrow_search_says_so_and_its_bound_holds(seed, count, percent):
    graph = random_graph(seed, count)
    problem = problem_of(graph, seed, percent)
    exact, narrow = place(problem), place(problem, width=1)
    check_placement(graph, problem, narrow)
    assert exact.exact
    assert narrow.bound_bits <= exact.extra_bits <= narrow.extra_bits
    assert narrow.exact == (narrow.bound_bits == narrow.extra_bits)


def test_a_search_that_is_too_narrow_is_not_called_exact():
    inexact = sum(
        not place(problem_of(random_graph(seed, 12), seed, 40), width=1).exact for seed in range(40)
    )
    assert inexact > 0


def test_a_branch_is_squeezed_before_the_other_swells():
    """x (2 values) feeds a (6) and c (9), each squeezed to 1: b, d. In the order of the graph a
    and c are there together."""
    sizes = {"x": 2, "a": 6, "c": 9, "b": 1, "d": 1}
    x, a, c, b, d = (Tensor(name, (1, k, 1, 1)) for name, k in sizes.items())
    layers = (
        Layer("x", "input", Vector(0), (), x),
        Layer("a", "pool", Vector(6), (x,), a),
        Layer("c", "pool", Vector(9), (x,), c),
        Layer("b", "pool", Vector(1), (a,), b),
        Layer("d", "pool", Vector(1), (c,), d),
        Layer("out", "concat", Vector(2), (b, d), Tensor("out", (1, 2, 1, 1))),
    )
    live = Liveness(layers, ("out",))
    problem = Problem(live, [*sizes.values(), 0], [12] * 6, lambda _: 1)
    assert usage_bits(problem, live.nodes, live.nodes) == [2, 8, 17, 16, 11, 2]
    found = place(problem)
    assert (found.extra_bits, found.peak_bits) == (0, 2 + 1 + 9)
    assert live.with_views(found.order) == ("x", "a", "b", "c", "d", "out")


def graph_of(
    *layers: tuple[str, str, tuple[Tensor, ...], int], outputs: tuple[str, ...] = ()
) -> Liveness:
    made = [Layer("x", "input", Vector(0), (), Tensor("x", (1, 2, 2, 2)))]
    for name, kind, inputs, channels in layers:
        output = Tensor(name, (1, channels, 2, 2))
        made.append(Layer(name, kind, Vector(output.values), inputs, output))
    return Liveness(made, outputs)


X, A, B = (Tensor(name, (1, 2, 2, 2)) for name in "xab")
AB, HALF = Tensor("ab", (1, 4, 2, 2)), Tensor("a", (1, 1, 2, 2))
BRANCHES = (("a", "pool", (X,), 2), ("b", "pool", (X,), 2))


def test_a_concatenation_of_whole_tensors_is_a_change_of_address():
    live = graph_of(*BRANCHES, ("ab", "concat", (A, B), 4), ("y", "pool", (AB,), 1))
    assert live.views == {"ab"}
    assert live.parts[3] == (1, 2)
    assert live.reads[4] == (1, 2)
    assert live.with_views((0, 2, 1, 4)) == ("x", "b", "a", "ab", "y")


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [((A, A), 4), ((HALF, B), 3), ((A, B), 5)],
    ids=["a tensor twice", "a slice", "constants joined in"],
)
def test_other_concatenations_copy(inputs, channels):
    assert not graph_of(*BRANCHES, ("ab", "concat", inputs, channels)).views


def test_a_concatenation_that_leaves_the_network_is_a_tensor_of_its_own():
    layers = (*BRANCHES, ("ab", "concat", (A, B), 4), ("abx", "concat", (AB, X), 6))
    assert graph_of(*layers, outputs=("abx",)).views == {"ab"}
    assert graph_of(*layers, outputs=("ab", "abx")).views == set()


def test_every_tensor_has_one_place_in_memory():
    joined = Tensor("ab", (1, 4, 2, 2))
    dense = graph_of(*BRANCHES, ("ab", "concat", (A, B), 4), ("abx", "concat", (joined, X), 6))
    assert dense.views == {"ab", "abx"}  # x only joins on the right
    crossed = graph_of(*BRANCHES, ("ab", "concat", (A, B), 4), ("ba", "concat", (B, A), 4))
    assert crossed.views == {"ab"}
    other = graph_of(*BRANCHES, ("ab", "concat", (A, B), 4), ("ax", "concat", (A, X), 4))
    assert other.views == {"ab"}
    other = graph_of(*BRANCHES, ("ab", "concat", (A, B), 4), ("xb", "concat", (X, B), 4))
    assert other.views == {"ab"}
    ring = graph_of(
        *BRANCHES,
        ("ab", "concat", (A, B), 4), ("bx", "concat", (B, X), 4), ("xa", "concat", (X, A), 4),
    )  # fmt: skip
    assert ring.views == {"ab", "bx"}
