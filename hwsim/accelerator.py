"""Accelerator: a frozen, validated description of a chip, read from a TOML file.

Presets lie in `hwsim/accelerators/`; a user's own file works everywhere a preset does.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from typing import Literal

from hwsim.files import read_bounded
from hwsim.names import did_you_mean, shown
from hwsim.schema import (
    Bits,
    BitsPerSecond,
    Hertz,
    Picojoule,
    PicojoulePerBit,
    Picosecond,
    Reader,
    listing,
)

PLACES = ("array", "vector", "spad", "network")  # where energy is counted beside the memories
MAX_FILE_BYTES = 1 << 20  # a description is a few kilobytes; anything larger is a mistake

Operand = Literal["weights", "ifmap", "ofmap", "psum"]
Dataflow = Literal["weight_stationary", "output_stationary", "input_stationary"]


def _at_least(minimum: int, **values: int) -> None:
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


@dataclass(frozen=True)
class Memory:
    """One on-chip memory.

    holds: what is stored in it. keeps_tensors: whole tensors stay in it from producer to last
    reader (otherwise it holds tiles or streams). keeps_weights: the weights of the whole network,
    with their metadata, stay in it from batch to batch where they all fit; results are then those
    of any batch after the first, in which no weight crosses DRAM. fit: whether a layer is to have
    its whole operands in it, which caps its widths, or only a tile. energy: of one bit read or
    written.
    """

    name: str
    capacity: Bits
    holds: tuple[Operand, ...]
    energy: PicojoulePerBit
    keeps_tensors: bool = False
    keeps_weights: bool = False
    fit: Literal["layer", "tile"] = "tile"

    def __post_init__(self) -> None:
        _at_least(1, capacity=self.capacity)
        if not self.holds:
            raise ValueError("holds must name at least one operand")
        if self.keeps_weights and "weights" not in self.holds:
            raise ValueError(
                f"memory {self.name!r} has keeps_weights, so holds must name weights, got "
                f"{', '.join(self.holds)}"
            )


@dataclass(frozen=True)
class Dram:
    """One off-chip channel: what crosses it, how fast, and the smallest transfer.

    turnaround: time between the end of a transfer and the begin of one in the other direction;
    the datasheet's read-to-write and write-to-read delays, taken as one. Systolic arrays only.
    """

    name: str
    carries: tuple[Literal["weights", "activations"], ...]
    bandwidth: BitsPerSecond
    burst: Bits
    energy: PicojoulePerBit
    turnaround: Picosecond = 0

    def __post_init__(self) -> None:
        _at_least(1, bandwidth=self.bandwidth, burst=self.burst)
        _at_least(0, turnaround=self.turnaround)


# width of the full-width array that a rule is relative to; `fixed` has its own in the file
_FULL_WIDTH = {"fixed": 0, "bit_fusion": 8, "stripes": 16, "unpu": 16, "loom": 16}


@dataclass(frozen=True)
class OperandWidth:
    """How compute time scales with operand widths; the rules are in `operand_width.py`.

    rule: `fixed` (narrow operands gain nothing, wide ones take several passes), `bit_fusion`
    (2-bit multipliers that fuse), `stripes` (activations bit by bit), `unpu` (weights bit by bit)
    or `loom` (both bit by bit). weight_bits, activation_bits: operands of the full-width array.
    `fixed` must be given them; the other rules have their own, which are filled in.
    gates_narrow_operands: whether a fixed-width multiplier spends less on operands narrower than
    itself (see `energy.py`); no cycle is saved.
    """

    rule: Literal["fixed", "bit_fusion", "stripes", "unpu", "loom"]
    weight_bits: int = 0
    activation_bits: int = 0
    gates_narrow_operands: bool = False

    def __post_init__(self) -> None:
        if self.rule not in _FULL_WIDTH:
            raise ValueError(f"rule must be one of {', '.join(_FULL_WIDTH)}, got {self.rule!r}")
        own = _FULL_WIDTH[self.rule]
        for name in ("weight_bits", "activation_bits"):
            bits = getattr(self, name)
            if own and bits not in (0, own):
                raise ValueError(
                    f"{name}: rule {self.rule!r} is relative to {own}-bit operands, got {bits}; "
                    f"leave it out"
                )
            if not own and bits < 1:
                raise ValueError(f"{name} must be at least 1 with rule 'fixed', got {bits}")
            object.__setattr__(self, name, own or bits)
        if own and self.gates_narrow_operands:
            raise ValueError(
                f"gates_narrow_operands: for rule 'fixed' only; {self.rule!r} saves by itself"
            )


@dataclass(frozen=True)
class VectorUnit:
    """The unit for layers that are no matrix products: `lanes` operations a cycle.

    energy: of one operation. in_place: an addition or other work on single values may write over
    an input that nobody reads later, so that both share storage.
    """

    lanes: int
    energy: Picojoule
    in_place: bool = False

    def __post_init__(self) -> None:
        _at_least(1, lanes=self.lanes)


@dataclass(frozen=True)
class ChannelMetadata:
    """Bits stored and fetched beside each output channel's weights."""

    scale: Bits
    width_code: Bits
    bias: Bits

    @property
    def bits(self) -> int:
        return self.scale + self.width_code + self.bias


