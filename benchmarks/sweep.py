"""Time of the sweep beside the bare backward passes that it needs.

    python benchmarks/sweep.py [--networks mobilenet_v2 resnet18] [--images 96] [--probes 2]

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
from collections.abc import Callable

import torch
from torch import Tensor

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


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the sweep beside bare backward passes.")
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2", "resnet18"])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--probes", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    models = import_torchvision().models
    print("| network | priced | bare s | setup s | sweep s | ratio (median of pairs) |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in options.networks:
        torch.manual_seed(0)
        network = Network(models.get_model(name, weights=None).eval(), (3, 224, 224), name)
        images = torch.randn(options.images, *network.input_shape)
        for activations in (False, True):
            bare, setup, priced, ratio = measure(
                network, images, options.probes, activations, options.repeat
            )
            what = "weights and activations" if activations else "weights"
            row = f"{bare:.2f} | {setup:.2f} | {priced:.2f} | {ratio:.2f}"
            print(f"| {name} | {what} | {row} |", flush=True)


if __name__ == "__main__":
    main()
