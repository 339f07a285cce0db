"""Small graphs made by hand, for tests of the simulators."""

from __future__ import annotations

from itertools import pairwise

from hwsim.graph import Conv, Layer, LayerGraph, Linear, Matmul, Tensor, Vector, Work


def chain(name: str, shape: tuple[int, ...], works: list[tuple[str, Work, tuple[int, ...]]]):
    """A graph of one layer after the other: (kind, work, output shape) each, named l0, l1, ..."""
    axis = 1 if len(shape) == 4 else -1
    tensor = Tensor("image", shape, axis)
    layers = [Layer("image", "input", Vector(0), (), tensor)]
    for i, (kind, work, out) in enumerate(works):
        output = Tensor(f"l{i}", out, 1 if len(out) == 4 else -1)
        layers.append(Layer(f"l{i}", kind, work, (tensor,), output))
        tensor = output
    return LayerGraph(name, tuple(layers), (tensor.name,))


def perceptron(name: str, widths: list[int]) -> LayerGraph:
    """Fully connected layers from widths[0] features to widths[-1]."""
    works = [("linear", Linear(1, a, b), (1, b)) for a, b in pairwise(widths)]
    return chain(name, (1, widths[0]), works)


def square_conv(channels: int, filters: int, kernel: int, size: int, stride=1, pad=0, groups=1):
    """A square convolution and the shape that it writes."""
    out = (size + 2 * pad - kernel) // stride + 1
    pair = (kernel, kernel)
    conv = Conv(channels, filters, pair, (stride,) * 2, (pad,) * 2, (1, 1), groups,
                (size, size), (out, out))  # fmt: skip
    return conv, (1, filters, out, out)


def residual(channels: int, size: int) -> LayerGraph:
    """input -> a -> b, then a + b: the branch holds a's output alive."""
    conv, shape = square_conv(channels, channels, 3, size, pad=1)
    image = Tensor("image", shape)
    a, b, total = (Tensor(name, shape) for name in ("a", "b", "sum"))
    layers = (
        Layer("image", "input", Vector(0), (), image),
        Layer("a", "conv", conv, (image,), a),
        Layer("b", "conv", conv, (a,), b),
        Layer("sum", "add", Vector(total.values), (a, b), total),
    )
    return LayerGraph("residual", layers, ("sum",))


def attention(tokens: int, width: int) -> LayerGraph:
    """Scores of one head: a product of two activation tensors, each from a linear layer."""
    shape = (1, tokens, width)
    image = Tensor("image", shape, -1)
    q, k = Tensor("q", shape, -1), Tensor("k", shape, -1)
    flipped = Tensor("k", (1, width, tokens), 1)
    layers = (
        Layer("image", "input", Vector(0), (), image),
        Layer("q", "linear", Linear(tokens, width, width), (image,), q),
        Layer("k", "linear", Linear(tokens, width, width), (image,), k),
        Layer("scores", "matmul", Matmul(1, tokens, width, tokens), (q, flipped),
              Tensor("scores", (1, tokens, tokens), -1)),
    )  # fmt: skip
    return LayerGraph("attention", layers, ("scores",))