@dataclass(frozen=True)
class SystolicArray:
    """A systolic array.

    dataflow: the operand that stays in the PEs while the others pass (`systolic/timing.py`).
    schedule: `pipelined` (weights prefetched through a FIFO, planes loaded and drained while the
    array computes) or `serial` (folds never overlap; SCALE-Sim's convention).
    weight_fetch: `packed` moves the real bits of a fold; `whole_tiles` moves rows x cols native
    words however little of the tile is used, as TPU v1 does.
    weight_fifo_tiles: tiles of at most rows x cols weights that the FIFO holds.
    accumulator_rows: rows of one of the two accumulator buffers, ofmap pixels (filters with
    stationary inputs); longer layers are cut in chunks; output stationary has none. Serial
    schedules are not cut. accumulator_bits: width of a psum.
    sort_columns: columns may be placed by their widths, so that a fold's columns are alike.
    """

    rows: int
    cols: int
    schedule: Literal["pipelined", "serial"]
    weight_fetch: Literal["packed", "whole_tiles"]
    weight_fifo_tiles: int
    accumulator_rows: int
    accumulator_bits: int
    mac_energy: Picojoule
    sort_columns: bool = False
    dataflow: Dataflow = "weight_stationary"

    def __post_init__(self) -> None:
        _at_least(1, **{f.name: getattr(self, f.name) for f in fields(self)
                        if type(getattr(self, f.name)) is int})  # fmt: skip

    @property
    def pes(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class RowStationaryArray:
    """Eyeriss' array (Chen, Krishna, Emer, Sze, JSSC 52(1), 2017).

    *_spad: words in the scratch pads of one PE. *_port: values a cycle over the on-chip network
    (each multicast). overlap: whether ifmap loads and ofmap dumps hide behind computing; the
    buffer then holds two of each tile. pack_words: narrow values share words of spads, buffer
    and network, so that these hold and move more of them; psums stay whole words.
    group_channels: filters are processed in the order of their widths. run_length_coding: of
    feature maps in DRAM; zero_fraction: of tensors that a ReLU wrote, where nothing better is
    known. zero_gating: a zero ifmap value saves the energy of its MAC.
    """

    rows: int
    cols: int
    word_bits: int
    ifmap_spad: int
    filter_spad: int
    psum_spad: int
    ifmap_port: int
    filter_port: int
    psum_in_port: int
    psum_out_port: int
    gbuf_banks: int
    bank_bits: Bits
    overlap: bool
    pack_words: bool
    group_channels: bool
    run_length_coding: bool
    zero_fraction: float
    zero_gating: bool
    mac_energy: Picojoule
    spad_energy: PicojoulePerBit
    network_energy: PicojoulePerBit

    def __post_init__(self) -> None:
        _at_least(1, **{f.name: getattr(self, f.name) for f in fields(self)
                        if type(getattr(self, f.name)) is int})  # fmt: skip
        if not 0 <= self.zero_fraction < 1:
            raise ValueError(
                f"zero_fraction must lie in 0..1, 1 excluded, got {self.zero_fraction}"
            )

    @property
    def pes(self) -> int:
        return self.rows * self.cols


ARRAYS: dict[str, type[SystolicArray | RowStationaryArray]] = {
    "systolic": SystolicArray,
    "row_stationary": RowStationaryArray,
}


@dataclass(frozen=True)
class Accelerator:
    """A chip: array, clock, memories, DRAM channels, and how energy and width are counted."""

    name: str
    description: str
    source: str
    clock: Hertz
    array: SystolicArray | RowStationaryArray
    operand_width: OperandWidth
    vector: VectorUnit
    metadata: ChannelMetadata
    memory: tuple[Memory, ...]
    dram: tuple[Dram, ...]

    def __post_init__(self) -> None:
        _at_least(1, clock=self.clock)
        names = [memory.name for memory in self.memory] + [dram.name for dram in self.dram]
        if not all(name.strip() for name in (self.name, *names)):
            raise ValueError("the accelerator and each memory and DRAM channel need a name")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two memories or DRAM channels are called {name!r}")
            if name in PLACES:
                raise ValueError(
                    f"no memory or DRAM channel can be called {name!r}: energy is counted there"
                )
        if sum(memory.keeps_weights for memory in self.memory) > 1:
            raise ValueError("keeps_weights: only one memory can keep the network's weights")
        for carried in ("weights", "activations"):
            if sum(carried in dram.carries for dram in self.dram) != 1:
                raise ValueError(f"exactly one DRAM channel must carry {carried}")
        if isinstance(self.array, RowStationaryArray) and any(d.turnaround for d in self.dram):
            raise ValueError("dram turnaround is modelled for systolic arrays only; leave it out")

    def memory_for(self, operand: Operand) -> Memory:
        """The on-chip memory that holds an operand; for weights the one that they stream through
        rather than the one that keeps them, where both are there. Raises ValueError for none."""
        for memory in sorted(self.memory, key=lambda m: operand == "weights" and m.keeps_weights):
            if operand in memory.holds:
                return memory
        raise ValueError(
            f"accelerator {self.name!r}: no memory holds {operand}; name it in the holds of one"
        )

    @property
    def weight_store(self) -> Memory | None:
        """The memory in which the weights of a whole network are to stay, if there is one."""
        return next((memory for memory in self.memory if memory.keeps_weights), None)

    def dram_for(self, carried: Literal["weights", "activations"]) -> Dram:
        return next(dram for dram in self.dram if carried in dram.carries)


def preset_names() -> list[str]:
    """Names of the accelerators that come with the package."""
    folder = resources.files("hwsim") / "accelerators"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_description(spec: str | os.PathLike[str]) -> tuple[bytes, str]:
    """The bytes of a preset's TOML file by name, or of a file by path (anything with a suffix or a
    separator), and its name for errors. Raises ValueError when there is none."""
    text = os.fspath(spec)
    if not text.endswith(".toml") and os.sep not in text:
        if text not in preset_names():
            own = f"{text}.toml"
            near = did_you_mean(text, [*preset_names(), *([own] if os.path.isfile(own) else [])])
            raise ValueError(
                f"accelerator {text!r} is not a preset{near}; for your own give the path of a "
                f".toml file"
            )
        folder = resources.files("hwsim") / "accelerators"
        return (folder / f"{text}.toml").read_bytes(), f"{text}.toml"
    return read_bounded(text, MAX_FILE_BYTES, "accelerator"), text


def load_accelerator(spec: str | os.PathLike[str]) -> Accelerator:
    """A preset by name, or a TOML file by path (see `read_description`).

    Raises ValueError listing every problem of the file, each with its path inside it.
    """
    return parse_accelerator(*read_description(spec))


def parse_accelerator(content: bytes, where: str) -> Accelerator:
    """Accelerator from the bytes of a TOML file; `where` names it in errors."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, endless numbers
        raise ValueError(f"{where}: not a TOML file: {error}") from None
    reader = Reader()
    schema = table.pop("schema", None)
    if schema != 1 or type(schema) is not int:  # true and 1.0 are equal to 1
        reader.problems.append("schema: expected schema = 1")
    kind = table.pop("kind", None)
    known = isinstance(kind, str) and kind in ARRAYS
    if not known:
        reader.problems.append(f"kind: expected one of {', '.join(ARRAYS)}, got {shown(kind)}")
    array = table.pop("array", None)
    values = reader.read_fields(Accelerator, table, "", skip=("array",))
    built = reader.read(ARRAYS[kind], array, "array") if known else None
    if values is not None and built is not None and not reader.problems:
        try:
            return Accelerator(array=built, **values)
        except ValueError as error:
            reader.problems.append(f"file: {error}")
    raise ValueError(f"{where}: {listing(reader.problems)}")
