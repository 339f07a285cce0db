"""Checkpoints of fine-tuning: one safetensors file with a JSON header, written whole or not at all.

An interrupted run goes on from its last finished epoch, and ends in the same network, to the bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hwsim.files import write_atomically
from quant.apply import QuantizedNetwork
from quant.images import LabelledImages
from quant.recovery.finetune import Epoch, Schedule, State, history_json

SCHEMA = 1
_HEADER = "chipfit_finetuning"
_PARTS = ("leaves", "best", "means", "squares")


def fingerprint(start: QuantizedNetwork, images: LabelledImages) -> str:
    """Of where training begins and what it reads: a checkpoint goes on with these alone."""
    digest = hashlib.sha256(start.network.name.encode())
    for name, (weight, bias) in start.parameters.items():
        digest.update(name.encode())
        digest.update(start.index(name).tobytes())
        for part in (weight, bias, start.weights[name].step):
            digest.update(part.numpy().tobytes())
        digest.update(start.network.layers[name].weight.numpy().tobytes())
    digest.update(repr(sorted(start.activations.items())).encode())
    digest.update(images.labels.tobytes() + images.index.tobytes())
    digest.update(images.tensor(0, 1).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike[str], state: State, origin: str) -> None:
    """origin: the fingerprint of what the training began with."""
    from safetensors.torch import save

    header = {
        "schema": SCHEMA,
        "origin": origin,
        "schedule": asdict(state.schedule),
        "history": history_json(tuple(state.history)),
    }
    tensors = {
        f"{part}/{name}": tensor.cpu().clone()  # the best may be the last: one memory for both
        for part in _PARTS
        for name, tensor in getattr(state, part).items()
    }
    write_atomically(path, save(tensors, {_HEADER: json.dumps(header, sort_keys=True)}))


def load_checkpoint(
    path: str | os.PathLike[str], schedule: Schedule, origin: str, leaves: Mapping[str, Tensor]
) -> State:
    """The state that was saved. leaves: what is trained, for names, shapes and the device.

    Raises ValueError, in one line with the path, for a broken file, another schedule, and a
    checkpoint of another network, allocation or set of images.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
            if text is None:
                raise ValueError(f"{path}: a safetensors file, but not a checkpoint of fine-tuning")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path}: cannot read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole checkpoint: {error}") from None
    history = _history(path, text, schedule, origin)
    parts: dict[str, dict[str, Tensor]] = {}
    for part in _PARTS:
        parts[part] = {}
        for name, leaf in leaves.items():
            tensor = tensors.get(f"{part}/{name}")
            if tensor is None or tensor.shape != leaf.shape or tensor.dtype != leaf.dtype:
                raise ValueError(f"{path}: no {part} of {name!r} of shape {tuple(leaf.shape)}")
            parts[part][name] = tensor.to(leaf.device)
    return State(schedule=schedule, history=history, **parts)


def _history(
    path: str | os.PathLike[str], text: str, schedule: Schedule, origin: str
) -> list[Epoch]:
    """The epochs of a checkpoint's header, which must be of the same schedule and origin."""
    try:
        header: dict[str, Any] = json.loads(text)
        schema, of, stored = header["schema"], header["origin"], header["schedule"]
        history = [
            Epoch(
                int(epoch["number"]),
                math.nan if epoch["train_loss"] is None else float(epoch["train_loss"]),
                float(epoch["held_out_loss"]),
                float(epoch["seconds"]),
            )
            for epoch in header["history"]
        ]
        wrong = [f.name for f in fields(Schedule) if stored[f.name] != asdict(schedule)[f.name]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{path}: its header is not that of a checkpoint") from None
    if schema != SCHEMA:
        raise ValueError(f"{path}: checkpoint of schema {schema!r}; this reads {SCHEMA}")
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{path}: the checkpoint is of a run with {name} {stored[name]}, not "
            f"{getattr(schedule, name)}; give the same, or start again without it"
        )
    if of != origin:
        raise ValueError(
            f"{path}: the checkpoint is of another network, allocation or set of images; give the "
            f"same, or start again without it"
        )
    if [epoch.number for epoch in history] != list(range(len(history))) or not history:
        raise ValueError(f"{path}: its header is not that of a checkpoint")
    if not np.isfinite([epoch.held_out_loss for epoch in history]).all():
        raise ValueError(f"{path}: its losses must be finite")
    return history
