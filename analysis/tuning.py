"""Packed networks and fine-tuning, as the commands use them: which images, what is said of them."""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.measuring import images_beside
from analysis.sources import ImageSets, has_splits, load_image_sets

if TYPE_CHECKING:
    from quant.apply import QuantizedNetwork
    from quant.calibration import Progress
    from quant.codes import PackedSize
    from quant.images import LabelledImages
    from quant.network import Network
    from quant.recovery.finetune import Finetuned, Schedule

EVERY = 10**9  # as a number of images: all that may be used


def made_by(options: Namespace, calibration: int, used: int) -> dict[str, Any]:
    """What a packed file says of itself: with it, `unseen` finds images that made no part of it.

    calibration, used: images that priced the curves, and all that were looked at.
    """
    from analysis.manifest import folder_sha256

    data: dict[str, Any] = {"command": options.argv}
    if options.images is not None and not has_splits(options.images):
        data["images"] = {
            "sha256": folder_sha256(options.images),
            "calibration": calibration,
            "fitting": used - calibration,
            "seed": options.seed,
        }
    return data


def unseen(
    model: str, network: Network, images: str | None, made_by: Mapping[str, Any]
) -> LabelledImages:
    """Images to judge a packed network on, none of which made it.

    Its own for the embedded network, the split `eval` where there is one; of any other source all
    images, or, if it is the source that the file was made from, those that were left out then.
    Raises ValueError if there are no images.
    """
    source = made_by.get("images")
    if images is not None and not has_splits(images) and isinstance(source, dict):
        from analysis.manifest import folder_sha256

        if folder_sha256(images) == source.get("sha256"):
            calibration, fitting, seed = (
                _count(source.get(key)) for key in ("calibration", "fitting", "seed")
            )
            sets = load_image_sets(model, network, images, calibration, fitting, seed)
            return sets.evaluation
    if images is None or has_splits(images):
        return load_image_sets(model, network, images, 1, 0, 0).evaluation
    from quant.images import load_images

    crop = (network.input_shape[1], network.input_shape[2])
    return load_images(images, crop, classes=network.classes)


def _count(number: object) -> int:
    if isinstance(number, int) and 0 <= number <= EVERY:
        return int(number)
    raise ValueError(f"packed network: its header counts {number!r} images, which makes no sense")


def training_sets(options: Namespace, network: Network) -> tuple[ImageSets, LabelledImages]:
    """The sets that quantise the network as `evaluate` does, and all images that may train it."""
    fitting = images_beside(options)
    wanted = EVERY if options.training is None else options.training
    more = max(fitting, wanted - options.calibration, 1)
    sets = load_image_sets(
        options.model, network, options.images, options.calibration, more, options.seed
    )
    first = len(sets.calibration)
    used = slice(first, first + fitting)
    small = replace(
        sets,
        training=sets.training.take(slice(0, used.stop)),
        fitting=sets.training.take(used) if fitting else None,
    )
    return small, sets.training.take(slice(0, min(wanted, len(sets.training))))


def check_steps(start: QuantizedNetwork) -> None:
    """Raises ValueError for steps that are powers of two: training would leave them."""
    from quant.scales import is_power_of_two

    if all(bool(is_power_of_two(q.step).all()) for q in start.weights.values()):
        raise ValueError(
            f"finetune: the steps of {start.network.name!r} are powers of two, and training makes "
            f"real ones; start from --steps real"
        )


def on_device(network: Network, device: str) -> Network:
    """The same network on "cpu" or "cuda"; "auto" is cuda where there is one. Raises ValueError."""
    import torch

    from quant.network import Network

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ValueError("--device cuda: torch sees no such device here; leave it out for the CPU")
    if device == "cpu" or not there:
        return network
    module = copy.deepcopy(network.module).to("cuda")
    return Network(module, network.input_shape, network.name)


