"""Train the embedded `digits` network and write the files that the package ships.

    python examples/train_digits.py [--out quant/data] [--epochs 60] [--seed 0]

Needs the extra `train` (scikit-learn, for the images). One thread and one seed: the same torch on
the same kind of processor writes the same bytes. About two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from quant import digits


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by -1..1 pixels in both directions; what moves in is the edge repeated."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    size = images.shape[-1]
    moves = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    return torch.stack(
        [
            image[:, row : row + size, col : col + size]
            for image, (row, col) in zip(padded, moves, strict=True)
        ]
    )


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> digits.DigitsNet:
    """Stochastic gradient descent with momentum, cosine schedule, label smoothing."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = digits.build(pretrained=False).train()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    batch = 64
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            logits = net(shifted(images[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=digits.WEIGHTS.parent)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    source = load_digits()
    pixels = source.images.astype(np.uint8)
    labels = source.target.astype(np.uint8)
    training, held_out = (digits.labelled(pixels, labels).take(i) for i in digits.split(labels))
    wanted = torch.from_numpy(training.labels)
    net = train(training.tensor(), wanted, options.epochs, options.seed)
    with torch.inference_mode():
        predicted = net(held_out.tensor()).argmax(1)
    right = int((predicted.numpy() == held_out.labels).sum())

    options.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out / digits.IMAGES.name, images=pixels, labels=labels)
    weights = {
        name: value.contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    made_by = {  # one string, because the order of several entries is not kept
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "epochs": options.epochs,
        "seed": options.seed,
    }
    save_file(weights, options.out / digits.WEIGHTS.name, metadata={"made_by": json.dumps(made_by)})
    print(f"{right} of {len(held_out)} held-out digits right; files in {options.out}")


if __name__ == "__main__":
    main()
