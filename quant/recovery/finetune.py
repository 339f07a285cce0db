"""Recovery by fine-tuning: the quantised network learns the float network's answers.

Distillation (Hinton, Vinyals, Dean, 2015) into a Student, widths fixed: no labels are read, so
any images of the kind will do. Rounding is trained straight through, steps as in LSQ. Part of the
images is held out, and the epoch that does best on them is kept; the start counts as one, so the
outcome is never worse on them than what it began with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hwsim.names import did_you_mean
from quant.apply import QuantizedNetwork
from quant.calibration import Progress
from quant.images import LabelledImages
from quant.network import Network
from quant.recovery.student import Student

_DECAY = (0.9, 0.99)  # of Adam's means of the gradient and of its square
_EPSILON = 1e-8
_RATES = {"weight": 1.0, "step": 0.1, "bias": 0.1}  # of what is trained, beside the weights' rate

Checkpoint = Callable[["State"], None]


def kl_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the prediction from the float one, nats, mean over images."""
    return functional.kl_div(
        functional.log_softmax(logits, 1), functional.log_softmax(wanted, 1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip


def logit_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of the logits, summed over classes, mean over images: the distortion."""
    return (logits - wanted).square().sum(1).mean()


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"kl": kl_loss, "logits": logit_loss}


@dataclass(frozen=True)
class Schedule:
    """How to train. epochs: passes over the images. rate: Adam's highest learning rate: about the
    part of its step that a weight moves at an update; steps and biases move a tenth of it.
    batch: images an update. loss: "kl" or "logits". shift: random moves of an image, pixels in
    both directions, the edge repeated. flip: mirror every second image. held_out: part of the
    images kept for choosing the epoch. Raises ValueError for values that make no sense.
    """

    epochs: int = 20
    rate: float = 0.003
    batch: int = 32
    loss: str = "logits"
    shift: int = 0
    flip: bool = False
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"fine-tuning: no loss {self.loss!r}{did_you_mean(self.loss, LOSSES)}")
        for name, least in (("epochs", 1), ("batch", 1), ("shift", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"fine-tuning: {name} must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.rate <= 1:
            raise ValueError(f"fine-tuning: rate must lie above 0 and up to 1, got {self.rate}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"fine-tuning: held_out must lie between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class Epoch:
    """train_loss: mean over the epoch's updates (NaN before the first). held_out_loss: after it.
    seconds: of processor time."""

    number: int
    train_loss: float
    held_out_loss: float
    seconds: float


@dataclass
class State:
    """All that training goes on from: what a checkpoint holds.

    leaves, best: the student's now and at the best epoch. means, squares: Adam's. history: every
    epoch so far, the start as number 0.
    """

    schedule: Schedule
    leaves: dict[str, Tensor]
    best: dict[str, Tensor]
    means: dict[str, Tensor]
    squares: dict[str, Tensor]
    history: list[Epoch]

    @property
    def best_epoch(self) -> Epoch:
        return min(self.history, key=lambda epoch: (epoch.held_out_loss, epoch.number))


@dataclass(frozen=True)
class Finetuned:
    """quantized: the network of the best epoch. history: all epochs. codes_moved: weights whose
    index changed."""

    quantized: QuantizedNetwork
    history: tuple[Epoch, ...]
    best: Epoch
    codes_moved: int


def divide(images: LabelledImages, schedule: Schedule) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on and to choose the epoch with, at random. Raises ValueError if there are
    fewer than two, fewer to train on than a batch, or images that a shift moves out of sight."""
    side = min(images.tensor(0, 1).shape[2:]) if schedule.shift else 0
    if schedule.shift and schedule.shift >= side:
        raise ValueError(
            f"fine-tuning: a shift of {schedule.shift} pixels leaves nothing of images of {side}; "
            f"take a smaller one"
        )
    held_out = max(1, round(schedule.held_out * len(images)))
    left = len(images) - held_out
    if left < schedule.batch:
        raise ValueError(
            f"fine-tuning: {len(images)} images leave {max(left, 0)} to train on, which make no "
            f"batch of {schedule.batch}; give more images or a smaller batch"
        )
    generator = torch.Generator().manual_seed(schedule.seed)
    order = torch.randperm(len(images), generator=generator).numpy()
    return images.take(order[held_out:]), images.take(order[:held_out])


def moved(images: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Each image shifted and mirrored at random, as the schedule says."""
    count, size = len(images), images.shape[2:]
    if schedule.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = torch.where(mirrored.reshape(-1, 1, 1, 1), images.flip(3), images)
    if schedule.shift:
        shift = schedule.shift
        padded = functional.pad(images, (shift,) * 4, mode="replicate")
        starts = torch.randint(0, 2 * shift + 1, (count, 2), generator=generator).tolist()
        images = torch.stack(
            [
                image[:, row : row + size[0], column : column + size[1]]
                for image, (row, column) in zip(padded, starts, strict=True)
            ]
        )
    return images


def learning_rate(rate: float, done: int, updates: int) -> float:
    """After `done` of all updates: up to `rate` in the first twentieth, then down a cosine."""
    warm = updates / 20
    return rate * min(1.0, (done + 1) / warm) * 0.5 * (1 + math.cos(math.pi * done / updates))


class _Adam:
    """Kingma and Ba, ICLR 2015, on named tensors, its state open for checkpoints."""

    def __init__(self, leaves: dict[str, Tensor], state: State) -> None:
        self.leaves, self.state = leaves, state

    @torch.no_grad()
    def step(self, rate: float, update: int) -> None:
        """update: which one this is, from 1. Gradients are used up."""
        first, second = (1 - decay**update for decay in _DECAY)
        for name, leaf in self.leaves.items():
            if leaf.grad is None:
                continue
            mean, square = self.state.means[name], self.state.squares[name]
            mean.lerp_(leaf.grad, 1 - _DECAY[0])
            square.mul_(_DECAY[1]).addcmul_(leaf.grad, leaf.grad, value=1 - _DECAY[1])
            own = rate * _RATES[name.rsplit("/", 1)[1]] / first
            leaf.addcdiv_(mean, (square / second).sqrt_().add_(_EPSILON), value=-own)
            leaf.grad = None


def _held_out_loss(
    student: Student, images: LabelledImages, schedule: Schedule, device: torch.device
) -> float:
    """Mean over the images; batches are filled up by repeating the last image."""
    total = 0.0
    with torch.no_grad():
        for batch, _ in images.batches(schedule.batch):
            size = len(batch)
            filled = torch.cat([batch, batch[-1:].expand(schedule.batch - size, *batch.shape[1:])])
            filled = filled.to(device)
            logits, wanted = student(filled)[:size], student.network.run(filled)[:size]
            total += float(LOSSES[schedule.loss](logits, wanted)) * size
    return total / len(images)


def finetune(
    start: QuantizedNetwork,
    images: LabelledImages,
    schedule: Schedule,
    *,
    network: Network | None = None,
    state: State | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Finetuned:
    """Train a quantised network to answer as its float network does, widths unchanged.

    images: to train on; labels are not read. network: the float network on the device to train on
    (start's own by default). state: where to go on, from a checkpoint of the same schedule.
    checkpoint: called with the state after every epoch. The same arguments give the same network,
    to the bit, on the same processor; going on from a checkpoint changes nothing.
    Raises ValueError for too few images, and when the loss is no longer finite.
    """
    training, held_out = divide(images, schedule)
    student = Student(start, network)
    device = next(iter(student.leaves().values())).device
    leaves = student.leaves()
    state = state or _first(schedule, leaves)
    if not state.history:
        first = _held_out_loss(student, held_out, schedule, device)
        if not math.isfinite(first):
            raise ValueError(f"fine-tuning: the loss of the network given is {first}")
        state.history.append(Epoch(0, math.nan, first, 0.0))
    student.load(state.leaves)
    optimiser = _Adam(leaves, state)
    updates = len(training) // schedule.batch
    whole = schedule.epochs * updates
    for number in range(len(state.history), schedule.epochs + 1):
        began = time.process_time()
        # A generator of the epoch's own, so that going on needs no generator's state.
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + number)
        order = torch.randperm(len(training), generator=generator).numpy()
        total = 0.0
        for i in range(updates):
            chosen = training.take(order[i * schedule.batch : (i + 1) * schedule.batch])
            batch = moved(chosen.tensor(), schedule, generator).to(device)
            with torch.no_grad():
                wanted = student.network.run(batch)
            loss = LOSSES[schedule.loss](student(batch), wanted)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ValueError(
                    f"fine-tuning: the loss became {value} in epoch {number}; lower the "
                    f"learning rate ({schedule.rate:g})"
                )
            loss.backward()
            done = (number - 1) * updates + i
            optimiser.step(learning_rate(schedule.rate, done, whole), done + 1)
            student.keep_signs()
            total += value
            if progress:
                progress("finetune", done + 1, whole)
        after = _held_out_loss(student, held_out, schedule, device)
        best = state.best_epoch.held_out_loss
        state.history.append(Epoch(number, total / updates, after, time.process_time() - began))
        state.leaves = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        if after < best:
            state.best = state.leaves
        if checkpoint:
            checkpoint(state)
    student.load(state.best)
    return Finetuned(
        student.quantized(), tuple(state.history), state.best_epoch, student.codes_moved()
    )


def _first(schedule: Schedule, leaves: dict[str, Tensor]) -> State:
    now = {name: leaf.detach().clone() for name, leaf in leaves.items()}
    means, squares = (
        {name: torch.zeros_like(leaf) for name, leaf in now.items()} for _ in range(2)
    )
    return State(schedule, now, now, means, squares, [])


def history_json(history: tuple[Epoch, ...]) -> list[dict[str, float | None]]:
    """Epochs as plain values; the start has no training loss."""
    plain = [asdict(epoch) for epoch in history]
    return [{k: None if v != v else v for k, v in epoch.items()} for epoch in plain]
