"""LayerTask: one layer on the array, with all that its time and energy depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from hwsim.accelerator import Accelerator, RowStationaryArray
from hwsim.bits import MAX_BITS, BitWidths
from hwsim.dram import Link
from hwsim.energy import Part, mac_pj
from hwsim.graph import Layer
from hwsim.operand_width import pace
from hwsim.row_stationary.limits import Limits, limits_for, words_packed
from hwsim.row_stationary.mapping import RsMapping
from hwsim.row_stationary.operands import FeatureMap, weight_widths
from hwsim.row_stationary.search import Found, search_mappings
from hwsim.row_stationary.shape import ConvShape, shape_of
from hwsim.row_stationary.timing import Timing, layer_timing
from hwsim.row_stationary.traffic import Accesses, accesses, energy_parts
from hwsim.row_stationary.work import LayerWork, make_work


@dataclass(frozen=True)
class LayerTask:
    """All that the time and energy of a layer depend on; equal tasks are searched once.

    widths: (groups, filters) int64 weight widths as bytes, so that a task can be a key.
    """

    shape: ConvShape  # its filters are those of the group that keeps most
    accelerator: Accelerator
    widths: bytes
    ifmap: FeatureMap
    ofmap: FeatureMap
    metadata_bits: int

    @property
    def array(self) -> RowStationaryArray:
        array = self.accelerator.array
        assert isinstance(array, RowStationaryArray)
        return array

    @property
    def weight_bits(self) -> np.ndarray:
        return np.frombuffer(self.widths, dtype=np.int64).reshape(self.shape.groups, -1)

    def work(self) -> LayerWork:
        mac_pace = pace(
            self.accelerator.operand_width,
            np.arange(MAX_BITS + 1),
            self.ifmap.bits,
            self.fully_connected,
        )
        return make_work(
            self.weight_bits,
            self.ifmap.dram_bits,
            self.ofmap.dram_bits,
            self.metadata_bits,
            self.array.filter_port,
            self.array.word_bits,
            self.array.pack_words,
            self.array.group_channels,
            mac_pace,
        )

    def limits(self) -> Limits:
        widest = max(1, int(self.weight_bits.max()))
        return limits_for(self.shape, self.accelerator, widest, self.ifmap.bits)

    def link(self) -> Link:
        return Link.of(self.accelerator.dram_for("activations"), self.accelerator.clock)

    def accesses(self, limits: Limits, mapping: RsMapping, work: LayerWork) -> Accesses:
        psum = self.array.word_bits
        return accesses(self.shape, limits, mapping, work, self.ifmap.mean_bits, psum)

    def simulate(self, mapping: RsMapping) -> Found:
        """One mapping, which must be legal."""
        limits, work = self.limits(), self.work()
        timing = layer_timing(self.shape, limits, mapping, work, self.link())
        return Found(
            mapping, timing, sum(self.energy_parts(limits, mapping, work, timing).values())
        )

    def search(
        self, count: int = 1, q_times_r: int | None = None, set_pes: int | None = None
    ) -> list[Found]:
        """The `count` best legal mappings, best first."""
        limits, work = self.limits(), self.work()
        return search_mappings(
            self.shape,
            limits,
            work,
            self.link(),
            lambda mapping, timing: sum(self.energy_parts(limits, mapping, work, timing).values()),
            count,
            q_times_r,
            set_pes,
        )

    def energy_parts(
        self, limits: Limits, mapping: RsMapping, work: LayerWork, timing: Timing
    ) -> dict[Part, float]:
        moved = self.accesses(limits, mapping, work)
        return energy_parts(self.accelerator, moved, timing, self.ifmap.zeros, self.mac_pj)

    @cached_property
    def mac_pj(self) -> float:
        """Energy of all MACs, zeros not gated."""
        shape = self.shape
        macs = shape.batch * shape.ofmap[0] * shape.ofmap[1] * shape.channels
        macs *= shape.kernel[0] * shape.kernel[1]
        return mac_pj(
            self.accelerator, self.weight_bits, self.ifmap.bits, macs, self.fully_connected
        )

    @property
    def fully_connected(self) -> bool:
        """Whether each weight meets one pixel of an image."""
        return self.shape.ofmap == (1, 1)


@lru_cache(maxsize=4096)
def searched(task: LayerTask, count: int) -> tuple[Found, ...]:
    """The `count` best mappings of a task, searched once."""
    return tuple(task.search(count))


def layer_task(
    layer: Layer,
    accelerator: Accelerator,
    bits: BitWidths,
    batch: int,
    maps: Mapping[str, FeatureMap],
) -> LayerTask:
    """The task of one conv, linear or matmul layer of a network."""
    widths = weight_widths(layer, bits, maps)
    shape = shape_of(layer, batch)
    if not layer.weighted:
        widths = np.tile(widths, (batch, 1))  # each image brings its own second operand
    channels = layer.out_channels if layer.weighted else 0
    kept = max(1, int((widths > 0).sum(axis=1).max()))
    return LayerTask(
        replace(shape, filters=kept),
        accelerator,
        np.ascontiguousarray(widths, dtype=np.int64).tobytes(),
        maps[layer.inputs[0].name],
        maps[layer.name],
        channels * accelerator.metadata.bits,
    )


def width_classes(task: LayerTask) -> list[LayerTask]:
    """The filters of an ungrouped layer apart, by how many of them share a packed word.

    Each class is a layer of its own, with its own mapping: p and q are bounded by its widest
    filter only, and the ifmap is read once more. Empty unless words are packed and grouped.
    """
    array, widths = task.array, task.weight_bits
    if not (array.pack_words and array.group_channels) or task.shape.groups > 1:
        return []
    kept = np.sort(widths[widths > 0])[::-1]
    packed = np.array([words_packed(array, int(b)) for b in kept], dtype=np.int64)
    return [
        replace(
            task,
            shape=replace(task.shape, filters=int((packed == factor).sum())),
            widths=np.ascontiguousarray(kept[packed == factor]).tobytes(),
            metadata_bits=0 if i else task.metadata_bits,  # all of it before the first class
        )
        for i, factor in enumerate(np.unique(packed))
    ]
