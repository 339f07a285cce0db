"""Gauss-Newton matrices of the layers' weights: which of their errors the network's output feels.

The covariance of a layer's inputs weighs all of its outputs alike, wherever they are. The squared
error of the logits does not: of a move of a filter's weights and bias it is, to second order,
u' J' J u with J the logits' gradient, the same as `quant.sweep` prices. One filter's own matrix
would cost too much, so all filters of a group share the mean over them: the inputs, weighted by
what is behind them (layer-wise rounding under the end loss: GuidedQuant, Kim et al., ICML 2025;
Gauss-Newton blocks: Botev et al., ICML 2017). A random sign vector v over the logits gives v' J in
one backward pass an image, and E[(v' J u)^2] = |J u|^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.calibration import Progress, one_by_one
from quant.images import LabelledImages
from quant.network import Network
from quant.patches import patch_shape
from quant.sweep import sign_probe

_ROWS = 32  # random sums of an image's filters' gradients that stand for all filters of a layer


@torch.inference_mode(False)  # whose tensors have no gradients
def gauss_newton(
    network: Network,
    images: Tensor | LabelledImages,
    *,
    max_columns: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """{layer: (groups, K + 1, K + 1)}, of weights and, last, bias: mean over images, float32,
    summed over the filters of a group. Layers of more than max_columns are left out.

    Memory: the matrices, the gradients of all weights and one image's activations.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = {n: f for n, f in network.layers.items() if patch_shape(f.layer)[1] <= max_columns}
    parameters = {
        name: (folded.weight.clone().requires_grad_(), folded.bias.clone().requires_grad_())
        for name, folded in layers.items()
    }
    leaves = [leaf for pair in parameters.values() for leaf in pair]
    found: dict[str, Tensor] = {}
    if not leaves:
        return found
    for done, image in enumerate(one_by_one(images), start=1):
        with torch.enable_grad():
            logits = network.run(image.clone(), parameters)
            probe = sign_probe(logits.detach(), generator)
            gradients = torch.autograd.grad(
                logits, leaves, probe, allow_unused=True, materialize_grads=True
            )
        for i, (name, folded) in enumerate(layers.items()):
            groups, size = patch_shape(folded.layer)
            moves = torch.cat(
                [gradients[2 * i].reshape(-1, size), gradients[2 * i + 1].unsqueeze(1)], 1
            ).unflatten(0, (groups, -1))
            if moves.shape[1] > _ROWS:
                moves = _random_sums(moves, generator)
            if name not in found:
                found[name] = moves.new_zeros(groups, size + 1, size + 1)
            found[name].baddbmm_(moves.transpose(1, 2), moves, alpha=1 / len(images))
        if progress:
            progress("guide", done, len(images))
    return found


def _random_sums(moves: Tensor, generator: torch.Generator) -> Tensor:
    """(groups, _ROWS, K) sums of (groups, n, K) with random signs; E[S'S] = M'M."""
    signs = torch.randint(0, 2, (_ROWS, moves.shape[1]), generator=generator).to(moves.dtype)
    return torch.matmul((2 * signs - 1) / _ROWS**0.5, moves)


def guided(covariance: Tensor, matrix: Tensor, mean: Tensor, share: float) -> Tensor:
    """(groups, K, K): 1 - share of the inputs' covariance and a share of the Gauss-Newton matrix.

    matrix: (groups, K + 1, K + 1). mean: (groups, K, 1) of the inputs: the bias makes up for the
    mean of what the weights move, so a move of weights d is (d, -d . mean). Both parts are scaled
    to the same mean variance in every group. A group that no output feels keeps its covariance.
    """
    across = torch.bmm(mean, matrix[:, -1:, :-1])
    felt = matrix[:, :-1, :-1] - across - across.transpose(1, 2)
    felt.baddbmm_(mean * matrix[:, -1:, -1:], mean.transpose(1, 2))
    level, own = (
        part.diagonal(dim1=1, dim2=2).mean(1).reshape(-1, 1, 1) for part in (covariance, felt)
    )
    ratio = torch.where(own > 0, share * level / own.clamp(min=1e-30), 0.0)
    kept = torch.where(own > 0, 1 - share, 1.0)
    return felt.mul_(ratio).add_(kept * covariance)
