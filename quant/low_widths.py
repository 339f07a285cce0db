"""Moves at the lowest widths, exact as far as the layer's own activation function.

At one and two bits the values of a channel move so far that a ReLU behind it bends the move: what
falls below zero is lost, what was below may come up. So the channel's output itself is moved there,
behind the function, and multiplied with the gradient at that place. What follows stays first order.
It costs one more product of the layer for each of the two widths and every image, and no pass
backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hwsim.graph import Conv
from quant.calibration import Recipe
from quant.network import FoldedLayer, Network

LOW_WIDTHS = slice(1, 3)  # 1 and 2 bits; a dropped channel is no nearer by one function


class BentMoves:
    """First-order moves of the network's output by one layer's channels, from behind its function.

    errors: (out, 9, K) moves of the weights at widths 0..8. Memory: two sets of the layer's weights
    (8 bytes a weight) and two of its output for one image.
    """

    def __init__(
        self, network: Network, folded: FoldedLayer, errors: Tensor, recipe: Recipe
    ) -> None:
        self.network, self.name = network, folded.name
        self.axis = 1 if isinstance(folded.layer.work, Conv) else -1
        self.parameters = [
            (folded.weight + error, folded.bias - recipe.mean_shift(folded.layer, error))
            for error in errors[:, LOW_WIDTHS].unbind(1)
        ]
        self.input: Tensor | None = None
        self.moved: list[Tensor] = []
        self.held: list[Tensor] = []  # (out, 2), one for each gradient that arrived

    def see(self, output: Tensor) -> None:
        """output: of the layer, behind its function, at `self.input`."""
        assert self.input is not None
        with torch.no_grad():
            self.moved = [
                self.network.layer_output(self.name, self.input, parameters).sub_(output)
                for parameters in self.parameters
            ]
        self.input = None
        output.register_hook(self._arrived)

    def _arrived(self, gradient: Tensor) -> None:
        channels = len(self.parameters[0][1])
        rows = gradient.movedim(self.axis, 0).reshape(channels, -1)
        self.held.append(
            torch.stack(
                [
                    torch.linalg.vecdot(rows, moved.movedim(self.axis, 0).reshape(channels, -1))
                    for moved in self.moved
                ],
                1,
            )
        )

    def take(self) -> Tensor:
        """(out, 2, gradients) moves since it was last asked."""
        moves = torch.stack(self.held, 2)
        self.held.clear()
        return moves
