"""Time of the sweep beside the bare backward passes that it needs.

    python -m benchmarks.sweep [--networks mobilenet_v2 resnet18] [--images 96] [--probes 2]

Prints a table (Markdown): for each network the processor seconds of the bare passes (one forward
and `probes` backward passes an image, gradients of all weights and biases, nothing done with
them), those of `sweep` after its setup, and their ratio; for weights alone and with activation
tensors priced too. The setup rounds all weights at all widths once, whatever the images; its time
is a column of its own.
Bare and priced passes alternate in one process, and the median ratio of a pair is taken, because
other work on the machine disturbs both alike. Weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.result import Ratio, Result
from hwsim.frontends.torchvision_shim import import_torchvision
from quant.calibration import Recipe, calibrate
from quant.network import Network
from quant.sweep import sign_probe, sweep


def bare_passes(network: Network, images: Tensor, probes: int, activations: bool) -> None:
    """The forward and backward passes of a sweep, and nothing else."""
    leaves = {
        name: (folded.weight.clone().requires_grad_(), folded.bias.clone().requires_grad_())
        for name, folded in network.layers.items()
    }
    generator = torch.Generator().manual_seed(0)
    for image in images.split(1):
        logits = network.run(image.clone().requires_grad_(activations), leaves)
        for probe in range(probes):
            vector = sign_probe(logits.detach(), generator)
            logits.backward(vector, retain_graph=probe + 1 < probes)
            for weight, bias in leaves.values():
                weight.grad = bias.grad = None


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def priced_passes(
    network: Network, images: Tensor, probes: int, activations: bool, recipe: Recipe
) -> tuple[float, float]:
    """Processor seconds of a sweep's setup, and of all that follows it."""
    began = time.process_time()
    ready = began

    def progress(task: str, done: int, total: int) -> None:
        nonlocal ready
        if task == "errors" and done == total:
            ready = time.process_time()

    sweep(network, images, probes=probes, activations=activations, recipe=recipe, progress=progress)
    return ready - began, time.process_time() - ready


def measure(
    network: Network, images: Tensor, probes: int, activations: bool, repeat: int
) -> tuple[float, float, float, float]:
    """Median processor seconds of bare passes, setup and sweep; median ratio of sweep to bare."""
    recipe = calibrate(network, images[:2])
    runs = []
    for _ in range(repeat):
        bare = cpu_seconds(lambda: bare_passes(network, images, probes, activations))
        setup, priced = priced_passes(network, images, probes, activations, recipe)
        runs.append((bare, setup, priced, priced / bare))
    bare, setup, priced, ratio = (statistics.median(column) for column in zip(*runs, strict=True))
    return bare, setup, priced, ratio


def result(networks: Sequence[str], images: int = 96, probes: int = 2, repeat: int = 3) -> Result:
    models = import_torchvision().models
    rows, ratios = [], []
    for name in networks:
        torch.manual_seed(0)
        network = Network(models.get_model(name, weights=None).eval(), (3, 224, 224), name)
        batch = torch.randn(images, *network.input_shape)
        for activations in (False, True):
            bare, setup, priced, ratio = measure(network, batch, probes, activations, repeat)
            what = "weights and activations" if activations else "weights"
            rows.append((f"{name}, {what}", f"{bare:.2f}", f"{setup:.2f}", f"{priced:.2f}",
                         f"{ratio:.2f}"))  # fmt: skip
            ratios.append(Ratio(f"sweep of {name}, {what}: bare passes / sweep",
                                f"{priced:.2f} CPU s", f"{bare:.2f} CPU s", 1 / ratio))  # fmt: skip
    return Result(
        "Sweep against bare backward passes",
        f"{images} images, {probes} probes an image, median of {repeat} pairs. Bare: one forward "
        "and as many backward passes an image as probes, and nothing done with their gradients. "
        "Setup: rounding of all weights at all widths, once whatever the images.",
        ("network, what is priced", "bare, CPU s", "setup, CPU s", "sweep, CPU s", "sweep / bare"),
        tuple(rows),
        tuple(ratios),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the sweep beside bare backward passes.")
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2", "resnet18"])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--probes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(result(options.networks, options.images, options.probes, options.repeat).table())


if __name__ == "__main__":
    main()