def tune(
    options: Namespace,
    start: QuantizedNetwork,
    images: LabelledImages,
    schedule: Schedule,
    progress: Progress | None = None,
) -> Finetuned:
    """Fine-tune with a checkpoint beside the output after every epoch; it goes when all is done.

    Raises ValueError if there is a checkpoint already and --resume was not given, or the reverse.
    """
    from quant.recovery.checkpoint import fingerprint, load_checkpoint, save_checkpoint
    from quant.recovery.finetune import finetune
    from quant.recovery.student import Student

    path = check_checkpoint(options)
    network = on_device(start.network, options.device)
    origin = fingerprint(start, images)
    state = None
    if options.resume:
        state = load_checkpoint(path, schedule, origin, Student(start, network).leaves())
    try:
        return finetune(
            start,
            images,
            schedule,
            network=network,
            state=state,
            checkpoint=lambda now: save_checkpoint(path, now, origin),
            progress=progress,
        )
    except KeyboardInterrupt:
        kept = f"the finished epochs are in {path}; --resume goes on with them"
        raise KeyboardInterrupt(kept if path.exists() else "") from None


def check_checkpoint(options: Namespace) -> Path:
    """The checkpoint's path. Raises ValueError where there is one although nothing is to be
    resumed, or the reverse."""
    path = Path(f"{options.output}.checkpoint")
    if options.resume and not path.exists():
        raise ValueError(f"{path}: no checkpoint to go on from; leave out --resume")
    if path.exists() and not options.resume:
        raise ValueError(
            f"{path}: the checkpoint of a run that was not finished; --resume goes on with it, or "
            f"delete it to start again"
        )
    return path


def schedule(options: Namespace) -> Schedule:
    from quant.recovery.finetune import Schedule

    return Schedule(
        epochs=options.epochs, rate=options.lr, batch=options.batch, loss=options.loss,
        shift=options.shift, flip=options.flip, seed=options.seed,
    )  # fmt: skip


def packed(
    options: Namespace, quantized: QuantizedNetwork, images: ImageSets
) -> tuple[dict[str, Any], list[str]]:
    """Write the packed file; what to say of it, as data and as lines."""
    from quant.codes import save_packed

    said = made_by(options, len(images.calibration), len(images.training))
    size = save_packed(options.output, quantized, said)
    data = asdict(size) | {"file_bytes": size.file_bytes, "file": options.output}
    return data, [size_line(options.output, size)]


def tuned(
    options: Namespace,
    start: QuantizedNetwork,
    outcome: Finetuned,
    images: ImageSets,
    training: LabelledImages,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Judge and write the outcome of `tune`; what to say of it, as data and as lines."""
    from quant.accuracy import evaluate
    from quant.codes import save_packed
    from quant.recovery.finetune import history_json

    network = start.network
    floating, before, after = (
        evaluate(network, quantized, images.evaluation, progress=progress)
        for quantized in (None, start, outcome.quantized)
    )
    used = max(len(training), len(images.training))
    said = made_by(options, len(images.calibration), used)
    size = save_packed(options.output, outcome.quantized, said)
    Path(f"{options.output}.checkpoint").unlink(missing_ok=True)
    bits = start.bits.average_weight_bits(network.graph)
    seconds = sum(epoch.seconds for epoch in outcome.history)
    data = {
        "model": options.model,
        "average_weight_bits": bits,
        "training_images": len(training),
        "epochs": options.epochs,
        "best_epoch": outcome.best.number,
        "history": history_json(outcome.history),
        "seconds": seconds,
        "codes_moved": outcome.codes_moved,
        "float": floating.to_json(),
        "before": before.to_json(),
        "after": after.to_json(),
        "file": options.output,
        "file_bytes": size.file_bytes,
    }
    lines = [
        f"{options.model} at {bits:.3f} bits a weight: top-1 {100 * before.top1:.2f} % before, "
        f"{100 * after.top1:.2f} % after (float {100 * floating.top1:.2f} %); agreement "
        f"{100 * before.agreement:.2f} % before, {100 * after.agreement:.2f} % after, on "
        f"{after.images} images",
        f"epoch {outcome.best.number} of {options.epochs} on {len(training)} images, "
        f"{seconds:.0f} s of processor time; {outcome.codes_moved:,} codes moved",
        size_line(options.output, size),
    ]
    return data, lines


def size_line(path: str, size: PackedSize) -> str:
    return (
        f"{path}: {size.file_bytes:,} bytes: {size.weight_bits:,} bits of weights and "
        f"{size.metadata_bits:,} of metadata in {size.payload_bytes:,} bytes, and a header of "
        f"{size.header_bytes:,}"
    )
