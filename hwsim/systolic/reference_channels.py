"""The reference's DRAM channels: transfers in a fixed order, counted down tick by tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwsim.dram import Link
from hwsim.systolic.reference_steps import FoldStep, GemmTask, VectorWork


@dataclass(frozen=True)
class Transfer:
    """What crosses a channel: a tile's weights, or a step's ifmap or ofmap."""

    kind: Literal["tile", "read", "write"]
    task: int
    step: int
    bits: int


class Channel:
    """A DRAM channel at work on the first transfer of its queue, or waiting for it."""

    def __init__(self, link: Link, queue: Sequence[Transfer]) -> None:
        self.link, self.queue = link, list(queue)
        self.left: int | None = None  # ticks of the transfer under way; None: idle
        self.quiet = 0  # ticks since the transfer before ended
        self.wrote: bool | None = None  # direction of that transfer
        self.moved_bits = {"tile": 0, "read": 0, "write": 0}

    def may_begin(self) -> bool:
        """Whether the first transfer could begin, as far as the channel is concerned."""
        if self.left is not None or not self.queue:
            return False
        turns = self.wrote not in (None, self.queue[0].kind == "write")
        return not turns or self.quiet >= self.link.turnaround

    def begin(self) -> None:
        transfer = self.queue[0]
        bursts = -(-transfer.bits // self.link.burst_bits)
        self.left = bursts * self.link.ticks_per_burst
        self.moved_bits[transfer.kind] += bursts * self.link.burst_bits

    def end(self) -> Transfer:
        """The transfer under way is over."""
        transfer = self.queue.pop(0)
        self.left, self.quiet, self.wrote = None, 0, transfer.kind == "write"
        return transfer

    def tick(self) -> None:
        if self.left is None:
            self.quiet += 1
        else:
            self.left -= 1


def static_order(
    tasks: Sequence[GemmTask | VectorWork], plans: Sequence[Sequence[FoldStep]]
) -> list[Transfer]:
    """All transfers of a program in the order in which they are served.

    A step's turn: the tile of the next step, also of the next layer's first; if the step is the
    first of a chunk of ifmap, the ifmap of the next chunk; the ofmap that the step finishes.
    """
    program = [step for plan in plans for step in plan]
    queued: set[int] = set()
    queue: list[Transfer] = []

    def tile(step: FoldStep) -> None:
        if step.tile is not None and id(step) not in queued and not step.tile.from_chip:
            queued.add(id(step))
            queue.append(Transfer("tile", step.task, step.number, len(step.tile.bits)))

    position = 0
    for index, task in enumerate(tasks):
        if isinstance(task, VectorWork):
            queue.append(Transfer("read", index, 0, task.read_bits))
            queue.append(Transfer("write", index, 0, task.write_bits))
            continue
        chunks = [step for step in plans[index] if step.opens]
        for step in chunks[:1]:
            tile(step)
            queue.append(Transfer("read", index, 0, step.read_bits))
        for step in plans[index]:
            position += 1
            for following in program[position : position + 1]:
                tile(following)
            if step.opens:
                for after in chunks[chunks.index(step) + 1 :][:1]:
                    queue.append(Transfer("read", index, after.number, after.read_bits))
            queue.append(Transfer("write", index, step.number, step.write_bits))
    return [transfer for transfer in queue if transfer.bits > 0]
